//! Promise: what Shopify says in webhooks is understood, and nothing that it did not say.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod common;
#[path = "common/payloads.rs"]
mod payloads;

use channels::shopify::parse;
use channels::{Parsed, Understood};
use common::{golden, parsed};
use payloads::{assert_dead, assert_sound, facts, sample, sample_json};
use proptest::prelude::*;
use serde_json::{Value, json};
use state::command::Fact;
use state::order::{LineImage, Removal};

const SAMPLES: [(&str, &str); 17] = [
    ("app_uninstalled.json", "app/uninstalled"),
    ("inventory_items_create.json", "inventory_items/create"),
    ("inventory_items_delete.json", "inventory_items/delete"),
    ("inventory_items_update.json", "inventory_items/update"),
    ("inventory_levels_connect.json", "inventory_levels/connect"),
    ("inventory_levels_disconnect.json", "inventory_levels/disconnect"),
    ("inventory_levels_update.json", "inventory_levels/update"),
    ("inventory_levels_update_untracked.json", "inventory_levels/update"),
    ("orders_cancelled.json", "orders/cancelled"),
    ("orders_create.json", "orders/create"),
    ("orders_edited.json", "orders/edited"),
    ("orders_updated.json", "orders/updated"),
    ("products_delete.json", "products/delete"),
    ("products_update.json", "products/update"),
    ("refunds_create.json", "refunds/create"),
    ("refunds_create_no_restock.json", "refunds/create"),
    ("shop_redact.json", "shop/redact"),
];

const TOPICS: [&str; 27] = [
    "orders/create",
    "orders/updated",
    "orders/cancelled",
    "orders/paid",
    "orders/fulfilled",
    "orders/partially_fulfilled",
    "orders/edited",
    "orders/delete",
    "refunds/create",
    "fulfillments/create",
    "fulfillments/update",
    "inventory_levels/update",
    "inventory_levels/connect",
    "inventory_levels/disconnect",
    "inventory_items/create",
    "inventory_items/update",
    "inventory_items/delete",
    "products/create",
    "products/update",
    "products/delete",
    "app/uninstalled",
    "customers/data_request",
    "customers/redact",
    "shop/redact",
    "orders/unheard_of",
    "",
    "x",
];

fn said(topic: &str, body: &Value) -> Understood {
    delivered(topic, body.to_string().as_bytes()).understood
}

fn delivered(topic: &str, body: &[u8]) -> Parsed {
    parsed(parse, &[("X-Shopify-Topic", topic), ("X-Shopify-Webhook-Id", "b54557e4")], body)
}

fn of_sample(topic: &str, file: &str) -> Vec<Fact> {
    facts(said(topic, &sample_json("shopify", file)))
}

/// The order of the samples with this done to it.
fn order_with(change: impl FnOnce(&mut Value)) -> Value {
    let mut order = sample_json("shopify", "orders_create.json");
    change(&mut order);
    order
}

fn image(facts: &[Fact]) -> &[LineImage] {
    let [Fact::Image { lines, .. }, ..] = facts else { panic!("no image comes first: {facts:?}") };
    lines
}

/// Line, units and what becomes of them, of all removals.
fn removals(facts: &[Fact]) -> Vec<(&str, i64, Removal)> {
    let lines = facts.iter().filter_map(|fact| match fact {
        Fact::Removals { lines, .. } => Some(lines),
        _ => None,
    });
    let lines = lines.flatten();
    lines.map(|line| (line.line.as_str(), line.quantity, line.removal)).collect()
}

fn shipment(status: &str) -> Value {
    json!({
        "id": 255_858_046_u64, "order_id": 5_678_901_234_567_u64, "status": status,
        "created_at": "2026-11-21T09:00:00-05:00", "updated_at": "2026-11-21T09:00:00-05:00",
        "line_items": [{"id": 11001, "variant_id": 40001, "sku": "TEE-M", "quantity": 1,
            "gift_card": false, "variant_inventory_management": "shopify"}],
    })
}

// A change of a parser that nobody meant would move other stock than yesterday.
#[test]
fn samples_mean_what_they_meant() {
    for (file, topic) in SAMPLES {
        golden("shopify", file, &format!("{:#?}", delivered(topic, &sample("shopify", file))));
    }
    payloads::assert_all_named("shopify", &SAMPLES.map(|(file, _)| file), &[]);
}

// Quantities could be read from the wrong field: `quantity` is what was ordered, `current_quantity` is
// what refunds and edits have left of it.
#[test]
fn an_order_says_what_was_ordered() {
    let facts = of_sample("orders/create", "orders_create.json");
    let [Fact::Image { order, version, whole, lines }] = &facts[..] else { panic!("{facts:?}") };
    assert_eq!((order.as_str(), *whole), ("5678901234567", true));
    assert_eq!(*version, 1_795_186_802_000, "2026-11-20T10:00:02-05:00");
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].id, "11001");
    assert_eq!((lines[0].sku.as_deref(), lines[0].quantity), (Some("TEE-M"), 2));
    assert_eq!(lines[0].listing.as_deref(), Some("gid://shopify/ProductVariant/40001"));
}

