//! The bodies of dead letters and of messages.
//!
//! Those of one log entry lie together, several in a record: they come together, most are read together, and a
//! record of its own for each would cost the store more than the body itself. Beside each record another, small one
//! says which of its bodies are still needed. When none is, both go; when few are, the record is written again with
//! those alone.

use cluster::codec;
use cluster::durable::Batch;
use serde::{Deserialize, Serialize};
use state::reply::{Body, Kept};

use super::{BODIES, Error, History, NEEDED};

/// Bytes of the bodies of one record, unless a single one is larger: what is read to find one of them.
const RECORD_BYTES_MAX: usize = 8 << 10;
/// Bodies of one record: as many as there are bits in [`Needed`].
const RECORD_BODIES_MAX: u32 = u64::BITS;
/// What a record takes for a body beside its bytes, about.
const OVERHEAD: usize = 16;
/// A record is written again when so small a part of its bodies is needed.
const WRITTEN_AGAIN_BELOW: u32 = 4;

/// The bodies of a record, by number.
type Together = Vec<(u32, Kept)>;

/// Which bodies of a record are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Needed {
    /// The number for which the lowest bit stands.
    first: u32,
    /// Bodies in the record, needed or not.
    count: u32,
    bits: u64,
}

/// Reads bodies one after the other: those that lie together are fetched once.
#[derive(Debug)]
pub struct Bodies {
    history: History,
    /// The record that was read last, with its log index.
    last: Option<(u64, Together)>,
}

impl Bodies {
    /// What is kept under a log index and a number.
    pub fn get(&mut self, index: u64, n: u32) -> Result<Option<Kept>, Error> {
        let found = |(of, together): &(u64, Together)| {
            let mut together = together.iter().filter(|_| *of == index);
            together.find(|(number, _)| *number == n).map(|(_, kept)| kept.clone())
        };
        if let Some(kept) = self.last.as_ref().and_then(found) {
            return Ok(Some(kept));
        }
        let Some((_, together)) = self.history.record::<Together>(BODIES, index, n)? else {
            return Ok(None);
        };
        let last = (index, together);
        let kept = found(&last);
        self.last = Some(last);
        Ok(kept)
    }
}

impl History {
    /// What reads the bodies of dead letters and messages.
    #[must_use]
    pub fn bodies(&self) -> Bodies {
        Bodies { history: self.clone(), last: None }
    }

    /// Drops bodies that nobody needs any more, named by log index and number. Those that are gone already are left
    /// out, so that an entry can be replayed.
    pub fn drop_bodies(&self, mut dropped: Vec<(u64, u32)>) -> Result<(), Error> {
        dropped.sort_unstable();
        let mut batch = Batch::default();
        let mut rest = dropped.as_slice();
        while let Some((&(index, n), behind)) = rest.split_first() {
            let Some((last, needed)) = self.record::<Needed>(NEEDED, index, n)? else {
                rest = behind;
                continue;
            };
            let together = rest.partition_point(|place| *place <= (index, last)).max(1);
            let (together, behind) = rest.split_at(together);
            rest = behind;
            let gone = together.iter().fold(0, |bits, (_, n)| bits | needed.bit(*n));
            let left = Needed { bits: needed.bits & !gone, ..needed };
            if left != needed {
                self.keep(&mut batch, (index, last), left)?;
            }
        }
        self.write(batch)
    }

    /// Keeps of a record only what is needed.
    fn keep(
        &self,
        batch: &mut Batch,
        (index, last): (u64, u32),
        needed: Needed,
    ) -> Result<(), Error> {
        let left = needed.bits.count_ones();
        if left == 0 {
            batch.remove(&key(NEEDED, index, last));
            batch.remove(&key(BODIES, index, last));
            return Ok(());
        }
        let few = left * WRITTEN_AGAIN_BELOW <= needed.count;
        let record = if few { self.record::<Together>(BODIES, index, last)? } else { None };
        let mut needed = needed;
        if let Some((_, mut together)) = record {
            together.retain(|(n, _)| needed.bits & needed.bit(*n) != 0);
            batch.put(&key(BODIES, index, last), &codec::encode(&together));
            needed.count = left;
        }
        batch.put(&key(NEEDED, index, last), &codec::encode(&needed));
        Ok(())
    }

    /// The record in which a body lies, if it lies in any, and the number of its last one.
    fn record<T: serde::de::DeserializeOwned>(
        &self,
        kind: u8,
        index: u64,
        n: u32,
    ) -> Result<Option<(u32, T)>, Error> {
        let end = [&[kind][..], &index.saturating_add(1).to_be_bytes()].concat();
        let found = self.db.range(&key(kind, index, n), &end).next().transpose()?;
        let Some((key, bytes)) = found else { return Ok(None) };
        let last = key.last_chunk().map_or(n, |last| u32::from_be_bytes(*last));
        Ok(Some((last, codec::decode(&bytes)?)))
    }
}

impl Needed {
    /// The bit that stands for a body; none if it lies elsewhere.
    fn bit(self, n: u32) -> u64 {
        n.checked_sub(self.first).and_then(|place| 1u64.checked_shl(place)).unwrap_or(0)
    }
}

