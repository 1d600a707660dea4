//! Snapshots as plain files, since hundreds of megabytes are what the database is bad at.
//!
//! ```text
//! "SRAFTSNP"  header length: u32 LE  header (see codec)  body  crc32 of all before: u32 LE
//! ```
//!
//! A file gets its name only once all of it is on disk; so what bears a name and does not match its
//! checksum was damaged later, and is refused, not skipped: an older snapshot may not reach the log.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::Halt;
use crate::codec;
use crate::durable::{create_dir, sync_dir};
use crate::error::Error;
use crate::form;
use crate::types::SnapshotMeta;

const MAGIC: &[u8; 8] = b"SRAFTSNP";
const CRC_BYTES: u64 = 4;
const HEADER_BYTES_MAX: u32 = 1024 * 1024;
const UNFINISHED: &str = "tmp";
/// So much of a snapshot waits for the disk at the most. Were it all synced at its end, whoever syncs a few
/// bytes meanwhile would wait for hundreds of megabytes.
const UNSYNCED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a snapshot holds besides the machine's state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) last: Option<form::LogId>,
    pub(crate) members: form::MembersAt,
    /// The agreed time, which must not go back after a restore either.
    pub(crate) at_ms: u64,
}

impl Header {
    pub(crate) fn meta(&self) -> Result<SnapshotMeta, form::Invalid> {
        Ok(SnapshotMeta {
            last_log_id: self.last.map(Into::into),
            last_membership: self.members.clone().try_into()?,
        })
    }

    fn order(&self) -> Option<(u64, u64)> {
        self.last.map(|id| (id.index, id.term))
    }
}

/// A complete snapshot, in local form.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) header: Header,
    path: PathBuf,
    /// Kept open, so that it can be read to its end after a newer one has taken its place.
    file: Arc<File>,
    body: (u64, u64),
}

/// A file that has no name yet that counts. It goes when this goes.
#[derive(Debug)]
struct Unfinished(PathBuf);

/// What a peer sent, in transfer form.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) header: Header,
    file: Unfinished,
}

/// A snapshot that is whole and durable, in local form, and not yet the newest.
#[derive(Debug)]
pub(crate) struct Prepared {
    stored: Stored,
    _file: Unfinished,
}

/// The directory of snapshots, and the newest of them.
#[derive(Debug)]
pub(crate) struct Files {
    dir: PathBuf,
    newest: Mutex<Option<Stored>>,
    unfinished: AtomicU64,
}