// A cancellation carries the whole order: its refunds say what goes back, and the image must not
// shrink as well, or units would go back twice.
#[test]
fn a_cancelled_order_says_what_goes_back_once() {
    let cancelled = of_sample("orders/cancelled", "orders_cancelled.json");
    assert_eq!(image(&cancelled)[0].quantity, 2);
    assert_eq!(removals(&cancelled), [("11001", 2, Removal::Cancelled)]);
}

// A merchant who cancels without restocking says that the units are gone; freeing them sells them again.
#[test]
fn a_cancellation_without_a_restock_frees_nothing() {
    let order = order_with(|order| {
        order["cancelled_at"] = "2026-11-20T11:00:00-05:00".into();
        order["line_items"][0]["current_quantity"] = 0.into();
        order["refunds"] = json!([sample_json("shopify", "refunds_create_no_restock.json")]);
        order["refunds"][0]["refund_line_items"][0]["quantity"] = 2.into();
    });
    let facts = facts(said("orders/cancelled", &order));
    assert_eq!(image(&facts)[0].quantity, 2);
    assert_eq!(removals(&facts), [("11001", 2, Removal::NoRestock)]);
}

// An edit leaves no refund behind: unless the image shrinks, the units that it took out stay sold for
// good. But what a refund explains must not shrink it too.
#[test]
fn an_edit_lowers_what_is_wanted_and_a_refund_does_not() {
    let quantity = |ordered: i64, current: i64, refunded: Option<i64>| {
        let order = order_with(|order| {
            let line = &mut order["line_items"][0];
            (line["quantity"], line["current_quantity"]) = (ordered.into(), current.into());
            match refunded {
                None => drop(order.as_object_mut().unwrap().remove("refunds")),
                Some(0) => {}
                Some(units) => {
                    order["refunds"] = json!([sample_json("shopify", "refunds_create.json")]);
                    order["refunds"][0]["refund_line_items"][0]["quantity"] = units.into();
                }
            }
        });
        image(&facts(said("orders/updated", &order)))[0].quantity
    };
    assert_eq!(quantity(5, 5, Some(0)), 5);
    assert_eq!(quantity(5, 3, Some(0)), 3, "an edit took 2 out");
    assert_eq!(quantity(5, 3, Some(2)), 5, "a refund explains it");
    assert_eq!(quantity(5, 2, Some(2)), 4, "2 refunded, 1 edited out");
    assert_eq!(quantity(5, 4, Some(2)), 5, "a refund seen before its line");
    assert_eq!(quantity(5, 3, None), 5, "nobody can tell without the refunds");
}

// Money that goes back is not stock that comes back.
#[test]
fn a_refund_says_whether_units_come_back() {
    let cancelled = of_sample("refunds/create", "refunds_create.json");
    assert_eq!(removals(&cancelled), [("11001", 1, Removal::Cancelled)]);
    let kept = of_sample("refunds/create", "refunds_create_no_restock.json");
    assert_eq!(removals(&kept), [("11001", 1, Removal::NoRestock)]);
    let with = |restock_type: &str| {
        let mut refund = sample_json("shopify", "refunds_create.json");
        refund["refund_line_items"][0]["restock_type"] = restock_type.into();
        said("refunds/create", &refund)
    };
    for restocked in ["return", "legacy_restock"] {
        assert_eq!(removals(&facts(with(restocked))), [("11001", 1, Removal::Returned)]);
    }
    assert_dead(&with("burn"), "\"burn\" is unknown");
    let mut money = sample_json("shopify", "refunds_create.json");
    money["refund_line_items"] = json!([]);
    assert!(matches!(said("refunds/create", &money), Understood::Ignored(_)));
}

// The same refund comes by itself and inside every later picture of its order: under another id or with
// other units it would go back twice.
#[test]
fn a_refund_is_the_same_by_itself_and_within_its_order() {
    let mut refund = sample_json("shopify", "refunds_create.json");
    // Two rows of one line and one kind, as a refund of units from two places has them.
    let row = refund["refund_line_items"][0].clone();
    refund["refund_line_items"].as_array_mut().unwrap().push(row);
    let order = order_with(|order| order["refunds"] = json!([refund]));
    let by_itself = facts(said("refunds/create", &refund));
    assert_eq!(removals(&by_itself), [("11001", 2, Removal::Cancelled)]);
    assert_eq!(facts(said("orders/updated", &order))[1..], by_itself);
    let other = order_with(|order| {
        order["refunds"] = json!([refund]);
        order["id"] = 1.into();
    });
    assert_dead(
        &said("orders/updated", &other),
        "a refund of order 5678901234567 stands in order 1",
    );
}

