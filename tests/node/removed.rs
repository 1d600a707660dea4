//! Promise: a node that was removed sends webhooks back as soon as it can know, and what it answered 200 before
//! is in the ledger of the others.

use crate::support::book::{Book, Traffic};
use crate::support::{Cluster, TOKEN, agree, orders, until, until_true};

// Whoever was removed would go on answering 200 for orders that nobody collects any more, for as long as its
// process lives.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_removed_sends_webhooks_back_and_loses_none() {
    let mut cluster = Cluster::start(3, |_| ()).await;
    let book = Book::default();
    let leader = cluster.leader().await;
    let at = (0..cluster.nodes.len()).find(|n| *n != leader).unwrap();
    let mut gone = cluster.nodes.remove(at);
    let there = Traffic::start(&book, &[gone.ports[0]], 3);
    there.more(40).await;
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    let path = format!("/cluster/members/{}", gone.id);
    until_true("it is removed", async || {
        let asked = cluster.nodes[0].api("DELETE", &path, &headers, "").await;
        asked.is_ok_and(|answer| answer.status == 200)
    })
    .await;

    let ready = until("it is not ready", async || {
        let ready = gone.api("GET", "/readyz", &[], "").await.unwrap();
        (ready.status == 503).then_some(ready)
    })
    .await;
    let why = "this node was removed from the cluster";
    assert!(ready.text().contains(why), "{}", ready.text());
    let webhook = orders::create(77_000_000 + 10 * gone.id, "SKU-1", 1);
    let refused = gone.webhook(&webhook).await.unwrap();
    assert!(refused.status == 503 && refused.text().contains(why), "{}", refused.text());
    there.stop().await;
    until_true("what it answered for is agreed on", async || {
        gone.get("/cluster/status").await["backlog"] == 0
    })
    .await;
    gone.stop().await;
    let others = Traffic::start(&book, &[cluster.nodes[0].ports[0]], 1);
    others.more(5).await;
    others.stop().await;
    agree(&cluster.nodes.iter().collect::<Vec<_>>()).await;
    for node in &cluster.nodes {
        book.check(node).await;
    }
    println!("{:?}", book.totals());
}
