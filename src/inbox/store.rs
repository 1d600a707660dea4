//! What an inbox needs of a disk.

use cluster::durable::{Batch, Db, Error, KeyValue};

/// Small records, written in batches. Cheap to clone; all clones are the same store.
pub trait Store: Clone + Send + Sync + 'static {
    /// Writes a batch, all of it or nothing; not durable before [`make_durable`](Self::make_durable).
    fn write(&self, batch: Batch) -> Result<(), Error>;

    /// Returns once everything written before survives a power loss. After an error nothing is known, and
    /// the process must end.
    fn make_durable(&self) -> Result<(), Error>;

    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// Records in the order of their keys, from `from` up to but without `to`.
    fn range(&self, from: &[u8], to: &[u8]) -> impl Iterator<Item = Result<KeyValue, Error>>;

    /// Bytes that the disk has left.
    fn free_bytes(&self) -> u64;

    /// That what is stored is not what was written.
    fn corrupt(&self, what: String) -> Error;
}

impl Store for Db {
    fn write(&self, batch: Batch) -> Result<(), Error> {
        self.write(batch)
    }

    fn make_durable(&self) -> Result<(), Error> {
        self.make_durable()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.get(key)
    }

    fn range(&self, from: &[u8], to: &[u8]) -> impl Iterator<Item = Result<KeyValue, Error>> {
        self.range(from, to)
    }

    fn free_bytes(&self) -> u64 {
        let free = rustix::fs::statvfs(self.dir());
        free.map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn corrupt(&self, what: String) -> Error {
        Error::Corrupt { dir: self.dir().to_path_buf(), what }
    }
}
