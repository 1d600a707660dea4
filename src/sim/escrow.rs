//! Clients that are granted units by one node alone, what they know of that, and an operator who says of disks
//! that they are destroyed.

use std::collections::BTreeMap;
use std::time::Duration;

use cluster::codec;
use state::command::{Asked, Confirm, Hold, HoldLine, SkuSettings};
use state::escrow::Size;
use state::reply::Answered;
use state::{Command, Data, Key, Reply};
use tokio::time::sleep;

use super::clients::{Wish, ask};
use super::consensus;
use super::world::{NODES, Sim, World};
use super::{LOCATION, RESERVED_SKU};
use crate::channel::key;
use crate::escrow::{Change, Said};

const LIMIT: Duration = Duration::from_secs(10);
/// How often a client tries before it gives up on a node.
const TRIES: usize = 12;
const EXTENSION_MS: u64 = 600_000;
/// How many come at once.
const RUSH: usize = 8;

/// Units that one node granted.
struct Seats {
    node: usize,
    units: i64,
    sold: i64,
    /// True time until which the rest is held at least.
    until: u64,
    /// Whether the rest may have been let go.
    gone: bool,
}

/// What clients were granted in escrow, by the reservation's id.
#[derive(Default)]
pub(super) struct Granted(BTreeMap<String, Seats>);

impl Granted {
    /// Units that are certainly held or sold at a true time.
    fn taken(&self, now: u64) -> i64 {
        let taken = |seats: &Seats| {
            if seats.gone || seats.until <= now { seats.sold } else { seats.units }
        };
        self.0.values().map(taken).sum()
    }

    /// The disk of a node is destroyed: what it did not tell is lost.
    pub(super) fn disk_lost(&mut self, n: usize, data: &Data) {
        for (id, seats) in self.0.iter_mut().filter(|(_, seats)| seats.node == n) {
            let known = data.reservations.get(id.as_str());
            let told = known.map_or(0, |known| known.lines.iter().map(|line| line.confirmed).sum());
            (seats.gone, seats.sold) = (true, seats.sold.min(told));
        }
    }
}

impl World {
    /// Together, clients are granted no more than there can be (I3), by the cluster at an agreed time and by
    /// single nodes now.
    pub(super) fn check_granted(&mut self, agreed: u64) {
        let by_one = self.granted.taken(self.now);
        let (taken, received) = (self.book.taken(agreed) + by_one, self.book.received);
        if taken > received {
            let how = format!("clients hold {taken} of {received} that there can be");
            self.breaks("I3", format!("{how}, {by_one} of them by single nodes"));
        }
    }
}

/// What only reservations take lies in escrow, half of it.
pub(super) fn opening() -> Vec<u8> {
    let settings = SkuSettings { escrow: Some(Size::Percent(50)), ..SkuSettings::default() };
    codec::encode(&Command::Map { sku: RESERVED_SKU.into(), settings })
}

fn any_key(sim: &Sim) -> (Key, Key) {
    let serial = sim.with(|world| world.book.serial());
    (key(format!("x{serial}").as_bytes()), key(b"the same"))
}

/// Somebody asks one node for units, and goes on with them there. Whether that granted them.
pub(super) async fn reserve(sim: &Sim, wish: &Wish) -> bool {
    let n = sim.with(|world| world.any(NODES));
    reserve_at(sim, wish, n).await
}

/// Several at once ask one node for a unit each: for more than is left to it, and sooner than others hear of it.
pub(super) async fn rush(sim: &Sim, wish: &Wish) {
    let n = sim.with(|world| {
        world.tally.reach("rush for escrow");
        world.any(NODES)
    });
    let one = Wish { lines: vec![(RESERVED_SKU, 1)], ..*wish };
    let all = (0..RUSH).map(|_| reserve_at(sim, &one, n));
    futures::future::join_all(all).await;
}

async fn reserve_at(sim: &Sim, wish: &Wish, n: usize) -> bool {
    let id = sim.with(|world| format!("x{}", world.book.serial()));
    let lines = wish.lines.iter().map(|(sku, units)| HoldLine {
        sku: (*sku).into(),
        quantity: *units,
        location: Some(LOCATION.into()),
    });
    let (lines, ttl_ms) = (lines.collect(), wish.ttl_ms);
    let asked = Hold { id, lines, channel: None, ttl_ms, reference: None };
    let key = any_key(sim);
    let units: i64 = wish.lines.iter().map(|(_, units)| units).sum();
    let Some((id, since)) = granted(sim, n, &asked, key).await else { return false };
    sim.with(|world| {
        let (until, agreed) = (since + ttl_ms, world.agreed_now());
        let cut = world.node(n).cut;
        world.tally.reach(if cut {
            "granted in escrow while cut off"
        } else {
            "granted in escrow"
        });
        world.granted.0.insert(id.clone(), Seats { node: n, units, sold: 0, until, gone: false });
        world.check_granted(agreed);
    });
    sleep(Duration::from_millis(wish.after)).await;
    match wish.then {
        0 => confirm(sim, n, &id, units).await,
        1 => release(sim, n, &id).await,
        2 => {
            extend(sim, n, &id).await;
            confirm(sim, n, &id, units).await;
        }
        _ => {}
    }
    true
}

