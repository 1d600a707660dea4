//! The seam: what this crate needs to know of the thing that it replicates.

use std::io::{Read, Write};
use std::sync::Arc;

pub(crate) mod adapter;
pub(crate) mod files;
pub(crate) mod shared;

/// One agreed command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its place in the log. Grows, with gaps: raft's own entries have places too.
    pub index: u64,
    /// The agreed time in milliseconds, stamped by the leader. Never less than that of the entry
    /// before, across leaders and restarts.
    pub at_ms: u64,
    /// The bytes that were proposed.
    pub command: &'a [u8],
}

/// "Stop this node": a command that this release cannot decode, or a broken invariant, must not be
/// skipped, or two nodes would differ.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Halt(pub String);

impl From<std::io::Error> for Halt {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// What is replicated. On equal entries all nodes must do and answer the same: no clock, no random
/// number, no order of a hash map.
pub trait StateMachine: Send + Sync + 'static {
    /// Applies entries in order; one reply each. (Raft's own entries never come here.)
    fn apply(&mut self, entries: &[Entry<'_>]) -> Result<Vec<Vec<u8>>, Halt>;

    /// A cheap handle on the state as it is now. It is written on another thread while `apply` goes on.
    fn snapshot(&self) -> Box<dyn Snapshot>;

    /// Reads a snapshot in its local form, which takes as long as it takes, and returns what replaces
    /// all state by it, which must be quick: only that happens while nobody else can read.
    fn restore(&self, local: &mut dyn Read) -> Result<Swap<Self>, Halt>
    where
        Self: Sized;

    /// The translator between the local form of a snapshot (small; side data stays where it is) and
    /// the transfer form (everything that a peer needs). Asked for once, at the start.
    fn transfer(&self) -> Arc<dyn Transfer>;
}

/// Puts a state that was read in place of the one that is there.
pub type Swap<M> = Box<dyn FnOnce(&mut M) + Send>;

/// The state at one moment.
pub trait Snapshot: Send {
    /// First makes durable whatever lies beside the state, then writes the local form.
    fn write(self: Box<Self>, to: &mut dyn Write) -> Result<(), Halt>;
}

/// Carries snapshots from one node's disk to another's. Both directions stream: neither may hold a
/// whole snapshot in memory.
pub trait Transfer: Send + Sync {
    /// On the sending node: reads the local form and writes the transfer form.
    fn export(&self, local: &mut dyn Read, to: &mut dyn Write) -> Result<(), Halt>;

    /// On the receiving node: builds side data beside the old and makes it durable, then writes the
    /// local form that names it. The old stays in use until `restore` reads that local form.
    fn import(&self, from: &mut dyn Read, local: &mut dyn Write) -> Result<(), Halt>;
}
