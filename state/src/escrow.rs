//! Escrow: units set apart for a node, which it grants from by itself, also while nobody can be asked.
//!
//! A *quota* is granted here, from what is available; from then on only its holder spends it, and tells of it
//! afterwards as facts ([`told::Told`]), in the order of their serials. So a quota as any replica of the holder's
//! shows it, less what the holder told beyond the serial that this replica knows, is never more than what is
//! left of it; and that is all that the holder may spend. Nothing else takes from a quota: no time and no
//! timer, and an operator only by saying that the holder is destroyed.
//!
//! A holder is a node *and* the book that its disk keeps: a node that comes back with another disk does not
//! know what the former one spent, and gets quotas of its own.

mod destroyed;
mod size;
pub mod told;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::booking::Booking;
use crate::buckets::Buckets;
use crate::data::Data;
use crate::kits::Parts;
use crate::ledger::{Kind, Level, Refusal};
use crate::limits::{BOOKS_MAX, DEMAND_HALF_LIFE_MS, ESCROW_SKUS_MAX, GRANTS_MAX, QUANTITY_MAX};
use crate::machine::{State, Work};
use crate::reply::Lacking;
use crate::reservation::Line;
use crate::{Id, Millis, NodeId, Reply};

/// Demand is counted in parts of a unit, so that halving it does not lose it at once.
const DEMAND_PARTS: u64 = 16;

/// Who holds quotas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Holder {
    /// The node.
    pub node: NodeId,
    /// The book on its disk: drawn at random when the disk was new.
    pub book: u64,
}

/// What is known of a holder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Log index at which it was heard of first.
    pub opened: u64,
    /// The newest of what it told that counts.
    pub serial: u64,
    /// Said to be destroyed: it is granted nothing more.
    pub closed: bool,
}

/// How much of a SKU may lie in quotas, at each location.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Size {
    /// So many units; 0 is no escrow.
    Units(i64),
    /// So many of a hundred units of what is available or in quotas already.
    Percent(u8),
}

impl Default for Size {
    fn default() -> Self {
        Self::Units(0)
    }
}

impl Size {
    /// Whether there is any escrow.
    #[must_use]
    pub const fn is_on(self) -> bool {
        !matches!(self, Self::Units(0) | Self::Percent(0))
    }

    const fn is_possible(self) -> bool {
        match self {
            Self::Units(units) => units >= 0 && units <= QUANTITY_MAX,
            Self::Percent(percent) => percent <= 100,
        }
    }
}

/// What one holder has of a SKU at a location.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Units left of it.
    pub left: i64,
    /// Units spent of late, in parts of a unit, halved each [`DEMAND_HALF_LIFE_MS`].
    demand: u64,
    /// Agreed time at which `demand` was right.
    since: Millis,
}

impl Quota {
    fn demand(&self, now: Millis) -> u64 {
        let halvings = now.saturating_sub(self.since) / DEMAND_HALF_LIFE_MS;
        self.demand.checked_shr(u32::try_from(halvings).unwrap_or(u32::MAX)).unwrap_or(0)
    }

    fn ask(&mut self, units: i64, now: Millis) {
        let demand = self.demand(now);
        let halvings = now.saturating_sub(self.since) / DEMAND_HALF_LIFE_MS;
        let asked = u64::try_from(units).unwrap_or(0).saturating_mul(DEMAND_PARTS);
        self.since += halvings * DEMAND_HALF_LIFE_MS;
        self.demand = demand.saturating_add(asked);
    }
}

/// The quotas of one SKU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shares {
    /// How much may lie in them.
    pub size: Size,
    /// By location and holder.
    pub quotas: BTreeMap<Id, BTreeMap<Holder, Quota>>,
}

/// All quotas.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Escrow {
    /// By SKU.
    pub(crate) skus: Buckets<Id, Arc<Shares>>,
    /// Who was heard of.
    pub(crate) holders: BTreeMap<Holder, Standing>,
    /// Set while what closed holders had comes back, some with each command: the bucket of `skus` where that goes on.
    pub(crate) comes_back: Option<usize>,
}

/// Units that a holder shall have more of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Who.
    pub holder: Holder,
    /// Of what.
    pub sku: String,
    /// Where.
    pub location: String,
    /// How many: fewer are granted where no more are available, or allowed.
    pub units: i64,
}

