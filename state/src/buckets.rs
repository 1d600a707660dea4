//! A map whose clone copies pointers.
//!
//! Entries lie in a fixed number of buckets behind `Arc`. A clone shares them all; a write copies the
//! one bucket that it touches if somebody still shares it. So a snapshot of millions of entries is
//! taken in a moment, and costs copies only of what changes while it is written. A value that is large is
//! best kept behind an `Arc` itself: then a copied bucket holds pointers.
//!
//! A bucket is a sorted vector: a tree's nodes are half empty after a while.
//!
//! Each bucket counts its writes. A digest of the whole map can then be kept by bucket and made
//! again only where something changed.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::borrow::Borrow;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::marker::PhantomData;

use serde::de::{MapAccess, Visitor as DeVisitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How many buckets a map has. A million entries are then 250 a bucket: microseconds to copy.
pub const BUCKETS: usize = 4096;

/// A map in shared buckets, ordered within a bucket only.
#[derive(Clone)]
pub struct Buckets<K, V> {
    buckets: Vec<Bucket<K, V>>,
    len: usize,
}

#[derive(Clone)]
struct Bucket<K, V> {
    entries: Arc<Vec<(K, V)>>,
    writes: u64,
}

impl<K, V> Bucket<K, V> {
    /// Where a key is, or where it would be.
    fn place<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        self.entries.binary_search_by(|(known, _)| known.borrow().cmp(key))
    }
}

/// Makes room for one more, an eighth at a time: what doubles is a third empty.
pub(crate) fn make_room<T>(entries: &mut Vec<T>) {
    if entries.len() == entries.capacity() {
        entries.reserve_exact(entries.len() / 8 + 1);
    }
}

impl<K: Ord + Hash + Clone, V: Clone> Default for Buckets<K, V> {
    fn default() -> Self {
        let bucket = Bucket { entries: Arc::default(), writes: 0 };
        Self { buckets: alloc::vec![bucket; BUCKETS], len: 0 }
    }
}

impl<K: Ord + Hash + Clone, V: Clone> Buckets<K, V> {
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

    /// The value of a key.
    #[must_use]
    pub fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Ord + Hash + ?Sized,
    {
        let bucket = self.buckets.get(bucket_of(key))?;
        bucket.entries.get(bucket.place(key).ok()?).map(|(_, value)| value)
    }

    /// The value of a key, to be changed. Counts as a write even if nothing is.
    pub fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Ord + Hash + ?Sized,
    {
        let bucket = self.buckets.get_mut(bucket_of(key))?;
        let place = bucket.place(key).ok()?;
        bucket.writes += 1;
        Arc::make_mut(&mut bucket.entries).get_mut(place).map(|(_, value)| value)
    }

    /// The value of a key, made if there was none.
    pub fn entry(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        let n = bucket_of(&key);
        // `bucket_of` is below BUCKETS, which is the length since `default`; the place is there or filled.
        #[expect(clippy::indexing_slicing, reason = "both are always in bounds")]
        let bucket = &mut self.buckets[n];
        bucket.writes += 1;
        let place = bucket.place(&key);
        let entries = Arc::make_mut(&mut bucket.entries);
        let place = place.unwrap_or_else(|place| {
            self.len += 1;
            make_room(entries);
            entries.insert(place, (key, V::default()));
            place
        });
        #[expect(clippy::indexing_slicing, reason = "both are always in bounds")]
        &mut entries[place].1
    }

