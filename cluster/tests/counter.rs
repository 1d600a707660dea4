//! Promise: whatever is proposed on whichever node is applied once, in one order, on all of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cluster::{ChangeError, InitError, ProposeError, Role};
use common::{FIRST_MS, PATIENCE, Root, Seat, assert_equal, command, found, heavy, seats};

// A node that cannot forward would make its region wait for the leader to come to it.
#[tokio::test(flavor = "multi_thread")]
async fn proposals_on_any_node_are_applied_on_all() {
    let dir = Root::new();
    let nodes = found(&seats(3, dir.path())).await;
    for id in 0..30 {
        let node = &nodes[usize::try_from(id % 3).unwrap()];
        let reply = node.propose(id).await;
        let total: usize = cluster::codec::decode(&reply.bytes).unwrap();
        assert_eq!(total, usize::try_from(id).unwrap() + 1, "each sees those before it");
    }
    let counter = assert_equal(&nodes).await;
    assert!(counter.applied.len() == 30 && counter.applied.values().all(|times| *times == 1));

    let members = nodes.iter().map(|node| node.seat.member.clone()).collect();
    let again = nodes[1].raft.init(members).await;
    assert!(matches!(again, Err(InitError::AlreadyInitialised)), "{again:?}");
    let large = nodes[0].raft.propose(vec![0; 9 * 1024 * 1024], PATIENCE).await;
    assert!(matches!(large, Err(ProposeError::TooLarge { .. })), "{large:?}");
    let large = heavy(99, 7 * 1024 * 1024);
    nodes[2].raft.propose(large, PATIENCE).await.unwrap();
    assert_equal(&nodes).await;
    dir.end(nodes).await;
}

// A read that follows a write on another node must see it: that is what the barrier is for.
#[tokio::test(flavor = "multi_thread")]
async fn a_barrier_shows_what_was_answered_elsewhere() {
    let dir = Root::new();
    let nodes = found(&seats(3, dir.path())).await;
    for id in 0..60 {
        let at = usize::try_from(id).unwrap();
        nodes[at % 3].propose(id).await;
        let reader = &nodes[(at + 1) % 3];
        reader.raft.barrier(PATIENCE).await.unwrap();
        assert!(reader.counter().applied.contains_key(&id), "a stale read after a barrier");
    }
    dir.end(nodes).await;
}

// A leader that goes must be replaced, its followers must not lose what it agreed on, and it must
// find its way back from its own disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_leader_is_replaced_and_comes_back() {
    let dir = Root::new();
    let mut nodes = found(&seats(3, dir.path())).await;
    for round in 0..3_u64 {
        for id in 0..20 {
            nodes[0].propose(round * 100 + id).await;
        }
        let leader = nodes[0].leader().await;
        let at = nodes.iter().position(|node| node.id() == leader).unwrap();
        let gone = nodes.remove(at).stop().await;
        nodes[1].propose(round * 100 + 50).await;
        assert_ne!(nodes[0].leader().await, leader);
        nodes.push(gone.start().await);
    }
    let counter = assert_equal(&nodes).await;
    assert_eq!(counter.applied.len(), 63);
    assert!(counter.applied.values().all(|times| *times == 1));
    dir.end(nodes).await;
}

// All nodes at once lose power in one building: what was answered must be on their disks.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_all_nodes_forgets_nothing() {
    let dir = Root::new();
    let mut seats = seats(3, dir.path());
    for seat in &mut seats {
        (seat.snapshot_every, seat.keep_log) = (25, 5);
    }
    let mut nodes = found(&seats).await;
    for id in 0..60 {
        nodes[0].propose(id).await;
    }
    let before = assert_equal(&nodes).await;
    let snapshot = nodes[1].raft.snapshot().await.unwrap();
    assert!(snapshot >= 60, "a snapshot of what is applied now, not of {snapshot}");
    for node in nodes.drain(..) {
        node.stop().await;
    }
    for seat in &seats {
        // A clock that was set back an hour must not turn agreed time back.
        seat.clock_off_ms.store(-3_600_000, Ordering::SeqCst);
        nodes.push(seat.start().await);
    }
    let after = assert_equal(&nodes).await;
    assert_eq!(after.applied, before.applied);
    nodes[2].propose(1_000).await;
    let after = assert_equal(&nodes).await;
    assert!(after.at_ms >= before.at_ms && !after.time_went_back);
    dir.end(nodes).await;
}

