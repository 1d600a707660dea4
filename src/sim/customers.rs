//! Customers and clerks: what they do is planned by the seed and the number of the event alone, so that an
//! event can be left out and the others stay what they are.

use marketplace::random::Random;
use state::command::Fact;
use state::order::{LineImage, Removal};

use super::clients;
use super::faults::Fault;
use super::market::{Order, removal};
use super::senders::{self, Webhook};
use super::truth::{Line, Units};
use super::world::{Sim, World};
use super::{SKUS, TILL};

/// Lets one event happen.
pub(super) fn act(sim: &Sim, seed: u64, event: u64) {
    let mut dice = Random::new(seed ^ event.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let markets = sim.with(|world| {
        world.events = event;
        world.markets.len()
    });
    let m = below(&mut dice, markets);
    match dice.below(100) {
        0..50 => sim.with(|world| buy(sim, world, m, &mut dice)),
        50..72 => sim.with(|world| change(sim, world, m, &mut dice)),
        72..82 => sim.with(|world| till(sim, world, &mut dice)),
        82..92 => clients::request(sim, &mut dice),
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

/// Somebody buys what a marketplace shows.
fn buy(sim: &Sim, world: &mut World, m: usize, dice: &mut Random) {
    let serial = world.book.serial();
    let id = format!("o{serial}");
    let mut order = Order::default();
    for n in 0..=u64::from(dice.below(4) == 0) {
        let sku = any_sku(dice);
        let wanted = 1 + i64::try_from(dice.below(3)).unwrap_or(0);
        let shown = world.market(m).shows(sku);
        let quantity = wanted.min(shown);
        if quantity < 1 || order.lines.iter().any(|(_, known, _)| known == sku) {
            continue;
        }
        let line = format!("l{n}");
        world.market(m).show(sku, shown - quantity);
        world.sold(sku, quantity);
        let channel = world.market(m).name.clone();
        world.tell(|| format!("{channel} sells {quantity} {sku} of {shown} in {id}"));
        let changed = world.agreed_now();
        let real = Units { sold: quantity, ..Units::default() };
        let known = Line { sku: sku.into(), real, changed, ..Line::default() };
        world.log.truth.lines.insert((channel, format!("{id}/{line}")), known);
        order.lines.push((line, sku.into(), quantity));
    }
    if order.lines.is_empty() {
        world.tally.reach("nothing to sell");
        return;
    }
    world.tally.reach("order placed");
    tell_image(sim, world, m, &id, order, "orders/create");
}

/// An order changed: the marketplace keeps it, and tells of it as it is now.
fn tell_image(sim: &Sim, world: &mut World, m: usize, id: &str, order: Order, topic: &'static str) {
    let now = world.now;
    let changed = world.market(m).tick(now);
    let order = Order { changed, ..order };
    let fact = world.market(m).image(id, &order);
    world.market(m).put(id, order);
    tell(sim, world, m, fact, topic);
}

fn tell(sim: &Sim, world: &mut World, m: usize, fact: Fact, topic: &'static str) {
    let serial = world.book.serial();
    let channel = world.market(m).name.clone();
    let webhook = Webhook { channel, id: format!("w{serial}"), topic, fact, line: None };
    // The marketplace forgets to tell; who asks finds out.
    if !world.happens(Fault::WebhookNeverSent) {
        senders::send(sim, world, webhook);
    }
}

/// An order is cancelled, shipped, sent back or edited, in part.
fn change(sim: &Sim, world: &mut World, m: usize, dice: &mut Random) {
    let recent = &world.market(m).recent;
    let n = below(dice, recent.len());
    let Some(id) = recent.get(n).cloned() else { return };
    let Some(mut order) = world.market(m).orders.get(&id).cloned() else { return };
    let n = below(dice, order.lines.len());
    let Some((line, sku, quantity)) = order.lines.get(n).cloned() else { return };
    let place = (world.market(m).name.clone(), format!("{id}/{line}"));
    let now = world.agreed_now();
    let shown = world.market(m).shows(&sku);
    let serial = world.book.serial();
    let Some(known) = world.log.truth.lines.get_mut(&place) else { return };
    let real = &mut known.real;
    let open = real.sold - real.cancelled - real.fulfilled;
    let away = real.fulfilled - real.returned;
    let units = 1 + i64::try_from(dice.below(2)).unwrap_or(0);
    let (kind, what, restocked) = match dice.below(4) {
        0 if open > 0 => {
            real.cancelled += units.min(open);
            (Some(Removal::Cancelled), units.min(open), units.min(open))
        }
        1 if open > 0 => {
            real.fulfilled += units.min(open);
            (Some(Removal::Fulfilled), units.min(open), 0)
        }
        2 if away > 0 => {
            real.returned += units.min(away);
            (Some(Removal::Returned), units.min(away), units.min(away))
        }
        3 if open > 0 => {
            real.sold -= 1;
            (None, 1, 1)
        }
        _ => return,
    };
    known.changed = now;
    world.tell(|| format!("{place:?}: {kind:?} {what} {sku}, {restocked} more than {shown} shown"));
    world.market(m).show(&sku, shown + restocked);
    world.log.truth.sku(&sku).out -= restocked;
    let Some(kind) = kind else {
        world.tally.reach("line edited");
        if let Some(line) = order.lines.get_mut(n) {
            line.2 = quantity - 1;
        }
        tell_image(sim, world, m, &id, order, "orders/updated");
        return;
    };
    world.tally.reach(match kind {
        Removal::Cancelled => "line cancelled",
        Removal::Fulfilled => "line shipped",
        _ => "line returned",
    });
    let removed = removal(format!("r{serial}"), (&line, &sku), what, kind);
    order.removals.push(removed.clone());
    let now = world.now;
    order.changed = world.market(m).tick(now);
    let (version, lines) = (order.changed, vec![removed]);
    let fact = Fact::Removals { order: id.clone(), version, lines };
    world.market(m).put(&id, order);
    tell(sim, world, m, fact, "refunds/create");
}

/// A sale at a till, which tells of it once and shows nothing.
fn till(sim: &Sim, world: &mut World, dice: &mut Random) {
    let (sku, serial) = (any_sku(dice), world.book.serial());
    let quantity = 1 + i64::try_from(dice.below(2)).unwrap_or(0);
    let id = format!("t{serial}");
    let place = (TILL.to_string(), format!("{id}/1"));
    let real = Units { sold: quantity, ..Units::default() };
    let changed = world.agreed_now();
    let line = Line { sku: sku.into(), real, changed, ..Line::default() };
    world.log.truth.lines.insert(place.clone(), line);
    let lines =
        vec![LineImage { id: "1".into(), sku: Some(sku.into()), quantity, ..LineImage::default() }];
    let fact = Fact::Image { order: id, version: world.now, whole: false, lines };
    world.tally.reach("till sale");
    let webhook = Webhook {
        channel: TILL.into(),
        id: format!("w{serial}"),
        topic: "sale",
        fact,
        line: Some(place),
    };
    senders::send(sim, world, webhook);
}

/// Somebody edits what a marketplace shows, by hand. It tells of that.
pub(super) fn edit(sim: &Sim, world: &mut World, m: usize) {
    let n = world.any(SKUS.len());
    let sku = SKUS.get(n).copied().unwrap_or_default();
    let quantity = i64::try_from(world.dice.below(8)).unwrap_or(0);
    let (now, agreed) = (world.now, world.agreed_now());
    world.market(m).show(sku, quantity);
    world.tell(|| format!("market {m} is edited by hand: {sku} {quantity}"));
    world.market(m).edited.insert(sku.into());
    world.log.truth.late(sku, agreed);
    let version = world.market(m).tick(now);
    let listing = world.market(m).listing(sku);
    let serial = world.book.serial();
    let channel = world.market(m).name.clone();
    let fact = Fact::Shown { listing, sku: Some(sku.into()), location: None, quantity, version };
    let topic = "inventory_levels/update";
    let webhook = Webhook { channel, id: format!("w{serial}"), topic, fact, line: None };
    senders::send(sim, world, webhook);
}
