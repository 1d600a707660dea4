//! What breaks nodes, clocks, disks and channels, one fault after another.

use std::time::Duration;

use tokio::time::sleep;

use super::customers;
use super::faults::{Fault, PLANNED};
use super::node::{self, Death};
use super::world::{NODES, Sim, World};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

/// Breaks something every few minutes, until faults stop.
pub(super) async fn run(sim: Sim) {
    loop {
        let pause = sim.with(|world| world.between(10_000, 6 * MINUTE));
        sleep(pause).await;
        if !sim.with(|world| world.faulty) {
            return;
        }
        let (fault, n) = sim.with(|world| (pick(world), world.any(NODES)));
        if sim.with(|world| world.may(fault)) {
            strike(&sim, fault, n);
        }
    }
}

fn pick(world: &mut World) -> Fault {
    let all: u64 = PLANNED.iter().map(|fault| fault.per_mille()).sum();
    let mut drawn = world.dice.below(all);
    for fault in PLANNED {
        match drawn.checked_sub(fault.per_mille()) {
            Some(rest) => drawn = rest,
            None => return fault,
        }
    }
    Fault::NodeKilled
}

/// Mostly short, now and then long.
fn outage(world: &mut World, long: u64) -> Duration {
    if world.dice.below(12) == 0 {
        world.between(5 * MINUTE, long)
    } else {
        world.between(1_000, 3 * MINUTE)
    }
}

fn strike(sim: &Sim, fault: Fault, n: usize) {
    let lasts = sim.with(|world| {
        if fault != Fault::DiskError {
            world.count(fault);
        }
        // A marketplace is down for two days now and then, or nobody would sell anything.
        let days = fault == Fault::ChannelDown && world.dice.below(16) == 0;
        outage(world, if days { 48 * HOUR } else { 2 * HOUR })
    });
    match fault {
        Fault::NodeKilled => drop(tokio::spawn(node::fall(sim.clone(), n, Death::Process, lasts))),
        Fault::DiskLost => drop(tokio::spawn(node::fall(sim.clone(), n, Death::Disk, lasts))),
        Fault::PowerLost => {
            let all = sim.with(|world| world.dice.below(6)) == 0;
            for n in if all { 0..NODES } else { n..n + 1 } {
                tokio::spawn(node::fall(sim.clone(), n, Death::Power, lasts));
            }
        }
        Fault::LeaderLost => {
            sim.with(|world| world.log.leader = None);
            node::elect_soon(sim);
        }
        Fault::ChannelEdited => sim.with(|world| {
            let m = world.any(world.markets.len());
            customers::edit(sim, world, m);
        }),
        _ => {
            sim.with(|world| begin(world, fault, n, lasts));
            node::elect_soon(sim);
            let sim = sim.clone();
            tokio::spawn(async move {
                sleep(lasts).await;
                // What it took in while it was alone is on its disk and nowhere else.
                let dies = fault == Fault::NodeCutOff
                    && sim.with(|world| {
                        let dies = world.dice.below(3) == 0 && world.may(Fault::PowerLost);
                        if dies {
                            world.count(Fault::PowerLost);
                        }
                        dies
                    });
                if dies {
                    node::fall(sim.clone(), n, Death::Power, Duration::from_secs(20)).await;
                }
                sim.with(|world| end(world, fault, n));
            });
        }
    }
}

fn begin(world: &mut World, fault: Fault, n: usize, lasts: Duration) {
    let until = world.now + u64::try_from(lasts.as_millis()).unwrap_or(0);
    let mut ahead = |most: u64| {
        let ahead = i64::try_from(world.dice.below(2 * most)).unwrap_or(0);
        ahead - i64::try_from(most).unwrap_or(0)
    };
    match fault {
        Fault::FollowerLags => world.node(n).lags_until = until,
        Fault::NodeCutOff => world.node(n).cut = true,
        Fault::DiskError => world.node(n).disk.failing = true,
        Fault::DiskFull => world.node(n).disk.full = true,
        Fault::ClockStepped => {
            let ahead = ahead(2_500);
            world.node(n).clock_ahead = ahead;
        }
        Fault::ClockFarOff => {
            let ahead = ahead(2 * HOUR);
            world.node(n).clock_ahead = ahead;
        }
        Fault::ChannelDown => {
            let m = world.any(world.markets.len());
            let market = world.market(m);
            market.down_until = market.down_until.max(until);
        }
        _ => {}
    }
}

fn end(world: &mut World, fault: Fault, n: usize) {
    let node = world.node(n);
    match fault {
        Fault::NodeCutOff => node.cut = false,
        Fault::DiskFull => node.disk.full = false,
        Fault::ClockFarOff => node.clock_ahead = 0,
        _ => {}
    }
    node.agreed.notify_one();
    world.elect();
}

/// Faults stop: all that is broken is mended, and nodes that are down come up by themselves.
pub(super) fn calm(world: &mut World) {
    world.faulty = false;
    let now = world.now;
    for n in 0..NODES {
        let node = world.node(n);
        (node.cut, node.lags_until, node.clock_ahead) = (false, 0, 0);
        (node.disk.full, node.disk.failing) = (false, false);
        node.agreed.notify_one();
    }
    for market in &mut world.markets {
        market.down_until = market.down_until.min(now);
    }
    world.elect();
}
