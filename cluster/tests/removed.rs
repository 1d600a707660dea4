//! Promise: a node that was removed finds out as soon as it can; one that is only cut off never thinks so.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod common;

use std::time::Duration;

use cluster::Status;
use common::links::Links;
use common::{Root, Seat, assert_equal, found, seats};

const REMOVED: fn(&Status) -> bool = |status| status.removed;

// Whoever was removed hears nothing, as if its link were cut, and would go on taking what nobody collects.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_removed_finds_out_from_its_peers() {
    let root = Root::new();
    let mut nodes = found(&seats(4, root.path())).await;
    // A follower, then the leader itself.
    for leads in [false, true] {
        let leader = nodes[0].leader().await;
        let at = nodes.iter().position(|node| (node.id() == leader) == leads).unwrap();
        let gone = nodes.remove(at);
        nodes[0].raft.remove(gone.id()).await.unwrap();
        gone.until("it finds out", REMOVED).await;
        // What it has answered for before it knew must still be agreed on.
        gone.propose(10 + gone_id(leads)).await;
        // Also one that restarts, and has only its own disk to go by.
        let gone = gone.stop().await.start().await;
        gone.until("it finds out again", REMOVED).await;
        gone.stop().await;
        nodes[0].propose(gone_id(leads)).await;
    }
    assert_equal(&nodes).await;
    assert!(nodes.iter().all(|node| !node.raft.status().removed));
    root.end(nodes).await;
}

fn gone_id(leads: bool) -> u64 {
    if leads { 2 } else { 1 }
}

// A region that is cut off must go on for days; were silence taken for removal, it would send its webhooks back.
// What happened meanwhile it must hear once it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_cut_off_does_not_take_itself_for_removed() {
    let root = Root::new();
    let mut seats = seats(3, root.path());
    let links = Links::lay(&mut seats).await;
    let mut nodes = found(&seats).await;
    // Until all know who belongs to it.
    assert_equal(&nodes).await;
    let leader = nodes[0].leader().await;
    // First the leader, which also loses its office meanwhile; then a follower, which is removed meanwhile.
    for (leads, removed) in [(true, false), (false, true)] {
        let leader = if leads { leader } else { nodes[0].leader().await };
        let at = nodes.iter().position(|node| (node.id() == leader) == leads).unwrap();
        let alone = nodes.remove(at);
        links.isolate(alone.id());
        nodes[0].until("others lead", |s| s.leader.is_some_and(|id| id != alone.id())).await;
        if removed {
            nodes[0].raft.remove(alone.id()).await.unwrap();
        }
        let unheard = alone.seat.timing.election_ms_max * 5;
        let mut status = alone.raft.watch();
        let knows = status.wait_for(REMOVED);
        let knew = tokio::time::timeout(Duration::from_millis(unheard), knows).await.is_ok();
        assert!(!knew, "nobody can have told it");
        links.heal();
        if removed {
            alone.until("it finds out", REMOVED).await;
            alone.stop().await;
        } else {
            nodes.push(alone);
            nodes[0].propose(7).await;
            assert_equal(&nodes).await;
            assert!(nodes.iter().all(|node| !node.raft.status().removed));
        }
    }
    root.end(nodes).await;
}

// A node that has just joined knows less of the membership than its peers, and some of them less than it.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_joins_is_not_taken_for_removed() {
    let root = Root::new();
    let mut nodes = found(&seats(1, root.path())).await;
    for id in 2..=4 {
        let seat = Seat::new(id, root.path());
        let node = seat.start().await;
        let mut status = node.raft.watch();
        nodes[0].raft.add_learner(node.seat.member.clone()).await.unwrap();
        nodes[0].raft.promote(id).await.unwrap();
        nodes.push(node);
        assert_equal(&nodes).await;
        assert!(!status.borrow_and_update().removed);
    }
    assert!(nodes.iter().all(|node| !node.raft.status().removed));
    root.end(nodes).await;
}
