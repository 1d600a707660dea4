//! Listings: what each channel shows, what is on its way there, and what may still be sold from it.
//!
//! **Exposure** is an upper bound on the sales that may still arrive from a listing. With
//! compare-and-set, a push of N from C counts max(N, C) until it is confirmed, then N. A push whose
//! outcome never became known goes on counting. Units that were seen to be missing on the channel but
//! whose sale has not arrived ([`unheard`](Listing::unheard)) count too. A sale that arrives takes its
//! quantity off. A listing that was never observed has no bound, and nothing is raised beside it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::command::ListingSpec;
use crate::{Millis, limits};

/// One SKU on one channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// How the channel names it.
    pub spec: ListingSpec,
    /// What the channel shows, as far as was heard; `None` until it was observed once.
    pub shown: Option<i64>,
    /// The push that was agreed on and has no outcome yet.
    pub in_flight: Option<InFlight>,
    /// The greatest quantity ever pushed whose outcome did not become known.
    pub unresolved: Option<i64>,
    /// Whether what it shows must be read back before anything is pushed.
    pub unsure: bool,
    /// Units missing on the channel whose sale has not arrived yet.
    pub unheard: i64,
    /// Until when `unheard` and `unresolved` count.
    pub uncertain_until: Millis,
    /// The quantity confirmed last, and when.
    pub confirmed: Option<(i64, Millis)>,
    /// The quantity read back last, and when.
    pub observed: Option<(i64, Millis)>,
    /// Set while the channel shows something else than it should.
    pub stale: Option<Stale>,
    /// Why the channel will not take a push until the mapping changes.
    pub fault: Option<String>,
}

/// A push that was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// What the channel shall show.
    pub quantity: i64,
    /// What it was believed to show.
    pub from: i64,
    /// Log index of the intent: names the push.
    pub revision: u64,
    /// The change that it answers.
    pub stale: Stale,
}

/// A change that a channel does not show yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stale {
    /// When its cause was received.
    pub since: Millis,
    /// When it must be shown.
    pub deadline: Millis,
}

impl Listing {
    /// The most that may still arrive from it as sales; `None` while nobody can know.
    #[must_use]
    pub fn exposure(&self, now: Millis) -> Option<i64> {
        let shown = self.shown?;
        let pushed = self.in_flight.map(|push| push.quantity);
        let most = pushed.into_iter().chain(self.unresolved(now)).fold(shown, i64::max);
        Some(most + self.unheard(now))
    }

    /// The greatest quantity pushed without a known outcome that the channel may still take.
    #[must_use]
    pub fn unresolved(&self, now: Millis) -> Option<i64> {
        self.unresolved.filter(|_| now < self.uncertain_until)
    }

    /// When something about it stops to count, if anything does: it must be looked at again then.
    #[must_use]
    pub const fn wakes_at(&self) -> Option<Millis> {
        let uncertain = self.unheard > 0 || self.unresolved.is_some();
        if uncertain { Some(self.uncertain_until) } else { None }
    }

    /// Forgets what no longer counts.
    pub fn wake(&mut self, now: Millis) {
        if now >= self.uncertain_until {
            self.unheard = 0;
            self.unresolved = None;
        }
    }

    /// Units missing there whose sale may still arrive.
    #[must_use]
    pub const fn unheard(&self, now: Millis) -> i64 {
        if now < self.uncertain_until { self.unheard } else { 0 }
    }

    /// A sale of this channel arrived: it explains missing units first, then lowers what is shown.
    pub fn sold(&mut self, quantity: i64, now: Millis) {
        let explained = self.unheard(now).min(quantity);
        self.unheard = self.unheard(now) - explained;
        self.shown = self.shown.map(|shown| (shown - (quantity - explained)).max(0));
    }

    /// The channel put units back on sale by itself: a cancellation or a return that it restocked.
    pub fn restocked(&mut self, quantity: i64) {
        self.shown = self.shown.map(|shown| shown.saturating_add(quantity).min(limits::LEVEL_MAX));
    }

