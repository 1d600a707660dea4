//! Listings that wait for something, by the time at which it comes.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::{Id, Millis};

/// Where the listing of a SKU is at home: channel and SKU.
pub(crate) type Place = (Id, Id);

/// Listings that wait, by channel and time. Derived from the listings, so it is made again after a
/// restart and is no part of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due(BTreeMap<Id, BTreeSet<(Millis, Id)>>);

impl Due {
    /// The listings of a channel, first the one whose time comes first.
    pub fn of(&self, channel: &str) -> impl Iterator<Item = (Millis, &str)> {
        let places = self.0.get(channel).into_iter().flatten();
        places.map(|(time, sku)| (*time, sku.as_str()))
    }

    /// How many wait.
    #[must_use]
    pub fn count(&self, channel: &str) -> usize {
        self.0.get(channel).map_or(0, BTreeSet::len)
    }

    /// The first time of all.
    #[must_use]
    pub fn first(&self) -> Option<(Millis, &str, &str)> {
        let firsts = self.0.iter().filter_map(|(channel, places)| {
            places.first().map(|(time, sku)| (*time, channel.as_str(), sku.as_str()))
        });
        firsts.min()
    }

    pub(crate) fn change(&mut self, place: &Place, before: Option<Millis>, after: Option<Millis>) {
        if before == after {
            return;
        }
        let (channel, sku) = place;
        let places = self.0.entry(channel.clone()).or_default();
        if let Some(deadline) = before {
            places.remove(&(deadline, sku.clone()));
        }
        if let Some(deadline) = after {
            places.insert((deadline, sku.clone()));
        }
    }
}
