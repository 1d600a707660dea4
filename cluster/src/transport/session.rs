//! What a connection does on the side that was dialled.

use std::io;
use std::sync::Arc;

use futures::stream::{self, SplitStream};
use futures::{SinkExt, StreamExt};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, TransferLeaderRequest};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::interval;

use super::message::{Answer, Append, Appended, Ask, Call, Install, Purpose, Reply};
use super::snapshot::{Installer, WORKING_EVERY};
use super::wire::{self, Wire};
use crate::config::Clock;
use crate::form::LogId;
use crate::leader::Leader;
use crate::removal::{self, Heard};
use crate::types::{Core, TypeConfig};

/// Calls of one connection under way at once; more wait in the connection, and so at the peer.
const CALLS_MAX: usize = 256;
/// Bytes of them.
const CALL_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Requests taken from an append connection before raft has them.
const APPENDS_MAX: usize = 16;

/// What serves peers.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) core: Core,
    pub(crate) leader: Arc<Leader>,
    pub(crate) installer: Installer,
    pub(crate) clock: Clock,
    pub(crate) heard: Heard,
}

impl Services {
    /// Serves one connection of node `from` until it ends.
    pub(crate) async fn run(&self, wire: Wire, purpose: Purpose, from: u64) -> io::Result<()> {
        match purpose {
            Purpose::Control | Purpose::Forward => self.calls(wire, purpose, from).await,
            Purpose::Append => self.append(wire, from).await,
            Purpose::Snapshot => self.snapshot(wire, from).await,
        }
    }

    async fn calls(&self, wire: Wire, purpose: Purpose, from: u64) -> io::Result<()> {
        let (mut sink, mut calls) = wire.split();
        let (answers, mut answered) = mpsc::channel::<Answer>(CALLS_MAX);
        let room = Arc::new(Semaphore::new(CALL_BYTES_MAX));
        let write = async {
            while let Some(answer) = answered.recv().await {
                sink.feed(wire::frame(&answer)).await?;
                if answered.is_empty() {
                    sink.flush().await?;
                }
            }
            Ok(())
        };
        let read = async {
            while let Some(frame) = calls.next().await {
                let frame = frame?;
                let share = frame.len().max(CALL_BYTES_MAX / CALLS_MAX);
                let share = u32::try_from(share).map_err(io::Error::other)?;
                let permit = Arc::clone(&room).acquire_many_owned(share).await;
                let permit = permit.map_err(io::Error::other)?;
                let Call { id, ask } = wire::read(&frame)?;
                let (services, answers) = (self.clone(), answers.clone());
                let mut work = Box::pin(async move {
                    let reply = services.answer(ask, purpose, from).await;
                    let _ = answers.send(Answer { id, reply }).await;
                    drop(permit);
                });
                // Begun here, so that proposals are taken in the order in which they came.
                if futures::poll!(&mut work).is_pending() {
                    tokio::spawn(work);
                }
            }
            Ok(())
        };
        tokio::select! { end = read => end, end = write => end }
    }

    async fn answer(&self, ask: Ask, purpose: Purpose, from: u64) -> Reply {
        let failed = |error: &dyn std::fmt::Display| Reply::Failed(error.to_string());
        match ask {
            Ask::Ping => Reply::Pong { at_ms: (self.clock)() },
            Ask::Membership => removal::answer(&self.core.metrics().borrow_watched(), from),
            Ask::Lead(lead) if purpose == Purpose::Forward => {
                Reply::Led(self.leader.lead(lead).await)
            }
            Ask::Vote(ballot) if ballot.is_of(from) => {
                self.core.vote(ballot.into()).await.map_or_else(|e| failed(&e), Reply::from)
            }
            Ask::PreVote(ballot) if ballot.is_of(from) => {
                self.core.pre_vote(ballot.into()).await.map_or_else(|e| failed(&e), Reply::from)
            }
            Ask::Heartbeat(append) if append.vote.node == from => {
                let (previous, last) = (append.previous, append.last());
                let request = match append.into_raft() {
                    Ok(request) => request,
                    Err(error) => return failed(&error),
                };
                let answer = self.core.append_entries(request).await;
                answer.map_or_else(
                    |e| failed(&e),
                    |answer| {
                        let result = answer
                            .into_stream_result(previous.map(Into::into), last.map(Into::into));
                        if !matches!(result, Err(StreamAppendError::HigherVote(_))) {
                            self.heard.now();
                        }
                        Reply::Appended(result.into())
                    },
                )
            }
            Ask::TakeOver { from: vote, to, last }
                if vote.node == from
                    && vote.is_possible()
                    && last.is_none_or(LogId::is_possible) =>
            {
                let request = TransferLeaderRequest::new(vote.into(), to, last.map(Into::into));
                match self.core.handle_transfer_leader(request).await {
                    Ok(result) => Reply::TakesOver(result.map_err(|e| e.to_string())),
                    Err(error) => failed(&error),
                }
            }
            _ => Reply::Failed("not this peer's to ask".to_owned()),
        }
    }

    /// Hands requests to raft in their order, and its answers back in the same.
    async fn append(&self, wire: Wire, from: u64) -> io::Result<()> {
        let (mut sink, frames) = wire.split();
        let (requests, taken) = mpsc::channel(APPENDS_MAX);
        let taken = stream::unfold(taken, |mut taken| async {
            taken.recv().await.map(|request| (request, taken))
        });
        let mut answers = std::pin::pin!(self.core.stream_append(taken));
        let read = read_appends(frames, requests, from);
        let write = async {
            while let Some(answer) = answers.next().await {
                let result = answer.map_err(io::Error::other)?;
                let last = result.is_err();
                sink.send(wire::frame(&Appended::from(result))).await?;
                if last {
                    break;
                }
            }
            Ok(())
        };
        tokio::select! { end = read => end, end = write => end }
    }

    async fn snapshot(&self, mut wire: Wire, from: u64) -> io::Result<()> {
        let done = self.install(&mut wire, from).await;
        let answer = match &done {
            Ok(install) => install,
            Err(error) => &Install::Failed(error.to_string()),
        };
        wire::send(&mut wire, answer).await?;
        done.map(drop)
    }

    async fn install(&self, wire: &mut Wire, from: u64) -> io::Result<Install> {
        let (vote, received) = self.installer.receive(wire, from).await?;
        let install = async {
            // One at a time: what lies beside the state is built where the last one left it.
            let _turn = self.installer.turn().await;
            let committed = self.core.metrics().borrow_watched().local_committed;
            let snapshot = self.installer.prepare(received, committed).await?;
            let installed = self.core.install_full_snapshot(vote.into(), snapshot).await;
            Ok::<_, io::Error>(installed.map_err(io::Error::other)?.vote.into())
        };
        let mut install = std::pin::pin!(install);
        let mut working = interval(WORKING_EVERY);
        loop {
            tokio::select! {
                vote = &mut install => return Ok(Install::Done { vote: vote? }),
                _ = working.tick() => wire::send(wire, &Install::Working).await?,
            }
        }
    }
}

async fn read_appends(
    mut frames: SplitStream<Wire>,
    requests: mpsc::Sender<AppendEntriesRequest<TypeConfig>>,
    from: u64,
) -> io::Result<()> {
    while let Some(frame) = frames.next().await {
        let append: Append = wire::read(&frame?)?;
        if append.vote.node != from {
            let why = "entries under another node's vote";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        let wrong = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        let request = append.into_raft().map_err(wrong)?;
        if requests.send(request).await.is_err() {
            // Raft answers no more on this connection, and the last answer says why.
            return std::future::pending().await;
        }
    }
    Ok(())
}
