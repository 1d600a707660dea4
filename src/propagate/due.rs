//! What is pushed next, and with how much hurry: sales before all else, those of which little is left and
//! those that sell fastest first; the rest from what that leaves of the rate, and of the day.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use state::State;
use state::allocation::Exposures;
use state::limits::{INTENT_SKUS_MAX, WINDOW_SALE_MS};
use state::origin::Lane;

use tokio::time::Instant;

use super::pace::Urgency;
use super::{LOOK, Pusher};
use crate::agreed::Agreed;
use crate::channel::Quantities;
use crate::planted::{self, Bug};

/// Of the calls of a day, this part is kept for sales: one of so many.
const RESERVE: u64 = 5;
/// Sets that one intent is for, at the most, where few rows are set at once.
const SETS_MAX: usize = 4;
/// Those of which fewer are left than this go before all others: the next sale may be one too many.
const FEW: i64 = 3;
/// SKUs whose sales are counted. Beyond it all counts are halved, and what is at nothing is forgotten.
const COUNTED_MAX: usize = 10_000;
/// Listings that are looked at to find one that is slow; what lies behind comes when these are done.
const LOOKED_AT_MAX: usize = 1_000;
/// Sales after which all counts are halved, so that they are of late.
const COUNTS_MAX: u64 = 20_000;

/// How often each SKU was pushed for a sale of late: which sell fastest.
#[derive(Default)]
pub(super) struct Tiers(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    sales: BTreeMap<String, u64>,
    all: u64,
    /// The fastest-selling fifth was pushed so often at least.
    fast: u64,
}

impl Tiers {
    fn sold<'a>(&self, skus: impl Iterator<Item = &'a String>) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for sku in skus {
            *counts.sales.entry(sku.clone()).or_default() += 1;
            counts.all += 1;
        }
        if counts.sales.len() > COUNTED_MAX || counts.all > COUNTS_MAX {
            counts.sales.retain(|_, count| {
                *count /= 2;
                *count > 0
            });
            counts.all = counts.sales.values().sum();
        }
        let mut sorted: Vec<u64> = counts.sales.values().copied().collect();
        sorted.sort_unstable();
        counts.fast = sorted.get(sorted.len() * 4 / 5).copied().unwrap_or(0).max(2);
    }

    fn is_fast(&self, sku: &str) -> bool {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.sales.get(sku).is_some_and(|count| *count >= counts.fast)
    }
}

impl<Q: Quantities, A: Agreed> Pusher<Q, A> {
    /// Waits until something is due in a lane, for a while; says how urgent it is.
    pub(super) async fn something_is_due(&self, lane: Lane) -> Option<Urgency> {
        let mut changed = self.cluster.watch();
        let found = self.cluster.look(|state| self.next(state, lane));
        if found.is_some() {
            return found;
        }
        // Either way the next look tells.
        let _ = tokio::time::timeout(LOOK, changed.changed()).await;
        self.cluster.look(|state| self.next(state, lane))
    }

    /// Returns when a sale must be told to the channel.
    pub(super) async fn sale_is_due(&self) {
        let mut changed = self.cluster.watch();
        loop {
            changed.borrow_and_update();
            if self.cluster.look(|state| state.urgent().count(&self.channel.name) > 0) {
                return;
            }
            // Either way the next look tells.
            let _ = tokio::time::timeout(LOOK, changed.changed()).await;
        }
    }

    fn next(&self, state: &State, lane: Lane) -> Option<Urgency> {
        let name = self.channel.name.as_str();
        let known = state.data().channels.get(name)?;
        let definition = &known.definition;
        self.pace.allow(definition.rate_milli, definition.burst);
        if known.is_paused(state.data().now) {
            return None;
        }
        let left = match definition.per_day {
            0 => u64::MAX,
            per_day => {
                let spent = known.spent(state.data().now).saturating_add(self.pace.untold_calls());
                per_day.saturating_sub(spent)
            }
        };
        let slow = left > definition.per_day / RESERVE;
        match lane {
            _ if left == 0 => None,
            Lane::Urgent if state.urgent().count(name) > 0 => Some(Urgency::Quick),
            Lane::Urgent if slow && !self.slow_due(state, 1).is_empty() => Some(Urgency::Slow),
            Lane::Normal if slow && self.many_are_due(state) => Some(Urgency::Slow),
            Lane::Urgent | Lane::Normal => None,
        }
    }

