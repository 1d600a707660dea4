//! What this node did with its quotas and its replica does not know yet, and what it still holds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use state::escrow::Holder;
use state::escrow::told::{Told, What};
use state::reservation::{Reservation, Status};
use state::{Key, State};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::planted::{self, Bug};

/// Keys that were sent away and are remembered.
const AWAY_MAX: usize = 10_000;

/// The book of a node.
pub(super) struct Book {
    holder: Holder,
    /// The newest serial that was given out.
    issued: u64,
    /// The newest that this replica is known to know.
    settled: u64,
    /// What lies between, in order.
    pending: VecDeque<Pending>,
    /// What that takes from quotas, by SKU and location.
    taken: BTreeMap<String, BTreeMap<String, i64>>,
    /// Reservations that this node goes on with, and those that ended while the replica does not know it.
    live: BTreeMap<String, Live>,
    /// When they end.
    ends: BTreeSet<(Instant, String)>,
    /// Keys of what is pending.
    keys: BTreeMap<Key, u64>,
    away: BTreeSet<Key>,
}

struct Pending {
    told: Told,
    /// What was answered; of what was read back from the disk nobody knows it any more.
    answer: Option<Reservation>,
    durable: bool,
    waiters: Vec<oneshot::Sender<()>>,
}

struct Live {
    reservation: Reservation,
    /// The newest that was told of it.
    last: u64,
    ends: Instant,
}

/// What was answered to a key.
pub(super) struct Before {
    pub(super) body: Key,
    pub(super) id: String,
    pub(super) reservation: Reservation,
    /// Says when it is durable.
    pub(super) durable: oneshot::Receiver<()>,
}

impl Book {
    /// A book as the inbox kept it. All that is held is held anew from `now`: late is safe, early is not.
    pub(super) fn new(holder: Holder, issued: u64, mut told: Vec<Told>, now: Instant) -> Self {
        let mut book = Self {
            holder,
            issued: 0,
            settled: 0,
            pending: VecDeque::new(),
            taken: BTreeMap::new(),
            live: BTreeMap::new(),
            ends: BTreeSet::new(),
            keys: BTreeMap::new(),
            away: BTreeSet::new(),
        };
        told.retain(|told| told.holder == holder);
        told.sort_by_key(|told| told.serial);
        told.dedup_by_key(|told| told.serial);
        for told in told {
            let (serial, at, what) = (told.serial, told.at, told.what.clone());
            book.push(told);
            book.written(serial, true);
            let id = what.id().unwrap_or_default();
            let known = match &what {
                What::Held(held) => Some(Reservation::of(holder, held, at)),
                _ => book.live.get(id).map(|live| live.reservation.clone()),
            };
            if let Some(mut known) = known {
                known.tell(&what, at);
                book.note(id, known, now);
            }
        }
        book.issued = book.issued.max(issued);
        book
    }

    pub(super) const fn next_serial(&self) -> u64 {
        self.issued + 1
    }

    /// Whether something was told that the replica does not know.
    pub(super) fn has_told(&self) -> bool {
        !self.pending.is_empty()
    }

    /// What was told and is not known to the replica takes so much.
    pub(super) fn taken(&self, sku: &str, location: &str) -> i64 {
        if planted::has(Bug::SpentIsLeft) {
            return 0;
        }
        self.taken.get(sku).and_then(|places| places.get(location)).copied().unwrap_or(0)
    }

    /// The same of everything.
    pub(super) fn all_taken(&self) -> i64 {
        self.taken.values().flat_map(BTreeMap::values).sum()
    }

    pub(super) fn send_away(&mut self, key: Key) {
        if self.away.len() >= AWAY_MAX {
            self.away.pop_first();
        }
        self.away.insert(key);
    }

    pub(super) fn is_away(&self, key: Option<(Key, Key)>) -> bool {
        key.is_some_and(|(key, _)| self.away.contains(&key))
    }

    /// Strikes out what the replica knows by now. Whether the book is whole: if what it told once lies neither
    /// in the replica nor in the inbox, nobody knows what is left of the quotas.
    pub(super) fn settle(&mut self, state: &State) -> bool {
        let known = state.data().escrow.holders().get(&self.holder);
        let serial = known.map_or(0, |standing| standing.serial);
        if serial < self.settled {
            return false;
        }
        self.settled = serial;
        self.issued = self.issued.max(serial);
        while self.pending.front().is_some_and(|first| first.told.serial <= serial) {
            let Some(known) = self.pending.pop_front() else { break };
            self.strike_out(&known.told);
            for waiter in known.waiters {
                // What is agreed on is more than durable.
                let _ = waiter.send(());
            }
        }
        u64::try_from(self.pending.len()) == Ok(self.issued - self.settled)
    }