    /// A push is about to be sent.
    pub fn intend(&mut self, push: InFlight, now: Millis) {
        self.abandon(now);
        self.in_flight = Some(push);
        self.stale = None;
    }

    /// The push in flight has an outcome that nobody will learn: its owner is gone.
    pub fn abandon(&mut self, now: Millis) {
        if let Some(lost) = self.in_flight.take() {
            self.unresolved = self.unresolved(now).max(Some(lost.quantity));
            self.uncertain_until = now + limits::UNCERTAIN_KEEP_MS;
            self.unsure = true;
            self.stale.get_or_insert(lost.stale);
        }
    }

    /// The channel took the push: by compare-and-set it showed `from` at that moment, so no older
    /// push can be taken any more.
    pub fn confirm(&mut self, push: InFlight, now: Millis) {
        self.in_flight = None;
        self.shown = Some(push.quantity);
        self.confirmed = Some((push.quantity, now));
        self.unresolved = None;
        self.unsure = false;
        self.fault = None;
    }

    /// The channel was read and shows `quantity`. Units that should be there and are not are sales on
    /// their way; a push that may or may not have been taken is counted as if it had added them.
    pub fn observe(&mut self, quantity: i64, now: Millis) {
        let unheard = self.unheard(now);
        self.abandon(now);
        let unresolved = self.unresolved(now);
        if unresolved == Some(quantity) {
            self.unresolved = None;
        } else if let Some(shown) = self.shown {
            let missing = unresolved.map_or(shown, |sent| sent.max(shown)) - quantity;
            self.unheard = (unheard + missing).clamp(0, limits::LEVEL_MAX);
            if missing > 0 {
                self.uncertain_until = now + limits::UNCERTAIN_KEEP_MS;
            }
        }
        self.shown = Some(quantity);
        self.observed = Some((quantity, now));
        self.unsure = false;
    }

    /// The channel certainly did not take the push.
    pub fn refuse(&mut self, push: InFlight) {
        self.in_flight = None;
        self.stale.get_or_insert(push.stale);
    }

    /// The channel never will take it: nothing more is pushed until the mapping changes.
    pub fn fail(&mut self, reason: String) {
        self.in_flight = None;
        self.stale = None;
        self.fault = Some(reason);
    }

    /// Whether it waits for its owner to push or to read it.
    #[must_use]
    pub const fn is_due(&self) -> bool {
        self.stale.is_some() && self.in_flight.is_none() && self.fault.is_none()
    }
}

/// Where the listing of a SKU is at home: channel and SKU.
pub(crate) type Place = (String, String);

/// Listings that wait, by channel and time. Derived from the listings, so it is made again after a
/// restart and is no part of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due(BTreeMap<String, BTreeSet<(Millis, String)>>);

impl Due {
    /// The listings of a channel, first the one whose time comes first.
    pub fn of(&self, channel: &str) -> impl Iterator<Item = (Millis, &str)> {
        let places = self.0.get(channel).into_iter().flatten();
        places.map(|(time, sku)| (*time, sku.as_str()))
    }

    /// How many wait.
    #[must_use]
    pub fn count(&self, channel: &str) -> usize {
        self.0.get(channel).map_or(0, BTreeSet::len)
    }

    /// The first time of all.
    #[must_use]
    pub fn first(&self) -> Option<(Millis, &str, &str)> {
        let firsts = self.0.iter().filter_map(|(channel, places)| {
            places.first().map(|(time, sku)| (*time, channel.as_str(), sku.as_str()))
        });
        firsts.min()
    }

    pub(crate) fn change(&mut self, place: &Place, before: Option<Millis>, after: Option<Millis>) {
        if before == after {
            return;
        }
        let (channel, sku) = place;
        let places = self.0.entry(channel.clone()).or_default();
        if let Some(deadline) = before {
            places.remove(&(deadline, sku.clone()));
        }
        if let Some(deadline) = after {
            places.insert((deadline, sku.clone()));
        }
    }
}
