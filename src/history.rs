//! History: every line of the ledger and the bodies of dead letters, beside the state, on disk.
//!
//! Records are keyed by log index, so that replaying an entry writes them again. Movements are
//! chained: each one's hash covers it and the one before, over the whole ledger. How bodies lie: `bodies`.

use std::io::{Read, Write};
use std::path::Path;

use cluster::codec;
use cluster::durable::{self, Batch, Db, Records};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use state::Key;
use state::ledger::Movement;

pub use bodies::{Bodies, put_bodies};

mod bodies;

/// A SHA-256.
pub type Hash = [u8; 32];

const MOVEMENTS: u8 = 1;
const BODIES: u8 = 2;
const ARRIVALS: u8 = 3;
const NEEDED: u8 = 4;
/// One record on its way: the most that one log entry leaves behind, many times over.
const RECORD_BYTES_MAX: u64 = 256 << 20;
/// Records written at once when a history is received.
const IMPORT_BATCH: usize = 64;

/// The movements of one log entry, each with its hash in the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lines(pub Vec<(Movement, Hash)>);

/// The deliveries of one log entry that were applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrivals {
    /// When they were made durable where they were received, by that node's clock.
    pub durable_ms: u64,
    /// Their keys, and when each was received.
    pub received: Vec<(Key, u64)>,
}

/// The history of one replica. Cheap to clone.
#[derive(Clone, Debug)]
pub struct History {
    db: Db,
}

/// What went wrong with a history.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed or is corrupt.
    #[error(transparent)]
    Store(#[from] durable::Error),
    /// A record cannot be read.
    #[error("a record of the history: {0}")]
    Record(#[from] codec::Error),
    /// A stream ended too soon or failed.
    #[error("the stream of a history: {0}")]
    Stream(#[from] std::io::Error),
}

/// One record on its way to another node; `None` at the end.
type Framed = Option<(Vec<u8>, Vec<u8>)>;

impl History {
    /// Opens or creates the history in a directory.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Ok(Self { db: Db::open(dir, Records::Medium)? })
    }

    /// Writes what entries left behind; not durable before [`make_durable`](Self::make_durable).
    pub fn write(&self, batch: Batch) -> Result<(), Error> {
        if batch.is_empty() { Ok(()) } else { Ok(self.db.write(batch)?) }
    }

    /// Makes everything written so far survive a power loss.
    pub fn make_durable(&self) -> Result<(), Error> {
        Ok(self.db.make_durable()?)
    }

    /// The movements of one entry.
    pub fn lines(&self, index: u64) -> Result<Option<Lines>, Error> {
        let bytes = self.db.get(&movements_key(index))?;
        bytes.map(|bytes| codec::decode(&bytes).map_err(Error::from)).transpose()
    }

    /// The deliveries that one entry applied.
    pub fn arrivals(&self, index: u64) -> Result<Option<Arrivals>, Error> {
        let bytes = self.db.get(&arrivals_key(index))?;
        bytes.map(|bytes| codec::decode(&bytes).map_err(Error::from)).transpose()
    }

    /// The lines of a SKU, newest first, from the entry `newest` backwards.
    pub fn of_sku<'a>(
        &'a self,
        sku: &'a str,
        newest: u64,
    ) -> impl Iterator<Item = Result<(u64, Movement, Hash), Error>> + 'a {
        let mut next = newest;
        let entries = std::iter::from_fn(move || {
            if next == 0 {
                return None;
            }
            let index = next;
            match self.lines(index) {
                Ok(lines) => {
                    let of_sku = lines.map(|lines| lines.0).unwrap_or_default();
                    let mut of_sku: Vec<(u64, Movement, Hash)> = of_sku
                        .into_iter()
                        .filter(|(movement, _)| movement.sku == sku)
                        .map(|(movement, hash)| (index, movement, hash))
                        .collect();
                    // The first of the entry points to the entry before; later ones to their own.
                    next = of_sku.first().map_or(0, |(_, movement, _)| movement.previous);
                    of_sku.reverse();
                    Some(Ok(of_sku))
                }
                Err(error) => {
                    next = 0;
                    Some(Err(error))
                }
            }
        });
        entries.flat_map(|lines| match lines {
            Ok(lines) => lines.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        })
    }

    /// All lines through a log index, in the order of the log.
    pub fn all(
        &self,
        through: u64,
    ) -> impl Iterator<Item = Result<(u64, Movement, Hash), Error>> + use<> {
        let records = self.db.range(&movements_key(0), &movements_key(through.saturating_add(1)));
        let entries = records.map(|record| {
            let (key, bytes) = record?;
            let index = key.get(1..).and_then(|index| index.try_into().ok());
            let index = index.map_or(0, u64::from_be_bytes);
            let Lines(lines) = codec::decode(&bytes)?;
            Ok((index, lines))
        });
        entries.flat_map(|entry: Result<_, Error>| match entry {
            Ok((index, lines)) => {
                let of_entry = lines.into_iter();
                of_entry.map(|(movement, hash)| Ok((index, movement, hash))).collect::<Vec<_>>()
            }
            Err(error) => vec![Err(error)],
        })
    }

    /// Streams all records through a log index to another node.
    pub fn export(&self, through: u64, to: &mut dyn Write) -> Result<(), Error> {
        // Bodies may go meanwhile. What says which are needed comes first: without it, what is left of a record
        // would never go over there.
        for kind in [MOVEMENTS, NEEDED, BODIES, ARRIVALS] {
            let end = through.saturating_add(1).to_be_bytes();
            let from = [&[kind][..], &0u64.to_be_bytes()].concat();
            for record in self.db.range(&from, &[&[kind][..], &end].concat()) {
                codec::encode_into::<Framed>(&Some(record?), to)?;
            }
        }
        Ok(codec::encode_into::<Framed>(&None, to)?)
    }

    /// Takes in what [`export`](Self::export) wrote, and makes it durable.
    pub fn import(&self, from: &mut dyn Read) -> Result<(), Error> {
        let mut batch = Batch::default();
        loop {
            let mut one = (&mut *from).take(RECORD_BYTES_MAX);
            let Some((key, value)) = codec::decode_from::<Framed>(&mut one)? else { break };
            if !is_key(&key) {
                let why = "a record that is none of a history's";
                return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, why).into());
            }
            batch.put(&key, &value);
            if batch.len() >= IMPORT_BATCH {
                self.write(std::mem::take(&mut batch))?;
            }
        }
        self.write(batch)?;
        self.make_durable()
    }
}