    fn strike_out(&mut self, told: &Told) {
        for (sku, location, units) in told.what.takes() {
            let Some(places) = self.taken.get_mut(sku) else { continue };
            if let Some(sum) = places.get_mut(location) {
                *sum -= units;
                if *sum == 0 {
                    places.remove(location);
                }
            }
            if places.is_empty() {
                self.taken.remove(sku);
            }
        }
        if let Some((key, _)) = told.idempotency
            && self.keys.get(&key) == Some(&told.serial)
        {
            self.keys.remove(&key);
        }
        let Some(id) = told.what.id() else { return };
        let over = |live: &Live| live.last <= told.serial && live.reservation.is_held().is_err();
        if self.live.get(id).is_some_and(over) {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: &str) {
        if let Some(live) = self.live.remove(id) {
            self.ends.remove(&(live.ends, id.to_string()));
        }
    }

    /// Notes what was told, with its serial; says when it is durable.
    pub(super) fn push(&mut self, told: Told) -> oneshot::Receiver<()> {
        self.issued = told.serial;
        for (sku, location, units) in told.what.takes() {
            let places = self.taken.entry(sku.to_string()).or_default();
            *places.entry(location.to_string()).or_default() += units;
        }
        if let Some((key, _)) = told.idempotency {
            self.keys.insert(key, told.serial);
        }
        let (waiter, durable) = oneshot::channel();
        let waiters = vec![waiter];
        self.pending.push_back(Pending { told, answer: None, durable: false, waiters });
        durable
    }

    fn position(&self, serial: u64) -> Option<usize> {
        self.pending.binary_search_by_key(&serial, |pending| pending.told.serial).ok()
    }

    /// What was told is on the disk, or never will be.
    pub(super) fn written(&mut self, serial: u64, durable: bool) {
        let at = self.position(serial);
        let Some(pending) = at.and_then(|at| self.pending.get_mut(at)) else { return };
        pending.durable = durable;
        for waiter in std::mem::take(&mut pending.waiters) {
            if durable {
                // Who hung up asks again.
                let _ = waiter.send(());
            }
        }
    }

    /// Notes what a reservation is after the newest that was told. Whether it ends before all others.
    pub(super) fn note(&mut self, id: &str, reservation: Reservation, now: Instant) -> bool {
        let told = self.pending.back_mut().filter(|pending| pending.told.what.id() == Some(id));
        let (mut last, mut anew) = (self.settled, true);
        if let Some(pending) = told {
            pending.answer = Some(reservation.clone());
            last = pending.told.serial;
            anew = matches!(pending.told.what, What::Held(_) | What::Extended(..));
        }
        let before = self.live.get(id).map(|live| live.ends);
        self.forget(id);
        let ttl = reservation.escrow.map_or(0, |escrow| escrow.ttl_ms);
        let ends = before.filter(|_| !anew).unwrap_or(now + Duration::from_millis(ttl));
        let first = self.ends.first().is_none_or(|(first, _)| ends < *first);
        if reservation.status == Status::Held {
            self.ends.insert((ends, id.to_string()));
        }
        self.live.insert(id.to_string(), Live { reservation, last, ends });
        first
    }

    /// A reservation that this node goes on with. Where the cluster has taken it over it does not.
    pub(super) fn known(&mut self, state: &State, id: &str, now: Instant) -> Option<&Reservation> {
        if let Some(known) = state.data().reservations.get(id) {
            if known.escrow.is_none_or(|escrow| escrow.holder != self.holder) {
                self.forget(id);
                return None;
            }
            if !self.live.contains_key(id) && known.status == Status::Held {
                self.take_in(id, known.clone(), now);
            }
        }
        self.held(id)
    }

    /// The same, as it was when it was looked for last.
    pub(super) fn held(&self, id: &str) -> Option<&Reservation> {
        self.live.get(id).map(|live| &live.reservation)
    }

    /// Goes on with a reservation that the replica knows, from what was told of it since.
    fn take_in(&mut self, id: &str, mut known: Reservation, now: Instant) {
        let mut last = self.settled;
        for pending in self.pending.iter().filter(|p| p.told.what.id() == Some(id)) {
            known.tell(&pending.told.what, pending.told.at);
            last = pending.told.serial;
        }
        let ttl = known.escrow.map_or(0, |escrow| escrow.ttl_ms);
        let ends = now + Duration::from_millis(ttl);
        if known.status == Status::Held {
            self.ends.insert((ends, id.to_string()));
        }
        self.live.insert(id.to_string(), Live { reservation: known, last, ends });
    }

    /// Takes in all that the replica says this node holds.
    pub(super) fn look(&mut self, state: &State, now: Instant) {
        let holder = self.holder;
        let own = state.escrowed().range((holder, String::new())..);
        for (_, id) in own.take_while(|(known, _)| *known == holder) {
            if !self.live.contains_key(id) {
                self.known(state, id, now);
            }
        }
    }

    /// What has come to its end by now, of what this node still goes on with.
    pub(super) fn over(&mut self, state: &State, now: Instant) -> Vec<String> {
        let over = self.ends.iter().take_while(|(ends, _)| *ends <= now);
        let over: Vec<String> = over.map(|(_, id)| id.clone()).collect();
        let held =
            |id: &String| self.known(state, id, now).is_some_and(|known| known.is_held().is_ok());
        over.into_iter().filter(held).collect()
    }

    /// When the next one ends.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.ends.first().map(|(ends, _)| *ends)
    }

    /// What was answered to a key, of what the replica does not know yet.
    pub(super) fn before(&mut self, state: &State, key: &Key, now: Instant) -> Option<Before> {
        let serial = *self.keys.get(key)?;
        let at = self.position(serial)?;
        let told = &self.pending.get(at)?.told;
        let (id, (_, body)) = (told.what.id()?.to_string(), told.idempotency?);
        let answer = self.pending.get(at)?.answer.clone();
        let reservation = match answer {
            Some(answer) => answer,
            None => self.known(state, &id, now)?.clone(),
        };
        let (waiter, durable) = oneshot::channel();
        let pending = self.pending.get_mut(at)?;
        if pending.durable {
            // The other end is right here.
            let _ = waiter.send(());
        } else {
            pending.waiters.push(waiter);
        }
        Some(Before { body, id, reservation, durable })
    }
}

#[cfg(test)]
mod tests;
