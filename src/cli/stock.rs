//! `stockraft stock …`
#![expect(clippy::indexing_slicing, reason = "JSON indexed by name is null where nothing is")]

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use super::ask::{ask, ask_all, cell, encode, show, table};
use super::{Failure, Target, export, import, say_error};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Shows one SKU.
    #[command(after_help = "Example:\n  stockraft stock get MUG-01 --at 2026-11-20T10:00:00+01:00")]
    Get {
        /// The SKU.
        sku: String,
        /// As it was then: RFC 3339.
        #[arg(long)]
        at: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Lists SKUs.
    #[command(
        after_help = "Example:\n  stockraft stock list --sku 'TEE-*' --location main --below 5"
    )]
    List(Filter),
    /// Shows the lines of the ledger about a SKU, newest first.
    #[command(after_help = "Example:\n  stockraft stock movements MUG-01 --limit 500")]
    Movements {
        /// The SKU.
        sku: String,
        /// How many lines at the most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
        limit: u64,
        #[command(flatten)]
        target: Target,
    },
    /// Books goods that came in; creates the SKU if it is new.
    #[command(after_help = "Example:\n  stockraft stock receive MUG-01 100 --reference PO-7")]
    Receive(Change),
    /// Corrects what is on hand, up or down.
    #[command(
        after_help = "Example:\n  stockraft stock adjust MUG-01 -2 --reason broken",
        allow_negative_numbers = true
    )]
    Adjust(Change),
    /// Sends units to another location: on their way until their receipt there with the same reference.
    #[command(
        after_help = "Example:\n  stockraft stock transfer MUG-01 20 --to outlet --reference T-9\n  \
                      stockraft stock receive MUG-01 20 --location outlet --reference T-9"
    )]
    Transfer {
        #[command(flatten)]
        change: Change,
        /// Where to.
        #[arg(long)]
        to: String,
    },
    /// Sets what is on hand to what was counted. Refused if anything moved there since the count.
    #[command(
        after_help = "Example:\n  stockraft stock count MUG-01 97 --location outlet --as-of 4711"
    )]
    Count {
        #[command(flatten)]
        change: Change,
        /// Log index of the reading (`as_of`) at which it was counted; now if not given.
        #[arg(long)]
        as_of: Option<u64>,
    },
    /// Lists what was sold and is not there, and who waits for it.
    #[command(after_help = "Example:\n  stockraft stock shortfalls")]
    Shortfalls {
        #[command(flatten)]
        target: Target,
    },
    /// Shows how the number that a channel shows came about.
    #[command(after_help = "Example:\n  stockraft stock explain shopify-eu MUG-01")]
    Explain {
        /// The channel.
        channel: String,
        /// The SKU.
        sku: String,
        #[command(flatten)]
        target: Target,
    },
    /// Writes all levels or all movements to a file, as of one moment.
    #[command(after_help = "Example:\n  stockraft stock export levels.csv\n  \
                      stockraft stock export - --what movements --format jsonl")]
    Export(export::Export),
    /// Takes levels or movements in from a file; nothing of it if a row of it is wrong.
    #[command(after_help = "Example:\n  stockraft stock import levels.csv --dry-run\n\n\
        sku,location,on_hand\nMUG-01,main,97\nTEE-M,outlet,12")]
    Import(import::Import),
}

#[derive(Args)]
pub(super) struct Filter {
    /// SKUs that match: * stands for any characters, ? for one.
    #[arg(long)]
    sku: Option<String>,
    /// SKUs that are, were or are awaited there.
    #[arg(long)]
    location: Option<String>,
    /// SKUs of which less than this is available, at the location if one is named.
    #[arg(long, allow_negative_numbers = true)]
    below: Option<i64>,
    /// SKUs of which more was sold than is there.
    #[arg(long)]
    shortfall: bool,
    #[command(flatten)]
    target: Target,
}

