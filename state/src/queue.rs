//! Topics: messages for programs outside, leased to one worker at a time and kept until each group of workers
//! has finished with them.
//!
//! A topic is two lanes of messages in the order in which they came. A group goes through each lane with a
//! mark of its own ([`Group::at`]): what lies beyond the mark costs it nothing. Only what it has begun and
//! not finished is [held](Held) by name: leased, waiting to be tried again, or waiting for an earlier message of
//! the same key. So a depth of millions is one small record a message, whatever the number of groups.
//!
//! Bodies lie beside the state and are named by log index and number; see [`Effects`](crate::Effects).
//!
//! Where what is decided:
//!
//! | | |
//! | --- | --- |
//! | `ask` | what may be asked, and what is answered |
//! | `answer` | who is asked, and what happens by itself |
//! | `publish` | how messages come in, and how they leave for good |
//! | `lease` | who gets which, and what becomes of it |
//! | `again` | what was leased under an idempotency key |
//! | `manage` | what an operator may do |
//! | `sweep` | what of it is too much for one command |
//! | `lists` | what is derived: who is ready, which keys are taken, what is due when |

pub mod again;
mod answer;
pub mod ask;
mod desk;
mod lease;
pub mod lists;
mod manage;
pub mod pages;
mod publish;
pub mod settings;
mod sweep;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::data::Visitor;
use crate::dedup::Expiring;
use crate::origin::Lane;
use crate::{Id, Key, Millis};
use pages::{Paged, Pages};
pub use publish::key_hash;
use settings::Settings;

/// All topics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Queue {
    /// Topics by name.
    pub topics: BTreeMap<Id, Arc<Topic>>,
    /// What is left of topics that were deleted, until their bodies are gone too.
    pub leaving: BTreeMap<u32, Arc<Topic>>,
    /// Topics made so far: their numbers are never used again.
    pub made: u32,
    /// Topics that were made because a node's file names them. Each is made once: whoever deletes one does not
    /// want to see it again.
    pub seeded: BTreeSet<Id>,
    /// Messages of all topics, those that are leaving too.
    pub messages: u64,
    /// Messages by topic and dedup id, hashed, with the number of the topic: another one of the same name knows
    /// nothing of them.
    pub dedup: Expiring<Key, (u32, MessageId)>,
}

/// The number of a message in its topic: first the urgent ones, then the others, each in the order in which they
/// came.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct MessageId(pub u64);

/// Set in the numbers of what is not urgent.
const NORMAL: u64 = 1 << 63;

impl MessageId {
    /// The message with this place in a lane, counted from 1.
    #[must_use]
    pub const fn new(lane: Lane, place: u64) -> Self {
        match lane {
            Lane::Urgent => Self(place & !NORMAL),
            Lane::Normal => Self(place | NORMAL),
        }
    }

    /// Its lane.
    #[must_use]
    pub const fn lane(self) -> Lane {
        if self.0 & NORMAL == 0 { Lane::Urgent } else { Lane::Normal }
    }

    /// Its place in it.
    #[must_use]
    pub const fn place(self) -> u64 {
        self.0 & !NORMAL
    }
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Topic {
    /// Its number.
    pub number: u32,
    /// How it behaves.
    pub settings: Settings,
    /// Whether nothing is leased.
    pub paused: bool,
    /// Keys of which nothing is leased, hashed.
    pub paused_keys: BTreeSet<u64>,
    /// What was published, by lane.
    pub urgent: Messages,
    /// See [`urgent`](Self::urgent).
    pub normal: Messages,
    /// What will be published, by number.
    pub delayed: Pages<Delayed>,
    /// Messages that were delayed so far: their numbers are never used again.
    pub delays: u64,
    /// What is published again and again, by name.
    pub schedules: BTreeMap<String, Schedule>,
    /// Who goes through it.
    pub groups: BTreeMap<Id, Group>,
    /// What is left of groups that were deleted, by number: nothing of it counts.
    pub leaving: BTreeMap<u32, Group>,
    /// Groups made so far: their numbers are never used again.
    pub groups_made: u32,
    /// Bytes of all bodies.
    pub bytes: u64,
    /// Messages that went before they were finished with, for want of room.
    pub dropped: u64,
}

/// A lane.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Messages {
    /// Messages by their whole number ([`MessageId`]).
    pub messages: Pages<Message>,
    /// Messages published so far: the place of the last one.
    pub published: u64,
    /// Up to this place only what somebody still holds is kept.
    pub floor: u64,
}