// A new machine cannot be given a log that was purged; while it fetches the snapshot instead, the
// others must go on, and what they agree on meanwhile must not be lost between the two.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_member_catches_up_by_snapshot_while_traffic_goes_on() {
    let dir = Root::new();
    let mut seats = seats(3, dir.path());
    for seat in &mut seats {
        (seat.snapshot_every, seat.keep_log) = (50, 10);
    }
    let nodes = Arc::new(found(&seats).await);
    for id in 0..120 {
        nodes[0].raft.propose(heavy(id, 50_000), PATIENCE).await.unwrap();
    }
    nodes[0].until("purged", |status| status.purged >= Some(50)).await;
    nodes[1].until("purged", |status| status.purged >= Some(50)).await;
    nodes[2].until("purged", |status| status.purged >= Some(50)).await;

    let stop = Arc::new(AtomicBool::new(false));
    let (traffic, stopped) = (Arc::clone(&nodes), Arc::clone(&stop));
    let traffic = tokio::spawn(async move {
        let mut sent = 0;
        while !stopped.load(Ordering::SeqCst) {
            traffic[1].propose(10_000 + sent).await;
            sent += 1;
        }
        sent
    });
    let fourth = Seat { snapshot_every: 50, keep_log: 10, ..Seat::new(4, dir.path()) };
    let fourth = fourth.start().await;
    assert_eq!(fourth.raft.status().role, Role::Uninitialised);
    nodes[2].raft.add_learner(fourth.seat.member.clone()).await.unwrap();
    fourth.until("a snapshot", |status| status.snapshot >= Some(50)).await;
    let promoted = async {
        while let Err(error) = fourth.raft.promote(4).await {
            assert!(!matches!(error, ChangeError::Unknown(_)), "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, promoted).await.unwrap();
    stop.store(true, Ordering::SeqCst);
    let sent = traffic.await.unwrap();

    let mut nodes = Arc::into_inner(nodes).unwrap();
    nodes.push(fourth);
    let counter = assert_equal(&nodes).await;
    assert_eq!(counter.applied.len(), 120 + usize::try_from(sent).unwrap());
    assert!(counter.applied.values().all(|times| *times == 1));
    assert_eq!(counter.ballast, 120 * 50_000);
    dir.end(nodes).await;
}

// A node that comes back with an empty disk under its old id has forgotten what it acknowledged. The
// leader must bring it up to date, and not stop over it.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_lost_its_disk_is_brought_up_to_date() {
    let dir = Root::new();
    let mut seats = seats(3, dir.path());
    for seat in &mut seats {
        (seat.snapshot_every, seat.keep_log) = (30, 5);
    }
    let mut nodes = found(&seats).await;
    for id in 0..80 {
        nodes[0].propose(id).await;
    }
    assert_equal(&nodes).await;
    let leader = nodes[0].leader().await;
    let at = nodes.iter().position(|node| node.id() != leader).unwrap();
    let seat = nodes.remove(at).stop().await;
    std::fs::remove_dir_all(&seat.dir).unwrap();
    nodes[0].propose(100).await;
    nodes.push(seat.start().await);
    nodes[2].propose(101).await;
    let counter = assert_equal(&nodes).await;
    assert_eq!(counter.applied.len(), 82);
    assert!(counter.applied.values().all(|times| *times == 1));
    dir.end(nodes).await;
}

// Membership is what a quorum is counted from: a change that is lost or applied twice splits it.
#[tokio::test(flavor = "multi_thread")]
async fn members_come_and_go() {
    let dir = Root::new();
    let mut nodes = found(&seats(3, dir.path())).await;
    let fourth = Seat::new(4, dir.path()).start().await;
    let unknown = nodes[0].raft.promote(4).await;
    assert!(matches!(unknown, Err(ChangeError::Refused(_))), "{unknown:?}");
    nodes[1].raft.add_learner(fourth.seat.member.clone()).await.unwrap();
    nodes.push(fourth);
    assert_equal(&nodes).await;
    nodes[2].raft.promote(4).await.unwrap();
    nodes[3].until("a vote", |status| status.members.len() == 4).await;
    nodes[3].raft.transfer_leadership(4).await.unwrap();
    let leads = |status: &cluster::Status| {
        status.role == Role::Leader
            && status.members.iter().all(|member| member.voter && member.matched.is_some())
    };
    nodes[3].until("leading four voters", leads).await;
    let reachable = |status: &cluster::Status| status.members.iter().all(|member| member.reachable);
    nodes[0].until("all reachable", reachable).await;

    nodes[0].raft.demote(1).await.unwrap();
    let is_learner = |status: &cluster::Status| !status.members[0].voter;
    nodes[0].until("demoted", is_learner).await;
    nodes[0].raft.remove(1).await.unwrap();
    let gone = nodes.remove(0);
    nodes[0].until("removed", |status| status.members.len() == 3).await;
    gone.stop().await;
    nodes[1].propose(7).await;
    assert_equal(&nodes).await;
    // The leader itself.
    nodes[0].raft.remove(4).await.unwrap();
    nodes.pop().unwrap().stop().await;
    nodes[1].propose(8).await;
    assert_eq!(assert_equal(&nodes).await.applied.len(), 2);
    dir.end(nodes).await;
}

// A command that cannot be applied must stop the node: skipped by one and applied by another, they
// would differ from there on.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_halts_ends_raft() {
    let dir = Root::new();
    let nodes = found(&seats(1, dir.path())).await;
    nodes[0].propose(1).await;
    let fatal = nodes[0].raft.fatal();
    let answer = nodes[0].raft.propose(b"halt".to_vec(), Duration::from_secs(5)).await;
    assert!(matches!(answer, Err(ProposeError::Unknown(_))), "{answer:?}");
    let why = tokio::time::timeout(PATIENCE, fatal).await.unwrap();
    assert!(why.contains("asked to halt"), "{why}");
    let after = nodes[0].raft.propose(command(2), Duration::from_secs(1)).await;
    assert!(after.is_err());
    dir.end(nodes).await;
}