impl Filter {
    fn path(&self) -> String {
        let text = |name: &str, value: &String| format!("{name}={}&", encode(value));
        let parts = [
            self.sku.as_ref().map(|sku| text("sku", sku)),
            self.location.as_ref().map(|location| text("location", location)),
            self.below.map(|below| format!("below={below}&")),
            self.shortfall.then(|| "shortfall=true&".into()),
        ];
        format!("/v1/stock?{}", parts.into_iter().flatten().collect::<String>())
    }
}

#[derive(Args)]
pub(super) struct Change {
    /// The SKU.
    sku: String,
    /// Whole units.
    quantity: i64,
    /// Where; the first of the configured locations if not given.
    #[arg(long)]
    location: Option<String>,
    /// Yours: the same id is booked once. A random one if not given.
    #[arg(long)]
    id: Option<String>,
    /// What it belongs to, a purchase order for instance.
    #[arg(long)]
    reference: Option<String>,
    /// Why.
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Get { sku, at, target } => {
            let at = at.map(|at| format!("?at={}", encode(&at))).unwrap_or_default();
            let path = format!("/v1/stock/{}{at}", encode(&sku));
            let answer = ask(&target, Method::GET, &path, None).await?;
            show(&target, &answer, |stock| vec![header(), row(stock)]);
        }
        Command::Explain { channel, sku, target } => {
            let path = format!("/v1/explain/{}/{}", encode(&channel), encode(&sku));
            let answer = ask(&target, Method::GET, &path, None).await?;
            show(&target, &answer, explained);
        }
        Command::List(filter) => {
            let answer = ask_all(&filter.target, &filter.path(), u64::MAX).await?;
            show(&filter.target, &answer, |answer| table(answer, &COLUMNS));
        }
        Command::Movements { sku, limit, target } => {
            let path = format!("/v1/stock/{}/movements", encode(&sku));
            let answer = ask_all(&target, &path, limit).await?;
            let columns =
                ["time", "kind", "quantity", "location", "on_hand", "available", "delivery"];
            show(&target, &answer, |answer| table(answer, &columns));
            if !answer["next"].is_null() {
                say_error(&format!("there are more than these {limit}: see --limit"));
            }
        }
        Command::Receive(change) => book("receipt", change, json!({})).await?,
        Command::Adjust(change) => book("adjustment", change, json!({})).await?,
        Command::Transfer { change, to } => {
            book("transfer", change, json!({ "to_location": to })).await?;
        }
        Command::Count { change, as_of } => {
            let units = change.quantity;
            let as_of = match as_of {
                Some(index) => index,
                None => newest(&change).await?,
            };
            let count = json!({ "quantity": null, "count": units, "as_of": as_of });
            book("adjustment", change, count).await?;
        }
        Command::Shortfalls { target } => {
            let answer = ask_all(&target, "/v1/shortfalls", u64::MAX).await?;
            show(&target, &answer, shortfalls);
        }
        Command::Export(export) => export::run(export).await?,
        Command::Import(import) => Box::pin(import::run(import)).await?,
    }
    Ok(())
}

/// The log index of a reading that is taken now.
async fn newest(change: &Change) -> Result<u64, Failure> {
    let path = format!("/v1/stock/{}?consistency=linearizable", encode(&change.sku));
    let stock = ask(&change.target, Method::GET, &path, None).await?;
    Ok(stock["as_of"]["index"].as_u64().unwrap_or(0))
}

/// One row for each order that waits, and one for what nobody is known to wait for.
fn shortfalls(answer: &Value) -> Vec<Vec<String>> {
    let columns = ["sku", "location", "short", "channel", "order", "missing", "time"];
    let mut rows = vec![columns.map(Into::into).to_vec()];
    for short in answer["items"].as_array().into_iter().flatten() {
        let place = ["sku", "location", "units"].map(|name| cell(&short[name]));
        let orders = short["orders"].as_array().into_iter().flatten();
        rows.extend(orders.map(|order| {
            let names = ["order", "reservation", "reference", "delivery"];
            let name = names.into_iter().find(|name| !order[*name].is_null());
            let who = [&order["channel"], &order[name.unwrap_or_default()]];
            let rest = who.into_iter().chain([&order["missing"], &order["time"]]).map(cell);
            place.iter().cloned().chain(rest).collect()
        }));
        if short["untraced"] != 0 {
            let rest = ["-".into(), "-".into(), cell(&short["untraced"]), "-".into()];
            rows.push(place.iter().cloned().chain(rest).collect());
        }
    }
    rows
}

