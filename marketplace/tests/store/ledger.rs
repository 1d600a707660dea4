//! A ledger in its simplest form, and whether the books that the store expects are its books.

use std::{collections::BTreeMap, time::Duration};

use marketplace::{
    Costs, Faults, Item, Options, Store, Warehouse,
    history::{Expected, ExpectedBySku, Progress},
    shopify::sign::Topic,
};
use serde_json::Value;

use crate::{
    orders::every_order,
    support::{Receiver, Seen, item, options, soon},
};

/// By line: its SKU, and what is wanted.
type Lines = BTreeMap<u64, (String, i64)>;

/// The union of what was heard: of each order the newest image, and every refund and fulfilment once.
#[derive(Default)]
struct Ledger {
    /// By order: its version, and its lines with what is wanted of each.
    images: BTreeMap<u64, (String, Lines)>,
    /// By refund or fulfilment, its line, and what becomes of the units.
    moved: BTreeMap<(u64, u64, String), (u64, i64)>,
}

/// An id, however it is spelled.
fn id(value: &Value) -> u64 {
    let gid = || value.as_str().and_then(|gid| gid.rsplit('/').next()?.parse().ok());
    value.as_u64().or_else(gid).unwrap()
}

fn list<'a>(value: &'a Value, rest: &str, graphql: &str) -> &'a Vec<Value> {
    let list = value.get(rest).unwrap_or(&value[graphql]);
    list.as_array().or_else(|| list["nodes"].as_array()).unwrap()
}

fn units(value: &Value) -> i64 {
    value.as_i64().unwrap()
}

impl Ledger {
    /// What was answered 2xx.
    fn of(seen: &[Seen]) -> Self {
        let mut ledger = Self::default();
        for seen in seen.iter().filter(|seen| (200..300).contains(&seen.answered)) {
            let body = seen.json();
            match seen.header("x-shopify-topic") {
                "refunds/create" => ledger.refund(id(&body["order_id"]), &body),
                "fulfillments/create" => ledger.fulfillment(id(&body["order_id"]), &body),
                "orders/edited" | "inventory_levels/update" => {}
                _ => ledger.order(&body),
            }
        }
        ledger
    }

    /// An order as webhooks or as the Admin API show it.
    fn order(&mut self, body: &Value) {
        let order = id(&body["id"]);
        let mut refunded: BTreeMap<u64, i64> = BTreeMap::new();
        for refund in list(body, "refunds", "refunds") {
            self.refund(order, refund);
            for line in list(refund, "refund_line_items", "refundLineItems") {
                *refunded.entry(line_of(line)).or_default() += units(&line["quantity"]);
            }
        }
        for fulfillment in list(body, "fulfillments", "fulfillments") {
            self.fulfillment(order, fulfillment);
        }
        let version = body.get("updated_at").unwrap_or(&body["updatedAt"]).as_str().unwrap();
        let image = self.images.entry(order).or_default();
        if version < image.0.as_str() {
            return;
        }
        let lines = list(body, "line_items", "lineItems").iter().map(|line| {
            let (line_id, quantity) = (id(&line["id"]), units(&line["quantity"]));
            let current = units(line.get("current_quantity").unwrap_or(&line["currentQuantity"]));
            let edited = quantity - current - refunded.get(&line_id).unwrap_or(&0);
            assert!(edited >= 0, "{body}");
            (line_id, (line["sku"].as_str().unwrap().to_owned(), quantity - edited))
        });
        *image = (version.to_owned(), lines.collect());
    }

    fn refund(&mut self, order: u64, refund: &Value) {
        for line in list(refund, "refund_line_items", "refundLineItems") {
            let kind = line.get("restock_type").unwrap_or(&line["restockType"]).as_str().unwrap();
            let key = (id(&refund["id"]), line_of(line), kind.to_lowercase());
            self.move_units(key, (order, units(&line["quantity"])));
        }
    }

    fn fulfillment(&mut self, order: u64, fulfillment: &Value) {
        for line in list(fulfillment, "line_items", "fulfillmentLineItems") {
            let line_id = line.get("lineItem").map_or_else(|| id(&line["id"]), |of| id(&of["id"]));
            let key = (id(&fulfillment["id"]), line_id, "fulfilled".to_owned());
            self.move_units(key, (order, units(&line["quantity"])));
        }
    }

    /// The same one is told in several bodies; it never changes.
    fn move_units(&mut self, key: (u64, u64, String), units: (u64, i64)) {
        let known = self.moved.insert(key, units);
        assert!(known.is_none_or(|known| known == units), "{known:?} became {units:?}");
    }

