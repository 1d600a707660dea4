//! The machine behind its lock, without its type: nothing else here needs to know it.

use std::io::Read;
use std::sync::{Arc, RwLock};

use super::{Entry, Halt, Snapshot, StateMachine, Transfer};

/// The lock is taken to write for one bounded batch at a time, so readers wait for a batch at most.
pub(crate) trait Shared: Send + Sync {
    fn apply(&self, entries: &[Entry<'_>]) -> Result<Vec<Vec<u8>>, Halt>;
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, Halt>;
    /// Reads a state, which takes as long as it takes; the machine is as it was until the state is taken over.
    fn read(self: Arc<Self>, local: &mut dyn Read) -> Result<TakeOver, Halt>;
    fn transfer(&self) -> Result<Arc<dyn Transfer>, Halt>;
}

/// A state that was read, about to replace the machine's.
pub(crate) struct TakeOver(Box<dyn FnOnce() -> Result<(), Halt> + Send>);

impl TakeOver {
    pub(crate) fn run(self) -> Result<(), Halt> {
        (self.0)()
    }
}

impl std::fmt::Debug for TakeOver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TakeOver")
    }
}

impl<M: StateMachine> Shared for RwLock<M> {
    fn apply(&self, entries: &[Entry<'_>]) -> Result<Vec<Vec<u8>>, Halt> {
        let replies = self.write().map_err(poisoned)?.apply(entries)?;
        if replies.len() == entries.len() {
            return Ok(replies);
        }
        Err(Halt(format!("{} replies to {} entries", replies.len(), entries.len())))
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, Halt> {
        Ok(RwLock::read(self).map_err(poisoned)?.snapshot())
    }

    fn read(self: Arc<Self>, local: &mut dyn Read) -> Result<TakeOver, Halt> {
        let swap = RwLock::read(&self).map_err(poisoned)?.restore(local)?;
        Ok(TakeOver(Box::new(move || {
            swap(&mut *self.write().map_err(poisoned)?);
            Ok(())
        })))
    }

    fn transfer(&self) -> Result<Arc<dyn Transfer>, Halt> {
        Ok(RwLock::read(self).map_err(poisoned)?.transfer())
    }
}

/// Half of a batch may have been applied, so the state is not that of any index.
fn poisoned<T>(_: T) -> Halt {
    Halt("the machine panicked while it was locked".to_owned())
}
