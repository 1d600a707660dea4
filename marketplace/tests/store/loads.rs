//! The load generator: it must send what it was given, once each, and count the answers.

use std::collections::BTreeSet;

use marketplace::{
    Options,
    load::{self, Plan},
};

use crate::support::{Receiver, options, soon};

/// Deliveries that repeat an id would measure the receiver's memory for duplicates instead.
#[tokio::test]
async fn each_delivery_is_distinct_and_sent_once() {
    let receiver = Receiver::open(|nth| if nth % 10 == 0 { 503 } else { 200 }).await;
    let options = options();
    let deliveries = load::prebuild(&options, 200).unwrap();
    let requests = load::sign_all(&deliveries, &receiver.url, &options.secret).unwrap();
    let plan = Plan { connections: 4, per_second: None };
    let report = soon(load::send(&receiver.url, requests, plan)).await.unwrap();
    assert_eq!((report.by_status[&200], report.by_status[&503]), (180, 20));
    assert_eq!((report.accepted(), report.failed, report.latency_us.len()), (180, 0, 200));
    let seen = receiver.seen();
    let distinct = |name: &str| seen.iter().map(|s| s.header(name)).collect::<BTreeSet<_>>().len();
    assert_eq!(distinct("x-shopify-webhook-id"), 200);
    assert_eq!(distinct("x-shopify-hmac-sha256"), 200);
    let ids: BTreeSet<_> = seen.iter().map(|s| s.json()["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), 200);
    assert!(ids.iter().all(|id| *id > 1 << 53));
}

/// A pace that is not kept would call a burst a rate; what cannot be reached must be counted.
#[tokio::test]
async fn a_pace_is_kept_and_failures_are_counted() {
    let receiver = Receiver::open(|_| 200).await;
    let options = options();
    let deliveries = load::prebuild(&options, 50).unwrap();
    let requests = load::sign_all(&deliveries, &receiver.url, &options.secret).unwrap();
    let plan = Plan { connections: 2, per_second: Some(500) };
    let report = soon(load::send(&receiver.url, requests.clone(), plan)).await.unwrap();
    assert_eq!(report.accepted(), 50);
    // The last of fifty is due after 49 gaps of two milliseconds.
    assert!(report.elapsed.as_millis() >= 98, "{:?}", report.elapsed);
    let nobody = soon(load::send("http://127.0.0.1:1/", requests, plan)).await.unwrap();
    assert_eq!((nobody.failed, nobody.accepted()), (50, 0));
    assert!(load::prebuild(&Options::new("empty"), 1).is_err());
}
