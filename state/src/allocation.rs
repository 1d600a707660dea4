//! Allocation: how much of what is available each channel may show.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::Millis;
use crate::channel::Channel;
use crate::ledger::{Level, Stock};

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

/// One channel's allocation of a SKU; `None` if it has no listing there.
#[must_use]
pub fn allocate(
    stock: &Stock,
    channels: &BTreeMap<String, Channel>,
    policy: Option<&Policy>,
    channel: &str,
    now: Millis,
) -> Option<Allocation> {
    let listing = stock.listings.get(channel)?;
    let location = channels.get(channel).map(|c| c.definition.location.as_str())?;
    let available = stock.levels.get(location).map_or(0, Level::available);
    let sharing: Vec<&String> = stock
        .listings
        .keys()
        .filter(|name| channels.get(*name).is_some_and(|c| c.definition.location == location))
        .collect();
    let mode = policy.map_or(Mode::Shared, |policy| policy.mode);
    let allocated = match policy {
        Some(policy) if mode == Mode::Split => share(available, &sharing, policy, channel),
        _ => available.max(0),
    };
    let buffer = policy.and_then(|p| p.buffers.get(channel)).copied().unwrap_or(0).max(0);
    let available_to_sell = (allocated - buffer).max(0);
    let unheard = listing.unheard(now);
    let target = (available_to_sell - unheard).max(0);
    let shown = listing.shown.unwrap_or(0).max(0);
    let desired = if mode == Mode::Split && target > shown {
        let others = sharing.iter().filter(|name| name.as_str() != channel);
        // What a channel shows that is not pushed to nobody decides here: its share is held back for it.
        let pushed = |name: &String| channels.get(name).is_some_and(|c| c.definition.pushes);
        let held = |name: &String| policy.map_or(0, |p| share(available, &sharing, p, name));
        let exposure = |name: &String| match stock.listings.get(name)?.exposure(now) {
            exposure if pushed(name) => exposure,
            exposure => Some(exposure.unwrap_or(0).max(held(name))),
        };
        let exposed: Option<i64> = others.map(|name| exposure(name)).sum();
        let doubtful = unheard + listing.unresolved(now);
        exposed.map_or(shown, |exposed| (available - exposed - doubtful).clamp(shown, target))
    } else {
        target
    };
    Some(Allocation { allocated, buffer, available_to_sell, desired })
}

/// A channel's share by weight. Largest remainder, so that the shares add up to what is available;
/// equal remainders go by the channel's name.
fn share(available: i64, sharing: &[&String], policy: &Policy, channel: &str) -> i64 {
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
        sharing.iter().map(|name| (-(units * weight(name) % total), name.as_str())).collect();
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
        let sharing: Vec<&String> = names.iter().collect();
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
