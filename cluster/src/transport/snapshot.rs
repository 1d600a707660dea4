//! A snapshot's way from one disk to another's, in pieces.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::alias::SnapshotOf;
use tokio::sync::mpsc;

use super::message::{Install, Piece};
use super::wire::{self, Wire};
use crate::form::Vote;
use crate::machine::adapter::{SnapshotData, blocking};
use crate::machine::files::{Files, Header, Received, Stored};
use crate::machine::{Halt, Transfer};
use crate::types::TypeConfig;

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

/// Receives a snapshot into a file, whole and verified.
pub(crate) async fn receive(
    wire: &mut Wire,
    files: &Arc<Files>,
    from: u64,
) -> io::Result<(Vote, Received)> {
    let begin: Piece = wire::receive_within(wire, STALL).await?;
    let Piece::Begin { vote, header } = begin else { return Err(out_of_order()) };
    check(vote, &header, from)?;
    let files = Arc::clone(files);
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
            Piece::End { .. } => return Err(io::Error::other("it does not match its checksum")),
            Piece::Begin { .. } => return Err(out_of_order()),
        }
    }
    tokio::io::AsyncWriteExt::flush(&mut file).await?;
    Ok((vote, received))
}

/// What was received, as raft takes it.
pub(crate) fn into_raft(received: Received) -> io::Result<SnapshotOf<TypeConfig, SnapshotData>> {
    let meta = received.header.meta().map_err(io::Error::other)?;
    Ok(SnapshotOf::<TypeConfig, _> { meta, snapshot: SnapshotData::Received(received) })
}

/// A leader sends under its own vote, and nothing that is later than it.
fn check(vote: Vote, header: &Header, from: u64) -> io::Result<()> {
    if vote.node == from && header.last.is_none_or(|last| last.term <= vote.term) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, "not this peer's to send"))
}

fn out_of_order() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "pieces out of order")
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
