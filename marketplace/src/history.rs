//! What a store remembers for whoever checks the seller's books afterwards.
//!
//! Nothing of it is ever dropped: it grows with every order, at some hundred bytes each.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    clock::Millis,
    shopify::{payload::Restock, sign::Topic},
};

/// Webhook requests after the first one that failed.
pub const RETRIES: u32 = 8;

/// A call that came, whatever became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When.
    pub at: Instant,
    /// The epoch of the owner that pushed, if whoever called said one (`stockraft-epoch`).
    pub epoch: Option<u64>,
}

/// Everything that happened in one store, oldest first.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Every unit that was sold, and what became of it if it was not to be shipped.
    pub movements: Vec<Movement>,
    /// Every unit that was shipped: no level of what is shown changes by it.
    pub shipments: Vec<Shipment>,
    /// Every webhook with all its attempts.
    pub webhooks: Vec<Webhook>,
    /// Every row of every push that was carried out or refused.
    pub pushes: Vec<Push>,
}

/// Why units moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A customer bought, or the merchant added a line.
    Sold,
    /// The whole order was cancelled, or the merchant took units out of it.
    Cancelled(Restock),
    /// A part of the order was refunded.
    Refunded(Restock),
}

/// One order line sold, cancelled or refunded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Movement {
    /// When.
    pub at_ms: Millis,
    /// Why.
    pub cause: Cause,
    /// The order.
    pub order_id: u64,
    /// The order line.
    pub line_id: u64,
    /// The refund, if it is one.
    pub refund_id: Option<u64>,
    /// The edit, if it is one. What an edit takes out leaves no refund behind.
    pub edit_id: Option<u64>,
    /// What moved.
    pub sku: String,
    /// How many.
    pub quantity: u32,
    /// What the store showed before.
    pub shown_before: i64,
    /// What it showed after.
    pub shown_after: i64,
    /// Units of it that did not exist (sales only).
    pub oversold: u64,
}

/// Units of one order line that were shipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shipment {
    /// When.
    pub at_ms: Millis,
    /// The order.
    pub order_id: u64,
    /// The order line.
    pub line_id: u64,
    /// The fulfilment.
    pub fulfillment_id: u64,
    /// What was shipped.
    pub sku: String,
    /// How many.
    pub quantity: u32,
}

/// How far a webhook got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// Attempts are still to come.
    Pending,
    /// One attempt was answered 2xx.
    Acknowledged,
    /// All attempts failed.
    GivenUp,
    /// It was never sent at all, on order.
    Dropped,
}

/// One webhook.
#[derive(Clone, Debug, Serialize)]
pub struct Webhook {
    /// `X-Shopify-Webhook-Id`, equal on all attempts.
    pub webhook_id: String,
    /// `X-Shopify-Event-Id`, shared by all topics of one action.
    pub event_id: String,
    /// What it tells of.
    pub topic: Topic,
    /// The order it tells of; 0 if it tells of none.
    pub order_id: u64,
    /// The order's `updated_at`, if its body is that order.
    pub image_ms: Option<Millis>,
    /// The refunds whose lines its body carries.
    pub refund_ids: Vec<u64>,
    /// The fulfilments whose lines its body carries.
    pub fulfillment_ids: Vec<u64>,
    /// SHA-256 of its body, in hex.
    pub body_sha256: String,
    /// When the action happened.
    pub triggered_ms: Millis,
    /// How far it got.
    pub progress: Progress,
    /// Every request that was sent, in the order of the answers.
    pub attempts: Vec<Attempt>,
}

/// One request of a webhook.
#[derive(Clone, Debug, Serialize)]
pub struct Attempt {
    /// When it began.
    pub at_ms: Millis,
    /// Where it went.
    pub target: String,
    /// Zero for the first, one to eight for the retries.
    pub retry: u32,
    /// True for the second of two sent at once.
    pub duplicate: bool,
    /// How long it took.
    pub took: Duration,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// An answer, whatever its status.
    Answered {
        /// The status.
        status: u16,
        /// The beginning of its body.
        body: String,
    },
    /// No answer within the time limit.
    TimedOut,
    /// No connection, or one that broke.
    Failed(String),
}

