//! Promise: what eBay says is understood; what it does not say is asked of its API.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod common;
#[path = "common/payloads.rs"]
mod payloads;

use channels::ebay::{parse, poll};
use channels::{Parsed, Understood};
use common::{golden, parsed};
use payloads::{assert_dead, assert_sound, facts, sample, sample_json};
use proptest::prelude::*;
use serde_json::{Value, json};
use state::command::Fact;
use state::order::LineImage;

const WEBHOOKS: [&str; 3] =
    ["ITEM_AVAILABILITY.json", "MARKETPLACE_ACCOUNT_DELETION.json", "ORDER_CONFIRMATION.json"];
const PAGE: &str = "getOrders_response.json";

const NOT_PARSED: [(&str, &str); 5] = [
    ("FixedPriceTransaction.xml", "of the old notifications, whose bodies nobody signs"),
    ("challenge_response.json", "what we answer, not what we are told"),
    ("getInventoryItem_response.json", "a quantity read back after a push, not an order"),
    ("getPublicKey_response.json", "a key, read by the signature"),
    ("x_ebay_signature_decoded.json", "a header, read by the signature"),
];

fn of(body: &Value) -> Parsed {
    parsed(parse, &[], body.to_string().as_bytes())
}

fn order_with(change: impl Fn(&mut Value)) -> Value {
    let mut order = sample_json("ebay", PAGE)["orders"][0].clone();
    change(&mut order);
    order
}

fn said(order: &Value) -> Understood {
    poll::order(order.to_string().as_bytes()).unwrap().understood
}

fn line_of(order: &Value) -> LineImage {
    match facts(said(order)).remove(0) {
        Fact::Image { whole: true, mut lines, .. } => lines.remove(0),
        other => panic!("{other:?}"),
    }
}

// A change of a parser that nobody meant would move other stock than yesterday.
#[test]
fn samples_mean_what_they_meant() {
    for file in WEBHOOKS {
        let parsed = parsed(parse, &[], &sample("ebay", file));
        let essence = String::from_utf8(parsed.essence.clone().unwrap()).unwrap();
        let rest = Parsed { essence: None, ..parsed };
        golden("ebay", file, &format!("{rest:#?}\nessence: {essence}"));
    }
    golden("ebay", PAGE, &payloads::shown(&poll::orders(&sample("ebay", PAGE)).unwrap()));
    let all = [WEBHOOKS.as_slice(), &[PAGE]].concat();
    payloads::assert_all_named("ebay", &all, &NOT_PARSED);
}

// eBay counts its attempts in the body. If that made another delivery of it, or a conflict, every retry
// would be a dead letter; and what did change must not hide behind the id.
#[test]
fn a_retry_has_the_essence_of_the_first_try() {
    let first = sample_json("ebay", "ORDER_CONFIRMATION.json");
    let mut retry = first.clone();
    retry["notification"]["publishAttemptCount"] = 2.into();
    retry["notification"]["publishDate"] = "2026-11-20T15:05:00.000Z".into();
    let (of_first, of_retry) = (of(&first), of(&retry));
    assert_eq!(of_first.id.as_deref(), Some("49feeaeb-4982-42d9-a377-000000000001_a1"));
    assert_eq!((of_first.id, of_first.essence.clone()), (of_retry.id, of_retry.essence));
    // The order of members says nothing.
    let text = r#"{"notification":{"data":{"orderId":"12-34567-89012"},"eventDate":
        "2026-11-20T15:00:00.000Z","notificationId":"49feeaeb-4982-42d9-a377-000000000001_a1"},
        "metadata":{"topic":"ORDER_CONFIRMATION"}}"#;
    assert_eq!(parsed(parse, &[], text.as_bytes()).essence, of_first.essence);
    for (place, value) in [
        ("/metadata/topic", "ITEM_AVAILABILITY"),
        ("/notification/notificationId", "another"),
        ("/notification/eventDate", "2026-11-20T15:00:00.001Z"),
        ("/notification/data/orderId", "12-34567-89013"),
    ] {
        let mut other = first.clone();
        *other.pointer_mut(place).unwrap() = value.into();
        assert_ne!(of(&other).essence, of_first.essence, "{place}");
    }
}

// An id with a space, or of any length, would stand in logs and names as it pleases.
#[test]
fn an_id_that_is_not_plain_is_none() {
    for id in ["", "a b", "a\nb", &"x".repeat(129)] {
        let mut told = sample_json("ebay", "ORDER_CONFIRMATION.json");
        told["notification"]["notificationId"] = id.into();
        assert_eq!(of(&told).id, None, "{id:?}");
    }
}

// A confirmation carries no lines: taken for an order it would be one without any.
#[test]
fn a_confirmation_asks_for_the_order() {
    let mut told = sample_json("ebay", "ORDER_CONFIRMATION.json");
    let order = "12-34567-89012".to_string();
    let reload = Fact::Reload { order, version: 1_795_186_800_000 };
    assert_eq!(facts(of(&told).understood), [reload]);
    told["notification"]["data"] = json!({"orderId": " "});
    assert_dead(&of(&told).understood, "orderId is empty");
    told["notification"]["data"] = json!({"lineItemId": "1"});
    assert_dead(&of(&told).understood, "orderId");
    told["metadata"]["topic"] = "ORDER_CANCELLATION".into();
    assert_dead(&of(&told).understood, "unknown");
    let xml = parsed(parse, &[], &sample("ebay", "FixedPriceTransaction.xml"));
    assert_dead(&xml.understood, "bad JSON");
}