    /// Puts a value in and returns the one that was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let bucket = self.buckets.get_mut(bucket_of(&key))?;
        bucket.writes += 1;
        let place = bucket.place(&key);
        let entries = Arc::make_mut(&mut bucket.entries);
        match place {
            Ok(place) => entries.get_mut(place).map(|old| core::mem::replace(&mut old.1, value)),
            Err(place) => {
                self.len += 1;
                make_room(entries);
                entries.insert(place, (key, value));
                None
            }
        }
    }

    /// Takes a value out.
    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Ord + Hash + ?Sized,
    {
        let bucket = self.buckets.get_mut(bucket_of(key))?;
        let place = bucket.place(key).ok()?;
        bucket.writes += 1;
        self.len -= 1;
        let entries = Arc::make_mut(&mut bucket.entries);
        let (_, value) = entries.remove(place);
        // What was large and is no more gives its memory back.
        if entries.len() < entries.capacity() / 2 {
            entries.shrink_to_fit();
        }
        Some(value)
    }

    /// All entries, bucket by bucket.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.buckets
            .iter()
            .flat_map(|bucket| bucket.entries.iter())
            .map(|(key, value)| (key, value))
    }

    /// The keys of one bucket; `None` beyond the last.
    #[must_use]
    pub fn keys_in(&self, bucket: usize) -> Option<impl Iterator<Item = &K>> {
        Some(self.buckets.get(bucket)?.entries.iter().map(|(key, _)| key))
    }

    /// The buckets that hold something: number, writes so far, entries.
    pub fn buckets(&self) -> impl Iterator<Item = (u128, u64, &[(K, V)])> {
        let filled = (0..).zip(&self.buckets).filter(|(_, b)| !b.entries.is_empty());
        filled.map(|(n, bucket)| (n, bucket.writes, bucket.entries.as_slice()))
    }
}

impl<K: Ord + Hash + Clone, V: Clone + PartialEq> PartialEq for Buckets<K, V> {
    fn eq(&self, other: &Self) -> bool {
        let pairs = self.buckets.iter().zip(&other.buckets);
        self.len == other.len && pairs.into_iter().all(|(a, b)| a.entries == b.entries)
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Buckets<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.buckets.iter().flat_map(|b| b.entries.iter());
        f.debug_map().entries(entries.map(|(key, value)| (key, value))).finish()
    }
}

