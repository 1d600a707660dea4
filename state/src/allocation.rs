//! Allocation: how much of what is available each channel may show.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::Id;
use crate::channel::Channel;
use crate::data::Data;
use crate::ledger::Level;
use crate::listing::Listing;
pub use crate::policy::{Mode, Policy, policy_of};
use crate::shares::portion;

/// One channel's part of a SKU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    /// What is allocated to it.
    pub allocated: i64,
    /// What is held back of that.
    pub buffer: i64,
    /// What it may be told: allocated less buffer, not below zero.
    pub available_to_sell: i64,
    /// What it should show now: the same, less units already sold there and not yet heard of, and
    /// raised no further than what others may still sell allows; of a kit no more than its components leave.
    pub desired: i64,
    /// What it should show if nothing stood against a raise.
    pub wanted: i64,
    /// Up to where a raise may go, where one is wanted of a split SKU.
    pub room: Room,
}

/// Up to where a raise may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Room {
    /// No raise is wanted, or nothing stands against it.
    #[default]
    Open,
    /// Another listing was never read, so nobody knows what it may sell: no raise.
    Unknown,
    /// To so many units.
    To(i64),
    /// A kit shows more than what it is made of leaves, where that is listed too: it must show so much and no more.
    Left(i64),
}

/// What may still be sold through a listing that takes of the same stock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// The SKU that is listed: the same, or a kit that holds it.
    pub sku: Id,
    /// Where.
    pub channel: Id,
    /// Units of the stock that one unit of it takes.
    pub each: i64,
    /// Units of it that may still be sold; `None` while nobody can know.
    pub exposure: Option<i64>,
}

/// What all listings that take a SKU out of stock at a location may still sell of it, and what kits give up to it:
/// looked up once, for questions between which nothing of it changes. Each listing asked anew would be the square of
/// them.
#[derive(Debug, Default)]
pub struct Exposures {
    /// By SKU and location.
    sums: BTreeMap<(Id, Id), Sum>,
    /// By component and location: units of a kit on a channel.
    given: BTreeMap<(Id, Id), BTreeMap<(Id, Id), i64>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    units: i128,
    /// Listings of which nobody can know.
    unknown: usize,
}

impl Sum {
    /// Widened, so that a sum less one of its terms is exact.
    fn of(exposure: Option<i64>, each: i64) -> Self {
        let units = i128::from(exposure.unwrap_or(0)) * i128::from(each);
        Self { units, unknown: usize::from(exposure.is_none()) }
    }

    const fn add(&mut self, other: Self) {
        self.units += other.units;
        self.unknown += other.unknown;
    }
}

/// What a listing takes of stock once it shows no more than its share.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    /// What it shows, and what is missing there.
    units: i64,
    /// What it shows, where that is of a kit and may be lowered.
    of_kit: i64,
}

impl Data {
    /// What may still be sold of a SKU at a location: of a kit as often as its scarcest component allows.
    /// Below zero it is a shortfall.
    #[must_use]
    pub fn available(&self, sku: &str, location: &str) -> i64 {
        let own = |sku: &str| {
            let level = self.stock.get(sku).and_then(|stock| stock.levels.get(location));
            level.map_or(0, Level::available)
        };
        if self.kits.components(sku).is_none() {
            return own(sku);
        }
        let parts = self.kits.parts(sku);
        parts.iter().map(|(part, units)| own(part).div_euclid(*units)).min().unwrap_or(0)
    }

    /// One channel's allocation of a SKU; `None` if it has no listing there.
    #[must_use]
    pub fn allocation(&self, channel: &str, sku: &str) -> Option<Allocation> {
        let listing = self.stock.get(sku)?.listings.get(channel)?.get();
        self.allocation_of(channel, sku, &listing, &mut Exposures::default())
    }

