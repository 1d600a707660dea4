//! How large quotas should be, and whether one is large enough: questions that change nothing.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{DEMAND_PARTS, Grant, Holder, Judged, Size};
use crate::NodeId;
use crate::command::Hold;
use crate::data::Data;
use crate::kits::Parts;
use crate::limits::{
    GRANTS_MAX, QUANTITY_MAX, RESERVATION_LINES_MAX, RESERVATION_TTL_MAX_MS,
    RESERVATION_TTL_MIN_MS, RESERVATIONS_MAX,
};
use crate::machine::State;
use crate::reply::Lacking;
use crate::reservation::Line;

impl Data {
    /// What should lie in the quotas of a SKU at a location, by holder: shares of what may lie there by what
    /// each spent of late, by largest remainder.
    fn targets(&self, sku: &str, location: &str, holders: &[Holder]) -> Vec<(Holder, i64)> {
        let total = i128::from(self.may_be_in_escrow(sku, location));
        let quotas = self.escrow.skus.get(sku).and_then(|shares| shares.quotas.get(location));
        let weight = |holder: &Holder| {
            let quota = quotas.and_then(|quotas| quotas.get(holder));
            // One that spent nothing yet may begin to.
            i128::from(quota.map_or(0, |quota| quota.demand(self.now)).saturating_add(DEMAND_PARTS))
        };
        let weights: Vec<(Holder, i128)> =
            holders.iter().map(|holder| (*holder, weight(holder))).collect();
        let sum = weights.iter().map(|(_, weight)| weight).sum::<i128>().max(1);
        let share = |(holder, weight): &(Holder, i128)| {
            (*holder, total * weight / sum, total * weight % sum)
        };
        let mut shares: Vec<_> = weights.iter().map(share).collect();
        shares.sort_by_key(|(holder, _, rest)| (core::cmp::Reverse(*rest), *holder));
        let mut over = total - shares.iter().map(|(_, whole, _)| whole).sum::<i128>();
        let mut targets = Vec::new();
        for (holder, whole, _) in shares {
            let more = i128::from(over > 0);
            over -= more;
            targets.push((holder, i64::try_from(whole + more).unwrap_or(0)));
        }
        targets
    }

    /// Units of a SKU at a location that quotas may come to, all of them together.
    pub(super) fn may_be_in_escrow(&self, sku: &str, location: &str) -> i64 {
        let size = self.escrow.skus.get(sku).map_or_else(Size::default, |shares| shares.size);
        let level = self.stock.get(sku).and_then(|stock| stock.levels.get(location));
        // What is missing elsewhere is not there to be set apart.
        let there = level.map_or(0, |level| (level.available() + level.escrowed).max(0));
        match size {
            Size::Units(units) => units.min(there),
            Size::Percent(percent) => {
                there / 100 * i64::from(percent) + there % 100 * i64::from(percent) / 100
            }
        }
    }

    /// Units that quotas of a SKU at a location may grow by: no more than there are.
    pub(super) fn grantable(&self, sku: &str, location: &str) -> i64 {
        let level = self.stock.get(sku).and_then(|stock| stock.levels.get(location));
        level.map_or(0, |level| {
            (self.may_be_in_escrow(sku, location) - level.escrowed).min(level.available())
        })
    }

    /// Who of these nodes may be granted quotas.
    fn holders(&self, nodes: &[NodeId]) -> Vec<Holder> {
        nodes.iter().filter_map(|node| self.escrow.current(*node)).collect()
    }

    /// What should be granted now to these nodes: to each that has half of its share or less. A bounded number.
    #[must_use]
    pub fn grants_due(&self, nodes: &[NodeId]) -> Vec<Grant> {
        let holders = self.holders(nodes);
        let mut due = Vec::new();
        for (sku, shares) in self.escrow.skus.iter().filter(|(_, shares)| shares.size.is_on()) {
            let levels = self.stock.get(sku.as_str()).map(|stock| &stock.levels);
            for (location, _) in levels.into_iter().flatten() {
                let quotas = shares.quotas.get(location.as_str());
                if self.grantable(sku, location) < 1 {
                    continue;
                }
                for (holder, target) in self.targets(sku, location, &holders) {
                    let left = quotas.and_then(|quotas| quotas.get(&holder)).map_or(0, |q| q.left);
                    if target > 0 && left <= target / 2 {
                        let (sku, location) = (sku.to_string(), location.to_string());
                        due.push(Grant { holder, sku, location, units: target - left });
                    }
                }
                if due.len() >= GRANTS_MAX {
                    due.truncate(GRANTS_MAX);
                    return due;
                }
            }
        }
        due
    }

