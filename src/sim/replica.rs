//! A simulated node's replica: the product's state and chain of movements, without its disk.

use std::sync::{Arc, OnceLock};

use cluster::codec;
use state::{Command, Data, Effects, Reply, Stamp, State};

use crate::digest::Digester;
use crate::history::{self, Hash};

/// One agreed command, and what came of it where it was applied first.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) index: u64,
    pub(super) at_ms: u64,
    pub(super) command: Arc<[u8]>,
    /// True time at which it was agreed on.
    pub(super) agreed: u64,
    pub(super) reply: Arc<[u8]>,
    /// The chain of movements after it.
    pub(super) chain: Hash,
}

/// A state that was written down.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) index: u64,
    pub(super) chain: Hash,
    pub(super) bytes: Arc<[u8]>,
    /// What it holds, once somebody has read it: reading it again would give the same.
    read: Arc<OnceLock<(State, Digester)>>,
}

#[derive(Default)]
pub(super) struct Replica {
    pub(super) state: State,
    pub(super) chain: Hash,
    pub(super) index: u64,
    digester: Digester,
    restores: u64,
}

impl Replica {
    pub(super) fn apply(&mut self, stamp: Stamp, command: Command) -> (Reply, Effects) {
        let (reply, effects) = self.state.apply(stamp, command);
        for movement in &effects.movements {
            self.chain = history::link(&self.chain, movement);
        }
        self.index = stamp.index;
        (reply, effects)
    }

    /// Applies an entry that was applied elsewhere before. The error says how it differs.
    pub(super) fn follow(&mut self, entry: &Entry) -> Result<(), String> {
        let command = codec::decode(&entry.command).map_err(|error| error.to_string())?;
        let (reply, _) = self.apply(Stamp { index: entry.index, now: entry.at_ms }, command);
        if codec::encode(&reply) != *entry.reply {
            return Err(format!("entry {} was answered {reply:?}", entry.index));
        }
        if self.chain != entry.chain {
            return Err(format!("entry {} moved something else", entry.index));
        }
        Ok(())
    }

    pub(super) fn digest(&mut self) -> Hash {
        self.digester.digest(self.state.data(), &self.chain, self.restores)
    }

    pub(super) fn freeze(&self) -> Frozen {
        Frozen { data: self.state.data().clone(), index: self.index, chain: self.chain }
    }

    pub(super) fn restore(snapshot: &Snapshot) -> Result<Self, String> {
        let Snapshot { index, chain, bytes, read } = snapshot;
        if read.get().is_none() {
            let mut from = &**bytes;
            let data: Data = codec::decode_from(&mut from).map_err(|error| error.to_string())?;
            let mut digester = Digester::default();
            digester.digest(&data, chain, 0);
            // Nobody else is here to be first.
            let _ = read.set((State::new(data), digester));
        }
        let (state, digester) = read.get().cloned().unwrap_or_default();
        Ok(Self { state, chain: *chain, index: *index, digester, restores: 0 })
    }
}

/// A state as it was, which is written down while commands go on.
pub(super) struct Frozen {
    data: Data,
    pub(super) index: u64,
    pub(super) chain: Hash,
}

impl Frozen {
    pub(super) fn write(&self) -> Snapshot {
        let bytes = codec::encode(&self.data).into();
        Snapshot { index: self.index, chain: self.chain, bytes, read: Arc::default() }
    }
}
