//! Promise: what `WooCommerce` says of orders and products is understood, in webhooks and answers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod common;
#[path = "common/payloads.rs"]
mod payloads;

use channels::Understood;
use channels::woocommerce::{parse, poll};
use common::{golden, parsed};
use payloads::{assert_dead, assert_sound, facts, sample, sample_json};
use proptest::prelude::*;
use serde_json::{Value, json};
use state::command::Fact;
use state::order::LineImage;

const TOPICS: [(&str, &str); 11] = [
    ("order.created.json", "order.created"),
    ("order.updated.json", "order.updated"),
    ("order.updated_partial_refund.json", "order.updated"),
    ("order.deleted.json", "order.deleted"),
    ("product.created.json", "product.created"),
    ("product.updated.json", "product.updated"),
    ("product.updated_variable_parent.json", "product.updated"),
    ("product.updated_variation.json", "product.updated"),
    ("product.deleted.json", "product.deleted"),
    ("action.woocommerce_product_set_stock.json", "action.woocommerce_product_set_stock"),
    // What the plugin sends in place of an order that the hook's owner may not read has this shape.
    ("error_413.json", "order.updated"),
];

const NOT_PARSED: [(&str, &str); 1] =
    [("ping.txt", "a form without a signature: answered before anything is verified")];

fn understood(topic: &str, body: &[u8]) -> Understood {
    let parsed = parsed(parse, &[("x-wc-webhook-topic", topic)], body);
    assert_eq!((parsed.id, parsed.essence), (None, None), "no id of WooCommerce's is one");
    assert_eq!(parsed.topic, topic);
    parsed.understood
}

fn said(topic: &str, body: &Value) -> Understood {
    understood(topic, body.to_string().as_bytes())
}

fn image(understood: Understood) -> (String, u64, Vec<LineImage>) {
    match &facts(understood)[..] {
        [Fact::Image { order, version, whole: true, lines }] => {
            (order.clone(), *version, lines.clone())
        }
        other => panic!("{other:?}"),
    }
}

/// The sample order with this done to it.
fn order_with(change: impl Fn(&mut Value)) -> Value {
    let mut order = sample_json("woocommerce", "order.created.json");
    change(&mut order);
    order
}

fn line_of(order: &Value) -> LineImage {
    image(said("order.updated", order)).2.remove(0)
}

// A change of a parser that nobody meant would move other stock than yesterday.
#[test]
fn samples_mean_what_they_meant() {
    for (file, topic) in TOPICS {
        let body = sample("woocommerce", file);
        let parsed = parsed(parse, &[("x-wc-webhook-topic", topic)], &body);
        golden("woocommerce", file, &format!("{parsed:#?}"));
    }
    payloads::assert_all_named("woocommerce", &TOPICS.map(|(file, _)| file), &NOT_PARSED);
}

// The topic is not signed: whoever holds a body could have it read as something else.
#[test]
fn a_body_under_another_topic_is_dead() {
    let order = sample_json("woocommerce", "order.created.json");
    let product = sample_json("woocommerce", "product.updated.json");
    let poke = sample_json("woocommerce", "action.woocommerce_product_set_stock.json");
    for (topic, body) in [
        ("order.updated", &product),
        ("order.deleted", &product),
        ("order.deleted", &order),
        ("product.updated", &order),
        ("product.deleted", &order),
        ("coupon.updated", &order),
        ("customer.updated", &product),
        ("action.woocommerce_variation_set_stock", &poke),
        ("action.woocommerce_product_set_stock", &order),
        ("order.updated", &poke),
    ] {
        assert!(matches!(said(topic, body), Understood::Dead(_)), "{topic}: {body}");
    }
    assert_dead(&said("order.unheard_of", &order), "unknown");
    assert_dead(&said("order", &order), "unknown");
    let missing = parsed(parse, &[], order.to_string().as_bytes());
    assert_dead(&missing.understood, "header is missing");
}

// An order in the trash, or a draft, that held its units would keep them for good; one on hold that held
// none would sell them twice.
#[test]
fn a_status_says_whether_units_are_held() {
    let held = |status: &str| {
        let line = line_of(&order_with(|order| order["status"] = status.into()));
        (line.quantity, line.fulfilled)
    };
    for status in ["on-hold", "processing", "refunded", "awaiting-pickup", "wholesale-quote"] {
        assert_eq!(held(status), (2, 0), "{status}");
    }
    assert_eq!(held("completed"), (2, 2));
    for status in ["pending", "failed", "cancelled", "trash", "checkout-draft", "auto-draft"] {
        assert_eq!(held(status), (0, 0), "{status}");
    }
}

