//! Who pushes to a channel, for how long, and whether anything is pushed at all.

use alloc::string::String;
use alloc::vec::Vec;

use crate::channel::{Lanes, Owner, Paused};
use crate::limits;
use crate::listing::{Class, Place, Stale};
use crate::machine::{Stamp, State, Work};
use crate::{Id, Millis, NodeId, Reply};

impl State {
    /// A node takes a channel over: whenever nobody else may still be sending to it.
    pub(crate) fn claim(&mut self, work: &mut Work, channel: &str, node: NodeId) -> Reply {
        let Stamp { index, now } = work.stamp;
        let Some(known) = self.data.channels.get_mut(channel) else {
            return unknown(channel);
        };
        if let Some(owner) = known.owner.as_mut().filter(|owner| owner.node != node)
            && now < owner.lease_until
        {
            // It is given back in an orderly way, if its owner only stands in.
            owner.wanted_by = Some(node);
            return Reply::Rejected(alloc::format!("node {} pushes to {channel:?}", owner.node));
        }
        let settled = Lanes::default();
        let mut owner = Owner { node, epoch: index, settled, lease_until: 0, wanted_by: None };
        owner.renew(now);
        known.owner = Some(owner);
        let in_flight: Vec<Id> = self.flights().of(channel).map(|(_, sku)| sku.into()).collect();
        for sku in in_flight {
            let place = (channel.into(), sku);
            self.change_listing(&place, |listing| listing.abandon(now));
            work.touch(&place.1, None);
        }
        Reply::Claimed { epoch: index }
    }

    pub(crate) fn renew(&mut self, now: Millis, channel: &str, epoch: u64, calls: u64) -> Reply {
        let Some(owner) = self.owner(channel, epoch) else { return Reply::Fenced };
        owner.renew(now);
        self.spend(now, channel, calls);
        Reply::Done
    }

    /// Whoever wants the channel may have it at once. What is in flight is left as without an outcome.
    pub(crate) fn give_back(&mut self, now: Millis, channel: &str, epoch: u64) -> Reply {
        let Some(owner) = self.owner(channel, epoch) else { return Reply::Fenced };
        owner.lease_until = now;
        owner.wanted_by = None;
        Reply::Done
    }

    pub(crate) fn pause(
        &mut self,
        now: Millis,
        channel: &str,
        why: String,
        for_ms: Option<Millis>,
    ) -> Reply {
        let Some(known) = self.data.channels.get_mut(channel) else { return unknown(channel) };
        let before = known.paused.as_ref();
        // What a person asked for is not ended by a node.
        if for_ms.is_some() && before.is_some_and(|paused| paused.until.is_none()) {
            return Reply::Done;
        }
        let why = shortened(why);
        let since = before.map_or(now, |paused| paused.since);
        let until = for_ms.map(|time| now + time.min(limits::PAUSE_MS_MAX));
        known.paused = Some(Paused { since, until, why });
        Reply::Done
    }

    pub(crate) fn resume(&mut self, channel: &str, owner: bool) -> Reply {
        let Some(known) = self.data.channels.get_mut(channel) else { return unknown(channel) };
        let stays = |paused: &mut Paused| owner && paused.until.is_none();
        known.paused.take_if(|paused| !stays(paused));
        Reply::Done
    }

    /// Somebody wants to see a push: of one SKU at once, of all as the rate allows, some with each command. What failed
    /// is tried again.
    pub(crate) fn push_now(
        &mut self,
        work: &mut Work,
        channel: &str,
        sku: Option<String>,
    ) -> Reply {
        let listed = self.counts(channel).listed > 0;
        let Some(known) = self.data.channels.get_mut(channel) else { return unknown(channel) };
        let found = if let Some(sku) = sku {
            self.push_anew(work, &(channel.into(), sku.into()), Class::Sale)
        } else if listed {
            known.pushes_all = Some(0);
            self.push_on(work)
        } else {
            false
        };
        if found { Reply::Done } else { Reply::Rejected("nothing of this is listed there".into()) }
    }

    /// Goes on with a push of all that a channel lists; whether there was one. Whole buckets, so a few more SKUs than
    /// so many.
    pub(crate) fn push_on(&mut self, work: &mut Work) -> bool {
        let begun = self.data.channels.iter().find_map(|(n, known)| Some((n, known.pushes_all?)));
        let Some((channel, mut bucket)) = begun.map(|(name, bucket)| (name.clone(), bucket)) else {
            return false;
        };
        let (mut count, mut listed, mut more) = (0, Vec::new(), true);
        while count < limits::WALKED_SKUS_MAX && more {
            let skus = self.data.stock.keys_in(bucket);
            more = skus.is_some();
            for sku in skus.into_iter().flatten() {
                count += 1;
                let stock = self.data.stock.get(sku);
                if stock.is_some_and(|stock| stock.listings.contains_key(channel.as_str())) {
                    listed.push(sku.clone());
                }
            }
            bucket += 1;
        }
        if let Some(known) = self.data.channels.get_mut(&channel) {
            known.pushes_all = more.then_some(bucket);
        }
        for sku in listed {
            self.push_anew(work, &(channel.as_str().into(), sku), Class::Adjustment);
        }
        true
    }

    /// Has a listing read, and pushed to if it shows something else than it should; whether there is one.
    fn push_anew(&mut self, work: &mut Work, place: &Place, class: Class) -> bool {
        let listed = self.change_listing(place, |listing| {
            listing.fault = None;
            listing.shadow = None;
            listing.unsure |= listing.in_flight.is_none();
        });
        if listed.is_some() {
            work.touch(&place.1, Some(Stale::new(class, work.stamp.now)));
        }
        listed.is_some()
    }

    /// Calls were made to a channel.
    pub(crate) fn spend(&mut self, now: Millis, channel: &str, calls: u64) {
        if let Some(known) = self.data.channels.get_mut(channel).filter(|_| calls > 0) {
            known.spend(calls, now);
        }
    }

    /// Who pushes to a channel, if under this epoch still.
    pub(crate) fn owner(&mut self, channel: &str, epoch: u64) -> Option<&mut Owner> {
        let owner = self.data.channels.get_mut(channel)?.owner.as_mut();
        owner.filter(|owner| owner.epoch == epoch)
    }

    /// All that a channel lists as changed is in that it listed at a time: sales that plain sets erased are, if
    /// they were listed by then.
    pub(crate) fn looked(&mut self, now: Millis, channel: &str, began: Millis) {
        let heard = began.saturating_sub(limits::LISTED_WITHIN_MS);
        let waiting = self.wakes().of(channel).take(limits::LOOKED_AT_ONCE_MAX);
        let waiting: Vec<Id> = waiting.map(|(_, sku)| sku.into()).collect();
        for sku in waiting {
            self.change_listing(&(channel.into(), sku), |listing| listing.hear(heard, now));
        }
    }
}

/// A reason, as much of it as is kept.
pub(crate) fn shortened(mut reason: String) -> String {
    while reason.len() > limits::REASON_LEN_MAX {
        reason.pop();
    }
    reason
}

fn unknown(channel: &str) -> Reply {
    Reply::Rejected(alloc::format!("there is no channel {channel:?}"))
}
