//! Promise: segments of one inbox that are agreed on out of order lose nothing and double nothing.

use crate::support::Cluster;
use crate::support::book::{Book, Traffic};
use crate::support::orders::Webhook;
use serde_json::json;

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

// A segment that arrives before its predecessor is refused, and still costs an entry of the log and another
// try: while nothing is wrong, none should.
#[tokio::test(flavor = "multi_thread")]
async fn while_nothing_is_wrong_no_segment_is_proposed_twice() {
    let cluster = Cluster::start(3, |_| ()).await;
    let n = (cluster.leader().await + 1) % 3;
    let last_log = async || {
        cluster.settle().await;
        let status = cluster.nodes[n].get("/cluster/status").await;
        (status["last_log"].as_u64().unwrap(), status["accepted"].as_u64().unwrap())
    };
    let (entries_before, accepted_before) = last_log().await;
    // So large that each is a segment of its own.
    let letter = |n| Webhook::new("orders/create", format!("large-{n}"), vec![b'x'; 260 * 1024]);
    let letters: Vec<Webhook> = (0..60).map(letter).collect();
    let sent = letters.iter().map(|letter| cluster.nodes[n].webhook(letter));
    let answers = futures::future::join_all(sent).await;
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|answer| answer.status == 202)));
    let (entries, accepted) = last_log().await;
    let (entries, accepted) = (entries - entries_before, accepted - accepted_before);
    println!("{entries} entries for {accepted} deliveries");
    // A few more, should somebody have stood for election on a busy machine.
    assert!(entries <= accepted * 5 / 4, "{entries} entries for {accepted} deliveries");
}
