//! `stockraft stock …`
#![expect(clippy::indexing_slicing, reason = "JSON indexed by name is null where nothing is")]

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use super::ask::{ask, ask_all, cell, encode, show};
use super::{Failure, Target, say_error};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Shows one SKU.
    #[command(after_help = "Example:\n  stockraft stock get MUG-01")]
    Get {
        /// The SKU.
        sku: String,
        #[command(flatten)]
        target: Target,
    },
    /// Lists SKUs.
    #[command(after_help = "Example:\n  stockraft stock list")]
    List {
        #[command(flatten)]
        target: Target,
    },
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
}

#[derive(Args)]
pub(super) struct Change {
    /// The SKU.
    sku: String,
    /// Whole units.
    quantity: i64,
    /// Where.
    #[arg(long, default_value = "main")]
    location: String,
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
        Command::Get { sku, target } => {
            let path = format!("/v1/stock/{}", encode(&sku));
            let answer = ask(&target, Method::GET, &path, None).await?;
            show(&target, &answer, |stock| vec![header(), row(stock)]);
        }
        Command::List { target } => {
            let answer = ask_all(&target, "/v1/stock", u64::MAX).await?;
            let items = |answer: &Value| answer["items"].as_array().cloned().unwrap_or_default();
            show(&target, &answer, |answer| {
                std::iter::once(header()).chain(items(answer).iter().map(row)).collect()
            });
        }
        Command::Movements { sku, limit, target } => {
            let path = format!("/v1/stock/{}/movements", encode(&sku));
            let answer = ask_all(&target, &path, limit).await?;
            let columns =
                ["time", "kind", "quantity", "location", "on_hand", "available", "delivery"];
            show(&target, &answer, |answer| {
                let lines = answer["items"].as_array().cloned().unwrap_or_default();
                let cells = |line: &Value| columns.iter().map(|name| cell(&line[name])).collect();
                let header = columns.map(Into::into).to_vec();
                std::iter::once(header).chain(lines.iter().map(cells)).collect()
            });
            if !answer["next"].is_null() {
                say_error(&format!("there are more than these {limit}: see --limit"));
            }
        }
        Command::Receive(change) => book("receipt", change).await?,
        Command::Adjust(change) => book("adjustment", change).await?,
    }
    Ok(())
}

fn header() -> Vec<String> {
    ["sku", "on_hand", "committed", "available", "shortfall"].map(Into::into).into()
}

fn row(stock: &Value) -> Vec<String> {
    let columns = ["sku", "on_hand", "committed", "available", "shortfall"];
    columns.iter().map(|name| cell(&stock[name])).collect()
}

async fn book(kind: &str, change: Change) -> Result<(), Failure> {
    let random = || {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map(|()| crate::channel::hex(&bytes))
    };
    let id = match change.id {
        Some(id) => id,
        None => random().map_err(|error| Failure::Operation(error.to_string()))?,
    };
    let movement = json!({
        "id": id, "kind": kind, "sku": change.sku, "quantity": change.quantity,
        "location": change.location, "reference": change.reference, "reason": change.reason,
    });
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
