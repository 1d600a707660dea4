//! What may be proposed. A closed set: variants are only ever appended, since their order is their
//! encoding.

mod change;
mod movements;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::allocation::Policy;
use crate::channel::Definition;
use crate::escrow::told::Told;
use crate::escrow::{Grant, Size};
use crate::kits::Parts;
use crate::order::{LineImage, RemovalLine};
use crate::origin::{Lane, Origin};
use crate::queue::ask::{Ask, Publish};
use crate::velocity::Measured;
use crate::{Key, Millis, NodeId};

pub use change::Change;
pub use movements::{Count, Moved, MovementRequest, Movements};

/// One entry of the log, as this room understands it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// What one inbox accepted together.
    Segment(Segment),
    /// Something asked for through the API: judged, and answered once.
    Request {
        /// Hashes of the `Idempotency-Key` and of the request, if there was one.
        idempotency: Option<(Key, Key)>,
        /// What is asked.
        asked: Asked,
    },
    /// The channels and policies of the node's file that initialised the cluster; only the first counts.
    Seed {
        /// Channels by name.
        channels: BTreeMap<String, Definition>,
        /// Policies, first match wins.
        policies: Vec<Policy>,
        /// Locations in the order in which they are drawn from.
        locations: Vec<String>,
    },
    /// Adds or changes a channel.
    PutChannel {
        /// Its name.
        name: String,
        /// What it is from now on.
        definition: Definition,
    },
    /// Replaces the policies.
    PutPolicies {
        /// First match wins.
        policies: Vec<Policy>,
        /// The version that they replace; without one, whichever there is.
        replaces: Option<u64>,
    },
    /// Says what a SKU is: created at zero if it is new.
    Map {
        /// The SKU.
        sku: String,
        /// What is said of it.
        settings: SkuSettings,
    },
    /// A node takes over the pushes of a channel.
    Claim {
        /// The channel.
        channel: String,
        /// The node that will push.
        node: NodeId,
    },
    /// The owner is about to push the current quantities of these SKUs.
    Intend {
        /// The channel.
        channel: String,
        /// The owner's epoch.
        epoch: u64,
        /// Which of its two works: what must be read first is left to the urgent one.
        lane: Lane,
        /// The SKUs.
        skus: Vec<String>,
    },
    /// What became of pushes and read-backs.
    Settle {
        /// The channel.
        channel: String,
        /// The owner's epoch.
        epoch: u64,
        /// The lane of the intent that they are of.
        lane: Lane,
        /// Its log index. Nothing was read before it, and all that became of it is told at once: what is told
        /// a second time, or after a later intent's of the same lane, says nothing.
        intent: u64,
        /// Calls made for it.
        calls: u64,
        /// What became of each.
        outcomes: Vec<Outcome>,
    },
    /// Nothing but the time: proposed when something is due and nothing else is proposed.
    Tick,
    /// Adds listings to SKUs, or changes them: SKU, channel, listing. What is not named stays.
    List(Vec<(String, String, ListingSpec)>),
    /// Replaces the order in which locations are drawn from.
    PutLocations(Vec<String>),
    /// Every node says what its replica is at this entry.
    Checkpoint,
    /// What a node's replica was at a checkpoint.
    Report {
        /// Log index of the checkpoint.
        checkpoint: u64,
        /// The node.
        node: NodeId,
        /// What it found.
        report: Report,
    },
    /// What was asked of topics, by many at once.
    Queue(Vec<Ask>),
    /// Brings shares to their targets: of these SKUs, or of all.
    Rebalance(Option<Vec<String>>),
    /// Removes a channel, once it shows nothing any more, or at once and whatever it shows.
    RemoveChannel {
        /// The channel.
        channel: String,
        /// Whether what it shows does not matter.
        abandon: bool,
    },
    /// How fast listings sell.
    Measured(Vec<Measured>),
    /// How late channels hear, by channel: milliseconds, and of how many cases.
    Lagged {
        /// Who measured it: counts for the channels that it pushes to.
        node: NodeId,
        /// What.
        lags: BTreeMap<String, (Millis, u64)>,
    },
    /// Sets units apart for nodes to grant from by themselves.
    Grant(Vec<Grant>),
    /// An operator says that what a node kept is destroyed.
    Destroyed {
        /// The node.
        node: NodeId,
        /// Of a node that goes on with another disk: the book on that. It and those after it are not.
        keeping: Option<u64>,
    },
    /// The owner of a channel lives, though it has nothing else to say.
    Renew {
        /// The channel.
        channel: String,
        /// The owner's epoch.
        epoch: u64,
        /// Calls made that were not told of yet.
        calls: u64,
    },
    /// The owner gives the channel back: nothing that it sent is without an outcome.
    Release {
        /// The channel.
        channel: String,
        /// The owner's epoch.
        epoch: u64,
    },
    /// Nothing is pushed to a channel.
    Pause {
        /// The channel.
        channel: String,
        /// Why.
        why: String,
        /// For how long, when the owner asks for it; until a person resumes it, when a person does.
        for_ms: Option<Millis>,
    },
    /// Pushes to a channel go on.
    Resume {
        /// The channel.
        channel: String,
        /// Whether its owner says so, whose calls are accepted again: what a person paused stays.
        owner: bool,
    },
    /// Reads listings, and pushes to those that show something else than they should, failures included.
    PushNow {
        /// The channel.
        channel: String,
        /// Of one SKU, at once; of all, as its rate allows.
        sku: Option<String>,
    },
}

