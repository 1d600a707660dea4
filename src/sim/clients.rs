//! Clients of the API: they receive, count and hold units, and ask again until they are answered.

use std::time::Duration;

use cluster::codec;
use marketplace::random::Random;
use state::command::{Asked, Confirm, Hold, HoldLine, MovementRequest, Movements};
use state::ledger::Kind;
use state::reply::Answered;
use state::{Command, Reply};
use tokio::time::sleep;

use super::book::Held;
use super::consensus;
use super::customers::any_sku;
use super::world::{NODES, Sim};
use super::{LOCATION, RESERVED_KIT, RESERVED_SKU, parts};
use crate::channel::key;

const LIMIT: Duration = Duration::from_secs(10);

/// Asks until there is an answer; the same each time.
pub(super) async fn ask(sim: &Sim, id: &str, asked: Asked) -> Option<Answered> {
    let body = key(format!("{asked:?}").as_bytes());
    let idempotency = Some((key(id.as_bytes()), body));
    let command = codec::encode(&Command::Request { idempotency, asked });
    loop {
        let n = sim.with(|world| world.any(NODES));
        if sim.with(|world| world.node(n).up)
            && let Ok(reply) = consensus::propose(sim, n, command.clone(), LIMIT).await
        {
            return match codec::decode(&reply.bytes) {
                Ok(Reply::Answered { answer, .. }) => Some(answer),
                _ => None,
            };
        }
        let pause = sim.with(|world| world.between(500, 5_000));
        sleep(pause).await;
    }
}

fn movement(id: &str, kind: Kind, sku: &str, quantity: i64) -> Asked {
    let request = MovementRequest {
        body: key(format!("{kind:?} {sku} {quantity}").as_bytes()),
        ..MovementRequest::new(key(id.as_bytes()), id, kind, sku, quantity, LOCATION)
    };
    Asked::Movements(Movements { atomic: false, movements: vec![request] })
}

/// Stock comes in, or a count finds another quantity.
pub(super) fn request(sim: &Sim, dice: &mut Random) {
    let sku = any_sku(dice);
    let units = 1 + i64::try_from(dice.below(20)).unwrap_or(0);
    let (kind, units) = match dice.below(5) {
        0 => (Kind::Adjustment, -units.min(3)),
        1 => (Kind::Adjustment, units.min(3)),
        _ => (Kind::Receipt, units),
    };
    let id = sim.with(|world| format!("m{}", world.book.serial()));
    let asked = movement(&id, kind, sku, units);
    let of_task = sim.clone();
    sim.busy(async move {
        ask(&of_task, &id, asked).await;
    });
}

