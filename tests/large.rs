//! Promise: no delivery that is taken can stand in the way of those behind it, however large it is.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod support;

use serde_json::json;
use support::orders::{self, Webhook};
use support::{CHANNEL, Cluster, until};

/// An order whose body is nearly as large as a node takes, in lines of the largest that they can be.
fn large(order: u64) -> Webhook {
    let line = |n: usize| {
        let sku = format!("{n:04}-{}", "x".repeat(240));
        json!({ "id": order * 10_000 + u64::try_from(n).unwrap(), "sku": sku, "quantity": 1 })
    };
    let lines: Vec<_> = (0..950).map(line).collect();
    let order = json!({ "id": order, "updated_at": "2026-11-20T10:00:00Z", "line_items": lines });
    Webhook::new("orders/create", format!("large-{}", order["id"]), order.to_string())
}

// Deliveries that arrive together become one segment, and a segment is one proposal, which has a bound:
// one that is past it would never be agreed on, and everything behind it would wait for ever.
#[tokio::test(flavor = "multi_thread")]
async fn many_large_orders_at_once_are_all_agreed_on() {
    let cluster = Cluster::start(1, |_| ()).await;
    let node = &cluster.nodes[0];
    let webhooks: Vec<Webhook> = (1..=80).map(large).collect();
    let answers = futures::future::join_all(webhooks.iter().map(|webhook| node.webhook(webhook)));
    for answer in answers.await {
        let answer = answer.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let small = orders::create(7_000, "MUG", 1);
    assert_eq!(node.webhook(&small).await.unwrap().status, 200);
    for order in [7_000, 1, 40, 80] {
        let path = format!("/v1/orders/{CHANNEL}/{order}");
        until("an order is agreed on", async || node.try_get(&path).await).await;
    }
    cluster.settle().await;
}
