//! What is derived from the topics, so that nobody has to look through them: who is next, which keys are
//! taken, and what is due when.
//!
//! Nothing here is agreed on by itself: a node that starts from a snapshot derives the same ([`Lists::of`]).

use alloc::collections::{BTreeMap, BTreeSet};

use super::{Group, Held, MessageId, Place, Queue, Topic};
use crate::limits::{CLOSED_KEYS_MAX, DEAD_KEEP_MS};
use crate::origin::Lane;
use crate::{Id, Millis};

/// Everything derived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// By number of the topic.
    pub(super) topics: BTreeMap<u32, OfTopic>,
    timers: BTreeSet<(Millis, Timer)>,
    /// When the oldest messages of a topic go, or the next of what is left of it.
    walks: BTreeSet<(Millis, u32)>,
}

/// Derived of one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OfTopic {
    pub(super) name: Id,
    /// When its oldest message goes, or the next of what is left of it.
    pub(super) walks_at: Option<Millis>,
    /// By number of the group.
    pub(super) groups: BTreeMap<u32, OfGroup>,
}

/// Derived of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OfGroup {
    pub(super) name: Id,
    pub(super) ready: BTreeSet<MessageId>,
    pub(super) leased: u32,
    pub(super) parked: usize,
    pub(super) keys: BTreeMap<u64, OfKey>,
}

/// Derived of one key in one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OfKey {
    /// Its messages that are begun: ready, leased or to be tried again.
    pub(super) active: u32,
    /// Those of them that are ready.
    pub(super) ready: BTreeSet<MessageId>,
    /// Those that wait behind them: urgent ones first, each lane in its order.
    pub(super) parked: BTreeSet<MessageId>,
}

/// Something that happens by itself when its time comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A lease runs out, a message is tried again, or what was given up is forgotten.
    Message { topic: u32, group: u32, message: MessageId },
    /// A delayed message is published.
    Delayed { topic: u32, number: u64 },
    /// A key's rate allows one more.
    Key { topic: u32, group: u32, key: u64 },
}

impl Lists {
    /// What there is to derive from topics.
    #[must_use]
    pub fn of(queue: &Queue) -> Self {
        let mut lists = Self::default();
        for (name, topic) in &queue.topics {
            lists.add_topic(name.clone(), topic);
        }
        for topic in queue.leaving.values() {
            lists.add_topic(Id::default(), topic);
            lists.walk_at(topic, Some(0));
        }
        lists
    }