// A shipment that failed, was called off or has not left would take units off the shelf that are there.
#[test]
fn only_what_was_shipped_has_left() {
    let shipped = facts(said("fulfillments/update", &shipment("success")));
    assert_eq!(removals(&shipped), [("11001", 1, Removal::Fulfilled)]);
    let order = order_with(|order| order["fulfillments"] = json!([shipment("success")]));
    assert_eq!(facts(said("orders/fulfilled", &order))[1..], shipped);
    for status in ["cancelled", "error", "failure", "open", "pending"] {
        let alone = said("fulfillments/create", &shipment(status));
        assert!(matches!(alone, Understood::Ignored(_)), "{status}: {alone:?}");
        let order = order_with(|order| order["fulfillments"] = json!([shipment(status)]));
        assert_eq!(facts(said("orders/updated", &order)).len(), 1, "{status}");
    }
    assert_dead(&said("fulfillments/create", &shipment("teleported")), "is unknown");
}

// What has no stock would wait for a mapping for ever; and an image that leaves it out must not say that
// it was taken out, since it may have been tracked when it was sold.
#[test]
fn lines_without_stock_are_left_out_and_not_taken_out() {
    let whole_and_lines = |change: fn(&mut Value)| {
        let order = order_with(|order| {
            let mut second = order["line_items"][0].clone();
            second["id"] = 11002.into();
            change(&mut second);
            order["line_items"].as_array_mut().unwrap().push(second);
        });
        let facts = facts(said("orders/create", &order));
        let [Fact::Image { whole, lines, .. }] = &facts[..] else { panic!("{facts:?}") };
        (*whole, lines.len())
    };
    assert_eq!(whole_and_lines(|_| ()), (true, 2));
    assert_eq!(whole_and_lines(|line| line["gift_card"] = true.into()), (false, 1));
    let unmanaged = |line: &mut Value| line["variant_inventory_management"] = Value::Null;
    assert_eq!(whole_and_lines(unmanaged), (false, 1));
    let custom = |line: &mut Value| {
        line["variant_id"] = Value::Null;
        line.as_object_mut().unwrap().remove("variant_inventory_management");
    };
    assert_eq!(whole_and_lines(custom), (false, 1));
    let left_out = |line: &mut Value| {
        for field in ["variant_id", "variant_inventory_management", "gift_card"] {
            line.as_object_mut().unwrap().remove(field);
        }
    };
    assert_eq!(whole_and_lines(left_out), (true, 2), "a field left out says nothing");
    let test = order_with(|order| order["test"] = true.into());
    assert!(matches!(said("orders/create", &test), Understood::Ignored(_)));
}

// What the store shows is an answer to what we said; taken as a movement it would undo the ledger. Ids
// are beyond what a float can hold, and a level can be below zero.
#[test]
fn a_quantity_that_is_shown_moves_nothing() {
    let level = |available: Value| {
        let mut level = sample_json("shopify", "inventory_levels_update.json");
        level["available"] = available;
        said("inventory_levels/update", &level)
    };
    let expected = |quantity| Fact::Shown {
        listing: "gid://shopify/InventoryItem/271878346596884015".into(),
        sku: None,
        location: Some("gid://shopify/Location/24826418".into()),
        quantity,
        version: 1_795_186_801_000,
    };
    assert_eq!(facts(level(17.into())), [expected(17)]);
    assert_eq!(facts(level((-3).into())), [expected(-3)]);
    assert!(matches!(level(Value::Null), Understood::Ignored(_)), "not tracked is not none");
    assert_dead(&level(i64::MIN.into()), "out of range");
    assert_dead(&level(1.5.into()), "unexpected shape");
}

// A variant is sold under one id and its quantity set under another: both must be learned.
#[test]
fn a_product_teaches_both_ids_of_a_variant() {
    let facts = of_sample("products/update", "products_update.json");
    let learned = facts.iter().map(|fact| match fact {
        Fact::Listed { listing, sku, .. } => (listing.as_str(), sku.as_str()),
        other => panic!("{other:?}: a sum over places is no observation of any"),
    });
    let expected = [
        ("gid://shopify/ProductVariant/40001", "TEE-M"),
        ("gid://shopify/InventoryItem/271878346596884015", "TEE-M"),
    ];
    assert!(learned.eq(expected));
}

