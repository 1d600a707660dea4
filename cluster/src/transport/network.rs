//! The network as openraft asks for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use openraft::alias::SnapshotOf;
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RPCTypes};

use super::message::{Append, Ask, Purpose, Reply};
use super::mux::CallError;
use super::peers::{Peer, Peers};
use super::wire::Wire;
use super::{append, snapshot};
use crate::config::Config;
use crate::machine::Transfer;
use crate::machine::adapter::SnapshotData;
use crate::purge::Holds;
use crate::types::{Member, TypeConfig, Vote};

/// Entries whose answers take longer than this are sent again, on a new connection.
const ANSWER_TIMEOUT_MIN: Duration = Duration::from_secs(3);

type Rpc = RPCError<TypeConfig>;

/// Makes the ways to peers.
#[derive(Clone)]
pub(crate) struct Factory {
    peers: Arc<Peers>,
    transfer: Arc<dyn Transfer>,
    window: usize,
    /// Time in which entries must be answered.
    stall: Duration,
    /// What the log keeps for those who are sent a snapshot.
    holds: Holds,
}

impl Factory {
    pub(crate) fn new(
        config: &Config,
        peers: Arc<Peers>,
        transfer: Arc<dyn Transfer>,
        holds: Holds,
    ) -> Self {
        let stall = Duration::from_millis(config.timing.election_ms_max).max(ANSWER_TIMEOUT_MIN);
        Self { peers, transfer, window: config.append_window_bytes, stall, holds }
    }
}

/// The way to one peer.
pub(crate) struct Network {
    factory: Factory,
    peer: Arc<Peer>,
    /// Heartbeats go beside the entries, not behind them.
    heartbeat: bool,
    /// The connection for entries, while no run of them has it.
    wire: Mutex<Option<Wire>>,
}

impl RaftNetworkFactory<TypeConfig> for Factory {
    type Network = Network;

    async fn new_client(&mut self, target: u64, member: &Member) -> Network {
        let member = Member { id: target, ..member.clone() };
        let peer = self.peers.get(&member);
        Network { factory: self.clone(), peer, heartbeat: false, wire: Mutex::default() }
    }

    async fn new_heartbeat_client(&mut self, target: u64, member: &Member) -> Network {
        Network { heartbeat: true, ..self.new_client(target, member).await }
    }
}

impl Network {
    /// A call on the control connection, within its time.
    async fn call(&self, action: RPCTypes, ask: Ask, option: &RPCOption) -> Result<Reply, Rpc> {
        let timeout = option.hard_ttl();
        let (id, target) = (self.factory.peers.dialer.id, self.peer.id);
        match tokio::time::timeout(timeout, self.peer.control.call(ask)).await {
            Ok(Ok(Reply::Failed(why))) => Err(RPCError::Network(NetworkError::from_string(why))),
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error @ CallError::NotSent(_))) => {
                Err(RPCError::Unreachable(Unreachable::new(&error)))
            }
            Ok(Err(error @ CallError::Lost(_))) => {
                Err(RPCError::Network(NetworkError::new(&error)))
            }
            Err(_) => Err(RPCError::Timeout(Timeout { action, id, target, timeout })),
        }
    }

    /// Only ever used by whoever has the network to itself; the lock makes it `Sync`.
    fn place(&mut self) -> &mut Option<Wire> {
        self.wire.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    async fn dial(&self, purpose: Purpose) -> Result<Wire, Unreachable<TypeConfig>> {
        let dialer = &self.factory.peers.dialer;
        let dialled = dialer.dial(self.peer.id, &self.peer.address, purpose).await;
        dialled.map_err(|error| Unreachable::new(&error))
    }

    async fn voted(&self, ask: Ask, option: &RPCOption) -> Result<VoteResponse<TypeConfig>, Rpc> {
        match self.call(RPCTypes::Vote, ask, option).await? {
            Reply::Voted { vote, granted, last } if vote.is_possible() => {
                Ok(VoteResponse::new(Vote::from(vote), last.map(Into::into), granted))
            }
            _ => Err(unexpected()),
        }
    }
}

impl RaftNetworkV2<TypeConfig> for Network {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, Rpc> {
        let append = Append::from(request);
        let (previous, last) = (append.previous, append.last());
        match self.call(RPCTypes::AppendEntries, Ask::Heartbeat(append), &option).await? {
            Reply::Appended(appended) if appended.answers(previous, last) => Ok(appended.into()),
            _ => Err(unexpected()),
        }
    }

    fn stream_append<S>(
        &mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'_, Result<BoxStream<'_, Result<StreamAppendResult<TypeConfig>, Rpc>>, Rpc>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        if self.heartbeat {
            return stream_append_sequential(self, input, option);
        }
        async move {
            let wire = match self.place().take() {
                Some(wire) => wire,
                None => self.dial(Purpose::Append).await?,
            };
            let Factory { window, stall, .. } = self.factory;
            Ok(append::run(self.place(), wire, input, window, stall).boxed())
        }
        .boxed()
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Rpc> {
        self.voted(Ask::Vote(request.into()), &option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Rpc> {
        self.voted(Ask::PreVote(request.into()), &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let SnapshotData::Local(stored) = snapshot.snapshot else {
            let why = "only a snapshot of one's own is sent";
            return Err(StreamingError::Network(NetworkError::from_string(why)));
        };
        let last = stored.header.last.map_or(0, |id| id.index);
        let hold = self.factory.holds.hold(self.peer.id, last);
        let mut wire = self.dial(Purpose::Snapshot).await?;
        let transfer = Arc::clone(&self.factory.transfer);
        let sent = snapshot::send(&mut wire, vote.into(), stored, transfer);
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = sent => match sent {
                Ok(vote) if !vote.is_possible() => {
                    Err(StreamingError::Network(NetworkError::from_string("an impossible vote")))
                }
                Ok(vote) => {
                    hold.sent();
                    Ok(SnapshotResponse::new(vote.into()))
                }
                Err(error) => {
                    tracing::warn!(peer = self.peer.id, %error, "snapshot not sent");
                    // Backs off: a peer that cannot take it now is not helped by another hundred.
                    Err(StreamingError::Unreachable(Unreachable::new(&error)))
                }
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, Rpc> {
        match self.call(RPCTypes::TransferLeader, request.into(), &option).await? {
            Reply::TakesOver(Ok(())) => Ok(Ok(())),
            Reply::TakesOver(Err(why)) => Err(RPCError::Network(NetworkError::from_string(why))),
            _ => Err(unexpected()),
        }
    }
}

fn unexpected() -> Rpc {
    RPCError::Network(NetworkError::from_string("an answer to another question"))
}
