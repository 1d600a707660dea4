//! What the store tells, and how often it tries.

use base64::{Engine, engine::general_purpose::STANDARD};
use marketplace::{
    Faults, Options, Restock,
    history::{Outcome, Progress},
    shopify::{payload::Order, sign},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::{Receiver, Seen, open, options, soon};

/// HMAC-SHA256 written out by its definition, so that the library that signs does not judge itself.
fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0_u8; 64];
    if key.len() > 64 {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let pad = |with: u8| block.map(|byte| byte ^ with).to_vec();
    let inner = Sha256::digest([pad(0x36), message.to_vec()].concat());
    Sha256::digest([pad(0x5c), inner.to_vec()].concat()).to_vec()
}

fn verify(seen: &Seen, secret: &str) {
    let signature = STANDARD.decode(seen.header("x-shopify-hmac-sha256")).unwrap();
    assert_eq!(signature, hmac_sha256(secret.as_bytes(), &seen.body));
}

/// A secret decoded, or a body written again before it is signed, would fail every verification.
#[tokio::test]
async fn every_webhook_is_signed_over_its_bytes() {
    // The secret looks like hex, and must not be taken for it.
    let secret = "0123456789abcdef0123456789abcdef";
    let receiver = Receiver::open(|_| 200).await;
    let targets = vec![receiver.url.clone()];
    let store = open(Options { targets, secret: secret.into(), ..options() }).await;
    let order = store.sell(&[("MUG", 2), ("TEE", 1)]).unwrap();
    store.cancel(order, Restock::Cancel).unwrap();
    soon(store.drained()).await;
    let seen = receiver.seen();
    assert_eq!(seen.len(), 3);
    for seen in &seen {
        verify(seen, secret);
    }
    assert_eq!(sign::signature("", b"").len(), 44);
    let published = hmac_sha256(b"Jefe", b"what do ya want for nothing?");
    assert_eq!(
        sign::signature("Jefe", b"what do ya want for nothing?"),
        STANDARD.encode(published)
    );
}

/// A reader written against the real shape must find all it needs, in the real types.
#[tokio::test]
async fn an_order_has_the_real_shape() {
    let receiver = Receiver::open(|_| 200).await;
    let store = open(Options { targets: vec![receiver.url.clone()], ..options() }).await;
    let order = store.sell_one("MUG", 2).unwrap();
    let seen = receiver.after(1).await.remove(0);
    for (name, value) in [
        ("content-type", "application/json"),
        ("x-shopify-topic", "orders/create"),
        ("x-shopify-shop-domain", "north.myshopify.com"),
        ("x-shopify-api-version", "2026-04"),
    ] {
        assert_eq!(seen.header(name), value);
    }
    assert_eq!(seen.header("x-shopify-webhook-id").len(), 36);
    assert_ne!(seen.header("x-shopify-webhook-id"), seen.header("x-shopify-event-id"));
    let triggered = seen.header("x-shopify-triggered-at");
    assert!(triggered.ends_with('Z') && triggered.contains('.'), "{triggered}");
    let body = seen.json();
    assert_eq!(body["id"], json!(order));
    assert!(order > 1 << 53);
    assert_eq!(body["admin_graphql_api_id"], format!("gid://shopify/Order/{order}"));
    assert!(body["created_at"].as_str().unwrap().ends_with("-05:00"));
    assert_eq!((&body["cancelled_at"], &body["test"]), (&Value::Null, &json!(false)));
    assert_eq!((&body["location_id"], &body["refunds"]), (&Value::Null, &json!([])));
    let line = &body["line_items"][0];
    assert_eq!(
        (&line["sku"], &line["quantity"], &line["current_quantity"]),
        (&json!("MUG"), &json!(2), &json!(2))
    );
    assert!(line["id"].as_u64().unwrap() > 1 << 53);
    assert_eq!(line["variant_id"], json!(9_107_199_254_740_001_u64));
    let (whole, cents) = line["price"].as_str().unwrap().split_once('.').unwrap();
    assert!(whole.parse::<u32>().is_ok() && cents.len() == 2);
}

