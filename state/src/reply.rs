//! What comes out: a reply to whoever proposed, and effects for the node to carry out.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::Millis;
use crate::command::Fact;
use crate::ledger::Movement;

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
    /// What became of each movement asked for.
    Movements(Vec<MovementOutcome>),
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
    /// Bodies to keep, by their place in the list of dead letters.
    pub bodies: Vec<Body>,
    /// Pushes that were confirmed.
    pub confirmed: Vec<Confirmed>,
    /// Deliveries that were repetitions.
    pub duplicates: u64,
    /// Deliveries applied.
    pub applied: u64,
}

/// The body of a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// Its number within the log entry.
    pub n: u32,
    /// What is kept.
    pub kept: Kept,
}

/// What is kept of a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kept {
    /// The body, as it was received.
    Body(Vec<u8>),
    /// What was understood, where that cannot be applied.
    Facts(Vec<Fact>),
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
}