    /// The same of a listing that is known, one of several that are asked for together.
    #[must_use]
    pub fn allocation_of(
        &self,
        channel: &str,
        sku: &str,
        listing: &Listing,
        exposures: &mut Exposures,
    ) -> Option<Allocation> {
        let (mut allocation, is_split) = self.share_of(channel, sku, listing)?;
        let known = self.channels.get(channel)?;
        let location = known.definition.location.as_str();
        let wanted = allocation.wanted;
        let shown = listing.shown.unwrap_or(0).max(0);
        let less = if is_split { self.gives_way((sku, channel), location, exposures) } else { 0 };
        if less > 0 {
            let left = (listing.expected().unwrap_or(0).clamp(0, wanted) - less).max(0);
            (allocation.desired, allocation.room) = (left, Room::Left(left));
        } else if is_split && wanted > shown {
            let unheard = listing.unheard(self.now);
            let doubtful = unheard + listing.unresolved(self.now);
            // All that is shown may be sold before a plain set, and what that sets after it.
            let erased = if known.definition.compares { 0 } else { shown };
            (allocation.desired, allocation.room) = match self.room(sku, known, listing, exposures)
            {
                None => (shown, Room::Unknown),
                Some(room) => {
                    let room = room.saturating_sub(doubtful).saturating_sub(erased);
                    (room.clamp(shown, wanted), Room::To(room))
                }
            };
        }
        Some(allocation)
    }

    /// A channel's allocation as it is before anybody asks what others show, and whether the SKU is split.
    fn share_of(&self, channel: &str, sku: &str, listing: &Listing) -> Option<(Allocation, bool)> {
        let known = self.channels.get(channel)?;
        let policy = policy_of(&self.policies, sku);
        let is_split = policy.is_some_and(|policy| policy.mode == Mode::Split);
        let all = || self.available(sku, &known.definition.location).max(0);
        let allocated = if is_split { listing.allocated } else { all() };
        let auto = listing.pace.buffer;
        let (buffer, may_show) =
            policy.map_or((0, allocated), |policy| policy.shown_of(channel, allocated, auto));
        let leaves = listing.leaves || known.leaving.is_some();
        let available_to_sell = if leaves { 0 } else { may_show };
        let wanted = (available_to_sell - listing.unheard(self.now)).max(0);
        let room = Room::Open;
        let share =
            Allocation { allocated, buffer, available_to_sell, desired: wanted, wanted, room };
        Some((share, is_split))
    }

    /// How many units of a kit a channel must give up. A fact that lowers stock lowers every listing to its own
    /// share, and shares of kits overlap with those of what they are made of: where both together show more than is
    /// there, the kits give way.
    fn gives_way(&self, of: (&str, &str), location: &str, exposures: &mut Exposures) -> i64 {
        let over = |part: &str| {
            let policy = policy_of(&self.policies, part);
            self.stock.get(part).is_some_and(|stock| stock.overlap > 0)
                && policy.is_some_and(|policy| policy.mode == Mode::Split)
        };
        let parts = self.kits.recipe(of.0).into_iter().filter(|(part, _)| over(part));
        let of: (Id, Id) = (of.0.into(), of.1.into());
        let gives = parts.map(|(part, _)| {
            let place = (part.as_str().into(), location.into());
            let of_part = exposures.given.entry(place);
            let of_part = of_part.or_insert_with(|| self.given_to(&part, location));
            of_part.get(&of).copied().unwrap_or(0)
        });
        gives.max().unwrap_or(0)
    }

