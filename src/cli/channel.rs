//! `stockraft channel …`

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use hyper::Method;
use serde_json::{Value, json};
use state::limits::NAME_LEN_MAX;

use super::ask::{ask, ask_all, cell, encode, show};
use super::{Failure, Target};

/// Rows that one request carries.
const ROWS_MAX: usize = 500;
/// The columns that every row must have.
const COLUMNS: [&str; 3] = ["sku", "channel", "id"];

#[derive(Subcommand)]
pub(super) enum Command {
    /// Lists the channels, and how each is doing.
    #[command(after_help = "Example:\n  stockraft channel list")]
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Shows what a channel's own ids stand for.
    #[command(after_help = "Example:\n  stockraft channel listings shopify-eu")]
    Listings {
        /// The channel; all if not given.
        channel: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Maps listings to SKUs from a CSV file with a header: sku, channel, id, and any setting of a listing.
    #[command(after_help = "Example:\n  stockraft channel map listings.csv\n\n\
        sku,channel,id,variant_id\n\
        TEE-M,shopify-eu,271878346596884015,40001\n\
        TEE-M,amazon-us,TEE-M-AMZ,")]
    Map {
        /// The file. Nothing of it is sent if a row of it is wrong.
        file: PathBuf,
        #[command(flatten)]
        target: Target,
    },
}

pub(super) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::List { target } => {
            let answer = ask(&target, Method::GET, "/v1/channels", None).await?;
            show(&target, &answer, |answer| {
                table(answer, &["name", "kind", "owner", "backlog", "in_flight"])
            });
        }
        Command::Listings { channel, target } => {
            let filter = channel.map(|channel| format!("channel={}&", encode(&channel)));
            let path = format!("/v1/listings?{}", filter.unwrap_or_default());
            let answer = ask_all(&target, &path, u64::MAX).await?;
            show(&target, &answer, |answer| table(answer, &["channel", "id", "sku", "source"]));
        }
        Command::Map { file, target } => {
            let channels = channels(&target).await;
            let rows = read(&file, channels.as_ref()).map_err(Failure::Usage)?;
            send(&target, &rows).await?;
        }
    }
    Ok(())
}

fn table(answer: &Value, columns: &[&str]) -> Vec<Vec<String>> {
    let items = answer["items"].as_array().cloned().unwrap_or_default();
    let cells = |item: &Value| columns.iter().map(|name| cell(&item[name])).collect();
    let header = columns.iter().map(|name| (*name).to_string()).collect();
    std::iter::once(header).chain(items.iter().map(cells)).collect()
}

/// The channels that the cluster knows; nothing if the node cannot say, or may not with this token. Then
/// it judges request by request.
async fn channels(target: &Target) -> Option<BTreeSet<String>> {
    let answer = ask_all(target, "/v1/channels", u64::MAX).await.ok()?;
    let items = answer.get("items")?.as_array()?;
    let names = items.iter().filter_map(|channel| channel.get("name")?.as_str());
    Some(names.map(Into::into).collect())
}

/// All rows of a file, or the first fault of it with its line.
fn read(path: &Path, channels: Option<&BTreeSet<String>>) -> Result<Vec<Value>, String> {
    let name = path.display();
    let bytes = std::fs::read(path).map_err(|error| format!("{name}: {error}"))?;
    // Spreadsheets put a byte order mark before the header.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    rows(bytes, channels).map_err(|(place, why)| format!("{name}:{}: {why}", line(bytes, place)))
}

/// The byte at which a row begins, or the blank lines before it.
type Place = usize;

