//! Allocation: how much of what is available each channel may show.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::data::Data;
use crate::ledger::Level;
use crate::listing::Listing;
use crate::{Few, Id};

/// How SKUs are allocated; the first policy whose glob matches counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// SKUs that it is for: `*` stands for any characters, `?` for one.
    pub sku: String,
    /// How.
    pub mode: Mode,
    /// Weights by channel, of `split`. A channel that is not named gets nothing; if none is named,
    /// all weigh the same.
    pub weights: BTreeMap<String, u32>,
    /// Units held back, by channel.
    pub buffers: BTreeMap<String, i64>,
}

/// The two ways of allocating.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Every channel shows all that is available, less its buffer. They can oversell each other for
    /// as long as a push takes.
    #[default]
    Shared,
    /// Each channel shows its share, less its buffer, and no raise is sent that could oversell.
    Split,
}

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
    /// raised no further than what others may still sell allows.
    pub desired: i64,
}

/// The policy of a SKU.
#[must_use]
pub fn policy_of<'a>(policies: &'a [Policy], sku: &str) -> Option<&'a Policy> {
    policies.iter().find(|policy| matches(&policy.sku, sku))
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
        self.allocation_of(channel, sku, &listing)
    }

    /// The same of a listing that is known.
    pub(crate) fn allocation_of(
        &self,
        channel: &str,
        sku: &str,
        listing: &Listing,
    ) -> Option<Allocation> {
        let location = self.location_of(channel)?;
        let policy = policy_of(&self.policies, sku);
        let is_split = policy.is_some_and(|policy| policy.mode == Mode::Split);
        let allocated = match policy {
            Some(policy) if is_split => self.share_of(sku, location, policy, channel),
            _ => self.available(sku, location).max(0),
        };
        let buffer = policy.and_then(|p| p.buffers.get(channel)).copied().unwrap_or(0).max(0);
        let available_to_sell = (allocated - buffer).max(0);
        let unheard = listing.unheard(self.now);
        let target = (available_to_sell - unheard).max(0);
        let shown = listing.shown.unwrap_or(0).max(0);
        let desired = if is_split && target > shown {
            let doubtful = unheard + listing.unresolved(self.now);
            let room = self.room(sku, channel, location);
            // All that is shown may be sold before a plain set, and what that sets after it.
            let erased = if self.compares(channel) { 0 } else { shown };
            let most = |room: i64| room.saturating_sub(doubtful).saturating_sub(erased);
            room.map_or(shown, |room| most(room).clamp(shown, target))
        } else {
            target
        };
        Some(Allocation { allocated, buffer, available_to_sell, desired })
    }

    /// What a listing may show at the most, so that together with whatever may still be sold elsewhere
    /// of each SKU that it takes out of stock it stays within what is available of that; `None` while
    /// nobody can know.
    fn room(&self, sku: &str, channel: &str, location: &str) -> Option<i64> {
        let mut room = i64::MAX;
        for (part, units) in self.kits.parts(sku) {
            let mut left = self.available(&part, location);
            for holder in core::iter::once(part.clone()).chain(self.kits.containing(&part)) {
                let each = self.kits.parts(&holder);
                let each = each.iter().find(|(sku, _)| *sku == part).map_or(0, |(_, units)| *units);
                let exposed = self.exposed(&holder, location, (sku, channel))?;
                left = left.saturating_sub(exposed.saturating_mul(each));
            }
            room = room.min(left.div_euclid(units));
        }
        Some(room)
    }

    /// What may still be sold of a SKU through its listings at a location, but for one listing.
    fn exposed(&self, sku: &str, location: &str, except: (&str, &str)) -> Option<i64> {
        let Some(stock) = self.stock.get(sku) else { return Some(0) };
        let mut sum: i64 = 0;
        for (name, listing) in &stock.listings {
            if (sku, name.as_str()) == except || self.location_of(name) != Some(location) {
                continue;
            }
            let exposure = listing.get().exposure(self.now);
            // What a channel shows that is not pushed to nobody decides here: its share is held back.
            let pushed = self.channels.get(name.as_str()).is_some_and(|c| c.definition.pushes);
            let exposure = if pushed {
                exposure?
            } else {
                let policy = policy_of(&self.policies, sku);
                let held = policy.map_or(0, |p| self.share_of(sku, location, p, name));
                exposure.unwrap_or(0).max(held)
            };
            sum = sum.saturating_add(exposure);
        }
        Some(sum)
    }

    fn share_of(&self, sku: &str, location: &str, policy: &Policy, channel: &str) -> i64 {
        let listings = self.stock.get(sku).map(|stock| &stock.listings);
        let names = listings.into_iter().flat_map(Few::keys).map(Id::as_str);
        let sharing: Vec<&str> =
            names.filter(|name| self.location_of(name) == Some(location)).collect();
        share(self.available(sku, location), &sharing, policy, channel)
    }

    fn compares(&self, channel: &str) -> bool {
        self.channels.get(channel).is_some_and(|known| known.definition.compares)
    }

    fn location_of(&self, channel: &str) -> Option<&str> {
        Some(self.channels.get(channel)?.definition.location.as_str())
    }
}

/// A channel's share by weight. Largest remainder, so that the shares add up to what is available;
/// equal remainders go by the channel's name.
fn share(available: i64, sharing: &[&str], policy: &Policy, channel: &str) -> i64 {
    let weight = |name: &str| -> i128 {
        let all_equal = policy.weights.is_empty();
        let named = policy.weights.get(name).copied().unwrap_or_default();
        if all_equal { 1 } else { i128::from(named) }
    };
    let total: i128 = sharing.iter().map(|name| weight(name)).sum();
    if total == 0 || available <= 0 {
        return 0;
    }
    let units = i128::from(available);
    let whole = |name: &str| units * weight(name) / total;
    let left_over = units - sharing.iter().map(|name| whole(name)).sum::<i128>();
    let mut by_remainder: Vec<(i128, &str)> =
        sharing.iter().map(|name| (-(units * weight(name) % total), *name)).collect();
    by_remainder.sort_unstable();
    let rank = by_remainder.iter().position(|(_, name)| *name == channel);
    let one_more = rank.and_then(|rank| i128::try_from(rank).ok()).is_some_and(|r| r < left_over);
    i64::try_from(whole(channel) + i128::from(one_more)).unwrap_or(0)
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
    use alloc::string::ToString;

    #[test]
    fn shares_add_up_and_buffers_come_off() {
        // Rounding could hand out a unit twice, or none of it.
        let names: Vec<String> = ["amazon", "shopify", "ebay", "walmart"].map(String::from).into();
        let weights = [40, 30, 20, 10];
        let policy = Policy {
            sku: "*".to_string(),
            mode: Mode::Split,
            weights: names.iter().cloned().zip(weights).collect(),
            buffers: BTreeMap::new(),
        };
        let sharing: Vec<&str> = names.iter().map(String::as_str).collect();
        let shares =
            |units| names.iter().map(|n| share(units, &sharing, &policy, n)).collect::<Vec<_>>();
        assert_eq!(shares(100), [40, 30, 20, 10]);
        for units in 0..500 {
            assert_eq!(shares(units).iter().sum::<i64>(), units, "{units} units");
        }
        assert_eq!(shares(-5), [0, 0, 0, 0]);
    }

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
