//! `/v1/export`: everything, as files that people and programs read.

use std::io::{self, Write};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::Stream;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use utoipa::{IntoParams, ToSchema};

use super::extract::Query;
use super::view::Line;
use super::{Admin, Problem};
use crate::history::History;
use crate::replica::Frozen;

/// The columns of the levels, in the order of [`Level`]'s fields.
pub(crate) const LEVEL_COLUMNS: [&str; 8] =
    ["sku", "location", "on_hand", "committed", "reserved", "escrowed", "incoming", "available"];
/// The columns of the movements, in the order of [`Line`]'s fields.
pub(crate) const MOVEMENT_COLUMNS: [&str; 16] = [
    "index",
    "time",
    "kind",
    "sku",
    "quantity",
    "location",
    "to_location",
    "channel",
    "delivery",
    "reference",
    "reason",
    "occurred_at",
    "kit",
    "on_hand",
    "available",
    "hash",
];
/// Bytes that are sent together, and how many such pieces may wait for a slow reader.
const PIECE_BYTES: usize = 64 * 1024;
const PIECES_WAITING: usize = 4;
/// How long a reader may take for one piece. While an export goes on, what changes is copied.
const STALL: Duration = Duration::from_secs(60);
/// Exports that go on at once. Each takes a thread for as long as its reader does.
const EXPORTS_MAX: usize = 4;
static EXPORTS: Semaphore = Semaphore::const_new(EXPORTS_MAX);

/// What to export.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum What {
    /// Quantities by SKU and location, sorted.
    #[default]
    Levels,
    /// Every line of the ledger, in the order of the log.
    Movements,
}

/// How to write it.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    /// A JSON object a line.
    #[default]
    Jsonl,
    /// RFC 4180 in UTF-8, with a header.
    Csv,
}

#[derive(Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// `levels` (the default) or `movements`.
    #[serde(default)]
    #[param(inline)]
    what: What,
    /// `jsonl` (the default) or `csv`.
    #[serde(default)]
    #[param(inline)]
    format: Format,
}

/// Quantities of one SKU at one location.
#[derive(Serialize)]
struct Level<'a> {
    sku: &'a str,
    location: &'a str,
    on_hand: i64,
    committed: i64,
    reserved: i64,
    escrowed: i64,
    incoming: i64,
    available: i64,
}

/// Streams all levels or all movements, as of one log index, while the ledger goes on. An answer that
/// breaks off is not whole. Texts stand in a CSV as they are: one that begins with `=`, `+`, `-` or `@` is
/// a formula to a spreadsheet.
#[utoipa::path(get, path = "/v1/export", operation_id = "export", tag = "stock", params(Wanted),
    responses((status = 200, content((String = "application/x-ndjson"), (String = "text/csv")),
        headers(("X-Stockraft-Index" = u64,
            description = "Log index of the newest command that counts"))),
        (status = 503, description = "Too many exports go on", body = Problem)))]
pub(super) async fn export(
    State(admin): State<Admin>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let permit = EXPORTS.try_acquire().map_err(|_| {
        Problem::unavailable(format!("{EXPORTS_MAX} exports go on already; wait for one to end"))
    })?;
    let (frozen, history) = {
        let replica = admin.read();
        (replica.freeze(), replica.history())
    };
    let kind = match wanted.format {
        Format::Jsonl => "application/x-ndjson",
        Format::Csv => "text/csv; charset=utf-8; header=present",
    };
    let headers = [(CONTENT_TYPE.as_str(), kind.to_string())];
    let index = [("x-stockraft-index", frozen.index.to_string())];
    let (to, pieces) = mpsc::channel(PIECES_WAITING);
    tokio::task::spawn_blocking(move || {
        let out = Pieces { to, buffer: Vec::new(), runtime: Handle::current() };
        // A reader that went away is no failure of this node; one that waits sees the stream break off.
        if let Err(error) = write(&frozen, &history, wanted, out) {
            tracing::warn!(%error, "an export ended early");
        }
        drop(permit);
    });
    Ok((headers, index, Body::from_stream(stream(pieces))).into_response())
}