/// What a holder's quotas come to for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    /// They hold all of it, here.
    Granted(Vec<Line>),
    /// It is about escrow, and there is too little of these here.
    Beyond(Vec<Lacking>),
    /// Quotas have nothing to say about it.
    Elsewhere,
}

impl Escrow {
    /// Quotas by SKU.
    #[must_use]
    pub const fn skus(&self) -> &Buckets<Id, Arc<Shares>> {
        &self.skus
    }

    /// Who was heard of.
    #[must_use]
    pub const fn holders(&self) -> &BTreeMap<Holder, Standing> {
        &self.holders
    }

    /// Whether something of a holder that is destroyed has still to come back.
    #[must_use]
    pub const fn is_coming_back(&self) -> bool {
        self.comes_back.is_some()
    }

    /// What a holder has left of a SKU at a location.
    #[must_use]
    pub fn left(&self, holder: Holder, sku: &str, location: &str) -> i64 {
        let of = |shares: &Arc<Shares>| Some(shares.quotas.get(location)?.get(&holder)?.left);
        self.skus.get(sku).and_then(of).unwrap_or(0)
    }

    /// The book of a node that is granted quotas: the newest that it opened.
    #[must_use]
    pub fn current(&self, node: NodeId) -> Option<Holder> {
        let books = Holder { node, book: 0 }..=Holder { node, book: u64::MAX };
        let open = self.holders.range(books).filter(|(_, standing)| !standing.closed);
        open.max_by_key(|(_, standing)| standing.opened).map(|(holder, _)| *holder)
    }

    fn quota_mut(&mut self, holder: Holder, sku: &str, location: &str) -> Option<&mut Quota> {
        let shares = Arc::make_mut(self.skus.get_mut(sku)?);
        shares.quotas.get_mut(location)?.get_mut(&holder)
    }

    /// Forgets quotas without units of holders that get no more, and SKUs that have no escrow any more.
    fn tidy(&mut self, sku: &str) {
        let Some(shares) = self.skus.get_mut(sku) else { return };
        let shares = Arc::make_mut(shares);
        let holders = &self.holders;
        let open = |holder: &Holder| holders.get(holder).is_some_and(|known| !known.closed);
        let on = shares.size.is_on();
        for quotas in shares.quotas.values_mut() {
            quotas.retain(|holder, quota| quota.left > 0 || (on && open(holder)));
        }
        shares.quotas.retain(|_, quotas| !quotas.is_empty());
        if !on && shares.quotas.is_empty() {
            self.skus.remove(sku);
        }
    }
}

impl State {
    /// Whether so much of a SKU may lie in quotas that is made of this, if that is said with it.
    pub(crate) fn check_escrow(
        &self,
        sku: &str,
        size: Size,
        components: Option<&Parts>,
    ) -> Result<(), String> {
        if !size.is_possible() {
            return Err("escrow: max between 0 and 1000000000, or percent up to 100".into());
        }
        let is_kit = match components {
            Some(components) => !components.is_empty(),
            None => self.data.kits.components(sku).is_some(),
        };
        if size.is_on() && is_kit {
            return Err(alloc::format!("escrow: {sku:?} is a kit, and has no stock of its own"));
        }
        let escrow = &self.data.escrow;
        if size.is_on() && escrow.skus.len() >= ESCROW_SKUS_MAX && escrow.skus.get(sku).is_none() {
            return Err(alloc::format!("escrow: {ESCROW_SKUS_MAX} SKUs have it already"));
        }
        Ok(())
    }

    /// Says how much of a SKU may lie in quotas.
    pub(crate) fn size_escrow(&mut self, sku: &str, size: Size) {
        let escrow = &mut self.data.escrow;
        Arc::make_mut(escrow.skus.entry(sku.into())).size = size;
        escrow.tidy(sku);
    }

    /// Grants quotas, as far as units are available and may lie in them.
    pub(crate) fn grant(&mut self, work: &mut Work, grants: Vec<Grant>) -> Reply {
        if grants.len() > GRANTS_MAX {
            return Reply::Rejected("too many quotas in one command".into());
        }
        for Grant { holder, sku, location, units } in grants {
            let open = self.data.escrow.holders.get(&holder).is_some_and(|known| !known.closed);
            if open {
                self.credit(work, holder, (&sku, &location), units, None);
            }
        }
        Reply::Done
    }