/// All that has to be known of a message for deciding about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Log index of the command that brought the body.
    pub index: u64,
    /// Number of the body within it.
    pub n: u32,
    /// Bytes of the body.
    pub bytes: u32,
    /// Hash of its key, 0 if it has none. Two keys with one hash are kept in one order: nothing worse.
    pub key: u64,
    /// Agreed time at which it was published.
    pub time: Millis,
}

/// A message that will be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delayed {
    /// When.
    pub at: Millis,
    /// In which lane.
    pub lane: Lane,
    /// What.
    pub message: Message,
}

/// A message that is published again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// When, as the operator wrote it: a cron expression. This room cannot read it.
    pub cron: String,
    /// When it is due next.
    pub next: Millis,
    /// What is published.
    pub message: ask::Publish,
}

/// Workers that share the messages of a topic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its number within the topic.
    pub number: u32,
    /// Log index at which it was last told where to begin. It leases nothing there: a lease from before has
    /// the same token.
    pub begun: u64,
    /// The last urgent place that it has come to.
    pub urgent: u64,
    /// The same of the others.
    pub normal: u64,
    /// What it has begun and not finished. What lies beyond its marks is from before it was told to begin
    /// elsewhere, and counts no more.
    pub held: Pages<Held>,
    /// What it has given up.
    pub dead: Pages<Dead>,
    /// Urgent messages granted since the last one that was not.
    pub urgent_run: u32,
    /// Until when the rate would be used up if leases came one by one, in microseconds.
    pub spent_until_us: u64,
    /// Keys whose rate is used up, and until when.
    pub closed_keys: BTreeMap<u64, Millis>,
    /// From this key on, those are looked at again whose bounds were changed.
    pub review: Option<u64>,
    /// Messages finished with so far.
    pub finished: u64,
}

/// A message that a group has begun and not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// How often it was leased.
    pub attempts: u32,
    /// Where it is.
    pub place: Place,
}

/// Where a held message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// The next that is leased.
    Ready,
    /// With a worker.
    Leased {
        /// Log index of the lease: one that is older is refused.
        token: u64,
        /// When it runs out.
        until: Millis,
    },
    /// To be tried again.
    Retry {
        /// When.
        at: Millis,
    },
    /// Behind an earlier message of its key.
    Parked,
}

/// A message that a group has given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dead {
    /// How often it was leased.
    pub attempts: u32,
    /// Why it was given up, in the words of the last worker, or ours.
    pub reason: Id,
    /// When.
    pub time: Millis,
}

impl Paged for Message {
    /// Who begins at a log index looks for what came there.
    fn rank(&self) -> u64 {
        self.index
    }
}

impl Paged for Delayed {}
impl Paged for Held {}
impl Paged for Dead {}