fn rows(bytes: &[u8], channels: Option<&BTreeSet<String>>) -> Result<Vec<Value>, (Place, String)> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
    let header = reader.headers().map_err(|error| unreadable(&error))?.clone();
    let missing: Vec<&str> =
        COLUMNS.into_iter().filter(|column| !header.iter().any(|name| name == *column)).collect();
    if !missing.is_empty() {
        return Err((0, format!("the header names no {}", missing.join(", no "))));
    }
    let mut columns = BTreeSet::new();
    if let Some(twice) = header.iter().find(|name| !name.is_empty() && !columns.insert(*name)) {
        return Err((0, format!("the header names {twice} twice")));
    }
    let mut rows = Vec::new();
    let mut known = Known::default();
    for record in reader.records() {
        let record = record.map_err(|error| unreadable(&error))?;
        let place = place(record.position());
        let cells = header.iter().zip(&record).filter(|(_, cell)| !cell.is_empty());
        let cells: BTreeMap<&str, &str> = cells.collect();
        if let Some(empty) = COLUMNS.into_iter().find(|column| !cells.contains_key(*column)) {
            return Err((place, format!("{empty} is empty")));
        }
        if let Some((long, _)) = cells.iter().find(|(_, cell)| cell.len() > NAME_LEN_MAX) {
            return Err((place, format!("{long} is longer than {NAME_LEN_MAX} bytes")));
        }
        let [sku, channel, id] = COLUMNS.map(|column| cells.get(column).copied().unwrap_or(""));
        if channels.is_some_and(|channels| !channels.contains(channel)) {
            return Err((place, format!("there is no channel {channel:?}")));
        }
        known.check(bytes, (sku, channel, id), place).map_err(|why| (place, why))?;
        rows.push(json!(cells));
    }
    Ok(rows)
}

/// What rows before have said. A SKU has one listing in a channel, and a listing one SKU: of two rows that
/// contradict each other nobody knows which was meant.
#[derive(Default)]
struct Known {
    ids: BTreeMap<(String, String), (String, Place)>,
    skus: BTreeMap<(String, String), (String, Place)>,
}

impl Known {
    fn check(
        &mut self,
        bytes: &[u8],
        (sku, channel, id): (&str, &str, &str),
        place: Place,
    ) -> Result<(), String> {
        let key = |name: &str| (channel.to_string(), name.to_string());
        let (known, before) = self.ids.entry(key(sku)).or_insert_with(|| (id.into(), place));
        if known != id {
            let before = line(bytes, *before);
            return Err(format!("{sku} has another id in {channel} in line {before}"));
        }
        let (known, before) = self.skus.entry(key(id)).or_insert_with(|| (sku.into(), place));
        if known != sku {
            let before = line(bytes, *before);
            return Err(format!("{id} in {channel} stands for another SKU in line {before}"));
        }
        Ok(())
    }
}

fn place(position: Option<&csv::Position>) -> Place {
    position.and_then(|position| usize::try_from(position.byte()).ok()).unwrap_or(0)
}

/// What cannot be read, in fewer words than the reader's own.
fn unreadable(error: &csv::Error) -> (Place, String) {
    let why = match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "this is no UTF-8".into(),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} cells, and the header has {expected_len}")
        }
        _ => error.to_string(),
    };
    (place(error.position()), why)
}

/// The line of the row at a place, whichever way lines end. Blank lines belong to none.
fn line(bytes: &[u8], place: Place) -> usize {
    let (before, row) = bytes.split_at_checked(place).unwrap_or((bytes, &[]));
    let blank = row.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let text = bytes.get(..before.len() + blank).unwrap_or(bytes);
    let count = |end: &[u8]| text.windows(end.len()).filter(|bytes| *bytes == end).count();
    1 + count(b"\n") + count(b"\r") - count(b"\r\n")
}

async fn send(target: &Target, rows: &[Value]) -> Result<(), Failure> {
    let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
    let bar = if std::io::stderr().is_terminal() && rows.len() > ROWS_MAX {
        indicatif::ProgressBar::new(count)
    } else {
        indicatif::ProgressBar::hidden()
    };
    let mut sent = 0;
    for some in rows.chunks(ROWS_MAX) {
        let body = json!({ "listings": some });
        ask(target, Method::POST, "/v1/listings", Some(&body)).await.map_err(|failure| {
            bar.abandon();
            match failure {
                Failure::Operation(why) => Failure::Operation(format!(
                    "{why} (the first {sent} listings were taken; the same file can be sent again)"
                )),
                usage @ Failure::Usage(_) => usage,
            }
        })?;
        sent += some.len();
        bar.inc(u64::try_from(some.len()).unwrap_or(0));
    }
    bar.finish_and_clear();
    let answer = json!({ "listings": sent });
    show(target, &answer, |_| vec![vec![format!("{sent} listings mapped")]]);
    Ok(())
}
