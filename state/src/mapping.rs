//! What a SKU is: its listings, its components, its limits.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::command::{ListingSpec, SkuSettings};
use crate::dues::Times;
use crate::kits::Parts;
use crate::limits;
use crate::listing::Listing;
use crate::machine::{State, Work};
use crate::velocity::Pace;
use crate::{Id, Packed, Reply, Stamp};

impl State {
    /// Says what a SKU is. All or nothing.
    pub(crate) fn map(&mut self, work: &mut Work, sku: &str, settings: SkuSettings) -> Reply {
        let abandon = settings.abandon;
        if let Some(listings) = &settings.listings
            && let Err(why) = self.may_map(sku, listings, abandon)
        {
            return Reply::Rejected(why);
        }
        if settings.backorder.is_some_and(|units| !(0..=limits::QUANTITY_MAX).contains(&units)) {
            return Reply::Rejected("backorder: between 0 and 1000000000".into());
        }
        // What was a part of it before hangs together with it no more.
        for related in self.data.kits.related(sku) {
            work.touch(&related, None);
        }
        if let Some(size) = settings.escrow
            && let Err(why) = self.check_escrow(sku, size, settings.components.as_ref())
        {
            return Reply::Rejected(why);
        }
        if let Some(components) = settings.components
            && let Err(why) = self.compose(sku, components)
        {
            return Reply::Rejected(why);
        }
        let stock = self.stock_mut(sku);
        stock.backorder = settings.backorder.unwrap_or(stock.backorder);
        stock.low_at = settings.low_at.or(stock.low_at).filter(|mark| *mark >= 0);
        if let Some(size) = settings.escrow {
            self.size_escrow(sku, size);
        }
        if let Some(listings) = settings.listings {
            self.map_all(work, sku, listings, abandon);
        }
        work.touch(sku, None);
        Reply::Done
    }

    /// Says what a kit is made of.
    fn compose(&mut self, kit: &str, components: Parts) -> Result<(), String> {
        for (n, (sku, quantity)) in components.iter().enumerate() {
            if self.data.stock.get(sku.as_str()).is_none() {
                return Err(alloc::format!(
                    "components[{n}]: there is no SKU {sku:?}; a receipt creates it"
                ));
            }
            if !(1..=limits::KIT_UNITS_MAX).contains(quantity) {
                return Err(alloc::format!("components[{n}]: a quantity between 1 and 10000"));
            }
            if components.iter().take(n).any(|(known, _)| known == sku) {
                return Err(alloc::format!("components[{n}]: {sku:?} is named twice"));
            }
        }
        let own = self.data.stock.get(kit).is_some_and(|stock| !stock.is_empty());
        let escrow = &self.data.escrow.skus;
        if escrow.get(kit).is_some() && !components.is_empty() {
            return Err(alloc::format!("{kit:?} has escrow; end that first"));
        }
        if own && !components.is_empty() {
            return Err(alloc::format!("{kit:?} has stock of its own; take that out first"));
        }
        self.data.kits.put(kit, components)
    }

    /// Says which listings a SKU has: those, and no others.
    fn map_all(
        &mut self,
        work: &mut Work,
        sku: &str,
        listings: BTreeMap<String, ListingSpec>,
        abandon: bool,
    ) {
        let gone = self.stock_mut(sku).listings.keys();
        let gone = gone.filter(|name| !listings.contains_key(name.as_str()));
        for channel in gone.cloned().collect::<Vec<Id>>() {
            self.unlist(work.stamp.index, &(channel, sku.into()), abandon);
            // Its share goes to the others, whatever it still shows.
            work.shares.full.insert(sku.into());
        }
        for (channel, spec) in listings {
            self.map_one(work, sku, channel, spec);
        }
    }

    /// Adds listings to SKUs, or changes them; what is not named stays.
    pub(crate) fn list(
        &mut self,
        work: &mut Work,
        rows: Vec<(String, String, ListingSpec)>,
    ) -> Reply {
        if rows.len() > limits::LISTING_ROWS_MAX {
            return Reply::Rejected("too many listings in one request".into());
        }
        for (sku, channel, spec) in &rows {
            if let Err(why) = self.may_list(sku, channel, spec, false) {
                return Reply::Rejected(why);
            }
        }
        for (sku, channel, spec) in rows {
            self.map_one(work, &sku, channel, spec);
            work.touch(&sku, None);
        }
        Reply::Done
    }

