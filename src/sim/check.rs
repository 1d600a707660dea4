//! What must hold at the end of a run, and when that is.

use state::invariant;
use state::limits::DAY_MS;
use state::origin::Lane;

use super::feeds;
use super::jobs::Jobs;
use super::replica::Replica;
use super::world::{NODES, World};
use super::{LISTED, LOCATION, SKUS, is_till, parts};
use crate::channel::key;

/// What is still going on; `Ok` if nothing is.
pub(super) fn quiet(world: &mut World) -> Result<(), String> {
    if world.busy > 0 {
        return Err(format!("{} webhooks and requests have no answer", world.busy));
    }
    let last = world.log.last();
    for n in 0..NODES {
        let node = world.node(n);
        let Some(inbox) = node.inbox.clone().filter(|_| node.up) else {
            return Err(format!("node {} is down", n + 1));
        };
        let index = node.replica.index;
        for lane in [Lane::Urgent, Lane::Normal] {
            if inbox.last_agreed(lane) < inbox.last_written(lane) {
                return Err(format!("the inbox of node {} is not empty", n + 1));
            }
        }
        if index < last {
            return Err(format!("node {} is at index {index} of {last}", n + 1));
        }
    }
    let state = &world.log.head.state;
    if let Some((order, _)) = state.data().reloads.first_key_value() {
        return Err(format!("order {order:?} was not fetched"));
    }
    for market in &world.markets {
        let name = market.name.as_str();
        if let Some(sku) = feeds::faulty(world, name).into_iter().next() {
            return Err(format!("{sku} is at fault on {name}"));
        }
        if let Some((_, sku)) = state.due().of(name).chain(state.flights().of(name)).next() {
            return Err(format!("{sku} is due on {name}"));
        }
        let cursor = state.data().channels.get(name).and_then(|known| known.cursor).unwrap_or(0);
        if cursor < market.changed() {
            return Err(format!("{name} was polled through {cursor} of {}", market.changed()));
        }
    }
    Jobs::quiet(state.data())?;
    // What topics gave up is forgotten much later.
    match state.wakes_at().filter(|at| *at < state.data().now + DAY_MS) {
        Some(_) => Err("something is due later".into()),
        None => Ok(()),
    }
}

/// Holds everything against everything.
pub(super) fn everything(world: &mut World) {
    let delivered = deliveries(world).and_then(|()| lines(world));
    world.holds("I1", delivered);
    let sums = world.log.sums.clone();
    let data = world.log.head.state.data().clone();
    world.holds("I2", invariant::levels_are_sums(&data, sums));
    world.holds("I1", invariant::orders_are_settled(&data));
    world.holds("I11", invariant::reserved_is_held(&data));
    world.holds("I11", invariant::escrow_adds_up(&data));
    world.holds("I4", invariant::shares_add_up(&data));
    let derived = invariant::lists_are_derived(&world.log.head.state);
    world.holds("I11", derived);
    let now = data.now;
    world.check_granted(now);
    for sku in SKUS {
        // What is short has nothing to be covered by, and nothing of it may be for sale.
        if data.available(sku, LOCATION) >= 0 {
            world.holds("I4", invariant::exposure_is_covered(&data, sku));
        }
    }
    world.hold_topics();
    let same = replicas(world);
    world.holds("I6", same);
    let restored = snapshot(world);
    world.holds("I11", restored);
    let shown = listings(world);
    world.holds("I8", shown);
}

/// What nobody told in time, or by hand, is left to a comparison of all quantities, which is not made yet.
fn is_left(world: &World, m: usize, sku: &str) -> bool {
    let read = || {
        let stock = world.log.head.state.data().stock.get(sku)?;
        let market = world.markets.get(m)?;
        Some(stock.listings.get(market.name.as_str())?.get().observed?.1)
    };
    let of = |sku: &str| world.log.truth.skus.get(sku).and_then(|sku| sku.late);
    let late = parts(sku).into_iter().map(|(part, _)| of(part)).max().flatten().max(of(sku));
    let edited = world.markets.get(m).is_some_and(|market| market.edited.contains(sku));
    // Agreed time stands still where a leader's clock was ahead.
    edited || late.is_some_and(|late| read().is_none_or(|read| late >= read))
}

/// Each delivery answered 200 has its mark, as long as marks are kept.
fn deliveries(world: &World) -> Result<(), String> {
    let data = world.log.head.state.data();
    let all_kept = world.elapsed().as_secs() < 6 * 24 * 3_600 && data.seen.evicted() == 0;
    for (id, sent) in &world.book.sent {
        let seen = data.seen.get(&key(id.as_bytes())).is_some();
        if sent.promised && !seen && all_kept {
            return Err(format!("{id} was answered 200 and is not in the ledger"));
        }
        if seen && !sent.possible {
            return Err(format!("{id} of {} was never taken and is in the ledger", sent.channel));
        }
    }
    Ok(())
}

/// Each line of each order has moved what it really comes to, once.
fn lines(world: &World) -> Result<(), String> {
    let truth = &world.log.truth;
    for ((channel, reference, sku), line) in &truth.lines {
        let differs = line.heard.net() != line.real.net();
        // What a till tells nobody else can tell.
        if differs && !is_till(channel) {
            let (real, heard) = (line.real, line.heard);
            let what = format!("{sku} of {channel}/{reference}");
            return Err(format!("{what} is {real:?}, the ledger moved {heard:?}"));
        }
    }
    for (id, sent) in &world.book.sent {
        let Some(line) = sent.line.as_ref().and_then(|place| truth.lines.get(place)) else {
            continue;
        };
        let (heard, real) = (line.heard.sold, line.real.sold);
        if sent.promised && heard != real {
            return Err(format!("{id} was answered 200: {real} sold, {heard} in the ledger"));
        }
        if heard != 0 && (heard != real || !sent.possible) {
            return Err(format!("{id} moved {heard} of {real}"));
        }
    }
    Ok(())
}

fn replicas(world: &mut World) -> Result<(), String> {
    let head = world.log.head.digest();
    for n in 0..NODES {
        if world.node(n).replica.digest() != head {
            return Err(format!("node {} has another state at the end", n + 1));
        }
    }
    Ok(())
}

fn snapshot(world: &mut World) -> Result<(), String> {
    let written = world.log.head.freeze().write();
    let mut restored = Replica::restore(&written)?;
    if restored.digest() == world.log.head.digest() {
        Ok(())
    } else {
        Err("a restored snapshot is another state".into())
    }
}

/// After quiet every marketplace shows what the ledger says.
fn listings(world: &mut World) -> Result<(), String> {
    let (mut left, mut wrong) = (0, None);
    for (m, market) in world.markets.iter().enumerate() {
        let data = world.log.head.state.data();
        for sku in LISTED {
            let Some(allocation) = data.allocation(&market.name, sku) else { continue };
            // What a kit and its parts may show together hangs on which of them was raised first.
            let related = data.kits.related(sku).len() > 1;
            // A plain set leaves room for what may have been sold before it.
            let bounded = related || market.plain;
            let should = if bounded { allocation.desired } else { allocation.available_to_sell };
            let shows = market.shows(sku);
            if shows == should {
                continue;
            }
            if is_left(world, m, sku) {
                left += 1;
                continue;
            }
            let stock = data.stock.get(sku);
            let listing = stock.and_then(|s| s.listings.get(market.name.as_str()));
            let name = &market.name;
            wrong = Some(format!("{name} shows {shows} of {sku} instead of {should}: {listing:?}"));
        }
    }
    for _ in 0..left {
        world.tally.reach("listing left to reconciliation");
    }
    wrong.map_or(Ok(()), Err)
}
