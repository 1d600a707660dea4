//! Room for so many connections, of which the oldest goes when there is none left.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// Connections, each with a name of its own or all with one; a new one of a name takes the place of the old
/// where names tell them apart.
pub(crate) struct Room<K> {
    inside: Arc<Mutex<Inside<K>>>,
    stop: CancellationToken,
}

/// By when they came.
struct Inside<K> {
    next: u64,
    places: BTreeMap<u64, (K, CancellationToken)>,
}

/// A connection's place, which it leaves when this goes.
pub(crate) struct Place<K> {
    number: u64,
    gone: CancellationToken,
    inside: Arc<Mutex<Inside<K>>>,
}

impl<K> Room<K> {
    /// All places are gone with `stop`.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        let inside = Inside { next: 0, places: BTreeMap::new() };
        Self { inside: Arc::new(Mutex::new(inside)), stop }
    }

    /// A place for `key`. Where `max` are inside already, the oldest is told to go.
    pub(crate) fn enter(&self, key: K, max: usize) -> Place<K> {
        let mut inside = lock(&self.inside);
        while inside.places.len() >= max {
            let Some((_, (_, oldest))) = inside.places.pop_first() else { break };
            oldest.cancel();
        }
        let (number, gone) = (inside.next, self.stop.child_token());
        inside.next += 1;
        inside.places.insert(number, (key, gone.clone()));
        Place { number, gone, inside: Arc::clone(&self.inside) }
    }
}

impl<K: PartialEq> Room<K> {
    /// The same, where whoever has this key already is told to go.
    pub(crate) fn replace(&self, key: K, max: usize) -> Place<K> {
        lock(&self.inside).places.retain(|_, (other, gone)| {
            let stays = *other != key;
            if !stays {
                gone.cancel();
            }
            stays
        });
        self.enter(key, max)
    }
}

impl<K> Place<K> {
    /// Cancelled once this place is another's.
    pub(crate) fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }
}

impl<K> Drop for Place<K> {
    fn drop(&mut self) {
        lock(&self.inside).places.remove(&self.number);
    }
}

fn lock<K>(inside: &Mutex<Inside<K>>) -> MutexGuard<'_, Inside<K>> {
    inside.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    // A place that stays taken when its connection ends would in the end be all there are.
    #[test]
    fn the_oldest_goes_and_whoever_leaves_makes_room() {
        let room = Room::new(CancellationToken::new());
        let first = room.enter(1, 2);
        let second = room.enter(2, 2);
        let third = room.enter(3, 2);
        assert!(first.gone().is_cancelled() && !second.gone().is_cancelled());
        drop(third);
        let again = room.replace(2, 2);
        assert!(second.gone().is_cancelled() && !again.gone().is_cancelled());
        drop((first, second));
        let _fourth = room.enter(4, 2);
        assert!(!again.gone().is_cancelled(), "those who left took places");
        assert_eq!(lock(&room.inside).places.len(), 2);
    }
}
