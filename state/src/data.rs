//! All that is agreed on.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::allocation::Policy;
use crate::buckets::Buckets;
use crate::channel::Channel;
use crate::command::Report;
use crate::dedup::{Expiring, Seen};
use crate::escrow::Escrow;
use crate::kits::Kits;
use crate::ledger::Stock;
use crate::names::Names;
use crate::notices::Notice;
use crate::order::Order;
use crate::origin::Origins;
use crate::queue::Queue;
use crate::reservation::Reservation;
use crate::shares::Walk;
use crate::{Id, Key, Millis, NodeId, Packed, Reply};

/// Everything that is agreed on: what a snapshot holds and a digest covers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Data {
    /// Agreed time of the last command.
    pub now: Millis,
    /// SKUs.
    pub stock: Buckets<Id, Arc<Stock>>,
    /// Orders by channel and the channel's id.
    pub orders: Expiring<(Id, Id), Packed<Order>>,
    /// Deliveries seen.
    pub seen: Expiring<Key, Seen>,
    /// Movements asked for and booked, by the caller's id.
    pub booked: Expiring<Key, Seen>,
    /// First answers by idempotency key.
    pub answers: Expiring<Key, Answer>,
    /// Dead letters by log index and number in the entry.
    pub dead: Expiring<(u64, u32), DeadLetter>,
    /// Movements that channels told of, by channel and the channel's id.
    pub told: Expiring<(Id, Id), Millis>,
    /// What the channels' own ids stand for.
    pub names: Names,
    /// Orders that must be fetched, by channel and the channel's id.
    pub reloads: BTreeMap<(String, String), Reload>,
    /// Sequences of the inboxes.
    pub origins: Origins,
    /// Channels by name.
    pub channels: BTreeMap<String, Channel>,
    /// Allocation policies, first match wins.
    pub policies: Vec<Policy>,
    /// Log index at which they were put; 0 before the first.
    pub policies_version: u64,
    /// What goes over all SKUs, a part with each command.
    pub walk: Option<Walk>,
    /// Agreed time at which all shares were last to be brought to their targets.
    pub rebalanced: Millis,
    /// What kits are made of.
    pub kits: Kits,
    /// Reservations by id.
    pub reservations: Expiring<String, Reservation>,
    /// Notices by log index and number in the entry.
    pub notices: Expiring<(u64, u32), Notice>,
    /// Topics.
    pub queue: Queue,
    /// Locations in the order in which they are drawn from where nothing else says which.
    pub locations: Vec<String>,
    /// What the nodes' replicas were at the newest checkpoints, by log index.
    pub checkpoints: BTreeMap<u64, BTreeMap<NodeId, Report>>,
    /// Whether channels and policies were seeded.
    pub seeded: bool,
    /// Units that nodes may grant from by themselves.
    pub escrow: Escrow,
}

/// The first answer to an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Hash of the request.
    pub body: Key,
    /// What was answered.
    pub reply: Reply,
    /// When.
    pub time: Millis,
}

/// An order that must be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// Log index of the newest delivery that asked for it.
    pub asked: u64,
    /// When the order changed, by the channel's clock; 0 if nobody said.
    pub version: Millis,
    /// Agreed time since which it waits.
    pub since: Millis,
}

/// A delivery that could not be applied, listed until somebody looks at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Why.
    pub reason: String,
    /// The channel.
    pub channel: String,
    /// The sender's topic.
    pub topic: String,
    /// The delivery's id.
    pub delivery: String,
    /// When it was received.
    pub received: Millis,
    /// When it was listed.
    pub time: Millis,
    /// How often it could not be applied.
    pub attempts: u32,
}

/// Walks over all data in an order that is the same on every node; see [`Data::visit`].
pub trait Visitor {
    /// A bucket of a map; `writes` changes whenever its entries may have.
    fn bucket<T: Serialize>(&mut self, map: &'static str, n: u128, writes: u64, entries: &T);
    /// A part that is not in buckets.
    fn part<T: Serialize>(&mut self, name: &'static str, part: &T);
}

impl Data {
    /// Shows every part to a visitor.
    pub fn visit(&self, visitor: &mut impl Visitor) {
        for (n, writes, entries) in self.stock.buckets() {
            visitor.bucket("stock", n, writes, &entries);
        }
        for (n, writes, entries) in self.orders.entries().buckets() {
            visitor.bucket("orders", n, writes, &entries);
        }
        for (n, writes, entries) in self.seen.entries().buckets() {
            visitor.bucket("seen", n, writes, &entries);
        }
        for (n, writes, entries) in self.booked.entries().buckets() {
            visitor.bucket("booked", n, writes, &entries);
        }
        for (n, writes, entries) in self.answers.entries().buckets() {
            visitor.bucket("answers", n, writes, &entries);
        }
        for (n, writes, entries) in self.dead.entries().buckets() {
            visitor.bucket("dead", n, writes, &entries);
        }
        for (n, writes, entries) in self.told.entries().buckets() {
            visitor.bucket("told", n, writes, &entries);
        }
        for (n, writes, entries) in self.names.names().buckets() {
            visitor.bucket("names", n, writes, &entries);
        }
        for (n, writes, entries) in self.names.waiting().buckets() {
            visitor.bucket("waiting", n, writes, &entries);
        }
        visitor.part("ready", self.names.ready());
        visitor.part("reloads", &self.reloads);
        visitor.part("now", &self.now);
        visitor.part("origins", &self.origins);
        visitor.part("channels", &self.channels);
        let walk = (&self.walk, self.rebalanced);
        visitor.part("policies", &(&self.policies, self.policies_version, walk));
        for (n, writes, entries) in self.kits.recipes().buckets() {
            visitor.bucket("kits", n, writes, &entries);
        }
        for (n, writes, entries) in self.reservations.entries().buckets() {
            visitor.bucket("reservations", n, writes, &entries);
        }
        for (n, writes, entries) in self.notices.entries().buckets() {
            visitor.bucket("notices", n, writes, &entries);
        }
        self.queue.visit(visitor);
        visitor.part("locations", &self.locations);
        visitor.part("checkpoints", &self.checkpoints);
        visitor.part("seeded", &self.seeded);
        for (n, writes, entries) in self.escrow.skus().buckets() {
            visitor.bucket("escrow", n, writes, &entries);
        }
        visitor.part("holders", &(self.escrow.holders(), self.escrow.comes_back));
    }
}
