//! Promise: a disk that fails ends its node, with a line that says why, before anything is promised on it;
//! the others go on, and the node comes back from what its disk really kept. A slow disk only delays.
//!
//! Two nodes run in this process and one in its own, where `common/disk.rs` lets the system's calls fail.
//! Seeds fix which call fails and how, not how threads interleave.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cluster::durable::HALT_EXIT_CODE;
use common::client::{Dice, Told, client, collect};
use common::disk::{
    FAIL, GOOD, LOSE, OnBadDisk, Plan, SOON, SYNC, TEAR, WRITE, be_the_node, last_words,
};
use common::{Node, PATIENCE, Root, Seat, assert_equal, found, heavy, seats};

// Not a test: the other process.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "what `OnBadDisk` starts"]
async fn node_on_a_bad_disk() {
    be_the_node().await;
}

/// Three nodes, of which the last then goes into a process of its own.
async fn two_and_one(seats: &[Seat], root: &Root) -> (Vec<Node>, OnBadDisk) {
    let mut nodes = found(seats).await;
    let seat = nodes.pop().unwrap().stop().await;
    let other = OnBadDisk::start(&seat, root.path(), GOOD);
    (nodes, other)
}

/// Has the node in the other process lead, or another.
async fn lead(nodes: &[Node], leads: bool) {
    let id = 3;
    let wanted = if leads { id } else { 1 };
    let reached = |status: &cluster::Status| status.members.iter().all(|m| m.reachable);
    nodes[0].until("all reached", reached).await;
    let led = async {
        while nodes[0].raft.status().leader != Some(wanted) {
            // One that is asked while it still starts never takes over, and is asked again.
            let asked = nodes[0].raft.transfer_leadership(wanted);
            let _ = tokio::time::timeout(Duration::from_secs(1), asked).await;
        }
    };
    tokio::time::timeout(PATIENCE, led).await.unwrap();
}

// The kernel may drop what it could not write and then say that all is well: a node that tries again after a
// failed sync, or acknowledges a write that failed, loses what it promised.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_write_or_sync_ends_the_node_and_loses_nothing() {
    let seed = std::env::var("DISKS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(11);
    let mut dice = Dice(seed);
    let root = Root::new();
    let seats = seats(3, root.path());
    let (mut nodes, mut other) = two_and_one(&seats, &root).await;
    let ids = Arc::new(AtomicU64::new(0));
    let mut all = Told::default();
    let mut plans = format!("run again with DISKS_SEED={seed}; the plans were");
    for (leads, calls, how) in [
        (true, SYNC, FAIL),
        (true, WRITE, TEAR),
        (false, SYNC, LOSE),
        (false, WRITE, FAIL),
        (true, SYNC, LOSE),
        (false, WRITE, TEAR),
    ] {
        lead(&nodes, leads).await;
        let skip = u32::try_from(dice.roll(40)).unwrap();
        // Once: whoever tries again finds all well.
        let plan = Plan { calls, how, skip, times: 1, delay_ms: 0, path: "/log/db" };
        plans = format!("{plans} {leads}:{plan:?}");
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> =
            nodes.iter().map(|node| client(node, Arc::clone(&ids), Arc::clone(&stop))).collect();
        other.set(plan);
        let ended = other.ended(SOON).await.unwrap_or_else(|| panic!("it went on; {plans}"));
        assert_eq!(ended.code, Some(HALT_EXIT_CODE), "{plans}: {}", ended.said);
        assert!(last_words(&ended).contains("raft log"), "{plans}: {}", ended.said);

        // The two others need it for nothing.
        nodes[1].until("another leads", |status| status.leader.is_some_and(|id| id != 3)).await;
        for id in 0..5 {
            nodes[usize::try_from(id % 2).unwrap()].propose(1_000_000 + skip_id(&ids) + id).await;
        }
        stop.store(true, Ordering::SeqCst);
        all.add(collect(clients).await);

        // What its disk kept must be readable, and be a part of what was agreed on.
        let back = seats[2].try_start().await.unwrap_or_else(|error| panic!("{error}; {plans}"));
        nodes.push(back);
        let counter = assert_equal(&nodes).await;
        let mut applied = counter.applied.clone();
        applied.retain(|id, _| *id < 1_000_000);
        all.check(&applied, &plans);
        let seat = nodes.pop().unwrap().stop().await;
        other = OnBadDisk::start(&seat, root.path(), GOOD);
    }
    assert!(!all.ok.is_empty());
    drop(other);
    root.end(nodes).await;
}

