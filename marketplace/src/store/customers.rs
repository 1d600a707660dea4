//! Random customers: they come, buy what is shown, and some change their minds.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{Inner, State};
use crate::{random::Random, shopify::payload::Restock};

/// The most different SKUs in one order.
const LINES_MAX: u64 = 3;
/// A store that fell further behind than this lets the missed customers go.
const BACKLOG_MAX: Duration = Duration::from_secs(1);

/// What a customer will want changed in an order.
enum Regret {
    Cancel,
    Refund { sku: String, quantity: u32, restock: Restock },
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
            return Ok((None, Vec::new()));
        }
        let (order_id, fired) = state.shop.place(&basket, now)?;
        let regret = regret(state, &mut random, &basket);
        state.changes_due += u64::from(regret.is_some());
        Ok((regret.map(|(regret, after)| (order_id, regret, after)), vec![fired]))
    });
    if let Ok(Some((order_id, regret, after))) = bought {
        inner.tasks.spawn(change_mind(Arc::clone(inner), order_id, regret, after));
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

fn regret(
    state: &State,
    random: &mut Random,
    basket: &[(usize, u32)],
) -> Option<(Regret, Duration)> {
    let State { shop, faults, .. } = state;
    let after = random.up_to(faults.change_after_max);
    if random.chance(faults.cancel) {
        return Some((Regret::Cancel, after));
    }
    if !random.chance(faults.refund) {
        return None;
    }
    let (index, bought) = basket.first()?;
    let quantity = 1 + u32::try_from(random.below(u64::from(*bought))).unwrap_or(0);
    let gone = random.chance(faults.refund_no_restock);
    let restock = if gone { Restock::NoRestock } else { Restock::Cancel };
    let sku = shop.slots.get(*index)?.item.sku.clone();
    Some((Regret::Refund { sku, quantity, restock }, after))
}

async fn change_mind(inner: Arc<Inner>, order_id: u64, regret: Regret, after: Duration) {
    tokio::select! {
        () = inner.stop.cancelled() => return,
        () = sleep(after) => {}
    }
    let changed = match regret {
        Regret::Cancel => inner.cancel(order_id, Restock::Cancel),
        Regret::Refund { sku, quantity, restock } => {
            inner.refund(order_id, &sku, quantity, restock).map(|_| ())
        }
    };
    if let Err(error) = changed {
        // Whoever scripts the same store may have cancelled the order first.
        tracing::debug!(order_id, %error, "a customer's change was too late");
    }
    inner.act(|state| state.changes_due -= 1);
}
