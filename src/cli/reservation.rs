//! `stockraft reservation …`

use clap::Subcommand;
use hyper::Method;
use serde_json::{Value, json};

use super::ask::{ask, ask_all, cell, encode, show};
use super::{Failure, Target};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Holds units, all or none.
    #[command(
        after_help = "Example:\n  stockraft reservation create MUG-01=2 TEE-M=1 --ttl 15m --reference cart-7"
    )]
    Create {
        /// SKUs and units.
        #[arg(required = true, value_name = "SKU=UNITS", value_parser = line)]
        lines: Vec<(String, i64)>,
        /// How long; then it is let go by itself.
        #[arg(long, default_value = "15m", value_parser = humantime::parse_duration)]
        ttl: std::time::Duration,
        /// Where; the first location that has enough if not given.
        #[arg(long)]
        location: Option<String>,
        /// The channel for which.
        #[arg(long)]
        channel: Option<String>,
        /// What it belongs to.
        #[arg(long)]
        reference: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Shows one reservation.
    #[command(after_help = "Example:\n  stockraft reservation get 0f8e4c1a-…")]
    Get {
        /// Its id.
        id: String,
        #[command(flatten)]
        target: Target,
    },
    /// Lists what is held, and what ended within a day.
    #[command(after_help = "Example:\n  stockraft reservation list --output json")]
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Sells what is held, all or part of it.
    #[command(
        after_help = "Example:\n  stockraft reservation confirm 0f8e4c1a-… MUG-01=1 --reference order-9"
    )]
    Confirm {
        /// Its id.
        id: String,
        /// SKUs and units; all that is held if not given.
        #[arg(value_name = "SKU=UNITS", value_parser = line)]
        lines: Vec<(String, i64)>,
        /// What the sale belongs to.
        #[arg(long)]
        reference: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Lets go what is still held.
    #[command(after_help = "Example:\n  stockraft reservation release 0f8e4c1a-…")]
    Release {
        /// Its id.
        id: String,
        #[command(flatten)]
        target: Target,
    },
    /// Holds it for so long from now.
    #[command(after_help = "Example:\n  stockraft reservation extend 0f8e4c1a-… --ttl 1h")]
    Extend {
        /// Its id.
        id: String,
        /// How long.
        #[arg(long, default_value = "15m", value_parser = humantime::parse_duration)]
        ttl: std::time::Duration,
        #[command(flatten)]
        target: Target,
    },
}

/// A SKU with units; the SKU may have `=` in it.
fn line(text: &str) -> Result<(String, i64), String> {
    let (sku, units) = text.rsplit_once('=').ok_or("write SKU=UNITS")?;
    let units = units.parse().map_err(|_| format!("{units:?} is not a whole number"))?;
    Ok((sku.into(), units))
}

fn lines(lines: &[(String, i64)], location: Option<&String>) -> Vec<Value> {
    let line = |(sku, quantity): &(String, i64)| match location {
        Some(location) => json!({ "sku": sku, "quantity": quantity, "location": location }),
        None => json!({ "sku": sku, "quantity": quantity }),
    };
    lines.iter().map(line).collect()
}

pub(super) async fn run(command: Command) -> Result<(), Failure> {
    let of = |id: &str, what: &str| format!("/v1/reservations/{}{what}", encode(id));
    let (target, method, path, body) = match command {
        Command::Create { lines: asked, ttl, location, channel, reference, target } => {
            let lines = lines(&asked, location.as_ref());
            let body = json!({
                "lines": lines, "ttl_s": ttl.as_secs(), "channel": channel, "reference": reference,
            });
            (target, Method::POST, "/v1/reservations".into(), Some(body))
        }
        Command::Get { id, target } => (target, Method::GET, of(&id, ""), None),
        Command::List { target } => {
            let answer = ask_all(&target, "/v1/reservations", u64::MAX).await?;
            show(&target, &answer, |answer| {
                let known = answer["items"].as_array().cloned().unwrap_or_default();
                std::iter::once(header()).chain(known.iter().flat_map(rows)).collect()
            });
            return Ok(());
        }
        Command::Confirm { id, lines: asked, reference, target } => {
            let part = (!asked.is_empty()).then(|| lines(&asked, None));
            let body = json!({ "lines": part, "reference": reference });
            (target, Method::POST, of(&id, "/confirm"), Some(body))
        }
        Command::Release { id, target } => (target, Method::POST, of(&id, "/release"), None),
        Command::Extend { id, ttl, target } => {
            let body = json!({ "ttl_s": ttl.as_secs() });
            (target, Method::POST, of(&id, "/extend"), Some(body))
        }
    };
    let answer = ask(&target, method, &path, body.as_ref()).await?;
    show(&target, &answer, |known| std::iter::once(header()).chain(rows(known)).collect());
    Ok(())
}

fn header() -> Vec<String> {
    ["id", "status", "sku", "location", "held", "confirmed", "expires_at", "reference"]
        .map(Into::into)
        .into()
}

/// One row for each line.
fn rows(known: &Value) -> Vec<Vec<String>> {
    let lines = known["lines"].as_array().cloned().unwrap_or_default();
    let row = |line: &Value| {
        let whole = ["id", "status"].map(|name| cell(&known[name]));
        let of_line = ["sku", "location", "held", "confirmed"].map(|name| cell(&line[name]));
        let rest = ["expires_at", "reference"].map(|name| cell(&known[name]));
        whole.into_iter().chain(of_line).chain(rest).collect()
    };
    lines.iter().map(row).collect()
}
