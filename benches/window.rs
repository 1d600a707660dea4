//! How long until every other channel shows a sale? Three nodes, two simulated Shopify stores whose limits are
//! out of the way, 10,000 SKUs that both show in full, 1,000 sales a second in one of them: from the receipt of
//! each webhook to the other store's confirmation. Then a warehouse receipt of 5,000 SKUs comes while sales go
//! on, and must not push a sale beyond its window.
//!
//! `cargo bench --bench window -- [SALES A SECOND] [SECONDS]`. Stores, load and nodes share this machine.

#![expect(clippy::indexing_slicing, reason = "a bench may end when something is not there")]

mod nodes;

use std::time::Duration;

use hyper::Method;
use marketplace::{Costs, Item, Options, Store, Warehouse};
use nodes::{Fallible, Nodes};
use serde_json::{Value, json};

const SKUS: u64 = 10_000;
const RECEIVED: u64 = 5_000;
/// Units of each SKU at the start: more than can be sold in the time.
const UNITS: i64 = 1_000;
const ROWS: usize = 250;
const STORES: [&str; 2] = ["north", "south"];

fn sku(n: u64) -> String {
    format!("TEE-{n:05}")
}

#[expect(clippy::print_stdout, reason = "a bench prints what it measured")]
fn main() -> Fallible<()> {
    let numbers: Vec<u32> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let rate = numbers.first().copied().unwrap_or(1_000);
    let seconds = numbers.get(1).copied().unwrap_or(20);
    println!("{SKUS} SKUs in two stores, {rate} sales a second in one, three nodes\n");
    tokio::runtime::Runtime::new()?.block_on(run(rate, Duration::from_secs(seconds.into())))
}

async fn run(rate: u32, time: Duration) -> Fallible<()> {
    let warehouse = Warehouse::open((0..SKUS).map(|n| (sku(n), UNITS)));
    let mut stores = Vec::new();
    for (place, name) in (1..).zip(STORES) {
        let item = |n: u64| Item {
            sku: sku(n),
            variant_id: 40_000_000_000_000 + place * 1_000_000 + n,
            inventory_item_id: 9_007_199_254_741_000 + place * 1_000_000 + n,
            available: UNITS,
        };
        let free =
            Costs { maximum_available: 1_000_000, restore_rate: 1_000_000, ..Costs::default() };
        let options = Options {
            items: (0..SKUS).map(item).collect(),
            line_quantity_max: 1,
            costs: free,
            ..Options::new(name)
        };
        stores.push(Store::start(options, warehouse.clone()).await?);
    }
    let dir = tempfile::tempdir()?;
    let nodes = Nodes::start(dir.path(), "window", 3, &channels(&stores)).await?;
    open(&nodes, &stores).await?;
    let [public, ..] = nodes.ports[0];
    stores[0].set_targets(&[format!("http://127.0.0.1:{public}/webhooks/{}", STORES[0])])?;

    stores[0].set_orders_per_second(rate.into());
    tokio::time::sleep(time).await;
    report(&nodes, &stores, "sales alone").await?;
    receive(&nodes).await?;
    tokio::time::sleep(time).await;
    stores[0].stop_selling();
    report(&nodes, &stores, "sales, and a receipt of 5,000 SKUs").await?;
    stores[0].drained().await;
    quiet(&nodes).await?;
    report(&nodes, &stores, "everything shown").await?;
    for store in stores {
        store.shutdown().await;
    }
    nodes.stop()
}

fn channels(stores: &[Store]) -> String {
    let channel = |store: &Store| {
        let options = store.options();
        format!(
            "[[channel]]\nname = \"{}\"\nkind = \"shopify\"\nsecrets = [\"{}\"]\nhome = 1\n\
             rate = {{ per_second = 1000, burst = 1000 }}\npoll = {{ every = \"0s\" }}\n\
             [channel.api]\nbase_url = \"http://{}\"\ntoken = \"{}\"\nversion = \"{}\"\n\
             location_id = \"gid://shopify/Location/{}\"\n",
            options.name,
            options.secret,
            store.address(),
            options.access_token,
            options.api_version,
            options.location_id,
        )
    };
    stores.iter().map(channel).collect()
}

/// Books the opening stock, lists everything, and waits until both stores were read and are right.
async fn open(nodes: &Nodes, stores: &[Store]) -> Fallible<()> {
    book(nodes, "opening", 0..SKUS, UNITS).await?;
    for store in stores {
        let row = |item: &Item| {
            let id = format!("gid://shopify/InventoryItem/{}", item.inventory_item_id);
            json!({ "sku": item.sku, "channel": store.options().name, "id": id,
                    "variant_id": item.variant_id.to_string() })
        };
        for rows in store.options().items.chunks(ROWS) {
            let body = json!({ "listings": rows.iter().map(row).collect::<Vec<_>>() });
            nodes.apis[0].call(Method::POST, "/v1/listings", Some(&body)).await?;
        }
    }
    quiet(nodes).await
}

async fn book(nodes: &Nodes, name: &str, skus: std::ops::Range<u64>, units: i64) -> Fallible<()> {
    for part in skus.collect::<Vec<u64>>().chunks(ROWS * 4) {
        let receipt = |n: &u64| json!({ "id": format!("{name}-{n}"), "kind": "receipt", "sku": sku(*n), "quantity": units });
        let body = json!({ "movements": part.iter().map(receipt).collect::<Vec<_>>() });
        nodes.apis[0].call(Method::POST, "/v1/movements", Some(&body)).await?;
    }
    Ok(())
}

async fn receive(nodes: &Nodes) -> Fallible<()> {
    book(nodes, "delivery", 0..RECEIVED, 100).await
}

/// Waits until no channel is owed anything.
async fn quiet(nodes: &Nodes) -> Fallible<()> {
    loop {
        let listed = nodes.apis[0].call(Method::GET, "/v1/channels", None).await?;
        let items = listed["items"].as_array().cloned().unwrap_or_default();
        let owed = |channel: &Value| channel["backlog"] != 0 || channel["in_flight"] != 0;
        if !items.is_empty() && !items.iter().any(owed) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[expect(clippy::print_stdout, reason = "a bench prints what it measured")]
async fn report(nodes: &Nodes, stores: &[Store], what: &str) -> Fallible<()> {
    let orders = stores[0].stats().orders;
    println!("{what}: {orders} orders so far");
    for name in STORES {
        let channel =
            nodes.apis[0].call(Method::GET, &format!("/v1/channels/{name}"), None).await?;
        println!("  {name}: backlog {}", channel["backlog"]);
        for (class, window) in channel["classes"].as_object().into_iter().flatten() {
            println!("    {class:10} {window}");
        }
    }
    Ok(())
}
