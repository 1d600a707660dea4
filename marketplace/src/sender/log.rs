//! What a sender remembers of its webhooks.

use std::collections::VecDeque;

use serde::Serialize;

use crate::{
    clock::Millis,
    history::{Attempt, Progress},
};

/// One webhook.
#[derive(Clone, Debug, Serialize)]
pub struct Delivery {
    /// The sender's own id for it; not every kind sends it.
    pub id: String,
    /// What it tells of.
    pub topic: &'static str,
    /// The order or move that it tells of, as payloads name it.
    pub reference: String,
    /// When it happened.
    pub at_ms: Millis,
    /// How far it got.
    pub progress: Progress,
    /// It is never sent, on order.
    pub dropped: bool,
    /// Every request that was sent, in the order of the answers. What was answered stands in the
    /// outcome, even where the sender's side of it was lost.
    pub attempts: Vec<Attempt>,
}

/// Counters. Webhooks are counted once each, attempts once per request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names say it; those that do not are explained")]
pub struct Stats {
    pub orders: u64,
    pub units_sold: u64,
    pub cancellations: u64,
    /// Parts of orders taken back.
    pub reductions: u64,
    pub shipments: u64,
    /// Receipts, transfers and scraps.
    pub moves: u64,
    pub webhooks: u64,
    pub webhooks_pending: u64,
    /// Never sent, on order.
    pub dropped: u64,
    /// Not queued, since nothing was subscribed: before the handshake, or after it was disabled.
    pub unsubscribed: u64,
    /// Not queued, since the same was queued already.
    pub coalesced: u64,
    /// Requests sent, duplicates and retries included, handshakes not.
    pub attempts: u64,
    pub retries: u64,
    pub duplicates: u64,
    /// Answers that were lost on order.
    pub answers_lost: u64,
    pub acknowledged: u64,
    pub given_up: u64,
    pub handshakes: u64,
    pub handshakes_failed: u64,
    /// Calls of the API that were let in.
    pub calls: u64,
    pub unauthorized: u64,
    /// Calls refused since there were too many.
    pub throttled: u64,
    /// Calls that set quantities.
    pub pushes: u64,
    /// Quantities that they set.
    pub rows: u64,
    /// Quantities that they did not set, whatever the answer's status was.
    pub rows_refused: u64,
    /// Calls that read quantities.
    pub reads: u64,
    /// Calls that met a fault.
    pub call_faults: u64,
    /// Cancellations, refunds and shipments that random customers will still ask for.
    pub changes_due: u64,
}

/// The webhooks that are still remembered.
pub(super) struct Log {
    max: usize,
    /// Number of the oldest one that is remembered.
    first: u64,
    deliveries: VecDeque<Delivery>,
}

impl Log {
    pub(super) fn new(max: usize) -> Self {
        Self { max, first: 0, deliveries: VecDeque::new() }
    }

    /// Remembers one more and returns its number.
    pub(super) fn push(&mut self, delivery: Delivery) -> u64 {
        if self.deliveries.len() >= self.max {
            self.deliveries.pop_front();
            self.first += 1;
        }
        self.deliveries.push_back(delivery);
        self.first + u64::try_from(self.deliveries.len()).unwrap_or(u64::MAX) - 1
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Delivery> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.deliveries.get_mut(place)
    }

    pub(super) fn all(&self) -> Vec<Delivery> {
        self.deliveries.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number that slips when the oldest is forgotten would book an answer on another webhook.
    #[test]
    fn numbers_stay_when_the_oldest_are_forgotten() {
        let delivery = |reference: &str| Delivery {
            id: String::new(),
            topic: "order.created",
            reference: reference.to_owned(),
            at_ms: 0,
            progress: Progress::Pending,
            dropped: false,
            attempts: Vec::new(),
        };
        let mut log = Log::new(2);
        let numbers = ["a", "b", "c"].map(|name| log.push(delivery(name)));
        assert_eq!(numbers, [0, 1, 2]);
        let mut names = numbers.map(|n| log.get_mut(n).map(|found| found.reference.clone()));
        assert_eq!(names.each_mut().map(Option::take), [None, Some("b".into()), Some("c".into())]);
    }
}
