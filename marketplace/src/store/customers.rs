//! Random customers: they come, buy what is shown, and some change their minds; and the merchant, who
//! ships and edits what they bought.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{Inner, State};
use crate::{Error, options::Faults, random::Random, shop::Shop, shopify::payload::Restock};

/// The most different SKUs in one order.
const LINES_MAX: u64 = 3;
/// A store that fell further behind than this lets the missed customers go.
const BACKLOG_MAX: Duration = Duration::from_secs(1);

/// What will become of an order. Seeds decide what depends on how the order is by then.
enum Change {
    Cancel,
    Refund { sku: String, quantity: u32, gone: bool },
    Edit { seed: u64 },
    Fulfil { seed: u64 },
}

/// Lets customers in at the store's pace until it closes.
pub(super) async fn come(inner: Arc<Inner>) {
    let pace = inner.pace.subscribe();
    let gap = |rate| inner.lock().customers.gap(rate);
    tokio::select! {
        biased;
        () = inner.stop.cancelled() => {}
        () = at_pace(pace, gap, || visit(&inner)) => {}
    }
}

/// Calls `visit` so many times a second, with gaps of `gap`, as long as somebody sets the pace.
pub(crate) async fn at_pace(
    mut pace: watch::Receiver<f64>,
    mut gap: impl FnMut(f64) -> Duration,
    mut visit: impl FnMut(),
) {
    let mut next = Instant::now();
    loop {
        let rate = *pace.borrow_and_update();
        next = next.max(Instant::now().checked_sub(BACKLOG_MAX).unwrap_or(next)) + gap(rate);
        tokio::select! {
            biased;
            changed = pace.changed() => {
                if changed.is_err() {
                    return;
                }
                next = Instant::now();
            }
            () = sleep_until(next) => visit(),
        }
    }
}

/// One customer buys something, unless nothing is shown.
fn visit(inner: &Arc<Inner>) {
    let line_max = inner.options.line_quantity_max;
    let bought = inner.transact(|state, now| {
        let mut random = Random::new(state.customers.next_u64());
        let shown = state.shop.slots.iter().map(|slot| slot.item.available);
        let basket = basket(shown, &mut random, line_max);
        if basket.is_empty() {
            return Ok(None);
        }
        let order_id = state.shop.place(&basket, now)?;
        let changes = changes(state, &mut random, &basket);
        state.changes_due += u64::try_from(changes.len()).unwrap_or(0);
        Ok(Some((order_id, changes)))
    });
    let Ok(Some((order_id, changes))) = bought else { return };
    for (change, after) in changes {
        inner.tasks.spawn(change_later(Arc::clone(inner), order_id, change, after));
    }
}

/// What a random customer buys of what is shown: places among it, and units.
pub(crate) fn basket(
    shown: impl Iterator<Item = i64>,
    random: &mut Random,
    line_max: u32,
) -> Vec<(usize, u32)> {
    let mut shown: Vec<(usize, i64)> =
        shown.enumerate().filter(|(_, available)| *available > 0).collect();
    let mut basket = Vec::new();
    for _ in 0..=random.below(LINES_MAX) {
        let count = u64::try_from(shown.len()).unwrap_or(0);
        let pick = usize::try_from(random.below(count)).unwrap_or(0);
        if pick >= shown.len() {
            break;
        }
        let (index, available) = shown.swap_remove(pick);
        let most = u32::try_from(available).unwrap_or(u32::MAX).min(line_max);
        let quantity = 1 + u32::try_from(random.below(u64::from(most))).unwrap_or(0);
        basket.push((index, quantity));
    }
    basket
}

fn changes(state: &State, random: &mut Random, basket: &[(usize, u32)]) -> Vec<(Change, Duration)> {
    let State { shop, faults, .. } = state;
    let after = random.up_to(faults.change_after_max);
    let regret = regret(shop, faults, random, basket).map(|regret| (regret, after));
    let mut changes: Vec<_> = regret.into_iter().collect();
    let edit = random.chance(faults.edit).then(|| Change::Edit { seed: random.next_u64() });
    let fulfil = random.chance(faults.fulfil).then(|| Change::Fulfil { seed: random.next_u64() });
    for change in [edit, fulfil].into_iter().flatten() {
        changes.push((change, random.up_to(faults.change_after_max)));
    }
    changes
}

