//! Shares that are kept: what each channel was allotted of a split SKU, and has not sold.
//!
//! A share is agreed on: [`Listing::allocated`](crate::listing::Listing::allocated). The shares of a SKU at one
//! location add up to what is available there, after every command. What a channel does itself (a sale, a
//! cancellation, a hold for it) comes off its own share, so a sale costs no push elsewhere. Any other change is spread
//! so that shares come nearer to their targets, and nothing is moved that need not be. Shares are brought to their
//! targets by a receipt, when one is low while others have too much, on request, and now and then.
//!
//! A move takes nothing from a channel that may have been sold there already. That a share was moved raises nothing by
//! itself: a raise waits until whoever gave it shows less, and has confirmed it ([`listing`](crate::listing)).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::allocation::{Exposures, Mode, Policy, policy_of};
use crate::booking::Booking;
use crate::data::Data;
use crate::ledger::Kind;
use crate::machine::{State, Work};
use crate::policy::{LOW_DEFAULT_PPM, Ppm, WHOLE_PPM, Weights};
use crate::{Id, Millis, Reply, limits};

/// Shares are in proportion to billionths where they are bounded.
const SCALE: i128 = 1_000_000_000;

/// One channel's part in sharing a SKU at a location.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    pub(crate) channel: Id,
    /// What its target is in proportion to.
    pub(crate) weight: i128,
    /// Its share.
    pub(crate) allocated: i64,
    /// How much of it may have been sold already: no move takes that.
    kept: i64,
    velocity: u64,
    is_leaving: bool,
    is_told: bool,
}

/// What of a command changes shares otherwise than all alike.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// What channels did themselves: how much more is available of a SKU because of one.
    own: BTreeMap<(Id, Id), i64>,
    /// SKUs whose shares come to their targets.
    pub(crate) full: BTreeSet<Id>,
}

/// A walk over all SKUs, so many with each command, after a change that concerns all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walk {
    /// Where it goes on: the bucket of the map of all SKUs.
    pub bucket: usize,
    /// Agreed time of its beginning.
    pub began: Millis,
}

impl Data {
    /// Who shares a SKU, by location; what each weighs by this policy, and nothing without one.
    pub(crate) fn sharing(&self, sku: &str, policy: Option<&Policy>) -> BTreeMap<&str, Vec<Part>> {
        let mut places: BTreeMap<&str, Vec<Part>> = BTreeMap::new();
        let listings = self.stock.get(sku).map(|stock| &stock.listings);
        for (name, listing) in listings.into_iter().flatten() {
            let Some(channel) = self.channels.get(name.as_str()) else { continue };
            let listing = listing.get();
            let leaving = channel.leaving;
            let doubtful = listing.unheard(self.now).saturating_add(listing.unresolved(self.now));
            let is_abandoned = leaving.is_some_and(|leaving| leaving.is_abandoned);
            places.entry(&channel.definition.location).or_default().push(Part {
                channel: name.clone(),
                weight: 0,
                allocated: listing.allocated,
                kept: if is_abandoned { 0 } else { doubtful },
                velocity: listing.pace.velocity,
                is_leaving: listing.leaves || leaving.is_some(),
                is_told: channel.definition.pushes,
            });
        }
        if let Some(policy) = policy {
            for parts in places.values_mut() {
                weigh(policy, parts);
            }
        }
        places
    }

    /// What a channel's share should be of what is available of a SKU now.
    #[must_use]
    pub fn target(&self, channel: &str, sku: &str) -> Option<i64> {
        let policy = policy_of(&self.policies, sku)?;
        let location = &self.channels.get(channel)?.definition.location;
        let places = self.sharing(sku, Some(policy));
        let parts = places.get(location.as_str())?;
        let at = parts.iter().position(|part| part.channel == channel)?;
        targets(self.available(sku, location), parts).get(at).copied()
    }
}

