//! Random buyers, and what becomes of their orders.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{Inner, State, book::Change};
use crate::{
    Error,
    clock::Millis,
    random::Random,
    store::customers::{at_pace, basket},
};

/// What becomes of an order next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Confirm,
    RequestCancel,
    Cancel { relisted: bool },
    Ship(u32),
}

/// Lets buyers in at the account's pace until it closes.
pub(super) async fn come(inner: Arc<Inner>) {
    let pace = inner.pace.subscribe();
    let gap = |rate| inner.lock().buyers.gap(rate);
    tokio::select! {
        biased;
        () = inner.door.stop.cancelled() => {}
        () = at_pace(pace, gap, || visit(&inner)) => {}
    }
}

/// One buyer orders something, unless nothing is left.
fn visit(inner: &Arc<Inner>) {
    let line_max = inner.options.line_quantity_max;
    let mut steps = Vec::new();
    let placed = inner.transact(|state, now| {
        let mut random = Random::new(state.buyers.next_u64());
        let is_open = *inner.pace.borrow() > 0.0;
        let left = state.book.shelves.iter().map(|(_, left)| *left);
        let basket = basket(left, &mut random, line_max);
        if basket.is_empty() || !is_open {
            return Err(Error::OutOfStock { sku: String::new(), asked: 0, shown: 0 });
        }
        let amazon_fulfilled = random.chance(state.faults.amazon_fulfilled);
        let change = state.book.place(&basket, amazon_fulfilled, now)?;
        steps = plan(state, &mut random, change.order.units());
        state.stats.changes_due += u64::from(!steps.is_empty());
        Ok(change)
    });
    let Ok(order) = placed else { return };
    inner.tell_stray_feed(order);
    if !steps.is_empty() {
        inner.door.tasks.spawn(follow(Arc::clone(inner), order, steps));
    }
}

/// What will become of an order of so many units, each step with the wait before it.
fn plan(state: &State, random: &mut Random, units: u32) -> Vec<(Duration, Step)> {
    let faults = &state.faults;
    let (cancel, ask) = (random.chance(faults.cancel), random.chance(faults.cancel_request));
    let unpaid = cancel && random.chance(0.5);
    let mut steps = Vec::new();
    if !unpaid {
        steps.push(Step::Confirm);
        steps.extend(ask.then_some(Step::RequestCancel));
    }
    if cancel || (ask && random.chance(0.5)) {
        steps.push(Step::Cancel { relisted: random.chance(faults.relisted) });
    } else if random.chance(faults.ship) {
        if random.chance(faults.partial) && units > 1 {
            let some = 1 + u32::try_from(random.below(u64::from(units) - 1)).unwrap_or(0);
            steps.push(Step::Ship(some));
        }
        steps.push(Step::Ship(u32::MAX));
    }
    steps.into_iter().map(|step| (random.up_to(faults.step_after_max), step)).collect()
}

async fn follow(inner: Arc<Inner>, order: u64, steps: Vec<(Duration, Step)>) {
    for (after, step) in steps {
        tokio::select! {
            () = inner.door.stop.cancelled() => return,
            () = sleep(after) => {}
        }
        if let Err(error) = inner.transact(|state, now| carry_out(state, order, step, now)) {
            // Whoever scripts the same account may have cancelled the order first.
            tracing::debug!(order, %error, "a step of an order was too late");
        }
    }
    inner.act(|state| state.stats.changes_due -= 1);
}

fn carry_out(state: &mut State, order: u64, step: Step, now: Millis) -> Result<Change, Error> {
    match step {
        Step::Confirm => state.book.confirm(order, now),
        Step::RequestCancel => state.book.request_cancel(order, now),
        Step::Cancel { relisted } => state.book.cancel(order, relisted, now),
        Step::Ship(units) => state.book.ship(order, units, now),
    }
}
