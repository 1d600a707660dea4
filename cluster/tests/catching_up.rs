//! Promise: whoever is behind catches up, while the others go on as fast as they can.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::links::Links;
use common::{Node, PATIENCE, Root, assert_equal, command, found, heavy, seats};

const SNAPSHOT_EVERY: u64 = 100;
const KEEP_LOG: u64 = 20;

/// A hundred commands a second at the most, so that what is kept for a follower stays below its bound.
fn traffic(node: &Node, client: u64, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<()> {
    let raft = node.raft.clone();
    tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(10));
        let mut id = client * 100_000;
        while !stop.load(Ordering::SeqCst) {
            pace.tick().await;
            id += 1;
            raft.propose(command(id), PATIENCE).await.unwrap();
        }
    })
}

// While a follower is sent a snapshot over a slow link, the others agree on more than the log keeps. Were it
// purged meanwhile, the next snapshot would be on its way when the first is installed, and so for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_on_a_slow_link_catches_up_though_a_transfer_outlasts_the_log() {
    let root = Root::new();
    let mut seats = seats(3, root.path());
    for seat in &mut seats {
        (seat.snapshot_every, seat.keep_log) = (SNAPSHOT_EVERY, KEEP_LOG);
    }
    let links = Links::lay(&mut seats).await;
    let mut nodes = found(&seats).await;
    let seat = nodes.pop().unwrap().stop().await;
    for id in 0..150 {
        nodes[0].raft.propose(heavy(1_000_000 + id, 20_000), PATIENCE).await.unwrap();
    }
    for node in &nodes {
        node.until("purged", |status| status.purged >= Some(20)).await;
    }

    // Two seconds for the snapshot, in which hundreds of entries are agreed on.
    for from in [1, 2] {
        links.slow(from, 3, Duration::from_millis(10));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..3_u64).map(|n| traffic(&nodes[0], n, Arc::clone(&stop))).collect();
    let slow = seat.start().await;
    let installed = slow.until("a snapshot", |status| status.snapshot >= Some(100)).await;
    let leader = nodes[0].raft.status();
    let went_on = leader.last_log.unwrap() - installed.snapshot.unwrap();
    assert!(went_on > KEEP_LOG + SNAPSHOT_EVERY, "only {went_on} entries: this proves nothing");
    let near = async {
        loop {
            let lag = nodes[0].raft.status().last_log.unwrap()
                - slow.raft.status().applied.unwrap_or_default();
            if lag < KEEP_LOG {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let caught_up = tokio::time::timeout(PATIENCE, near).await;
    assert!(caught_up.is_ok(), "{:?} of {:?}", slow.raft.status(), nodes[0].raft.status());

    // What was kept for it goes again, under the same traffic.
    for node in &nodes {
        let few = |status: &cluster::Status| {
            status.last_log.unwrap() - status.purged.unwrap() < KEEP_LOG + 3 * SNAPSHOT_EVERY
        };
        node.until("purged again", few).await;
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    nodes.push(slow);
    assert!(assert_equal(&nodes).await.applied.values().all(|times| *times == 1));
    root.end(nodes).await;
}
