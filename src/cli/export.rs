//! `stockraft stock export`: everything, as of one log index, into a file.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;
use tokio::fs::File;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::ask::{client, progress, show};
use super::{Failure, Target};
use crate::client::Download;

#[derive(Args)]
pub(super) struct Export {
    /// The file to write, or - for standard output. A file is there only once it is whole.
    file: PathBuf,
    /// What to export.
    #[arg(long, value_enum, default_value_t = What::Levels)]
    what: What,
    /// How; by the file's name if not given.
    #[arg(long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Quantities by SKU and location.
    Levels,
    /// Every line of the ledger.
    Movements,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// A JSON object a line.
    Jsonl,
    /// RFC 4180, with a header.
    Csv,
}

impl Format {
    fn of(path: &Path) -> Self {
        let csv = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
        if csv { Self::Csv } else { Self::Jsonl }
    }
}

pub(super) async fn run(export: Export) -> Result<(), Failure> {
    let Export { file, what, format, target } = export;
    let what = match what {
        What::Levels => "levels",
        What::Movements => "movements",
    };
    let format = match format.unwrap_or_else(|| Format::of(&file)) {
        Format::Jsonl => "jsonl",
        Format::Csv => "csv",
    };
    let path = format!("/v1/export?what={what}&format={format}");
    let download = client(&target)?.download(&path).await?;
    let index = download.header("x-stockraft-index").unwrap_or_default().to_string();
    if file.as_os_str() == "-" {
        write(download, tokio::io::stdout(), "standard output").await?;
        return Ok(());
    }
    let name = file.display().to_string();
    let failed = |error: std::io::Error| Failure::Operation(format!("{name}: {error}"));
    // A file that is there only in part would be taken for the whole.
    let mut part = file.clone().into_os_string();
    part.push(".part");
    let open = File::create(&part).await.map_err(failed)?;
    let written = write(download, open, &name).await;
    if let Err(failure) = written {
        let _ = tokio::fs::remove_file(&part).await;
        return Err(failure);
    }
    tokio::fs::rename(&part, &file).await.map_err(failed)?;
    let bytes = written.unwrap_or_default();
    let answer =
        json!({ "file": name, "what": what, "index": index.parse::<u64>().ok(), "bytes": bytes });
    show(&target, &answer, |_| {
        vec![vec![format!("{name}: {what} as of log index {index}, {bytes} bytes")]]
    });
    Ok(())
}

/// Writes what comes; how many bytes that were.
async fn write(
    mut from: Download,
    mut to: impl AsyncWrite + Unpin,
    name: &str,
) -> Result<u64, Failure> {
    let failed = |error: std::io::Error| Failure::Operation(format!("{name}: {error}"));
    let bar = progress(0);
    let mut bytes = 0;
    while let Some(piece) = from.next().await? {
        to.write_all(&piece).await.map_err(failed)?;
        bytes += u64::try_from(piece.len()).unwrap_or(0);
        bar.set_message(format!("{bytes} bytes"));
        bar.tick();
    }
    to.flush().await.map_err(failed)?;
    bar.finish_and_clear();
    Ok(bytes)
}
