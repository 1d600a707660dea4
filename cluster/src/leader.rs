//! What only the leader does: stamp and propose commands, answer barriers, change the members.
//!
//! Every node has this part; on one that does not lead it refuses, and says so in a way that lets the
//! caller go elsewhere.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, LinearizableReadError, RaftError};
use openraft::raft::WriteResult;
use openraft::{ChangeMembers, ReadPolicy, ServerState};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use crate::clock;
use crate::config::{COMMAND_BYTES_MAX, Clock};
use crate::machine::adapter::Progress;
use crate::status::wait_for;
use crate::transport::message::{Change, Lead, Led, Refusal};
use crate::transport::peers::Peers;
use crate::types::{Blob, Command, Core, Metrics, TypeConfig};

/// Proposals taken up at once: they share an append and a flush.
const BATCH_MAX: usize = 512;
/// Proposals that wait to be taken up. More wait at their callers.
const WAITING_MAX: usize = 4096;
/// Bytes of proposals that were taken and not yet answered.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// A learner may lag this much when it is promoted: what it fetches in well under a second.
const PROMOTE_LAG_MAX: u64 = 5_000;
/// How long a promotion waits for a learner to come so near.
const PROMOTE_WAIT: Duration = Duration::from_secs(5);
/// Between two attempts to give up leadership.
const RESIGN_PAUSE: Duration = Duration::from_secs(5);

const _: () = assert!(COMMAND_BYTES_MAX < BYTES_MAX, "the largest command must find room");

pub(crate) struct Leader {
    core: Core,
    proposals: mpsc::Sender<Proposal>,
    room: Arc<Semaphore>,
}

struct Proposal {
    command: Blob,
    done: oneshot::Sender<Result<Led, Refusal>>,
    room: OwnedSemaphorePermit,
}

impl Leader {
    /// Its proposer runs until all handles are gone.
    pub(crate) fn new(
        core: Core,
        clock: Clock,
        progress: watch::Receiver<Progress>,
        peers: Arc<Peers>,
    ) -> Self {
        let (proposals, waiting) = mpsc::channel(WAITING_MAX);
        let last = Stamp { last_ms: 0, clock, progress };
        let proposer = Proposer { core: core.clone(), stamp: last, peers, resigned: None };
        tokio::spawn(proposer.run(waiting));
        Self { core, proposals, room: Arc::new(Semaphore::new(BYTES_MAX)) }
    }

    pub(crate) async fn lead(&self, lead: Lead) -> Result<Led, Refusal> {
        let until = |timeout_ms| Instant::now() + Duration::from_millis(timeout_ms);
        match lead {
            Lead::Propose { command, timeout_ms } => self.propose(command, until(timeout_ms)).await,
            Lead::Barrier { timeout_ms } => {
                let read = self.barrier();
                timeout_at(until(timeout_ms), read)
                    .await
                    .unwrap_or_else(|_| Err(Refusal::Unavailable("no quorum answers".to_owned())))
            }
            Lead::Change { change, timeout_ms } => {
                let change = self.change(change);
                timeout_at(until(timeout_ms), change)
                    .await
                    .unwrap_or_else(|_| Err(Refusal::Unknown("not agreed on in time".to_owned())))
            }
        }
    }

