//! Small records on disk, and the one function that means "durable". This is the only file that
//! names sled.
//!
//! Three facts about sled 0.34 shape it, each found by cutting the power of a file system:
//!
//! * its `flush()` ends in `sync_file_range`, which promises nothing about file sizes or the disk's
//!   own cache; so [`Db::make_durable`] follows it with fdatasync of the same file;
//! * a page that grows past a quarter of a segment becomes a file of its own which nothing ever
//!   syncs, and after a power loss the whole database refuses to open; so no record is larger than a
//!   seventieth of a segment, and larger values are stored in [chunks](Db::write);
//! * removing thousands of records at once stalls it for hundreds of milliseconds; so callers remove
//!   few at a time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

pub(crate) mod chunk;

const CACHE_BYTES: u64 = 32 * 1024 * 1024;
const CLOSING_WAIT: Duration = Duration::from_millis(5);
const CLOSING_WAITS_MAX: u32 = 1_000;
/// A page holds up to about 17 records and must stay below a quarter of a segment.
const RECORDS_PER_SEGMENT: usize = 70;

/// How large the records are, which sets how large the pieces are in which the file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Records {
    /// Records up to 7 KB, in segments of 512 KiB.
    Small,
    /// Records up to 30 KB, in segments of 2 MiB.
    Medium,
}

impl Records {
    fn segment_bytes(self) -> usize {
        match self {
            Self::Small => 512 * 1024,
            Self::Medium => 2 * 1024 * 1024,
        }
    }

    /// The most bytes of key and value together that one record may have.
    #[must_use]
    pub fn record_bytes_max(self) -> usize {
        self.segment_bytes() / RECORDS_PER_SEGMENT
    }
}

/// What can go wrong with a database. Each says one sentence that an operator can act on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has the directory open.
    #[error("{} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// The disk is full. Nothing is wrong with what is stored.
    #[error("the disk that holds {} is full", .0.display())]
    Full(PathBuf),
    /// What was stored is not what was written.
    #[error("{} is corrupt: {what}", dir.display())]
    Corrupt {
        /// The directory of the database.
        dir: PathBuf,
        /// Which key, and what is wrong with it.
        what: String,
    },
    /// A key leaves no room for a value beside it. Nothing was written.
    #[error("a key of {key_bytes} bytes is too long for records of {record_bytes_max}")]
    KeyTooLong {
        /// Length of the key.
        key_bytes: usize,
        /// What [`Records`] allows.
        record_bytes_max: usize,
    },
    /// Reading or writing failed.
    #[error("{what} {}: {source}", dir.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// The directory of the database.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A key and the whole of its value.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// Writes that become visible, and survive, all or none. Made by `Batch::default()`.
///
/// Of two writes to one key, the later counts.
#[derive(Debug, Default, Clone)]
pub struct Batch(BTreeMap<Vec<u8>, Option<Vec<u8>>>);

