//! Promise: each type of the generic format becomes the fact that it means, and nothing else does.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod support;

use channels::generic::{self, Settings};
use channels::signature::{Judged, Scheme};
use channels::{Parsed, Understood};
use serde_json::{Value, json};
use state::command::{Fact, Moved};
use state::ledger::Kind;
use state::order::{LineImage, Removal, RemovalLine};
use support::Sent;

/// 2026-11-20 15:00:00 UTC.
const THREE: u64 = 1_795_186_800_000;
const AT: &str = "2026-11-20T15:00:00Z";
const SECRET: &str = "a-secret-of-the-path";

fn parse_with(body: &str, headers: &[(&str, &str)], settings: &Settings) -> Parsed {
    let mut sent = Sent::new(body.as_bytes());
    for (name, value) in headers {
        sent = sent.with(name, value.as_bytes());
    }
    sent.target = format!("/webhooks/test/{SECRET}");
    let scheme = Scheme::path_secret(&[SECRET]).unwrap();
    let Judged::Genuine(verified) = sent.judge(&scheme, None).unwrap() else { panic!("a ping") };
    generic::parse(&sent.headers, verified, settings)
}

fn parse(body: &Value) -> Parsed {
    parse_with(&body.to_string(), &[], &Settings::default())
}

fn fact(kind: &str, data: &Value) -> Result<Fact, String> {
    match parse(&json!({ "type": kind, "timestamp": AT, "data": data })).understood {
        Understood::Facts(mut facts) if facts.len() == 1 => Ok(facts.remove(0)),
        Understood::Dead(why) => Err(why),
        other => panic!("{other:?}"),
    }
}

fn line(quantity: i64, fulfilled: i64) -> LineImage {
    let (id, sku) = ("1".to_string(), Some("TEE-M".to_string()));
    LineImage { id, sku, quantity, fulfilled, ..LineImage::default() }
}

fn image(version: u64, whole: bool, lines: Vec<LineImage>) -> Fact {
    Fact::Image { order: "7".into(), version, whole, lines }
}

#[test]
fn the_sample_shows_a_quantity() {
    let parsed = parse_with(
        include_str!("samples/generic/standard_webhook.json"),
        &[],
        &Settings::default(),
    );
    assert_eq!((parsed.topic.as_str(), parsed.id), ("stock.changed", None));
    let shown = |version| Fact::Shown {
        listing: "TEE-M".into(),
        sku: Some("TEE-M".into()),
        location: Some("L1".into()),
        quantity: 17,
        version,
    };
    assert_eq!(parsed.understood, Understood::Facts(vec![shown(THREE)]));
    let data = json!({ "sku": "TEE-M", "location": "L1", "available": "17", "revision": 42 });
    let untimed = parse(&json!({ "type": "stock.changed", "data": data }));
    assert_eq!(untimed.understood, Understood::Facts(vec![shown(42)]));
}

#[test]
fn orders_are_images_versioned_by_themselves_or_by_the_message() {
    let lines = json!([{ "id": 1, "sku": "TEE-M", "quantity": 2 }]);
    let of = |version: Value| {
        fact("order.created", &json!({ "order": 7, "version": version, "lines": lines }))
    };
    assert_eq!(of(Value::Null), Ok(image(THREE, true, vec![line(2, 0)])));
    assert_eq!(of(json!(5)), Ok(image(5, true, vec![line(2, 0)])));
    assert_eq!(of(json!("1970-01-01T00:00:01Z")), Ok(image(1_000, true, vec![line(2, 0)])));
    for version in [json!(-1), json!("5th"), json!(1.5), json!(i64::MAX), json!([])] {
        assert!(of(version.clone()).is_err(), "{version}");
    }
    let part = json!({ "order": "7", "whole": false, "lines": lines });
    assert_eq!(fact("order.updated", &part), Ok(image(THREE, false, vec![line(2, 0)])));
    assert_eq!(fact("order.cancelled", &part), Ok(image(THREE, false, vec![line(0, 0)])));
    // Without lines it is an order that was cancelled, and never one that was changed.
    assert_eq!(fact("order.cancelled", &json!({ "order": "7" })), Ok(image(THREE, true, vec![])));
    assert!(fact("order.updated", &json!({ "order": "7" })).is_err());
}

#[test]
fn what_was_shipped_is_an_image_or_removals() {
    let whole = json!({ "order": "7", "lines": [{ "id": "1", "sku": "TEE-M", "quantity": 2, "fulfilled": 1 }] });
    assert_eq!(fact("order.fulfilled", &whole), Ok(image(THREE, true, vec![line(2, 1)])));

    let removal = |kind: &str, restock: Option<&str>| {
        let mut line = json!({ "id": "f1", "line": "1", "quantity": 1 });
        if let Some(restock) = restock {
            line["restock"] = json!(restock);
        }
        fact(kind, &json!({ "order": 7, "lines": [line] }))
    };
    let removals = |removal| {
        let (id, line) = ("f1".into(), "1".into());
        let line = RemovalLine { id, line, listing: None, sku: None, quantity: 1, removal };
        Ok(Fact::Removals { order: "7".into(), version: THREE, lines: vec![line] })
    };
    assert_eq!(removal("order.fulfilled", None), removals(Removal::Fulfilled));
    assert_eq!(removal("order.refunded", Some("cancelled")), removals(Removal::Cancelled));
    assert_eq!(removal("order.refunded", Some("returned")), removals(Removal::Returned));
    assert_eq!(removal("order.refunded", Some("none")), removals(Removal::NoRestock));
    // Whether units came back is never guessed.
    assert!(removal("order.refunded", None).is_err());
    assert!(removal("order.refunded", Some("maybe")).is_err());
    assert!(removal("order.fulfilled", Some("returned")).is_err());
}