    fn books(&self) -> ExpectedBySku {
        let mut books: BTreeMap<String, Expected> = BTreeMap::new();
        for (sku, wanted) in self.images.values().flat_map(|(_, lines)| lines.values()) {
            books.entry(sku.clone()).or_default().committed += wanted;
        }
        for ((_, line, kind), (order, quantity)) in &self.moved {
            let Some((sku, _)) = self.images.get(order).and_then(|image| image.1.get(line)) else {
                continue;
            };
            let sku = books.entry(sku.clone()).or_default();
            match kind.as_str() {
                "cancel" => sku.committed -= quantity,
                "return" => sku.returned += quantity,
                "fulfilled" => sku.fulfilled += quantity,
                _ => {}
            }
        }
        books
    }
}

fn line_of(line: &Value) -> u64 {
    line.get("line_item_id").map_or_else(|| id(&line["lineItem"]["id"]), id)
}

fn many_items() -> Vec<Item> {
    (1..=20_u8).map(|n| item(&format!("SKU-{n}"), n.into(), 60)).collect()
}

/// What moved; the rest is zero on both sides.
fn moved(mut books: ExpectedBySku) -> ExpectedBySku {
    books.retain(|_, sku| *sku != Expected::default());
    books
}

async fn busy(receiver: &Receiver, warehouse: &Warehouse) -> Store {
    let faults = Faults {
        drop: 0.15,
        duplicate: 0.1,
        delay: 0.5,
        delay_max: Duration::from_millis(20),
        cancel: 0.1,
        refund: 0.4,
        edit: 0.4,
        fulfil: 0.6,
        change_after_max: Duration::from_millis(20),
        ..Faults::default()
    };
    let store = Options {
        items: many_items(),
        targets: vec![receiver.url.clone()],
        topics: Topic::ALL.into(),
        faults,
        // Enough points for all pages at once.
        costs: Costs { maximum_available: 1_000_000, ..Costs::default() },
        orders_per_second: 2000.0,
        ..options()
    };
    let store = Store::start(store, warehouse.clone()).await.unwrap();
    soon(store.wait_until(|stats| stats.orders >= 150)).await;
    store.stop_selling();
    soon(store.drained()).await;
    store
}

/// Orders that are edited, shipped, refunded and cancelled, with webhooks late, doubled, lost and never
/// sent: what the store says a ledger must hold is what its accepted webhooks add up to, and what its
/// orders query adds up to is everything.
#[tokio::test]
async fn the_expected_books_are_what_was_told_and_what_can_be_asked() {
    let receiver =
        Receiver::choosy(
            |nth, id| {
                if nth % 3 == 0 || id.starts_with(['0', '1']) { 500 } else { 200 }
            },
        )
        .await;
    let warehouse = Warehouse::open(many_items().into_iter().map(|i| (i.sku, i.available)));
    let store = busy(&receiver, &warehouse).await;
    let stats = store.stats();
    assert!(stats.cancellations > 0 && stats.refunds > 0, "{stats:?}");
    assert!(stats.edits > 0 && stats.fulfillments > 0 && stats.webhooks_dropped > 0, "{stats:?}");
    assert_eq!(stats.acknowledged + stats.given_up, stats.webhooks);

    assert_eq!(moved(Ledger::of(&receiver.seen()).books()), moved(store.expected()));

    let mut asked = Ledger::default();
    every_order(&store, "status:any").await.iter().for_each(|order| asked.order(order));
    assert_eq!(asked.images.len(), usize::try_from(stats.orders).unwrap());
    assert_eq!(moved(asked.books()), moved(store.expected_of_all()));

    let returned = store.expected_of_all().values().map(|sku| sku.returned).sum::<i64>();
    assert!(returned > 0 && store.expected() != store.expected_of_all());
    soon(store.shutdown()).await;
}

/// The store's truth must agree with itself: units do not appear or vanish by an edit or a shipment.
#[tokio::test]
async fn the_books_add_up_to_what_is_shown() {
    let receiver = Receiver::open(|_| 200).await;
    let warehouse = Warehouse::open(many_items().into_iter().map(|i| (i.sku, i.available)));
    let store = busy(&receiver, &warehouse).await;
    let history = store.history();
    for (sku, expected) in store.expected_of_all() {
        let shown = store.available(&sku).unwrap();
        assert_eq!(shown, 60 - expected.committed + expected.returned, "{sku}");
        // One store alone shows what is truly there.
        assert_eq!(shown, warehouse.units(&sku), "{sku}");
        let shipped = history.shipments.iter().filter(|shipment| shipment.sku == sku);
        assert_eq!(shipped.map(|s| i64::from(s.quantity)).sum::<i64>(), expected.fulfilled);
    }
    let dropped = history.webhooks.iter().filter(|w| w.progress == Progress::Dropped);
    let dropped: Vec<_> = dropped.collect();
    assert_eq!(dropped.len(), usize::try_from(store.stats().webhooks_dropped).unwrap());
    assert!(dropped.iter().all(|webhook| webhook.attempts.is_empty()));
    assert_eq!(warehouse.oversold_units(), 0);
    soon(store.shutdown()).await;
}