/// The reservation's id, and when it was asked for; the same each time.
async fn granted(sim: &Sim, n: usize, asked: &Hold, key: (Key, Key)) -> Option<(String, u64)> {
    let since = sim.with(|world| world.now);
    for _ in 0..TRIES {
        let (escrow, boot) = sim.with(|world| (world.node(n).escrow.clone(), world.node(n).boot));
        if let Some(escrow) = escrow {
            match escrow.hold(asked, Some(key)).await {
                // An answer that comes from a disk that is destroyed by now is worth nothing.
                Ok(Said::Reservation(id, _)) => {
                    let same = sim.with(|world| world.node(n).boot == boot);
                    return same.then_some((id, since));
                }
                Ok(_) => return None,
                Err(_) => {}
            }
        }
        let pause = sim.with(|world| world.between(500, 60_000));
        sleep(pause).await;
    }
    None
}

/// Asks the node that granted it, and where that does not answer the cluster. What came of it: nothing if
/// nobody can know, else whether it was done, and by that node.
async fn change(sim: &Sim, n: usize, change: &Change) -> Option<(bool, bool)> {
    let key = any_key(sim);
    for _ in 0..TRIES {
        if let Some(escrow) = sim.with(|world| world.node(n).escrow.clone()) {
            match escrow.change(change, Some(key)).await {
                Ok(Said::Reservation(..)) => return Some((true, true)),
                Ok(Said::Elsewhere) => break,
                Ok(_) => return Some((false, true)),
                Err(_) => {}
            }
        }
        let pause = sim.with(|world| world.between(500, 60_000));
        sleep(pause).await;
    }
    let asked = match change.clone() {
        Change::Confirm(asked) => Asked::Confirm(asked),
        Change::Release(id) => Asked::Release(id),
        Change::Extend(id, ttl_ms) => Asked::Extend(id, ttl_ms),
    };
    let id = sim.with(|world| format!("x{}", world.book.serial()));
    let answer = ask(sim, &id, asked).await?;
    sim.with(|world| world.tally.reach("escrow taken over by the cluster"));
    Some((matches!(answer, Answered::Reservation(..)), false))
}

fn with_seats(sim: &Sim, id: &str, change: impl FnOnce(&mut Seats)) {
    sim.with(|world| {
        if let Some(seats) = world.granted.0.get_mut(id) {
            change(seats);
        }
    });
}

async fn confirm(sim: &Sim, n: usize, id: &str, units: i64) {
    let asked = Confirm { id: id.into(), lines: None, reference: None };
    let boot = sim.with(|world| world.node(n).boot);
    let done = change(sim, n, &Change::Confirm(asked)).await;
    let same = sim.with(|world| world.node(n).boot == boot);
    with_seats(sim, id, |seats| match done {
        // Of what was told to another process nobody knows whether its disk still knows it.
        Some((true, by_one)) if same || !by_one => seats.sold = units,
        Some((false, _)) | None => seats.gone = true,
        Some(_) => {}
    });
}

async fn release(sim: &Sim, n: usize, id: &str) {
    // From here on nobody can know.
    with_seats(sim, id, |seats| seats.gone = true);
    change(sim, n, &Change::Release(id.into())).await;
}

async fn extend(sim: &Sim, n: usize, id: &str) {
    let until = sim.with(|world| world.now) + EXTENSION_MS;
    with_seats(sim, id, |seats| seats.until = seats.until.min(until));
    let done = change(sim, n, &Change::Extend(id.into(), EXTENSION_MS)).await;
    // What the cluster took over ends by agreed time.
    with_seats(sim, id, |seats| match done {
        Some((true, true)) => seats.until = until,
        Some((_, false)) | None => seats.gone = true,
        Some((false, true)) => {}
    });
}

/// A node lives on with another disk: after a while somebody says that the former one is destroyed.
pub(super) fn say_destroyed(sim: &Sim, n: usize) {
    let of_task = sim.clone();
    sim.busy(async move {
        let sim = of_task;
        let after = sim.with(|world| world.between(1_000, 1_200_000));
        sleep(after).await;
        loop {
            let said = sim.with(|world| {
                let by = world.any(NODES);
                let inbox = world.node(n).inbox.clone();
                let keeping = inbox.filter(|_| world.node(by).up).map(|inbox| inbox.book());
                keeping.map(|keeping| (by, keeping))
            });
            if let Some((by, keeping)) = said {
                let node = u64::try_from(n).unwrap_or(0) + 1;
                let command = Command::Destroyed { node, keeping: Some(keeping) };
                let said = consensus::propose(&sim, by, codec::encode(&command), LIMIT).await;
                let reply = said.ok().and_then(|reply| codec::decode(&reply.bytes).ok());
                if reply == Some(Reply::Done) {
                    return;
                }
            }
            let pause = sim.with(|world| world.between(1_000, 10_000));
            sleep(pause).await;
        }
    });
}
