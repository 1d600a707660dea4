//! How pushes are agreed on, and what became of them.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::allocation::{Mode, policy_of};
use crate::command::{Outcome, Settled};
use crate::ledger::Stock;
use crate::limits;
use crate::listing::{Class, InFlight, Listing, Stale};
use crate::machine::{State, Work};
use crate::origin::Lane;
use crate::owners::shortened;
use crate::reply::{Confirmed, Intended, Step};
use crate::{Packed, Reply};

impl State {
    /// Agrees on what is pushed next: the current quantities, at this place in the log.
    pub(crate) fn intend(
        &mut self,
        work: &mut Work,
        channel: &str,
        (epoch, lane): (u64, Lane),
        skus: Vec<String>,
    ) -> Reply {
        self.share_out_early(work, &skus);
        let stamp = work.stamp;
        let Some(owner) = self.owner(channel, epoch) else { return Reply::Fenced };
        owner.renew(stamp.now);
        let Some(known) = self.data.channels.get(channel) else { return Reply::Fenced };
        if known.is_paused(stamp.now) {
            return Reply::Rejected("the channel is paused".into());
        }
        let (plain, shadow) = (!known.definition.compares, known.definition.shadow);
        let mut intended = Vec::new();
        for sku in skus.into_iter().take(limits::INTENT_SKUS_MAX) {
            let Some(allocation) = self.data.allocation(channel, &sku) else { continue };
            let listing = |stock: &Arc<Stock>| stock.listings.get(channel).map(Packed::get);
            let Some(listing) = self.data.stock.get(sku.as_str()).and_then(listing) else {
                continue;
            };
            let Some(stale) = listing.stale.filter(|_| listing.is_due()) else { continue };
            if listing.in_flight.is_some() {
                if lane == Lane::Urgent {
                    let place = (channel.into(), sku.as_str().into());
                    self.change_listing(&place, |listing| listing.overtake(stamp.now));
                    work.touch(&sku, None);
                    intended.push(Intended { sku, step: Step::Observe });
                }
                continue;
            }
            let quantity = allocation.desired;
            let is_raise = |shown: i64| quantity > shown;
            let old =
                plain && listing.shown.is_some_and(is_raise) && self.is_guarded(&sku, &listing);
            let step = match listing.shown.filter(|_| !listing.unsure && !old) {
                // One lane reads, so that no reading is told after a later one.
                None if lane == Lane::Normal => continue,
                None => Step::Observe,
                Some(_) if shadow => {
                    let place = (channel.into(), sku.as_str().into());
                    self.change_listing(&place, |listing| {
                        (listing.shadow, listing.stale) = (Some((quantity, stamp.now)), None);
                    });
                    continue;
                }
                Some(shown) => {
                    let revision = stamp.index;
                    let fed = lane == Lane::Normal;
                    let push = InFlight { quantity, from: shown, revision, stale, plain, fed };
                    let place = (channel.into(), sku.as_str().into());
                    self.change_listing(&place, |listing| listing.intend(push, stamp.now));
                    // What this one may sell, others may not be raised to any more.
                    work.touch(&sku, None);
                    Step::Push { quantity, from: shown, revision: stamp.index }
                }
            };
            intended.push(Intended { sku, step });
        }
        Reply::Intended(intended)
    }

    /// Whether a channel must be read before a listing there can be pushed to, as an intent would have it: nobody knows
    /// what it shows, or a plain set would raise what was not looked at for long.
    #[must_use]
    pub fn must_be_read(&self, channel: &str, sku: &str) -> bool {
        let listing = |stock: &Arc<Stock>| stock.listings.get(channel).map(Packed::get);
        let Some(listing) = self.data.stock.get(sku).and_then(listing) else { return false };
        let Some(shown) = listing.shown.filter(|_| !listing.unsure) else { return true };
        let known = self.data.channels.get(channel);
        known.is_some_and(|known| !known.definition.compares)
            && self.is_guarded(sku, &listing)
            && self.data.allocation(channel, sku).is_some_and(|of| of.desired > shown)
    }

    /// Whether a listing beside others' shares was not looked at for long: a plain set must not raise it then.
    fn is_guarded(&self, sku: &str, listing: &Listing) -> bool {
        let now = self.data.now;
        let confirmed = listing.confirmed.map_or(0, |(_, time)| time);
        let known = listing.read_at().max(confirmed);
        known + limits::BELIEF_KEEP_MS <= now
            && policy_of(&self.data.policies, sku).is_some_and(|policy| policy.mode == Mode::Split)
    }

    /// Takes in what became of an intent's pushes and read-backs, once.
    pub(crate) fn settle(
        &mut self,
        work: &mut Work,
        channel: &str,
        told: Told,
        outcomes: Vec<Outcome>,
    ) -> Reply {
        let now = work.stamp.now;
        let Told { epoch, lane, intent, calls } = told;
        let Some(owner) = self.owner(channel, epoch) else { return Reply::Fenced };
        owner.renew(now);
        // Told before: what was heard since is newer than what was read then.
        if !owner.settled.advance(lane, intent) {
            return Reply::Done;
        }
        self.spend(now, channel, calls);
        for Outcome { sku, listing: id, revision, result } in outcomes {
            let place = (channel.into(), sku.as_str().into());
            let ended = |listing: &mut Listing| listing.feed_ended(revision, work.stamp);
            if self.change_listing(&place, ended) == Some(true) {
                work.touch(&sku, Some(Stale::new(Class::Sale, now)));
                continue;
            }
            let confirmed = self.change_listing(&place, |listing| {
                if listing.spec.id != id {
                    return None;
                }
                let push = listing.in_flight.filter(|push| push.revision == revision);
                match (result, push) {
                    (Settled::Confirmed, Some(push)) => {
                        listing.confirm(push, work.stamp);
                        return Some(push.stale);
                    }
                    (Settled::Observed(quantity), _)
                        if push.is_some() || listing.in_flight.is_none() =>
                    {
                        let stale = push.filter(|push| push.quantity == quantity);
                        listing.observe(quantity, intent, work.stamp);
                        return stale.map(|push| push.stale);
                    }
                    (Settled::Refused, Some(push)) => listing.refuse(push),
                    // Of another push than the one in flight it says nothing.
                    (Settled::Failed(reason), _)
                        if push.is_some() || listing.in_flight.is_none() =>
                    {
                        listing.fail(shortened(reason), now);
                    }
                    _ => {}
                }
                None
            });
            if let Some(Stale { since, deadline, class }) = confirmed.flatten() {
                if let Some(known) = self.data.channels.get_mut(channel) {
                    known.pushed = Some(now);
                }
                let (channel, sku) = (channel.to_string(), sku.clone());
                let confirmed = Confirmed { channel, sku, since, deadline, class };
                work.effects.confirmed.push(confirmed);
            }
            work.touch(&sku, None);
        }
        Reply::Done
    }
}

/// Of which intent something is told.
#[derive(Clone, Copy)]
pub(crate) struct Told {
    pub(crate) epoch: u64,
    pub(crate) lane: Lane,
    pub(crate) intent: u64,
    pub(crate) calls: u64,
}
