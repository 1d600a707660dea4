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
use super::{LOCATION, RESERVED_SKU};
use crate::channel::key;

const LIMIT: Duration = Duration::from_secs(10);

/// Asks until there is an answer; the same each time.
async fn ask(sim: &Sim, id: &str, asked: Asked) -> Option<Answered> {
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
        key: key(id.as_bytes()),
        body: key(format!("{kind:?} {sku} {quantity}").as_bytes()),
        id: id.into(),
        kind,
        sku: sku.into(),
        quantity,
        location: LOCATION.into(),
        to_location: None,
        channel: None,
        reference: None,
        reason: None,
        occurred_ms: None,
        count: None,
    };
    Asked::Movements(Movements { atomic: false, movements: vec![request] })
}

/// Stock comes in, or a count finds another quantity.
pub(super) fn request(sim: &Sim, dice: &mut Random) {
    let sku = any_sku(dice);
    let units = 1 + i64::try_from(dice.below(12)).unwrap_or(0);
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

/// Somebody holds units, and then buys them, lets them go, or forgets them.
pub(super) fn hold(sim: &Sim, dice: &mut Random) {
    let sku = if dice.below(2) == 0 { any_sku(dice) } else { RESERVED_SKU };
    let units = 1 + i64::try_from(dice.below(4)).unwrap_or(0);
    let ttl_ms = 60_000 + dice.below(1_800_000);
    let (after, then) = (dice.below(2_400_000), dice.below(4));
    let of_task = sim.clone();
    sim.busy(async move {
        let id = of_task.with(|world| format!("h{}", world.book.serial()));
        let line = HoldLine { sku: sku.into(), quantity: units, location: Some(LOCATION.into()) };
        let asked =
            Hold { id: id.clone(), lines: vec![line], channel: None, ttl_ms, reference: None };
        let answer = ask(&of_task, &id, Asked::Hold(asked)).await;
        let Some(Answered::Reservation(id, granted)) = answer else {
            replenish(&of_task, sku).await;
            return;
        };
        granted_units(
            &of_task,
            &id,
            Held { sku: sku.into(), units, expires: granted.expires, sold: false, gone: false },
        );
        sleep(Duration::from_millis(after)).await;
        end(&of_task, &id, then).await;
    });
}

/// A client was granted units: together, no more than there can be are granted (I3).
fn granted_units(sim: &Sim, id: &str, held: Held) {
    sim.with(|world| {
        world.book.held.insert(id.into(), held);
        let now = world.agreed_now();
        world.book.forget(now);
        let taken = world.book.taken(RESERVED_SKU, now);
        let received = world.book.received;
        if taken > received {
            world.breaks("I3", format!("clients hold {taken} of {received} that there can be"));
        }
    });
}

async fn end(sim: &Sim, id: &str, then: u64) {
    let serial = sim.with(|world| world.book.serial());
    let key = format!("e{serial}");
    match then {
        0 => {
            // From here on nobody can know.
            sim.with(|world| {
                if let Some(held) = world.book.held.get_mut(id) {
                    held.gone = true;
                }
            });
            ask(sim, &key, Asked::Release(id.into())).await;
        }
        1 => {
            let confirm = Confirm { id: id.into(), lines: None, reference: None };
            let answer = ask(sim, &key, Asked::Confirm(confirm)).await;
            sim.with(|world| {
                let sold = matches!(answer, Some(Answered::Reservation(..)));
                if let Some(held) = world.book.held.get_mut(id) {
                    held.sold |= sold;
                }
            });
        }
        2 => {
            let answer = ask(sim, &key, Asked::Extend(id.into(), 600_000)).await;
            let Some(Answered::Reservation(_, granted)) = answer else { return };
            sim.with(|world| {
                if let Some(held) = world.book.held.get_mut(id) {
                    held.expires = granted.expires;
                }
            });
        }
        _ => {}
    }
}

/// What only reservations take is bought again when there is not enough of it.
pub(super) async fn replenish(sim: &Sim, sku: &str) {
    if sku != RESERVED_SKU {
        return;
    }
    let id = sim.with(|world| {
        world.book.received += 5;
        format!("m{}", world.book.serial())
    });
    let asked = movement(&id, Kind::Receipt, sku, 5);
    ask(sim, &id, asked).await;
}

/// The opening stock of a SKU.
pub(super) fn opening(sku: &str, units: i64) -> Vec<u8> {
    let asked = movement(&format!("opening {sku}"), Kind::Receipt, sku, units);
    codec::encode(&Command::Request { idempotency: None, asked })
}
