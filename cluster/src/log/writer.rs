//! The one thread that writes the log.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::storage::IOFlushed;
use tokio::sync::oneshot;

use super::{State, key, lock};
use crate::codec;
use crate::durable::{self, Batch, Db};
use crate::form;
use crate::types::{Entry, TypeConfig};

/// Entries removed beside one write. Removing thousands at once stalls the database.
const PURGED_PER_ROUND: u64 = 64;
/// How long the writer waits for work before it goes on purging.
const PURGE_PAUSE: Duration = Duration::from_millis(2);
/// Calls taken up by one round; bounds what a round writes at once.
const CALLS_PER_ROUND: usize = 1024;

/// One call, in the order in which it was made.
pub(super) enum Write {
    Append { entries: Vec<Entry>, epoch: u64, done: IOFlushed<TypeConfig> },
    Vote { vote: form::Vote, done: oneshot::Sender<()> },
    Committed(Option<form::LogId>),
    Truncate { from: u64, to: u64 },
    Purge { to: form::LogId, from: u64 },
}

pub(super) struct Writer {
    db: Db,
    state: Arc<Mutex<State>>,
    /// Entries that are purged and still on disk: first and last.
    leftover: Option<(u64, u64)>,
}

/// What one flush makes durable, and who waits for it.
#[derive(Default)]
struct Round {
    batch: Batch,
    appended: Vec<IOFlushed<TypeConfig>>,
    voted: Vec<oneshot::Sender<()>>,
    /// Epoch and index up to which entries are on disk after this round.
    written: Option<(u64, u64)>,
}

impl Writer {
    pub(super) fn new(db: Db, state: Arc<Mutex<State>>, leftover: Option<(u64, u64)>) -> Self {
        Self { db, state, leftover: leftover.filter(|(first, last)| first <= last) }
    }

    /// Runs until every sender is gone, then says so through `ended`.
    pub(super) fn spawn(
        mut self,
        calls: Receiver<Write>,
        ended: oneshot::Sender<()>,
    ) -> io::Result<()> {
        let run = move || {
            let result = self.run(&calls);
            if let Err(error) = result {
                durable::halt("the raft log cannot be written", &error);
            }
            drop(self);
            let _ = ended.send(());
        };
        std::thread::Builder::new().name("raft-log".to_owned()).spawn(run).map(drop)
    }

    fn run(&mut self, calls: &Receiver<Write>) -> Result<(), durable::Error> {
        loop {
            let first = if self.leftover.is_some() {
                calls.recv_timeout(PURGE_PAUSE)
            } else {
                calls.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            let mut round = Round::default();
            match first {
                Ok(write) => self.take(write, &mut round),
                Err(RecvTimeoutError::Timeout) => {}
                // All that anyone was promised is durable already.
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            for write in calls.try_iter().take(CALLS_PER_ROUND) {
                self.take(write, &mut round);
            }
            self.purge_few(&mut round.batch);
            self.finish(round)?;
        }
    }

    fn take(&mut self, write: Write, round: &mut Round) {
        match write {
            Write::Append { entries, epoch, done } => {
                for entry in entries {
                    let index = entry.log_id.index;
                    let value = codec::encode(&form::Entry::from(entry));
                    round.batch.put(&key::entry(index), &value);
                    round.written = Some((epoch, index + 1));
                }
                round.appended.push(done);
            }
            Write::Vote { vote, done } => {
                round.batch.put(key::VOTE, &codec::encode(&vote));
                round.voted.push(done);
            }
            Write::Committed(Some(id)) => round.batch.put(key::COMMITTED, &codec::encode(&id)),
            Write::Committed(None) => round.batch.remove(key::COMMITTED),
            Write::Truncate { from, to } => {
                for index in from..=to {
                    round.batch.remove(&key::entry(index));
                }
            }
            Write::Purge { to, from } => {
                round.batch.put(key::PURGED, &codec::encode(&to));
                let first = self.leftover.map_or(from, |(first, _)| first);
                self.leftover = Some((first, to.index)).filter(|(first, last)| first <= last);
            }
        }
    }

    /// The purge mark is in this batch or an earlier one, so that no entry goes before it.
    fn purge_few(&mut self, batch: &mut Batch) {
        let Some((first, last)) = self.leftover else { return };
        let end = last.min(first + PURGED_PER_ROUND - 1);
        for index in first..=end {
            batch.remove(&key::entry(index));
        }
        self.leftover = (end < last).then_some((end + 1, last));
    }

    fn finish(&self, round: Round) -> Result<(), durable::Error> {
        if !round.batch.is_empty() {
            self.db.write(round.batch)?;
        }
        if let Some((epoch, index)) = round.written {
            lock(&self.state).tail.written(epoch, index);
        }
        if round.appended.is_empty() && round.voted.is_empty() {
            return Ok(());
        }
        self.db.make_durable()?;
        for done in round.voted {
            let _ = done.send(());
        }
        for done in round.appended {
            done.io_completed(Ok(()));
        }
        Ok(())
    }
}

impl std::fmt::Debug for Write {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Write")
    }
}
