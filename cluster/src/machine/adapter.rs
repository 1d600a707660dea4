//! The machine as openraft asks for it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{OptionalSend, alias};
use tokio::sync::watch;

use super::files::{Files, Header, Prepared, Stored};
use super::shared::{Shared, TakeOver};
use super::{Entry, Halt, Snapshot};
use crate::types::{Blob, LogId, Payload, SnapshotMeta, StoredMembership, TypeConfig};

/// Entries applied under one lock.
const BATCH_ENTRIES_MAX: usize = 256;
/// Bytes of commands applied under one lock.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// A snapshot on its way: our own file, or what a peer sent, read and found good before raft hears of it.
#[derive(Debug)]
pub(crate) enum SnapshotData {
    Local(Stored),
    Received(Prepared, TakeOver),
}

/// How far the machine is, for everyone who waits for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The last index applied.
    pub(crate) index: Option<u64>,
    /// The agreed time.
    pub(crate) at_ms: u64,
}

pub(crate) struct Adapter {
    machine: Arc<dyn Shared>,
    files: Arc<Files>,
    applied: Option<LogId>,
    members: StoredMembership,
    progress: watch::Sender<Progress>,
}

type Data = alias::SnapshotOf<TypeConfig, SnapshotData>;

impl Adapter {
    pub(crate) fn new(
        machine: Arc<dyn Shared>,
        files: Arc<Files>,
        progress: watch::Sender<Progress>,
    ) -> Self {
        Self { machine, files, applied: None, members: StoredMembership::default(), progress }
    }

    fn header(&self) -> Header {
        Header {
            last: self.applied.map(Into::into),
            members: self.members.clone().into(),
            at_ms: self.progress.borrow().at_ms,
        }
    }

    /// Applies one batch on a thread that may block, then answers.
    async fn apply_batch(&mut self, batch: Batch) -> io::Result<()> {
        let Batch { mut commands, waiting, last, members, .. } = batch;
        let mut at_ms = self.progress.borrow().at_ms;
        for command in &mut commands {
            at_ms = at_ms.max(command.at_ms);
            command.at_ms = at_ms;
        }
        let replies = if commands.is_empty() {
            Vec::new()
        } else {
            let machine = Arc::clone(&self.machine);
            blocking(move || {
                let entries: Vec<_> = commands.iter().map(Stamped::entry).collect();
                machine.apply(&entries)
            })
            .await?
        };
        self.applied = last.or(self.applied);
        self.members = members.unwrap_or_else(|| self.members.clone());
        let index = self.applied.map(|id| id.index);
        self.progress.send_replace(Progress { index, at_ms });
        let mut replies = replies.into_iter();
        for (is_command, responder) in waiting {
            let reply = if is_command { replies.next().unwrap_or_default() } else { Vec::new() };
            if let Some(responder) = responder {
                responder.send(Blob::from(reply));
            }
        }
        Ok(())
    }
}

struct Stamped {
    index: u64,
    at_ms: u64,
    bytes: Bytes,
}

impl Stamped {
    fn entry(&self) -> Entry<'_> {
        Entry { index: self.index, at_ms: self.at_ms, command: &self.bytes }
    }
}

/// What is applied under one lock: commands, and raft's own entries among them.
#[derive(Default)]
struct Batch {
    commands: Vec<Stamped>,
    bytes: usize,
    /// For each entry whether it is a command, and who waits for the reply.
    waiting: Vec<(bool, Option<ApplyResponder<TypeConfig>>)>,
    last: Option<LogId>,
    members: Option<StoredMembership>,
}

impl Batch {
    fn push(&mut self, (entry, responder): EntryResponder<TypeConfig>) {
        let id = entry.log_id;
        self.last = Some(id);
        self.waiting.push((matches!(entry.payload, Payload::Normal(_)), responder));
        match entry.payload {
            Payload::Blank => {}
            Payload::Normal(command) => {
                let bytes = command.bytes.0;
                self.bytes += bytes.len();
                self.commands.push(Stamped { index: id.index, at_ms: command.at_ms, bytes });
            }
            Payload::Membership(membership) => {
                self.members = Some(StoredMembership::new(Some(id), membership));
            }
        }
    }

    fn is_full(&self) -> bool {
        self.waiting.len() >= BATCH_ENTRIES_MAX || self.bytes >= BATCH_BYTES_MAX
    }
}

impl RaftStateMachine<TypeConfig> for Adapter {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.members.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut batch = Batch::default();
        while let Some(entry) = entries.next().await {
            batch.push(entry?);
            if batch.is_full() {
                self.apply_batch(std::mem::take(&mut batch)).await?;
            }
        }
        self.apply_batch(batch).await
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Builder> {
        Some(self.get_snapshot_builder().await)
    }

    /// Nothing is applied meanwhile, so the handle and the header are of one moment.
    async fn get_snapshot_builder(&mut self) -> Builder {
        let state = Mutex::new(Some(self.machine.snapshot()));
        Builder { state, header: self.header(), files: Arc::clone(&self.files) }
    }

    async fn install_snapshot(&mut self, _: &SnapshotMeta, data: SnapshotData) -> io::Result<()> {
        let (machine, files) = (Arc::clone(&self.machine), Arc::clone(&self.files));
        let header = blocking(move || {
            let (stored, state) = match data {
                SnapshotData::Received(prepared, state) => (files.name(prepared)?, state),
                SnapshotData::Local(stored) => {
                    let copy = |to: &mut dyn io::Write| -> Result<(), Halt> {
                        Ok(io::copy(&mut stored.body(), to).map(drop)?)
                    };
                    let own = files.owns(&stored);
                    let stored = if own { stored } else { files.write(&stored.header, copy)? };
                    let state = machine.read(&mut stored.body())?;
                    (stored, state)
                }
            };
            state.run()?;
            Ok(stored.header)
        })
        .await?;
        self.applied = header.last.map(Into::into);
        self.members = header.members.try_into().map_err(io::Error::other)?;
        let index = self.applied.map(|id| id.index);
        self.progress.send_replace(Progress { index, at_ms: header.at_ms });
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Data>> {
        self.files.newest().map(data).transpose()
    }
}

/// Writes the snapshot of one moment, beside the machine that goes on.
pub(crate) struct Builder {
    state: Mutex<Option<Result<Box<dyn Snapshot>, Halt>>>,
    header: Header,
    files: Arc<Files>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<Data> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner).take();
        let state = state.unwrap_or_else(|| Err(Halt("a snapshot is written once".to_owned())));
        let (header, files) = (self.header.clone(), Arc::clone(&self.files));
        let stored = blocking(move || {
            let state = state?;
            files.write(&header, |to| state.write(to))
        });
        data(stored.await?)
    }
}

fn data(stored: Stored) -> io::Result<Data> {
    let meta = stored.header.meta().map_err(io::Error::other)?;
    Ok(Data { meta, snapshot: SnapshotData::Local(stored) })
}

/// Runs what may block, away from the threads that serve the network.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Halt> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?.map_err(io::Error::other)
}
