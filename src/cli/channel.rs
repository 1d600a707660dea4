//! `stockraft channel …`

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use hyper::Method;
use serde_json::{Value, json};
use state::limits::NAME_LEN_MAX;

use super::ask::{ask, ask_all, cell, encode, progress, show, table};
use super::rows::{Fault, Row, Rows};
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
    /// Shows how one channel is doing: who pushes to it, what waits, what it takes no push for.
    #[command(after_help = "Example:\n  stockraft channel status shopify-eu")]
    Status {
        /// The channel.
        channel: String,
        #[command(flatten)]
        target: Target,
    },
    /// Stops pushing to a channel until it is resumed.
    #[command(after_help = "Example:\n  stockraft channel pause shopify-eu --why stocktaking")]
    Pause {
        /// The channel.
        channel: String,
        /// Why; shown with the channel.
        #[arg(long)]
        why: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Goes on pushing to a channel.
    #[command(after_help = "Example:\n  stockraft channel resume shopify-eu")]
    Resume {
        /// The channel.
        channel: String,
        #[command(flatten)]
        target: Target,
    },
    /// Reads what a channel shows and pushes what differs: one SKU at once, or all as its rate allows.
    #[command(after_help = "Example:\n  stockraft channel push shopify-eu MUG-01\n  \
        stockraft channel push shopify-eu --all")]
    Push {
        /// The channel.
        channel: String,
        /// The SKU.
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        sku: Option<String>,
        /// All that is listed there.
        #[arg(long)]
        all: bool,
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
    /// Maps listings to SKUs from a file, CSV with a header or a JSON object a line: sku, channel, id, and any
    /// setting of a listing.
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
            let answer = ask_all(&target, "/v1/channels", u64::MAX).await?;
            show(&target, &answer, |answer| {
                table(answer, &["name", "kind", "owner", "backlog", "in_flight"])
            });
        }
        Command::Status { channel, target } => status(&target, &channel).await?,
        Command::Pause { channel, why, target } => {
            let body = why.map_or_else(|| json!({}), |why| json!({ "why": why }));
            operate(&target, &channel, "pause", &body).await?;
        }
        Command::Resume { channel, target } => {
            operate(&target, &channel, "resume", &json!({})).await?;
        }
        Command::Push { channel, sku, all: _, target } => {
            let body = sku.map_or_else(|| json!({}), |sku| json!({ "sku": sku }));
            operate(&target, &channel, "push", &body).await?;
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

const COLUMNS_OF_STATUS: [&str; 10] = [
    "name",
    "owner",
    "backlog",
    "urgent",
    "in_flight",
    "failing",
    "breaker",
    "calls_today",
    "pushed",
    "last_push",
];

/// A channel, with what it takes no push for.
async fn status(target: &Target, channel: &str) -> Result<(), Failure> {
    let path = format!("/v1/channels/{}", encode(channel));
    let mut answer = ask(target, Method::GET, &path, None).await?;
    let failures = ask_all(target, &format!("{path}/failures"), u64::MAX).await?;
    if let (Some(answer), Some(failures)) = (answer.as_object_mut(), failures.get("items")) {
        answer.insert("failures".into(), failures.clone());
    }
    show(target, &answer, |answer| {
        let mut rows = line(answer);
        rows.push(Vec::new());
        for class in ["sale", "return", "adjustment"] {
            let Some(window) = answer.pointer(&format!("/classes/{class}")) else { continue };
            let number = |name: &str| window.get(name).map_or_else(String::new, Value::to_string);
            rows.push(vec![format!(
                "{class}: {} pushes, p50 {} ms, p99 {} ms, in time {}",
                number("count"),
                number("p50_ms"),
                number("p99_ms"),
                number("in_time")
            )]);
        }
        if let Some(why) = answer.pointer("/paused/why") {
            rows.push(vec![format!("paused: {}", cell(why))]);
        }
        let failures = answer.get("failures").and_then(Value::as_array).into_iter().flatten();
        for failure in failures {
            let text = |name: &str| cell(failure.get(name).unwrap_or(&Value::Null));
            rows.push(vec![format!("{}: {} ({})", text("sku"), text("reason"), text("cure"))]);
        }
        rows
    });
    Ok(())
}

/// One channel as a table.
fn line(channel: &Value) -> Vec<Vec<String>> {
    table(&json!({ "items": [channel] }), &COLUMNS_OF_STATUS)
}

async fn operate(target: &Target, channel: &str, what: &str, body: &Value) -> Result<(), Failure> {
    let path = format!("/v1/channels/{}/{what}", encode(channel));
    let answer = ask(target, Method::POST, &path, Some(body)).await?;
    show(target, &answer, line);
    Ok(())
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
pub(super) fn read(path: &Path, channels: Option<&BTreeSet<String>>) -> Result<Vec<Value>, String> {
    let name = path.display();
    let rows = Rows::open(path)?;
    if let Some(columns) = rows.columns() {
        let missing = COLUMNS.into_iter().filter(|name| !columns.iter().any(|known| known == name));
        let missing: Vec<&str> = missing.collect();
        if !missing.is_empty() {
            return Err(format!("{name}:1: the header names no {}", missing.join(", no ")));
        }
    }
    let mut known = Known::default();
    let row = |row: Result<Row, Fault>| {
        let row = row.map_err(|Fault { line, why, .. }| (line, why))?;
        check(&row, channels, &mut known).map_err(|why| (row.line, why))?;
        let cells = row.cells.into_iter().map(|(column, cell)| (column, json!(cell)));
        Ok(Value::Object(cells.collect()))
    };
    let checked = rows.map(row).collect::<Result<_, (u64, String)>>();
    checked.map_err(|(line, why)| format!("{name}:{line}: {why}"))
}

fn check(row: &Row, channels: Option<&BTreeSet<String>>, known: &mut Known) -> Result<(), String> {
    if let Some(empty) = COLUMNS.into_iter().find(|column| row.get(column).is_none()) {
        return Err(format!("{empty} is empty"));
    }
    if let Some((long, _)) = row.cells.iter().find(|(_, cell)| cell.len() > NAME_LEN_MAX) {
        return Err(format!("{long} is longer than {NAME_LEN_MAX} bytes"));
    }
    let [sku, channel, id] = COLUMNS.map(|column| row.get(column).unwrap_or(""));
    if channels.is_some_and(|channels| !channels.contains(channel)) {
        return Err(format!("there is no channel {channel:?}"));
    }
    known.check((sku, channel, id), row.line)
}

/// What rows before have said. A SKU has one listing in a channel, and a listing one SKU: of two rows that
/// contradict each other nobody knows which was meant.
#[derive(Default)]
struct Known {
    ids: BTreeMap<(String, String), (String, u64)>,
    skus: BTreeMap<(String, String), (String, u64)>,
}

impl Known {
    fn check(&mut self, (sku, channel, id): (&str, &str, &str), line: u64) -> Result<(), String> {
        let key = |name: &str| (channel.to_string(), name.to_string());
        let (known, before) = self.ids.entry(key(sku)).or_insert_with(|| (id.into(), line));
        if known != id {
            return Err(format!("{sku} has another id in {channel} in line {before}"));
        }
        let (known, before) = self.skus.entry(key(id)).or_insert_with(|| (sku.into(), line));
        if known != sku {
            return Err(format!("{id} in {channel} stands for another SKU in line {before}"));
        }
        Ok(())
    }
}

async fn send(target: &Target, rows: &[Value]) -> Result<(), Failure> {
    let bar = progress(u64::try_from(rows.len()).unwrap_or(u64::MAX));
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