    /// What of a holder's quotas is more than it needs beside the others of these nodes, by SKU and location:
    /// what lies beyond its share and a half. `taken` is what it spent that is not known here yet.
    #[must_use]
    pub fn idle(
        &self,
        holder: Holder,
        nodes: &[NodeId],
        taken: impl Fn(&str, &str) -> i64,
    ) -> Vec<(String, String, i64)> {
        let holders = self.holders(nodes);
        let mut idle = Vec::new();
        for (sku, shares) in self.escrow.skus.iter() {
            for (location, quotas) in &shares.quotas {
                let quota = quotas.get(&holder).filter(|quota| quota.left > 0);
                let left = quota.map_or(0, |quota| quota.left - taken(sku, location));
                if left < 1 {
                    continue;
                }
                let targets = self.targets(sku, location, &holders);
                let target = targets.iter().find(|(known, _)| *known == holder);
                let target = target.map_or(0, |(_, target)| *target);
                if left > target + target / 2 {
                    idle.push((sku.to_string(), location.to_string(), left - target));
                }
            }
        }
        idle
    }

    /// What a holder may spend at a location by what this replica knows, for all SKUs together.
    #[must_use]
    pub fn quota_of(&self, holder: Holder) -> i64 {
        let shares = self.escrow.skus.iter().flat_map(|(_, shares)| shares.quotas.values());
        shares.filter_map(|quotas| quotas.get(&holder)).map(|quota| quota.left).sum()
    }
}

impl State {
    /// Whether a holder can grant a request from its quotas: all of its lines, each at one location. `taken`
    /// is what it spent that this replica does not know yet.
    #[must_use]
    pub fn judge_in_escrow(
        &self,
        holder: Holder,
        asked: &Hold,
        taken: impl Fn(&str, &str) -> i64,
    ) -> Judged {
        let escrow = &self.data.escrow;
        let open = escrow.holders.get(&holder).is_some_and(|known| !known.closed);
        let channel = asked.channel.as_ref();
        let sound = (1..=RESERVATION_LINES_MAX).contains(&asked.lines.len())
            && (RESERVATION_TTL_MIN_MS..=RESERVATION_TTL_MAX_MS).contains(&asked.ttl_ms)
            && asked.lines.iter().all(|line| (1..=QUANTITY_MAX).contains(&line.quantity))
            && channel.is_none_or(|channel| self.data.channels.contains_key(channel))
            && self.data.reservations.entries().len() < RESERVATIONS_MAX;
        let on = |sku: &str| {
            let is_kit = self.data.kits.components(sku).is_some();
            !is_kit && escrow.skus.get(sku).is_some_and(|shares| shares.size.is_on())
        };
        // What is wrong with it is said by those who are asked otherwise.
        if !open || !sound || !asked.lines.iter().all(|line| on(&line.sku)) {
            return Judged::Elsewhere;
        }
        let mut here: BTreeMap<(&str, String), i64> = BTreeMap::new();
        let (mut lines, mut lacking) = (Vec::new(), Vec::new());
        for line in &asked.lines {
            let parts = Parts::from([(line.sku.clone(), 1)]);
            let mut most: Option<(i64, String)> = None;
            for location in self.locations(line, asked.channel.as_deref(), &parts) {
                let place = (line.sku.as_str(), location);
                let left = escrow.left(holder, place.0, &place.1)
                    - taken(place.0, &place.1)
                    - here.get(&place).copied().unwrap_or(0);
                if most.as_ref().is_none_or(|(most, _)| left > *most) {
                    most = Some((left, place.1));
                }
                if left >= line.quantity {
                    break;
                }
            }
            let (left, location) = most.unwrap_or_default();
            if left >= line.quantity {
                *here.entry((&line.sku, location.clone())).or_default() += line.quantity;
                lines.push(Line {
                    sku: line.sku.clone(),
                    location,
                    parts: Parts::new(),
                    held: line.quantity,
                    confirmed: 0,
                });
            } else {
                lacking.push(Lacking {
                    sku: line.sku.clone(),
                    location: Some(location).filter(|location| !location.is_empty()),
                    requested: line.quantity,
                    available: left.max(0),
                });
            }
        }
        if lacking.is_empty() { Judged::Granted(lines) } else { Judged::Beyond(lacking) }
    }
}
