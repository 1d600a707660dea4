//! `WooCommerce`: one try, a hook that gives up, and an API that knows everything.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::Version;
use jiff::Timestamp;
use marketplace::sender::{Faults, Kind, Options, Sender, Subscription};
use serde_json::{Value, json};

use crate::support::{
    Answered, Receiver, Seen, add, busy, call, distinct, hmac_sha256, open, options, settle, soon,
    truth,
};

fn woo() -> Options {
    options(Kind::WooCommerce)
}

async fn get(sender: &Sender, path: &str) -> Answered {
    let Options { api_id, api_secret, .. } = sender.options();
    let user = format!("Basic {}", STANDARD.encode(format!("{api_id}:{api_secret}")));
    let url = format!("{}/wp-json/wc/v3/orders{path}", sender.url());
    call("GET", &url, &[("Authorization", &user)], "").await.unwrap()
}

/// Webhooks without the handshakes.
fn hooks(receiver: &Receiver) -> Vec<Seen> {
    let seen = receiver.seen().into_iter();
    seen.filter(|seen| seen.headers.contains_key("x-wc-webhook-topic")).collect()
}

/// Reads all orders as a poller does: by ascending time of change, page by page.
async fn poll(sender: &Sender) -> BTreeMap<String, [i64; 4]> {
    let mut sums = BTreeMap::new();
    for page in 1.. {
        let query = format!(
            "?status=any&modified_after=2020-01-01T00:00:00&dates_are_gmt=true\
             &orderby=modified&order=asc&per_page=3&page={page}"
        );
        let answer = get(sender, &query).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        for order in answer.body.as_array().unwrap() {
            for line in order["line_items"].as_array().unwrap() {
                let sold = line["quantity"].as_i64().unwrap();
                let meta = line["meta_data"].as_array().unwrap();
                let restocked = meta.iter().find(|m| m["key"] == "_restock_refunded_items");
                let restocked =
                    restocked.map_or(0, |m| m["value"].as_str().unwrap().parse().unwrap());
                let counts = match order["status"].as_str().unwrap() {
                    "cancelled" => [sold, sold, 0, 0],
                    "processing" | "completed" => [sold, restocked, 0, 0],
                    other => panic!("{other}"),
                };
                add(&mut sums, line["sku"].as_str().unwrap(), counts);
            }
        }
        if answer.headers["x-wp-totalpages"].to_str().unwrap().parse() == Ok(page) {
            return sums;
        }
    }
    unreachable!("pages have no end")
}

/// A key that is not decoded, or a body that is written anew, fails every verification.
#[tokio::test]
async fn every_webhook_is_signed_with_the_decoded_secret() {
    let receiver = Receiver::open(|_, _| 200).await;
    let sender = open(&receiver, Options { secret: "a&amp;b&quot;c".into(), ..woo() }).await;
    let order = sender.sell(&[("MUG", 2)]).unwrap();
    soon(sender.drained()).await;
    sender.cancel(order).unwrap();
    soon(sender.drained()).await;
    sender.trash(order).unwrap();
    soon(sender.drained()).await;
    let seen = hooks(&receiver);
    let topics: Vec<_> = seen.iter().map(|seen| seen.header("x-wc-webhook-topic")).collect();
    assert_eq!(topics, ["order.created", "order.updated", "order.deleted"]);
    for seen in &seen {
        let signature = STANDARD.encode(hmac_sha256(b"a&b\"c", &seen.body));
        assert_eq!(seen.header("x-wc-webhook-signature"), signature);
        assert_eq!((seen.version, seen.method.as_str()), (Version::HTTP_10, "POST"));
        assert_eq!(seen.header("x-wc-webhook-resource"), "order");
        assert_eq!(seen.header("x-wc-webhook-delivery-id").len(), 32);
    }
    let body = String::from_utf8(seen[0].body.to_vec()).unwrap();
    assert!(body.contains("\\/") && body.contains("\\u00f6") && body.is_ascii(), "{body}");
    let cancelled = seen[1].json();
    assert_eq!((&cancelled["id"], &cancelled["status"]), (&json!(order), &json!("cancelled")));
    assert_eq!(cancelled["line_items"][0]["product_id"], 93);
    assert_eq!(seen[2].json(), json!({"id": order}));
}

