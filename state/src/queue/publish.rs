//! How messages come in, and how they leave for good.

use alloc::string::String;
use alloc::vec::Vec;

use super::ask::{Publish, Published, Refused};
use super::desk::Desk;
use super::settings::Settings;
use super::{Delayed, Message, MessageId};
use crate::buckets::hash_of;
use crate::limits::{
    DEDUP_IDS_MAX, DELAY_MAX_MS, MESSAGE_BYTES_MAX, NAME_LEN_MAX, QUEUE_MESSAGES_MAX,
    REQUEST_MESSAGES_MAX,
};
use crate::origin::Lane;
use crate::reply::{Body, Kept};

/// Messages looked at to make room for one request.
const ROOM_LOOKS_MAX: usize = 2 * REQUEST_MESSAGES_MAX;

impl Desk<'_> {
    /// Takes messages in: all of them, or none.
    pub(super) fn publish(&mut self, messages: Vec<Publish>) -> Result<Vec<Published>, Refused> {
        if messages.len() > REQUEST_MESSAGES_MAX {
            let most = alloc::format!("messages: {REQUEST_MESSAGES_MAX} at the most");
            return Err(Refused::Invalid(most));
        }
        messages.iter().try_for_each(check)?;
        let new = messages.iter().filter(|message| self.known(message).is_none());
        let bytes = new.clone().map(|message| message.body.len()).sum();
        if !self.make_room(new.count(), bytes, self.topic.settings.drop_oldest) {
            // Some may have gone though it was not enough.
            self.time_walk();
            let (messages, bytes) = (self.topic.depth(), self.topic.bytes);
            return Err(Refused::Full { messages, bytes });
        }
        let published = messages.into_iter().map(|message| self.publish_one(message)).collect();
        self.time_walk();
        Ok(published)
    }

    /// Takes a message in that nobody asked for, such as what a delivery said: a full topic makes room. Its body
    /// is what is `kept`.
    pub(super) fn offer(&mut self, message: &Publish, kept: Kept) {
        if self.known(message).is_some() {
            return;
        }
        if check(message).is_ok() && self.make_room(1, kept.len(), true) {
            self.take_in(message, kept);
        } else {
            self.topic.dropped += 1;
        }
        self.time_walk();
    }

    fn publish_one(&mut self, mut message: Publish) -> Published {
        if let Some(id) = self.known(&message) {
            return Published::Duplicate(id);
        }
        let body = core::mem::take(&mut message.body);
        let kept = Kept::Message { key: message.key.clone(), body };
        self.take_in(&message, kept)
    }

    fn known(&self, message: &Publish) -> Option<MessageId> {
        let (topic, id) = self.dedup.get(&message.dedup?)?;
        (*topic == self.topic.number).then_some(*id)
    }

    fn take_in(&mut self, asked: &Publish, kept: Kept) -> Published {
        let now = self.stamp.now;
        let n = u32::try_from(self.effects.bodies.len()).unwrap_or(u32::MAX);
        let bytes = u32::try_from(kept.len()).unwrap_or(u32::MAX);
        let key = asked.key.as_deref().map_or(0, key_hash);
        self.effects.bodies.push(Body { n, kept });
        self.topic.bytes += u64::from(bytes);
        *self.messages += 1;
        let message = Message { index: self.stamp.index, n, bytes, key, time: now };
        let (published, id) = if asked.delay_ms == 0 {
            let id = self.append(asked.lane, message);
            (Published::New(id), id)
        } else {
            self.topic.delays += 1;
            let (number, at) = (self.topic.delays, now + asked.delay_ms);
            let lane = asked.lane;
            self.topic.delayed.insert(number, Delayed { at, lane, message });
            self.lists.start(at, super::lists::Timer::Delayed { topic: self.topic.number, number });
            (Published::Delayed(number), MessageId::default())
        };
        if let Some(dedup) = asked.dedup {
            let expires = now + self.topic.settings.dedup_ms;
            self.dedup.insert(dedup, (self.topic.number, id), expires, DEDUP_IDS_MAX);
        }
        published
    }

    fn append(&mut self, lane: Lane, message: Message) -> MessageId {
        let of_lane = self.topic.lane_mut(lane);
        of_lane.published += 1;
        let id = MessageId::new(lane, of_lane.published);
        of_lane.messages.insert(id.0, message);
        id
    }

    /// Drops a delayed message.
    pub(super) fn drop_delayed(&mut self, number: u64) {
        if let Some(delayed) = self.topic.delayed.remove(number) {
            let timer = super::lists::Timer::Delayed { topic: self.topic.number, number };
            self.lists.stop(delayed.at, timer);
            self.drop_body(delayed.message);
        }
    }

    /// The time of a delayed message has come.
    pub(super) fn appear(&mut self, number: u64) {
        if let Some(delayed) = self.topic.delayed.remove(number) {
            let message = Message { time: self.stamp.now, ..delayed.message };
            self.append(delayed.lane, message);
            self.time_walk();
        }
    }

    /// Sees to it that so much more fits. What every group has come to goes first, however young; the rest only
    /// if `at_any_price`, and only if it makes room enough.
    fn make_room(&mut self, count: usize, bytes: usize, at_any_price: bool) -> bool {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let Settings { messages_max, bytes_max, .. } = self.topic.settings;
        if count > messages_max || bytes > bytes_max {
            return count == 0;
        }
        let mut looks = ROOM_LOOKS_MAX;
        loop {
            let excess = (
                (self.topic.depth() + count)
                    .saturating_sub(messages_max)
                    .max((*self.messages + count).saturating_sub(QUEUE_MESSAGES_MAX)),
                (self.topic.bytes + bytes).saturating_sub(bytes_max),
            );
            if excess == (0, 0) {
                return true;
            }
            let oldest = |lane| self.topic.oldest(lane).map(|(id, _)| id);
            let mut both = [Lane::Urgent, Lane::Normal].into_iter().filter_map(oldest);
            let Some(id) = both.find(|id| self.topic.is_passed(*id)).filter(|_| looks > 0) else {
                return at_any_price && self.drop_unseen(excess);
            };
            looks -= 1;
            self.pass_by(id);
        }
    }

    /// Drops the oldest messages until so many of them and of their bytes are gone; none if that cannot be.
    fn drop_unseen(&mut self, (mut count, mut bytes): (u64, u64)) -> bool {
        let beyond = |lane| MessageId::new(lane, self.topic.lane(lane).floor + 1).0;
        let [mut urgent, mut normal] = [Lane::Urgent, Lane::Normal]
            .map(|lane| self.topic.lane(lane).messages.from(beyond(lane)).peekable());
        let mut chosen = Vec::new();
        while count > 0 || bytes > 0 {
            let next = match (urgent.peek(), normal.peek()) {
                (Some((_, first)), Some((_, second))) if first.time > second.time => normal.next(),
                (Some(_), _) => urgent.next(),
                _ => normal.next(),
            };
            let Some((id, message)) = next.filter(|_| chosen.len() < ROOM_LOOKS_MAX) else {
                return false;
            };
            let id = MessageId(id);
            chosen.push(id);
            // What somebody holds stays.
            if !self.topic.everybody().any(|group| group.pins(id)) {
                count = count.saturating_sub(1);
                bytes = bytes.saturating_sub(message.bytes.into());
            }
        }
        drop((urgent, normal));
        for id in chosen {
            self.topic.dropped += u64::from(!self.topic.is_passed(id));
            self.pass_by(id);
        }
        true
    }

    /// Keeps a message no longer for those who have not come to it.
    pub(super) fn pass_by(&mut self, id: MessageId) {
        for group in self.topic.groups.values_mut() {
            let at = group.at_mut(id.lane());
            *at = (*at).max(id.place());
        }
        let of_lane = self.topic.lane_mut(id.lane());
        of_lane.floor = of_lane.floor.max(id.place());
        self.settle(id);
    }
}

/// The hash by which messages of one key are known. Never 0.
#[must_use]
pub fn key_hash(key: &str) -> u64 {
    hash_of(key).max(1)
}

pub(super) fn check(message: &Publish) -> Result<(), Refused> {
    let wrong = if message.body.len() > MESSAGE_BYTES_MAX {
        alloc::format!("body: {MESSAGE_BYTES_MAX} bytes at the most")
    } else if message.delay_ms > DELAY_MAX_MS {
        alloc::format!("delay_s: {} at the most", DELAY_MAX_MS / 1_000)
    } else if message.key.as_ref().is_some_and(|key| !(1..=NAME_LEN_MAX).contains(&key.len())) {
        alloc::format!("key: 1 to {NAME_LEN_MAX} bytes")
    } else {
        String::new()
    };
    if wrong.is_empty() { Ok(()) } else { Err(Refused::Invalid(wrong)) }
}