// A refund alone is money. Units that were put back and then freed once more by a cancellation would be
// sold twice.
#[test]
fn what_was_put_back_counts_once() {
    let restocked = |status: &str, count: Value| {
        let line = line_of(&order_with(|order| {
            order["status"] = status.into();
            order["refunds"] = json!([{"id": 728, "reason": "", "total": "-19.90"}]);
            order["line_items"][0]["meta_data"] = json!([
                {"id": 1, "key": "_reduced_stock", "value": "1"},
                {"id": 2, "key": "_restock_refunded_items", "value": count},
            ]);
        }));
        (line.quantity, line.fulfilled, line.returned)
    };
    assert_eq!(restocked("processing", json!(null)), (2, 0, 0));
    assert_eq!(restocked("processing", json!("1")), (2, 1, 1));
    assert_eq!(restocked("processing", json!(1)), (2, 1, 1));
    assert_eq!(restocked("completed", json!("1")), (2, 2, 1));
    assert_eq!(restocked("refunded", json!("2")), (2, 2, 2));
    // One is back already; only the other becomes free.
    assert_eq!(restocked("cancelled", json!("1")), (1, 1, 1));
    let garbled = order_with(|order| {
        let meta = json!([{"key": "_restock_refunded_items", "value": "some"}]);
        order["line_items"][0]["meta_data"] = meta;
    });
    assert_dead(&said("order.updated", &garbled), "_restock_refunded_items");
    // PHP writes a list with gaps as an object.
    let gaps = order_with(|order| {
        let meta = json!({"3": {"key": "_restock_refunded_items", "value": "1"}});
        order["line_items"][0]["meta_data"] = meta;
    });
    assert_eq!(line_of(&gaps).returned, 1);
}

// A variation's units taken from its parent's listing would be those of another SKU.
#[test]
fn a_line_names_what_was_sold() {
    let line = line_of(&order_with(|_| ()));
    assert_eq!((line.listing.as_deref(), line.sku.as_deref()), (Some("93"), Some("TEE-M")));
    let line = line_of(&order_with(|order| order["line_items"][0]["variation_id"] = 101.into()));
    assert_eq!(line.listing.as_deref(), Some("101"));
    // Of a product that is gone; it waits for a person.
    let line = line_of(&order_with(|order| {
        order["line_items"][0]["product_id"] = 0.into();
        order["line_items"][0]["sku"] = Value::Null;
    }));
    assert_eq!((line.listing, line.sku, line.quantity), (None, None, 2));
    let line = line_of(&order_with(|order| order["line_items"][0]["sku"] = "  ".into()));
    assert_eq!(line.sku, None);
}

// Plugins make quantities floats. Rounding a fraction would lose a part of it without a word.
#[test]
fn a_quantity_is_whole_or_dead() {
    let with = |quantity: Value| {
        let change = |order: &mut Value| order["line_items"][0]["quantity"] = quantity.clone();
        said("order.updated", &order_with(change))
    };
    for two in [json!(2), json!(2.0), json!("2"), json!("2.00")] {
        assert_eq!(image(with(two)).2[0].quantity, 2);
    }
    for bad in [json!(1.5), json!("1.5"), json!(-1), json!(1e30), json!(2_000_000_000), json!("")] {
        assert_dead(&with(bad), "quantity");
    }
}

// The shop's own time read as UTC would put every change hours into the past or the future.
#[test]
fn the_version_is_the_time_in_utc() {
    let (order, version, _) = image(said("order.updated", &order_with(|_| ())));
    assert_eq!((order.as_str(), version), ("727", 1_795_186_802_001), "2026-11-20T15:00:02Z");
    let undated = order_with(|order| order["date_modified_gmt"] = Value::Null);
    assert!(matches!(said("order.updated", &undated), Understood::Dead(_)));
}

// An order placed, paid and cancelled within one second has three images of one time: were they equal,
// whichever came last would hold units for nobody, or sell a paid one's twice.
#[test]
fn within_a_second_an_order_only_goes_on() {
    let version = |status: &str| {
        image(said("order.updated", &order_with(|order| order["status"] = status.into()))).1
    };
    assert!(version("pending") < version("processing"));
    assert_eq!(version("processing"), version("completed"));
    assert!(version("completed") < version("cancelled"));
    let next = order_with(|order| order["date_modified_gmt"] = "2026-11-20T15:00:03".into());
    assert!(version("cancelled") < image(said("order.updated", &next)).1);
}

