//! One topic being worked on, and one group of it.

use alloc::vec::Vec;

use super::lists::{Lists, OfGroup, Timer};
use super::{Dead, Group, Held, Message, MessageId, Place, Topic};
use crate::dedup::Expiring;
use crate::limits::{DEAD_KEEP_MS, GIVEN_UP_MAX, SWEPT_AT_ONCE_MAX};
use crate::machine::Stamp;
use crate::{Effects, Id, Key};

/// A topic with all that changes along with it.
pub(super) struct Desk<'a> {
    pub(super) topic: &'a mut Topic,
    pub(super) lists: &'a mut Lists,
    pub(super) dedup: &'a mut Expiring<Key, (u32, MessageId)>,
    /// Messages of all topics.
    pub(super) messages: &'a mut u64,
    pub(super) effects: &'a mut Effects,
    pub(super) stamp: Stamp,
    /// Whether the topic was deleted.
    pub(super) leaving: bool,
}

/// A group taken out of its topic to be worked with. It goes back with [`Desk::rise`].
pub(super) struct Seat {
    /// Empty if it was deleted.
    pub(super) name: Id,
    pub(super) group: Group,
    pub(super) derived: OfGroup,
    /// Messages that it may have been the last to hold.
    finished: Vec<MessageId>,
}

