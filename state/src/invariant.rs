//! What must hold of any state, one function each. Tests and the simulator call them; so may `verify`.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use crate::allocation::{self, Mode};
use crate::data::Data;
use crate::ledger::{Kind, Level, Movement};
use crate::machine::State;
use crate::order::Order;
use crate::queue::MessageId;

/// What movements add up to, by SKU and location: on hand, committed, reserved, escrowed.
#[derive(Clone, Debug, Default)]
pub struct Sums(BTreeMap<String, BTreeMap<String, [i64; 4]>>);

impl Sums {
    /// Adds a movement.
    pub fn add(&mut self, movement: &Movement) {
        let Movement { kind, quantity, sku, location, .. } = movement;
        let change = match kind {
            Kind::Sale => [0, *quantity, 0, 0],
            Kind::Cancellation => [0, -quantity, 0, 0],
            Kind::Fulfilment => [-quantity, -quantity, 0, 0],
            Kind::Return | Kind::Receipt | Kind::Adjustment => [*quantity, 0, 0, 0],
            Kind::Incoming => [0, 0, 0, 0],
            Kind::Transfer => [-quantity, 0, 0, 0],
            Kind::Hold => [0, 0, *quantity, 0],
            Kind::Release => [0, 0, -quantity, 0],
            Kind::Grant => [0, 0, 0, *quantity],
            Kind::Surrender => [0, 0, 0, -quantity],
        };
        // Names are copied for the first movement of a place only: there may be a great many.
        if !self.0.get(sku).is_some_and(|places| places.contains_key(location)) {
            self.0.entry(sku.clone()).or_default().insert(location.clone(), [0; 4]);
        }
        let sum = self.0.get_mut(sku).and_then(|places| places.get_mut(location));
        for (sum, change) in sum.into_iter().flatten().zip(change) {
            *sum += change;
        }
    }
}

impl<'a> FromIterator<&'a Movement> for Sums {
    fn from_iter<T: IntoIterator<Item = &'a Movement>>(movements: T) -> Self {
        let mut sums = Self::default();
        movements.into_iter().for_each(|movement| sums.add(movement));
        sums
    }
}

/// Levels are what their movements add up to (I2). The movements are all of them.
pub fn levels_are_sums(data: &Data, mut sums: Sums) -> Result<(), String> {
    for (sku, stock) in data.stock.iter() {
        let mut places = sums.0.remove(sku.as_str()).unwrap_or_default();
        for (location, level) in &stock.levels {
            let Level { on_hand, committed, reserved, escrowed, .. } = level;
            let sum = places.remove(location.as_str()).unwrap_or_default();
            if sum != [*on_hand, *committed, *reserved, *escrowed] {
                return Err(alloc::format!(
                    "{sku} at {location}: levels say {on_hand} on hand, {committed} committed, \
                     {reserved} reserved and {escrowed} in escrow, movements add up to {sum:?}"
                ));
            }
        }
        if let Some((location, _)) = places.first_key_value() {
            return Err(alloc::format!("{sku} at {location} has movements and no level"));
        }
    }
    match sums.0.first_key_value() {
        Some((sku, _)) => Err(alloc::format!("{sku} has movements and is no SKU")),
        None => Ok(()),
    }
}

/// Every line of every order has moved what it implies, or names no SKU and waits (I1).
pub fn orders_are_settled(data: &Data) -> Result<(), String> {
    for ((channel, order), known) in data.orders.entries().iter() {
        let known = known.get();
        for (id, line) in &known.lines {
            let implied = line.implied(known.whole);
            if line.sku.is_some() && line.moved.net() != implied.net() {
                return Err(alloc::format!(
                    "{channel}/{order}/{id} moved {:?} instead of {:?}",
                    line.moved,
                    implied
                ));
            }
        }
    }
    Ok(())
}

/// Committed is what the orders add up to, where nothing else committed anything.
pub fn committed_is_orders(data: &Data) -> Result<(), String> {
    let orders: Vec<Order> = data.orders.entries().iter().map(|(_, order)| order.get()).collect();
    let lines = orders.iter().flat_map(|order| order.lines.values()).filter_map(|line| {
        let place = (line.sku.as_deref()?, line.location.as_str());
        Some((place, line.parts.as_slice(), line.moved.net().0))
    });
    adds_up(data, "orders", lines, |level| level.committed)
}

/// Reserved is what the reservations hold (I11).
pub fn reserved_is_held(data: &Data) -> Result<(), String> {
    let known = data.reservations.entries().iter().flat_map(|(_, known)| &known.lines);
    let lines = known.map(|line| {
        ((line.sku.as_str(), line.location.as_str()), line.parts.as_slice(), line.held)
    });
    adds_up(data, "reservations", lines, |level| level.reserved)
}

/// What is in escrow is what the quotas add up to, none of them below zero (I11).
pub fn escrow_adds_up(data: &Data) -> Result<(), String> {
    crate::escrow::adds_up(data)
}

/// A line of something: SKU and location, what one unit takes out of stock if it is a kit, and units.
type Owed<'a> = ((&'a str, &'a str), &'a [(String, i64)], i64);

