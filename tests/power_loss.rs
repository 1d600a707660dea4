//! Promise: a 200 survives a power loss, and so does the node.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod support;

use support::book::Book;
use support::power::{assert_no_blobs, disk, lose_power, move_to};
use support::{Node, found};

/// Cuts of one run; `POWER_CUTS` asks for more.
fn cuts(usual: usize) -> usize {
    std::env::var("POWER_CUTS").ok().and_then(|cuts| cuts.parse().ok()).unwrap_or(usual)
}

// A flush that does not reach the disk looks the same as one that does, until the power fails: then
// what was answered is gone, or the database as a whole.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_survives_and_the_node_opens() {
    let Some(mut disk) = disk(256) else { return };
    let home = tempfile::tempdir().unwrap();
    let mut node = Node::new(1, home.path().join("node"));
    move_to(&mut node, &disk);
    node.start().await;
    found(&[&node]).await;
    let mut nodes = [node];
    let book = Book::default();
    for cut in 1..=cuts(6) {
        // Some early, while files are new, and some late.
        let lost = lose_power(&mut disk, &mut nodes, &book, 20 * cut).await;
        assert_eq!(lost, Ok(()), "cut {cut}");
        assert_no_blobs(&nodes[0].data_dir);
    }
    book.check(&nodes[0]).await;
    println!("{:?}", book.totals());
    drop(nodes);
}

// Votes and the log must survive as well, or two leaders could be elected in one term, and what a
// majority had agreed on could be forgotten by all.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_loses_power_everywhere_at_once_agrees_again() {
    let Some(mut disk) = disk(384) else { return };
    let home = tempfile::tempdir().unwrap();
    let mut nodes: Vec<Node> = Vec::new();
    for id in 1..=3 {
        let mut node = Node::new(id, home.path().join(format!("node-{id}")));
        node.raft = "snapshot_every = 60\nkeep_log = 20\n".into();
        move_to(&mut node, &disk);
        node.start().await;
        nodes.push(node);
    }
    found(&nodes.iter().collect::<Vec<_>>()).await;
    let book = Book::default();
    for cut in 1..=cuts(2) {
        let lost = lose_power(&mut disk, &mut nodes, &book, 100).await;
        assert_eq!(lost, Ok(()), "cut {cut}");
    }
    for node in &nodes {
        book.check(node).await;
        assert_no_blobs(&node.data_dir);
    }
    drop(nodes);
}