// Of two spellings of a cancelled order only one frees stock: a request to cancel does not, and neither
// does money that was paid back.
#[test]
fn only_what_is_cancelled_or_unpaid_wants_nothing() {
    let wanted = |cancel: Value, payment: &str| {
        line_of(&order_with(|order| {
            order["cancelStatus"] = cancel.clone();
            order["orderPaymentStatus"] = payment.into();
        }))
        .quantity
    };
    let state = |state: &str| json!({"cancelState": state});
    assert_eq!(wanted(state("CANCELED"), "PAID"), 0);
    assert_eq!(wanted(state("CANCELED"), "FULLY_REFUNDED"), 0);
    assert_eq!(wanted(state("NONE_REQUESTED"), "FAILED"), 0);
    assert_eq!(wanted(state("IN_PROGRESS"), "PAID"), 2);
    assert_eq!(wanted(state("NONE_REQUESTED"), "FULLY_REFUNDED"), 2);
    assert_eq!(wanted(state("NONE_REQUESTED"), "PENDING"), 2);
    assert_eq!(wanted(Value::Null, "PAID"), 2);
}

// A line in progress has shipped some units, nobody says how many: guessing all would take what is still
// on the shelf.
#[test]
fn shipped_is_what_is_fulfilled_in_full() {
    let shipped = |status: &str| {
        line_of(&order_with(|order| {
            order["lineItems"][0]["lineItemFulfillmentStatus"] = status.into();
        }))
        .fulfilled
    };
    let of = ["NOT_STARTED", "IN_PROGRESS", "FULFILLED", "UNHEARD_OF"].map(shipped);
    assert_eq!(of, [0, 0, 2, 0]);
}

// Variations of one item are different goods under one item id.
#[test]
fn a_line_names_item_and_variation() {
    let listing = |variation: Value| {
        line_of(&order_with(|order| {
            order["lineItems"][0]["legacyVariationId"] = variation.clone();
        }))
        .listing
        .unwrap()
    };
    for none in [Value::Null, json!("0"), json!(""), json!(0)] {
        assert_eq!(listing(none), "110000000001");
    }
    assert_eq!(listing(json!("41")), "110000000001/41");
    let line = line_of(&order_with(|order| {
        let line = order["lineItems"][0].as_object_mut().unwrap();
        line.retain(|member, _| {
            !["sku", "legacyItemId", "legacyVariationId"].contains(&member.as_str())
        });
    }));
    assert_eq!((line.sku, line.listing, line.quantity), (None, None, 2));
    // Each fits alone, and both together do not.
    let long = order_with(|order| {
        order["lineItems"][0]["legacyItemId"] = "1".repeat(200).into();
        order["lineItems"][0]["legacyVariationId"] = "2".repeat(200).into();
    });
    assert_dead(&said(&long), "longer than 256");
}

// The token for the API must not follow a link to another host.
#[test]
fn the_next_page_is_a_path() {
    let next = |next: Value| {
        let mut page = sample_json("ebay", PAGE);
        page["next"] = next;
        poll::orders(page.to_string().as_bytes()).map(|page| page.next)
    };
    let path =
        "/sell/fulfillment/v1/order?filter=lastmodifieddate:%5B2026..%5D&limit=200&offset=200";
    assert_eq!(next(json!(format!("https://api.ebay.com{path}"))), Ok(Some(path.to_string())));
    assert_eq!(next(json!(format!("https://elsewhere.example{path}"))), Ok(Some(path.to_string())));
    assert_eq!(next(json!(path)), Ok(Some(path.to_string())));
    assert_eq!(next(Value::Null), Ok(None));
    assert_eq!(next(json!("")), Ok(None));
    // `//host/…` means another host wherever it is taken for a reference.
    for bad in
        ["not a URL", "elsewhere.example:80", "*", "https://api.ebay.com//elsewhere.example/x"]
    {
        assert!(next(json!(bad)).is_err(), "{bad}");
    }
}

