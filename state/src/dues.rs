//! Where listings stand in the lists that are derived of all of them, and how many there are.

use alloc::collections::BTreeMap;

use crate::listing::{Class, Due, Listing, Place};
use crate::{Id, Millis};

/// Listings by what they wait for. Derived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dues {
    pub(crate) due: Due,
    pub(crate) wakes: Due,
    pub(crate) flights: Due,
    /// Of those that are due, those whose change is a sale.
    pub(crate) urgent: Due,
    /// Those that take no push, by the time since when.
    pub(crate) failures: Due,
    counts: BTreeMap<Id, Counts>,
    /// Those that were taken out of their SKUs and may still sell.
    pub(crate) leaving: u64,
}

/// How many listings a channel has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of them.
    pub listed: u64,
    /// Those of which something may still be sold, as far as was heard.
    pub open: u64,
}

impl Dues {
    pub(crate) fn counts(&self, channel: &str) -> Counts {
        self.counts.get(channel).copied().unwrap_or_default()
    }

    /// A listing stands otherwise than it did; [`Times::default`] where there is none.
    pub(crate) fn change(&mut self, place: &Place, before: Times, after: Times) {
        self.due.change(place, before.due, after.due);
        self.wakes.change(place, before.wakes, after.wakes);
        self.flights.change(place, before.in_flight, after.in_flight);
        self.urgent.change(place, before.urgent, after.urgent);
        self.failures.change(place, before.failed, after.failed);
        self.leaving = self.leaving + u64::from(after.leaves) - u64::from(before.leaves);
        if (before.is_listed, before.is_open) != (after.is_listed, after.is_open) {
            let Counts { listed, open } = self.counts.entry(place.0.clone()).or_default();
            *listed = *listed + u64::from(after.is_listed) - u64::from(before.is_listed);
            *open = *open + u64::from(after.is_open) - u64::from(before.is_open);
        }
    }
}

/// Where a listing stands in the lists that are derived of all.
#[derive(Clone, Copy, Default)]
pub(crate) struct Times {
    due: Option<Millis>,
    urgent: Option<Millis>,
    wakes: Option<Millis>,
    in_flight: Option<Millis>,
    failed: Option<Millis>,
    is_listed: bool,
    is_open: bool,
    leaves: bool,
}

impl Times {
    pub(crate) fn of(listing: &Listing) -> Self {
        let stale = listing.stale.filter(|_| listing.is_due());
        let urgent = stale.filter(|stale| stale.class == Class::Sale);
        Self {
            due: stale.map(|stale| stale.deadline),
            urgent: urgent.map(|stale| stale.deadline),
            wakes: listing.wakes_at(),
            in_flight: listing.in_flight.map(|push| push.stale.deadline),
            failed: listing.fault.as_ref().map(|_| listing.failed_at),
            is_listed: true,
            is_open: listing.is_open(),
            leaves: listing.leaves,
        }
    }
}
