//! The machine behind its lock, without its type: nothing else here needs to know it.

use std::io::Read;
use std::sync::{Arc, RwLock};

use super::{Entry, Halt, Snapshot, StateMachine, Transfer};

/// The lock is taken to write for one bounded batch at a time, so readers wait for a batch at most.
pub(crate) trait Shared: Send + Sync {
    fn apply(&self, entries: &[Entry<'_>]) -> Result<Vec<Vec<u8>>, Halt>;
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, Halt>;
    fn restore(&self, local: &mut dyn Read) -> Result<(), Halt>;
    fn transfer(&self) -> Result<Arc<dyn Transfer>, Halt>;
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
        Ok(self.read().map_err(poisoned)?.snapshot())
    }

    fn restore(&self, local: &mut dyn Read) -> Result<(), Halt> {
        let swap = self.read().map_err(poisoned)?.restore(local)?;
        swap(&mut *self.write().map_err(poisoned)?);
        Ok(())
    }

    fn transfer(&self) -> Result<Arc<dyn Transfer>, Halt> {
        Ok(self.read().map_err(poisoned)?.transfer())
    }
}

/// Half of a batch may have been applied, so the state is not that of any index.
fn poisoned<T>(_: T) -> Halt {
    Halt("the machine panicked while it was locked".to_owned())
}