impl Outcome {
    /// True for any 2xx. A redirect is a failure.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Answered { status: 200..=299, .. })
    }
}

/// One row of a push: what the store was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Push {
    /// When the call arrived.
    pub at_ms: Millis,
    /// The call's idempotency key.
    pub key: String,
    /// `available` or `on_hand`.
    pub name: String,
    /// What was told of.
    pub sku: String,
    /// What the sender believed that the store shows; nothing if it opted out.
    pub change_from: Option<i64>,
    /// What the store showed.
    pub from: i64,
    /// What it was told to show.
    pub to: i64,
    /// True if it now does; false if the call was refused as stale.
    pub applied: bool,
}

/// Counters. Webhooks are counted once each, attempts once per request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names say it; those that do not are explained")]
pub struct Stats {
    pub orders: u64,
    pub units_sold: u64,
    /// Units sold by this store that did not exist.
    pub units_oversold: u64,
    pub cancellations: u64,
    pub refunds: u64,
    pub edits: u64,
    pub fulfillments: u64,
    /// Without those that were dropped on order.
    pub webhooks: u64,
    pub webhooks_dropped: u64,
    pub webhooks_pending: u64,
    /// Requests sent, duplicates and retries included.
    pub attempts: u64,
    pub retries: u64,
    pub duplicates: u64,
    pub acknowledged: u64,
    pub given_up: u64,
    /// Requests failed since the last that was answered 2xx.
    pub consecutive_failures: u64,
    pub consecutive_failures_max: u64,
    /// Calls of the inventory mutation that were carried out.
    pub pushes: u64,
    /// Rows of them.
    pub rows: u64,
    /// Calls refused because a compared quantity had changed.
    pub stale: u64,
    /// Calls refused for another reason.
    pub rejected: u64,
    /// Calls answered from an idempotency key seen before.
    pub replayed: u64,
    pub throttled: u64,
    pub unauthorized: u64,
    pub reads: u64,
    /// Calls that met an outage or a fault.
    pub outage_calls: u64,
}

/// What a correct ledger must hold of one SKU, or of one order line, for this store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Expected {
    /// Sold, less what edits took out and what `cancel` refund lines freed. What was shipped counts.
    pub committed: i64,
    /// Put back on hand by `return` refund lines.
    pub returned: i64,
    /// Shipped.
    pub fulfilled: i64,
}

impl Expected {
    /// What is still owed to customers.
    #[must_use]
    pub const fn open(&self) -> i64 {
        self.committed - self.fulfilled
    }

    /// What it changed on hand.
    #[must_use]
    pub const fn on_hand(&self) -> i64 {
        self.returned - self.fulfilled
    }

    pub(crate) const fn add(&mut self, other: &Self) {
        self.committed += other.committed;
        self.returned += other.returned;
        self.fulfilled += other.fulfilled;
    }
}

/// What the seller can know: orders by the newest acknowledged image of each, refunds and fulfilments
/// by acknowledged bodies that carry them.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) images: BTreeMap<u64, Millis>,
    pub(crate) refunds: BTreeSet<u64>,
    pub(crate) fulfillments: BTreeSet<u64>,
}

impl Known {
    /// Of all webhooks that were answered 2xx at least once.
    pub(crate) fn of(webhooks: &[Webhook]) -> Self {
        let mut known = Self::default();
        for webhook in webhooks.iter().filter(|w| w.progress == Progress::Acknowledged) {
            if let Some(image_ms) = webhook.image_ms {
                let newest = known.images.entry(webhook.order_id).or_default();
                *newest = image_ms.max(*newest);
            }
            known.refunds.extend(&webhook.refund_ids);
            known.fulfillments.extend(&webhook.fulfillment_ids);
        }
        known
    }
}

/// By SKU.
pub type ExpectedBySku = BTreeMap<String, Expected>;

/// By order line: `{order}/{line}`, both as the channel's payloads write them.
pub type ExpectedByLine = BTreeMap<String, Expected>;