/// A dead letter by its log index and number, and what of it is applied now; nothing forgets it.
pub type Letter = ((u64, u32), Option<Vec<Fact>>);

/// What may be asked through the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asked {
    /// Movements.
    Movements(Movements),
    /// To hold units.
    Hold(Hold),
    /// To sell what is held.
    Confirm(Confirm),
    /// To let go what is held, by the reservation's id.
    Release(String),
    /// To hold a reservation for so long from now.
    Extend(String, Millis),
    /// To change something else.
    Change(Change),
    /// To apply dead letters again, by what was understood of them, or to forget them where nothing is said.
    Letters(Vec<Letter>),
}

/// Units to be held, all or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The reservation's id, made by the node that asks. One that exists is not made again.
    pub id: String,
    /// What.
    pub lines: Vec<HoldLine>,
    /// The channel for which.
    pub channel: Option<String>,
    /// How long.
    pub ttl_ms: Millis,
    /// What it belongs to, in the caller's words.
    pub reference: Option<String>,
}

/// Units of one SKU to be held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldLine {
    /// The SKU.
    pub sku: String,
    /// Units.
    pub quantity: i64,
    /// Where; without one a location that has enough is found.
    pub location: Option<String>,
}

/// What of a reservation is sold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirm {
    /// The reservation.
    pub id: String,
    /// SKUs and units, or all that is held.
    pub lines: Option<Vec<(String, i64)>>,
    /// What it belongs to from now on.
    pub reference: Option<String>,
}

/// What is said of a SKU; what is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkuSettings {
    /// Its listings by channel, all of them.
    pub listings: Option<BTreeMap<String, ListingSpec>>,
    /// What it is made of; nothing makes it a SKU like others.
    pub components: Option<Parts>,
    /// How far below zero requests may take it.
    pub backorder: Option<i64>,
    /// The mark for notices of low stock; below zero there are none.
    pub low_at: Option<i64>,
    /// How much of it may lie in quotas, at each location.
    pub escrow: Option<Size>,
    /// Whether what the listings still show that it has no more does not matter.
    pub abandon: bool,
}

/// What a node found when it looked its whole replica over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// SHA-256 of each part of the state, by name.
    pub digests: BTreeMap<String, [u8; 32]>,
    /// Hash of the newest movement.
    pub chain: [u8; 32],
    /// Movements that were read and whose hashes were made again.
    pub movements: u64,
    /// What is wrong with the history, in words: the first fault that was found.
    pub fault: Option<String>,
}

/// Deliveries that were made durable together, in the order in which they were accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// Whose inbox.
    pub origin: Origin,
    /// Which of its lanes.
    pub lane: Lane,
    /// Its number in that lane: 1, 2, 3 …
    pub sequence: u64,
    /// When it was made durable there, by that node's clock.
    pub durable_ms: Millis,
    /// What was accepted.
    pub deliveries: Vec<Delivery>,
}

/// One authentic delivery, understood: a webhook, a message of a queue, or an answer to a poll.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Hash of `id`.
    pub key: Key,
    /// Hash of what it says: the same key with another body is a conflict.
    pub body: Key,
    /// `{channel}:{sender's id}`, the name under which people find it.
    pub id: String,
    /// The channel that it came from.
    pub channel: String,
    /// The sender's name for its kind.
    pub topic: String,
    /// When the accepting node received it, by that node's clock.
    pub received_ms: Millis,
    /// What it says.
    pub facts: Vec<Fact>,
    /// The body as it was received, where a line in it may have to wait for a mapping; else empty.
    #[serde(with = "crate::bytes")]
    pub raw: Vec<u8>,
    /// What is published because of it, in the same step, by topic.
    pub publish: Vec<(String, Publish)>,
}