impl<K: Serialize, V: Serialize> Serialize for Buckets<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len))?;
        for (key, value) in self.buckets.iter().flat_map(|b| b.entries.iter()) {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de, K, V> Deserialize<'de> for Buckets<K, V>
where
    K: Ord + Hash + Clone + Deserialize<'de>,
    V: Clone + Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<K, V>(PhantomData<(K, V)>);
        impl<'de, K, V> DeVisitor<'de> for Entries<K, V>
        where
            K: Ord + Hash + Clone + Deserialize<'de>,
            V: Clone + Deserialize<'de>,
        {
            type Value = Buckets<K, V>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut buckets = Buckets::default();
                while let Some((key, value)) = map.next_entry()? {
                    buckets.insert(key, value);
                }
                Ok(buckets)
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// A hash that is the same everywhere.
pub(crate) fn hash_of<K: Hash + ?Sized>(key: &K) -> u64 {
    let mut fnv = Fnv(0xcbf2_9ce4_8422_2325);
    key.hash(&mut fnv);
    // Mixed once more (the finaliser of MurmurHash3): FNV's low bits alone are uneven.
    (fnv.0 ^ (fnv.0 >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd)
}

fn bucket_of<K: Hash + ?Sized>(key: &K) -> usize {
    usize::try_from((hash_of(key) >> 33) % 4096).unwrap_or(0)
}

/// FNV-1a: the same on every machine, whatever its word size or byte order.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    fn write_u32(&mut self, n: u32) {
        self.write(&n.to_le_bytes());
    }
    fn write_u64(&mut self, n: u64) {
        self.write(&n.to_le_bytes());
    }
    fn write_usize(&mut self, n: usize) {
        self.write_u64(u64::try_from(n).unwrap_or(u64::MAX));
    }
}
const _: () = assert!(BUCKETS == 4096, "bucket_of divides by it");

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    fn filled(entries: u64) -> Buckets<u64, u64> {
        let mut map = Buckets::default();
        (0..entries).for_each(|n| assert_eq!(map.insert(n, n), None));
        map
    }

    #[test]
    fn behaves_like_a_map() {
        // A length that drifts from the entries is written into a snapshot, which then cannot be read.
        let mut map = filled(5_000);
        assert_eq!(map.insert(7, 70), Some(7));
        assert_eq!(map.remove(&8), Some(8));
        assert_eq!(map.remove(&8), None);
        assert_eq!(map.get_mut(&8), None);
        *map.entry(9) += 1;
        *map.entry(9_000) += 1;
        assert_eq!((map.len(), map.iter().count()), (5_000, 5_000));
        let found = [7, 8, 9, 9_000].map(|n| map.get(&n).copied());
        assert_eq!(found, [Some(70), None, Some(10), Some(1)]);
        for n in 0..9_001 {
            map.remove(&n);
        }
        assert!(map.is_empty() && map == Buckets::default());
    }

    #[test]
    fn a_clone_keeps_what_it_was() {
        // A snapshot that is written while commands go on would hold half of them.
        let mut map = filled(3_000);
        let (clone, before) = (map.clone(), filled(3_000));
        map.insert(1, 0);
        map.insert(3_001, 0);
        map.remove(&2);
        *map.entry(3) += 1;
        map.get_mut(&4).into_iter().for_each(|n| *n += 1);
        assert!(clone == before && clone != map);
        assert_eq!((clone.len(), clone.iter().count()), (3_000, 3_000));
        // Only what was written was copied.
        let shared = clone.buckets.iter().zip(&map.buckets);
        let copied = shared.filter(|(a, b)| !Arc::ptr_eq(&a.entries, &b.entries)).count();
        assert!((1..=5).contains(&copied), "{copied} buckets copied");
    }

    #[test]
    fn every_change_counts_as_a_write_of_its_bucket_alone() {
        // A digest kept by bucket would be that of what was there before.
        let mut map = filled(3_000);
        let writes =
            |map: &Buckets<u64, u64>| map.buckets.iter().map(|b| b.writes).collect::<Vec<_>>();
        let changes: [fn(&mut Buckets<u64, u64>); 5] = [
            |map| assert!(map.insert(1, 5).is_some()),
            |map| assert!(map.insert(9_999, 5).is_none()),
            |map| assert!(map.remove(&2).is_some()),
            |map| *map.entry(3) += 1,
            |map| map.get_mut(&4).into_iter().for_each(|n| *n += 1),
        ];
        for change in changes {
            let before = writes(&map);
            change(&mut map);
            let after = writes(&map);
            assert_eq!(before.iter().zip(&after).filter(|(a, b)| a < b).count(), 1);
            assert_eq!(before.iter().zip(&after).filter(|(a, b)| a == b).count(), BUCKETS - 1);
        }
        let before = writes(&map);
        map.remove(&77_777);
        assert_eq!(map.get_mut(&77_777), None);
        assert_eq!(writes(&map), before);
    }

    #[test]
    fn what_is_written_reads_back() {
        // A snapshot that cannot be read is no snapshot. Its bytes hang on nothing but the entries.
        let config = bincode::config::standard();
        let (map, mut other) = (filled(3_000), Buckets::default());
        for n in (0..3_000u64).rev() {
            other.insert(n, n);
        }
        let written = bincode::serde::encode_to_vec(&map, config).unwrap();
        assert!(written == bincode::serde::encode_to_vec(&other, config).unwrap());
        let (read, length): (Buckets<u64, u64>, usize) =
            bincode::serde::decode_from_slice(&written, config).unwrap();
        assert_eq!(length, written.len());
        assert!(read == map && read.len() == 3_000);
        for n in 0..written.len() / 64 {
            let cut = written.get(..n * 64).unwrap();
            assert!(
                bincode::serde::decode_from_slice::<Buckets<u64, u64>, _>(cut, config).is_err()
            );
        }
    }

    #[test]
    fn keys_spread_and_stay_where_they_are() {
        // An uneven spread makes one bucket slow to copy; another place after an update of the
        // compiler would change every digest.
        let mut most = 0;
        let mut map: Buckets<String, ()> = Buckets::default();
        for n in 0..100_000 {
            map.insert(alloc::format!("SKU-{n}"), ());
        }
        map.buckets().for_each(|(_, _, entries)| most = most.max(entries.len()));
        assert!(most < 60, "{most} of about 24");
        let known = [bucket_of(&"MUG"), bucket_of(&[7u8; 16]), bucket_of(&(5u64, 6u32))];
        assert_eq!(known, [3472, 3380, 1533]);
    }
}