    async fn propose(&self, command: Blob, until: Instant) -> Result<Led, Refusal> {
        let unavailable = |why: &str| Refusal::Unavailable(why.to_owned());
        // Checked where it was proposed; from a peer that does not, it would come to stand in the log and fit
        // no frame to any follower.
        if command.0.len() > COMMAND_BYTES_MAX {
            return Err(Refusal::Refused("the command is too large".to_owned()));
        }
        let share = u32::try_from(command.0.len()).unwrap_or(u32::MAX).max(1);
        let enter = async {
            let room = Arc::clone(&self.room).acquire_many_owned(share).await.ok()?;
            let (done, answer) = oneshot::channel();
            self.proposals.send(Proposal { command, done, room }).await.ok()?;
            Some(answer)
        };
        let entered = timeout_at(until, enter).await;
        let entered = entered.map_err(|_| unavailable("the leader takes no more proposals"))?;
        let answer = entered.ok_or_else(|| unavailable("the leader is stopping"))?;
        match timeout_at(until, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Refusal::Unknown("the leader stopped".to_owned())),
            Err(_) => Err(Refusal::Unknown("not agreed on in time".to_owned())),
        }
    }

    async fn barrier(&self) -> Result<Led, Refusal> {
        match self.core.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(read) => Ok(Led::Barrier { index: read.read_log_id().index() }),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => {
                Err(Refusal::NotLeader)
            }
            Err(error) => Err(Refusal::Unavailable(error.to_string())),
        }
    }

    async fn change(&self, change: Change) -> Result<Led, Refusal> {
        let membership = Arc::clone(&self.core.metrics().borrow_watched().membership_config);
        let is_voter = |id: u64| membership.voter_ids().any(|voter| voter == id);
        let is_member = |id: u64| membership.nodes().any(|(member, _)| *member == id);
        // A change goes through two memberships; a leader lost between them leaves the first, in which
        // both the old and the new voters count. To ask again is then to finish it.
        let settled = membership.membership().get_joint_config().len() <= 1;
        let refused = |why: String| Err(Refusal::Refused(why));
        let only = |id| BTreeSet::from([id]);
        let (changes, retain) = match change {
            Change::AddLearner(member) if member.id == 0 => {
                return refused("0 is no id for a node".to_owned());
            }
            Change::AddLearner(member) => {
                return changed(self.core.add_learner(member.id, member, false).await);
            }
            Change::Promote(id) if !is_member(id) => {
                return refused(format!("node {id} is no member; add it as a learner first"));
            }
            Change::Promote(id) if settled && is_voter(id) => return Ok(Led::Changed),
            Change::Promote(id) => {
                self.caught_up(id).await?;
                (ChangeMembers::AddVoterIds(only(id)), true)
            }
            Change::Demote(id) if is_voter(id) => (ChangeMembers::RemoveVoters(only(id)), true),
            Change::Demote(id) if is_member(id) => return Ok(Led::Changed),
            Change::Remove(id) if is_voter(id) => (ChangeMembers::RemoveVoters(only(id)), false),
            Change::Remove(id) if is_member(id) => (ChangeMembers::RemoveNodes(only(id)), false),
            Change::Remove(_) => return Ok(Led::Changed),
            Change::Transfer(id) if is_voter(id) => return self.transfer(id).await,
            Change::Demote(id) | Change::Transfer(id) => {
                return refused(format!("node {id} is no voter"));
            }
        };
        changed(self.core.change_membership(changes, retain).await)
    }

    /// A voter that lags counts for the quorum and cannot help it. One that was added a moment ago is
    /// waited for.
    async fn caught_up(&self, id: u64) -> Result<(), Refusal> {
        let lag = |metrics: &Metrics| {
            let matched = metrics.replication.as_ref()?.get(&id)?.as_ref()?.index;
            Some(metrics.last_log_index?.saturating_sub(matched))
        };
        let mut metrics = self.core.metrics();
        let near = wait_for(&mut metrics, |metrics| {
            metrics.state != ServerState::Leader
                || metrics.id == id
                || lag(metrics).is_some_and(|lag| lag <= PROMOTE_LAG_MAX)
        });
        if tokio::time::timeout(PROMOTE_WAIT, near).await.is_ok() {
            return Ok(());
        }
        let lag = lag(&metrics.borrow_watched());
        let lag =
            lag.map_or("has not been reached".to_owned(), |lag| format!("lags by {lag} entries"));
        Err(Refusal::Refused(format!("node {id} {lag}; let it catch up first")))
    }

    async fn transfer(&self, to: u64) -> Result<Led, Refusal> {
        let mut metrics = self.core.metrics();
        if metrics.borrow_watched().state != ServerState::Leader {
            return Err(Refusal::NotLeader);
        }
        let stopped = |error: &dyn std::fmt::Display| Refusal::Unavailable(error.to_string());
        self.core.trigger().transfer_leader(to).await.map_err(|e| stopped(&e))?;
        let led = wait_for(&mut metrics, |metrics| metrics.current_leader == Some(to)).await;
        led.map(|()| Led::Changed).ok_or_else(|| stopped(&"the node has stopped"))
    }
}

type Write<T> = Result<T, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>;

fn changed<T>(result: Write<T>) -> Result<Led, Refusal> {
    match result {
        Ok(_) => Ok(Led::Changed),
        Err(RaftError::APIError(error)) => Err(refusal(&error)),
        Err(RaftError::Fatal(error)) => Err(Refusal::Unknown(error.to_string())),
    }
}