fn skip_id(ids: &AtomicU64) -> u64 {
    10 * ids.fetch_add(1, Ordering::SeqCst)
}

// The slowest disk of three must not set the pace: two are a majority. Where the leader has it, everything is
// later, and still nothing is refused and nobody deposes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_disk_delays_its_own_node_and_no_other() {
    const LATE: Duration = Duration::from_millis(150);
    const PROPOSALS: u64 = 20;
    let root = Root::new();
    let seats = seats(3, root.path());
    let (nodes, other) = two_and_one(&seats, &root).await;
    let delay_ms = u32::try_from(LATE.as_millis()).unwrap();
    let slow = Plan { calls: SYNC, how: 0, skip: 0, times: 0, delay_ms, path: "/log/db" };
    let every_one_late = LATE * u32::try_from(PROPOSALS).unwrap();

    lead(&nodes, false).await;
    other.set(slow);
    let began = Instant::now();
    for id in 0..PROPOSALS {
        nodes[1].propose(id).await;
    }
    let took = began.elapsed();
    assert!(took < every_one_late / 2, "a follower's slow disk cost {took:?}");

    other.set(GOOD);
    lead(&nodes, true).await;
    let term = nodes[0].raft.status().term;
    other.set(slow);
    for id in 0..PROPOSALS {
        nodes[1].propose(100 + id).await;
    }
    let status = nodes[0].raft.status();
    assert_eq!((status.leader, status.term), (Some(3), term), "a slow leader was deposed");
    other.set(GOOD);
    let counter = assert_equal(&nodes).await;
    assert!(counter.applied.values().all(|times| *times == 1));
    assert_eq!(counter.applied.len(), 2 * usize::try_from(PROPOSALS).unwrap());
    drop(other);
    root.end(nodes).await;
}

// A snapshot that cannot be written whole must leave the state that it was to replace: half of the new one,
// or neither, would be a node that has lost everything.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_installed_on_a_failing_disk_leaves_the_old_state() {
    let root = Root::new();
    let mut seats = seats(3, root.path());
    for seat in &mut seats {
        (seat.snapshot_every, seat.keep_log) = (40, 5);
    }
    let mut nodes = found(&seats).await;
    let mut round = 0;
    for (calls, how, path) in [
        (WRITE, TEAR, "/snapshots"),
        (SYNC, LOSE, "/snapshots"),
        (WRITE, FAIL, "/log/db"),
        (SYNC, FAIL, "/snapshots"),
    ] {
        round += 1;
        for id in 0..20 {
            nodes[0].propose(round * 1_000 + id).await;
        }
        let old = assert_equal(&nodes).await;
        let seat = nodes.pop().unwrap().stop().await;
        for id in 100..200 {
            let command = heavy(round * 1_000 + id, 10_000);
            nodes[0].raft.propose(command, PATIENCE).await.unwrap();
        }
        let newest = nodes[0].raft.status().last_log;
        for node in &nodes {
            let purged = |s: &cluster::Status| s.purged.map(|at| at + 60) >= newest;
            node.until("the log is purged", purged).await;
        }
        // All of them, until the disk is replaced.
        let plan = Plan { calls, how, skip: 0, times: 1_000_000, delay_ms: 0, path };
        let mut other = OnBadDisk::start(&seat, root.path(), plan);
        if let Some(ended) = other.ended(Duration::from_secs(3)).await {
            last_words(&ended);
        }
        assert!(other.hits() > 0, "{plan:?}: nothing failed: {}", other.said());
        other.kill();

        // Alone, so that nothing but its own disk can tell it anything.
        let alone = Seat { routes: [(1, nowhere()), (2, nowhere())].into(), ..seat.clone() };
        let alone = alone.try_start().await.unwrap_or_else(|error| panic!("{plan:?}: {error}"));
        let found = alone.counter();
        assert!(
            old.applied.iter().all(|(id, times)| found.applied.get(id) == Some(times)),
            "{plan:?}: {} of {} are left",
            found.applied.len(),
            old.applied.len()
        );
        alone.stop().await;
        nodes.push(seat.start().await);
        let counter = assert_equal(&nodes).await;
        assert!(counter.applied.values().all(|times| *times == 1), "{plan:?}");
    }
    root.end(nodes).await;
}

fn nowhere() -> String {
    "127.0.0.1:1".to_owned()
}