/// A hook that sends before its ping was answered 200 would hide that the ping must be understood.
#[tokio::test]
async fn nothing_is_sent_before_the_ping_is_answered_200() {
    let receiver = Receiver::open(|nth, _| if nth < 3 { 204 } else { 200 }).await;
    let targets = vec![receiver.url.clone()];
    let slow = Duration::from_millis(50);
    let options = Options { targets, handshake_retry: slow, ..woo() };
    let sender = Sender::start(options).await.unwrap();
    sender.sell(&[("MUG", 1)]).unwrap();
    soon(sender.subscribed()).await;
    assert_eq!(sender.stats().unsubscribed, 1, "what happened before is never sent");
    sender.sell(&[("MUG", 1)]).unwrap();
    soon(sender.drained()).await;
    let seen = receiver.seen();
    assert_eq!(seen.len(), 5);
    for ping in &seen[..4] {
        assert_eq!(ping.body, "webhook_id=12");
        assert_eq!(ping.header("content-type"), "application/x-www-form-urlencoded");
        assert!(ping.headers.keys().all(|name| !name.starts_with("x-wc")));
    }
    assert_eq!(seen[4].header("x-wc-webhook-topic"), "order.created");
}

/// A sender that retries, or that never gives up, would hide that only polling finds what is lost.
#[tokio::test]
async fn the_seventh_failure_in_a_row_disables_the_hook() {
    let fails = |seen: &Seen| seen.headers.contains_key("x-wc-webhook-topic");
    let receiver =
        Receiver::open(move |nth, seen| if fails(seen) && nth != 7 { 500 } else { 200 }).await;
    let sender = open(&receiver, woo()).await;
    let sell = || async {
        sender.sell(&[("MUG", 1)]).unwrap();
        soon(sender.drained()).await;
    };
    // The ping, six failures, and one success that makes up for them.
    for _ in 0..7 {
        sell().await;
    }
    assert_eq!(sender.stats().given_up, 6);
    for _ in 0..2 {
        sender.sell(&[("TEE", 1)]).unwrap();
        soon(sender.drained()).await;
    }
    let order = sender.sell(&[("TEE", 1)]).unwrap();
    soon(sender.drained()).await;
    for _ in 0..3 {
        sell().await;
    }
    assert_eq!(sender.subscription(), Subscription::Active, "six failures");
    sender.ship(order).unwrap();
    soon(sender.drained()).await;
    assert_eq!(sender.subscription(), Subscription::Disabled, "seven");
    assert_eq!(hooks(&receiver).len(), 14, "no try was repeated");
    sender.sell(&[("TEE", 1)]).unwrap();
    assert_eq!((hooks(&receiver).len(), sender.stats().unsubscribed), (14, 1));
    sender.enable();
    soon(sender.subscribed()).await;
    assert_eq!(sender.stats().handshakes, 2);
}

/// The range of success is odd, and a receiver that relies on 2xx alone would not notice.
#[tokio::test]
async fn a_redirect_counts_as_taken() {
    let receiver = Receiver::open(|nth, _| [200, 302, 303][nth]).await;
    let sender = open(&receiver, woo()).await;
    for _ in 0..2 {
        sender.sell(&[("MUG", 1)]).unwrap();
        soon(sender.drained()).await;
    }
    let stats = sender.stats();
    assert_eq!((stats.acknowledged, stats.given_up), (1, 1));
}

/// A payload of the moment of the event would hide that the real one is of the moment of sending.
#[tokio::test]
async fn the_payload_is_of_the_moment_of_sending() {
    let receiver = Receiver::open(|_, _| 200).await;
    let delay_max = Duration::from_secs(1);
    let faults = Faults { delay: 1.0, delay_max, ..Faults::default() };
    let sender = open(&receiver, Options { faults, ..woo() }).await;
    let order = sender.sell(&[("MUG", 2)]).unwrap();
    sender.ship(order).unwrap();
    sender.reduce(order, "MUG", 1, true).unwrap();
    soon(sender.drained()).await;
    let seen = hooks(&receiver);
    assert_eq!((seen.len(), sender.stats().coalesced), (2, 1));
    for seen in seen {
        assert_eq!(seen.json()["status"], "completed", "{seen:?}");
        assert_eq!(seen.json()["refunds"].as_array().unwrap().len(), 1);
    }
}