impl Queue {
    /// A topic by its name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.get(name).map(Arc::as_ref)
    }

    /// Shows every part to a visitor. Large parts are pages, each under the numbers of its topic and group.
    pub(crate) fn visit(&self, visitor: &mut impl Visitor) {
        let topics = self.topics.values().chain(self.leaving.values());
        for topic in topics {
            let place = |group: u32, page: u64| {
                u128::from(topic.number) << 96 | u128::from(group) << 64 | u128::from(page)
            };
            for lane in [&topic.urgent, &topic.normal] {
                for (page, written, entries) in lane.messages.pages() {
                    visitor.bucket("messages", place(0, page), written, &entries);
                }
                visitor.part("lanes", &(topic.number, lane.published, lane.floor));
            }
            for (page, written, entries) in topic.delayed.pages() {
                visitor.bucket("delayed", place(0, page), written, &entries);
            }
            let leaving = topic.leaving.values().map(|group| ("", group));
            let groups = topic.groups.iter().map(|(name, group)| (name.as_str(), group));
            for (name, group) in groups.chain(leaving) {
                for (page, written, entries) in group.held.pages() {
                    visitor.bucket("held", place(group.number, page), written, &entries);
                }
                for (page, written, entries) in group.dead.pages() {
                    visitor.bucket("given_up", place(group.number, page), written, &entries);
                }
                let marks =
                    (group.number, group.begun, group.urgent, group.normal, group.urgent_run);
                let rates =
                    (group.spent_until_us, &group.closed_keys, group.review, group.finished);
                visitor.part("groups", &(topic.number, name, marks, rates));
            }
            let numbers = (topic.number, topic.delays, topic.groups_made);
            let counts = (topic.bytes, topic.dropped, topic.paused, &topic.paused_keys);
            visitor.part("topics", &(numbers, counts, &topic.settings, &topic.schedules));
        }
        for (n, writes, entries) in self.dedup.entries().buckets() {
            visitor.bucket("message_ids", n, writes, &entries);
        }
        let names: Vec<_> = self.topics.iter().map(|(name, topic)| (name, topic.number)).collect();
        visitor.part("queue", &(names, self.made, &self.seeded, self.messages));
    }
}

impl Topic {
    /// A lane of it.
    #[must_use]
    pub const fn lane(&self, lane: Lane) -> &Messages {
        match lane {
            Lane::Urgent => &self.urgent,
            Lane::Normal => &self.normal,
        }
    }

    const fn lane_mut(&mut self, lane: Lane) -> &mut Messages {
        match lane {
            Lane::Urgent => &mut self.urgent,
            Lane::Normal => &mut self.normal,
        }
    }

    /// A message that is published and not gone.
    #[must_use]
    pub fn message(&self, id: MessageId) -> Option<&Message> {
        self.lane(id.lane()).messages.get(id.0)
    }

    /// Messages that are kept, delayed ones too.
    #[must_use]
    pub fn depth(&self) -> u64 {
        let kept = self.urgent.messages.len() + self.normal.messages.len() + self.delayed.len();
        u64::try_from(kept).unwrap_or(u64::MAX)
    }

    /// All groups, those that are leaving too.
    pub fn everybody(&self) -> impl Iterator<Item = &Group> {
        self.groups.values().chain(self.leaving.values())
    }

    /// Messages that a group has not come to yet.
    #[must_use]
    pub fn ahead(&self, group: &Group) -> usize {
        let ahead = |lane| {
            let beyond = MessageId::new(lane, group.at(lane) + 1);
            self.lane(lane).messages.count_from(beyond.0)
        };
        ahead(Lane::Urgent) + ahead(Lane::Normal)
    }
}

impl Group {
    /// The last place of a lane that it has come to.
    #[must_use]
    pub const fn at(&self, lane: Lane) -> u64 {
        match lane {
            Lane::Urgent => self.urgent,
            Lane::Normal => self.normal,
        }
    }

    const fn at_mut(&mut self, lane: Lane) -> &mut u64 {
        match lane {
            Lane::Urgent => &mut self.urgent,
            Lane::Normal => &mut self.normal,
        }
    }

    /// Whether it has begun a message, or given it up, and not finished.
    fn pins(&self, id: MessageId) -> bool {
        self.held.get(id.0).is_some() || self.dead.get(id.0).is_some()
    }
}

/// Whether something may be called so: what needs no escaping in a URL, a shell or a metric's label.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b"._-:".contains(&c);
    (1..=128).contains(&name.len()) && name.bytes().all(allowed) && !name.bytes().all(|c| c == b'.')
}

fn name_rule(what: &str) -> String {
    alloc::format!("{what}: 1 to 128 letters, digits, '.', '_', '-' and ':'")
}