    /// Whether a SKU may have these listings and no others.
    fn may_map(
        &self,
        sku: &str,
        listings: &BTreeMap<String, ListingSpec>,
        abandon: bool,
    ) -> Result<(), String> {
        for (channel, spec) in listings {
            self.may_list(sku, channel, spec, abandon)?;
        }
        let known = self.data.stock.get(sku).map(|stock| &stock.listings);
        let gone = known.into_iter().flatten().map(|(channel, _)| channel.as_str());
        let shown = gone
            .filter(|channel| !abandon && !listings.contains_key(*channel))
            .find_map(|channel| self.is_still_shown(channel, sku));
        shown.map_or(Ok(()), Err)
    }

    /// Whether a SKU may have a listing. At a channel that is being removed it may go on having the one that it has.
    fn may_list(
        &self,
        sku: &str,
        channel: &str,
        spec: &ListingSpec,
        abandon: bool,
    ) -> Result<(), String> {
        let Some(known) = self.data.channels.get(channel) else {
            return Err(alloc::format!("there is no channel {channel:?}"));
        };
        let listing = self.data.stock.get(sku).and_then(|stock| stock.listings.get(channel));
        let listing = listing.map(Packed::get);
        if known.leaving.is_some() && listing.as_ref().is_none_or(|known| known.spec != *spec) {
            return Err(alloc::format!("there is no channel {channel:?}: it is being removed"));
        }
        let Some(former) = listing.filter(|known| known.spec.id != spec.id) else {
            return Ok(());
        };
        // What was never read is a slip of the pen more often than something to sell.
        let sells = former.shown.is_some() && former.is_open();
        let id = &former.spec.id;
        if sells && !abandon && self.data.names.is_of(channel, id, sku) {
            return Err(alloc::format!(
                "{channel:?} may still show {sku:?} as {id:?}: take that listing out first, or give it up with \
                 abandon=true"
            ));
        }
        Ok(())
    }

    fn map_one(&mut self, work: &mut Work, sku: &str, channel: String, spec: ListingSpec) {
        let place = (Id::from(channel), Id::from(sku));
        let listings = &mut self.stock_mut(sku).listings;
        if !listings.contains_key(&place.0) {
            listings.entry(place.0.clone());
            self.dues.change(&place, Times::default(), Times::of(&Listing::default()));
        }
        let mut old = ListingSpec::default();
        let ids: Vec<String> = spec.ids().map(ToString::to_string).collect();
        let Stamp { now, index } = work.stamp;
        self.change_listing(&place, |listing| {
            if listing.spec.id == spec.id && listing.spec != spec {
                // Addressed in another way, it may still sell what it did, and what is on its way may come.
                listing.abandon(now);
                listing.unsure = true;
                old = core::mem::replace(&mut listing.spec, spec);
            } else if listing.spec != spec {
                // Another listing id is another listing: nothing is known of it.
                let (allocated, known) = (listing.allocated, listing.pace);
                let since = if known.since == 0 { now } else { known.since };
                let new = Listing {
                    spec,
                    allocated,
                    pace: Pace { since, ..known },
                    read_after: index,
                    ..Listing::default()
                };
                old = core::mem::replace(listing, new).spec;
            }
            (listing.fault, listing.leaves) = (None, false);
        });
        old.ids().for_each(|id| self.data.names.unset(&(place.0.clone(), id.into()), sku));
        for id in ids {
            let listed = (place.0.clone(), id.into());
            let before = self.data.names.names().get(&listed).map(|name| name.sku.clone());
            self.data.names.set(listed, sku);
            if let Some(before) = before.filter(|before| *before != sku) {
                self.pass_on(work, &(place.0.clone(), before));
            }
        }
        work.touch(sku, None);
    }
}
