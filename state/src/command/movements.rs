//! Movements: told by a channel, or asked for.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ledger::Kind;
use crate::{Key, Millis};

/// Stock that moved outside of any order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// The channel's own id of the movement: the same one twice moves stock once.
    pub id: String,
    /// What kind of movement.
    pub kind: Kind,
    /// The channel's id of what moved, where it has one beside the SKU.
    pub listing: Option<String>,
    /// The SKU, where the payload names one.
    pub sku: Option<String>,
    /// Units: positive, but for an adjustment, which may be negative.
    pub quantity: i64,
    /// The ledger's location; the channel's own where none is said.
    pub location: Option<String>,
    /// Where to, of a transfer.
    pub to_location: Option<String>,
    /// What it belongs to.
    pub reference: Option<String>,
    /// When, by the channel's clock.
    pub version: u64,
}

/// Movements asked for together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Movements {
    /// All or none.
    pub atomic: bool,
    /// The movements, in order.
    pub movements: Vec<MovementRequest>,
}

/// One movement asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovementRequest {
    /// Hash of `id`.
    pub key: Key,
    /// Hash of all the rest.
    pub body: Key,
    /// The caller's id for it; a second movement of the same id changes nothing.
    pub id: String,
    /// What kind of movement.
    pub kind: Kind,
    /// The SKU.
    pub sku: String,
    /// Units: positive, but for an adjustment, which may be negative.
    pub quantity: i64,
    /// Where.
    pub location: String,
    /// Where to, of a transfer.
    pub to_location: Option<String>,
    /// The channel through which it came about, if any.
    pub channel: Option<String>,
    /// What it belongs to: a purchase order, a transfer.
    pub reference: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// When it happened, if that was not now.
    pub occurred_ms: Option<Millis>,
    /// Of an adjustment to what was counted; `quantity` is 0 then.
    pub count: Option<Count>,
}

impl MovementRequest {
    /// A movement of which nothing else is said; its body is as good as its key.
    #[must_use]
    pub fn new(
        key: Key,
        id: impl Into<String>,
        kind: Kind,
        sku: impl Into<String>,
        quantity: i64,
        location: impl Into<String>,
    ) -> Self {
        Self {
            key,
            body: key,
            id: id.into(),
            kind,
            sku: sku.into(),
            quantity,
            location: location.into(),
            to_location: None,
            channel: None,
            reference: None,
            reason: None,
            occurred_ms: None,
            count: None,
        }
    }
}

/// What was counted at a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Units that are there.
    pub units: i64,
    /// Log index up to which the counter knew the ledger: what moved there since makes the count stale.
    pub index: u64,
}