/// The sum, what the channel was told, and why it is not raised.
fn explained(answer: &Value) -> Vec<Vec<String>> {
    let line = |name: &str, units: &Value, why: &Value| vec![name.into(), cell(units), cell(why)];
    let mut rows: Vec<Vec<String>> = Vec::new();
    for part in answer["parts"].as_array().into_iter().flatten() {
        let counts = ["on_hand", "committed", "reserved", "escrowed", "available"];
        let counts = counts.map(|name| format!("{} {}", cell(&part[name]), name.replace('_', " ")));
        let each = format!("{} of each", cell(&part["each"]));
        rows.push(vec![cell(&part["sku"]), each, counts.join(", ")]);
    }
    rows.push(Vec::new());
    for step in answer["steps"].as_array().into_iter().flatten() {
        rows.push(line(&cell(&step["what"]).replace('_', " "), &step["units"], &step["why"]));
    }
    rows.push(Vec::new());
    for name in ["shown", "sent"] {
        rows.push(line(name, &answer[name], &Value::Null));
    }
    for name in ["confirmed", "observed", "told"] {
        rows.push(line(name, &answer[name]["quantity"], &answer[name]["time"]));
    }
    rows.push(line("exposure", &answer["exposure"], &Value::Null));
    rows.push(Vec::new());
    let policy = match answer["policy"]["place"].as_u64() {
        None => "none: shared".into(),
        Some(place) => {
            let version = cell(&answer["policy"]["version"]);
            format!("policies[{place}] of version {version}: {}", answer["policy"]["policy"])
        }
    };
    rows.push(vec!["policy".into(), policy]);
    for name in ["not_raised", "stale_since", "deadline", "fault"] {
        if !answer[name].is_null() {
            rows.push(vec![name.replace('_', " "), cell(&answer[name])]);
        }
    }
    rows.push(Vec::new());
    let columns = ["time", "kind", "quantity", "location", "on_hand", "available", "delivery"];
    rows.extend(table(&json!({ "items": answer["movements"] }), &columns));
    rows
}

const COLUMNS: [&str; 7] =
    ["sku", "on_hand", "committed", "reserved", "escrowed", "available", "shortfall"];

fn header() -> Vec<String> {
    COLUMNS.map(Into::into).into()
}

fn row(stock: &Value) -> Vec<String> {
    COLUMNS.iter().map(|name| cell(&stock[name])).collect()
}

/// Books one movement; `more` stands in it beside, or instead of, what all have.
async fn book(kind: &str, change: Change, more: Value) -> Result<(), Failure> {
    let random = || {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map(|()| crate::channel::hex(&bytes))
    };
    let id = match change.id {
        Some(id) => id,
        None => random().map_err(|error| Failure::Operation(error.to_string()))?,
    };
    let mut movement = json!({
        "id": id, "kind": kind, "sku": change.sku, "quantity": change.quantity,
        "location": change.location, "reference": change.reference, "reason": change.reason,
    });
    if let (Some(movement), Value::Object(more)) = (movement.as_object_mut(), more) {
        movement.extend(more);
    }
    let body = json!({ "movements": [movement] });
    let answer = ask(&change.target, Method::POST, "/v1/movements", Some(&body)).await?;
    let result = &answer["results"][0];
    show(&change.target, &answer, |_| vec![vec![cell(&result["outcome"]), id.clone()]]);
    match result["outcome"].as_str() {
        Some("applied" | "duplicate") => Ok(()),
        _ => Err(Failure::Operation(format!(
            "{}: {}",
            cell(&result["outcome"]),
            cell(&result["why"])
        ))),
    }
}