/// What a client does with what it holds.
pub(super) struct Wish {
    /// SKUs and units.
    pub(super) lines: Vec<(&'static str, i64)>,
    pub(super) ttl_ms: u64,
    /// How long it thinks, and of what.
    pub(super) after: u64,
    pub(super) then: u64,
}

/// Somebody holds units, and then buys them, lets them go, or forgets them.
pub(super) fn hold(sim: &Sim, dice: &mut Random) {
    let units = |dice: &mut Random| 1 + i64::try_from(dice.below(4)).unwrap_or(0);
    let mut lines = vec![match dice.below(5) {
        0..2 => (any_sku(dice), units(dice)),
        2..4 => (RESERVED_SKU, units(dice)),
        _ => (RESERVED_KIT, units(dice)),
    }];
    if dice.below(4) == 0 {
        lines.push((RESERVED_SKU, units(dice)));
    }
    let ttl_ms = 60_000 + dice.below(1_800_000);
    let wish = Wish { lines, ttl_ms, after: dice.below(2_400_000), then: dice.below(6) };
    let by_one = wish.lines.iter().all(|(sku, _)| *sku == RESERVED_SKU) && dice.below(3) > 0;
    let rush = dice.below(6) == 0;
    let of_task = sim.clone();
    sim.busy(async move {
        if rush {
            super::escrow::rush(&of_task, &wish).await;
        }
        if !by_one || !super::escrow::reserve(&of_task, &wish).await {
            reserve(&of_task, wish).await;
        }
    });
}

async fn reserve(sim: &Sim, wish: Wish) {
    let id = sim.with(|world| format!("h{}", world.book.serial()));
    let lines = wish.lines.iter().map(|(sku, units)| HoldLine {
        sku: (*sku).into(),
        quantity: *units,
        location: Some(LOCATION.into()),
    });
    let (lines, ttl_ms) = (lines.collect(), wish.ttl_ms);
    let asked = Hold { id: id.clone(), lines, channel: None, ttl_ms, reference: None };
    let answer = ask(sim, &id, Asked::Hold(asked)).await;
    let Some(Answered::Reservation(id, granted)) = answer else {
        replenish(sim, &wish).await;
        return;
    };
    sim.with(|world| {
        let units = seats(&wish.lines);
        let held = Held { units, sold: 0, expires: granted.expires, gone: false };
        world.book.held.insert(id.clone(), held);
        let now = world.agreed_now();
        world.book.forget(now);
        world.check_granted(now);
    });
    sleep(Duration::from_millis(wish.after)).await;
    match wish.then {
        0 => release(sim, &id).await,
        1 => confirm(sim, &id, &wish, false).await,
        2 => confirm(sim, &id, &wish, true).await,
        3 => {
            confirm(sim, &id, &wish, true).await;
            release(sim, &id).await;
        }
        4 => extend(sim, &id).await,
        _ => {}
    }
}

/// Units of what only reservations take.
fn seats(lines: &[(&str, i64)]) -> i64 {
    let parts = lines.iter().flat_map(|(sku, units)| {
        parts(sku).into_iter().map(move |(part, each)| (part, each * units))
    });
    parts.filter(|(part, _)| *part == RESERVED_SKU).map(|(_, units)| units).sum()
}

fn key_of_request(sim: &Sim) -> String {
    sim.with(|world| format!("e{}", world.book.serial()))
}

async fn release(sim: &Sim, id: &str) {
    // From here on nobody can know.
    sim.with(|world| {
        if let Some(held) = world.book.held.get_mut(id) {
            held.gone = true;
        }
    });
    ask(sim, &key_of_request(sim), Asked::Release(id.into())).await;
}

/// Buys what is held, or one unit of its first line.
async fn confirm(sim: &Sim, id: &str, wish: &Wish, part: bool) {
    let first = wish.lines.iter().take(1).map(|(sku, _)| (*sku, 1)).collect();
    let lines: Vec<(&str, i64)> = if part { first } else { wish.lines.clone() };
    let named = lines.iter().map(|(sku, units)| ((*sku).to_string(), *units)).collect();
    let asked = Confirm { id: id.into(), lines: part.then_some(named), reference: None };
    let answer = ask(sim, &key_of_request(sim), Asked::Confirm(asked)).await;
    if matches!(answer, Some(Answered::Reservation(..))) {
        sim.with(|world| {
            world.tally.reach(if part { "part confirmed" } else { "all confirmed" });
            world.book.sold(id, seats(&lines));
        });
    }
}

async fn extend(sim: &Sim, id: &str) {
    let answer = ask(sim, &key_of_request(sim), Asked::Extend(id.into(), 600_000)).await;
    let Some(Answered::Reservation(_, granted)) = answer else { return };
    sim.with(|world| {
        if let Some(held) = world.book.held.get_mut(id) {
            held.expires = granted.expires;
        }
    });
}

/// What only reservations take is bought again when there is not enough of it.
async fn replenish(sim: &Sim, wish: &Wish) {
    if seats(&wish.lines) == 0 {
        return;
    }
    let id = sim.with(|world| {
        world.book.received += 5;
        format!("m{}", world.book.serial())
    });
    let asked = movement(&id, Kind::Receipt, RESERVED_SKU, 5);
    ask(sim, &id, asked).await;
}

/// The opening stock of a SKU.
pub(super) fn opening(sku: &str, units: i64) -> Vec<u8> {
    let asked = movement(&format!("opening {sku}"), Kind::Receipt, sku, units);
    codec::encode(&Command::Request { idempotency: None, asked })
}
