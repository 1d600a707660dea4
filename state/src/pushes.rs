//! How pushes are agreed on, and what became of them.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::channel::Owner;
use crate::command::{Outcome, Settled};
use crate::ledger::Stock;
use crate::limits;
use crate::listing::{InFlight, Stale};
use crate::machine::{State, Work};
use crate::reply::{Confirmed, Intended, Step};
use crate::{Packed, Reply};

impl State {
    /// Agrees on what is pushed next: the current quantities, at this place in the log.
    pub(crate) fn intend(
        &mut self,
        work: &mut Work,
        channel: &str,
        epoch: u64,
        skus: Vec<String>,
    ) -> Reply {
        if self.owner(channel, epoch).is_none() {
            return Reply::Fenced;
        }
        self.share_out_early(work, &skus);
        let stamp = work.stamp;
        let mut intended = Vec::new();
        for sku in skus.into_iter().take(limits::INTENT_SKUS_MAX) {
            let Some(allocation) = self.data.allocation(channel, &sku) else { continue };
            let listing = |stock: &Arc<Stock>| stock.listings.get(channel).map(Packed::get);
            let Some(listing) = self.data.stock.get(sku.as_str()).and_then(listing) else {
                continue;
            };
            let Some(stale) = listing.stale.filter(|_| listing.is_due()) else { continue };
            let step = match listing.shown.filter(|_| !listing.unsure) {
                None => Step::Observe,
                Some(shown) => {
                    let quantity = allocation.desired;
                    let push = InFlight { quantity, from: shown, revision: stamp.index, stale };
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

    /// Takes in what became of an intent's pushes and read-backs, once.
    pub(crate) fn settle(
        &mut self,
        work: &mut Work,
        channel: &str,
        (epoch, intent): (u64, u64),
        outcomes: Vec<Outcome>,
    ) -> Reply {
        let now = work.stamp.now;
        let Some(owner) = self.owner(channel, epoch) else { return Reply::Fenced };
        // Told before: what was heard since is newer than what was read then.
        if intent <= owner.settled {
            return Reply::Done;
        }
        owner.settled = intent;
        for Outcome { sku, listing: id, revision, result } in outcomes {
            let place = (channel.into(), sku.as_str().into());
            let confirmed = self.change_listing(&place, |listing| {
                if listing.spec.id != id {
                    return None;
                }
                let push = listing.in_flight.filter(|push| push.revision == revision);
                match (result, push) {
                    (Settled::Confirmed, Some(push)) => {
                        listing.confirm(push, now);
                        return Some(push.stale);
                    }
                    (Settled::Observed(quantity), _)
                        if push.is_some() || listing.in_flight.is_none() =>
                    {
                        let stale = push.filter(|push| push.quantity == quantity);
                        listing.observe(quantity, intent, now);
                        return stale.map(|push| push.stale);
                    }
                    (Settled::Refused, Some(push)) => listing.refuse(push),
                    // Of another push than the one in flight it says nothing.
                    (Settled::Failed(reason), _)
                        if push.is_some() || listing.in_flight.is_none() =>
                    {
                        listing.fail(reason);
                    }
                    _ => {}
                }
                None
            });
            if let Some(Stale { since, deadline }) = confirmed.flatten() {
                let channel = channel.to_string();
                work.effects.confirmed.push(Confirmed {
                    channel,
                    sku: sku.clone(),
                    since,
                    deadline,
                });
            }
            work.touch(&sku, None);
        }
        Reply::Done
    }

    /// Who pushes to a channel, if under this epoch still.
    fn owner(&mut self, channel: &str, epoch: u64) -> Option<&mut Owner> {
        let owner = self.data.channels.get_mut(channel)?.owner.as_mut();
        owner.filter(|owner| owner.epoch == epoch)
    }
}
