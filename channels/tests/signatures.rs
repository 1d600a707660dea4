//! Promise: of all signatures, exactly those of a known secret over the raw body are accepted.
//!
//! `SIGNATURE_VECTORS` may name another file of the same shape as `tests/vectors/shopify.json`; schemes
//! in it that this release does not speak are counted and skipped.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use marketplace::shopify::sign;
use serde_json::Value;
use state::command::Fact;
use state::order::Removal;
use stockraft::channel::Understood;
use stockraft::channel::shopify::parse::parse;
use stockraft::signature::{self, Refused};

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/shopify.json");
const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/samples/shopify");

fn headers(vector: &Value) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in vector["headers"].as_object().unwrap() {
        let name: HeaderName = name.parse().unwrap();
        headers.append(name, HeaderValue::from_str(value.as_str().unwrap()).unwrap());
    }
    headers
}

// A scheme that is nearly right (hex for base64, a prefix of the code, the text re-encoded, only the
// newest secret) refuses real webhooks or accepts forged ones.
#[test]
fn published_vectors_are_judged_as_they_say() {
    let path = std::env::var("SIGNATURE_VECTORS").unwrap_or_else(|_| VECTORS.into());
    let text = std::fs::read_to_string(&path).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let (mut judged, mut skipped) = (0, 0);
    for (scheme, vectors) in file["schemes"].as_object().unwrap() {
        let vectors = vectors["vectors"].as_array().unwrap();
        if scheme != "shopify" {
            skipped += vectors.len();
            println!("skipped: {} vectors of {scheme}, not spoken here", vectors.len());
            continue;
        }
        for vector in vectors {
            let name = vector["name"].as_str().unwrap();
            let body = STANDARD.decode(vector["body_b64"].as_str().unwrap()).unwrap();
            let secrets: Vec<&str> = match vector["secrets"].as_array() {
                Some(secrets) => secrets.iter().map(|secret| secret.as_str().unwrap()).collect(),
                None => vec![vector["secret"].as_str().unwrap()],
            };
            let secrets = secrets.into_iter().map(str::as_bytes);
            let accepted = signature::shopify(&headers(vector), &body, secrets).is_ok();
            let claim = vector["headers"]["X-Shopify-Hmac-SHA256"].as_str().unwrap_or_default();
            let expected = match vector["expect"].as_str().unwrap() {
                "accept" => true,
                "reject" => false,
                // Where the scheme leaves a choice, ours is to refuse: an empty body, and what is not
                // written in the standard alphabet.
                "policy" => !body.is_empty() && !claim.contains(['-', '_']),
                other => panic!("{name}: what is {other:?}?"),
            };
            assert_eq!(accepted, expected, "{name}: {}", vector["why"]);
            judged += 1;
        }
    }
    println!("{judged} vectors judged, {skipped} skipped");
    assert!(judged >= 12, "only {judged} vectors in {path}");
}

// Headers that a proxy doubled, or that contradict each other, must not let the weaker one decide.
#[test]
fn one_claim_counts_and_contradicting_ones_do_not() {
    let (secret, body) = ("a secret of some length", b"{}");
    let good = HeaderValue::from_str(&sign::signature(secret, body)).unwrap();
    let bad = HeaderValue::from_str(&sign::signature("another secret", body)).unwrap();
    let judge = |claims: &[(&'static str, &HeaderValue)]| -> Result<(), Refused> {
        let mut headers = HeaderMap::new();
        for (name, value) in claims {
            headers.append(HeaderName::from_static(name), (*value).clone());
        }
        signature::shopify(&headers, body, [secret.as_bytes()].into_iter()).map(|_| ())
    };
    let (old, new) = ("x-shopify-hmac-sha256", "shopify-hmac-sha256");
    assert!(judge(&[(old, &good)]).is_ok());
    assert!(judge(&[(new, &good)]).is_ok());
    assert!(judge(&[(old, &good), (new, &good)]).is_ok());
    for claims in [
        &[(old, &good), (old, &bad)][..],
        &[(old, &bad), (old, &good)],
        &[(new, &good), (old, &bad)],
        &[(new, &bad), (old, &good)],
        &[],
    ] {
        assert_eq!(judge(claims), Err(Refused), "{claims:?}");
    }
}

/// What a sample of the store's documentation says to us.
fn understood(topic: &str, sample: &str) -> Understood {
    let body = std::fs::read(format!("{SAMPLES}/{sample}.json")).unwrap();
    of_body(topic, &body)
}

fn of_body(topic: &str, body: &[u8]) -> Understood {
    let secret = "a secret of some length";
    let mut headers = HeaderMap::new();
    let claim = HeaderValue::from_str(&sign::signature(secret, body)).unwrap();
    headers.insert("x-shopify-hmac-sha256", claim);
    let verified = signature::shopify(&headers, body, [secret.as_bytes()].into_iter()).unwrap();
    parse(topic, verified)
}

fn facts(topic: &str, sample: &str) -> Vec<Fact> {
    match understood(topic, sample) {
        Understood::Facts(facts) => facts,
        other => panic!("{sample} says {other:?}"),
    }
}

// Quantities could be read from the wrong field: `quantity` is what was ordered and never changes,
// `current_quantity` is what is left.
#[test]
fn an_order_says_what_was_ordered() {
    let facts = facts("orders/create", "orders_create");
    let [Fact::Image { order, version, lines }] = &facts[..] else { panic!("{facts:?}") };
    assert_eq!(order, "5678901234567");
    assert_eq!(*version, 1_763_650_802_000 + 365 * 24 * 3_600_000, "2026-11-20T10:00:02-05:00");
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].id, "11001");
    assert_eq!((lines[0].sku.as_deref(), lines[0].quantity), (Some("TEE-M"), 2));
}