impl Files {
    /// Opens the directory: removes what was never finished and what is superseded, and checks every
    /// byte of the newest.
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        create_dir(dir)?;
        let mut named = Vec::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some(UNFINISHED) => fs::remove_file(&path)?,
                Some("snapshot") => named.push(path),
                _ => {}
            }
        }
        named.sort();
        let newest = named.pop();
        for path in named {
            fs::remove_file(path)?;
        }
        sync_dir(dir)?;
        let refuse = |path: PathBuf| {
            Stored::open(&path)
                .and_then(|stored| stored.verify().map(|()| stored))
                .map_err(|Halt(what)| Error::Snapshot { path, what })
        };
        let newest = Mutex::new(newest.map(refuse).transpose()?);
        Ok(Self { dir: dir.to_owned(), newest, unfinished: AtomicU64::new(0) })
    }

    /// The newest complete snapshot.
    pub(crate) fn newest(&self) -> Option<Stored> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes a snapshot and returns once it is durable. It becomes the newest, unless there is one
    /// that is newer, and those before it are removed.
    pub(crate) fn write(
        &self,
        header: &Header,
        body: impl FnOnce(&mut dyn Write) -> Result<(), Halt>,
    ) -> Result<Stored, Halt> {
        self.name(self.prepare(header, body)?)
    }

    /// Writes a snapshot and returns once it is durable.
    pub(crate) fn prepare(
        &self,
        header: &Header,
        body: impl FnOnce(&mut dyn Write) -> Result<(), Halt>,
    ) -> Result<Prepared, Halt> {
        let unfinished = self.unfinished();
        let file = Steady { file: File::create(&unfinished.0)?, unsynced: 0 };
        let file = Summed { to: BufWriter::new(file), crc: crc32fast::Hasher::new() };
        write_whole(file, header, body)?;
        Ok(Prepared { stored: Stored::open(&unfinished.0)?, _file: unfinished })
    }

    /// Has a snapshot become the newest, unless there is one that is newer; those before it are removed.
    pub(crate) fn name(&self, prepared: Prepared) -> Result<Stored, Halt> {
        let mut stored = prepared.stored;
        let (index, term) = stored.header.order().unwrap_or_default();
        let name = self.dir.join(format!("{index:020}-{term:020}.snapshot"));
        fs::rename(&stored.path, &name)?;
        sync_dir(&self.dir)?;
        stored.path = name;
        self.publish(&stored)?;
        Ok(stored)
    }

    /// Whether a snapshot lies here already, rather than in another node's directory.
    pub(crate) fn owns(&self, stored: &Stored) -> bool {
        stored.path.parent() == Some(self.dir.as_path())
    }

    /// A file to receive into.
    pub(crate) fn receive(&self, header: Header) -> io::Result<(Received, File)> {
        let unfinished = self.unfinished();
        let file = File::create(&unfinished.0)?;
        Ok((Received { header, file: unfinished }, file))
    }

    fn publish(&self, stored: &Stored) -> io::Result<()> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let old = match newest.take() {
            Some(other) if other.header.order() > stored.header.order() => {
                *newest = Some(other);
                stored.path.clone()
            }
            Some(other) if other.path != stored.path => {
                *newest = Some(stored.clone());
                other.path
            }
            _ => {
                *newest = Some(stored.clone());
                return Ok(());
            }
        };
        fs::remove_file(old)?;
        sync_dir(&self.dir)
    }

    fn unfinished(&self) -> Unfinished {
        let number = self.unfinished.fetch_add(1, Ordering::Relaxed);
        Unfinished(self.dir.join(format!("{number}.{UNFINISHED}")))
    }
}

fn write_whole(
    mut file: Summed<BufWriter<Steady>>,
    header: &Header,
    body: impl FnOnce(&mut dyn Write) -> Result<(), Halt>,
) -> Result<(), Halt> {
    let header = codec::encode(header);
    let length = u32::try_from(header.len()).map_err(|error| Halt(error.to_string()))?;
    file.write_all(MAGIC)?;
    file.write_all(&length.to_le_bytes())?;
    file.write_all(&header)?;
    body(&mut file)?;
    let Summed { mut to, crc } = file;
    to.write_all(&crc.finalize().to_le_bytes())?;
    let file = to.into_inner().map_err(|error| Halt(error.to_string()))?;
    Ok(file.file.sync_all()?)
}

impl Stored {
    fn open(path: &Path) -> Result<Self, Halt> {
        let mut file = File::open(path)?;
        let mut magic = [0; 8];
        file.read_exact(&mut magic)?;
        if &magic != MAGIC {
            return Err(Halt("it does not begin as a snapshot does".to_owned()));
        }
        let mut length = [0; 4];
        file.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length);
        if length > HEADER_BYTES_MAX {
            return Err(Halt(format!("its header claims {length} bytes")));
        }
        let mut header = Vec::new();
        (&mut file).take(u64::from(length)).read_to_end(&mut header)?;
        let header = codec::decode(&header).map_err(|error| Halt(error.to_string()))?;
        let from = file.stream_position()?;
        let to = file.metadata()?.len().checked_sub(CRC_BYTES).filter(|to| *to >= from);
        let to = to.ok_or_else(|| Halt("it is cut short".to_owned()))?;
        Ok(Self { header, path: path.to_owned(), file: Arc::new(file), body: (from, to) })
    }

    /// Reads all of it and compares the checksum.
    fn verify(&self) -> Result<(), Halt> {
        let (_, to) = self.body;
        let mut crc = Summed { to: io::sink(), crc: crc32fast::Hasher::new() };
        let mut from = self.read_at(0, to);
        io::copy(&mut from, &mut crc)?;
        let mut expected = [0; 4];
        self.read_at(to, to + CRC_BYTES).read_exact(&mut expected)?;
        if crc.crc.finalize() == u32::from_le_bytes(expected) {
            return Ok(());
        }
        Err(Halt("it does not match its checksum".to_owned()))
    }

    /// The machine's state, in local form.
    pub(crate) fn body(&self) -> impl Read + use<> {
        let (from, to) = self.body;
        self.read_at(from, to)
    }

    /// Every reader has a position of its own on the one open file.
    fn read_at(&self, from: u64, to: u64) -> impl Read + use<> {
        BufReader::with_capacity(64 * 1024, Part { file: Arc::clone(&self.file), from, to })
    }
}

