//! The raft log on disk.
//!
//! One thread writes. What waits for it is written as one batch and made durable by one flush,
//! however many calls it came from, and only then do those calls hear that it is done. Meanwhile what
//! was appended can already be read, from the tail that is kept in memory; so a leader sends entries
//! to its followers while its own disk still works on them.
//!
//! Vote, purge mark, commit mark and the node's identity lie under keys of their own, apart from the
//! entries: a purge must not take anything along that raft needs in order to start.

mod store;
#[cfg(test)]
mod suite;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, mpsc};

use tokio::sync::oneshot;

use crate::codec;
use crate::durable::{self, Db, Records};
use crate::error::Error;
use crate::form;
use crate::types;

use tail::Tail;
use writer::{Write, Writer};

/// The entries handed out by one read, when a reader asks for more.
const READ_BYTES_MAX: usize = 1024 * 1024;

/// The log of one node. Cheap to clone; all clones are the same log.
#[derive(Debug, Clone)]
pub(crate) struct Log(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    db: Db,
    state: Arc<Mutex<State>>,
    writes: mpsc::Sender<Write>,
}

/// What is known without asking the disk.
#[derive(Debug)]
struct State {
    vote: Option<types::Vote>,
    committed: Option<types::LogId>,
    purged: Option<types::LogId>,
    last: Option<types::LogId>,
    tail: Tail,
}

/// Resolves once nothing of the log is left in this process and its directory can be opened again.
#[derive(Debug)]
pub(crate) struct Closed {
    shared: Weak<Shared>,
    writer: oneshot::Receiver<()>,
}

impl Log {
    /// Opens the log of node `id`, and refuses one that belongs to another.
    pub(crate) fn open(dir: &Path, id: u64) -> Result<(Self, Closed), Error> {
        let db = Db::open(dir, Records::Medium)?;
        match read::<u64>(&db, key::NODE)? {
            Some(found) if found != id => {
                return Err(Error::OtherNode { dir: dir.to_owned(), found, wanted: id });
            }
            Some(_) => {}
            None => {
                let mut batch = durable::Batch::default();
                batch.put(key::NODE, &codec::encode(&id));
                db.write(batch)?;
                db.make_durable()?;
            }
        }
        let state = State::load(&db)?;
        let leftover =
            first_index(&db)?.zip(state.purged).map(|(first, purged)| (first, purged.index));
        let state = Arc::new(Mutex::new(state));
        let (writes, calls) = mpsc::channel();
        let (ended, over) = oneshot::channel();
        Writer::new(db.clone(), Arc::clone(&state), leftover).spawn(calls, ended)?;
        let shared = Arc::new(Shared { db, state, writes });
        let closed = Closed { shared: Arc::downgrade(&shared), writer: over };
        Ok((Self(shared), closed))
    }

    /// Entries from `from` up to but without `to`, as far as there are any; at least one if there is
    /// one, and then no more than `bytes_max`.
    fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<types::Entry>> {
        let (from, to, tail_first, mut recent) = {
            let state = self.state();
            let from = from.max(next(state.purged));
            let to = to.min(next(state.last));
            let tail_first = state.tail.first();
            (from, to, tail_first, state.tail.read(from.max(tail_first), to, bytes_max))
        };
        if from >= tail_first.min(to) {
            return Ok(recent);
        }
        let mut entries = Vec::new();
        let mut bytes = 0;
        for entry in self.0.db.range(&key::entry(from), &key::entry(to.min(tail_first))) {
            let (_, value) = entry.map_err(io::Error::other)?;
            bytes += value.len();
            if bytes > bytes_max && !entries.is_empty() {
                return Ok(entries);
            }
            entries.push(decode_entry(&value)?);
        }
        let whole = entries.last().is_none_or(|last| last.log_id.index + 1 == tail_first);
        if whole && bytes < bytes_max {
            entries.append(&mut recent);
        }
        Ok(entries)
    }