    /// When the next thing happens by itself.
    #[must_use]
    pub fn wakes_at(&self) -> Option<Millis> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let walk = self.walks.first().map(|(at, _)| *at);
        timer.into_iter().chain(walk).min()
    }

    /// Whether a lease in a group would grant something now, as far as this list knows. A group that is not
    /// there yet would begin with everything.
    #[must_use]
    pub fn is_ready(&self, topic: &Topic, group: &str, now: Millis) -> bool {
        let Some(known) = topic.groups.get(group) else {
            return !topic.paused && topic.urgent.messages.len() + topic.normal.messages.len() > 0;
        };
        let derived = self.topics.get(&topic.number).and_then(|t| t.groups.get(&known.number));
        let ready = derived.is_some_and(|d| !d.ready.is_empty());
        let open = derived.is_none_or(|d| d.leased < topic.settings.concurrency);
        let beyond = (known.urgent < topic.urgent.published
            || known.normal < topic.normal.published)
            && known.may_begin();
        !topic.paused
            && !known.has_void()
            && open
            && known.opens_at_us(&topic.settings) <= now.saturating_mul(1_000)
            && known.closed_keys.len() < CLOSED_KEYS_MAX
            && (ready || beyond)
    }

    /// How many of a group's messages are ready, leased, to be tried again, and parked.
    #[must_use]
    pub fn held(&self, topic: &Topic, group: &Group) -> [usize; 4] {
        let derived = self.topics.get(&topic.number).and_then(|t| t.groups.get(&group.number));
        let Some(derived) = derived else { return [0; 4] };
        let ready = derived.ready.len();
        let leased = usize::try_from(derived.leased).unwrap_or(usize::MAX);
        let parked = derived.parked;
        [ready, leased, group.held.len().saturating_sub(ready + leased + parked), parked]
    }

    pub(super) fn add_topic(&mut self, name: Id, topic: &Topic) {
        self.topics.insert(topic.number, OfTopic { name, ..OfTopic::default() });
        for (number, delayed) in topic.delayed.iter() {
            self.start(delayed.at, Timer::Delayed { topic: topic.number, number });
        }
        for (name, group) in &topic.groups {
            self.add_group(name.clone(), topic, group);
        }
        for group in topic.leaving.values() {
            self.add_group(Id::default(), topic, group);
        }
        self.walk_at(topic, topic.walks_at());
    }

    /// A topic is deleted: nobody finds it, or a group of it, by name.
    pub(super) fn unname_topic(&mut self, topic: &Topic) {
        if let Some(of_topic) = self.topics.get_mut(&topic.number) {
            of_topic.name = Id::default();
            of_topic.groups.values_mut().for_each(|group| group.name = Id::default());
        }
        self.walk_at(topic, Some(0));
    }

    /// A group is deleted.
    pub(super) fn unname_group(&mut self, topic: u32, group: u32) {
        let of_topic = self.topics.get_mut(&topic);
        if let Some(of_group) = of_topic.and_then(|of_topic| of_topic.groups.get_mut(&group)) {
            of_group.name = Id::default();
        }
    }

    /// Forgets a group of which nothing is left.
    pub(super) fn forget_group(&mut self, topic: u32, group: u32) {
        if let Some(of_topic) = self.topics.get_mut(&topic) {
            of_topic.groups.remove(&group);
        }
    }

    pub(super) fn name_of(&self, number: u32) -> Option<Id> {
        self.topics.get(&number).map(|of_topic| of_topic.name.clone())
    }

    /// Forgets a topic of which nothing is left.
    pub(super) fn forget_topic(&mut self, topic: &Topic) {
        self.walk_at(topic, None);
        self.topics.remove(&topic.number);
    }

    pub(super) fn add_group(&mut self, name: Id, topic: &Topic, group: &Group) {
        let mut of_group = OfGroup { name, ..OfGroup::default() };
        for (id, held) in group.held.iter() {
            let id = MessageId(id);
            if let Some(at) = held.wakes_at() {
                let of = (topic.number, group.number);
                self.start(at, Timer::Message { topic: of.0, group: of.1, message: id });
            }
            let key = topic.message(id).map_or(0, |message| message.key);
            of_group.enter(id, held, key);
        }
        for (id, dead) in group.dead.iter() {
            self.start(dead.time + DEAD_KEEP_MS, Timer::of(topic, group, MessageId(id)));
        }
        for (key, until) in &group.closed_keys {
            let (topic, group) = (topic.number, group.number);
            self.start(*until, Timer::Key { topic, group, key: *key });
        }
        let of_topic = self.topics.entry(topic.number).or_default();
        of_topic.groups.insert(group.number, of_group);
    }

    pub(super) fn start(&mut self, at: Millis, timer: Timer) {
        self.timers.insert((at, timer));
    }

    pub(super) fn stop(&mut self, at: Millis, timer: Timer) {
        self.timers.remove(&(at, timer));
    }

    /// The next timer that is due; it does not run again by itself.
    pub(super) fn due(&mut self, now: Millis) -> Option<Timer> {
        self.timers.first().filter(|(at, _)| *at <= now)?;
        self.timers.pop_first().map(|(_, timer)| timer)
    }

    /// The next topic of which something old is to go.
    pub(super) fn due_walk(&self, now: Millis) -> Option<u32> {
        self.walks.first().filter(|(at, _)| *at <= now).map(|(_, topic)| *topic)
    }

    /// Sets when a topic is walked next.
    pub(super) fn walk_at(&mut self, topic: &Topic, at: Option<Millis>) {
        let of_topic = self.topics.entry(topic.number).or_default();
        if let Some(before) = core::mem::replace(&mut of_topic.walks_at, at) {
            self.walks.remove(&(before, topic.number));
        }
        if let Some(at) = at {
            self.walks.insert((at, topic.number));
        }
    }
}

