//! Customers and clerks: what they do is planned by the seed and the number of the event alone, so that an
//! event can be left out and the others stay what they are.

use marketplace::random::Random;
use marketplace::shopify::sign::Topic;

use super::clients;
use super::faults::Fault;
use super::senders::{self, Webhook};
use super::shop::{self, How, Order, Removed};
use super::truth::{Line, LineId};
use super::world::{Sim, World};
use super::{LISTED, SKUS, TILLS, parts};

/// Lets one event happen.
pub(super) fn act(sim: &Sim, seed: u64, event: u64) {
    let mut dice = Random::new(seed ^ event.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let markets = sim.with(|world| {
        world.events = event;
        world.markets.len()
    });
    let m = below(&mut dice, markets);
    match dice.below(100) {
        0..48 => sim.with(|world| buy(sim, world, m, &mut dice)),
        48..70 => sim.with(|world| change(sim, world, m, &mut dice)),
        70..79 => sim.with(|world| till(sim, world, &mut dice)),
        // Many at once: nodes have several segments on their way.
        79..80 => sim.with(|world| {
            world.tally.reach("rush at the tills");
            (0..4 + dice.below(12)).for_each(|_| till(sim, world, &mut dice));
        }),
        80..91 => clients::request(sim, &mut dice),
        _ => clients::hold(sim, &mut dice),
    }
}

fn below(dice: &mut Random, of: usize) -> usize {
    usize::try_from(dice.below(u64::try_from(of).unwrap_or(1))).unwrap_or(0)
}

pub(super) fn any_sku(dice: &mut Random) -> &'static str {
    let n = below(dice, SKUS.len());
    SKUS.get(n).copied().unwrap_or_default()
}

/// One line of an order, as movements name it: a kit by its parts.
fn place(channel: &str, order: u64, line: u64, part: &str) -> LineId {
    (channel.into(), format!("{order}/{line}"), part.into())
}

/// Somebody buys what a marketplace shows.
fn buy(sim: &Sim, world: &mut World, m: usize, dice: &mut Random) {
    let (id, now) = (world.book.serial(), world.now);
    let channel = world.market(m).name.clone();
    let mut order = Order { id, created: now, ..Order::default() };
    for n in 0..=u64::from(dice.below(4) == 0) {
        let sku = LISTED.get(below(dice, LISTED.len())).copied().unwrap_or_default();
        let wanted = 1 + i64::try_from(dice.below(3)).unwrap_or(0);
        let shown = world.market(m).shows(sku);
        let quantity = wanted.min(shown);
        if quantity < 1 || order.lines.iter().any(|known| known.sku == sku) {
            continue;
        }
        let line = 10 * id + n;
        world.market(m).show(sku, shown - quantity);
        world.tell(|| format!("{channel} sells {quantity} {sku} of {shown} in {id}"));
        let changed = world.agreed_now();
        for (part, each) in parts(sku) {
            let units = quantity * each;
            world.sold(part, units);
            let known = Line::placed(units, changed);
            world.log.truth.lines.insert(place(&channel, id, line, part), known);
        }
        order.lines.push(shop::Line { id: line, sku, ordered: quantity, edited: 0 });
    }
    if order.lines.is_empty() {
        world.tally.reach("nothing to sell");
        return;
    }
    world.tally.reach("order placed");
    order.changed = world.market(m).tick(now);
    let body = order.image(m, Topic::OrdersCreate);
    world.market(m).put(order);
    tell(sim, world, m, body);
}

fn tell(sim: &Sim, world: &mut World, m: usize, body: shop::Body) {
    let webhook = Webhook::of_market(world, m, body);
    // The marketplace forgets to tell; who asks finds out.
    if !world.happens(Fault::WebhookNeverSent) {
        senders::send(sim, world, webhook);
    }
}

/// What happens to units of a line that was sold.
enum Change {
    Removed(How),
    Edited,
}

