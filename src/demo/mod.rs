//! `stockraft demo`: a whole cluster on loopback, one process a region, with simulated stores that send
//! really signed webhooks and receive really pushed quantities. Half-way the leader is killed.

mod amazon;
mod books;
mod nodes;
mod others;
mod summary;
mod verdict;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hyper::Method;
use marketplace::{Faults, Item, Options as StoreOptions, Store, Warehouse};
use serde_json::json;
use tokio::time::Instant;

use crate::cli::{say, shutdown};
use crate::simulated::store_listing;
use nodes::{Nodes, Plan};
use others::Others;

/// Units of each SKU at the start.
const UNITS: i64 = 500;
/// SKUs of the catalogue.
const SKUS: u64 = 24;
/// Without an end, the leader is killed after so long.
const KILL_AFTER: Duration = Duration::from_secs(20);
/// A killed node comes back after so long.
const BACK_AFTER: Duration = Duration::from_secs(3);
/// How long everything may take to come to rest at the end.
const SETTLE: Duration = Duration::from_secs(90);

/// What the demo is to do.
#[derive(Args)]
pub struct Options {
    /// Regions, one node each.
    #[arg(long, value_delimiter = ',', default_value = "eu,us,apac")]
    regions: Vec<String>,
    /// Kinds of channels: a Shopify store in each region, and one seller of each other kind.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "shopify,woocommerce,amazon,ebay,walmart,odoo,generic"
    )]
    channels: Vec<String>,
    /// Orders a second, over all channels.
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// Ends after so long; without it, at Ctrl-C.
    #[arg(long)]
    seconds: Option<u64>,
    /// Where the nodes keep their data; a temporary directory if not given.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The first of three ports a node.
    #[arg(long, default_value_t = 18080)]
    base_port: u16,
    /// Kills no node.
    #[arg(long)]
    calm: bool,
    /// What the stores' customers do follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs the demo; an error if its promise was broken.
pub async fn run(options: Options) -> Result<(), String> {
    if options.regions.is_empty() || options.regions.len() > 9 {
        return Err("--regions: name one to nine".into());
    }
    let (dir, temporary) = match &options.dir {
        Some(dir) => (dir.clone(), false),
        None => (std::env::temp_dir().join(format!("stockraft-demo-{}", std::process::id())), true),
    };
    let warehouse = Warehouse::open((0..SKUS).map(|n| (sku(n), 0)));
    let stores = open_stores(&options, &warehouse).await?;
    let others = Others::open(&options.channels, options.seed, &warehouse).await?;
    let plan = Plan::new(&options.regions, options.base_port, dir.clone(), &stores, &others);
    let mut nodes = Nodes::start(plan, &others).await?;
    let outcome = act(&options, &mut nodes, (&stores, &others), &warehouse).await;
    nodes.stop().await;
    others.close().await;
    for store in &stores {
        store.shutdown().await;
    }
    if temporary && outcome.is_ok() {
        // What is left behind is a few megabytes of a temporary directory.
        let _ = std::fs::remove_dir_all(&dir);
    } else {
        say(&format!("data and logs are in {}", dir.display()));
    }
    outcome
}

/// One store a region, named after it.
async fn open_stores(options: &Options, warehouse: &Warehouse) -> Result<Vec<Store>, String> {
    let mut stores = Vec::new();
    for (n, region) in (1_u64..).zip(&options.regions) {
        let items = (0..SKUS).map(|item| Item {
            sku: sku(item),
            variant_id: 40_000_000_000_000 + item,
            inventory_item_id: 9_007_199_254_741_000 + item,
            available: 0,
        });
        let store = StoreOptions {
            secret: format!("hush_{region}_0f1e2d3c4b5a6978"),
            access_token: format!("shpat_{region}_8796a5b4c3d2e1f0"),
            location_id: 24_826_418 + n,
            items: items.collect(),
            seed: options.seed.wrapping_mul(1000) + n,
            // What was never told of, a poll finds.
            faults: Faults { drop: 0.02, ..Faults::lively() },
            ..StoreOptions::lively(format!("shopify-{region}"))
        };
        let started = Store::start(store, warehouse.clone()).await;
        stores.push(started.map_err(|error| format!("a simulated store: {error}"))?);
    }
    Ok(stores)
}