fn write(frozen: &Frozen, history: &History, wanted: Wanted, out: Pieces) -> io::Result<()> {
    let columns = match wanted.what {
        What::Levels => &LEVEL_COLUMNS[..],
        What::Movements => &MOVEMENT_COLUMNS,
    };
    let mut rows = Rows::new(wanted.format, columns, out)?;
    match wanted.what {
        What::Levels => {
            let mut stock: Vec<_> = frozen.data.stock.iter().collect();
            stock.sort_unstable_by_key(|(sku, _)| *sku);
            for (sku, stock) in stock {
                for (location, level) in &stock.levels {
                    rows.put(&Level {
                        sku,
                        location,
                        on_hand: level.on_hand,
                        committed: level.committed,
                        reserved: level.reserved,
                        escrowed: level.escrowed,
                        incoming: level.incoming(),
                        available: level.available(),
                    })?;
                }
            }
        }
        What::Movements => {
            for line in history.all(frozen.index) {
                let (index, movement, hash) = line.map_err(io::Error::other)?;
                rows.put(&Line::new(index, movement, &hash))?;
            }
        }
    }
    rows.finish()
}

/// Rows on their way out.
enum Rows {
    Jsonl(Pieces),
    Csv(Box<csv::Writer<Pieces>>),
}

impl Rows {
    fn new(format: Format, columns: &[&str], out: Pieces) -> io::Result<Self> {
        match format {
            Format::Jsonl => Ok(Self::Jsonl(out)),
            Format::Csv => {
                let mut writer = csv::WriterBuilder::new()
                    .has_headers(false)
                    .terminator(csv::Terminator::CRLF)
                    .from_writer(out);
                // Written here, so that a file without rows says what it would hold.
                writer.write_record(columns)?;
                Ok(Self::Csv(Box::new(writer)))
            }
        }
    }

    fn put(&mut self, row: &impl Serialize) -> io::Result<()> {
        match self {
            Self::Jsonl(out) => {
                serde_json::to_writer(&mut *out, row)?;
                out.write_all(b"\n")
            }
            Self::Csv(writer) => Ok(writer.serialize(row)?),
        }
    }

    fn finish(self) -> io::Result<()> {
        let out = match self {
            Self::Jsonl(out) => out,
            Self::Csv(writer) => writer.into_inner().map_err(csv::IntoInnerError::into_error)?,
        };
        out.finish()
    }
}

/// What is written, cut into pieces for a reader elsewhere; `None` is the end.
struct Pieces {
    to: mpsc::Sender<Option<Bytes>>,
    buffer: Vec<u8>,
    runtime: Handle,
}

impl Pieces {
    fn send(&self, piece: Option<Bytes>) -> io::Result<()> {
        let sent = async { tokio::time::timeout(STALL, self.to.send(piece)).await };
        match self.runtime.block_on(sent) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::Error::other("the reader went away")),
            Err(_) => Err(io::Error::other("the reader is too slow")),
        }
    }

    fn finish(mut self) -> io::Result<()> {
        let last = std::mem::take(&mut self.buffer);
        self.send(Some(last.into()))?;
        self.send(None)
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE_BYTES {
            let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE_BYTES * 2));
            self.send(Some(piece.into()))?;
        }
        Ok(bytes.len())
    }

    /// Pieces are sent when they are large enough, and the last by [`finish`](Self::finish).
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The pieces as the body of an answer: an error, and so no whole answer, if the end never came.
fn stream(
    pieces: mpsc::Receiver<Option<Bytes>>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    futures::stream::unfold(Some(pieces), |pieces| async move {
        let mut pieces = pieces?;
        match pieces.recv().await {
            Some(Some(piece)) => Some((Ok(piece), Some(pieces))),
            Some(None) => None,
            None => Some((Err(io::Error::other("the export broke off")), None)),
        }
    })
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    // An export that ends early and looks whole loses stock when it is imported.
    #[tokio::test]
    async fn a_stream_without_its_end_is_an_error() {
        for whole in [true, false] {
            let (to, pieces) = mpsc::channel(PIECES_WAITING);
            to.send(Some(Bytes::from_static(b"a"))).await.unwrap();
            if whole {
                to.send(None).await.unwrap();
            }
            drop(to);
            let pieces: Vec<_> = stream(pieces).collect().await;
            assert_eq!(pieces.iter().all(Result::is_ok), whole);
            assert_eq!(pieces.len(), if whole { 1 } else { 2 });
        }
    }
}