    /// Adds to a quota what is taken out of what is available, as far as it is there and may lie in quotas. What was
    /// held for a channel goes the way that it came, and leaves the shares as they were.
    fn credit(
        &mut self,
        work: &mut Work,
        holder: Holder,
        place: (&str, &str),
        units: i64,
        channel: Option<&str>,
    ) {
        let units = units.min(self.data.grantable(place.0, place.1));
        let what = (Kind::Grant, units);
        if units < 1 || self.move_quota(work, holder, place, what, channel).is_err() {
            return;
        }
        let now = work.stamp.now;
        let shares = Arc::make_mut(self.data.escrow.skus.entry(place.0.into()));
        let quotas = shares.quotas.entry(place.1.into()).or_default();
        let quota = quotas.entry(holder).or_insert(Quota { left: 0, demand: 0, since: now });
        quota.left += units;
    }

    /// Takes from a quota, as far as there is something left of it. What was taken is available again, or held for a
    /// channel by the line after it.
    fn debit(
        &mut self,
        work: &mut Work,
        holder: Holder,
        place: (&str, &str),
        units: i64,
        channel: Option<&str>,
    ) {
        let units = units.min(self.data.escrow.left(holder, place.0, place.1));
        let what = (Kind::Surrender, units);
        if units < 1 || self.move_quota(work, holder, place, what, channel).is_err() {
            return;
        }
        if let Some(quota) = self.data.escrow.quota_mut(holder, place.0, place.1) {
            quota.left -= units;
        }
    }

    fn move_quota(
        &mut self,
        work: &mut Work,
        holder: Holder,
        (sku, location): (&str, &str),
        (kind, quantity): (Kind, i64),
        channel: Option<&str>,
    ) -> Result<(), Refusal> {
        let booking = Booking {
            kind,
            sku,
            parts: &[],
            quantity,
            location,
            to_location: None,
            channel,
            cause: &alloc::format!("escrow/{}", holder.node),
            reference: None,
            reason: None,
            occurred: None,
            since: work.stamp.now,
        };
        self.book(work, &booking)
    }

    /// Notes that a holder was heard of. The oldest of those that are closed make room.
    fn hear_of(&mut self, work: &Work, holder: Holder) -> Standing {
        let Escrow { holders, comes_back, .. } = &mut self.data.escrow;
        // Not one whose quotas have still to come back.
        let settled = comes_back.is_none();
        if settled && !holders.contains_key(&holder) && holders.len() >= BOOKS_MAX {
            let oldest = holders.iter().min_by_key(|(_, known)| (!known.closed, known.opened));
            if let Some(oldest) = oldest.map(|(holder, _)| *holder) {
                holders.remove(&oldest);
            }
        }
        let opened = work.stamp.index;
        *holders.entry(holder).or_insert(Standing { opened, serial: 0, closed: false })
    }
}

/// What lies in quotas is what the level says.
pub(crate) fn adds_up(data: &Data) -> Result<(), String> {
    for (sku, stock) in data.stock.iter() {
        let shares = data.escrow.skus.get(sku.as_str());
        for (location, level) in &stock.levels {
            let quotas = shares.and_then(|shares| shares.quotas.get(location.as_str()));
            let quotas = quotas.into_iter().flat_map(BTreeMap::values);
            let mut sum = 0;
            for Quota { left, .. } in quotas {
                if *left < 0 {
                    return Err(alloc::format!("{sku} at {location}: a quota of {left}"));
                }
                sum += left;
            }
            let Level { escrowed, .. } = level;
            if sum != *escrowed {
                return Err(alloc::format!(
                    "{sku} at {location}: {escrowed} in escrow, quotas add up to {sum}"
                ));
            }
        }
        let nowhere = |location: &&Id| !stock.levels.contains_key(location.as_str());
        if let Some(location) = shares.and_then(|s| s.quotas.keys().find(nowhere)) {
            return Err(alloc::format!("{sku} has a quota at {location}, where it never was"));
        }
    }
    match data.escrow.skus.iter().find(|(sku, _)| data.stock.get(sku.as_str()).is_none()) {
        Some((sku, _)) => Err(alloc::format!("{sku} has quotas and is no SKU")),
        None => Ok(()),
    }
}
