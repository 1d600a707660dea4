//! Channels as the cluster knows them: everything but their secrets.

use alloc::collections::BTreeMap;
use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::velocity::Lag;
use crate::{Millis, NodeId};

/// What a channel is. Seeded from a node's file at `init`, changed through the API after that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// The kind of marketplace, which says how deliveries are signed and understood.
    pub kind: String,
    /// The location that its orders draw from.
    pub location: String,
    /// The node that pushes to it, and that its pushes wait for while it is down; without one, the voter
    /// with the lowest id.
    pub home: Option<NodeId>,
    /// Whether quantities are pushed to it at all: false where no API is configured.
    pub pushes: bool,
    /// Whether its orders can be fetched: false where no API is configured.
    pub fetches: bool,
    /// How long the keys of its deliveries are kept.
    pub dedup_window_ms: Millis,
    /// Calls that the channel allows: thousandths of a call a second.
    pub rate_milli: u64,
    /// Calls that it allows at once after a pause.
    pub burst: u64,
    /// Settings of its kind that are no secrets, `base_url` among them.
    pub settings: BTreeMap<String, String>,
}

/// Who may push to a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The node that asked for it last.
    pub node: NodeId,
    /// Grows with each claim. An intent under an older epoch is refused.
    pub epoch: u64,
    /// Log index of the last intent whose outcomes were told; 0 before the first.
    pub settled: u64,
}

/// A channel in the agreed state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// What it is.
    pub definition: Definition,
    /// Who pushes to it, once a node has claimed it.
    pub owner: Option<Owner>,
    /// Agreed time since which it is known: what changed before is not polled.
    pub since: Millis,
    /// Where polling goes on, by the channel's clock. It never goes back.
    pub cursor: Option<Millis>,
    /// How late it hears of what happened elsewhere, once that was measured.
    pub lag: Option<Lag>,
    /// Set while it is being removed.
    pub leaving: Option<Leaving>,
}

/// A channel that is being removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// Agreed time since when.
    pub since: Millis,
    /// Listings that it still has.
    pub left: u64,
    /// Whether nobody waits until they show nothing.
    pub is_abandoned: bool,
}

impl Channel {
    /// A channel that was heard of just now.
    pub(crate) const fn new(definition: Definition, since: Millis) -> Self {
        Self { definition, owner: None, since, cursor: None, lag: None, leaving: None }
    }
}