// An error taken for an empty page would move the cursor past orders that nobody has seen.
#[test]
fn an_answer_that_is_no_page_is_an_error() {
    let error = br#"{"errors":[{"errorId":1001,"message":"Invalid access token"}]}"#;
    for answer in [&error[..], b"<html>", b"[]", b"{}", b""] {
        assert!(poll::orders(answer).is_err());
        assert!(poll::order(answer).is_err());
    }
    let page = poll::orders(br#"{"total":0,"orders":[]}"#).unwrap();
    assert_eq!((page.told.len(), page.next, page.newest_ms), (0, None, None));
}

// One order that is not understood must neither hide its neighbours nor hold the cursor back.
#[test]
fn a_page_survives_a_bad_order() {
    let late = order_with(|order| {
        order["lineItems"][0]["quantity"] = json!(1.5);
        order["lastModifiedDate"] = "2026-11-20T15:00:09.000Z".into();
    });
    let page = json!({"orders": [order_with(|_| ()), late]}).to_string();
    let page = poll::orders(page.as_bytes()).unwrap();
    assert_eq!(page.newest_ms, Some(1_795_186_809_000));
    facts(page.told[0].understood.clone());
    assert_dead(&page.told[1].understood, "no whole number");
    let many = order_with(|order| {
        order["lineItems"] = vec![order["lineItems"][0].clone(); 1001].into();
    });
    assert_dead(&said(&many), "more than 1000 lines");
}

#[derive(Clone, Debug)]
enum Change {
    Ship(usize, usize),
    Cancel(usize),
    Pay(usize),
}

const SHIPPED: [&str; 3] = ["NOT_STARTED", "IN_PROGRESS", "FULFILLED"];
const CANCELLED: [&str; 3] = ["NONE_REQUESTED", "IN_PROGRESS", "CANCELED"];
const PAID: [&str; 5] = ["PENDING", "PAID", "FAILED", "PARTIALLY_REFUNDED", "FULLY_REFUNDED"];

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        (0_usize..3, 0..SHIPPED.len()).prop_map(|(line, status)| Change::Ship(line, status)),
        (0..CANCELLED.len()).prop_map(Change::Cancel),
        (0..PAID.len()).prop_map(Change::Pay),
    ];
    prop::collection::vec(change, 1..10)
}

/// `getOrder` shows the requests to cancel, `getOrders` never does.
fn rendered(state: &([usize; 3], usize, usize), second: usize, alone: bool) -> Value {
    let (shipped, cancelled, paid) = state;
    let lines = shipped.iter().enumerate().map(|(n, status)| {
        json!({"lineItemId": format!("100{n}"), "legacyItemId": "110000000001",
            "legacyVariationId": n.to_string(), "sku": format!("SKU-{n}"), "quantity": n + 1,
            "lineItemFulfillmentStatus": SHIPPED[*status]})
    });
    let requests =
        if alone && *cancelled > 0 { json!([{"cancelRequestId": "5"}]) } else { json!([]) };
    json!({"orderId": "12-34567-89012", "lastModifiedDate": format!("2026-11-20T15:00:{second:02}.5Z"),
        "orderPaymentStatus": PAID[*paid], "lineItems": lines.collect::<Vec<_>>(),
        "cancelStatus": {"cancelState": CANCELLED[*cancelled], "cancelRequests": requests}})
}

proptest! {
    #![proptest_config(payloads::cases())]

    // An order that was fetched for a confirmation and one that was found by polling must be the same
    // fact about the same order, or stock would move twice.
    #[test]
    fn both_calls_say_the_same_of_the_order_that_was_told(changes in changes()) {
        let mut state = ([0; 3], 0, 0);
        let mut told = sample_json("ebay", "ORDER_CONFIRMATION.json");
        for (second, change) in changes.iter().enumerate() {
            match *change {
                Change::Ship(line, status) => state.0[line] = status,
                Change::Cancel(status) => state.1 = status,
                Change::Pay(status) => state.2 = status,
            }
            told["notification"]["eventDate"] = format!("2026-11-20T15:00:{second:02}.5Z").into();
            let page = json!({"orders": [rendered(&state, second, false)]}).to_string();
            let page = poll::orders(page.as_bytes()).unwrap();
            let of_page = facts(page.told[0].understood.clone());
            prop_assert_eq!(&facts(said(&rendered(&state, second, true))), &of_page);
            let [Fact::Image { order, version, whole: true, lines }] = &of_page[..] else {
                panic!("{of_page:?}")
            };
            let reload = Fact::Reload { order: order.clone(), version: *version };
            prop_assert_eq!(facts(of(&told).understood), [reload]);
            prop_assert_eq!(page.newest_ms, Some(*version));
            let void = CANCELLED[state.1] == "CANCELED" || PAID[state.2] == "FAILED";
            for (n, line) in (1..).zip(lines) {
                prop_assert_eq!(line.quantity, if void { 0 } else { n });
            }
        }
    }

    // A stranger's bytes must not stop the node, nor put into the log what the state cannot keep.
    #[test]
    fn nothing_panics_over_bytes(body in prop::collection::vec(any::<u8>(), 1..200)) {
        assert_sound(&parsed(parse, &[], &body).understood);
        let _ = poll::orders(&body);
        let _ = poll::order(&body);
    }

    #[test]
    fn nothing_panics_over_json(
        told in (0..WEBHOOKS.len())
            .prop_flat_map(|n| payloads::spoilt(sample_json("ebay", WEBHOOKS[n]))),
        page in payloads::spoilt(sample_json("ebay", PAGE)),
    ) {
        assert_sound(&of(&told).understood);
        if let Ok(page) = poll::orders(page.to_string().as_bytes()) {
            page.told.iter().for_each(|told| assert_sound(&told.understood));
        }
        if let Ok(told) = poll::order(page["orders"][0].to_string().as_bytes()) {
            assert_sound(&told.understood);
        }
    }
}
