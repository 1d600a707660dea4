//! Simulated stores of every kind that sell from one warehouse, tell of it, and are pushed to: what they show and
//! what they sold is the truth that the ledger is held against.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use marketplace::sender::Kind;
use serde_json::json;

use crate::shops::{Shop, Units};
use crate::support::book::lines_of;
use crate::support::{Node, PATIENCE, until_true};
use crate::world::World;

const SKUS: u64 = 6;
/// Units of each SKU at first: few, so that the last ones are sold again and again.
const OPENING: i64 = 42;
const ORDERS_PER_SECOND: f64 = 0.8;

/// Where a node finds the first store: on its loopback, since it pushes to nobody else without TLS.
const FIRST_PORT: u16 = 9001;

/// Between two looks at what they show.
const LOOK: Duration = Duration::from_millis(200);

/// What the stores sell.
pub(crate) fn skus() -> impl Iterator<Item = String> {
    (0..SKUS).map(|n| format!("TEE-{n}"))
}

/// Opens them, without anything to sell, and names them in the nodes' configs.
pub(crate) async fn open(world: &mut World, seed: u64) {
    let (skus, of): (Vec<String>, _) = (skus().collect(), world.warehouse.clone());
    let seed = |n: u64| seed.wrapping_mul(1000) + n;
    let kinds = [Kind::WooCommerce, Kind::Ebay, Kind::Walmart, Kind::Odoo];
    world.stores.push(Shop::shopify("east", &skus, seed(1), &of).await);
    world.stores.push(Shop::shopify("west", &skus, seed(2), &of).await);
    world.stores.push(Shop::amazon(&skus, seed(3), &of).await);
    for (n, kind) in (4..).zip(kinds) {
        world.stores.push(Shop::sender(kind, &skus, seed(n), &of).await);
    }
    for node in &mut world.nodes {
        name_in_config(&world.stores, node);
        for (store, ports) in world.stores.iter().zip(ports()) {
            for (port, address) in ports.into_iter().zip(store.addresses()) {
                node.network.as_ref().unwrap().forward(port, address);
            }
        }
    }
}

/// Two ports for each store in turn.
fn ports() -> impl Iterator<Item = [u16; 2]> {
    (FIRST_PORT..).step_by(2).map(|port| [port, port + 1])
}

/// Adds the stores' channels to a config; what they sell is split between them.
pub(crate) fn name_in_config(stores: &[Shop], node: &mut Node) {
    let webhooks = webhooks(node);
    for (store, ports) in stores.iter().zip(ports()) {
        write!(
            node.more,
            "\n[[channel]]\n{}rate = {{ per_second = 40, burst = 40 }}\n\
             poll = {{ every = \"5s\", overlap = \"10m\" }}\n",
            store.config(&webhooks, &ports),
        )
        .unwrap();
    }
    let weights: Vec<String> = stores.iter().map(|store| format!("{} = 1", store.name())).collect();
    let weights = weights.join(", ");
    writeln!(
        node.more,
        "\n[[policy]]\nsku = \"TEE-*\"\nmode = \"split\"\nweights = {{ {weights} }}"
    )
    .unwrap();
}

/// Where a node takes webhooks, up to the channel's name.
pub(crate) fn webhooks(node: &Node) -> String {
    format!("http://{}/webhooks/", node.public().0)
}

/// Maps all SKUs to all stores, brings the first units, and lets customers in.
pub(crate) async fn sell(world: &World) {
    for sku in skus() {
        let listings = world.stores.iter();
        let listings = listings.map(|store| (store.name().to_owned(), store.listing(&sku)));
        let listings: serde_json::Map<_, _> = listings.collect();
        let mapping = json!({ "listings": listings }).to_string();
        world.ask("PUT", &format!("/v1/skus/{sku}"), &mapping).await;
    }
    receive(world, "opening", OPENING).await;
    for store in &world.stores {
        store.set_orders_per_second(ORDERS_PER_SECOND);
    }
}

/// Units of each SKU come.
async fn receive(world: &World, what: &str, units: i64) {
    let mut receipts = Vec::new();
    for sku in skus() {
        let id = format!("{what}-{sku}");
        receipts.push(json!({ "id": id, "kind": "receipt", "sku": sku, "quantity": units }));
        // The truth is there before anybody is told.
        world.warehouse.receive(&sku, units);
    }
    let receipts = json!({ "movements": receipts, "atomic": true }).to_string();
    world.ask("POST", "/v1/movements", &receipts).await;
}

/// One unit more for each store, of each SKU: all are told once more. A channel that cannot compare may have been
/// told a quantity over a sale of the same moment, which the next push finds.
pub(crate) async fn tell_all(world: &World) {
    receive(world, "closing", i64::try_from(world.stores.len()).unwrap()).await;
}