    /// Like [`Log::read`], on a thread that may wait for the disk when the tail does not have it.
    async fn read_async(&self, from: u64, to: u64, max: usize) -> io::Result<Vec<types::Entry>> {
        if from >= self.state().tail.first() {
            return self.read(from, to, max);
        }
        let log = self.clone();
        let reading = tokio::task::spawn_blocking(move || log.read(from, to, max));
        reading.await.map_err(io::Error::other)?
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0.state)
    }

    fn send(&self, write: Write) -> io::Result<()> {
        self.0.writes.send(write).map_err(|_| io::Error::other("the log's writer has ended"))
    }
}

impl Closed {
    /// Waits. The last of whoever reads the log may take a moment to end.
    pub(crate) async fn wait(self) {
        while self.shared.strong_count() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        let _ = self.writer.await;
    }
}

impl State {
    fn load(db: &Db) -> Result<Self, Error> {
        let vote: Option<form::Vote> = read(db, key::VOTE)?;
        let committed: Option<form::LogId> = read(db, key::COMMITTED)?;
        let purged: Option<form::LogId> = read(db, key::PURGED)?;
        let possible = vote.is_none_or(form::Vote::is_possible)
            && [committed, purged].into_iter().flatten().all(form::LogId::is_possible);
        if !possible {
            return Err(Error::Log("it says that it has come further than a log can".to_owned()));
        }
        let purged = purged.map(types::LogId::from);
        let last = last_entry(db, purged)?;
        Ok(Self {
            vote: vote.map(Into::into),
            committed: committed.map(Into::into),
            purged,
            last,
            tail: Tail::starting_at(next(last)),
        })
    }
}

/// The last entry, once all of them were read: one that is damaged, or missing between others, would be found
/// when it is applied or sent, by a node that others rely on by then.
fn last_entry(db: &Db, purged: Option<types::LogId>) -> Result<Option<types::LogId>, Error> {
    let mut last = purged;
    for entry in db.range(&key::entry(next(purged)), key::ENTRIES_END) {
        let (key, value) = entry?;
        let index = next(last);
        if key::index(&key) != Some(index) {
            return Err(Error::Log(format!(
                "entry {index} is missing, though later ones are there"
            )));
        }
        let entry = decode_entry(&value).map_err(|e| Error::Log(format!("entry {index}: {e}")))?;
        let id = entry.log_id;
        if id.index != index || last.is_some_and(|last| last.leader_id > id.leader_id) {
            return Err(Error::Log(format!("entry {index} is another's: {id}")));
        }
        last = Some(id);
    }
    Ok(last)
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The index after `id`; 0 when there is none.
fn next(id: Option<types::LogId>) -> u64 {
    id.map_or(0, |id| id.index + 1)
}

fn read<T: serde::de::DeserializeOwned>(db: &Db, key: &[u8]) -> Result<Option<T>, Error> {
    let Some(bytes) = db.get(key)? else { return Ok(None) };
    let named = |error| Error::Log(format!("{}: {error}", String::from_utf8_lossy(key)));
    codec::decode(&bytes).map(Some).map_err(named)
}

pub(crate) fn decode_entry(bytes: &[u8]) -> io::Result<types::Entry> {
    let entry: form::Entry = codec::decode(bytes).map_err(io::Error::other)?;
    entry.into_raft().map_err(io::Error::other)
}

fn first_index(db: &Db) -> Result<Option<u64>, Error> {
    let first = db.range(&key::entry(0), key::ENTRIES_END).next().transpose()?;
    Ok(first.and_then(|(key, _)| key::index(&key)))
}

mod key {
    pub(super) const NODE: &[u8] = b"mn";
    pub(super) const VOTE: &[u8] = b"mv";
    pub(super) const PURGED: &[u8] = b"mp";
    pub(super) const COMMITTED: &[u8] = b"mc";
    /// Behind every entry's key.
    pub(super) const ENTRIES_END: &[u8] = b"f";

    pub(super) fn entry(index: u64) -> [u8; 9] {
        let mut key = [b'e'; 9];
        if let Some(place) = key.last_chunk_mut() {
            *place = index.to_be_bytes();
        }
        key
    }

    pub(super) fn index(key: &[u8]) -> Option<u64> {
        key.strip_prefix(b"e")?.try_into().ok().map(u64::from_be_bytes)
    }
}
