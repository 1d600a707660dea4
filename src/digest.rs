//! One number for a whole state: equal on all replicas at one index, or something is wrong.

use std::collections::{BTreeMap, HashMap};

use cluster::codec;
use serde::Serialize;
use sha2::{Digest, Sha256};
use state::{Data, Visitor};

use crate::history::Hash;

/// Makes digests, and remembers those of buckets that did not change since.
#[derive(Clone, Debug, Default)]
pub struct Digester {
    /// Counts the states that this one replaced: buckets of another count their writes anew.
    restores: u64,
    buckets: HashMap<(&'static str, u128), (u64, Hash)>,
}

impl Digester {
    /// The digest of a state and of the chain of movements that led to it.
    pub fn digest(&mut self, data: &Data, chain: &Hash, restores: u64) -> Hash {
        if self.restores != restores {
            self.restores = restores;
            self.buckets.clear();
        }
        let mut walk = Walk { known: self, sum: Sha256::new() };
        data.visit(&mut walk);
        walk.sum.chain_update(chain).finalize().into()
    }
}

/// The digest of each part of a state by itself, made from all of it.
#[must_use]
pub fn of_parts(data: &Data) -> BTreeMap<String, Hash> {
    let mut parts = Parts(BTreeMap::new());
    data.visit(&mut parts);
    let named = parts.0.into_iter();
    named.map(|(name, sum)| (name.to_string(), sum.finalize().into())).collect()
}

struct Parts(BTreeMap<&'static str, Sha256>);

impl Visitor for Parts {
    fn bucket<T: Serialize>(&mut self, map: &'static str, _: u128, _: u64, entries: &T) {
        self.0.entry(map).or_default().update(Sha256::digest(codec::encode(entries)));
    }

    fn part<T: Serialize>(&mut self, name: &'static str, part: &T) {
        self.0.entry(name).or_default().update(codec::encode(part));
    }
}

struct Walk<'a> {
    known: &'a mut Digester,
    sum: Sha256,
}

impl Visitor for Walk<'_> {
    fn bucket<T: Serialize>(&mut self, map: &'static str, n: u128, writes: u64, entries: &T) {
        let known = self.known.buckets.get(&(map, n)).filter(|(known, _)| *known == writes);
        let hash = if let Some((_, hash)) = known {
            *hash
        } else {
            let hash: Hash = Sha256::digest(codec::encode(entries)).into();
            self.known.buckets.insert((map, n), (writes, hash));
            hash
        };
        self.sum.update(map.as_bytes());
        self.sum.update(n.to_le_bytes());
        self.sum.update(hash);
    }

    fn part<T: Serialize>(&mut self, name: &'static str, part: &T) {
        self.sum.update(name.as_bytes());
        self.sum.update(Sha256::digest(codec::encode(part)));
    }
}