#[test]
fn movements_and_listings() {
    let data = json!({ "id": "m1", "kind": "transfer", "sku": "TEE-M", "quantity": 3,
        "location": "main", "to_location": "berlin", "reference": "T1" });
    let expected = Moved {
        id: "m1".into(),
        kind: Kind::Transfer,
        listing: None,
        sku: Some("TEE-M".into()),
        quantity: 3,
        location: Some("main".into()),
        to_location: Some("berlin".into()),
        reference: Some("T1".into()),
        version: THREE,
    };
    assert_eq!(fact("stock.moved", &data), Ok(Fact::Moved(expected)));
    let of = |kind: &str, quantity: i64| {
        fact("stock.moved", &json!({ "id": 1, "kind": kind, "sku": "A", "quantity": quantity }))
    };
    assert!(of("adjustment", -3).is_ok());
    for (kind, quantity) in
        [("receipt", -3), ("receipt", 0), ("sale", 1), ("transfer", 1), ("receipt", i64::MAX)]
    {
        assert!(of(kind, quantity).is_err(), "{kind} of {quantity}");
    }
    let untimed = |extra: &str| {
        let body = format!(
            r#"{{"type":"stock.moved","data":{{"id":1,"kind":"receipt","sku":"A","quantity":1{extra}}}}}"#
        );
        parse_with(&body, &[], &Settings::default()).understood
    };
    assert_eq!(untimed(""), Understood::Dead("timestamp is missing".into()));
    assert!(matches!(untimed(&format!(r#","occurred_at":"{AT}""#)), Understood::Facts(_)));

    let listed = Fact::Listed { listing: "9".into(), sku: "A".into(), version: THREE };
    assert_eq!(fact("listing.changed", &json!({ "listing": 9, "sku": "A" })), Ok(listed));
    assert!(fact("listing.changed", &json!({ "listing": 9, "sku": " " })).is_err());
}

// Numbers beyond 64 bits are read as floating point, where many ids are one: the sales of one order would
// be taken for repetitions of another's.
#[test]
fn ids_that_cannot_be_told_apart_are_refused() {
    for id in ["92222222222222222225", "92222222222222222224", "-9223372036854775809", "1e16"] {
        let order = format!(r#"{{"order":{id},"lines":[]}}"#);
        let said = fact("order.created", &serde_json::from_str(&order).unwrap());
        assert_eq!(said, Err("order is too large a number: write it as text".into()), "{id}");
    }
    let largest = fact("order.created", &json!({"order": u64::MAX, "lines": []}));
    assert!(matches!(largest, Ok(Fact::Image { order, .. }) if order == u64::MAX.to_string()));
}

// A place without a name is none that anybody looks at: what is booked there has vanished.
#[test]
fn a_place_has_a_name() {
    let moved = |member: &str, text: &str| {
        let kind = if member == "to_location" { "transfer" } else { "receipt" };
        let mut data = json!({"id": "m1", "kind": kind, "sku": "TEE-M", "quantity": 2});
        data[member] = text.into();
        fact("stock.moved", &data)
    };
    for place in ["location", "to_location"] {
        for text in ["", " "] {
            assert_eq!(moved(place, text), Err(format!("{place} is empty")));
        }
    }
    // A reference may be left empty.
    let Ok(Fact::Moved(Moved { reference, location, .. })) = moved("reference", "") else {
        panic!("it is refused")
    };
    assert_eq!((reference, location), (None, None));
}

#[test]
fn types_are_ignored_only_where_the_config_says_so() {
    let settings = Settings { ignore: vec!["ping".into()], ..Settings::default() };
    let understood = |body: &str| parse_with(body, &[], &settings).understood;
    assert!(matches!(understood(r#"{"type":"ping"}"#), Understood::Ignored(_)));
    for body in [r#"{"type":"pong"}"#, r#"{"type":"stock.changed"}"#, "{}", "[]", "", "\u{0}"] {
        assert!(matches!(understood(body), Understood::Dead(_)), "{body}");
    }
}

#[test]
fn the_id_of_a_delivery_is_the_headers_or_else_the_bodys() {
    let settings = Settings { id_header: Some("X-Event".into()), ..Settings::default() };
    let id = |headers: &[(&str, &str)]| {
        parse_with(r#"{"type":"ping","id":"body"}"#, headers, &settings).id.unwrap()
    };
    assert_eq!(id(&[]), "body");
    assert_eq!(id(&[("webhook-id", "w")]), "w");
    assert_eq!(id(&[("x-github-delivery", "g")]), "g");
    assert_eq!(id(&[("x-event", "e"), ("webhook-id", "w")]), "e");
    assert_eq!(id(&[("webhook-id", "not plain")]), "body");
}
