//! A simulated disk: what was not made durable is lost when its node dies, in part or as a whole.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use cluster::durable::{Batch, Error, KeyValue};

use super::faults::Fault;
use super::world::Sim;
use crate::inbox::Store;

/// Bytes that a disk has left, and when it is nearly full.
const FREE: u64 = 1 << 40;
const NEARLY_FULL: u64 = 1 << 20;

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// What lies on the disk of one node.
#[derive(Default)]
pub(super) struct Platter {
    durable: Records,
    /// What a running process sees.
    seen: Records,
    /// Batches that a power loss may take.
    pending: Vec<Batch>,
    pub(super) full: bool,
    /// The next write fails, and so does the process.
    pub(super) failing: bool,
}

fn put(records: &mut Records, batch: Batch) {
    for (key, value) in batch {
        match value {
            Some(value) => records.insert(key, value),
            None => records.remove(&key),
        };
    }
}

impl Platter {
    /// The process died: the first so many of the batches that were not made durable survive.
    pub(super) fn crash(&mut self, survive: usize) {
        for batch in std::mem::take(&mut self.pending).into_iter().take(survive) {
            put(&mut self.durable, batch);
        }
        self.seen = self.durable.clone();
        (self.full, self.failing) = (false, false);
    }

    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }
}

/// The disk of one node.
#[derive(Clone)]
pub(super) struct Disk {
    pub(super) sim: Sim,
    pub(super) node: usize,
}

impl Disk {
    fn with<T>(&self, look: impl FnOnce(&mut Platter) -> T) -> T {
        self.sim.with(|world| look(&mut world.node(self.node).disk))
    }

    fn failed(what: &'static str) -> Error {
        let source = io::Error::other("simulated");
        Error::Io { what, dir: PathBuf::from("disk"), source }
    }
}

impl Store for Disk {
    fn write(&self, batch: Batch) -> Result<(), Error> {
        self.with(|platter| {
            put(&mut platter.seen, batch.clone());
            platter.pending.push(batch);
        });
        Ok(())
    }

    fn make_durable(&self) -> Result<(), Error> {
        let fails = self.sim.with(|world| {
            let fails = std::mem::take(&mut world.node(self.node).disk.failing);
            if fails {
                world.count(Fault::DiskError);
            }
            fails
        });
        if fails {
            return Err(Self::failed("cannot sync"));
        }
        self.with(|platter| {
            for batch in std::mem::take(&mut platter.pending) {
                put(&mut platter.durable, batch);
            }
        });
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.with(|platter| platter.seen.get(key).cloned()))
    }

    fn range(&self, from: &[u8], to: &[u8]) -> impl Iterator<Item = Result<KeyValue, Error>> {
        let (from, to) = (from.to_vec(), to.to_vec());
        let found: Vec<KeyValue> = self.with(|platter| {
            let range = platter.seen.range(from..to);
            range.map(|(key, value)| (key.clone(), value.clone())).collect()
        });
        found.into_iter().map(Ok)
    }

    fn free_bytes(&self) -> u64 {
        self.with(|platter| if platter.full { NEARLY_FULL } else { FREE })
    }

    fn corrupt(&self, what: String) -> Error {
        Error::Corrupt { dir: PathBuf::from("disk"), what }
    }
}
