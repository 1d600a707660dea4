//! `stockraft sim-marketplace`: one simulated marketplace, for whoever wants to try a set-up of their own.

mod orders;
mod running;

use std::fs;
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::rows::Rows;
use super::{Failure, say, say_error, shutdown};
use orders::Order;
use running::{Kind, Running};

/// Units that a channel begins with that nobody tells quantities.
const UNITS: i64 = 100;
/// How often is said what happened, if something did.
const EVERY: Duration = Duration::from_secs(5);

/// What is simulated, and how.
#[derive(Args)]
pub(super) struct Options {
    /// The kind of marketplace.
    #[arg(long, value_enum)]
    kind: Kind,
    /// The channel's name; without it the kind's.
    #[arg(long)]
    name: Option<String>,
    /// Where its API listens; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// URL of a node's webhooks up to the channel's name; several, and a retry goes to the next.
    #[arg(long = "target", value_name = "URL", default_value = "http://127.0.0.1:8080/webhooks/")]
    targets: Vec<String>,
    /// What its webhooks are signed with; without it one that everybody knows.
    #[arg(long)]
    secret: Option<String>,
    /// What it sells: so many SKUs, or a file with the columns sku and, perhaps, quantity and parent (the
    /// product of which it is a variation).
    #[arg(long, value_name = "FILE|N", default_value = "10")]
    items: String,
    /// Units of each SKU that it shows at the start, where the file says nothing. Without it none where a node
    /// tells it quantities, and 100 elsewhere.
    #[arg(long)]
    quantity: Option<i64>,
    /// Customers a second, on average.
    #[arg(long, value_name = "N", default_value_t = 0.0)]
    orders_per_second: f64,
    /// Writes the listings to this file instead of printing them.
    #[arg(long, value_name = "FILE")]
    listings: Option<PathBuf>,
    /// What goes wrong by itself, as a chance between 0 and 1: `--fault row-error=0.1`. `help` lists them.
    #[arg(long = "fault", value_name = "NAME=CHANCE")]
    faults: Vec<String>,
    /// What its API does from the start: slow=MS, error=STATUS, limit=SECONDS, timeout, drop or down.
    #[arg(long)]
    outage: Option<String>,
    /// The most calls a second that its API answers.
    #[arg(long, value_name = "N")]
    calls_per_second: Option<u32>,
    /// What customers and faults do follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Divides the waits before webhooks are sent again, which are hours.
    #[arg(long, default_value_t = 1.0)]
    time_scale: f64,
}

/// One thing that is sold.
pub(super) struct Item {
    sku: String,
    units: i64,
    parent: Option<u64>,
}

pub(super) async fn run(options: Options) -> Result<(), Failure> {
    let usage = |why: String| Failure::Usage(format!("stockraft: {why}"));
    let mut orders = Vec::new();
    for fault in &options.faults {
        orders.push(Order::parse(&format!("fault {}", fault.replace('=', " "))).map_err(usage)?);
    }
    if let Some(outage) = &options.outage {
        orders.push(Order::parse(&format!("outage {}", outage.replace('=', " "))).map_err(usage)?);
    }
    let items = items(&options).map_err(usage)?;
    let running = Running::start(&options, items).await.map_err(Failure::Operation)?;
    introduce(&options, &running).map_err(Failure::Operation)?;
    for order in orders {
        running.obey(order).map_err(usage)?;
    }
    serve(&running).await;
    say(&running.summary());
    running.shutdown().await;
    Ok(())
}

/// Does as it is told on standard input, and says what happened, until it is stopped.
async fn serve(running: &Running) {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut listens = true;
    let mut every = tokio::time::interval(EVERY);
    let mut told = running.summary();
    let stopped = shutdown();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => return,
            line = lines.next_line(), if listens => match line {
                Ok(Some(line)) => {
                    let done = Order::parse(&line).and_then(|order| running.obey(order));
                    done.map_or_else(|why| say_error(&why), |said| said.iter().for_each(|line| say(line)));
                }
                // Whoever started it in the background has closed it.
                _ => listens = false,
            },
            _ = every.tick() => {
                let summary = running.summary();
                if summary != told {
                    say(&summary);
                    told = summary;
                }
            }
        }
    }
}

/// What whoever connects a node to it has to know.
fn introduce(options: &Options, running: &Running) -> Result<(), String> {
    let name = running.name();
    say(&format!("# A simulated {} at {}", options.kind.name(), running.url()));
    for target in running.targets(&options.targets) {
        say(&format!("# sends its webhooks to {target}"));
    }
    say("# In the config of each node, which must be a file that only its owner can read:\n");
    say(&format!(
        "[[channel]]\n{}",
        running.config(options.targets.first().map_or("", String::as_str))
    ));
    let listings = running.listings();
    match &options.listings {
        Some(path) => {
            let failed = |error| format!("{}: {error}", path.display());
            fs::write(path, listings).map_err(failed)?;
            say(&format!("# Its listings: stockraft channel map {}\n", path.display()));
        }
        None => say(&format!(
            "# Its listings; in a file {name}.csv: stockraft channel map {name}.csv\n\n{listings}"
        )),
    }
    if std::io::stdin().is_terminal() {
        say(&format!("# Ctrl-C ends it. It can be told: {}", orders::ALL));
    }
    Ok(())
}

fn items(options: &Options) -> Result<Vec<Item>, String> {
    let is_told = crate::channel::target::is_pushed(options.kind.name());
    let units = options.quantity.unwrap_or(if is_told { 0 } else { UNITS });
    let file = Path::new(&options.items);
    if let (Ok(count), false) = (options.items.parse::<u64>(), file.is_file()) {
        let sku = |n| format!("SIM-{n:03}");
        let items = (1..=count).map(|n| Item { sku: sku(n), units, parent: None });
        return Ok(items.collect());
    }
    let mut items = Vec::new();
    for row in Rows::open(file)? {
        let row =
            row.map_err(|fault| format!("{}:{}: {}", options.items, fault.line, fault.why))?;
        let wrong = |what: &str| format!("{}:{}: {what}", options.items, row.line);
        let sku = row.get("sku").ok_or_else(|| wrong("sku is empty"))?.to_owned();
        let quantity = row.get("quantity").map(str::parse::<i64>).transpose();
        let parent = row.get("parent").map(str::parse::<u64>).transpose();
        items.push(Item {
            sku,
            units: quantity.map_err(|_| wrong("quantity is no number"))?.unwrap_or(units),
            parent: parent.map_err(|_| wrong("parent is the number of a product"))?,
        });
    }
    Ok(items)
}
