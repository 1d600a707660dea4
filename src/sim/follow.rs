//! How each node comes to what was agreed on: entry by entry, or by a snapshot.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::consensus::DIGEST_EVERY;
use super::node;
use super::replica::{Replica, Snapshot};
use super::world::{Sim, World};

/// Applies what was agreed on at one node, as it gets there.
pub(super) async fn follow(sim: Sim, n: usize) {
    let agreed = sim.with(|world| Arc::clone(&world.node(n).agreed));
    loop {
        let next = sim.with(|world| {
            let next = next(world, n);
            if next == Next::Apply {
                apply(world, n);
            }
            next
        });
        match next {
            Next::Apply => {}
            // Who leads meanwhile lags no longer.
            Next::At(wait) => drop(timeout(wait, agreed.notified()).await),
            Next::Wait => agreed.notified().await,
        }
    }
}

#[derive(PartialEq, Eq)]
enum Next {
    Apply,
    At(Duration),
    Wait,
}

fn next(world: &mut World, n: usize) -> Next {
    let (now, leads) = (world.now, world.leader() == Some(n));
    let node = world.node(n);
    let index = node.replica.index;
    let (cut, lags) = (node.cut, node.lags_until);
    let Some(agreed) = world.log.after(index).map(|entry| entry.agreed) else { return Next::Wait };
    if cut {
        return Next::Wait;
    }
    // A leader that does not apply would ask for time to pass, again and again.
    let usual = 40 + u64::try_from(n).unwrap_or(0) * 25;
    let at = if leads { agreed } else { lags.max(agreed + usual) };
    if at > now { Next::At(Duration::from_millis(at - now)) } else { Next::Apply }
}

fn apply(world: &mut World, n: usize) {
    let index = world.node(n).replica.index;
    if !world.log.reaches_back_to(index) {
        install(world, n);
        return;
    }
    let Some(entry) = world.log.after(index).cloned() else { return };
    let followed = world.node(n).replica.follow(&entry);
    world.holds("I6", followed.map_err(|how| format!("node {}: {how}", n + 1)));
    if entry.index.is_multiple_of(DIGEST_EVERY) {
        compare(world, n);
    }
    node::applied(world, n);
}

/// Holds a replica against the others.
pub(super) fn compare(world: &mut World, n: usize) {
    let replica = &mut world.node(n).replica;
    let (index, digest) = (replica.index, replica.digest());
    let same = world.log.compare(index, digest);
    world.holds("I6", same.map_err(|how| format!("node {}: {how}", n + 1)));
}

/// A node that the log does not reach any more gets another's snapshot.
fn install(world: &mut World, n: usize) {
    let newest = world.nodes().iter().filter_map(|node| node.snapshot.clone());
    let newest = newest.max_by_key(|snapshot: &Snapshot| snapshot.index);
    let newest = newest.filter(|snapshot| world.log.reaches_back_to(snapshot.index));
    // Where disks were lost, a leader makes one.
    let snapshot = newest.unwrap_or_else(|| world.log.head.freeze().write());
    match Replica::restore(&snapshot) {
        Ok(replica) => {
            world.node(n).replica = replica;
            world.node(n).snapshot = Some(snapshot);
            world.tally.reach("snapshot installed");
            compare(world, n);
            node::applied(world, n);
        }
        Err(how) => world.breaks("I11", format!("a snapshot cannot be installed: {how}")),
    }
}