/// One refund told twice (inside the cancelled order, and by itself) must be one refund, or its units
/// come back twice.
#[tokio::test]
async fn a_cancellation_tells_one_refund_in_two_webhooks() {
    let receiver = Receiver::open(|_| 200).await;
    let store = open(Options { targets: vec![receiver.url.clone()], ..options() }).await;
    let order = store.sell_one("MUG", 3).unwrap();
    store.refund(order, "MUG", 1, Restock::NoRestock).unwrap();
    soon(store.drained()).await;
    assert_eq!(store.expected_committed()["MUG"], 3);
    store.cancel(order, Restock::Cancel).unwrap();
    soon(store.drained()).await;
    assert!(matches!(store.cancel(order, Restock::Cancel), Err(marketplace::Error::Cancelled(_))));
    let seen = receiver.seen();
    let of = |topic: &str| {
        seen.iter().filter(|s| s.header("x-shopify-topic") == topic).cloned().collect::<Vec<_>>()
    };
    let cancelled = of("orders/cancelled").remove(0);
    let refunds = of("refunds/create");
    assert_eq!(cancelled.header("x-shopify-event-id"), refunds[1].header("x-shopify-event-id"));
    assert_ne!(cancelled.header("x-shopify-webhook-id"), refunds[1].header("x-shopify-webhook-id"));
    let (image, gone, back) = (cancelled.json(), refunds[0].json(), refunds[1].json());
    assert_eq!(image["refunds"], json!([gone, back]));
    assert_eq!(
        (&image["cancel_reason"], &image["updated_at"]),
        (&json!("customer"), &image["cancelled_at"])
    );
    assert_eq!(image["line_items"][0]["current_quantity"], 0);
    let (gone, back) = (&gone["refund_line_items"][0], &back["refund_line_items"][0]);
    assert_eq!((&gone["restock_type"], &gone["location_id"]), (&json!("no_restock"), &Value::Null));
    assert_eq!((&back["restock_type"], &back["quantity"]), (&json!("cancel"), &json!(2)));
    assert_eq!(back["location_id"], 24_826_418);
    // Ten, less three sold, with two put back: one is gone for good.
    assert_eq!(store.available("MUG"), Some(9));
    assert_eq!(store.expected_committed()["MUG"], 1);
    assert_eq!(store.expected(), store.expected_of_all());
}

/// A retry that looks new to its receiver is a second sale.
#[tokio::test]
async fn a_retry_is_the_same_webhook_at_the_next_target() {
    let first = Receiver::open(|_| 500).await;
    let second = Receiver::open(|nth| if nth == 0 { 302 } else { 201 }).await;
    let targets = vec![first.url.clone(), second.url.clone()];
    let store = open(Options { targets, ..options() }).await;
    store.sell_one("MUG", 1).unwrap();
    soon(store.drained()).await;
    let seen: Vec<_> = [first.seen(), second.seen()].concat();
    assert_eq!((first.seen().len(), second.seen().len()), (2, 2));
    for again in &seen[1..] {
        assert_eq!(again.body, seen[0].body);
        for name in ["webhook-id", "event-id", "triggered-at", "hmac-sha256", "topic"] {
            let name = format!("x-shopify-{name}");
            assert_eq!(again.header(&name), seen[0].header(&name));
        }
    }
    let webhook = store.history().webhooks.remove(0);
    assert_eq!(webhook.progress, Progress::Acknowledged);
    assert_eq!(webhook.webhook_id, seen[0].header("x-shopify-webhook-id"));
    let statuses: Vec<_> = webhook.attempts.iter().map(|a| (a.retry, a.outcome.clone())).collect();
    let said = |status: u16| Outcome::Answered { status, body: format!("said {status}") };
    assert_eq!(statuses, [(0, said(500)), (1, said(302)), (2, said(500)), (3, said(201))]);
    let stats = store.stats();
    assert_eq!((stats.attempts, stats.retries, stats.acknowledged), (4, 3, 1));
    assert_eq!((stats.consecutive_failures, stats.consecutive_failures_max), (0, 3));
}