/// What the customer will want back.
fn regret(
    shop: &Shop,
    faults: &Faults,
    random: &mut Random,
    basket: &[(usize, u32)],
) -> Option<Change> {
    if random.chance(faults.cancel) {
        return Some(Change::Cancel);
    }
    if !random.chance(faults.refund) {
        return None;
    }
    let (index, bought) = basket.first()?;
    let quantity = 1 + u32::try_from(random.below(u64::from(*bought))).unwrap_or(0);
    let gone = random.chance(faults.refund_no_restock);
    let sku = shop.slots.get(*index)?.item.sku.clone();
    Some(Change::Refund { sku, quantity, gone })
}

async fn change_later(inner: Arc<Inner>, order_id: u64, change: Change, after: Duration) {
    tokio::select! {
        () = inner.stop.cancelled() => return,
        () = sleep(after) => {}
    }
    let changed = match change {
        Change::Cancel => inner.cancel(order_id, Restock::Cancel),
        Change::Refund { sku, quantity, gone } => {
            let refund = inner.lock().shop.refund_of(order_id, &sku, quantity, gone);
            refund.map_or(Ok(()), |(restock, quantity)| {
                inner.refund(order_id, &sku, quantity, restock).map(|_| ())
            })
        }
        Change::Edit { seed } => edit(&inner, order_id, &mut Random::new(seed)),
        Change::Fulfil { seed } => fulfil(&inner, order_id, &mut Random::new(seed)),
    };
    if let Err(error) = changed {
        // Whoever came first may have cancelled the order, shipped it, or bought what was to be added.
        tracing::debug!(order_id, %error, "a change of an order was too late");
    }
    inner.act(|state| state.changes_due -= 1);
}

/// The merchant adds a line, or takes units out of one.
fn edit(inner: &Arc<Inner>, order_id: u64, random: &mut Random) -> Result<(), Error> {
    inner.edit(|shop, now| {
        let add = random.chance(0.5);
        let shown = shop.slots.iter().map(|slot| slot.item.available);
        if let Some((slot, quantity)) = basket(shown, random, 1).first().filter(|_| add) {
            return shop.add_line(order_id, *slot, *quantity, now);
        }
        let line = unshipped(shop, order_id).into_iter().next();
        let (sku, most) = line.ok_or(Error::UnknownOrder(order_id))?;
        let quantity = 1 + u32::try_from(random.below(u64::from(most))).unwrap_or(0);
        shop.take_out(order_id, &sku, quantity, now)
    })
}

/// The merchant ships everything, or some of each line.
fn fulfil(inner: &Arc<Inner>, order_id: u64, random: &mut Random) -> Result<(), Error> {
    if random.chance(0.5) {
        return inner.fulfil(order_id, None).map(|_| ());
    }
    let lines = unshipped(&inner.lock().shop, order_id);
    let mut part = |most: u32| u32::try_from(random.below(u64::from(most) + 1)).unwrap_or(0);
    let parts: Vec<_> = lines.iter().map(|(sku, most)| (sku.as_str(), part(*most))).collect();
    let parts: Vec<_> = parts.into_iter().filter(|(_, quantity)| *quantity > 0).collect();
    inner.fulfil(order_id, Some(&parts)).map(|_| ())
}

/// The units of each line that are still to be shipped.
fn unshipped(shop: &Shop, order_id: u64) -> Vec<(String, u32)> {
    let lines = shop.order(order_id).into_iter().flat_map(|placed| &placed.image.line_items);
    lines
        .filter(|line| line.fulfillable_quantity > 0)
        .map(|line| (line.sku.clone(), line.fulfillable_quantity))
        .collect()
}