// A handle that is dropped in a panic, say, must not leave a node behind that still votes and holds the
// directory.
#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_handle_stops_the_node() {
    let dir = Root::new();
    let seat = Seat::new(1, dir.path());
    let node = found(std::slice::from_ref(&seat)).await.remove(0);
    node.propose(1).await;
    drop(node);
    let reopened = async {
        loop {
            match seat.try_start().await {
                Ok(node) => return node,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let node = tokio::time::timeout(PATIENCE, reopened).await.unwrap();
    node.propose(2).await;
    let nodes = vec![node];
    assert_eq!(assert_equal(&nodes).await.applied.len(), 2);
    dir.end(nodes).await;
}

// Without a quorum there is no answer; it must come in time all the same, and say what is known.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_nothing_is_promised() {
    let dir = Root::new();
    let mut nodes = found(&seats(3, dir.path())).await;
    nodes[0].propose(1).await;
    nodes.pop().unwrap().stop().await;
    nodes.pop().unwrap().stop().await;
    let short = Duration::from_millis(1_500);
    for _ in 0..3 {
        let began = std::time::Instant::now();
        nodes[0].raft.propose(command(2), short).await.unwrap_err();
        nodes[0].raft.barrier(short).await.unwrap_err();
        assert!(began.elapsed() < 2 * short + Duration::from_secs(2));
    }
    dir.end(nodes).await;
}

// A leader whose clock runs ahead would take time with it, and time cannot be turned back.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_with_a_wrong_clock_gives_up() {
    let dir = Root::new();
    let nodes = found(&seats(3, dir.path())).await;
    let leader = nodes[0].leader().await;
    let wrong = nodes.iter().position(|node| node.id() == leader).unwrap();
    let reachable = |status: &cluster::Status| status.members.iter().all(|member| member.reachable);
    nodes[wrong].until("all reachable", reachable).await;
    // Set in the middle of it: what was heard of others' clocks before must count after it.
    nodes[wrong].seat.clock_off_ms.store(3_600_000, Ordering::SeqCst);
    let replaced = async {
        let mut id = 0;
        while nodes[(wrong + 1) % 3].raft.status().leader == Some(leader) {
            id += 1;
            let _ = nodes[wrong].raft.propose(command(id), Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(PATIENCE, replaced).await.unwrap();
    nodes[wrong].propose(1_000).await;
    assert_ne!(nodes[wrong].leader().await, leader);
    let counter = assert_equal(&nodes).await;
    assert!(counter.at_ms < FIRST_MS + 3_600_000, "agreed time went with it");
    dir.end(nodes).await;
}