    /// What each gives up to one component, by SKU and channel: what is shown beyond what there is of it is spread
    /// over all that show kits of it, in proportion to that.
    fn given_to(&self, part: &str, location: &str) -> BTreeMap<(Id, Id), i64> {
        let others = self.others(part, location, None);
        let held: Vec<Held> = others
            .iter()
            .map(|other| self.held(&other.channel, &other.sku).unwrap_or_default())
            .collect();
        let with = || others.iter().zip(&held);
        let all = |(other, held): (&Other, &Held)| held.units.saturating_mul(other.each);
        let over = with().map(all).fold(0, i64::saturating_add);
        let over = over.saturating_sub(self.available(part, location).max(0));
        let kits =
            |(other, held): (&Other, &Held)| i128::from(held.of_kit) * i128::from(other.each);
        let kits: Vec<i128> = with().map(kits).collect();
        let most = i64::try_from(kits.iter().sum::<i128>()).unwrap_or(i64::MAX);
        let mut owed = 0_i64;
        let mut given = BTreeMap::new();
        for ((other, held), part) in with().zip(portion(over.min(most), &kits)) {
            owed = owed.saturating_add(part);
            // One of a kit may take several: what is given too much here nobody else is asked for.
            let units = owed.max(0).unsigned_abs().div_ceil(other.each.unsigned_abs().max(1));
            let units = i64::try_from(units).unwrap_or(i64::MAX).min(held.of_kit);
            given.insert((other.sku.clone(), other.channel.clone()), units);
            owed = owed.saturating_sub(units.saturating_mul(other.each));
        }
        given
    }

    fn held(&self, channel: &str, sku: &str) -> Option<Held> {
        let listing = self.stock.get(sku)?.listings.get(channel)?.get();
        let (share, is_split) = self.share_of(channel, sku, &listing)?;
        let shows = listing.expected().unwrap_or(0).clamp(0, share.wanted);
        let pushes = self.channels.get(channel)?.definition.pushes;
        // What a channel shows that is not pushed to nobody decides here: its share is held back.
        let least = if pushes { 0 } else { listing.allocated };
        let gives = pushes && is_split && self.kits.components(sku).is_some();
        Some(Held {
            units: shows.max(least) + listing.unheard(self.now),
            of_kit: if gives { shows } else { 0 },
        })
    }

    /// What a listing may show at the most, so that together with whatever may still be sold elsewhere
    /// of each SKU that it takes out of stock it stays within what is available of that; `None` while
    /// nobody can know.
    fn room(
        &self,
        sku: &str,
        channel: &Channel,
        listing: &Listing,
        exposures: &mut Exposures,
    ) -> Option<i64> {
        let location = channel.definition.location.as_str();
        let is_counted = channel.leaving.is_none_or(|leaving| !leaving.is_abandoned);
        let own = if is_counted { self.exposure_of(channel, listing) } else { Some(0) };
        let mut room = i64::MAX;
        for (part, units) in self.kits.parts(sku) {
            let all = self.exposed(&part, location, exposures);
            let own = Sum::of(own, units);
            if all.unknown > own.unknown {
                return None;
            }
            let left = i128::from(self.available(&part, location)) - (all.units - own.units);
            let left = left.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
            room = room.min(i64::try_from(left).unwrap_or(0).div_euclid(units));
        }
        Some(room)
    }

    /// What may still be sold of a SKU at a location, through all listings that take it out of stock.
    fn exposed(&self, part: &str, location: &str, exposures: &mut Exposures) -> Sum {
        let place = (part.into(), location.into());
        *exposures.sums.entry(place).or_insert_with(|| {
            let mut sum = Sum::default();
            for other in self.others(part, location, None) {
                sum.add(Sum::of(other.exposure, other.each));
            }
            sum
        })
    }

    /// The most that may still be sold from a listing. What a channel shows that is not pushed to nobody decides here:
    /// its share is held back.
    fn exposure_of(&self, channel: &Channel, listing: &Listing) -> Option<i64> {
        let exposure = listing.exposure(self.now);
        if channel.definition.pushes {
            exposure
        } else {
            Some(exposure.unwrap_or(0).max(listing.allocated))
        }
    }

