//! What is physically there, shared by all stores that sell it.
//!
//! A store knows only the number that it was told. The warehouse knows the truth, so it is the
//! warehouse that can tell an oversell: a unit sold by any store when no unit was left.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;

use crate::clock::Millis;

/// The shared truth: physical units by SKU. Cheap to clone; all clones are one warehouse.
#[derive(Clone, Debug, Default)]
pub struct Warehouse {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    bins: BTreeMap<String, Bin>,
    oversells: Vec<Oversell>,
}

/// The count of one SKU and what moved it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bin {
    /// Units at the start.
    pub opening: i64,
    /// Units received since, less those written off.
    pub received: i64,
    /// Units sold by any store.
    pub sold: i64,
    /// Sold units that were put back.
    pub restocked: i64,
}

impl Bin {
    /// What is left to sell. Below zero when more was sold than there was.
    #[must_use]
    pub fn units(&self) -> i64 {
        self.opening
            .saturating_add(self.received)
            .saturating_sub(self.sold)
            .saturating_add(self.restocked)
    }
}

/// One order line that sold more than was there, with what is needed to find out why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Oversell {
    /// When the customer bought.
    pub at_ms: Millis,
    /// The store that sold.
    pub store: String,
    /// What was sold.
    pub sku: String,
    /// The order.
    pub order_id: u64,
    /// Units of this line that did not exist.
    pub units: u64,
    /// What the store showed just before the sale.
    pub shown_before: i64,
    /// What was truly left just before the sale; zero or less when every unit of it is oversold.
    pub units_before: i64,
}

/// One order line as a store reports it.
pub(crate) struct Sale<'a> {
    pub(crate) at_ms: Millis,
    pub(crate) store: &'a str,
    pub(crate) sku: &'a str,
    pub(crate) order_id: u64,
    pub(crate) quantity: u32,
    pub(crate) shown_before: i64,
}

impl Warehouse {
    /// A warehouse that opens with these units.
    pub fn open<S: Into<String>>(opening: impl IntoIterator<Item = (S, i64)>) -> Self {
        let warehouse = Self::default();
        for (sku, units) in opening {
            warehouse.lock().bins.entry(sku.into()).or_default().opening = units;
        }
        warehouse
    }

    /// Units arrive (or, if negative, are found to be missing). The stores are not told: that is the
    /// work of whoever syncs them.
    pub fn receive(&self, sku: &str, units: i64) {
        let mut inner = self.lock();
        let bin = inner.bins.entry(sku.to_owned()).or_default();
        bin.received = bin.received.saturating_add(units);
    }

    /// What is truly left of a SKU; zero for one never heard of.
    #[must_use]
    pub fn units(&self, sku: &str) -> i64 {
        self.lock().bins.get(sku).map_or(0, Bin::units)
    }

    /// Every SKU with its count.
    #[must_use]
    pub fn bins(&self) -> BTreeMap<String, Bin> {
        self.lock().bins.clone()
    }

    /// Units sold that did not exist, over all stores.
    #[must_use]
    pub fn oversold_units(&self) -> u64 {
        self.lock().oversells.iter().map(|oversell| oversell.units).sum()
    }

    /// Every order line that sold units that did not exist, oldest first.
    #[must_use]
    pub fn oversells(&self) -> Vec<Oversell> {
        self.lock().oversells.clone()
    }

    /// Takes a sale off the shelf and returns the units of it that did not exist.
    pub(crate) fn sell(&self, sale: &Sale<'_>) -> u64 {
        let mut inner = self.lock();
        let bin = inner.bins.entry(sale.sku.to_owned()).or_default();
        let units_before = bin.units();
        bin.sold = bin.sold.saturating_add(i64::from(sale.quantity));
        let missing = i64::from(sale.quantity).saturating_sub(units_before.max(0));
        let units = u64::try_from(missing).unwrap_or(0);
        if units > 0 {
            inner.oversells.push(Oversell {
                at_ms: sale.at_ms,
                store: sale.store.to_owned(),
                sku: sale.sku.to_owned(),
                order_id: sale.order_id,
                units,
                shown_before: sale.shown_before,
                units_before,
            });
        }
        units
    }

    pub(crate) fn restock(&self, sku: &str, quantity: u32) {
        let mut inner = self.lock();
        let bin = inner.bins.entry(sku.to_owned()).or_default();
        bin.restocked = bin.restocked.saturating_add(i64::from(quantity));
    }

    /// The counters are plain numbers, valid after any panic elsewhere: a poisoned lock is no reason to
    /// lose them.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sale(quantity: u32) -> Sale<'static> {
        Sale { at_ms: 1, store: "north", sku: "MUG", order_id: 9, quantity, shown_before: 5 }
    }

    /// An oversell counted per order, or counted again for units already missing, would blame wrongly.
    #[test]
    fn only_units_that_did_not_exist_are_oversold() {
        let warehouse = Warehouse::open([("MUG", 3)]);
        assert_eq!(warehouse.sell(&sale(2)), 0);
        assert_eq!(warehouse.sell(&sale(2)), 1);
        assert_eq!(warehouse.sell(&sale(1)), 1);
        assert_eq!(warehouse.units("MUG"), -2);
        warehouse.restock("MUG", 3);
        assert_eq!(warehouse.sell(&sale(1)), 0);
        assert_eq!(warehouse.oversold_units(), 2);
        let first = warehouse.oversells().remove(0);
        assert_eq!((first.units, first.units_before, first.shown_before), (1, 1, 5));
    }
}
