//! What comes out: a reply to whoever proposed, and effects for the node to carry out.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::command::Fact;
use crate::ledger::Movement;
use crate::listing::Class;
use crate::notices::Notice;
use crate::queue::again::Granted;
use crate::queue::ask::Answer;
use crate::reservation::{Reservation, Status};
use crate::{Key, Millis};

/// The answer to a command. Appended only, like the commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done; nothing to say.
    Done,
    /// The segment is in the state, by this command or an earlier one.
    Applied,
    /// A segment before it is missing. Propose again from this number.
    Gap {
        /// The number that comes next.
        expected: u64,
    },
    /// The answer to a request, and the log index at which it was given first.
    Answered {
        /// The log index.
        index: u64,
        /// The answer.
        answer: Answered,
    },
    /// The same `Idempotency-Key` was used with another request.
    KeyReused,
    /// The owner's new epoch.
    Claimed {
        /// To be named in every intent.
        epoch: u64,
    },
    /// The epoch is not the newest: another owner has taken over.
    Fenced,
    /// What to send, by SKU. A SKU that needs nothing is left out.
    Intended(Vec<Intended>),
    /// The request cannot be done; says why.
    Rejected(String),
    /// Every node will say what its replica is at this entry.
    Checkpoint {
        /// Its log index.
        index: u64,
    },
    /// The answers to what was asked of the queue, in its order.
    Queue(Vec<Answer>),
    /// It was changed meanwhile.
    Superseded {
        /// The version that there is now.
        version: u64,
    },
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answered {
    /// What became of each movement asked for.
    Movements(Vec<MovementOutcome>),
    /// A reservation as it is now: its id, and what it holds.
    Reservation(String, Reservation),
    /// It cannot be granted.
    Refused(Refused),
    /// What a topic has to say.
    Queue(Answer),
    /// Leases, as they are kept under an idempotency key.
    Granted(Granted),
    /// It was changed, or why not.
    Changed(Result<(), String>),
}

/// Why something cannot be granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refused {
    /// It cannot be meant; says why.
    Invalid(String),
    /// Nobody knows this SKU.
    UnknownSku(String),
    /// There is not enough of these.
    Insufficient(Vec<Lacking>),
    /// There are too many reservations.
    TooMany,
    /// Nobody knows this reservation, or not any more.
    UnknownReservation,
    /// The reservation has ended.
    Ended(Status),
    /// More would be sold than is held.
    MoreThanHeld {
        /// Of which SKU.
        sku: String,
        /// Units that are held.
        held: i64,
    },
}

/// What there is not enough of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lacking {
    /// The SKU.
    pub sku: String,
    /// Where there is the most of it, among where it was looked for.
    pub location: Option<String>,
    /// Units asked for.
    pub requested: i64,
    /// Units that could be granted there, beside the other lines of the request.
    pub available: i64,
}

/// What became of one movement asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MovementOutcome {
    /// It is in the ledger.
    Applied,
    /// It already was.
    Duplicate,
    /// Another movement with the same id is.
    Conflict,
    /// It cannot be done.
    Rejected(String),
}

/// One listing's next step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intended {
    /// The SKU.
    pub sku: String,
    /// What to do.
    pub step: Step,
}

/// What the owner of a channel does next for one listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Send this quantity.
    Push {
        /// What the channel shall show.
        quantity: i64,
        /// What it is believed to show now, for compare-and-set.
        from: i64,
        /// Names this push when it is settled.
        revision: u64,
    },
    /// Read what the channel shows first: it is not known, or an earlier push has an unknown outcome.
    Observe,
}

/// What the node has to keep or to measure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// New lines of the ledger.
    pub movements: Vec<Movement>,
    /// Bodies to keep, in their order.
    pub bodies: Vec<Body>,
    /// Pushes that were confirmed.
    pub confirmed: Vec<Confirmed>,
    /// Bodies that nobody needs any more, by log index and number.
    pub dropped: Vec<(u64, u32)>,
    /// Deliveries that were applied, by their keys, and when each was received.
    pub arrived: Vec<(Key, Millis)>,
    /// When they were made durable where they were received.
    pub durable_ms: Millis,
    /// Deliveries that were repetitions.
    pub duplicates: u64,
    /// Deliveries applied.
    pub applied: u64,
}

/// The body of a dead letter, or of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// Its number within the log entry.
    pub n: u32,
    /// What is kept.
    pub kept: Kept,
}

/// What is kept of a dead letter, or of a message. Appended only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kept {
    /// The body, as it was received.
    Body(#[serde(with = "crate::bytes")] Vec<u8>),
    /// What was understood, where that cannot be applied.
    Facts(Vec<Fact>),
    /// A message as it was published.
    Message {
        /// Its key.
        key: Option<String>,
        /// Its body.
        #[serde(with = "crate::bytes")]
        body: Vec<u8>,
    },
    /// A notice, as a message.
    Notice(Notice),
}

impl Kept {
    /// Bytes of it, as they count against the bounds of a topic.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Body(body) => body.len(),
            Self::Message { key, body } => key.as_ref().map_or(0, String::len) + body.len(),
            Self::Facts(_) | Self::Notice(_) => 256,
        }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A channel shows what the ledger says, since now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// The channel.
    pub channel: String,
    /// The SKU.
    pub sku: String,
    /// When the change that made it stale was received.
    pub since: Millis,
    /// When it had to be there.
    pub deadline: Millis,
    /// How urgent it was.
    pub class: Class,
}
