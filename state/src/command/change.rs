//! What is changed on request, and has nothing to say but that it is done, or why not.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{Command, ListingSpec};

/// A change that may be asked for under an idempotency key: the command of the same name. A set of its own, since a
/// command that holds any command could hold itself, as deep as somebody likes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Listings: SKU, channel, listing.
    List(Vec<(String, String, ListingSpec)>),
    /// A person pauses a channel.
    Pause {
        /// Which.
        channel: String,
        /// Why.
        why: String,
    },
    /// A person resumes one.
    Resume(String),
    /// A push is asked for.
    Push {
        /// Of which channel.
        channel: String,
        /// Of one SKU, or of all.
        sku: Option<String>,
    },
    /// Shares are brought to their targets: of these SKUs, or of all.
    Rebalance(Option<Vec<String>>),
    /// Something that the cluster did with itself: noted, so that it is not done again under the same key.
    Noted,
}

impl From<Change> for Command {
    fn from(change: Change) -> Self {
        match change {
            Change::List(rows) => Self::List(rows),
            Change::Pause { channel, why } => Self::Pause { channel, why, for_ms: None },
            Change::Resume(channel) => Self::Resume { channel, owner: false },
            Change::Push { channel, sku } => Self::PushNow { channel, sku },
            Change::Rebalance(skus) => Self::Rebalance(skus),
            Change::Noted => Self::Tick,
        }
    }
}
