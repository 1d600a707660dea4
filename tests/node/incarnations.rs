//! Promise: a number that an inbox gave away before never stands in the way of what it answers now.

use std::fs;
use std::path::Path;

use crate::support::book::{Book, Traffic};
use crate::support::{Cluster, Node};

async fn send(book: &Book, node: &Node, orders: usize) {
    let traffic = Traffic::start(book, &[node.ports[0]], 3);
    traffic.more(orders).await;
    traffic.stop().await;
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

async fn check(cluster: &Cluster, book: &Book) {
    cluster.settle().await;
    for node in &cluster.nodes {
        book.check(node).await;
    }
}

// An inbox that is empty after a start may count from 1 again; the cluster would take its segments for
// old ones, and drop what was answered 200.
#[tokio::test(flavor = "multi_thread")]
async fn a_drained_inbox_that_starts_again_loses_nothing() {
    let mut cluster = Cluster::start(3, |_| ()).await;
    let book = Book::default();
    // More starts than the cluster remembers of one node.
    for start in 0..10 {
        send(&book, &cluster.nodes[1], if start == 0 { 60 } else { 8 }).await;
        if start % 3 == 0 {
            cluster.settle().await;
        }
        if start % 2 == 0 {
            cluster.nodes[1].kill();
        } else {
            assert!(cluster.nodes[1].stop().await.success());
        }
        cluster.nodes[1].start().await;
    }
    send(&book, &cluster.nodes[1], 20).await;
    check(&cluster, &book).await;
}

// An inbox that went back to an older image gives the same numbers away again, for other deliveries.
#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_from_an_older_copy_loses_nothing_new() {
    goes_back("inbox").await;
}

// The same for all that the node has: its log, its vote and its snapshots are older as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_from_an_older_copy_loses_nothing_new() {
    goes_back(".").await;
}

async fn goes_back(part: &str) {
    let mut cluster = Cluster::start(3, |_| ()).await;
    let book = Book::default();
    let copies = tempfile::tempdir().unwrap();
    // A follower: it holds the only copy of nothing that was agreed on.
    let n = (cluster.leader().await + 1) % 3;
    send(&book, &cluster.nodes[n], 30).await;
    cluster.settle().await;
    cluster.nodes[n].stop().await;
    let (original, older) = (cluster.nodes[n].data_dir.join(part), copies.path().join("older"));
    copy(&original, &older);

    cluster.nodes[n].start().await;
    send(&book, &cluster.nodes[n], 40).await;
    cluster.settle().await;
    cluster.nodes[n].stop().await;
    copy(&older, &original);

    cluster.nodes[n].start().await;
    send(&book, &cluster.nodes[n], 60).await;
    check(&cluster, &book).await;
}

// A cluster of one that went back forgets what came after the copy, as it must; but the state that it
// knows then has lower numbers than its inbox, or higher ones, and what is answered from there on counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_lone_node_from_an_older_copy_keeps_what_it_answers_then() {
    for part in ["inbox", "raft", "."] {
        let mut cluster = Cluster::start(1, |_| ()).await;
        let copies = tempfile::tempdir().unwrap();
        let before = Book::default();
        send(&before, &cluster.nodes[0], 20).await;
        cluster.settle().await;
        cluster.nodes[0].stop().await;
        let (original, older) = (cluster.nodes[0].data_dir.join(part), copies.path().join("older"));
        copy(&original, &older);
        cluster.nodes[0].start().await;
        send(&Book::default(), &cluster.nodes[0], 30).await;
        cluster.settle().await;
        cluster.nodes[0].stop().await;
        copy(&older, &original);
        cluster.nodes[0].start().await;
        let after = Book::default();
        send(&after, &cluster.nodes[0], 40).await;
        cluster.settle().await;
        assert_eq!(before.missing(&cluster.nodes[0]).await, [0_u64; 0], "{part}");
        assert_eq!(after.missing(&cluster.nodes[0]).await, [0_u64; 0], "{part}");
    }
}
