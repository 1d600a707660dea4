//! Who gets which message, and what becomes of it.

use alloc::vec::Vec;

use super::again::Runs;
use super::ask::{LeaseId, Leased, Refused};
use super::desk::{Desk, Seat};
use super::lists::Timer;
use super::{Group, Held, MessageId, Place};
use crate::limits::{
    CLOSED_KEYS_MAX, DELAY_MAX_MS, GROUPS_MAX, HELD_MAX, LEASE_MAX_MS, LEASE_MESSAGES_MAX,
    LEASE_MIN_MS, LOOKED_AT_MAX, NAME_LEN_MAX, SWEPT_AT_ONCE_MAX,
};
use crate::origin::Lane;
use crate::{Id, Millis};

/// Urgent messages that go before one that is not, while both wait.
const URGENT_RUN: u32 = 8;

impl Desk<'_> {
    /// Leases messages to a worker of a group; if they are to be named `once` more, no more than are easily named.
    pub(super) fn lease(
        &mut self,
        group: &str,
        max: u32,
        lease_ms: Millis,
        once: bool,
    ) -> Result<Vec<Leased>, Refused> {
        if !(1..=LEASE_MESSAGES_MAX).contains(&max) {
            return Err(Refused::Invalid(alloc::format!("max: 1 to {LEASE_MESSAGES_MAX}")));
        }
        let until = self.stamp.now + lease_time(lease_ms)?;
        if !self.topic.groups.contains_key(group) {
            self.begin(group)?;
        }
        let Some(mut seat) = self.sit(group) else { return Ok(Vec::new()) };
        let mut leased: Vec<Leased> = Vec::new();
        let mut runs = Runs::default();
        let mut looks = LOOKED_AT_MAX;
        let most = usize::try_from(max).unwrap_or(usize::MAX);
        while leased.len() < most && self.may_lease(&seat) {
            let Some(id) = self.next(&mut seat, &mut looks) else { break };
            let attempts = seat.group.held.get(id.0).map_or(0, |held| held.attempts) + 1;
            if once && !runs.fits(id, attempts) {
                break;
            }
            runs.push(id, attempts);
            leased.extend(self.grant(&mut seat, id, until));
        }
        self.rise(seat);
        self.time_walk();
        Ok(leased)
    }

    /// Makes a group that begins before all that is kept.
    pub(super) fn begin(&mut self, name: &str) -> Result<(), Refused> {
        if !super::is_name(name) {
            return Err(Refused::Invalid(super::name_rule("group")));
        }
        if self.topic.everybody().count() >= GROUPS_MAX {
            return Err(Refused::TooMany(alloc::format!("{GROUPS_MAX} groups")));
        }
        self.topic.groups_made += 1;
        let number = self.topic.groups_made;
        let (urgent, normal) = (self.topic.urgent.floor, self.topic.normal.floor);
        let group = Group { number, urgent, normal, ..Group::default() };
        self.lists.add_group(name.into(), self.topic, &group);
        self.topic.groups.insert(Id::from(name), group);
        Ok(())
    }

    fn may_lease(&self, seat: &Seat) -> bool {
        !self.topic.paused
            && seat.group.begun < self.stamp.index
            && !seat.group.has_void()
            && seat.group.closed_keys.len() < CLOSED_KEYS_MAX
            && seat.derived.leased < self.topic.settings.concurrency
            && seat.group.opens_at_us(&self.topic.settings) <= self.stamp.now * 1_000
    }

    /// The next message that is ready. Looks at a bounded number of messages that are not.
    fn next(&mut self, seat: &mut Seat, looks: &mut u32) -> Option<MessageId> {
        let lanes = if seat.group.urgent_run >= URGENT_RUN {
            [Lane::Normal, Lane::Urgent]
        } else {
            [Lane::Urgent, Lane::Normal]
        };
        lanes.into_iter().find_map(|lane| self.next_of(seat, lane, looks))
    }

    fn next_of(&mut self, seat: &mut Seat, lane: Lane, looks: &mut u32) -> Option<MessageId> {
        loop {
            let first = MessageId::new(lane, 0);
            let last = MessageId::new(lane, u64::MAX);
            if let Some(id) = seat.derived.ready.range(first..=last).next().copied() {
                if !self.is_closed(seat, self.key_of(id)) {
                    return Some(id);
                }
                // There was more of a key than one command puts aside.
                if *looks == 0 {
                    return None;
                }
                *looks -= 1;
                self.put_aside(seat, id);
                continue;
            }
            if *looks == 0 || !seat.group.may_begin() {
                return None;
            }
            *looks -= 1;
            let of_lane = self.topic.lane(lane);
            let at = seat.group.at_mut(lane);
            let beyond = MessageId::new(lane, *at + 1);
            let Some((id, _)) = of_lane.messages.from(beyond.0).next() else {
                *at = of_lane.published;
                return None;
            };
            *at = MessageId(id).place();
            self.line_up(seat, MessageId(id), 0);
        }
    }

    fn grant(&mut self, seat: &mut Seat, id: MessageId, until: Millis) -> Option<Leased> {
        let message = *self.topic.message(id)?;
        let attempts = seat.group.held.get(id.0)?.attempts + 1;
        let (token, now) = (self.stamp.index, self.stamp.now);
        self.put(seat, id, Held { attempts, place: Place::Leased { token, until } });
        seat.group.urgent_run = match id.lane() {
            Lane::Urgent => seat.group.urgent_run.saturating_add(1),
            Lane::Normal => 0,
        };
        if let Some(rate) = self.topic.settings.rate {
            let spent = seat.group.spent_until_us.max(now * 1_000);
            seat.group.spent_until_us = spent + rate.interval_us();
        }
        if let Some(rate) = self.topic.settings.key_rate.filter(|_| message.key != 0) {
            self.close(seat, message.key, now + rate.interval_ms());
        }
        let lease = LeaseId { group: seat.group.number, message: id, token };
        Some(Leased { lease, attempts, until, message })
    }

    /// Leases nothing of a key until then. What of it is ready waits.
    fn close(&mut self, seat: &mut Seat, key: u64, until: Millis) {
        let timer = Timer::Key { topic: self.topic.number, group: seat.group.number, key };
        if let Some(before) = seat.group.closed_keys.insert(key, until) {
            self.lists.stop(before, timer);
        }
        self.lists.start(until, timer);
        // Where only one is active, it is the one that was just leased.
        if self.topic.settings.key_concurrency > 1 {
            self.park(seat, key);
        }
    }

    /// Parks what of a key is ready. Of a great many, the rest when it is come to.
    pub(super) fn park(&mut self, seat: &mut Seat, key: u64) {
        let Some(of_key) = seat.derived.keys.get(&key) else { return };
        for id in of_key.ready.iter().copied().take(SWEPT_AT_ONCE_MAX).collect::<Vec<_>>() {
            self.put_aside(seat, id);
        }
    }

    fn put_aside(&mut self, seat: &mut Seat, id: MessageId) {
        let attempts = seat.group.held.get(id.0).map_or(0, |held| held.attempts);
        self.put(seat, id, Held { attempts, place: Place::Parked });
    }

    /// A key's rate allows one more.
    pub(super) fn open(&mut self, seat: &mut Seat, key: u64) {
        seat.group.closed_keys.remove(&key);
        self.unpark(seat, key);
    }

    /// Does something with each message that is leased just so; says for each whether it is.
    pub(super) fn with_leases(
        &mut self,
        leases: &[LeaseId],
        mut with: impl FnMut(&mut Self, &mut Seat, MessageId, Held),
    ) -> Vec<bool> {
        let mut done = Vec::with_capacity(leases.len());
        for lease in leases {
            let Some(mut seat) = self.sit_at(lease.group) else {
                done.push(false);
                continue;
            };
            let held = seat.group.held.get(lease.message.0).copied();
            let held = held.filter(|_| !seat.group.is_void(lease.message));
            let is_it = |held: &Held| matches!(held.place, Place::Leased { token, .. } if token == lease.token);
            let current = held.filter(is_it);
            if let Some(held) = current {
                with(self, &mut seat, lease.message, held);
            }
            done.push(current.is_some());
            self.rise(seat);
        }
        done
    }

    /// Finished.
    pub(super) fn ack(&mut self, leases: &[LeaseId]) -> Vec<bool> {
        self.with_leases(leases, |desk, seat, id, _| {
            desk.finish(seat, id);
            seat.group.finished += 1;
        })
    }

    /// Failed.
    pub(super) fn nack(
        &mut self,
        leases: &[LeaseId],
        delay_ms: Option<Millis>,
        reason: &str,
    ) -> Result<Vec<bool>, Refused> {
        if delay_ms.is_some_and(|delay| delay > DELAY_MAX_MS) {
            let most = DELAY_MAX_MS / 1_000;
            return Err(Refused::Invalid(alloc::format!("delay_s: {most} at the most")));
        }
        let end = (0..=NAME_LEN_MAX).rev().find(|end| reason.is_char_boundary(*end));
        let reason = reason.get(..end.unwrap_or(0)).unwrap_or_default();
        Ok(self.with_leases(leases, |desk, seat, id, held| {
            let seed = id.0 ^ (u64::from(held.attempts) << 32);
            let backoff = || desk.topic.settings.backoff(held.attempts, seed);
            let delay = delay_ms.unwrap_or_else(backoff);
            desk.fail(seat, id, (held.attempts, delay), reason);
        }))
    }

    /// Takes longer.
    pub(super) fn extend(
        &mut self,
        leases: &[LeaseId],
        lease_ms: Millis,
    ) -> Result<Vec<bool>, Refused> {
        let until = self.stamp.now + lease_time(lease_ms)?;
        Ok(self.with_leases(leases, |desk, seat, id, held| {
            let Place::Leased { token, .. } = held.place else { return };
            desk.put(seat, id, Held { place: Place::Leased { token, until }, ..held });
        }))
    }

    /// A try came to nothing: another one after a while, or none.
    fn fail(
        &mut self,
        seat: &mut Seat,
        id: MessageId,
        (attempts, delay): (u32, Millis),
        why: &str,
    ) {
        if attempts >= self.topic.settings.attempts {
            self.give_up(seat, id, attempts, why);
        } else if delay == 0 {
            self.line_up(seat, id, attempts);
        } else {
            let place = Place::Retry { at: self.stamp.now + delay };
            self.put(seat, id, Held { attempts, place });
        }
    }

    /// The time of a message has come: its lease runs out, it is tried again, or it is forgotten.
    pub(super) fn wake(&mut self, seat: &mut Seat, id: MessageId) {
        if seat.group.is_void(id) {
            self.sweep_out(seat, id);
            return;
        }
        match seat.group.held.get(id.0).copied() {
            // Whoever had it is gone: another worker may begin at once.
            Some(Held { attempts, place: Place::Leased { .. } }) => {
                self.fail(seat, id, (attempts, 0), "the lease ran out");
            }
            Some(held) => self.line_up(seat, id, held.attempts),
            None => drop(self.forget(seat, id)),
        }
    }
}

impl Group {
    /// Whether it may come to further messages.
    pub(super) fn may_begin(&self) -> bool {
        self.held.len() < HELD_MAX
    }

    /// When the next lease is within the rate, in microseconds: so many may come at once, and then one
    /// after each interval (the generic cell rate algorithm).
    #[must_use]
    pub fn opens_at_us(&self, settings: &super::settings::Settings) -> u64 {
        let Some(rate) = settings.rate else { return 0 };
        let burst = rate.interval_us() * u64::from(rate.count.saturating_sub(1));
        self.spent_until_us.saturating_sub(burst)
    }
}

fn lease_time(lease_ms: Millis) -> Result<Millis, Refused> {
    if (LEASE_MIN_MS..=LEASE_MAX_MS).contains(&lease_ms) {
        return Ok(lease_ms);
    }
    let (least, most) = (LEASE_MIN_MS / 1_000, LEASE_MAX_MS / 1_000);
    Err(Refused::Invalid(alloc::format!("lease_s: {least} to {most}")))
}
