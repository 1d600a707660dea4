//! Promise: no delivery that is taken can stand in the way of those behind it, however large it is.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::support::orders::{self, Webhook};
use crate::support::{CHANNEL, Cluster, until};
use serde_json::json;
use state::command::{Delivery, Fact};
use state::order::LineImage;
use state::origin::Lane;
use stockraft::clock;
use stockraft::inbox::{Bounds, Inbox, Place};
use stockraft::measures::Measures;

/// An order of so many lines, each as large as a line can be.
fn large(order: u64, lines: usize) -> Webhook {
    let line = |n: usize| {
        let sku = format!("{n:04}-{}", "x".repeat(240));
        json!({ "id": order * 10_000 + u64::try_from(n).unwrap(), "sku": sku, "quantity": 1 })
    };
    let lines: Vec<_> = (0..lines).map(line).collect();
    let now = clock::rfc3339(clock::now_ms());
    let order = json!({ "id": order, "updated_at": now, "line_items": lines });
    Webhook::new("orders/create", format!("large-{}", order["id"]), order.to_string())
}

// Deliveries that arrive together become one segment, and a segment is one proposal, which has a bound:
// one that is past it would never be agreed on, and everything behind it would wait for ever.
#[tokio::test(flavor = "multi_thread")]
async fn many_large_orders_at_once_are_all_agreed_on() {
    let cluster = Cluster::start(1, |_| ()).await;
    let node = &cluster.nodes[0];
    // The most lines that are applied, and the most that a body can hold.
    let webhooks = (1..=60).map(|n| large(n, if n % 3 == 0 { 950 } else { 3_400 }));
    let webhooks: Vec<Webhook> = webhooks.collect();
    let answers = futures::future::join_all(webhooks.iter().map(|webhook| node.webhook(webhook)));
    for (n, answer) in (1..).zip(answers.await) {
        let answer = answer.unwrap();
        // More lines than an order may have are kept as they came.
        let expected = if n % 3 == 0 { 200 } else { 202 };
        assert_eq!(answer.status, expected, "{}", answer.text());
    }
    let small = orders::create(7_000, "MUG", 1);
    assert_eq!(node.webhook(&small).await.unwrap().status, 200);
    for order in [7_000, 3, 30, 60] {
        let path = format!("/v1/orders/{CHANNEL}/{order}");
        until("an order is agreed on", async || node.try_get(&path).await).await;
    }
    cluster.settle().await;
}

// The same where the disk is slow and the network is not: everything that arrives during one flush waits
// for the next, and is written together.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_the_disk_is_never_too_large_to_be_proposed() {
    let dir = tempfile::tempdir().unwrap();
    let bounds = Bounds { waiting_bytes: 1 << 30, keep_ms: 1_000, free_disk: 0 };
    let inbox = Inbox::open(dir.path(), 1, bounds, Arc::new(Measures::new())).unwrap();
    let accepted = (1..=60).map(|n| inbox.accept(Lane::Urgent, delivery(n)));
    let places = futures::future::join_all(accepted).await;
    let segments: BTreeSet<u64> = places.into_iter().map(|place| place.unwrap().sequence).collect();
    let mut seen = 0;
    for sequence in segments {
        let place = Place { lane: Lane::Urgent, sequence };
        let deliveries = inbox.read(place).unwrap().unwrap().deliveries;
        seen += deliveries.len();
        let bytes = cluster::codec::encode(&*deliveries).len();
        assert!(bytes < PROPOSAL, "{} deliveries of {bytes} bytes in one", deliveries.len());
    }
    assert_eq!(seen, 60);
}

/// What the cluster takes as one proposal, with some room.
const PROPOSAL: usize = 7 << 20;

fn delivery(n: u8) -> Delivery {
    let line = |line: usize| LineImage {
        id: format!("{n}-{line}"),
        sku: Some("x".repeat(240)),
        quantity: 1,
        ..LineImage::default()
    };
    let lines = (0..3_400).map(line).collect();
    Delivery {
        key: [n; 16],
        body: [n; 16],
        id: format!("large-{n}"),
        channel: CHANNEL.into(),
        topic: "orders/create".into(),
        received_ms: 1,
        facts: vec![Fact::Image { order: n.to_string(), version: 1, whole: true, lines }],
        raw: Vec::new(),
        publish: Vec::new(),
    }
}