impl State {
    /// Notes what a line of the ledger means for shares.
    pub(crate) fn note_share(&self, work: &mut Work, booking: &Booking<'_>) {
        let Booking { kind, channel, location, .. } = *booking;
        let sign = match kind {
            Kind::Sale | Kind::Hold | Kind::Grant => -1,
            Kind::Cancellation | Kind::Return | Kind::Release | Kind::Surrender => 1,
            Kind::Receipt => {
                for (sku, _) in booking.moves() {
                    work.shares.full.insert(sku.into());
                }
                return;
            }
            _ => return,
        };
        let here = |name: &&str| {
            let channel = self.data.channels.get(*name);
            channel.is_some_and(|channel| channel.definition.location == location)
        };
        let Some(channel) = channel.filter(here) else { return };
        let kit = (!booking.parts.is_empty()).then_some((booking.sku, booking.quantity));
        for (sku, units) in booking.moves().chain(kit) {
            let own = work.shares.own.entry((sku.into(), channel.into())).or_default();
            *own = own.saturating_add(sign * units);
        }
    }

    /// Makes the shares of a SKU add up to what is available of it.
    pub(crate) fn share_out(&mut self, work: &mut Work, sku: &str) {
        let policy = policy_of(&self.data.policies, sku).filter(|p| p.mode == Mode::Split);
        // Where it was never split, nobody has a share.
        if policy.is_none() && self.data.walk.is_none() {
            return;
        }
        let low = policy.map_or(0, |policy| policy.low_share.unwrap_or(LOW_DEFAULT_PPM));
        let full = work.shares.full.contains(sku);
        let mut changes = Vec::new();
        for (location, mut parts) in self.data.sharing(sku, policy) {
            let before: Vec<i64> = parts.iter().map(|part| part.allocated).collect();
            for part in &mut parts {
                let own = work.shares.own.remove(&(sku.into(), part.channel.clone()));
                part.allocated = part.allocated.saturating_add(own.unwrap_or(0)).max(0);
            }
            settle(self.data.available(sku, location), &mut parts, full, low);
            let both = parts.into_iter().zip(before);
            changes.extend(both.filter(|(part, before)| part.allocated != *before));
        }
        for (part, _) in changes {
            let place = (part.channel, sku.into());
            self.change_listing(&place, |listing| listing.allocated = part.allocated);
        }
    }

    /// Before a command looks at shares that a walk may not have come to.
    pub(crate) fn share_out_early(&mut self, work: &mut Work, skus: &[String]) {
        if self.data.walk.is_none() {
            return;
        }
        for sku in skus.iter().take(limits::INTENT_SKUS_MAX) {
            for related in self.data.kits.related(sku) {
                self.share_out(work, &related);
            }
        }
    }

    /// Brings shares to their targets: of these SKUs, or of all, a part with each command.
    pub(crate) fn rebalance(&mut self, work: &mut Work, skus: Option<Vec<String>>) -> Reply {
        let Some(skus) = skus else {
            self.data.rebalanced = work.stamp.now;
            self.walk(work);
            return Reply::Done;
        };
        if skus.len() > limits::WALKED_SKUS_MAX {
            return Reply::Rejected("too many SKUs in one request".into());
        }
        if let Some(unknown) = skus.iter().find(|sku| self.data.stock.get(sku.as_str()).is_none()) {
            return Reply::Rejected(alloc::format!("there is no SKU {unknown:?}"));
        }
        for sku in skus {
            work.shares.full.insert(sku.as_str().into());
            work.touch(&sku, None);
        }
        Reply::Done
    }

    /// Begins to look at all SKUs again, and does the first part at once.
    pub(crate) fn walk(&mut self, work: &mut Work) {
        self.data.walk = Some(Walk { bucket: 0, began: work.stamp.now });
        self.walk_on(work);
    }

    /// Looks at some more SKUs, if not all were looked at; whether there were more. Whole buckets, so a few more than
    /// so many.
    pub(crate) fn walk_on(&mut self, work: &mut Work) -> bool {
        let Some(mut walk) = self.data.walk else { return false };
        let mut count = 0;
        while count < limits::WALKED_SKUS_MAX {
            let Some(skus) = self.data.stock.keys_in(walk.bucket) else {
                work.walked = true;
                return true;
            };
            for sku in skus {
                count += 1;
                work.shares.full.insert(sku.clone());
                work.touch(sku, None);
            }
            walk.bucket += 1;
        }
        self.data.walk = Some(walk);
        true
    }

