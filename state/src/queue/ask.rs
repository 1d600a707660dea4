//! What may be asked of the queue, and what is answered.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::settings::Settings;
use super::{Message, MessageId};
use crate::origin::Lane;
use crate::{Key, Millis};

/// Something asked of one topic. Many of them are agreed on together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Hashes of the `Idempotency-Key` and of the request, if there was one.
    pub idempotency: Option<(Key, Key)>,
    /// The topic's name.
    pub topic: String,
    /// What.
    pub what: What,
}

/// What may be asked. Appended only: the order of the variants is their encoding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// To take messages in; the first ones make the topic.
    Publish(Vec<Publish>),
    /// To give messages to a worker.
    Lease {
        /// The worker's group; the first lease makes it, before all messages that are kept.
        group: String,
        /// Messages at the most.
        max: u32,
        /// For how long.
        lease_ms: Millis,
    },
    /// These are finished.
    Ack(Vec<LeaseId>),
    /// These failed.
    Nack {
        /// Which.
        leases: Vec<LeaseId>,
        /// When to try again; without it, as the topic's settings say.
        delay_ms: Option<Millis>,
        /// Why.
        reason: String,
    },
    /// These take longer: so long from now.
    Extend {
        /// Which.
        leases: Vec<LeaseId>,
        /// How long.
        lease_ms: Millis,
    },
    /// Makes the topic, or changes how it behaves.
    Put(Settings),
    /// Deletes the topic and all that is in it.
    Delete,
    /// Makes a group that begins there, or lets one go on from there.
    Begin {
        /// The group.
        group: String,
        /// Where.
        from: From,
    },
    /// Deletes a group.
    Disband(String),
    /// Leases nothing, or nothing of a key (by its hash), until it is resumed.
    Pause(Option<u64>),
    /// Undoes [`What::Pause`].
    Resume(Option<u64>),
    /// Tries again what a group has given up.
    Redrive {
        /// The group.
        group: String,
        /// Which.
        messages: Vec<MessageId>,
    },
    /// Forgets what a group has given up.
    Forget {
        /// The group.
        group: String,
        /// Which.
        messages: Vec<MessageId>,
    },
    /// Deletes messages, for all groups.
    Remove(Vec<MessageId>),
    /// Publishes something again and again, or changes it.
    Schedule {
        /// Its name.
        name: String,
        /// When, in words that are kept for people.
        cron: String,
        /// When first.
        next: Millis,
        /// What.
        message: Publish,
    },
    /// Publishes no more of it.
    Unschedule(String),
    /// A schedule is due: it is published once for that time, and is due again at `next`.
    Fire {
        /// Its name.
        name: String,
        /// The time for which it is.
        at: Millis,
        /// When it is due next.
        next: Millis,
    },
    /// Makes the topic because a node's file names it, unless that was done before.
    Seed(Settings),
}

impl What {
    /// The word for it in the API.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Publish(_) => "messages",
            Self::Lease { .. } => "lease",
            Self::Ack(_) => "ack",
            Self::Nack { .. } => "nack",
            Self::Extend { .. } => "extend",
            Self::Put(_) | Self::Seed(_) => "put",
            Self::Delete => "delete",
            Self::Begin { .. } => "begin",
            Self::Disband(_) => "disband",
            Self::Pause(_) => "pause",
            Self::Resume(_) => "resume",
            Self::Redrive { .. } => "redrive",
            Self::Forget { .. } => "forget",
            Self::Remove(_) => "remove",
            Self::Schedule { .. } => "schedule",
            Self::Unschedule(_) => "unschedule",
            Self::Fire { .. } => "fire",
        }
    }
}

/// A message to be published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// In which lane.
    pub lane: Lane,
    /// Messages of one key are leased one after the other.
    pub key: Option<String>,
    /// How long from now.
    pub delay_ms: Millis,
    /// Hash of topic and dedup id: a second one changes nothing.
    pub dedup: Option<Key>,
    /// The body.
    #[serde(with = "crate::bytes")]
    pub body: Vec<u8>,
}

/// Where a group begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum From {
    /// Before all that is kept.
    Earliest,
    /// After all that is there.
    Latest,
    /// With what was published at this time or later.
    Time(Millis),
    /// With the first message that came at this log index or later, and all that stand behind it.
    Index(u64),
}

/// A lease of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseId {
    /// Number of the group.
    pub group: u32,
    /// The message.
    pub message: MessageId,
    /// Log index of the lease.
    pub token: u64,
}

/// The answer to an [`Ask`]. Appended only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// What became of each message that was published.
    Published(Vec<Published>),
    /// What was leased.
    Leased(Vec<Leased>),
    /// For each lease whether it was done; if not, the lease has run out.
    Done(Vec<bool>),
    /// How many it concerned.
    Count(u64),
    /// It cannot be done.
    Refused(Refused),
}

/// A message that was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Published {
    /// Now.
    New(MessageId),
    /// Under the same dedup id before.
    Duplicate(MessageId),
    /// It will be; this is its number among what is delayed.
    Delayed(u64),
}

/// A message given to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leased {
    /// To be named when it is finished.
    pub lease: LeaseId,
    /// How often it was leased by now.
    pub attempts: u32,
    /// When the lease runs out.
    pub until: Millis,
    /// Where its body is, and when it was published.
    pub message: Message,
}

/// Why something cannot be done. Appended only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refused {
    /// There is no such topic.
    UnknownTopic,
    /// There is no such group.
    UnknownGroup(String),
    /// There is no such schedule.
    UnknownSchedule(String),
    /// The topic keeps as many messages or bytes as it may; nothing of this request was taken.
    Full {
        /// Messages in it.
        messages: u64,
        /// Bytes in it.
        bytes: u64,
    },
    /// There are as many of these as there may be.
    TooMany(String),
    /// It cannot be meant; says why.
    Invalid(String),
    /// The same `Idempotency-Key` was used with another request.
    KeyReused,
}