/// No customer comes any more, and all that was told has arrived or been given up.
pub(crate) async fn close(world: &World) {
    for store in &world.stores {
        store.stop_selling();
    }
    for store in &world.stores {
        store.drained().await;
    }
}

/// By store and order line, or SKU.
type Lines = BTreeMap<(String, String), Units>;

/// Waits until a node's ledger holds what the stores sold, line by line, and nothing else of theirs: what
/// no webhook told of is found by asking.
pub(crate) async fn check_lines(world: &World, node: &Node) -> usize {
    let mut wanted = Lines::new();
    for store in &world.stores {
        let lines = store.expected().into_iter();
        wanted.extend(lines.map(|(line, units)| ((store.name().to_owned(), line), units)));
    }
    wanted.retain(|_, units| *units != (0, 0));
    let mut last = Vec::new();
    let same = until_true("the ledger holds what the stores sold", async || {
        let booked = booked(world, node).await;
        let differs = |(place, units): (_, &(i64, i64))| {
            let other = wanted.get(place).copied().unwrap_or_default();
            (other != *units).then(|| format!("{place:?}: {units:?}, not {other:?}"))
        };
        let missing = wanted.keys().filter(|place| !booked.contains_key(*place));
        let missing = missing.map(|place| format!("{place:?} is missing"));
        let now: Vec<String> = booked.iter().filter_map(differs).chain(missing).collect();
        if now != last {
            println!("  {} lines of stores differ {:?}", now.len(), now.first());
            last.clone_from(&now);
        }
        now.is_empty()
    });
    same.await;
    wanted.len()
}

async fn booked(world: &World, node: &Node) -> Lines {
    let mut booked = Lines::new();
    for sku in skus() {
        for line in lines_of(node, &sku).await {
            let text = |name: &str| line[name].as_str().unwrap_or_default().to_string();
            let store = world.stores.iter().find(|store| store.name() == text("channel"));
            let Some(store) = store else { continue };
            let place = if store.is_by_sku() { sku.clone() } else { text("reference") };
            let (open, gone) = booked.entry((text("channel"), place)).or_default();
            let quantity = line["quantity"].as_i64().unwrap();
            match text("kind").as_str() {
                "sale" => *open += quantity,
                "cancellation" => *open -= quantity,
                "fulfilment" => (*open, *gone) = (*open - quantity, *gone + quantity),
                "return" => *gone -= quantity,
                other => panic!("no store books a {other}: {line}"),
            }
        }
    }
    booked.retain(|_, units| *units != (0, 0));
    booked
}

/// Waits until each store shows what the ledger says, and the ledger believes it; returns the units that are
/// held back. `after_all` means that nothing can be on its way any more: until then a push or a reading that
/// was lost may leave fewer to be shown than should be, and never more.
pub(crate) async fn check_shown(world: &World, node: &Node, after_all: bool) -> i64 {
    let mut last = (Vec::new(), 0);
    let right = async {
        loop {
            last = shown_wrongly(world, node, after_all).await;
            if last.0.is_empty() {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    if tokio::time::timeout(PATIENCE, right).await.is_err() {
        for (store, sku, _) in &last.0 {
            tell(store, sku, node).await;
        }
    }
    let wrong: Vec<&String> = last.0.iter().map(|(_, _, why)| why).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    last.1
}

type Wrong<'a> = (&'a Shop, String, String);

async fn shown_wrongly<'a>(
    world: &'a World,
    node: &Node,
    after_all: bool,
) -> (Vec<Wrong<'a>>, i64) {
    let (mut wrong, mut held_back) = (Vec::new(), 0);
    for sku in skus() {
        let stock = node.get(&format!("/v1/stock/{sku}")).await;
        for store in &world.stores {
            let name = store.name();
            let listing = &stock["channels"][name];
            let number = |name: &str| listing[name].as_i64();
            let (shown, desired) = (store.shown().get(&sku).copied(), number("desired"));
            let certain = shown == desired && shown == number("shown");
            if shown > desired || (after_all && !certain) {
                wrong.push((store, sku.clone(), format!("{name} shows {shown:?} of {stock}")));
            }
            held_back += desired.unwrap_or(0) - shown.unwrap_or(0);
        }
    }
    (wrong, held_back)
}

/// What happened to a listing of late, by the store and by the ledger, for whoever has to find out why.
async fn tell(store: &Shop, sku: &str, node: &Node) {
    let time = |ms: i64| stockraft::clock::rfc3339(ms.try_into().unwrap());
    let pushed = store.pushes().into_iter().filter(|push| push.sku == sku);
    let pushed = pushed.map(|push| format!("{} store: {push:?}", time(push.at_ms)));
    let lines = lines_of(node, sku).await.into_iter();
    let booked = lines.map(|line| format!("{} ledger: {line}", line["time"].as_str().unwrap()));
    let mut told: Vec<String> = pushed.chain(booked).collect();
    told.sort();
    told.iter().rev().take(30).rev().for_each(|told| println!("    {told}"));
}