    /// The listings at a location that take a SKU out of stock, but for one.
    #[must_use]
    pub fn others(&self, part: &str, location: &str, except: Option<(&str, &str)>) -> Vec<Other> {
        let mut others = Vec::new();
        for holder in core::iter::once(part.into()).chain(self.kits.containing(part)) {
            let each = self.kits.parts(&holder);
            let each = each.iter().find(|(sku, _)| *sku == part).map_or(0, |(_, units)| *units);
            let listings = self.stock.get(holder.as_str()).map(|stock| &stock.listings);
            for (name, listing) in listings.into_iter().flatten() {
                let Some(known) = self.channels.get(name.as_str()) else { continue };
                let is_meant = Some((holder.as_str(), name.as_str())) != except;
                let is_abandoned = known.leaving.is_some_and(|leaving| leaving.is_abandoned);
                if !is_meant || is_abandoned || known.definition.location != location {
                    continue;
                }
                let exposure = self.exposure_of(known, &listing.get());
                others.push(Other {
                    sku: holder.as_str().into(),
                    channel: name.clone(),
                    each,
                    exposure,
                });
            }
        }
        others
    }

    /// Units of a SKU that may be sold as things stand and are not there: by how much what may still be sold
    /// everywhere is above what is available, location by location. Where a SKU is shared that is the price.
    #[must_use]
    pub fn overlap(&self, sku: &str) -> i64 {
        self.overlap_of(sku, &mut Exposures::default())
    }

    pub(crate) fn overlap_of(&self, sku: &str, exposures: &mut Exposures) -> i64 {
        let listings = core::iter::once(sku.into()).chain(self.kits.containing(sku));
        let mut places: Vec<&str> = Vec::new();
        for holder in listings {
            let stock = self.stock.get(holder.as_str());
            let names = stock.into_iter().flat_map(|stock| stock.listings.keys());
            places.extend(names.filter_map(|name| self.location_of(name)));
        }
        places.sort_unstable();
        places.dedup();
        let over = |location: &str| {
            let exposed = self.exposed(sku, location, exposures).units;
            let over = exposed - i128::from(self.available(sku, location).max(0));
            i64::try_from(over.max(0)).unwrap_or(i64::MAX)
        };
        places.into_iter().map(over).fold(0, i64::saturating_add)
    }

    fn location_of(&self, channel: &str) -> Option<&str> {
        Some(self.channels.get(channel)?.definition.location.as_str())
    }
}

/// Whether a glob of `*` and `?` matches all of a text. Takes time in proportion to the product of
/// their lengths at the most, whatever the pattern, and no memory.
#[must_use]
pub fn matches(glob: &str, text: &str) -> bool {
    let (mut glob, mut text) = (glob.chars(), text.chars());
    // Behind the last `*`, and how much of the text it has swallowed.
    let mut star = None;
    loop {
        let (mut rest_of_glob, mut rest_of_text) = (glob.clone(), text.clone());
        match (rest_of_glob.next(), rest_of_text.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                star = Some((rest_of_glob.clone(), text.clone()));
                glob = rest_of_glob;
            }
            (Some(wanted), Some(found)) if wanted == '?' || wanted == found => {
                (glob, text) = (rest_of_glob, rest_of_text);
            }
            _ => {
                let Some((behind, swallowed)) = &mut star else { return false };
                if swallowed.next().is_none() {
                    return false;
                }
                (glob, text) = (behind.clone(), swallowed.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_texts() {
        // A prefix that counts as a match would give one SKU another's policy.
        for (glob, text, expected) in [
            ("*", "", true),
            ("*", "TEE-M", true),
            ("TEE-*", "TEE-M", true),
            ("TEE-*", "XTEE-M", false),
            ("TEE-?", "TEE-XL", false),
            ("*-M", "TEE-M-M", true),
            ("", "a", false),
            ("a*b*c", "aXXbYYc", true),
            ("a*b*c", "aXXbYY", false),
        ] {
            assert_eq!(matches(glob, text), expected, "{glob} {text}");
        }
    }
}