/// Orders that the API does not show, or shows otherwise than they are, could never be reconciled.
#[tokio::test]
async fn the_api_adds_up_to_what_is_expected() {
    let receiver = Receiver::open(|_, _| 200).await;
    let sender = open(&receiver, busy(Kind::WooCommerce)).await;
    settle(&sender, true).await;
    // The API says what was put back, and not whether it had left.
    let merged = |(sku, [sold, cancelled, returned, _]): (String, [i64; 4])| {
        (sku, [sold, cancelled + returned, 0, 0])
    };
    let expected: BTreeMap<_, _> = truth(&sender).into_iter().map(merged).collect();
    assert_eq!(poll(&sender).await, expected);
    let told = distinct(hooks(&receiver).iter().map(|seen| seen.json()["id"].as_u64()));
    assert!(u64::try_from(told).unwrap() < sender.stats().orders, "nothing was lost");
}

/// A filter that lets too much through, or too little, would be blamed on the poller.
#[tokio::test]
async fn the_api_filters_pages_and_refuses() {
    let sender = Sender::start(woo()).await.unwrap();
    let orders: Vec<_> = (0..5).map(|_| sender.sell(&[("MUG", 1)]).unwrap()).collect();
    sender.cancel(orders[0]).unwrap();
    sender.cancel(orders[1]).unwrap();
    sender.trash(orders[1]).unwrap();
    sender.reduce(orders[2], "MUG", 1, true).unwrap();
    let count = |answer: &Answered| answer.body.as_array().unwrap().len();
    let page = get(&sender, "?status=any&per_page=3&page=2").await;
    assert_eq!((count(&page), &page.headers["x-wp-total"]), (1, &"4".parse().unwrap()));
    assert_eq!(count(&get(&sender, "?status=cancelled").await), 1);
    let hour_ago = Timestamp::now() - jiff::SignedDuration::from_hours(1);
    let hour_ago = hour_ago.strftime("%Y-%m-%dT%H:%M:%S");
    let since = |gmt: bool| format!("?modified_after={hour_ago}&dates_are_gmt={gmt}");
    assert_eq!(count(&get(&sender, &since(true)).await), 4);
    assert_eq!(count(&get(&sender, &since(false)).await), 0, "the shop is five hours behind");
    let single = get(&sender, &format!("/{}", orders[2])).await;
    assert_eq!(single.body["refunds"][0]["total"], "-19.90");
    let refunds = get(&sender, &format!("/{}/refunds", orders[2])).await.body;
    assert_eq!(refunds[0]["line_items"][0]["quantity"], -1);
    for (path, status, code) in [
        ("/1", 404, "woocommerce_rest_shop_order_invalid_id"),
        ("?per_page=101", 400, "rest_invalid_param"),
        ("?modified_after=soon", 400, "rest_invalid_param"),
    ] {
        let refused = get(&sender, path).await;
        assert_eq!((refused.status, &refused.body["code"]), (status, &json!(code)));
    }
    let url = format!("{}/wp-json/wc/v3/orders", sender.url());
    let stranger = call("GET", &url, &[("Authorization", "Basic eDp5")], "").await.unwrap();
    assert_eq!((stranger.status, &stranger.body["data"]["status"]), (401, &json!(401)));
    let nowhere = call("GET", &format!("{}/wp-json/x", sender.url()), &[], "").await.unwrap();
    assert_eq!(nowhere.body["code"], json!("rest_no_route"));
    let known: Value =
        truth(&sender).into_iter().map(|(sku, counts)| json!([sku, counts])).collect();
    assert_eq!(known, json!([["MUG", [5, 3, 0, 0]]]));
}
