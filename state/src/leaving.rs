//! Removing a channel, or one listing. It may not vanish while it still shows something: what it shows can be sold.
//!
//! Its share goes to the others and its listings are lowered to nothing; what may still be sold from it goes on
//! counting. A listing goes once it is known that nothing can be sold from it any more, and the channel with its last
//! one. Whoever says that what it shows does not matter need not wait: then it counts no more from that command on.
//!
//! Where a channel's own id has come to stand for another SKU, what is sold there is sold of that one: the listing
//! that had the id before goes at once, and nothing is lowered.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::channel::Leaving;
use crate::command::ListingSpec;
use crate::dues::Times;
use crate::listing::{Listing, Place};
use crate::machine::{State, Work};
use crate::{Id, Packed, Reply};

impl State {
    /// Begins to remove a channel.
    pub(crate) fn remove_channel(&mut self, work: &mut Work, name: &str, abandon: bool) -> Reply {
        let Some(channel) = self.data.channels.get(name) else {
            return Reply::Rejected(alloc::format!("there is no channel {name:?}"));
        };
        let now = work.stamp.now;
        let since = channel.leaving.map_or(now, |leaving| leaving.since);
        let is_abandoned = abandon || channel.leaving.is_some_and(|leaving| leaving.is_abandoned);
        let open = self.counts(name).open;
        if open > 0 && !is_abandoned && !channel.definition.is_told() {
            return Reply::Rejected(alloc::format!(
                "{name:?} may still show something of {open} SKUs, and nothing is pushed to it: end its listings \
                 there, then repeat this with abandon=true"
            ));
        }
        if let Some(channel) = self.data.channels.get_mut(name) {
            channel.leaving = Some(Leaving { since, is_abandoned });
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

    /// Why a listing cannot be taken out of its SKU's, if it cannot: what it may still show would count no more, or
    /// for ever.
    pub(crate) fn is_still_shown(&self, channel: &str, sku: &str) -> Option<String> {
        let known = self.data.channels.get(channel)?;
        let listing = self.data.stock.get(sku)?.listings.get(channel)?.get();
        let leaves = listing.leaves || known.leaving.is_some();
        if leaves || known.definition.is_told() || !listing.is_open() {
            return None;
        }
        let is_its_own = self.data.names.is_of(channel, &listing.spec.id, sku);
        is_its_own.then(|| {
            alloc::format!(
                "{channel:?} may still show {sku:?}, and nothing is pushed to it: end the listing there, then repeat \
                 this with abandon=true"
            )
        })
    }

    /// Takes a listing out of its SKU's: it goes once nothing can be sold from it any more, or at once where that
    /// does not matter.
    pub(crate) fn unlist(&mut self, index: u64, place: &Place, abandon: bool) {
        let (channel, sku) = place;
        let id = self.change_listing(place, |listing| {
            // Units may have been put back on sale that were not heard of: it is read before it may go.
            (listing.leaves, listing.unsure, listing.fault) = (true, true, None);
            listing.read_after = index;
            listing.spec.id.clone()
        });
        let is_its_own = id.is_some_and(|id| self.data.names.is_of(channel, &id, sku));
        if abandon || !is_its_own {
            self.drop_listing(place);
            self.forget_if_gone(channel);
        }
    }

    /// An id of a channel's stands for another SKU by now: the listing that had it, and leaves, is gone.
    pub(crate) fn pass_on(&mut self, work: &mut Work, place: &Place) {
        let stock = self.data.stock.get(place.1.as_str());
        let listing = stock.and_then(|stock| stock.listings.get(&place.0)).map(Packed::get);
        if listing.is_some_and(|listing| listing.leaves) {
            self.unlist(work.stamp.index, place, false);
            work.touch(&place.1, None);
        }
    }

    /// Lets the listings go from which nothing can be sold any more, of those that leave.
    pub(crate) fn part_with(&mut self, sku: &str) {
        let leaving = |name: &str| self.data.channels.get(name)?.leaving;
        let of_channels = self.data.channels.values().any(|channel| channel.leaving.is_some());
        if self.dues.leaving == 0 && !of_channels {
            return;
        }
        let Some(stock) = self.data.stock.get(sku) else { return };
        let (mut gone, mut unread) = (Vec::new(), Vec::new());
        for (name, listing) in &stock.listings {
            let (leaving, listing) = (leaving(name), listing.get());
            let leaves = listing.leaves || leaving.is_some();
            let place = (name.clone(), Id::from(sku));
            if leaving.is_some_and(|known| known.is_abandoned) {
                gone.push(place);
            } else if leaves && !listing.is_open() {
                let list = if listing.inferred { &mut unread } else { &mut gone };
                list.push(place);
            }
        }
        for place in unread {
            self.change_listing(&place, |listing| listing.unsure = true);
        }
        for place in gone {
            self.drop_listing(&place);
            self.forget_if_gone(&place.0);
        }
    }

    /// Forgets a listing.
    pub(crate) fn drop_listing(&mut self, place: &Place) {
        let mut old = ListingSpec::default();
        self.change_listing(place, |listing| old = core::mem::take(listing).spec);
        let (channel, sku) = place;
        old.ids().for_each(|id| self.data.names.unset(&(channel.clone(), id.into()), sku));
        if self.stock_mut(sku).listings.remove(channel).is_some() {
            self.dues.change(place, Times::of(&Listing::default()), Times::default());
        }
    }

    pub(crate) fn forget_if_gone(&mut self, name: &str) {
        let leaving = self.data.channels.get(name).and_then(|channel| channel.leaving);
        if leaving.is_some() && self.counts(name).listed == 0 {
            self.data.channels.remove(name);
            let first = (name.to_string(), alloc::string::String::new());
            let orders = self.data.reloads.range(first..).take_while(|((of, _), _)| of == name);
            for place in orders.map(|(place, _)| place.clone()).collect::<Vec<_>>() {
                self.data.reloads.remove(&place);
            }
        }
    }
}