    /// What the urgent lane takes next.
    pub(super) fn due(&self, urgency: Urgency) -> Vec<String> {
        let calls = self.client.calls();
        let (rows, each) = (calls.rows_max.max(1), calls.calls_a_set.max(1));
        if urgency == Urgency::Slow {
            return self.cluster.look(|state| self.slow_due(state, rows.min(INTENT_SKUS_MAX)));
        }
        let most = (rows * (self.pace.at_once() / each).clamp(1, SETS_MAX)).min(INTENT_SKUS_MAX);
        let mut found = self.cluster.look(|state| {
            let (data, name) = (state.data(), self.channel.name.as_str());
            let mut exposures = Exposures::default();
            let due = state.urgent().of(name).take(2 * most);
            let ranked = due.map(|(deadline, sku)| {
                let listing = data.stock.get(sku).and_then(|stock| stock.listings.get(name));
                let allocation = listing.and_then(|listing| {
                    data.allocation_of(name, sku, &listing.get(), &mut exposures)
                });
                let left = allocation.map_or(0, |allocation| allocation.available_to_sell);
                (left >= FEW, !self.tiers.is_fast(sku), deadline, sku.to_string())
            });
            ranked.collect::<Vec<_>>()
        });
        found.sort_unstable();
        found.truncate(most);
        let skus: Vec<String> = found.into_iter().map(|(.., sku)| sku).collect();
        self.tiers.sold(skus.iter());
        skus
    }

    /// What is no sale, by its deadline. Where a feed takes the many, only what must be read is left to the
    /// urgent lane.
    fn slow_due(&self, state: &State, most: usize) -> Vec<String> {
        let by_feed = self.many_are_due(state);
        let due = state.due().of(&self.channel.name).map(|(_, sku)| sku).take(LOOKED_AT_MAX);
        let slow = due.filter(|sku| {
            self.stale_class(state, sku).is_some_and(|(sale, known)| !(sale || by_feed && known))
        });
        slow.take(most).map(ToString::to_string).collect()
    }

    /// Whether it is a sale that makes a listing wait, and whether it can be pushed to before it is read.
    fn stale_class(&self, state: &State, sku: &str) -> Option<(bool, bool)> {
        let stock = state.data().stock.get(sku)?;
        let listing = stock.listings.get(self.channel.name.as_str())?.get();
        let sale = listing.stale?.class == state::listing::Class::Sale;
        let unread = state.must_be_read(&self.channel.name, sku);
        Some((sale, !unread || planted::has(Bug::UnreadIsFed)))
    }

    fn many_are_due(&self, state: &State) -> bool {
        let name = self.channel.name.as_str();
        let calls = self.client.calls();
        let from = *self.feeds_from.lock().unwrap_or_else(PoisonError::into_inner);
        if Instant::now() < from {
            return false;
        }
        let slow = state.due().count(name) - state.urgent().count(name);
        calls.feed_rows_max > 0
            && (slow >= calls.feed_rows_min || state.urgent().count(name) > self.in_a_window(state))
    }

    /// Rows that calls can set within the window of a sale.
    fn in_a_window(&self, state: &State) -> usize {
        let known = state.data().channels.get(&self.channel.name);
        let rate_milli = known.map_or(0, |known| known.definition.rate_milli);
        let in_time = usize::try_from(rate_milli.saturating_mul(WINDOW_SALE_MS) / 1_000_000);
        let calls = self.client.calls();
        let rows = in_time.unwrap_or(usize::MAX).saturating_mul(calls.rows_max);
        (rows / calls.calls_a_set.max(1)).max(calls.feed_rows_min)
    }

    /// What a feed takes next: what is no sale, and of the sales those of the tail that cannot be told in time
    /// one by one.
    pub(super) fn bulk_due(&self, most: usize) -> Vec<String> {
        let most = most.min(INTENT_SKUS_MAX);
        self.cluster.look(|state| {
            let name = self.channel.name.as_str();
            let tail = state.urgent().of(name).skip(self.in_a_window(state)).map(|(_, sku)| sku);
            let tail = tail.filter(|sku| !self.tiers.is_fast(sku));
            let slow = state.due().of(name).map(|(_, sku)| sku);
            let slow = slow.filter(|sku| {
                self.stale_class(state, sku).is_some_and(|(sale, known)| !sale && known)
            });
            tail.chain(slow).take(most).map(ToString::to_string).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The feed of the long tail would hold back the few SKUs that sell every minute.
    #[test]
    fn the_fastest_fifth_are_those_that_sold_most_of_late() {
        let tiers = Tiers::default();
        let skus: Vec<String> = (0..10).map(|n| format!("SKU-{n}")).collect();
        tiers.sold(skus.iter());
        assert!(!skus.iter().any(|sku| tiers.is_fast(sku)));
        for _ in 0..5 {
            tiers.sold(skus.iter().take(2));
        }
        let fast: Vec<bool> = skus.iter().map(|sku| tiers.is_fast(sku)).collect();
        assert_eq!(fast.iter().filter(|fast| **fast).count(), 2);
        assert!(fast.iter().take(2).all(|fast| *fast));
        // What sold long ago is forgotten, and no more is kept than is bounded.
        let many: Vec<String> = (0..=COUNTED_MAX).map(|n| format!("OTHER-{n}")).collect();
        tiers.sold(many.iter());
        assert!(tiers.0.lock().unwrap().sales.len() <= COUNTED_MAX);
    }
}
