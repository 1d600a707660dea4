//! A map by growing numbers, whose clone copies pointers.
//!
//! Entries lie in pages of neighbouring numbers behind `Arc`. A queue takes from its front and adds to its
//! end, so few pages are written, however many there are: what a write costs does not hang on the depth. A
//! clone shares all pages; a write copies the one that it touches if somebody still shares it.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::buckets::make_room;

/// Numbers of one page: a copy of a full one takes microseconds.
const PAGE: u64 = 256;

/// What is kept in pages.
pub trait Paged: Clone {
    /// What may be searched for beside the number, though it does not grow with it: each page knows its greatest.
    fn rank(&self) -> u64 {
        0
    }
}

/// A map by number, in order.
#[derive(Clone)]
#[expect(clippy::struct_field_names, reason = "it is pages that it has")]
pub struct Pages<T> {
    pages: BTreeMap<u64, Page<T>>,
    len: usize,
    /// Writes so far: each page carries the number of its last one.
    writes: u64,
}

#[derive(Clone)]
struct Page<T> {
    entries: Arc<Vec<(u64, T)>>,
    written: u64,
    /// The greatest rank in it.
    top: u64,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self { pages: BTreeMap::new(), len: 0, writes: 0 }
    }
}

impl<T: Paged> Pages<T> {
    /// Entries in the map.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of a number.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&T> {
        let page = self.pages.get(&(number / PAGE))?;
        page.entries.get(page.place(number).ok()?).map(|(_, value)| value)
    }

    /// Puts a value in and returns the one that was there.
    pub fn insert(&mut self, number: u64, value: T) -> Option<T> {
        self.writes += 1;
        let new = || Page { entries: Arc::default(), written: 0, top: 0 };
        let page = self.pages.entry(number / PAGE).or_insert_with(new);
        page.written = self.writes;
        let place = page.place(number);
        let rank = value.rank();
        page.top = page.top.max(rank);
        let entries = Arc::make_mut(&mut page.entries);
        match place {
            Ok(place) => {
                let old = entries.get_mut(place).map(|old| core::mem::replace(&mut old.1, value));
                if old.as_ref().is_some_and(|old| old.rank() > rank) {
                    page.rank_anew();
                }
                old
            }
            Err(place) => {
                self.len += 1;
                make_room(entries);
                entries.insert(place, (number, value));
                None
            }
        }
    }

    /// Takes a value out.
    pub fn remove(&mut self, number: u64) -> Option<T> {
        let page = self.pages.get_mut(&(number / PAGE))?;
        let place = page.place(number).ok()?;
        self.len -= 1;
        self.writes += 1;
        page.written = self.writes;
        let entries = Arc::make_mut(&mut page.entries);
        let (_, value) = entries.remove(place);
        if entries.is_empty() {
            self.pages.remove(&(number / PAGE));
        } else if entries.len() < entries.capacity() / 2 {
            entries.shrink_to_fit();
        }
        if let Some(page) = self.pages.get_mut(&(number / PAGE))
            && page.top == value.rank()
        {
            page.rank_anew();
        }
        Some(value)
    }

    /// The entries from a number on, in order.
    pub fn from(&self, number: u64) -> impl Iterator<Item = (u64, &T)> {
        let pages = self.pages.range(number / PAGE..).flat_map(|(_, page)| page.entries.iter());
        pages.map(|(number, value)| (*number, value)).skip_while(move |(n, _)| *n < number)
    }

    /// How many entries there are from a number on. Costs their pages, not their number.
    #[must_use]
    pub fn count_from(&self, number: u64) -> usize {
        let pages = self.pages.range(number / PAGE..).map(|(first, page)| {
            let before = if *first == number / PAGE { number } else { 0 };
            page.entries.len() - page.entries.partition_point(|(known, _)| *known < before)
        });
        pages.sum()
    }

    /// The last number that has an entry, of those between two, both included.
    #[must_use]
    pub fn last_within(&self, from: u64, to: u64) -> Option<u64> {
        let pages = self.pages.range(from / PAGE..=to / PAGE).rev();
        let last = pages.filter_map(|(_, page)| {
            let beyond = page.entries.partition_point(|(known, _)| *known <= to);
            page.entries.get(beyond.checked_sub(1)?)
        });
        last.map(|(number, _)| *number).next().filter(|number| *number >= from)
    }

    /// All entries, in order.
    #[must_use]
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, &T)> {
        let entries = self.pages.values().flat_map(|page| page.entries.iter());
        entries.map(|(number, value)| (*number, value))
    }

    /// The pages: number, the write that was its last, entries.
    pub fn pages(&self) -> impl Iterator<Item = (u64, u64, &[(u64, T)])> {
        self.pages.iter().map(|(n, page)| (*n, page.written, page.entries.as_slice()))
    }

    /// The first number, from one on, for whose entry something holds, if it holds for all after it as well. Costs
    /// pages, not their entries.
    #[must_use]
    pub fn first_where(&self, from: u64, holds: impl Fn(&T) -> bool) -> Option<u64> {
        let last = |page: &&Page<T>| page.entries.last().is_some_and(|(_, value)| holds(value));
        let page = self.pages.range(from / PAGE..).map(|(_, page)| page).find(last)?;
        let place = page.entries.partition_point(|(n, value)| *n < from || !holds(value));
        page.entries.get(place).map(|(number, _)| *number)
    }

    /// The first number, from one on, whose entry has at least this rank. Costs pages, not their entries.
    #[must_use]
    pub fn first_ranked(&self, from: u64, rank: u64) -> Option<u64> {
        let pages = self.pages.range(from / PAGE..).filter(|(_, page)| page.top >= rank);
        let mut entries = pages.flat_map(|(_, page)| page.entries.iter());
        entries.find(|(n, value)| *n >= from && value.rank() >= rank).map(|(number, _)| *number)
    }
}

