//! This node's replica of what is agreed on: the state in memory, its history on disk.
//!
//! It joins the rooms: `cluster` hands it bytes in order, `state` decides what they mean, and what
//! the state leaves behind is written to the [`History`] and measured.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use cluster::durable::Batch;
use cluster::{Entry, Halt, Snapshot, StateMachine, Swap, Transfer, codec};
use serde::{Deserialize, Serialize};
use state::{Command, Data, Effects, Stamp, State};
use tokio::sync::watch;

use crate::digest::Digester;
use crate::history::{self, Arrivals, Hash, History};
use crate::measures::Measures;

/// The replica as others share it.
pub type Shared = Arc<RwLock<Replica>>;

/// State and history of one node.
pub struct Replica {
    state: State,
    chain: Hash,
    /// Log index of the last command.
    index: u64,
    /// How often the state was replaced by a snapshot.
    restores: u64,
    shelf: Arc<Shelf>,
    digester: Arc<Mutex<Digester>>,
    measures: Arc<Measures>,
    changed: watch::Sender<u64>,
    known: watch::Sender<Known>,
    checkpoint: watch::Sender<Option<Arc<Frozen>>>,
}

/// The names of all channels; `None` before this node has heard of any cluster.
pub type Known = Option<Arc<BTreeSet<String>>>;

/// Where histories stand: one directory a generation, the newest snapshot names the one that counts.
struct Shelf {
    dir: PathBuf,
    current: Mutex<(u64, History)>,
}

/// What stands before the state in a snapshot.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Header {
    generation: u64,
    chain: Hash,
    index: u64,
}

/// A state that no longer changes, taken in an instant.
#[derive(Clone)]
pub struct Frozen {
    /// What was agreed on.
    pub data: Data,
    /// The hash of the newest movement.
    pub chain: Hash,
    /// Log index of the last command.
    pub index: u64,
    /// How often the state was replaced by a snapshot before.
    pub(crate) restores: u64,
}

impl Frozen {
    /// The digest of this state.
    #[must_use]
    pub fn digest(&self, digester: &Mutex<Digester>) -> Hash {
        let mut digester = digester.lock().unwrap_or_else(PoisonError::into_inner);
        digester.digest(&self.data, &self.chain, self.restores)
    }
}

impl Replica {
    /// An empty replica that keeps its history below `dir`. `cluster` restores it from a snapshot and
    /// the log.
    pub fn open(dir: &Path, measures: Arc<Measures>) -> Result<Self, history::Error> {
        let history = History::open(&generation_dir(dir, 1))?;
        let shelf = Shelf { dir: dir.to_path_buf(), current: Mutex::new((1, history)) };
        Ok(Self {
            state: State::default(),
            chain: Hash::default(),
            index: 0,
            restores: 0,
            shelf: Arc::new(shelf),
            digester: Arc::default(),
            measures,
            changed: watch::Sender::new(0),
            known: watch::Sender::new(None),
            checkpoint: watch::Sender::new(None),
        })
    }

    /// What is agreed on, as far as this node has heard.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Log index of the last command.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// Changes whenever something was applied.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The channels, to be asked without waiting for the lock.
    #[must_use]
    pub fn known(&self) -> watch::Receiver<Known> {
        self.known.subscribe()
    }

    /// The state as it was at the newest checkpoint that this process applied.
    #[must_use]
    pub fn checkpoint(&self) -> watch::Receiver<Option<Arc<Frozen>>> {
        self.checkpoint.subscribe()
    }

    /// The history that belongs to this state.
    #[must_use]
    pub fn history(&self) -> History {
        self.shelf.current().1
    }

    /// The state as it is now; costs pointers.
    #[must_use]
    pub fn freeze(&self) -> Frozen {
        let data = self.state.data().clone();
        Frozen { data, chain: self.chain, index: self.index, restores: self.restores }
    }

    /// What turns frozen states into digests.
    #[must_use]
    pub fn digester(&self) -> Arc<Mutex<Digester>> {
        Arc::clone(&self.digester)
    }

    /// Tells those who wait for a change, and those who must not wait for the lock.
    fn announce(&self) {
        let data = self.state.data();
        self.measures.applied_index.set(self.index);
        self.measures.evicted_keys.set(data.seen.evicted());
        let is_known =
            self.known.borrow().as_ref().is_some_and(|known| known.iter().eq(data.channels.keys()));
        if data.seeded && !is_known {
            let names: BTreeSet<String> = data.channels.keys().cloned().collect();
            self.known.send_replace(Some(Arc::new(names)));
        }
        self.changed.send_replace(self.index);
    }

    fn keep(&mut self, index: u64, effects: Effects, batch: &mut Batch) {
        history::put_bodies(batch, index, &effects.bodies);
        self.measures.applied(&effects, self.state.data().now);
        let Effects { movements, arrived: received, durable_ms, .. } = effects;
        history::put_arrivals(batch, index, &Arrivals { durable_ms, received });
        history::put_movements(batch, &mut self.chain, index, movements);
    }
}