/// Adds the bodies of an entry to a batch. They are numbered in their order.
pub fn put_bodies(batch: &mut Batch, index: u64, bodies: &[Body]) {
    let mut rest = bodies;
    while let Some(first) = rest.first().map(|body| body.n) {
        let mut bytes = 0;
        let fits = |body: &&Body| {
            bytes += body.kept.len() + OVERHEAD;
            body.n == first || (bytes <= RECORD_BYTES_MAX && body.n - first < RECORD_BODIES_MAX)
        };
        let (together, behind) = rest.split_at(rest.iter().take_while(fits).count());
        rest = behind;
        let Some(last) = together.last().map(|body| body.n) else { return };
        let record: Vec<(u32, &Kept)> = together.iter().map(|body| (body.n, &body.kept)).collect();
        let count = last - first + 1;
        let bits = u64::MAX >> (RECORD_BODIES_MAX - count);
        let needed = Needed { first, count, bits };
        batch.put(&key(BODIES, index, last), &codec::encode(&record));
        batch.put(&key(NEEDED, index, last), &codec::encode(&needed));
    }
}

/// The key of a record of bodies of which this is the last: who looks for one before it finds it by going on.
fn key(kind: u8, index: u64, last: u32) -> Vec<u8> {
    [&[kind][..], &index.to_be_bytes(), &last.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use tempfile::tempdir;

    use super::*;

    fn body(n: u32, bytes: usize) -> Body {
        Body { n, kept: Kept::Body(vec![u8::try_from(n % 251).unwrap(); bytes]) }
    }

    fn of_entry(sizes: &[usize]) -> Vec<Body> {
        sizes.iter().zip(0..).map(|(bytes, n)| body(n, *bytes)).collect()
    }

    fn put(history: &History, index: u64, bodies: &[Body]) {
        let mut batch = Batch::default();
        put_bodies(&mut batch, index, bodies);
        history.write(batch).unwrap();
    }

    fn records(history: &History) -> usize {
        history.db.range(&[0], &[u8::MAX]).count()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        // A body that goes with its neighbours is a message that nobody can work on; one that stays for ever fills
        // the disk. Whatever their sizes, and in whatever order and company they go.
        #[test]
        fn what_is_needed_stays_and_nothing_else(
            entries in proptest::collection::vec(proptest::collection::vec(
                prop_oneof![6 => 0..400usize, 3 => 400..9_000usize, 1 => 9_000..80_000usize], 1..150), 1..4),
            seed in any::<u64>(),
            at_once in 1..40usize,
        ) {
            let dir = tempdir().unwrap();
            let history = History::open(dir.path()).unwrap();
            let mut needed = BTreeMap::new();
            for (sizes, index) in entries.iter().zip(7u64..) {
                let bodies = of_entry(sizes);
                put(&history, index, &bodies);
                needed.extend(bodies.into_iter().map(|body| ((index, body.n), body.kept)));
            }
            let mut order: Vec<(u64, u32)> = needed.keys().copied().collect();
            let all = order.clone();
            let mixed = |(index, n): &(u64, u32)| {
                (seed ^ (index << 32 | u64::from(*n))).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 13
            };
            if seed % 3 > 0 {
                order.sort_by_key(mixed);
            }
            for (round, dropped) in order.chunks(at_once).enumerate() {
                for place in dropped {
                    needed.remove(place);
                }
                history.drop_bodies(dropped.to_vec()).unwrap();
                // An entry that is replayed drops them again.
                history.drop_bodies(dropped.to_vec()).unwrap();
                if round % 4 == 0 {
                    let mut reader = history.bodies();
                    for (place, kept) in &needed {
                        let found = reader.get(place.0, place.1).unwrap();
                        prop_assert_eq!(found.as_ref(), Some(kept));
                    }
                }
            }
            prop_assert_eq!(records(&history), 0);
            prop_assert_eq!(history.bodies().get(all[0].0, all[0].1).unwrap(), None);
        }
    }

    // One body that nobody finishes would hold all those beside it on the disk for as long.
    #[test]
    fn the_last_of_many_does_not_keep_the_rest() {
        let dir = tempdir().unwrap();
        let history = History::open(dir.path()).unwrap();
        put(&history, 1, &of_entry(&[100; 60]));
        let record = || history.record::<Together>(BODIES, 1, 59).unwrap().unwrap().1.len();
        assert_eq!(record(), 60);
        history.drop_bodies((0..44).map(|n| (1, n)).collect()).unwrap();
        assert_eq!(record(), 60);
        history.drop_bodies((44..59).map(|n| (1, n)).collect()).unwrap();
        assert_eq!(record(), 1);
        assert!(history.bodies().get(1, 59).unwrap().is_some());
        assert_eq!(history.bodies().get(1, 58).unwrap(), None);
    }

    // A node that was killed replays what it had written, in part or as a whole; one that comes from a snapshot of
    // another finds records of which that one has dropped more than it knows.
    #[test]
    fn what_is_written_again_is_what_it_was() {
        let (dir, other) = (tempdir().unwrap(), tempdir().unwrap());
        let history = History::open(dir.path()).unwrap();
        put(&history, 1, &of_entry(&[100; 60]));
        history.drop_bodies((0..50).map(|n| (1, n)).collect()).unwrap();
        let copy = History::open(other.path()).unwrap();
        let mut stream = Vec::new();
        history.export(1, &mut stream).unwrap();
        copy.import(&mut stream.as_slice()).unwrap();
        put(&history, 1, &of_entry(&[100; 60]));
        assert!(history.bodies().get(1, 3).unwrap().is_some());
        for history in [history, copy] {
            assert!(history.bodies().get(1, 57).unwrap().is_some());
            history.drop_bodies((0..50).map(|n| (1, n)).collect()).unwrap();
            history.drop_bodies((50..60).map(|n| (1, n)).collect()).unwrap();
            assert_eq!(records(&history), 0);
        }
    }
}