// Put into the trash, taken out, and put there again: the same body, and no repetition.
#[test]
fn an_order_can_be_put_into_the_trash_twice() {
    let trashed = |sent: &str| {
        let headers = [("x-wc-webhook-topic", "order.deleted"), ("x-wc-webhook-delivery-id", sent)];
        parsed(parse, &headers, br#"{"id":727}"#).id
    };
    assert_eq!(trashed("ab12"), Some("727/ab12".into()));
    assert_ne!(trashed("ab12"), trashed("cd34"));
    assert_eq!(trashed("a b"), None, "then the body is the key");
    let order = sample_json("woocommerce", "order.created.json").to_string();
    let headers = [("x-wc-webhook-topic", "order.updated"), ("x-wc-webhook-delivery-id", "ab12")];
    assert_eq!(parsed(parse, &headers, order.as_bytes()).id, None, "two orders may share it");
}

// What a product shows must not be taken for a quantity of its own where it sells its parent's, or is
// not counted at all.
#[test]
fn a_product_shows_only_a_stock_of_its_own() {
    let product = |manages: Value, quantity: Value, sku: &str| {
        let mut product = sample_json("woocommerce", "product.updated.json");
        product["manage_stock"] = manages;
        product["stock_quantity"] = quantity;
        product["sku"] = sku.into();
        said("product.updated", &product)
    };
    let shown = |understood: Understood| {
        facts(understood).into_iter().find_map(|fact| match fact {
            Fact::Shown { listing, quantity, .. } => Some((listing, quantity)),
            _ => None,
        })
    };
    let of_93 = |quantity| Some(("93".to_string(), quantity));
    assert_eq!(shown(product(json!(true), json!(17), "TEE")), of_93(17));
    assert_eq!(shown(product(json!(true), json!(17.0), "")), of_93(17));
    assert_eq!(shown(product(json!(true), json!(-3), "TEE")), of_93(0), "on backorder");
    assert_eq!(shown(product(json!(true), json!(null), "TEE")), None);
    assert_eq!(shown(product(json!(false), json!(17), "TEE")), None);
    assert_eq!(shown(product(json!("parent"), json!(17), "TEE")), None);
    let nothing = product(json!("parent"), json!(17), "");
    assert!(matches!(nothing, Understood::Ignored(_)), "{nothing:?}");
    assert_dead(&product(json!(true), json!(0.5), "TEE"), "stock_quantity");
}

// Without a bound one order could fill the log, or stop every node that cannot keep it.
#[test]
fn what_is_too_large_is_dead() {
    let many = order_with(|order| {
        let line = order["line_items"][0].clone();
        order["line_items"] = vec![line; 1001].into();
    });
    assert_dead(&said("order.updated", &many), "more than 1000 lines");
    let long = order_with(|order| order["line_items"][0]["sku"] = "x".repeat(257).into());
    assert_dead(&said("order.updated", &long), "longer than 256");
}

// A shop behind a firewall answers a page of HTML, or an error: an empty page in its place would move the
// cursor past orders that nobody has seen.
#[test]
fn an_answer_that_is_no_page_is_an_error() {
    for answer in [&b"<html>"[..], b"{}", b"null", &sample("woocommerce", "error_413.json"), b""] {
        assert!(poll::orders(answer).is_err());
        assert!(poll::order(answer).is_err());
    }
    let page = poll::orders(b"[]").unwrap();
    assert_eq!((page.told.len(), page.next, page.newest_ms), (0, None, None));
}

// One order that is not understood must neither hide its neighbours nor hold the cursor back.
#[test]
fn a_page_survives_a_bad_order() {
    let mut late = order_with(|order| order["line_items"] = Value::Null);
    late["date_modified_gmt"] = "2026-11-20T15:00:09".into();
    let page = json!([order_with(|_| ()), late, 5]);
    let page = poll::orders(page.to_string().as_bytes()).unwrap();
    assert_eq!(page.newest_ms, Some(1_795_186_809_000));
    image(page.told[0].understood.clone());
    assert_dead(&page.told[1].understood, "unexpected shape");
    assert_dead(&page.told[2].understood, "unexpected shape");
}

#[derive(Clone, Debug)]
enum Change {
    Status(usize),
    Restock(usize, i64),
    Quantity(usize, i64),
    Add(i64),
    Remove(usize),
}

const STATUSES: [&str; 8] =
    ["pending", "on-hold", "processing", "completed", "refunded", "cancelled", "trash", "custom"];

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        (0..STATUSES.len()).prop_map(Change::Status),
        (0_usize..4, 1_i64..3).prop_map(|(line, units)| Change::Restock(line, units)),
        (0_usize..4, 0_i64..9).prop_map(|(line, units)| Change::Quantity(line, units)),
        (1_i64..9).prop_map(Change::Add),
        (0_usize..4).prop_map(Change::Remove),
    ];
    prop::collection::vec(change, 1..12)
}

