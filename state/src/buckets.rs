//! A map whose clone copies pointers.
//!
//! Entries lie in a fixed number of buckets behind `Arc`. A clone shares them all; a write copies the
//! one bucket that it touches if somebody still shares it. So a snapshot of millions of entries is
//! taken in microseconds, and costs copies only of what changes while it is written.
//!
//! Each bucket counts its writes. A digest of the whole map can then be kept by bucket and made
//! again only where something changed.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::marker::PhantomData;

use serde::de::{MapAccess, Visitor as DeVisitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How many buckets a map has. A million entries are then a thousand a bucket: about 50 µs to copy.
pub const BUCKETS: usize = 1024;

/// A map in shared buckets, ordered within a bucket only.
#[derive(Clone)]
pub struct Buckets<K, V> {
    buckets: Vec<Bucket<K, V>>,
    len: usize,
}

#[derive(Clone)]
struct Bucket<K, V> {
    entries: Arc<BTreeMap<K, V>>,
    writes: u64,
}

impl<K: Ord + Hash + Clone, V: Clone> Default for Buckets<K, V> {
    fn default() -> Self {
        let bucket = Bucket { entries: Arc::new(BTreeMap::new()), writes: 0 };
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
    pub fn get(&self, key: &K) -> Option<&V> {
        self.buckets.get(bucket_of(key))?.entries.get(key)
    }

    /// The value of a key, to be changed. Counts as a write even if nothing is.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let bucket = self.buckets.get_mut(bucket_of(key))?;
        if !bucket.entries.contains_key(key) {
            return None;
        }
        bucket.writes += 1;
        Arc::make_mut(&mut bucket.entries).get_mut(key)
    }

    /// The value of a key, made if there was none.
    pub fn entry(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        let n = bucket_of(&key);
        // `bucket_of` is below BUCKETS, which is the length since `default`.
        #[expect(clippy::indexing_slicing, reason = "bucket_of is always below BUCKETS")]
        let bucket = &mut self.buckets[n];
        bucket.writes += 1;
        match Arc::make_mut(&mut bucket.entries).entry(key) {
            btree_map::Entry::Occupied(old) => old.into_mut(),
            btree_map::Entry::Vacant(new) => {
                self.len += 1;
                new.insert(V::default())
            }
        }
    }

    /// Puts a value in and returns the one that was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let bucket = self.buckets.get_mut(bucket_of(&key))?;
        bucket.writes += 1;
        let old = Arc::make_mut(&mut bucket.entries).insert(key, value);
        self.len += usize::from(old.is_none());
        old
    }

    /// Takes a value out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let bucket = self.buckets.get_mut(bucket_of(key))?;
        if !bucket.entries.contains_key(key) {
            return None;
        }
        bucket.writes += 1;
        let old = Arc::make_mut(&mut bucket.entries).remove(key);
        self.len -= usize::from(old.is_some());
        old
    }

    /// All entries, bucket by bucket.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.buckets.iter().flat_map(|bucket| bucket.entries.iter())
    }

    /// The buckets that hold something: number, writes so far, entries.
    pub fn buckets(&self) -> impl Iterator<Item = (usize, u64, &BTreeMap<K, V>)> {
        let filled = self.buckets.iter().enumerate().filter(|(_, b)| !b.entries.is_empty());
        filled.map(|(n, bucket)| (n, bucket.writes, &*bucket.entries))
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
        f.debug_map().entries(self.buckets.iter().flat_map(|b| b.entries.iter())).finish()
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

fn bucket_of<K: Hash>(key: &K) -> usize {
    let mut fnv = Fnv(0xcbf2_9ce4_8422_2325);
    key.hash(&mut fnv);
    // Mixed once more (the finaliser of MurmurHash3): FNV's low bits alone are uneven.
    let mixed = (fnv.0 ^ (fnv.0 >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    usize::try_from((mixed >> 33) % 1024).unwrap_or(0)
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
    fn write_u64(&mut self, n: u64) {
        self.write(&n.to_le_bytes());
    }
    fn write_usize(&mut self, n: usize) {
        self.write_u64(u64::try_from(n).unwrap_or(u64::MAX));
    }
}
const _: () = assert!(BUCKETS == 1024, "bucket_of divides by it");
