//! Removing a channel. It may not vanish while it still shows something: what it shows can be sold.
//!
//! Its share goes to the others and its listings are lowered to nothing; what may still be sold from it goes on
//! counting. A listing goes once it is known that nothing can be sold from it any more, and the channel with its last
//! one. Whoever says that what it shows does not matter need not wait: then it counts no more from that command on.

use alloc::string::ToString;
use alloc::vec::Vec;

use crate::channel::Leaving;
use crate::command::ListingSpec;
use crate::listing::{Listing, Place};
use crate::machine::{State, Work};
use crate::{Id, Reply};

impl State {
    /// Begins to remove a channel.
    pub(crate) fn remove_channel(&mut self, work: &mut Work, name: &str, abandon: bool) -> Reply {
        let Some(channel) = self.data.channels.get(name) else {
            return Reply::Rejected(alloc::format!("there is no channel {name:?}"));
        };
        let now = work.stamp.now;
        let since = channel.leaving.map_or(now, |leaving| leaving.since);
        let is_abandoned = abandon || channel.leaving.is_some_and(|leaving| leaving.is_abandoned);
        let mut leaving = Leaving { since, left: 0, is_abandoned };
        // A channel that is not pushed to cannot be told to show nothing.
        let is_told = channel.definition.pushes && !channel.definition.shadow;
        let may_wait = is_told || is_abandoned;
        for (sku, stock) in self.data.stock.iter() {
            let Some(listing) = stock.listings.get(name) else { continue };
            leaving.left += 1;
            if !may_wait && !leaving.lets_go(&listing.get(), now) {
                return Reply::Rejected(alloc::format!(
                    "{name:?} may still show {sku:?} and others, and nothing is pushed to it: end its listings \
                     there, then repeat this with abandon=true"
                ));
            }
        }
        if let Some(channel) = self.data.channels.get_mut(name) {
            channel.leaving = Some(leaving);
        }
        self.walk(work);
        self.forget_if_gone(name);
        Reply::Done
    }

    /// A channel that is said to be there stays; why it cannot, if it cannot.
    pub(crate) fn stay(&mut self, work: &mut Work, name: &str) -> Option<&'static str> {
        let channel = self.data.channels.get_mut(name)?;
        let leaving = channel.leaving?;
        if leaving.is_abandoned {
            return Some("it is being removed; what it shows was given up already");
        }
        channel.leaving = None;
        self.walk(work);
        None
    }

    /// Lets the listings go from which nothing can be sold any more, of channels that leave.
    pub(crate) fn part_with(&mut self, sku: &str) {
        let leaves = |name: &str| self.data.channels.get(name)?.leaving;
        if !self.data.channels.values().any(|channel| channel.leaving.is_some()) {
            return;
        }
        let Some(stock) = self.data.stock.get(sku) else { return };
        let gone = stock.listings.iter().filter(|(name, listing)| {
            leaves(name).is_some_and(|leaving| leaving.lets_go(&listing.get(), self.data.now))
        });
        for channel in gone.map(|(name, _)| name.clone()).collect::<Vec<Id>>() {
            self.drop_listing(&(channel.clone(), sku.into()));
            self.forget_if_gone(&channel);
        }
    }

    /// Forgets a listing.
    pub(crate) fn drop_listing(&mut self, place: &Place) {
        let mut old = ListingSpec::default();
        self.change_listing(place, |listing| old = core::mem::take(listing).spec);
        let (channel, sku) = place;
        old.ids().for_each(|id| self.data.names.unset(&(channel.clone(), id.into()), sku));
        let known = self.stock_mut(sku).listings.remove(channel);
        let channel = self.data.channels.get_mut(channel.as_str());
        if let Some(leaving) = channel.and_then(|channel| channel.leaving.as_mut()) {
            leaving.left = leaving.left.saturating_sub(u64::from(known.is_some()));
        }
    }

    pub(crate) fn forget_if_gone(&mut self, name: &str) {
        let leaving = self.data.channels.get(name).and_then(|channel| channel.leaving);
        if leaving.is_some_and(|leaving| leaving.left == 0) {
            self.data.channels.remove(name);
            let first = (name.to_string(), alloc::string::String::new());
            let orders = self.data.reloads.range(first..).take_while(|((of, _), _)| of == name);
            for place in orders.map(|(place, _)| place.clone()).collect::<Vec<_>>() {
                self.data.reloads.remove(&place);
            }
        }
    }
}

impl Leaving {
    /// Whether a listing may go: nothing can be sold from it any more, or that does not matter.
    fn lets_go(self, listing: &Listing, now: crate::Millis) -> bool {
        let is_empty = listing.shown == Some(0) && listing.exposure(now) == Some(0);
        self.is_abandoned || is_empty && listing.in_flight.is_none() && !listing.unsure
    }
}
