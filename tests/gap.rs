//! Promise: segments of one inbox that are agreed on out of order lose nothing and double nothing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod support;

use serde_json::json;
use support::Cluster;
use support::book::{Book, Traffic};

// Several segments of one inbox are on their way at once. When leadership moves, the first of them may
// fail and a later one succeed; "the highest number so far" would then forget the first.
#[tokio::test(flavor = "multi_thread")]
async fn leadership_that_moves_all_the_time_loses_nothing() {
    let mut cluster = Cluster::start(3, |node| {
        node.raft = "segments_outstanding = 32\n".into();
    })
    .await;
    let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.ports[0]).collect();
    let book = Book::default();
    let traffic = Traffic::start(&book, &ports, 12);
    let mut moved = 0;
    for turn in 0..12 {
        traffic.more(25).await;
        let leader = cluster.leader().await;
        let next = (leader + 1) % 3;
        if turn % 4 == 3 {
            cluster.nodes[leader].kill();
            traffic.more(25).await;
            cluster.nodes[leader].start().await;
            continue;
        }
        let to = json!({ "to": cluster.nodes[next].id });
        let answer = cluster.nodes[turn % 3].post("/cluster/transfer-leadership", &to).await;
        moved += usize::from(answer.status == 200);
    }
    assert!(moved >= 3, "leadership moved {moved} times only");
    traffic.stop().await;
    cluster.settle().await;
    for node in &cluster.nodes {
        book.check(node).await;
    }
    println!("{moved} transfers, {:?}", book.totals());
}