impl Desk<'_> {
    /// Takes a group out.
    pub(super) fn sit(&mut self, name: &str) -> Option<Seat> {
        let number = self.topic.groups.get(name)?.number;
        self.sit_at(number)
    }

    /// The same by its number; one that was deleted, too.
    pub(super) fn sit_at(&mut self, number: u32) -> Option<Seat> {
        let of_topic = self.lists.topics.get_mut(&self.topic.number)?;
        let derived = of_topic.groups.get_mut(&number)?;
        let name = derived.name.clone();
        let known = if name.is_empty() {
            self.topic.leaving.get_mut(&number)?
        } else {
            self.topic.groups.get_mut(&name)?
        };
        let (group, derived) = (core::mem::take(known), core::mem::take(derived));
        Some(Seat { name, group, derived, finished: Vec::new() })
    }

    /// Puts a group back. What nobody holds any more goes, if it is not kept for replays.
    pub(super) fn rise(&mut self, seat: Seat) {
        let Seat { name, group, derived, finished } = seat;
        let (number, reviewed) = (group.number, group.review.is_some());
        if let Some(of_topic) = self.lists.topics.get_mut(&self.topic.number) {
            of_topic.groups.insert(number, derived);
        }
        if name.is_empty() {
            self.topic.leaving.insert(number, group);
        } else {
            self.topic.groups.insert(name, group);
        }
        for id in finished {
            self.settle(id);
        }
        if reviewed {
            self.time_walk();
        }
    }

    /// Drops a message that was kept only because somebody held it, if nobody does; whether it did.
    pub(super) fn settle(&mut self, id: MessageId) -> bool {
        let kept = id.place() > self.topic.lane(id.lane()).floor;
        if !kept && !self.topic.everybody().any(|group| group.pins(id)) {
            return self.drop_message(id);
        }
        false
    }

    /// Drops a message and its body; whether there was one.
    pub(super) fn drop_message(&mut self, id: MessageId) -> bool {
        let message = self.topic.lane_mut(id.lane()).messages.remove(id.0);
        message.map(|message| self.drop_body(message)).is_some()
    }

    pub(super) fn drop_body(&mut self, message: Message) {
        self.topic.bytes = self.topic.bytes.saturating_sub(message.bytes.into());
        *self.messages = self.messages.saturating_sub(1);
        self.effects.dropped.push((message.index, message.n));
    }

    /// Puts a message of a group into a place.
    pub(super) fn put(&mut self, seat: &mut Seat, id: MessageId, held: Held) {
        self.unlist(seat, id);
        seat.derived.enter(id, &held, self.key_of(id));
        if let Some(at) = held.wakes_at() {
            self.lists.start(at, Timer::of(self.topic, &seat.group, id));
        }
        seat.group.held.insert(id.0, held);
    }

    /// Takes a message of a group out of its place.
    pub(super) fn take(&mut self, seat: &mut Seat, id: MessageId) -> Option<Held> {
        self.unlist(seat, id);
        seat.group.held.remove(id.0)
    }

    fn unlist(&mut self, seat: &mut Seat, id: MessageId) {
        let Some(held) = seat.group.held.get(id.0) else { return };
        seat.derived.leave(id, held, self.key_of(id));
        if let Some(at) = held.wakes_at() {
            self.lists.stop(at, Timer::of(self.topic, &seat.group, id));
        }
    }

    pub(super) fn key_of(&self, id: MessageId) -> u64 {
        self.topic.message(id).map_or(0, |message| message.key)
    }

    /// Lets a message wait for its turn: at once, unless earlier ones of its key or a bound of the key are in
    /// the way.
    pub(super) fn line_up(&mut self, seat: &mut Seat, id: MessageId, attempts: u32) {
        match self.key_of(id) {
            0 => self.put(seat, id, Held { attempts, place: Place::Ready }),
            key => {
                self.put(seat, id, Held { attempts, place: Place::Parked });
                self.unpark(seat, key);
            }
        }
    }

    /// Lets as many messages of a key be ready as may be; how many they are. Of a great many, the rest is left
    /// to a review.
    pub(super) fn unpark(&mut self, seat: &mut Seat, key: u64) -> usize {
        let mut unparked = 0;
        if key == 0 || self.is_closed(seat, key) {
            return unparked;
        }
        // Where a key has a rate, each lease closes it: more than one that is ready would be put back.
        let only_one = self.topic.settings.key_rate.is_some();
        while let Some(of_key) = seat.derived.keys.get(&key)
            && of_key.active < self.topic.settings.key_concurrency
            && (of_key.ready.is_empty() || !only_one)
            && let Some(id) = of_key.parked.first().copied()
            && let Some(held) = seat.group.held.get(id.0).copied()
        {
            if unparked == SWEPT_AT_ONCE_MAX {
                seat.group.review = Some(seat.group.review.map_or(key, |from| from.min(key)));
                break;
            }
            self.put(seat, id, Held { place: Place::Ready, ..held });
            unparked += 1;
        }
        unparked
    }

    /// Whether nothing of a key is leased for now.
    pub(super) fn is_closed(&self, seat: &Seat, key: u64) -> bool {
        self.topic.paused_keys.contains(&key) || seat.group.closed_keys.contains_key(&key)
    }

    /// A group is done with a message.
    pub(super) fn finish(&mut self, seat: &mut Seat, id: MessageId) {
        let key = self.key_of(id);
        self.take(seat, id);
        seat.finished.push(id);
        self.unpark(seat, key);
    }

    /// A group gives a message up. Of too many, the oldest is forgotten.
    pub(super) fn give_up(&mut self, seat: &mut Seat, id: MessageId, attempts: u32, reason: &str) {
        let key = self.key_of(id);
        self.take(seat, id);
        let time = self.stamp.now;
        seat.group.dead.insert(id.0, Dead { attempts, reason: reason.into(), time });
        self.lists.start(time + DEAD_KEEP_MS, Timer::of(self.topic, &seat.group, id));
        let oldest = seat.group.dead.iter().next().map(|(id, _)| MessageId(id));
        if let Some(oldest) = oldest.filter(|_| seat.group.dead.len() > GIVEN_UP_MAX) {
            self.forget(seat, oldest);
            self.topic.dropped += 1;
        }
        self.unpark(seat, key);
    }

    /// Forgets what was given up; whether it was.
    pub(super) fn forget(&mut self, seat: &mut Seat, id: MessageId) -> bool {
        let Some(dead) = seat.group.dead.remove(id.0) else { return false };
        self.lists.stop(dead.time + DEAD_KEEP_MS, Timer::of(self.topic, &seat.group, id));
        seat.finished.push(id);
        true
    }

    /// Lists anew when the oldest messages go.
    pub(super) fn time_walk(&mut self) {
        let at = if self.leaving { Some(0) } else { self.topic.walks_at() };
        self.lists.walk_at(self.topic, at);
    }
}