/// An order is cancelled, shipped, sent back or edited, in part.
fn change(sim: &Sim, world: &mut World, m: usize, dice: &mut Random) {
    let recent = &world.market(m).recent;
    let Some(id) = recent.get(below(dice, recent.len())).copied() else { return };
    let Some(mut order) = world.market(m).orders.get(&id).cloned() else { return };
    let n = below(dice, order.lines.len());
    let (kind, units) = (dice.below(4), 1 + i64::try_from(dice.below(2)).unwrap_or(0));
    let (open, away) = (order.open(n), order.away(n));
    let (change, units) = match kind {
        0 if open > 0 => (Change::Removed(How::Cancelled), units.min(open)),
        1 if open > 0 => (Change::Removed(How::Shipped), units.min(open)),
        2 if away > 0 => (Change::Removed(How::Returned), units.min(away)),
        3 if open > 0 => (Change::Edited, 1),
        _ => return,
    };
    if matches!(change, Change::Removed(_)) && !order.has_room() {
        return;
    }
    let Some(line) = order.lines.get_mut(n) else { return };
    let (line_id, sku) = (line.id, line.sku);
    let now = world.now;
    order.changed = world.market(m).tick(now);
    let alone = dice.below(2) == 0;
    let body = match change {
        Change::Edited => {
            line.edited += 1;
            if alone { order.edit(n) } else { order.image(m, Topic::OrdersUpdated) }
        }
        Change::Removed(how) => {
            let id = world.book.serial();
            order.removals.push(Removed { id, line: n, quantity: units, how, at: now });
            let body = order.removals.last().filter(|_| alone);
            let body = body.and_then(|removed| order.removal(m, removed));
            body.unwrap_or_else(|| order.image(m, Topic::OrdersUpdated))
        }
    };
    happened(world, m, (id, line_id, sku), &change, units);
    world.market(m).put(order);
    tell(sim, world, m, body);
}

/// A line changed: what was not sold after all is shown again.
fn happened(
    world: &mut World,
    m: usize,
    (order, line, sku): (u64, u64, &str),
    change: &Change,
    units: i64,
) {
    let (channel, now) = (world.market(m).name.clone(), world.agreed_now());
    let restocked = if matches!(change, Change::Removed(How::Shipped)) { 0 } else { units };
    for (part, each) in parts(sku) {
        let units = units * each;
        let Some(known) = world.log.truth.lines.get_mut(&place(&channel, order, line, part)) else {
            continue;
        };
        known.change(now, |real| match change {
            Change::Removed(How::Cancelled) => real.cancelled += units,
            Change::Removed(How::Shipped) => real.fulfilled += units,
            Change::Removed(How::Returned) => real.returned += units,
            Change::Edited => real.sold -= units,
        });
        world.log.truth.sku(part).out -= restocked * each;
    }
    let shown = world.market(m).shows(sku);
    // A channel that sets plainly does not say whether it puts back on sale what is cancelled: here of every other order.
    let is_relisted = !world.market(m).plain || matches!(change, Change::Edited) || order % 2 == 0;
    world.market(m).show(sku, shown + if is_relisted { restocked } else { 0 });
    let what = match change {
        Change::Removed(How::Cancelled) => "line cancelled",
        Change::Removed(How::Shipped) => "line shipped",
        Change::Removed(How::Returned) => "line returned",
        Change::Edited => "line edited",
    };
    world.tally.reach(what);
    world.tell(|| format!("{channel}/{order}/{line}: {what}, {units} {sku}, of {shown} shown"));
}

/// A sale at a till, which tells of it once and shows nothing.
fn till(sim: &Sim, world: &mut World, dice: &mut Random) {
    let (sku, serial) = (any_sku(dice), world.book.serial());
    let quantity = 1 + i64::try_from(dice.below(2)).unwrap_or(0);
    let channel = TILLS.get(below(dice, TILLS.len())).copied().unwrap_or_default();
    let place = place(channel, serial, 1, sku);
    let line = Line::placed(quantity, world.agreed_now());
    world.log.truth.lines.insert(place.clone(), line);
    world.tally.reach("till sale");
    let webhook = Webhook::of_till(world, (channel, &serial.to_string()), place);
    senders::send(sim, world, webhook);
}

/// Somebody edits what a marketplace shows, by hand. It tells of that.
pub(super) fn edit(sim: &Sim, world: &mut World, m: usize) {
    let n = world.any(LISTED.len());
    let sku = LISTED.get(n).copied().unwrap_or_default();
    let quantity = i64::try_from(world.dice.below(8)).unwrap_or(0);
    let (now, agreed) = (world.now, world.agreed_now());
    world.market(m).show(sku, quantity);
    world.tell(|| format!("market {m} is edited by hand: {sku} {quantity}"));
    world.market(m).edit(sku);
    world.log.truth.late(sku, agreed);
    for (part, _) in parts(sku) {
        world.log.truth.late(part, agreed);
    }
    let changed = world.market(m).tick(now);
    let webhook = Webhook::of_market(world, m, shop::shown(m, sku, quantity, changed));
    senders::send(sim, world, webhook);
}
