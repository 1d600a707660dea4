//! What the channels' own ids stand for: listing id and SKU, both ways told by channel.
//!
//! An id is either *set* (through the API, or imported) or *learned* from a payload that names id and SKU
//! together. What was set counts before what a payload says, and that before what was learned.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::buckets::Buckets;
use crate::command::Moved;
use crate::order::Order;
use crate::{Id, Millis, limits};

/// What one id of a channel stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// The SKU.
    pub sku: Id,
    /// Where that comes from.
    pub source: Source,
}

/// Where a name comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// A person said so.
    Set,
    /// A payload said so at this time of the channel's clock; a newer one may say something else.
    Learned(Millis),
}

/// Channel and the channel's own id.
pub type Listed = (Id, Id);

/// What waits for a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Waiter {
    /// Lines of this order.
    Order(Id),
    /// A movement, with the delivery that told of it and the dead letter that shows it.
    Movement {
        /// What moved.
        moved: Moved,
        /// The delivery's id.
        delivery: String,
        /// When it was received.
        received: Millis,
        /// Its place in the list of dead letters.
        letter: (u64, u32),
    },
}

/// All names, and what waits for one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Names {
    known: Buckets<Listed, Name>,
    waiting: Buckets<Listed, Vec<Waiter>>,
    /// Listings that have a name by now and whose waiters were not all worked off.
    ready: Vec<Listed>,
    waiters: usize,
}

impl Names {
    /// The names.
    #[must_use]
    pub const fn names(&self) -> &Buckets<Listed, Name> {
        &self.known
    }

    /// What waits, by listing.
    #[must_use]
    pub const fn waiting(&self) -> &Buckets<Listed, Vec<Waiter>> {
        &self.waiting
    }

    /// Listings whose waiters are being worked off.
    #[must_use]
    pub const fn ready(&self) -> &Vec<Listed> {
        &self.ready
    }

    /// The SKU of what a payload names. `None`: nobody knows yet.
    #[must_use]
    pub fn resolve(
        &self,
        channel: &str,
        listing: Option<&str>,
        sku: Option<&str>,
    ) -> Option<String> {
        let name = |id: &str| self.known.get(&(channel.into(), id.into()));
        let listed = listing.and_then(name);
        let set = |name: &&Name| name.source == Source::Set;
        let set = listed.filter(set).or_else(|| sku.and_then(name).filter(set));
        let sku = set.map(|name| name.sku.as_str()).or(sku);
        sku.or_else(|| listed.map(|name| name.sku.as_str())).map(ToString::to_string)
    }

    /// Whether an id stands for no other SKU than this.
    pub(crate) fn is_of(&self, channel: &str, id: &str, sku: &str) -> bool {
        self.known.get(&(channel.into(), id.into())).is_none_or(|name| name.sku == sku)
    }

    /// A person says what an id stands for.
    pub(crate) fn set(&mut self, listed: Listed, sku: &str) {
        self.put(listed, Name { sku: sku.into(), source: Source::Set });
    }

    /// A person takes back what an id stood for, if it stood for this SKU.
    pub(crate) fn unset(&mut self, listed: &Listed, sku: &str) {
        if self.known.get(listed).is_some_and(|name| name.sku == sku) {
            self.known.remove(listed);
            self.ready.retain(|ready| ready != listed);
        }
    }

    /// A payload says what an id stands for. What was set stays; of two payloads the newer counts, and
    /// of two of one time the greater SKU, so that the order of arrival does not.
    pub(crate) fn learn(&mut self, listed: Listed, sku: &str, version: Millis) {
        let newer = |name: &Name| match name.source {
            Source::Set => false,
            Source::Learned(known) => (version, sku) > (known, name.sku.as_str()),
        };
        let known = self.known.get(&listed);
        let room = self.known.len() < limits::NAMES_MAX;
        if known.map_or(room, newer) {
            self.put(listed, Name { sku: sku.into(), source: Source::Learned(version) });
        }
    }

    fn put(&mut self, listed: Listed, name: Name) {
        if self.waiting.get(&listed).is_some() && !self.ready.contains(&listed) {
            self.ready.push(listed.clone());
        }
        self.known.insert(listed, name);
    }

    /// Lets something wait for a name. `false`: too much waits already, and it is not noted.
    pub(crate) fn wait(&mut self, listed: Listed, waiter: Waiter) -> bool {
        let room = self.waiters < limits::WAITING_MAX;
        if room {
            self.waiters += 1;
            self.waiting.entry(listed).push(waiter);
        }
        room
    }

    /// Lets the lines of an order wait no more: nobody knows it any longer.
    pub(crate) fn forget(&mut self, (channel, id): &(Id, Id), order: &Order) {
        for line in order.lines.values().filter(|line| line.sku.is_none()) {
            let Some(listing) = &line.listing else { continue };
            let listed = (channel.clone(), listing.as_str().into());
            let Some(waiting) = self.waiting.get_mut(&listed) else { continue };
            let before = waiting.len();
            waiting.retain(|waiter| !matches!(waiter, Waiter::Order(known) if known == id));
            self.waiters = self.waiters.saturating_sub(before - waiting.len());
            if waiting.is_empty() {
                self.waiting.remove(&listed);
            }
        }
    }

    /// Something that waited and has its name now: the listing, and what waited.
    pub(crate) fn next_ready(&mut self) -> Option<(Listed, Waiter)> {
        loop {
            let listed = self.ready.last()?.clone();
            let waiter = self.waiting.get_mut(&listed).and_then(Vec::pop);
            if self.waiting.get(&listed).is_none_or(Vec::is_empty) {
                self.waiting.remove(&listed);
                self.ready.pop();
            }
            if let Some(waiter) = waiter {
                self.waiters = self.waiters.saturating_sub(1);
                return Some((listed, waiter));
            }
        }
    }
}