// A cancellation carries the whole order: its refunds say what goes back, and the image must not
// shrink as well, or units would go back twice.
#[test]
fn a_cancelled_order_says_what_goes_back_once() {
    let facts = facts("orders/cancelled", "orders_cancelled");
    let images = facts.iter().filter(|fact| matches!(fact, Fact::Image { .. }));
    assert_eq!(images.count(), 1, "{facts:?}");
    let Fact::Image { lines, .. } = &facts[0] else { panic!("the image comes first: {facts:?}") };
    assert_eq!(lines[0].quantity, 2);
    let back: i64 = facts.iter().flat_map(refunded).map(|(_, quantity)| quantity).sum();
    assert_eq!(back, 2, "{facts:?}");
}

fn refunded(fact: &Fact) -> Vec<(Removal, i64)> {
    match fact {
        Fact::Refund { lines, .. } => lines.iter().map(|l| (l.removal, l.quantity)).collect(),
        Fact::Image { .. } | Fact::Dead { .. } => Vec::new(),
    }
}

// Money that goes back is not stock that comes back.
#[test]
fn a_refund_says_whether_units_come_back() {
    let cancelled = facts("refunds/create", "refunds_create");
    assert_eq!(refunded(&cancelled[0]), [(Removal::Cancelled, 1)]);
    let kept = facts("refunds/create", "refunds_create_no_restock");
    assert_eq!(refunded(&kept[0]), [(Removal::NoRestock, 1)]);
    let Fact::Refund { order, lines, .. } = &kept[0] else { panic!("{kept:?}") };
    assert_eq!((order.as_str(), lines[0].line.as_str()), ("5678901234567", "11001"));
    assert_eq!(lines[0].sku.as_deref(), Some("TEE-M"));
}

// What the store shows is an answer to what we said; taken as a movement it would undo the ledger.
#[test]
fn a_quantity_that_is_shown_moves_nothing() {
    let shown = understood("inventory_levels/update", "inventory_levels_update");
    assert!(matches!(shown, Understood::Ignored(_)), "{shown:?}");
}

// An edit names lines without quantities or SKUs: guessing would move the wrong stock, and dropping it
// would lose a change that the merchant made.
#[test]
fn what_cannot_be_applied_is_kept_for_a_person() {
    let edited = understood("orders/edited", "orders_edited");
    assert!(matches!(edited, Understood::Dead(_)), "{edited:?}");
    for (topic, body) in [
        ("orders/create", &b"not json"[..]),
        ("orders/create", b"{\"id\": 5}"),
        ("orders/create", b"[]"),
        ("orders/create", b"\xff\xfe"),
        ("refunds/create", b"{\"id\": 5, \"order_id\": 6}"),
        ("orders/unheard_of", b"{}"),
        ("", b"{}"),
    ] {
        let dead = of_body(topic, body);
        assert!(matches!(dead, Understood::Dead(_)), "{topic}: {dead:?}");
    }
}