    /// What a SKU may be oversold by as things stand, kept with it.
    pub(crate) fn note_overlap(&mut self, sku: &str, exposures: &mut Exposures) {
        let Some(stock) = self.data.stock.get(sku) else { return };
        let before = stock.overlap;
        // Of a kit it is that of its parts.
        let kit = self.data.kits.components(sku).is_some();
        let now = if kit { 0 } else { self.data.overlap_of(sku, exposures) };
        if before == now {
            return;
        }
        self.stock_mut(sku).overlap = now;
        self.overlaps.change(before, now);
    }
}

/// What of all SKUs may be oversold as things stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overlaps {
    /// SKUs of which more may still be sold than there is.
    pub skus: u64,
    /// Units of them.
    pub units: i64,
}

impl Overlaps {
    pub(crate) fn change(&mut self, before: i64, now: i64) {
        self.skus = self.skus + u64::from(now > 0) - u64::from(before > 0);
        self.units = self.units.saturating_add(now - before);
    }
}

/// Says what the parts weigh.
fn weigh(policy: &Policy, parts: &mut [Part]) {
    match &policy.weights {
        Weights::Fixed(named) => {
            for part in parts.iter_mut().filter(|part| !part.is_leaving) {
                let weight = named.get(part.channel.as_str()).copied().unwrap_or_default();
                part.weight = if named.is_empty() { 1 } else { weight.into() };
            }
        }
        Weights::Velocity => {
            let mut selling: Vec<&mut Part> =
                parts.iter_mut().filter(|part| !part.is_leaving).collect();
            let velocities: Vec<u64> = selling.iter().map(|part| part.velocity).collect();
            let bounds = (policy.floor.unwrap_or(0), policy.cap.unwrap_or(WHOLE_PPM));
            let weights = by_velocity(&velocities, bounds);
            selling.iter_mut().zip(weights).for_each(|(part, weight)| part.weight = weight);
        }
    }
    // Nobody could tell a channel that is not pushed to that it may sell less.
    for part in parts.iter_mut().filter(|part| !part.is_told && part.weight > 0) {
        part.kept = part.allocated;
    }
}

/// Parts of the whole in proportion to velocities, none below the floor or above the cap. Where the bounds leave no
/// choice, or nothing sells, all are the same.
fn by_velocity(velocities: &[u64], (floor, cap): (Ppm, Ppm)) -> Vec<i128> {
    let scaled = |part: Ppm| i128::from(part) * (SCALE / i128::from(WHOLE_PPM));
    let (floor, cap) = (scaled(floor), scaled(cap));
    let count = i128::try_from(velocities.len()).unwrap_or(i128::MAX);
    let nothing_sells = velocities.iter().all(|velocity| *velocity == 0);
    if nothing_sells || floor * count >= SCALE || cap * count <= SCALE {
        return alloc::vec![1; velocities.len()];
    }
    let mut fixed: Vec<Option<i128>> = alloc::vec![None; velocities.len()];
    loop {
        let rest = SCALE - fixed.iter().flatten().sum::<i128>();
        let free = || velocities.iter().zip(&fixed).filter(|(_, part)| part.is_none());
        let sum: i128 = free().map(|(velocity, _)| i128::from(*velocity)).sum();
        let open = i128::try_from(free().count()).unwrap_or(1).max(1);
        let part = |velocity: u64| {
            if sum == 0 { rest / open } else { i128::from(velocity) * rest / sum }
        };
        let parts: Vec<i128> = velocities
            .iter()
            .zip(&fixed)
            .map(|(velocity, fixed)| fixed.unwrap_or_else(|| part(*velocity)))
            .collect();
        let below: i128 = parts.iter().map(|part| (floor - part).max(0)).sum();
        let above: i128 = parts.iter().map(|part| (part - cap).max(0)).sum();
        if below == 0 && above == 0 {
            return parts;
        }
        // The side that is further out is out for good; the other may come back in.
        for (part, fixed) in parts.iter().zip(&mut fixed) {
            if below >= above && *part < floor {
                *fixed = Some(floor);
            } else if above > below && *part > cap {
                *fixed = Some(cap);
            }
        }
    }
}