/// Adds an entry's movements to a batch, and to the chain.
pub fn put_movements(batch: &mut Batch, chain: &mut Hash, index: u64, movements: Vec<Movement>) {
    if movements.is_empty() {
        return;
    }
    let chained = movements.into_iter().map(|movement| {
        *chain = link(chain, &movement);
        (movement, *chain)
    });
    put_lines(batch, index, &Lines(chained.collect()));
}

/// Adds the lines of an entry to a batch.
pub fn put_lines(batch: &mut Batch, index: u64, lines: &Lines) {
    batch.put(&movements_key(index), &codec::encode(lines));
}

/// Adds an entry's deliveries to a batch.
pub fn put_arrivals(batch: &mut Batch, index: u64, arrivals: &Arrivals) {
    if !arrivals.received.is_empty() {
        batch.put(&arrivals_key(index), &codec::encode(arrivals));
    }
}

/// The hash of a movement that follows one with the hash `previous`.
#[must_use]
pub fn link(previous: &Hash, movement: &Movement) -> Hash {
    let hash = Sha256::new().chain_update(previous).chain_update(codec::encode(movement));
    hash.finalize().into()
}

fn movements_key(index: u64) -> Vec<u8> {
    [&[MOVEMENTS][..], &index.to_be_bytes()].concat()
}

fn arrivals_key(index: u64) -> Vec<u8> {
    [&[ARRIVALS][..], &index.to_be_bytes()].concat()
}

fn is_key(key: &[u8]) -> bool {
    match key.split_first() {
        Some((&(MOVEMENTS | ARRIVALS), index)) => index.len() == size_of::<u64>(),
        Some((&(BODIES | NEEDED), index)) => index.len() == size_of::<u64>() + size_of::<u32>(),
        _ => false,
    }
}