impl<T: Paged> Page<T> {
    /// Finds its greatest rank again, after one that may have been it is gone.
    fn rank_anew(&mut self) {
        let last = self.entries.last().map_or(0, |(_, value)| value.rank());
        // Mostly what came last.
        if last < self.top {
            self.top = self.entries.iter().map(|(_, value)| value.rank()).max().unwrap_or(0);
        }
    }
}

impl<T> Page<T> {
    /// Where a number is, or where it would be.
    fn place(&self, number: u64) -> Result<usize, usize> {
        self.entries.binary_search_by(|(known, _)| known.cmp(&number))
    }
}

impl<T: PartialEq> PartialEq for Pages<T> {
    fn eq(&self, other: &Self) -> bool {
        let pairs = || self.pages.iter().zip(&other.pages);
        self.len == other.len
            && self.pages.len() == other.pages.len()
            && pairs().all(|((a, left), (b, right))| a == b && left.entries == right.entries)
    }
}

impl<T: fmt::Debug> fmt::Debug for Pages<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.pages.values().flat_map(|page| page.entries.iter());
        f.debug_map().entries(entries.map(|(number, value)| (number, value))).finish()
    }
}

impl<T: Serialize + Paged> Serialize for Pages<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len))?;
        for (number, value) in self.iter() {
            map.serialize_entry(&number, value)?;
        }
        map.end()
    }
}

impl<'de, T: Deserialize<'de> + Paged> Deserialize<'de> for Pages<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + Paged> Visitor<'de> for Entries<T> {
            type Value = Pages<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map by number")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pages = Pages::default();
                while let Some((number, value)) = map.next_entry()? {
                    pages.insert(number, value);
                }
                Ok(pages)
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Paged for u64 {
        fn rank(&self) -> u64 {
            *self
        }
    }

    proptest! {
        // A number that is lost or comes twice is a message that is lost or comes twice.
        #[test]
        fn it_is_a_map(writes in proptest::collection::vec((0u64..2_000, any::<bool>()), 0..600), at in 0u64..2_000) {
            let mut pages = Pages::default();
            let mut model = BTreeMap::new();
            for (n, (number, put)) in (0u64..).zip(writes) {
                // Not in the order of the numbers, and some alike.
                let n = n * 7 % 400 / 3;
                if put {
                    prop_assert_eq!(pages.insert(number, n), model.insert(number, n));
                } else {
                    prop_assert_eq!(pages.remove(number), model.remove(&number));
                }
            }
            prop_assert_eq!(pages.len(), model.len());
            prop_assert!(pages.iter().eq(model.iter().map(|(number, n)| (*number, n))));
            prop_assert!(pages.from(at).eq(model.range(at..).map(|(number, n)| (*number, n))));
            prop_assert_eq!(pages.count_from(at), model.range(at..).count());
            prop_assert_eq!(pages.get(at), model.get(&at));
            let last = model.range(at..=at + 300).next_back().map(|(number, _)| *number);
            prop_assert_eq!(pages.last_within(at, at + 300), last);
            for rank in [0, 40, 90, 130, 131, 134] {
                let first = model.range(at..).find(|(_, n)| **n >= rank).map(|(number, _)| *number);
                prop_assert_eq!(pages.first_ranked(at, rank), first);
            }
        }
    }

    #[test]
    fn a_clone_keeps_what_it_was_and_a_page_its_mark() {
        // A snapshot that is written while messages come would hold half of them; a digest that is kept by
        // page would be that of what lay there before.
        let mut pages = Pages::default();
        (0..3_000u64).for_each(|n| assert_eq!(pages.insert(n, n), None));
        let clone = pages.clone();
        let marks = |pages: &Pages<u64>| pages.pages().map(|(n, w, _)| (n, w)).collect::<Vec<_>>();
        pages.remove(5);
        pages.insert(300, 0);
        assert!(clone.iter().map(|(_, n)| *n).eq(0..3_000));
        let changed = marks(&clone).into_iter().zip(marks(&pages)).filter(|(a, b)| a != b);
        assert_eq!(changed.map(|((n, _), _)| n).collect::<Vec<_>>(), [0, 1]);
        // A page that was emptied and filled again is not what it was.
        let before = marks(&pages);
        (0..256).for_each(|n| assert_eq!(pages.remove(n).is_some(), n != 5));
        (0..256).for_each(|n| assert_eq!(pages.insert(n, n), None));
        assert!(before.first() != marks(&pages).first());
    }

    #[test]
    fn what_comes_after_a_time_is_found() {
        let mut pages = Pages::default();
        (0..2_000u64).for_each(|n| assert_eq!(pages.insert(n * 3, n), None));
        assert_eq!(pages.first_where(0, |n| *n >= 700), Some(2_100));
        assert_eq!(pages.first_where(2_400, |n| *n >= 700), Some(2_400));
        assert_eq!(pages.first_where(0, |n| *n >= 2_000), None);
    }
}