impl Batch {
    /// Stores `value` under `key`, in place of what was there.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.0.insert(key.to_vec(), Some(value.to_vec()));
    }

    /// Removes `key` and all of its value. Removing what is not there is allowed.
    pub fn remove(&mut self, key: &[u8]) {
        self.0.insert(key.to_vec(), None);
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many keys it touches.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl IntoIterator for Batch {
    type Item = (Vec<u8>, Option<Vec<u8>>);
    type IntoIter = std::collections::btree_map::IntoIter<Vec<u8>, Option<Vec<u8>>>;

    /// Keys in order, each with its new value; without one it is removed.
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// A database in a directory of its own. Cheap to clone; all clones are the same database.
///
/// One thread writes at a time, any number may read beside it. Keys of one keyspace have one length,
/// and no key is a prefix of another.
#[derive(Debug, Clone)]
pub struct Db(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tree: sled::Db,
    records: Records,
    dir: PathBuf,
    /// A second handle to sled's own file: fdatasync works on the file, whoever wrote to it.
    file: File,
    /// When the directory last changed, to know when it has to be synced again.
    dir_changed: Mutex<Option<SystemTime>>,
    /// Held for its lock, and last so that it is released last.
    _lock: File,
}

impl Db {
    /// Opens the database in `dir`, which is created if it is not there.
    ///
    /// Refuses a directory that another process has open, that cannot be written, or whose contents
    /// were damaged; nothing is repaired by guessing.
    pub fn open(dir: &Path, records: Records) -> Result<Self, Error> {
        let failed = |what| move |source| Error::io(what, dir, source);
        create_dir(dir).map_err(failed("cannot create"))?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join("lock"))
            .map_err(failed("cannot write to"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Locked(dir.to_owned())),
            Err(TryLockError::Error(source)) => return Err(Error::io("cannot lock", dir, source)),
        }
        let tree = open_tree(dir, records)?;
        let file = File::open(dir.join("db")).map_err(failed("cannot open"))?;
        file.sync_all().map_err(failed("cannot sync"))?;
        sync_dir(dir).map_err(failed("cannot sync"))?;
        Ok(Self(Arc::new(Inner {
            tree,
            records,
            dir: dir.to_owned(),
            file,
            dir_changed: Mutex::new(None),
            _lock: lock,
        })))
    }

    /// Writes a batch: readers see all of it or nothing, and so does whoever opens the database after
    /// a crash. It is not durable before [`Db::make_durable`] has returned.
    ///
    /// A value longer than a record is stored in chunks, the last with their count and a checksum.
    pub fn write(&self, batch: Batch) -> Result<(), Error> {
        let mut rows = sled::Batch::default();
        for (key, value) in batch.0 {
            let stored = match value {
                Some(value) => self.put(&mut rows, &key, &value)?,
                None => 0,
            };
            self.remove_from(&mut rows, &key, stored)?;
        }
        self.0.tree.apply_batch(rows).map_err(self.failed("cannot write to"))
    }

    /// Returns once everything written before the call survives a power loss.
    ///
    /// After an error it must not be called again in the hope of better: the kernel may have dropped
    /// the pages that it could not write. See [`halt`].
    pub fn make_durable(&self) -> Result<(), Error> {
        #[allow(clippy::disallowed_methods, reason = "this is the function that does it right")]
        self.0.tree.flush().map_err(self.failed("cannot flush"))?;
        if planted::skips_fdatasync() {
            return Ok(());
        }
        self.0.file.sync_data().map_err(|source| Error::io("cannot sync", &self.0.dir, source))?;
        self.sync_dir_if_changed()
            .map_err(|source| Error::io("cannot sync the directory", &self.0.dir, source))
    }

    /// The whole value under `key`, verified by its count of chunks and its checksum.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let rows = self.0.tree.range(chunk::row(key, 0)..=chunk::row(key, u32::MAX));
        self.entries(rows).next().transpose().map(|entry| entry.map(|(_, value)| value))
    }

    /// Whole values in ascending order of their keys, from `from` up to but without `to`.
    ///
    /// What is written while the iterator lives may or may not be seen.
    #[must_use]
    pub fn range(&self, from: &[u8], to: &[u8]) -> Entries {
        let rows = if from < to { self.0.tree.range(from..to) } else { self.0.tree.range(to..to) };
        self.entries(rows)
    }

    /// The greatest key from `from` up to but without `to`, and its value.
    pub fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<KeyValue>, Error> {
        if from >= to {
            return Ok(None);
        }
        let Some(row) = self.0.tree.range(from..to).next_back() else { return Ok(None) };
        let (row, _) = row.map_err(self.failed("cannot read"))?;
        let Some((key, _)) = chunk::split_row(&row) else {
            return Err(self.corrupt(&row, "is not a key and a chunk number"));
        };
        Ok(self.get(key)?.map(|value| (key.to_vec(), value)))
    }

    /// Bytes that the database takes on its disk, or 0 when the directory cannot be read.
    #[must_use]
    pub fn size_on_disk(&self) -> u64 {
        self.0.tree.size_on_disk().unwrap_or(0)
    }

    /// Whether no page ever became a file of its own, which must hold at all times.
    #[must_use]
    pub fn blobs_empty(&self) -> bool {
        fs::read_dir(self.0.dir.join("blobs")).is_ok_and(|mut files| files.next().is_none())
    }

    /// The directory that it was opened in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    fn put(&self, rows: &mut sled::Batch, key: &[u8], value: &[u8]) -> Result<u32, Error> {
        let record_bytes_max = self.0.records.record_bytes_max();
        let too_long = Error::KeyTooLong { key_bytes: key.len(), record_bytes_max };
        let chunks = chunk::split(key, value, record_bytes_max).ok_or(too_long)?;
        let mut count = 0;
        for (row, bytes) in chunks {
            assert!(row.len() + bytes.len() <= record_bytes_max, "a record above the limit");
            rows.insert(row, bytes);
            count += 1;
        }
        Ok(count)
    }

    /// Removes the chunks from `first` on which an earlier, longer value may have left.
    fn remove_from(&self, rows: &mut sled::Batch, key: &[u8], first: u32) -> Result<(), Error> {
        let from = chunk::row(key, first);
        // Chunks have no gaps, and most values replace none: one look tells.
        if !self.0.tree.contains_key(&from).map_err(self.failed("cannot read"))? {
            return Ok(());
        }
        let old = self.0.tree.range(from..=chunk::row(key, u32::MAX));
        for row in old.keys() {
            rows.remove(row.map_err(self.failed("cannot read"))?);
        }
        Ok(())
    }

    fn entries(&self, rows: sled::Iter) -> Entries {
        Entries { db: self.clone(), rows, failed: false }
    }

    fn sync_dir_if_changed(&self) -> io::Result<()> {
        let changed = fs::metadata(&self.0.dir)?.modified()?;
        let mut last = self.0.dir_changed.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != Some(changed) {
            sync_dir(&self.0.dir)?;
            *last = Some(changed);
        }
        Ok(())
    }

    fn failed(&self, what: &'static str) -> impl Fn(sled::Error) -> Error + use<'_> {
        move |error| Error::sled(what, &self.0.dir, error)
    }

    fn corrupt(&self, key: &[u8], what: &str) -> Error {
        let mut text = String::from("key ");
        for byte in key {
            let _ = write!(text, "{byte:02x}");
        }
        let _ = write!(text, " {what}");
        Error::Corrupt { dir: self.0.dir.clone(), what: text }
    }
}