fn targets(available: i64, parts: &[Part]) -> Vec<i64> {
    let weights: Vec<i128> = parts.iter().map(|part| part.weight).collect();
    portion(available.max(0), &weights)
}

/// Units in proportion to weights. Largest remainder, so that they add up; of equal remainders the first counts.
/// Nobody gets more than its weight where the weights add up to at least as much.
pub(crate) fn portion(units: i64, weights: &[i128]) -> Vec<i64> {
    let total: i128 = weights.iter().sum();
    if total <= 0 || units <= 0 {
        return alloc::vec![0; weights.len()];
    }
    let units = i128::from(units);
    let mut parts: Vec<i128> = weights.iter().map(|weight| units * weight / total).collect();
    let left_over = units - parts.iter().sum::<i128>();
    let remainder = |n: usize| weights.get(n).map_or(0, |weight| -(units * weight % total));
    let mut by_remainder: Vec<(i128, usize)> =
        (0..weights.len()).map(|n| (remainder(n), n)).collect();
    by_remainder.sort_unstable();
    for (_, n) in by_remainder.iter().take(usize::try_from(left_over).unwrap_or(0)) {
        if let Some(part) = parts.get_mut(*n) {
            *part += 1;
        }
    }
    parts.into_iter().map(|part| i64::try_from(part).unwrap_or(i64::MAX)).collect()
}

/// Makes shares add up to what is available: by what is least, or all the way to their targets if that is asked for
/// or one of them is low.
fn settle(available: i64, parts: &mut [Part], full: bool, low: Ppm) {
    let targets = targets(available, parts);
    let total: i64 = targets.iter().sum();
    let held: i64 = parts.iter().map(|part| part.allocated).fold(0, i64::saturating_add);
    let spare = |part: &Part, target: i64| (part.allocated - target.max(part.kept)).max(0);
    let with = || parts.iter().zip(targets.iter().copied());
    let movable: Vec<i64> = with().map(|(part, target)| spare(part, target)).collect();
    let all_movable: i64 = movable.iter().sum();
    let is_low = |(part, target): (&Part, i64)| {
        i128::from(part.allocated) * i128::from(WHOLE_PPM) < i128::from(target) * i128::from(low)
    };
    let full = full || all_movable > 0 && with().any(is_low);
    let more = total - held;
    // What is taken from those with too much, first what surely was not sold there.
    let taken = if full { all_movable.max(-more) } else { (-more).max(0) };
    let first = taken.min(all_movable);
    take(parts, &movable, first);
    let excess: Vec<i64> =
        parts.iter().zip(&targets).map(|(part, target)| (part.allocated - target).max(0)).collect();
    take(parts, &excess, taken - first);
    let missing: Vec<i128> = parts
        .iter()
        .zip(&targets)
        .map(|(part, target)| i128::from((target - part.allocated).max(0)))
        .collect();
    let given = portion(more + taken, &missing);
    parts.iter_mut().zip(given).for_each(|(part, units)| part.allocated += units);
}