async fn act(
    options: &Options,
    nodes: &mut Nodes,
    (stores, others): (&[Store], &Others),
    warehouse: &Warehouse,
) -> Result<(), String> {
    nodes.found().await?;
    say("founded: one cluster, three agreeing ledgers once the others have caught up");
    stock_up(nodes, (stores, others), warehouse).await?;
    subscribe(nodes, stores)?;
    others.subscribe(nodes)?;
    let channels = stores.len() + others.count();
    let each = options.rate / f64::from(u32::try_from(channels).unwrap_or(1));
    for store in stores {
        store.set_orders_per_second(each);
    }
    others.sell(each).await;
    let began = Instant::now();
    let end = options.seconds.map(|seconds| began + Duration::from_secs(seconds));
    let kill_at = options.seconds.map_or(KILL_AFTER, |s| Duration::from_secs(s) / 2);
    let mut screen = summary::Screen::new(std::io::stdout().is_terminal());
    let mut drama = Drama::new((!options.calm).then_some(began + kill_at));
    let mut every = tokio::time::interval(Duration::from_secs(1));
    let stopped = shutdown();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = &mut stopped => break,
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            break;
        }
        drama.play(nodes).await?;
        screen.show(began.elapsed(), nodes, (stores, others), &drama.story).await;
    }
    drama.finish(nodes).await?;
    say("customers stopped; waiting until everything has arrived everywhere …");
    let settled = verdict::settle(nodes, (stores, others), warehouse, SETTLE).await;
    verdict::give(nodes, (stores, others), warehouse, &drama.story).await?;
    if settled { Ok(()) } else { Err("something was still on its way at the end".into()) }
}

/// Maps every SKU to every store, and receives the opening stock.
async fn stock_up(
    nodes: &Nodes,
    (stores, others): (&[Store], &Others),
    warehouse: &Warehouse,
) -> Result<(), String> {
    let api = nodes.api(0);
    for n in 0..SKUS {
        let name = sku(n);
        let listings = stores.iter().filter_map(|store| {
            let item = store.options().items.iter().find(|item| item.sku == name)?;
            let (id, settings) = store_listing(store, item);
            let settings =
                settings.into_iter().map(|(name, value)| (name.to_owned(), json!(value)));
            let listing: serde_json::Map<_, _> =
                settings.chain([("id".to_owned(), json!(id))]).collect();
            Some((store.options().name.clone(), listing.into()))
        });
        let listings: serde_json::Map<_, _> = listings.chain(others.listings(n)).collect();
        let mapping = json!({ "listings": listings });
        let mapped = api.call(Method::PUT, &format!("/v1/skus/{name}"), Some(&mapping)).await;
        mapped.map_err(|error| error.to_string())?;
        warehouse.receive(&name, UNITS);
    }
    receive(nodes, "opening", UNITS + others.units()).await
}

/// Books a receipt of every SKU.
async fn receive(nodes: &Nodes, what: &str, units: i64) -> Result<(), String> {
    let receipts = (0..SKUS).map(sku).map(
        |sku| json!({ "id": format!("{what}-{sku}"), "kind": "receipt", "sku": sku, "quantity": units }),
    );
    let body = json!({ "movements": receipts.collect::<Vec<_>>(), "atomic": true });
    let booked = nodes.api(0).call(Method::POST, "/v1/movements", Some(&body)).await;
    booked.map(|_| ()).map_err(|error| error.to_string())
}

/// Each store sends to its own region's node first, and to the others when that does not answer, as a
/// DNS failover would.
fn subscribe(nodes: &Nodes, stores: &[Store]) -> Result<(), String> {
    for (n, store) in stores.iter().enumerate() {
        let count = nodes.count();
        let name = &store.options().name;
        let targets: Vec<String> =
            (0..count).map(|k| nodes.webhook_url((n + k) % count, name)).collect();
        store.set_targets(&targets).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn sku(n: u64) -> String {
    format!("TEE-{n:02}")
}

/// The leader is killed, and comes back.
struct Drama {
    kill_at: Option<Instant>,
    back_at: Option<(usize, Instant)>,
    /// What happened so far, for the screen.
    story: Vec<String>,
}

impl Drama {
    const fn new(kill_at: Option<Instant>) -> Self {
        Self { kill_at, back_at: None, story: Vec::new() }
    }

    async fn play(&mut self, nodes: &mut Nodes) -> Result<(), String> {
        let now = Instant::now();
        if let Some((victim, at)) = self.back_at
            && now >= at
        {
            self.back_at = None;
            nodes.restart(victim)?;
            self.story.push(format!("restarted {} from its own disk", nodes.region(victim)));
        } else if self.kill_at.is_some_and(|at| now >= at) {
            self.kill_at = None;
            let victim = nodes.leader().await.unwrap_or(0);
            nodes.kill(victim).await?;
            let region = nodes.region(victim);
            self.story.push(format!("SIGKILL to {region}, which led the cluster"));
            self.back_at = Some((victim, now + BACK_AFTER));
        }
        Ok(())
    }

    async fn finish(&mut self, nodes: &mut Nodes) -> Result<(), String> {
        if let Some((victim, at)) = self.back_at.take() {
            tokio::time::sleep_until(at).await;
            nodes.restart(victim)?;
        }
        Ok(())
    }
}