/// Whole values in ascending order; made by [`Db::range`]. Ends after the first error.
pub struct Entries {
    db: Db,
    rows: sled::Iter,
    failed: bool,
}

impl Entries {
    fn read(&mut self) -> Result<Option<KeyValue>, Error> {
        let mut whole: Option<(Vec<u8>, chunk::Joiner)> = None;
        for row in self.rows.by_ref() {
            let (row, bytes) = row.map_err(self.db.failed("cannot read"))?;
            let Some((key, number)) = chunk::split_row(&row) else {
                return Err(self.db.corrupt(&row, "is not a key and a chunk number"));
            };
            let (of, joiner) =
                whole.get_or_insert_with(|| (key.to_vec(), chunk::Joiner::default()));
            if of != key {
                return Err(self.db.corrupt(of, "lacks its last chunk"));
            }
            match joiner.push(number, &bytes) {
                Ok(None) => {}
                Ok(Some(value)) => return Ok(Some((key.to_vec(), value))),
                Err(what) => return Err(self.db.corrupt(key, what)),
            }
        }
        match whole {
            None => Ok(None),
            Some((key, _)) => Err(self.db.corrupt(&key, "lacks its last chunk")),
        }
    }
}

impl Iterator for Entries {
    type Item = Result<KeyValue, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let entry = self.read().transpose();
        self.failed = matches!(entry, Some(Err(_)));
        entry
    }
}

impl Error {
    fn io(what: &'static str, dir: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(dir.to_owned()),
            _ => Self::Io { what, dir: dir.to_owned(), source },
        }
    }

    fn sled(what: &'static str, dir: &Path, error: sled::Error) -> Self {
        match error {
            sled::Error::Io(source) => Self::io(what, dir, source),
            sled::Error::Corruption { .. } => {
                Self::Corrupt { dir: dir.to_owned(), what: error.to_string() }
            }
            error => Self::io(what, dir, io::Error::other(error.to_string())),
        }
    }
}

/// Opens sled itself. Its threads may hold its file for a moment after the last `Db` of this process
/// was dropped; ours is the only process here, since we hold the lock, so that moment is waited for.
fn open_tree(dir: &Path, records: Records) -> Result<sled::Db, Error> {
    let config = sled::Config::new()
        .path(dir)
        .mode(sled::Mode::LowSpace)
        .cache_capacity(CACHE_BYTES)
        .segment_size(records.segment_bytes())
        .flush_every_ms(None);
    for _ in 0..CLOSING_WAITS_MAX {
        match config.open() {
            Ok(tree) => return Ok(tree),
            Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => {
                std::thread::sleep(CLOSING_WAIT);
            }
            Err(error) => return Err(Error::sled("cannot open", dir, error)),
        }
    }
    Err(Error::Locked(dir.to_owned()))
}

/// Creates a directory and what is missing above it, and makes all of their names durable: a power loss
/// must not take a whole database away with the name of its directory.
pub fn create_dir(dir: &Path) -> io::Result<()> {
    let missing: Vec<_> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
    fs::create_dir_all(dir)?;
    for created in missing.into_iter().filter(|created| !created.as_os_str().is_empty()) {
        let parent = created.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_dir(parent.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

/// Makes the names in a directory durable: files that were created, renamed or removed in it.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Ends the process with one line, for an error on the way to the disk.
///
/// A failed fsync may have dropped the pages that it should have written, so that the next one
/// succeeds without them; going on would be to promise what is not there. What was durable before is
/// untouched, and a new start reads it.
pub fn halt(what: &str, error: &dyn std::error::Error) -> ! {
    eprintln!("stockraft stops: {what}: {error}");
    std::process::exit(HALT_EXIT_CODE)
}

/// The exit code of [`halt`] (`EX_IOERR`).
pub const HALT_EXIT_CODE: i32 = 74;

#[cfg(feature = "planted-bugs")]
mod planted {
    use std::sync::atomic::{AtomicBool, Ordering};

    static SKIP_FDATASYNC: AtomicBool = AtomicBool::new(false);

    /// From here on [`Db::make_durable`](super::Db::make_durable) lies: it flushes and does not sync.
    /// For the test that cuts the power, which must then fail.
    pub fn plant_skip_fdatasync() {
        SKIP_FDATASYNC.store(true, Ordering::SeqCst);
    }

    pub(super) fn skips_fdatasync() -> bool {
        SKIP_FDATASYNC.load(Ordering::SeqCst)
    }
}

#[cfg(not(feature = "planted-bugs"))]
mod planted {
    pub(super) const fn skips_fdatasync() -> bool {
        false
    }
}

#[cfg(feature = "planted-bugs")]
pub use planted::plant_skip_fdatasync;
