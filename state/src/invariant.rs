//! What must hold of any state, one function each. Tests and the simulator call them; so may `verify`.

use alloc::collections::BTreeMap;
use alloc::string::String;

use crate::allocation::{self, Mode};
use crate::ledger::{Kind, Level, Movement};
use crate::machine::{Data, State};

/// Levels are what their movements add up to (I2). The movements are all of them, in order.
pub fn levels_are_sums<'a>(
    data: &Data,
    movements: impl IntoIterator<Item = &'a Movement>,
) -> Result<(), String> {
    let mut sums: BTreeMap<(&str, &str), (i64, i64)> = BTreeMap::new();
    for movement in movements {
        let Movement { kind, quantity, sku, location, .. } = movement;
        let (on_hand, committed) = match kind {
            Kind::Sale => (0, *quantity),
            Kind::Cancellation => (0, -quantity),
            Kind::Fulfilment => (-quantity, -quantity),
            Kind::Return | Kind::Receipt | Kind::Adjustment => (*quantity, 0),
            Kind::Incoming => (0, 0),
            Kind::Transfer => (-quantity, 0),
        };
        let sum = sums.entry((sku, location)).or_default();
        *sum = (sum.0 + on_hand, sum.1 + committed);
    }
    for (sku, stock) in data.stock.iter() {
        for (location, Level { on_hand, committed, .. }) in &stock.levels {
            let sum = sums.remove(&(sku.as_str(), location.as_str())).unwrap_or_default();
            if sum != (*on_hand, *committed) {
                return Err(alloc::format!(
                    "{sku} at {location}: levels say {on_hand} on hand and {committed} committed, \
                     movements add up to {} and {}",
                    sum.0,
                    sum.1
                ));
            }
        }
    }
    match sums.first_key_value() {
        Some(((sku, location), _)) => Err(alloc::format!("{sku} at {location} has no level")),
        None => Ok(()),
    }
}

/// Every line of every order has moved what it implies, or names no SKU and waits (I1).
pub fn orders_are_settled(data: &Data) -> Result<(), String> {
    for ((channel, order), known) in data.orders.entries().iter() {
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
    let mut sums: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for (_, order) in data.orders.entries().iter() {
        for line in order.lines.values() {
            let Some(sku) = &line.sku else { continue };
            let sum = sums.entry((sku.as_str(), line.location.as_str())).or_default();
            *sum += line.moved.net().0;
        }
    }
    for (sku, stock) in data.stock.iter() {
        for (location, level) in &stock.levels {
            let sum = sums.get(&(sku.as_str(), location.as_str())).copied().unwrap_or_default();
            if sum != level.committed {
                return Err(alloc::format!(
                    "{sku} at {location}: {} committed, orders add up to {sum}",
                    level.committed
                ));
            }
        }
    }
    Ok(())
}

/// Where a SKU is split, what may still be sold everywhere stays within what is available (I4). Holds
/// after every raise; a fact that lowers available may break it until the lowering pushes are through.
pub fn exposure_is_covered(data: &Data, sku: &str) -> Result<(), String> {
    let Some(policy) = allocation::policy_of(&data.policies, sku) else { return Ok(()) };
    let Some(stock) = data.stock.get(&sku.into()).filter(|_| policy.mode == Mode::Split) else {
        return Ok(());
    };
    for (location, level) in &stock.levels {
        let at = |name: &String| {
            data.channels.get(name).is_some_and(|c| c.definition.location == *location)
        };
        let listings = stock.listings.iter().filter(|(name, _)| at(name));
        let exposed: i64 = listings.filter_map(|(_, listing)| listing.exposure(data.now)).sum();
        if exposed > level.available() {
            return Err(alloc::format!(
                "{sku} at {location}: {exposed} exposed, {} available",
                level.available()
            ));
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
            && state.wakes_at() == again.wakes_at()
    });
    if same { Ok(()) } else { Err("a derived list differs from the listings".into()) }
}