/// A sender that never gives up, or counts what it gave up as told, hides a lost sale.
#[tokio::test]
async fn after_eight_retries_it_is_given_up() {
    let receiver = Receiver::open(|_| 503).await;
    let store = open(Options { targets: vec![receiver.url.clone()], ..options() }).await;
    store.sell_one("MUG", 1).unwrap();
    soon(store.drained()).await;
    assert_eq!(receiver.seen().len(), 9);
    let stats = store.stats();
    assert_eq!((stats.given_up, stats.acknowledged, stats.consecutive_failures), (1, 0, 9));
    assert_eq!(store.history().webhooks[0].progress, Progress::GivenUp);
    assert_eq!(
        (store.expected_committed()["MUG"], store.expected_of_all()["MUG"].committed),
        (0, 1)
    );
}

/// A target that nobody listens at fails like any other, and the next one is tried.
#[tokio::test]
async fn a_refused_connection_goes_to_the_next_target() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}/", closed.local_addr().unwrap());
    drop(closed);
    let receiver = Receiver::open(|_| 200).await;
    let targets = vec![nobody, receiver.url.clone()];
    let store = open(Options { targets, ..options() }).await;
    store.sell_one("MUG", 1).unwrap();
    soon(store.drained()).await;
    let attempts = store.history().webhooks.remove(0).attempts;
    assert!(matches!(&attempts[0].outcome, Outcome::Failed(_)), "{attempts:?}");
    assert!(attempts[1].outcome.is_success());
}

/// A receiver that takes the connection and says nothing has five seconds, no more and no less.
#[tokio::test]
async fn silence_is_a_failure_after_five_seconds() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let receiver = Receiver::open(|_| 200).await;
    let store = open(Options { targets: vec![url, receiver.url.clone()], ..options() }).await;
    store.sell_one("MUG", 1).unwrap();
    soon(store.drained()).await;
    let attempts = store.history().webhooks.remove(0).attempts;
    assert_eq!(attempts[0].outcome, Outcome::TimedOut);
    assert!((5..8).contains(&attempts[0].took.as_secs()), "{:?}", attempts[0].took);
    assert!(attempts[1].outcome.is_success());
}

/// Two at once under one id are one delivery.
#[tokio::test]
async fn a_duplicate_has_the_same_id() {
    let receiver = Receiver::open(|_| 200).await;
    let faults = Faults { duplicate: 1.0, ..Faults::default() };
    let store = open(Options { targets: vec![receiver.url.clone()], faults, ..options() }).await;
    store.sell_one("MUG", 1).unwrap();
    soon(store.drained()).await;
    let seen = receiver.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].header("x-shopify-webhook-id"), seen[1].header("x-shopify-webhook-id"));
    let stats = store.stats();
    assert_eq!((stats.webhooks, stats.acknowledged, stats.duplicates), (1, 1, 1));
    assert_eq!(store.expected_committed()["MUG"], 1);
}

/// Without a subscription nothing is told; with one, only what happens from then on.
#[tokio::test]
async fn targets_can_come_later() {
    let receiver = Receiver::open(|_| 200).await;
    let store = open(options()).await;
    store.sell_one("MUG", 1).unwrap();
    soon(store.drained()).await;
    store.set_targets(std::slice::from_ref(&receiver.url)).unwrap();
    store.sell_one("MUG", 1).unwrap();
    soon(store.drained()).await;
    assert_eq!(receiver.seen().len(), 1);
    assert!(store.set_targets(&["ftp://127.0.0.1/".to_owned()]).is_err());
    assert!(store.set_targets(&["/no/host".to_owned()]).is_err());
}

/// The bytes of a body made by hand are what a store would send.
#[test]
fn an_order_made_by_hand_serializes() {
    let order = Order::new(1 << 60, 1001, "2026-11-20T10:00:00-05:00".into(), Vec::new());
    let body: Value = serde_json::from_slice(&order.body()).unwrap();
    assert_eq!((&body["id"], &body["name"]), (&json!(1_u64 << 60), &json!("#1001")));
}
