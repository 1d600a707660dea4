//! Random customers, what becomes of their orders, and stock that moves without them.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    MoveKind,
    dialect::Partial,
    options::Faults,
    state::{Inner, State},
};
use crate::{
    Error,
    random::Random,
    store::customers::{at_pace, basket},
};

/// The most units of a receipt.
const RECEIPT_MAX: u64 = 12;
/// The most units of a transfer or scrap.
const SHIFT_MAX: u64 = 3;

/// What becomes of an order later.
#[derive(Clone, Debug)]
enum Step {
    Cancel,
    Trash,
    Ship,
    Reduce { sku: String, quantity: u32, restock: bool },
}

/// Lets customers in at the channel's pace until it closes.
pub(super) async fn come(inner: Arc<Inner>) {
    let pace = inner.pace.subscribe();
    let gap = |rate| inner.lock().customers.gap(rate);
    tokio::select! {
        biased;
        () = inner.stop.cancelled() => {}
        () = at_pace(pace, gap, || visit(&inner)) => {}
    }
}

/// Moves stock at the channel's pace until it closes, if its kind knows such a thing.
pub(super) async fn shift(inner: Arc<Inner>) {
    let pace = inner.move_pace.subscribe();
    let gap = |rate| inner.lock().shifts.gap(rate);
    tokio::select! {
        biased;
        () = inner.stop.cancelled() => {}
        () = at_pace(pace, gap, || shift_one(&inner)) => {}
    }
}

/// One customer buys something, unless nothing is shown.
fn visit(inner: &Arc<Inner>) {
    let line_max = inner.options.line_quantity_max;
    let bought = inner.transact(|state, now| {
        let mut random = Random::new(state.customers.next_u64());
        let shown = state.book.items.iter().map(|item| item.units);
        let basket = basket(shown, &mut random, line_max);
        // An empty basket is no order.
        if basket.is_empty() {
            return Err(Error::OutOfStock { sku: String::new(), asked: 0, shown: 0 });
        }
        let (order, change) = state.book.place(&basket, now)?;
        let steps = steps(state, &mut random, &basket);
        state.stats.changes_due += u64::from(!steps.is_empty());
        Ok(((order, steps), change))
    });
    if let Ok((order, steps)) = bought
        && !steps.is_empty()
    {
        inner.tasks.spawn(follow(Arc::clone(inner), order, steps));
    }
}

/// What will become of an order, each step with the wait before it.
fn steps(state: &State, random: &mut Random, basket: &[(usize, u32)]) -> Vec<(Duration, Step)> {
    let faults = &state.faults;
    let mut steps = Vec::new();
    if random.chance(faults.cancel) {
        steps.push((wait(faults, random), Step::Cancel));
        if random.chance(faults.trash) {
            steps.push((wait(faults, random), Step::Trash));
        }
        return steps;
    }
    let partial = state.dialect.manner().partial;
    let reduce = random.chance(faults.partial).then(|| reduce(state, partial, random, basket));
    let reduce = reduce.flatten().map(|step| (wait(faults, random), step));
    let ship = random.chance(faults.ship).then(|| (wait(faults, random), Step::Ship));
    let late = partial == Partial::Refunds && random.chance(0.5);
    if late {
        steps.extend(ship.into_iter().chain(reduce));
    } else {
        steps.extend(reduce.into_iter().chain(ship));
    }
    steps
}

fn reduce(
    state: &State,
    partial: Partial,
    random: &mut Random,
    basket: &[(usize, u32)],
) -> Option<Step> {
    let (index, bought) = basket.first()?;
    let some = 1 + u32::try_from(random.below(u64::from(*bought))).unwrap_or(0);
    let kept = random.chance(state.faults.no_restock);
    let sku = state.book.items.get(*index)?.sku.clone();
    match partial {
        Partial::No => None,
        Partial::Lines => Some(Step::Reduce { sku, quantity: *bought, restock: true }),
        Partial::Units => Some(Step::Reduce { sku, quantity: some, restock: true }),
        Partial::Refunds => Some(Step::Reduce { sku, quantity: some, restock: !kept }),
    }
}

fn wait(faults: &Faults, random: &mut Random) -> Duration {
    let span = faults.change_after_max.saturating_sub(faults.change_after_min);
    faults.change_after_min + random.up_to(span)
}

async fn follow(inner: Arc<Inner>, order: u64, steps: Vec<(Duration, Step)>) {
    for (after, step) in steps {
        tokio::select! {
            biased;
            () = inner.stop.cancelled() => break,
            () = sleep(after) => {}
        }
        let changed = inner.transact(|state, now| {
            let book = &mut state.book;
            let change = match &step {
                Step::Cancel => book.cancel(order, now)?,
                Step::Trash => book.trash(order, now)?,
                Step::Ship => book.ship(order, now)?,
                Step::Reduce { sku, quantity, restock } => {
                    book.reduce(order, sku, *quantity, *restock, now)?
                }
            };
            Ok(((), change))
        });
        if let Err(error) = changed {
            // Whoever scripts the same sender may have changed the order first.
            tracing::debug!(order, %error, "a change of an order was too late");
        }
    }
    inner.act(|state| state.stats.changes_due -= 1);
}

/// A receipt, or a transfer or scrap of what was received before.
fn shift_one(inner: &Arc<Inner>) {
    let moved = inner.transact(|state, now| {
        let mut random = Random::new(state.shifts.next_u64());
        let State { book, dialect, .. } = state;
        let kinds = dialect.manner().moves;
        let kind = kinds.get(place(&mut random, kinds.len())).copied();
        let item = book.items.get(place(&mut random, book.items.len()));
        let (Some(kind), Some(item)) = (kind, item) else {
            return Err(Error::UnknownSku(String::new()));
        };
        let sku = item.sku.clone();
        let units = |random: &mut Random, max| 1 + u32::try_from(random.below(max)).unwrap_or(0);
        let quantity = units(&mut random, SHIFT_MAX);
        let shifted = match kind {
            MoveKind::Receipt => None,
            other => book.shift(other, &sku, quantity, now).ok(),
        };
        // There is not enough to move: more is bought.
        let receipt = units(&mut random, RECEIPT_MAX);
        let change = match shifted {
            Some(change) => change,
            None => book.shift(MoveKind::Receipt, &sku, receipt, now)?,
        };
        Ok(((), change))
    });
    if let Err(error) = moved {
        tracing::debug!(%error, "no stock moves by itself here");
    }
}

fn place(random: &mut Random, count: usize) -> usize {
    usize::try_from(random.below(u64::try_from(count).unwrap_or(0))).unwrap_or(0)
}