fn adds_up<'a>(
    data: &Data,
    what: &str,
    lines: impl Iterator<Item = Owed<'a>>,
    quantity: fn(&Level) -> i64,
) -> Result<(), String> {
    let mut sums: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for ((sku, location), parts, units) in lines {
        let own = parts.is_empty().then_some((sku, 1));
        let parts = parts.iter().map(|(part, each)| (part.as_str(), *each));
        for (part, each) in own.into_iter().chain(parts) {
            *sums.entry((part, location)).or_default() += units * each;
        }
    }
    for (sku, stock) in data.stock.iter() {
        for (location, level) in &stock.levels {
            let sum = sums.get(&(sku.as_str(), location.as_str())).copied().unwrap_or_default();
            let found = quantity(level);
            if sum != found {
                return Err(alloc::format!("{sku} at {location}: {found}, {what} add up to {sum}"));
            }
        }
    }
    Ok(())
}

/// Where a SKU is split, what may still be sold everywhere stays within what is available (I4), kits by
/// what they take of it. Holds after every raise; a fact that lowers available may break it until the
/// lowering pushes are through.
pub fn exposure_is_covered(data: &Data, sku: &str) -> Result<(), String> {
    let split = |sku: &str| {
        allocation::policy_of(&data.policies, sku).is_some_and(|policy| policy.mode == Mode::Split)
    };
    let Some(stock) = data.stock.get(sku).filter(|_| split(sku)) else { return Ok(()) };
    for (location, level) in &stock.levels {
        let mut exposed: i64 = 0;
        for holder in core::iter::once(sku.into()).chain(data.kits.containing(sku)) {
            let parts = data.kits.parts(&holder);
            let each = parts.iter().find(|(part, _)| part == sku).map_or(0, |(_, each)| *each);
            let listings = data.stock.get(holder.as_str()).into_iter();
            let listings = listings.flat_map(|stock| &stock.listings);
            let here = listings.filter(|(name, _)| {
                data.channels.get(name.as_str()).is_some_and(|c| *location == c.definition.location)
            });
            let sum: i64 = here.filter_map(|(_, listing)| listing.get().exposure(data.now)).sum();
            exposed += sum * each;
        }
        if exposed > level.available() {
            return Err(alloc::format!(
                "{sku} at {location}: {exposed} exposed, {} available",
                level.available()
            ));
        }
    }
    Ok(())
}

/// The shares of a split SKU add up to what is available of it, at each location, and none is below zero; but
/// for what a walk over all SKUs has not come to yet.
pub fn shares_add_up(data: &Data) -> Result<(), String> {
    if data.walk.is_some() {
        return Ok(());
    }
    for (sku, _) in data.stock.iter() {
        let policy = allocation::policy_of(&data.policies, sku);
        let split = policy.filter(|policy| policy.mode == Mode::Split);
        for (location, parts) in data.sharing(sku, split) {
            let anybody = parts.iter().any(|part| part.weight > 0);
            let available = if anybody { data.available(sku, location).max(0) } else { 0 };
            let shares: Vec<i64> = parts.iter().map(|part| part.allocated).collect();
            if shares.iter().any(|share| *share < 0) || shares.iter().sum::<i64>() != available {
                return Err(alloc::format!(
                    "{sku} at {location}: {available} to share, the shares are {shares:?}"
                ));
            }
        }
    }
    Ok(())
}

/// The lists that a state derives are what they would be if they were made again.
pub fn lists_are_derived(state: &State) -> Result<(), String> {
    let again = State::new(state.data().clone());
    let same = state.data().channels.keys().all(|channel| {
        state.due().of(channel).eq(again.due().of(channel))
            && state.flights().of(channel).eq(again.flights().of(channel))
            && state.urgent().of(channel).eq(again.urgent().of(channel))
            && state.failures().of(channel).eq(again.failures().of(channel))
            && state.counts(channel) == again.counts(channel)
            && state.wakes_at() == again.wakes_at()
    });
    let same = same && state.short() == again.short() && state.holds() == again.holds();
    let same = same && state.overlaps() == again.overlaps();
    let same = same && state.escrowed() == again.escrowed();
    if state.queue() != again.queue() {
        return Err("a derived list differs from the topics".into());
    }
    if same { Ok(()) } else { Err("a derived list differs from the listings".into()) }
}

/// What topics count of themselves is what is in them, and what a group holds is there to be held.
pub fn queue_is_sound(data: &Data) -> Result<(), String> {
    let queue = &data.queue;
    let mut messages = 0;
    for topic in queue.topics.values().chain(queue.leaving.values()) {
        messages += topic.depth();
        let lanes = topic.urgent.messages.iter().chain(topic.normal.messages.iter());
        let delayed = topic.delayed.iter().map(|(_, delayed)| &delayed.message);
        let sizes = lanes.map(|(_, message)| message).chain(delayed).map(|m| u64::from(m.bytes));
        if topic.bytes != sizes.sum::<u64>() {
            return Err(alloc::format!("topic {}: its bytes do not add up", topic.number));
        }
        for group in topic.everybody() {
            let name = alloc::format!("group {} of topic {}", group.number, topic.number);
            for (id, _) in group.held.iter() {
                if topic.message(MessageId(id)).is_none() || group.dead.get(id).is_some() {
                    return Err(alloc::format!("{name} holds a message that is gone or given up"));
                }
            }
            let gone = |(id, _): (u64, _)| topic.message(MessageId(id)).is_none();
            if group.dead.iter().any(|(id, dead)| gone((id, dead))) {
                return Err(alloc::format!("{name} gave up a message that is gone"));
            }
        }
    }
    if messages == queue.messages {
        Ok(())
    } else {
        Err(alloc::format!("{messages} messages are kept, {} are counted", queue.messages))
    }
}
