//! Random customers, and whether the books that the store expects are the books that its webhooks say.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use marketplace::{Faults, Item, Options, Restock, Store, Warehouse, history::Cause};
use serde_json::Value;

use crate::support::{Receiver, Seen, item, open, options, soon};

/// A ledger in its simplest form: the union of orders and refunds that were answered 2xx.
fn committed(seen: &[Seen]) -> BTreeMap<String, i64> {
    let mut sold: BTreeMap<u64, BTreeMap<u64, (String, i64)>> = BTreeMap::new();
    let mut freed: BTreeMap<u64, (u64, i64)> = BTreeMap::new();
    let refund = |refund: &Value, freed: &mut BTreeMap<u64, (u64, i64)>| {
        for line in refund["refund_line_items"].as_array().unwrap() {
            if line["restock_type"] == "cancel" {
                let of =
                    (line["line_item_id"].as_u64().unwrap(), line["quantity"].as_i64().unwrap());
                freed.insert(line["id"].as_u64().unwrap(), of);
            }
        }
    };
    for seen in seen.iter().filter(|seen| (200..300).contains(&seen.answered)) {
        let body = seen.json();
        if seen.header("x-shopify-topic") == "refunds/create" {
            refund(&body, &mut freed);
            continue;
        }
        let order = sold.entry(body["id"].as_u64().unwrap()).or_default();
        for line in body["line_items"].as_array().unwrap() {
            let of = (line["sku"].as_str().unwrap().to_owned(), line["quantity"].as_i64().unwrap());
            order.insert(line["id"].as_u64().unwrap(), of);
        }
        body["refunds"].as_array().unwrap().iter().for_each(|r| refund(r, &mut freed));
    }
    let mut committed = BTreeMap::new();
    for (line, (sku, quantity)) in sold.values().flatten() {
        let free: i64 = freed.values().filter(|(of, _)| of == line).map(|(_, units)| units).sum();
        *committed.entry(sku.clone()).or_default() += quantity - free;
    }
    committed
}

fn many_items() -> Vec<Item> {
    (1..=20_u8).map(|n| item(&format!("SKU-{n}"), n.into(), 30)).collect()
}

/// Late, doubled, reordered and lost webhooks together: what the store says a ledger must hold is what
/// its accepted webhooks add up to.
#[tokio::test]
async fn the_expected_ledger_is_what_the_accepted_webhooks_say() {
    // One request in three fails, and one webhook in eight fails for ever.
    let doomed = |id: &str| id.starts_with(['0', '1']);
    let receiver =
        Receiver::choosy(move |nth, id| if nth % 3 == 0 || doomed(id) { 500 } else { 200 }).await;
    let faults = Faults {
        duplicate: 0.2,
        delay: 0.5,
        delay_max: Duration::from_millis(20),
        cancel: 0.2,
        refund: 0.3,
        change_after_max: Duration::from_millis(20),
        ..Faults::default()
    };
    let targets = vec![receiver.url.clone()];
    let items = many_items();
    let store =
        open(Options { items, targets, faults, orders_per_second: 2000.0, ..options() }).await;
    soon(store.wait_until(|stats| stats.orders >= 150)).await;
    store.stop_selling();
    soon(store.drained()).await;
    let stats = store.stats();
    assert!(stats.cancellations > 0 && stats.refunds > 0 && stats.duplicates > 0, "{stats:?}");
    assert!(stats.given_up > 0 && stats.acknowledged > 0, "{stats:?}");
    assert_eq!(stats.acknowledged + stats.given_up, stats.webhooks);
    let mut expected = store.expected_committed();
    expected.retain(|_, committed| *committed != 0);
    let mut ledger = committed(&receiver.seen());
    ledger.retain(|_, committed| *committed != 0);
    assert_eq!(ledger, expected);
    soon(store.shutdown()).await;
}

/// A store that sells below zero would make oversells that no sync could prevent.
#[tokio::test]
async fn customers_buy_only_what_is_shown() {
    let store =
        open(Options { items: many_items(), orders_per_second: 50_000.0, ..options() }).await;
    soon(async {
        while store.shown().values().any(|available| *available > 0) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    store.stop_selling();
    let history = store.history();
    assert!(history.movements.iter().all(|m| m.shown_after >= 0 && m.oversold == 0));
    assert_eq!(history.movements.iter().map(|m| m.quantity).sum::<u32>(), 600);
    let orders: BTreeSet<_> = history.movements.iter().map(|m| m.order_id).collect();
    assert!(orders.len() < history.movements.len(), "some orders have several lines");
    assert!(store.sell_one("SKU-1", 1).is_err());
    assert!(store.sell_one("SKU-99", 1).is_err());
}

/// Two stores that both show the last unit: the second sale of it is the oversell, and says why.
#[tokio::test]
async fn the_warehouse_names_what_was_oversold() {
    let warehouse = Warehouse::open([("MUG", 3)]);
    let start = async |name: &str| {
        let items = vec![item("MUG", 1, 3)];
        Store::start(Options { items, ..Options::new(name) }, warehouse.clone()).await.unwrap()
    };
    let (north, south) = (start("north").await, start("south").await);
    let order = north.sell_one("MUG", 2).unwrap();
    let second = south.sell_one("MUG", 3).unwrap();
    assert_eq!((warehouse.units("MUG"), warehouse.oversold_units()), (-2, 2));
    let oversell = warehouse.oversells().remove(0);
    assert_eq!((oversell.store.as_str(), oversell.order_id), ("south", second));
    assert_eq!((oversell.units, oversell.shown_before, oversell.units_before), (2, 3, 1));
    assert_eq!((north.stats().units_oversold, south.stats().units_oversold), (0, 2));
    north.cancel(order, Restock::Cancel).unwrap();
    assert_eq!(warehouse.units("MUG"), 0);
    warehouse.receive("MUG", 1);
    south.set_available("MUG", 1).unwrap();
    south.sell_one("MUG", 1).unwrap();
    assert_eq!(warehouse.oversold_units(), 2);
}

/// The same seed must ask for the same baskets, or no failure can be looked at twice.
#[tokio::test]
async fn the_same_seed_brings_the_same_customers() {
    let run = async |seed: u64| {
        let items = many_items();
        let store = open(Options { items, seed, orders_per_second: 20_000.0, ..options() }).await;
        soon(store.wait_until(|stats| stats.orders >= 50)).await;
        store.stop_selling();
        let sales = store.history().movements.into_iter().filter(|m| m.cause == Cause::Sold);
        let sales: Vec<_> = sales.map(|m| (m.sku, m.quantity)).take(50).collect();
        soon(store.shutdown()).await;
        sales
    };
    assert_eq!(run(7).await, run(7).await);
    assert_ne!(run(7).await, run(8).await);
}