impl Received {
    /// What was received, from its beginning.
    pub(crate) fn body(&self) -> io::Result<impl Read + use<>> {
        Ok(BufReader::new(File::open(&self.file.0)?))
    }
}

impl Prepared {
    /// The machine's state, in local form.
    pub(crate) fn body(&self) -> impl Read + use<> {
        self.stored.body()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Gone already where it was given its name.
        let _ = fs::remove_file(&self.0);
    }
}

/// A range of a file.
struct Part {
    file: Arc<File>,
    from: u64,
    to: u64,
}

impl Read for Part {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        use std::os::unix::fs::FileExt;
        let left = usize::try_from(self.to - self.from).unwrap_or(usize::MAX);
        let want = to.len().min(left);
        let Some(to) = to.get_mut(..want) else { return Ok(0) };
        let read = self.file.read_at(to, self.from)?;
        self.from += u64::try_from(read).map_err(io::Error::other)?;
        Ok(read)
    }
}

/// A file that is synced as it grows.
struct Steady {
    file: File,
    unsynced: usize,
}

impl Write for Steady {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.unsynced += written;
        if self.unsynced >= UNSYNCED_BYTES_MAX {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Sums up what passes through.
struct Summed<W> {
    to: W,
    crc: crc32fast::Hasher,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.crc.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(index: u64) -> Header {
        Header { last: Some(form::LogId { term: 1, index }), at_ms: index, ..Header::default() }
    }

    fn write(files: &Files, index: u64) -> Stored {
        files
            .write(&header(index), |to| Ok(to.write_all(format!("state at {index}").as_bytes())?))
            .unwrap()
    }

    fn names(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    // A node that starts from an older snapshot than it purged its log for has lost entries.
    #[test]
    fn the_newest_is_found_again_and_the_rest_removed() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path()).unwrap();
        assert!(files.newest().is_none());
        let first = write(&files, 7);
        write(&files, 9);
        write(&files, 8);
        assert_eq!(files.newest().unwrap().header, header(9), "an older one came late");
        let mut state = String::new();
        first.body().read_to_string(&mut state).unwrap();
        assert_eq!(state, "state at 7", "one that is being sent is read to its end");

        fs::write(dir.path().join("3.tmp"), b"half of a snapshot").unwrap();
        let files = Files::open(dir.path()).unwrap();
        assert_eq!(files.newest().unwrap().header, header(9));
        assert_eq!(names(dir.path()).len(), 1);
    }

    // A damaged snapshot must stop the start: half a state looks like a state.
    #[test]
    fn a_damaged_snapshot_is_refused_wherever_it_was_hit() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path()).unwrap();
        let path = write(&files, 7).path;
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            fs::write(&path, &damaged).unwrap();
            assert!(matches!(Files::open(dir.path()), Err(Error::Snapshot { .. })), "byte {at}");
            fs::write(&path, &whole[..at]).unwrap();
            assert!(matches!(Files::open(dir.path()), Err(Error::Snapshot { .. })), "cut at {at}");
        }
    }

    // A snapshot that could not be written must leave nothing that looks like one.
    #[test]
    fn a_failed_write_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path()).unwrap();
        let failed = files.write(&header(1), |_| Err(Halt("no".to_owned())));
        assert_eq!(failed.unwrap_err(), Halt("no".to_owned()));
        drop(files.receive(header(2)).unwrap());
        assert!(names(dir.path()).is_empty());
    }
}