/// A shop's own view of an order: per line its id, what was ordered, and what was put back of it.
struct Shop {
    status: &'static str,
    lines: Vec<(u64, i64, i64)>,
    second: u64,
    next_line: u64,
}

impl Shop {
    fn apply(&mut self, change: &Change) {
        self.second += 1;
        match *change {
            Change::Status(n) => self.status = STATUSES[n],
            Change::Add(units) => {
                self.next_line += 1;
                self.lines.push((self.next_line, units, 0));
            }
            Change::Remove(line) if line < self.lines.len() => drop(self.lines.remove(line)),
            Change::Restock(line, units) => {
                if let Some((_, ordered, restocked)) = self.lines.get_mut(line) {
                    *restocked = (*restocked + units).min(*ordered);
                }
            }
            Change::Quantity(line, units) => {
                if let Some((_, ordered, restocked)) = self.lines.get_mut(line) {
                    *ordered = units.max(*restocked);
                }
            }
            Change::Remove(_) => {}
        }
    }

    /// What the shop takes off its own stock for a line.
    fn reduced(&self, line: &(u64, i64, i64)) -> i64 {
        let held = ["on-hold", "processing", "completed", "refunded", "custom"];
        if held.contains(&self.status) { line.1 - line.2 } else { 0 }
    }

    /// As a webhook shows it, or as the API does, which adds links.
    fn json(&self, api: bool) -> Value {
        let line = |&(id, ordered, restocked): &(u64, i64, i64)| {
            let mut meta = vec![json!({"id": 1, "key": "_reduced_stock", "value": "1"})];
            if restocked > 0 {
                let value = if api { json!(restocked.to_string()) } else { json!(restocked) };
                meta.push(json!({"id": 2, "key": "_restock_refunded_items", "value": value}));
            }
            json!({"id": id, "product_id": 90 + id, "variation_id": 0, "sku": format!("SKU-{id}"),
                "quantity": ordered, "price": 19.9, "meta_data": meta})
        };
        let lines: Vec<Value> = self.lines.iter().map(line).collect();
        let gmt = format!("2026-11-20T15:00:{:02}", self.second);
        let mut order = json!({"id": 727, "status": self.status, "date_modified_gmt": gmt,
            "date_modified": "2026-11-20T10:00:00", "line_items": lines, "refunds": []});
        if api {
            order["_links"] = json!({"self": [{"href": "https://shop.example/727"}]});
        }
        order
    }
}

proptest! {
    #![proptest_config(payloads::cases())]

    // The same change heard twice, as a webhook and by polling, must be the same fact, or it would move
    // stock twice; and the units that it stands for must be those that the shop took off its own stock.
    #[test]
    fn a_webhook_and_an_answer_say_the_same(changes in changes()) {
        let mut shop = Shop { status: "pending", lines: Vec::new(), second: 0, next_line: 0 };
        for change in &changes {
            shop.apply(change);
            let webhook = facts(said("order.updated", &shop.json(false)));
            let page = Value::from(vec![shop.json(true)]).to_string();
            let mut page = poll::orders(page.as_bytes()).unwrap();
            let one = poll::order(shop.json(true).to_string().as_bytes()).unwrap();
            prop_assert_eq!(&webhook, &facts(page.told.remove(0).understood));
            prop_assert_eq!(&webhook, &facts(one.understood));
            let [Fact::Image { lines, version, .. }] = &webhook[..] else { panic!("{webhook:?}") };
            prop_assert_eq!(page.newest_ms, Some(*version / 1000 * 1000));
            prop_assert_eq!(lines.len(), shop.lines.len());
            for (line, of_shop) in lines.iter().zip(&shop.lines) {
                prop_assert_eq!(line.quantity - line.returned, shop.reduced(of_shop));
            }
        }
    }

    // A stranger's bytes must not stop the node, nor put into the log what the state cannot keep.
    #[test]
    fn nothing_panics_over_bytes(topic in 0..TOPICS.len(), body in prop::collection::vec(any::<u8>(), 1..200)) {
        assert_sound(&understood(TOPICS[topic].1, &body));
        let _ = poll::orders(&body);
        let _ = poll::order(&body);
    }

    #[test]
    fn nothing_panics_over_json(
        (topic, body) in (0..TOPICS.len()).prop_flat_map(|n| {
            (Just(TOPICS[n].1), payloads::spoilt(sample_json("woocommerce", TOPICS[n].0)))
        })
    ) {
        assert_sound(&said(topic, &body));
        if let Ok(told) = poll::order(body.to_string().as_bytes()) {
            assert_sound(&told.understood);
        }
        if let Ok(page) = poll::orders(Value::from(vec![body]).to_string().as_bytes()) {
            page.told.iter().for_each(|told| assert_sound(&told.understood));
        }
    }
}
