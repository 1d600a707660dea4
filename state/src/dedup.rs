//! What has been seen before, for as long as its window.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::borrow::Borrow;
use core::hash::Hash;

use serde::{Deserialize, Serialize};

use crate::buckets::Buckets;
use crate::{Key, Millis, limits};

/// The mark of one delivery or one movement asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Hash of what it said: the same key with another body is a conflict, not a repetition.
    pub body: Key,
    /// Log index at which it was applied.
    pub index: u64,
    /// Agreed time at which it was applied.
    pub time: Millis,
}

/// What a key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Never seen within the window.
    New,
    /// Seen, with the same body.
    Duplicate,
    /// Seen, with another body.
    Conflict,
}

/// A map whose entries expire, oldest first, a few at each command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound(
    serialize = "K: Serialize, V: Serialize",
    deserialize = "K: Ord + Hash + Clone + Deserialize<'de>, V: Clone + Deserialize<'de>"
))]
pub struct Expiring<K: Ord + Hash + Clone, V: Clone> {
    entries: Buckets<K, V>,
    /// Keys by the ten minutes in which they expire, so that expiry is a walk over what is due,
    /// what came first before what came later.
    due: BTreeMap<u64, Arc<VecDeque<K>>>,
    evicted: u64,
}

const SLOT_MS: Millis = 10 * limits::MINUTE_MS;

impl<K: Ord + Hash + Clone, V: Clone> Default for Expiring<K, V> {
    fn default() -> Self {
        Self { entries: Buckets::default(), due: BTreeMap::new(), evicted: 0 }
    }
}

impl<K: Ord + Hash + Clone, V: Clone> Expiring<K, V> {
    /// The value of a key, if it has not been dropped yet.
    pub fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Ord + Hash + ?Sized,
    {
        self.entries.get(key)
    }

    /// The same, to be changed.
    pub fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Ord + Hash + ?Sized,
    {
        self.entries.get_mut(key)
    }

    /// The entries behind it.
    #[must_use]
    pub const fn entries(&self) -> &Buckets<K, V> {
        &self.entries
    }

    /// The slots that say when what expires.
    #[must_use]
    pub const fn due(&self) -> &BTreeMap<u64, Arc<VecDeque<K>>> {
        &self.due
    }

    /// How many were dropped before their time because there were too many.
    #[must_use]
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Puts a value in until `expires`, dropping the oldest if there are more than `max`, and gives that
    /// back.
    pub fn insert(&mut self, key: K, value: V, expires: Millis, max: usize) -> Option<(K, V)> {
        let full = self.entries.len() >= max;
        let dropped = if full { self.drop_oldest(1, None, |_| 0).pop() } else { None };
        self.evicted += u64::from(dropped.is_some());
        self.keep_until(key.clone(), expires);
        self.entries.insert(key, value);
        dropped
    }

    /// Takes a value out before its time.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.entries.remove(key)
    }

    fn keep_until(&mut self, key: K, expires: Millis) {
        let slot = self.due.entry(expires / SLOT_MS + 1).or_default();
        let slot = Arc::make_mut(slot);
        // An eighth at a time: what doubles is a third empty.
        if slot.len() == slot.capacity() {
            slot.reserve_exact(slot.len() / 8 + 1);
        }
        slot.push_back(key);
    }

    /// Drops what is due, a bounded number of entries, and gives it back. `until` says how long an entry
    /// must stay: one that was touched since it was put in is looked at again then.
    pub fn expire(&mut self, now: Millis, until: impl Fn(&V) -> Millis) -> Vec<(K, V)> {
        self.drop_oldest(limits::EXPIRED_PER_COMMAND_MAX, Some(now), until)
    }

    /// Drops the `most` oldest of those due at `now`, or whatever their time if it is `None`.
    fn drop_oldest(
        &mut self,
        most: usize,
        now: Option<Millis>,
        until: impl Fn(&V) -> Millis,
    ) -> Vec<(K, V)> {
        let mut dropped = Vec::new();
        let mut looked_at = 0;
        while looked_at < most {
            let Some(mut slot) = self.due.first_entry() else { break };
            if now.is_some_and(|now| *slot.key() > now / SLOT_MS) {
                break;
            }
            let Some(key) = Arc::make_mut(slot.get_mut()).pop_front() else {
                slot.remove();
                continue;
            };
            let value = self.entries.get(&key);
            // What was taken out before its time makes no room.
            looked_at += usize::from(value.is_some() || now.is_some());
            let Some(value) = value else { continue };
            let until = until(value);
            if now.is_some_and(|now| until > now) {
                self.keep_until(key, until);
            } else if let Some(value) = self.entries.remove(&key) {
                dropped.push((key, value));
            }
        }
        dropped
    }
}

impl Expiring<Key, Seen> {
    /// What a key with this body means now.
    #[must_use]
    pub fn verdict(&self, key: &Key, body: &Key) -> Verdict {
        match self.get(key) {
            None => Verdict::New,
            Some(seen) if seen.body == *body => Verdict::Duplicate,
            Some(_) => Verdict::Conflict,
        }
    }
}
