//! Promise: a 200 survives `kill -9`, of one node or of all, and is applied exactly once.

use crate::support::Cluster;
use crate::support::book::{Book, Traffic};

fn public(cluster: &Cluster) -> Vec<u16> {
    cluster.nodes.iter().map(|node| node.ports[0]).collect()
}

// A node could answer before it wrote; propose again what was agreed on already; or, as a leader that
// died, leave entries behind that some replicas applied and others did not.
#[tokio::test(flavor = "multi_thread")]
async fn a_200_survives_the_death_of_each_node_and_of_all() {
    let mut cluster = Cluster::start(3, |_| ()).await;
    let book = Book::default();
    let traffic = Traffic::start(&book, &public(&cluster), 6);
    traffic.more(100).await;

    for n in 0..3 {
        cluster.nodes[n].kill();
        traffic.more(60).await;
        cluster.nodes[n].start().await;
        traffic.more(40).await;
    }
    // The one that leads, which the turns above may have missed.
    let leader = cluster.leader().await;
    cluster.nodes[leader].kill();
    traffic.more(60).await;
    cluster.nodes[leader].start().await;
    traffic.more(40).await;

    for node in &mut cluster.nodes {
        node.kill();
    }
    for node in &mut cluster.nodes {
        node.spawn();
    }
    traffic.more(40).await;
    traffic.stop().await;

    cluster.settle().await;
    for node in &cluster.nodes {
        book.check(node).await;
    }
    println!("{:?}", book.totals());
    let totals = book.totals();
    assert!(totals.uncertain > 0 && totals.refused > 0, "nothing went wrong: {totals:?}");
}

// A snapshot taken in the middle, with the log purged behind it, could lose what the log alone knew:
// a node that was dead for longer than the log reaches back must still come to the same state.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_for_longer_than_the_log_catches_up() {
    let mut cluster = Cluster::start(3, |node| {
        node.raft = "snapshot_every = 50\nkeep_log = 10\n".into();
    })
    .await;
    let book = Book::default();
    let traffic = Traffic::start(&book, &public(&cluster), 6);
    traffic.more(30).await;
    let leader = cluster.leader().await;
    let away = (leader + 1) % 3;
    cluster.nodes[away].kill();
    let snapshot = async |n: usize| {
        let status = cluster.nodes[n].get("/cluster/status").await;
        status["snapshot"].as_u64().unwrap_or(0)
    };
    let before = snapshot(leader).await;
    crate::support::until_true("the log is purged", async || snapshot(leader).await > before + 120)
        .await;
    cluster.nodes[away].start().await;
    traffic.more(30).await;
    // And from its own snapshot, with a short log behind it.
    cluster.nodes[leader].kill();
    cluster.nodes[leader].start().await;
    traffic.more(30).await;
    traffic.stop().await;
    cluster.settle().await;
    for node in &cluster.nodes {
        book.check(node).await;
    }
}

// A process that is paused misses its own election, wakes up, and believes that it still leads.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_paused_does_no_harm() {
    let cluster = Cluster::start(3, |_| ()).await;
    let book = Book::default();
    let traffic = Traffic::start(&book, &public(&cluster), 4);
    traffic.more(50).await;
    for _ in 0..2 {
        let leader = cluster.leader().await;
        cluster.nodes[leader].freeze();
        let others: Vec<usize> = (0..3).filter(|n| *n != leader).collect();
        crate::support::until_true("another leads", async || {
            let status = cluster.nodes[others[0]].get("/cluster/status").await;
            let known = status["leader"].as_u64();
            known.is_some_and(|known| known != cluster.nodes[leader].id)
        })
        .await;
        cluster.nodes[leader].thaw();
        traffic.more(40).await;
    }
    traffic.stop().await;
    cluster.settle().await;
    book.check(&cluster.nodes[0]).await;
}
