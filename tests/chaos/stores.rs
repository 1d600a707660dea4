//! Simulated stores that sell from one warehouse, tell of it, and are pushed to: what they show and what
//! they sold is the truth that the ledger is held against.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use marketplace::shopify::sign::Topic;
use marketplace::{Costs, Faults, Item, Options, Store};
use serde_json::json;

use crate::support::book::lines_of;
use crate::support::wan::Wan;
use crate::support::{Node, PATIENCE, until_true};
use crate::world::World;

const STORES: [&str; 2] = ["east", "west"];
const SKUS: u64 = 6;
/// Units of each SKU at first: few, so that the last ones are sold again and again.
const OPENING: i64 = 20;
const ORDERS_PER_SECOND: f64 = 1.5;
/// Shopify's retries take four hours; here half a minute.
const TIME_SCALE: f64 = 480.0;

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
    for (n, name) in (1..).zip(STORES) {
        let item = |(n, sku): (u64, String)| Item {
            sku,
            variant_id: 40_000_000_000_000 + n,
            inventory_item_id: 9_007_199_254_741_000 + n,
            available: 0,
        };
        let options = Options {
            listen: (Wan::address(0), 0).into(),
            secret: format!("hush-this-is-the-secret-of-{name}"),
            location_id: 24_826_418 + n,
            items: (0..).zip(skus()).map(item).collect(),
            seed: seed.wrapping_mul(1000) + n,
            time_scale: TIME_SCALE,
            topics: Topic::ALL.into(),
            costs: Costs { maximum_available: 20_000, restore_rate: 1000, ..Costs::default() },
            faults: Faults {
                duplicate: 0.1,
                delay: 0.1,
                delay_max: Duration::from_secs(2),
                cancel: 0.1,
                refund: 0.1,
                edit: 0.1,
                fulfil: 0.3,
                change_after_max: Duration::from_secs(5),
                answer_lost: 0.02,
                server_error: 0.02,
                ..Faults::default()
            },
            ..Options::new(name)
        };
        world.stores.push(Store::start(options, world.warehouse.clone()).await.unwrap());
    }
    for node in &mut world.nodes {
        name_in_config(&world.stores, node);
        for (port, store) in (FIRST_PORT..).zip(&world.stores) {
            node.network.as_ref().unwrap().forward(port, store.address());
        }
    }
}

/// Adds the stores' channels to a config; what they sell is split between them.
pub(crate) fn name_in_config(stores: &[Store], node: &mut Node) {
    for (port, store) in (FIRST_PORT..).zip(stores) {
        let options = store.options();
        write!(
            node.more,
            "\n[[channel]]\nname = \"{}\"\nkind = \"shopify\"\nsecrets = [\"{}\"]\n\
             rate = {{ per_second = 20, burst = 40 }}\npoll = {{ every = \"5s\", overlap = \"10m\" }}\n\
             [channel.api]\nbase_url = \"http://127.0.0.1:{port}\"\ntoken = \"{}\"\nversion = \"{}\"\n",
            options.name,
            options.secret,
            options.access_token,
            options.api_version,
        )
        .unwrap();
    }
    let [east, west] = STORES;
    let weights = format!("{east} = 1, {west} = 1");
    writeln!(
        node.more,
        "\n[[policy]]\nsku = \"TEE-*\"\nmode = \"split\"\nweights = {{ {weights} }}"
    )
    .unwrap();
}

/// Maps all SKUs to all stores, brings the first units, and lets customers in.
pub(crate) async fn sell(world: &World) {
    let mut receipts = Vec::new();
    for (n, sku) in skus().enumerate() {
        let listing = |store: &Store| {
            let options = store.options();
            let id = options.items[n].inventory_item_id;
            let listing = json!({
                "id": format!("gid://shopify/InventoryItem/{id}"),
                "location_id": format!("gid://shopify/Location/{}", options.location_id),
            });
            (options.name.clone(), listing)
        };
        let listings: serde_json::Map<_, _> = world.stores.iter().map(listing).collect();
        let mapping = json!({ "listings": listings }).to_string();
        world.ask("PUT", &format!("/v1/skus/{sku}"), &mapping).await;
        let id = format!("opening-{sku}");
        receipts.push(json!({ "id": id, "kind": "receipt", "sku": sku, "quantity": OPENING }));
        world.warehouse.receive(&sku, OPENING);
    }
    let receipts = json!({ "movements": receipts, "atomic": true }).to_string();
    world.ask("POST", "/v1/movements", &receipts).await;
    for store in &world.stores {
        store.set_orders_per_second(ORDERS_PER_SECOND);
    }
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

/// Units owed to customers, and units gone, by store and order line.
type Lines = BTreeMap<(String, String), (i64, i64)>;

/// Waits until a node's ledger holds what the stores sold, line by line, and nothing else of theirs: what
/// no webhook told of is found by asking.
pub(crate) async fn check_lines(world: &World, node: &Node) -> usize {
    let mut wanted = Lines::new();
    for store in &world.stores {
        for (line, expected) in store.expected_lines() {
            let units = (expected.open(), -expected.on_hand());
            wanted.insert((store.options().name.clone(), line), units);
        }
    }
    wanted.retain(|_, units| *units != (0, 0));
    let mut last = Vec::new();
    let same = until_true("the ledger holds what the stores sold", async || {
        let booked = booked(node).await;
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

async fn booked(node: &Node) -> Lines {
    let mut booked = Lines::new();
    for sku in skus() {
        for line in lines_of(node, &sku).await {
            let text = |name: &str| line[name].as_str().unwrap_or_default().to_string();
            if !STORES.contains(&text("channel").as_str()) {
                continue;
            }
            let (open, gone) = booked.entry((text("channel"), text("reference"))).or_default();
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

type Wrong<'a> = (&'a Store, String, String);

async fn shown_wrongly<'a>(
    world: &'a World,
    node: &Node,
    after_all: bool,
) -> (Vec<Wrong<'a>>, i64) {
    let (mut wrong, mut held_back) = (Vec::new(), 0);
    for sku in skus() {
        let stock = node.get(&format!("/v1/stock/{sku}")).await;
        for store in &world.stores {
            let name = &store.options().name;
            let listing = &stock["channels"][name.as_str()];
            let number = |name: &str| listing[name].as_i64();
            let (shown, desired) = (store.available(&sku), number("desired"));
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
async fn tell(store: &Store, sku: &str, node: &Node) {
    let history = store.history();
    let time = |ms: i64| stockraft::clock::rfc3339(ms.try_into().unwrap());
    let moved = history.movements.iter().filter(|moved| moved.sku == sku);
    let moved = moved.map(|moved| format!("{} store: {moved:?}", time(moved.at_ms)));
    let pushed = history.pushes.iter().filter(|push| push.sku == sku);
    let pushed = pushed.map(|push| format!("{} store: {push:?}", time(push.at_ms)));
    let lines = lines_of(node, sku).await.into_iter();
    let booked = lines.map(|line| format!("{} ledger: {line}", line["time"].as_str().unwrap()));
    let mut told: Vec<String> = moved.chain(pushed).chain(booked).collect();
    told.sort();
    told.iter().rev().take(30).rev().for_each(|told| println!("    {told}"));
}