fn refusal(error: &ClientWriteError<TypeConfig>) -> Refusal {
    match error {
        ClientWriteError::ForwardToLeader(_) => Refusal::NotLeader,
        ClientWriteError::LogEntryDiscarded(_) => Refusal::Unknown(error.to_string()),
        ClientWriteError::ChangeMembershipError(
            ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_),
        ) => Refusal::Unavailable(error.to_string()),
        ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_) => {
            Refusal::Refused(error.to_string())
        }
    }
}

/// Agreed time as this node would go on with it.
struct Stamp {
    last_ms: u64,
    clock: Clock,
    progress: watch::Receiver<Progress>,
}

impl Stamp {
    fn next(&mut self, now_ms: u64) -> u64 {
        let agreed = self.progress.borrow().at_ms;
        self.last_ms = self.last_ms.max(agreed).max(now_ms);
        self.last_ms
    }
}

/// The one task that proposes: it takes all that waits, and what comes meanwhile is the next batch.
struct Proposer {
    core: Core,
    stamp: Stamp,
    peers: Arc<Peers>,
    resigned: Option<Instant>,
}

impl Proposer {
    async fn run(mut self, mut waiting: mpsc::Receiver<Proposal>) {
        let mut batch = Vec::new();
        while waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
            let proposals = std::mem::take(&mut batch);
            // Read once: what is judged is what stamps.
            let now_ms = (self.stamp.clock)();
            match self.refuses(now_ms).await {
                Some(refusal) => {
                    for proposal in proposals {
                        let _ = proposal.done.send(Err(refusal.clone()));
                    }
                }
                None => self.propose(proposals, now_ms).await,
            }
        }
    }

    async fn propose(&mut self, proposals: Vec<Proposal>, now_ms: u64) {
        let at_ms = self.stamp.next(now_ms);
        let (mut commands, mut waiting) = (Vec::new(), Vec::new());
        for Proposal { command, done, room } in proposals {
            commands.push(Command { at_ms, bytes: command });
            waiting.push((done, room));
        }
        match self.core.client_write_many(commands).await {
            Ok(mut results) => drop(tokio::spawn(async move {
                for (done, _room) in waiting {
                    let answer = match results.next().await {
                        Some(Ok(result)) => answer(result),
                        Some(Err(error)) => Err(Refusal::Unknown(error.to_string())),
                        None => Err(Refusal::Unknown("the leader stopped".to_owned())),
                    };
                    let _ = done.send(answer);
                }
            })),
            Err(error) => {
                for (done, _) in waiting {
                    let _ = done.send(Err(Refusal::Unknown(error.to_string())));
                }
            }
        }
    }

    /// Why nothing is proposed now: another leads, or this clock must not stamp. A leader that must
    /// not stamp asks the voter with the best clock to take over.
    async fn refuses(&mut self, now_ms: u64) -> Option<Refusal> {
        let voters: Vec<_> = {
            let metrics = self.core.metrics();
            let metrics = metrics.borrow_watched();
            if metrics.state != ServerState::Leader {
                return Some(Refusal::NotLeader);
            }
            let own = metrics.id;
            metrics.membership_config.voter_ids().filter(|id| *id != own).collect()
        };
        let heard = voters.iter().filter_map(|id| {
            let health = self.peers.health(*id);
            let reading = health.clock.filter(|_| health.reachable)?;
            Some((*id, reading.ahead_ms(now_ms)))
        });
        let skew = clock::judge(heard)?;
        if self.resigned.is_none_or(|at| at.elapsed() > RESIGN_PAUSE) {
            self.resigned = Some(Instant::now());
            tracing::error!(ahead_ms = skew.ahead_ms, to = skew.best, "this leader's clock is off");
            let _ = self.core.trigger().transfer_leader(skew.best).await;
        }
        let why = format!("the leader's clock is off by {} ms", skew.ahead_ms);
        Some(Refusal::Unavailable(why))
    }
}

fn answer(result: WriteResult<TypeConfig>) -> Result<Led, Refusal> {
    match result {
        Ok(written) => Ok(Led::Proposed { index: written.log_id.index, bytes: written.response }),
        Err(error) => Err(refusal(&error)),
    }
}