// An edit names lines without SKUs: guessing would move the wrong stock, and dropping it would lose a
// change that the merchant made.
#[test]
fn an_edit_asks_for_the_order() {
    let edited = of_sample("orders/edited", "orders_edited.json");
    let version = 1_795_194_070_000;
    assert_eq!(edited, [Fact::Reload { order: "5678901234567".into(), version }]);
    let without = json!({"order_edit": {"order_id": 5}});
    let asked = facts(said("orders/edited", &without));
    assert_eq!(asked, [Fact::Reload { order: "5".into(), version: 0 }]);
}

// The topic is not signed: who holds a signed body could send it again as something else.
#[test]
fn a_body_under_another_topic_says_nothing() {
    let shipped = shipment("success");
    let bodies = SAMPLES.map(|(file, topic)| (topic, sample_json("shopify", file)));
    for (own, mut body) in bodies.into_iter().chain([("fulfillments/create", shipped)]) {
        let family = own.split('/').next().unwrap();
        for topic in TOPICS {
            let is_edit = |topic: &str| topic == "orders/edited";
            if topic.starts_with(family) && is_edit(topic) == is_edit(own) {
                continue;
            }
            let understood = said(topic, &body);
            let harmless = matches!(understood, Understood::Dead(_) | Understood::Ignored(_));
            assert!(harmless, "{own} as {topic}: {understood:?}");
        }
        // Without the name of its kind the shape alone must do.
        body.as_object_mut().unwrap().remove("admin_graphql_api_id");
        for topic in ["orders/updated", "refunds/create", "fulfillments/create", "orders/edited"] {
            let understood = said(topic, &body);
            let is_own = topic.split('/').next() == Some(family);
            assert!(is_own || !matches!(understood, Understood::Facts(_)), "{own} as {topic}");
        }
    }
}

// What cannot be applied must be kept for a person, not dropped, and must not stop the node.
#[test]
fn what_cannot_be_understood_is_kept() {
    let long = order_with(|order| order["line_items"][0]["sku"] = "x".repeat(257).into());
    assert_dead(&said("orders/create", &long), "a SKU is longer than 256 bytes");
    let many = order_with(|order| {
        let line = order["line_items"][0].clone();
        order["line_items"] = vec![line; 1_001].into();
    });
    assert_dead(&said("orders/create", &many), "more than 1000 lines");
    let less = order_with(|order| order["line_items"][0]["quantity"] = (-1).into());
    assert_dead(&said("orders/create", &less), "out of range");
    let timeless = order_with(|order| order["updated_at"] = "yesterday".into());
    assert_dead(&said("orders/create", &timeless), "updated_at: \"yesterday\" is no RFC 3339 time");
    for (topic, body) in [
        ("orders/create", &b"not json"[..]),
        ("orders/create", b"{\"id\": 5}"),
        ("orders/create", b"[]"),
        ("orders/create", b"\xff\xfe"),
        ("refunds/create", b"{\"id\": 5, \"order_id\": 6}"),
        ("orders/unheard_of", b"{}"),
        ("", b"{}"),
    ] {
        let understood = delivered(topic, body).understood;
        assert!(matches!(understood, Understood::Dead(_)), "{topic}: {understood:?}");
    }
}

// Retries have one webhook id; one action of a merchant has one event id for several deliveries, and
// taking that for the delivery's would drop all but the first.
#[test]
fn a_delivery_is_known_by_its_webhook_id() {
    let id = |headers: &[(&str, &str)]| parsed(parse, headers, b"{}").id;
    assert_eq!(id(&[("X-Shopify-Webhook-Id", "a"), ("X-Shopify-Event-Id", "b")]), Some("a".into()));
    assert_eq!(id(&[("Shopify-Webhook-Id", "c"), ("X-Shopify-Webhook-Id", "a")]), Some("c".into()));
    assert_eq!(id(&[("X-Shopify-Event-Id", "b")]), None);
    assert_eq!(id(&[("X-Shopify-Webhook-Id", "with space")]), None);
}

fn any_sample() -> impl Strategy<Value = Value> {
    let bodies = SAMPLES.iter().map(|(file, _)| sample_json("shopify", file));
    let bodies: Vec<Value> = bodies.chain([shipment("success")]).collect();
    prop::sample::select(bodies).prop_flat_map(payloads::spoilt)
}

proptest! {
    #![proptest_config(payloads::cases())]

    // Bytes of a stranger's must not stop the node, nor make facts that the state refuses.
    #[test]
    fn any_bytes_are_survived(topic in prop::sample::select(&TOPICS[..]), body: Vec<u8>) {
        assert_sound(&delivered(topic, &[body, b" ".to_vec()].concat()).understood);
    }

    #[test]
    fn any_spoilt_body_is_survived(topic in prop::sample::select(&TOPICS[..]), body in any_sample()) {
        assert_sound(&said(topic, &body));
    }
}