impl Timer {
    pub(super) const fn of(topic: &Topic, group: &Group, message: MessageId) -> Self {
        Self::Message { topic: topic.number, group: group.number, message }
    }
}

impl OfGroup {
    /// Lists a held message.
    pub(super) fn enter(&mut self, id: MessageId, held: &Held, key: u64) {
        match held.place {
            Place::Ready => drop(self.ready.insert(id)),
            Place::Leased { .. } => self.leased += 1,
            Place::Retry { .. } | Place::Parked => {}
        }
        if key == 0 {
            return;
        }
        let of_key = self.keys.entry(key).or_default();
        if held.place == Place::Parked {
            of_key.parked.insert(id);
            self.parked += 1;
            return;
        }
        of_key.active += 1;
        if held.place == Place::Ready {
            of_key.ready.insert(id);
        }
    }

    /// Takes a held message off the lists.
    pub(super) fn leave(&mut self, id: MessageId, held: &Held, key: u64) {
        match held.place {
            Place::Ready => drop(self.ready.remove(&id)),
            Place::Leased { .. } => self.leased -= 1,
            Place::Retry { .. } | Place::Parked => {}
        }
        let Some(of_key) = self.keys.get_mut(&key) else { return };
        if held.place == Place::Parked {
            of_key.parked.remove(&id);
            self.parked -= 1;
        } else {
            of_key.active -= 1;
            of_key.ready.remove(&id);
        }
        if *of_key == OfKey::default() {
            self.keys.remove(&key);
        }
    }
}

impl Held {
    /// When it moves on by itself.
    pub(super) const fn wakes_at(&self) -> Option<Millis> {
        match self.place {
            Place::Leased { until, .. } => Some(until),
            Place::Retry { at } => Some(at),
            Place::Ready | Place::Parked => None,
        }
    }
}

impl Topic {
    /// When it is to be walked: at once if something is left to be worked off. Otherwise when the oldest message
    /// that nobody holds by name goes: of what every group has come to, that is
    /// when it can no longer be replayed; of the rest, when it has waited too long.
    pub(super) fn walks_at(&self) -> Option<Millis> {
        if !self.leaving.is_empty() || self.groups.values().any(Group::is_swept) {
            return Some(0);
        }
        let oldest = [Lane::Urgent, Lane::Normal].into_iter().filter_map(|lane| {
            let (id, message) = self.oldest(lane)?;
            Some(message.time + self.keeps(id))
        });
        oldest.min()
    }

    /// The oldest message of a lane that is not kept only because somebody holds it.
    pub(super) fn oldest(&self, lane: Lane) -> Option<(MessageId, super::Message)> {
        let of_lane = self.lane(lane);
        let above = MessageId::new(lane, of_lane.floor + 1);
        let (id, message) = of_lane.messages.from(above.0).next()?;
        Some((MessageId(id), *message))
    }

    /// Whether every group has come to a message, and there is one.
    pub(super) fn is_passed(&self, id: MessageId) -> bool {
        let mut groups = self.groups.values();
        !self.groups.is_empty() && groups.all(|group| group.at(id.lane()) >= id.place())
    }

    /// How long a message is kept from its publication on.
    pub(super) fn keeps(&self, id: MessageId) -> Millis {
        let Self { settings, .. } = self;
        if self.is_passed(id) { settings.replay_ms } else { settings.retention_ms }
    }
}