impl StateMachine for Replica {
    fn apply(&mut self, entries: &[Entry<'_>]) -> Result<Vec<Vec<u8>>, Halt> {
        let mut batch = Batch::default();
        let mut replies = Vec::with_capacity(entries.len());
        let mut checkpoint = None;
        let mut dropped = Vec::new();
        for entry in entries {
            let command: Command = codec::decode(entry.command).map_err(|error| {
                Halt(format!("log entry {} cannot be read by this release: {error}", entry.index))
            })?;
            let stamp = Stamp { index: entry.index, now: entry.at_ms };
            let is_checkpoint = matches!(command, Command::Checkpoint);
            let (reply, mut effects) = self.state.apply(stamp, command);
            replies.push(codec::encode(&reply));
            dropped.append(&mut effects.dropped);
            self.keep(entry.index, effects, &mut batch);
            self.index = entry.index;
            if is_checkpoint {
                checkpoint = Some(Arc::new(self.freeze()));
            }
        }
        let history = self.history();
        // What is dropped may have come with one of these entries.
        let written = history.write(batch).and_then(|()| history.drop_bodies(dropped));
        written.map_err(|error| Halt(error.to_string()))?;
        self.announce();
        // What it says of its history was written before.
        if checkpoint.is_some() {
            self.checkpoint.send_replace(checkpoint);
        }
        Ok(replies)
    }

    fn snapshot(&self) -> Box<dyn Snapshot> {
        let (generation, history) = self.shelf.current();
        let header = Header { generation, chain: self.chain, index: self.index };
        Box::new(Local { header, history, data: self.state.data().clone() })
    }

    fn restore(&self, local: &mut dyn Read) -> Result<Swap<Self>, Halt> {
        let unreadable = |error: codec::Error| Halt(format!("the snapshot: {error}"));
        let Header { generation, chain, index } = codec::decode_from(local).map_err(unreadable)?;
        let data: Data = codec::decode_from(local).map_err(unreadable)?;
        let state = State::new(data);
        let history = self.shelf.take(generation).map_err(|error| Halt(error.to_string()))?;
        Ok(Box::new(move |replica: &mut Self| {
            let old = std::mem::replace(&mut replica.state, state);
            (replica.chain, replica.index) = (chain, index);
            replica.restores += 1;
            replica.shelf.switch(generation, history);
            replica.announce();
            // Freeing millions of entries takes a while, and nobody has to wait for it.
            std::thread::spawn(move || drop(old));
        }))
    }

    fn transfer(&self) -> Arc<dyn Transfer> {
        self.shelf.clone()
    }
}

/// A snapshot about to be written: small, since the history has a store of its own.
struct Local {
    header: Header,
    history: History,
    data: Data,
}

impl Snapshot for Local {
    fn write(self: Box<Self>, to: &mut dyn Write) -> Result<(), Halt> {
        // The log is purged behind a snapshot, and could not write the history again.
        self.history.make_durable().map_err(|error| Halt(error.to_string()))?;
        let written =
            codec::encode_into(&self.header, to).and_then(|()| codec::encode_into(&self.data, to));
        written.map_err(|error| Halt(format!("cannot write the snapshot: {error}")))
    }
}

impl Shelf {
    fn current(&self) -> (u64, History) {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opens a generation, unless it is the one in use.
    fn take(&self, generation: u64) -> Result<History, history::Error> {
        let (current, history) = self.current();
        if current == generation {
            return Ok(history);
        }
        History::open(&generation_dir(&self.dir, generation))
    }

    /// Makes a generation the one that counts, and removes all others.
    fn switch(&self, generation: u64, history: History) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = (generation, history);
        if let Err(error) = self.remove_all_but(generation) {
            // It is tried again at the next start.
            tracing::warn!(%error, "an old history cannot be removed");
        }
    }

    fn remove_all_but(&self, generation: u64) -> Result<(), std::io::Error> {
        let mut others = self.generations()?.into_iter().filter(|other| *other != generation);
        others.try_for_each(|other| std::fs::remove_dir_all(generation_dir(&self.dir, other)))
    }

    fn generations(&self) -> Result<Vec<u64>, std::io::Error> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let number = name.to_string_lossy().strip_prefix("history.").map(str::parse::<u64>);
            found.extend(number.and_then(Result::ok));
        }
        Ok(found)
    }
}

impl Transfer for Shelf {
    fn export(&self, local: &mut dyn Read, to: &mut dyn Write) -> Result<(), Halt> {
        let export = |local: &mut dyn Read, to: &mut dyn Write| -> Result<(), history::Error> {
            let header: Header = codec::decode_from(local)?;
            codec::encode_into(&header, to)?;
            self.current().1.export(header.index, to)?;
            std::io::copy(local, to)?;
            Ok(())
        };
        export(local, to).map_err(|error| Halt(format!("cannot send a snapshot: {error}")))
    }

    fn import(&self, from: &mut dyn Read, local: &mut dyn Write) -> Result<(), Halt> {
        let import = |from: &mut dyn Read, local: &mut dyn Write| -> Result<(), history::Error> {
            let header: Header = codec::decode_from(from)?;
            // What an import that came to nothing left behind goes now; there is one at a time.
            let (current, _) = self.current();
            self.remove_all_but(current)?;
            let generation = current + 1;
            // Closed again before the state that names it is restored.
            History::open(&generation_dir(&self.dir, generation))?.import(from)?;
            codec::encode_into(&Header { generation, ..header }, local)?;
            std::io::copy(from, local)?;
            Ok(())
        };
        import(from, local).map_err(|error| Halt(format!("cannot take a snapshot in: {error}")))
    }
}

fn generation_dir(dir: &Path, generation: u64) -> PathBuf {
    dir.join(format!("history.{generation}"))
}