/// One thing that a channel says has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact {
    /// Lines of an order as the channel shows them.
    Image {
        /// The channel's id of the order.
        order: String,
        /// Grows with each change of the order: the channel's own time of change, in milliseconds.
        version: u64,
        /// Whether these are all lines of the order, so that one that is not named has been taken out.
        whole: bool,
        /// Its lines that stand for stock.
        lines: Vec<LineImage>,
    },
    /// Units taken out of what is owed of an order: grow-only, by their own ids.
    Removals {
        /// The channel's id of the order.
        order: String,
        /// When, by the channel's clock.
        version: u64,
        /// What was taken out.
        lines: Vec<RemovalLine>,
    },
    /// Authentic but not understood: kept with its body, so that nothing is lost.
    Dead {
        /// Why it could not be understood.
        reason: String,
        /// The body as it was received.
        #[serde(with = "crate::bytes")]
        body: Vec<u8>,
    },
    /// The channel's id of something that it sells belongs to this SKU: learned from a payload that names
    /// both.
    Listed {
        /// The channel's id.
        listing: String,
        /// The SKU, as the channel spells it.
        sku: String,
        /// When, by the channel's clock: the newest counts.
        version: u64,
    },
    /// What the channel shows. An observation: it never moves stock.
    Shown {
        /// The channel's id of what is shown.
        listing: String,
        /// The SKU, where the payload names one.
        sku: Option<String>,
        /// The channel's id of the place, where it has several.
        location: Option<String>,
        /// Units that it shows.
        quantity: i64,
        /// When, by the channel's clock: the newest counts.
        version: u64,
    },
    /// Stock that moved outside of any order: a receipt, a transfer, a shipment of a warehouse.
    Moved(Moved),
    /// The order changed, and this delivery does not say how: it must be fetched.
    Reload {
        /// The channel's id of the order.
        order: String,
        /// When, by the channel's clock.
        version: u64,
    },
    /// The order was fetched after all that asked for it up to `asked`.
    Fetched {
        /// The channel's id of the order.
        order: String,
        /// Log index of the newest [`Fact::Reload`] that this answers.
        asked: u64,
    },
    /// Everything up to this place was polled and stands in deliveries before this one.
    Polled {
        /// Where to go on, by the channel's clock. Two nodes may poll at once: the furthest counts.
        cursor: u64,
    },
    /// What a node did with its quotas. No channel says it.
    Escrow(Told),
    /// All that the channel lists as changed was asked for at this agreed time, and stands in deliveries before
    /// this one.
    Looked {
        /// When asking began.
        began: Millis,
    },
}

/// A listing as its mapping names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListingSpec {
    /// The channel's own id of what is set when a quantity is pushed.
    pub id: String,
    /// What else the channel's kind needs to address it.
    pub settings: BTreeMap<String, String>,
}

impl ListingSpec {
    /// The ids under which the channel's own payloads may name it: the listing's, and those of its settings
    /// that are ids of things sold (a variant's, a product's), not of places, nor of a parent that has several
    /// of them.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        let is_id = |(key, _): &(&String, &String)| {
            key.ends_with("_id") && !matches!(key.as_str(), "location_id" | "parent_id")
        };
        let others = self.settings.iter().filter(is_id).map(|(_, id)| id.as_str());
        core::iter::once(self.id.as_str()).chain(others).filter(|id| !id.is_empty())
    }
}

/// What became of one push or read-back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The SKU.
    pub sku: String,
    /// The channel's own id of what was pushed or read. An outcome of a listing that the SKU has no longer
    /// says nothing of the one that it has now.
    pub listing: String,
    /// The revision of the push that it answers; 0 of a read-back without a push.
    pub revision: u64,
    /// What became of it.
    pub result: Settled,
}

/// What a channel answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Settled {
    /// It shows the pushed quantity.
    Confirmed,
    /// It was read back and shows this.
    Observed(i64),
    /// It certainly did not take the push; a later try may succeed.
    Refused,
    /// It certainly did not take the push and never will until the mapping changes.
    Failed(String),
}