fn take(parts: &mut [Part], from: &[i64], units: i64) {
    let from: Vec<i128> = from.iter().map(|units| i128::from(*units)).collect();
    let taken = portion(units, &from);
    parts.iter_mut().zip(taken).for_each(|(part, units)| part.allocated -= units);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shares_add_up_to_the_unit() {
        // Rounding could hand out a unit twice, or none of it.
        assert_eq!(portion(100, &[40, 30, 20, 10]), [40, 30, 20, 10]);
        for units in 0..500 {
            assert_eq!(
                portion(units, &[40, 30, 20, 10]).iter().sum::<i64>(),
                units,
                "{units} units"
            );
        }
        assert_eq!(portion(-5, &[40, 30]), [0, 0]);
        assert_eq!(portion(7, &[0, 0]), [0, 0]);
        assert_eq!(portion(i64::MAX, &[i128::from(u32::MAX), 1]).iter().sum::<i64>(), i64::MAX);
    }

    #[test]
    fn parts_by_velocity_keep_their_bounds() {
        // A channel that sold nothing yet would never get anything to sell; one that sold it all would get all.
        let part = |velocities: &[u64], floor: Ppm, cap: Ppm| {
            let parts = by_velocity(velocities, (floor, cap));
            let all: i128 = parts.iter().sum();
            parts.iter().map(|part| part * 1_000 / all).collect::<Vec<_>>()
        };
        assert_eq!(part(&[30, 10], 0, WHOLE_PPM), [750, 250]);
        assert_eq!(part(&[30, 10, 0], 100_000, WHOLE_PPM), [675, 225, 100]);
        assert_eq!(part(&[98, 1, 1], 50_000, 600_000), [600, 200, 200]);
        assert_eq!(part(&[98, 2, 0], 50_000, 600_000), [600, 350, 50]);
        assert_eq!(part(&[0, 0], 0, WHOLE_PPM), [500, 500]);
        // Bounds that leave no choice.
        assert_eq!(part(&[9, 1, 1], 400_000, WHOLE_PPM), [333, 333, 333]);
        assert_eq!(part(&[9, 1, 1], 0, 200_000), [333, 333, 333]);
        assert_eq!(part(&[u64::MAX, u64::MAX], 0, WHOLE_PPM), [500, 500]);
        assert!(by_velocity(&[], (0, WHOLE_PPM)).is_empty());
    }

    fn part() -> impl Strategy<Value = Part> {
        let parts = (0..5i128, 0..40i64, 0..10i64);
        parts.prop_map(|(weight, allocated, kept)| Part {
            weight,
            allocated,
            kept,
            ..Part::default()
        })
    }

    proptest! {
        #[test]
        fn what_must_not_move_does_not(
            parts in proptest::collection::vec(part(), 1..6),
            available in -5..120i64,
            (full, low) in (any::<bool>(), 0..=WHOLE_PPM),
        ) {
            // A move for nothing is two pushes; one that takes what was sold leaves the channel with a share below zero.
            let mut after = parts.clone();
            settle(available, &mut after, full, low);
            let anybody = parts.iter().any(|part| part.weight > 0);
            let total = if anybody { available.max(0) } else { 0 };
            let sum = |parts: &[Part]| parts.iter().map(|part| part.allocated).sum::<i64>();
            prop_assert_eq!(sum(&after), total);
            let targets = targets(available, &parts);
            let down = |(a, b): (&Part, &Part)| (a.allocated - b.allocated).max(0);
            let up = |(a, b): (&Part, &Part)| (b.allocated - a.allocated).max(0);
            let taken: i64 = parts.iter().zip(&after).map(down).sum();
            let given: i64 = parts.iter().zip(&after).map(up).sum();
            let is_low = |(part, target): (&Part, &i64)| {
                i128::from(part.allocated) * 1_000_000 < i128::from(*target) * i128::from(low)
            };
            if !full && !parts.iter().zip(&targets).any(is_low) {
                // Only what the change itself takes or gives moves.
                let more = total - sum(&parts);
                prop_assert_eq!((taken, given), ((-more).max(0), more.max(0)));
            }
            for ((before, after), target) in parts.iter().zip(&after).zip(&targets) {
                prop_assert!(after.allocated >= 0);
                // Nobody is taken beyond its target, or given beyond it.
                let (low, high) = (before.allocated.min(*target), before.allocated.max(*target));
                prop_assert!((low..=high).contains(&after.allocated), "{before:?} to {after:?} of {target}");
                if total >= sum(&parts) {
                    prop_assert!(after.allocated >= before.allocated.min(before.kept));
                }
            }
            // And a second time moves nothing.
            let mut again = after.clone();
            settle(available, &mut again, full, low);
            let shares = |parts: &[Part]| parts.iter().map(|part| part.allocated).collect::<Vec<_>>();
            prop_assert_eq!(shares(&again), shares(&after));
        }
    }
}
