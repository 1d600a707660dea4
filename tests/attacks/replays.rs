//! Who sends again what somebody else was heard to send.

use serde_json::json;
use stockraft::clock;

use crate::support::issuer::Issuer;
use crate::support::senders::{self, Scheme};
use crate::support::{Cluster, orders, unique, until};

// Whoever has recorded a genuine webhook can send it again, now or in a year: a sale would count twice, or stock
// that was sold long ago be taken again.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_recorded_counts_once_and_not_for_ever() {
    let issuer = Issuer::start().await;
    let channels = senders::config(&issuer);
    let cluster = Cluster::start(1, |node| node.more.clone_from(&channels)).await;
    let node = &cluster.nodes[0];
    let body = format!("{{\"what\": \"recorded {}\"}}", unique()).into_bytes();
    let now_s = clock::now_ms() / 1000;
    let timed = [Scheme::WalmartSignature, Scheme::StandardWebhooks, Scheme::Stripe];
    let refused = senders::named("north").sign_with("another-secret-entirely", &[], &body);
    let refused = refused.to(node).await;
    for sender in senders::SENDERS.iter().filter(|sender| timed.contains(&sender.scheme)) {
        for (age_s, status) in [(0, 202), (250, 202), (400, 401), (86_400, 401)] {
            let old = sender.sign_at(now_s - age_s, &[], &body).to(node).await;
            assert_eq!(old.status, status, "{} after {age_s} s: {}", sender.name, old.text());
            let ahead = sender.sign_at(now_s + age_s, &[], &body).to(node).await;
            assert_eq!(ahead.status, status, "{} {age_s} s ahead: {}", sender.name, ahead.text());
            if status == 401 {
                assert_eq!(old.text(), refused.text(), "{}", sender.name);
            }
        }
    }

    // An order by the store that signs no time: the same bytes again, under the same and under other names.
    let order = 7_100_000_000_000 + 10 * unique();
    let webhook = orders::create(order, "MUG", 3);
    let mut again = webhook.clone();
    for (n, id) in [webhook.id.clone(), webhook.id.clone(), "another".into(), String::new()]
        .into_iter()
        .enumerate()
    {
        again.id = id;
        let answer = node.webhook(&again).await.unwrap();
        assert!(answer.status < 300, "{n}: {}", answer.text());
    }
    // Under another topic it is another thing, or nothing.
    again.topic = "refunds/create".into();
    assert!(node.webhook(&again).await.unwrap().status < 300);
    cluster.settle().await;
    let stock = until("the order counts", async || node.try_get("/v1/stock/MUG").await).await;
    assert_eq!(stock["committed"], json!(3), "{stock}");
    let lines = node.list("/v1/stock/MUG/movements", 100).await;
    assert_eq!(lines.len(), 1, "{lines:?}");
}
