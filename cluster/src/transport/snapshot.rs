//! A snapshot's way from one disk to another's, in pieces.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::alias::SnapshotOf;
use tokio::sync::{Mutex, MutexGuard, mpsc};

use super::message::{Install, Piece};
use super::wire::{self, Wire};
use crate::form::{self, Vote};
use crate::machine::adapter::{SnapshotData, blocking};
use crate::machine::files::{Files, Header, Received, Stored};
use crate::machine::shared::Shared;
use crate::machine::{Halt, Transfer};
use crate::types::{LogId, TypeConfig};

const PIECE_BYTES: usize = 256 * 1024;
/// Pieces made before they are sent.
const PIECES_WAITING: usize = 4;
/// How often the receiver says that it is still at work.
pub(crate) const WORKING_EVERY: Duration = Duration::from_secs(1);
/// Silence after which the other side is lost. A disk may stall for seconds; not for this long.
const STALL: Duration = Duration::from_secs(20);

/// Sends a snapshot and waits until it is installed. The peer's vote; higher than ours if it refused.
pub(crate) async fn send(
    wire: &mut Wire,
    vote: Vote,
    stored: Stored,
    transfer: Arc<dyn Transfer>,
) -> io::Result<Vote> {
    let header = stored.header.clone();
    within(wire::send(wire, &Piece::Begin { vote, header })).await?;
    let (pieces, mut made) = mpsc::channel(PIECES_WAITING);
    let export = blocking(move || {
        let mut to = Pieces { pieces, piece: Vec::with_capacity(PIECE_BYTES) };
        transfer.export(&mut stored.body(), &mut to)?;
        Ok(to.flush()?)
    });
    let carry = async {
        let (mut bytes, mut crc) = (0, crc32fast::Hasher::new());
        while let Some(piece) = made.recv().await {
            let piece: Bytes = piece;
            crc.update(&piece);
            bytes += u64::try_from(piece.len()).map_err(io::Error::other)?;
            within(wire::send(wire, &Piece::Bytes(crate::types::Blob(piece)))).await?;
        }
        Ok::<_, io::Error>((bytes, crc.finalize()))
    };
    // The end is only told once the export has said that it was whole.
    let ((), (bytes, crc)) = tokio::try_join!(export, carry)?;
    within(wire::send(wire, &Piece::End { bytes, crc })).await?;
    loop {
        match wire::receive_within(wire, STALL).await? {
            Install::Working => {}
            Install::Done { vote } => return Ok(vote),
            Install::Failed(why) => return Err(io::Error::other(why)),
        }
    }
}

/// Takes in what peers send: nothing of it is raft's business before it was found good.
#[derive(Clone)]
pub(crate) struct Installer {
    machine: Arc<dyn Shared>,
    transfer: Arc<dyn Transfer>,
    files: Arc<Files>,
    turn: Arc<Mutex<()>>,
}

impl Installer {
    pub(crate) fn new(
        machine: Arc<dyn Shared>,
        transfer: Arc<dyn Transfer>,
        files: Arc<Files>,
    ) -> Self {
        Self { machine, transfer, files, turn: Arc::default() }
    }

    /// Waits for all others to be done.
    pub(crate) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Receives a snapshot into a file, whole and as it was sent.
    pub(crate) async fn receive(&self, wire: &mut Wire, from: u64) -> io::Result<(Vote, Received)> {
        let begin: Piece = wire::receive_within(wire, STALL).await?;
        let Piece::Begin { vote, header } = begin else { return Err(out_of_order()) };
        check(vote, &header, from)?;
        let files = Arc::clone(&self.files);
        let (received, file) = blocking(move || Ok(files.receive(header)?)).await?;
        let mut file = tokio::fs::File::from_std(file);
        let (mut count, mut sum) = (0_u64, crc32fast::Hasher::new());
        loop {
            match wire::receive_within(wire, STALL).await? {
                Piece::Bytes(piece) => {
                    sum.update(&piece.0);
                    count += u64::try_from(piece.0.len()).map_err(io::Error::other)?;
                    tokio::io::AsyncWriteExt::write_all(&mut file, &piece.0).await?;
                }
                Piece::End { bytes, crc } if bytes == count && crc == sum.finalize() => break,
                Piece::End { .. } => return Err(wrong("it does not match its checksum")),
                Piece::Begin { .. } => return Err(out_of_order()),
            }
        }
        tokio::io::AsyncWriteExt::flush(&mut file).await?;
        Ok((vote, received))
    }

    /// Builds in what was received, beside what is there, and reads the state. What cannot be read is refused
    /// here: raft would end the node over it.
    pub(crate) async fn prepare(
        &self,
        received: Received,
        committed: Option<LogId>,
    ) -> io::Result<SnapshotOf<TypeConfig, SnapshotData>> {
        let last: Option<LogId> = received.header.last.map(Into::into);
        // Later than what was agreed on, and not further: two logs, of which one is a lie.
        let further = last.map(|id| id.index) > committed.map(|id| id.index);
        if last > committed && !further {
            return Err(wrong("it contradicts what was agreed on"));
        }
        let meta = received.header.meta().map_err(|error| wrong(&error.to_string()))?;
        let Self { machine, transfer, files, .. } = self.clone();
        let snapshot = blocking(move || {
            let mut body = received.body()?;
            let prepared = files.prepare(&received.header, |to| transfer.import(&mut body, to))?;
            let state = machine.read(&mut prepared.body())?;
            Ok(SnapshotData::Received(prepared, state))
        });
        let snapshot = snapshot.await;
        let snapshot = snapshot.map_err(|why| wrong(&format!("it cannot be taken in: {why}")))?;
        Ok(SnapshotOf::<TypeConfig, _> { meta, snapshot })
    }
}

/// A leader sends under its own vote, and nothing that is later than it.
pub(crate) fn check(vote: Vote, header: &Header, from: u64) -> io::Result<()> {
    let possible = |id: form::LogId| id.term <= vote.term && id.is_possible();
    let sound = vote.node == from
        && vote.committed
        && vote.is_possible()
        && header.last.is_none_or(possible)
        && header.members.at <= header.last;
    if sound { Ok(()) } else { Err(wrong("not this peer's to send")) }
}

fn out_of_order() -> io::Error {
    wrong("pieces out of order")
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(STALL, work).await.map_err(io::Error::other)?
}

/// Cuts what is written into pieces, and waits while enough of them are on their way.
struct Pieces {
    pieces: mpsc::Sender<Bytes>,
    piece: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        let room = PIECE_BYTES - self.piece.len();
        let part = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        self.piece.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        self.pieces.blocking_send(piece.into()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl From<Halt> for io::Error {
    fn from(halt: Halt) -> Self {
        Self::other(halt)
    }
}
