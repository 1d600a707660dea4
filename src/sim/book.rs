//! What senders and clients know by themselves: what they sent, what was answered, what they were granted.

use std::collections::BTreeMap;

use super::truth::LineId;

/// One delivery, after all its attempts.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    pub(super) channel: String,
    /// Answered 200 at least once.
    pub(super) promised: bool,
    /// It may have been taken.
    pub(super) possible: bool,
    /// The line that it alone tells of.
    pub(super) line: Option<LineId>,
}

/// Units that a client was granted.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) sku: String,
    pub(super) units: i64,
    /// Agreed time until which they are held.
    pub(super) expires: u64,
    /// Whether they were sold, or may have been let go.
    pub(super) sold: bool,
    pub(super) gone: bool,
}

#[derive(Default)]
pub(super) struct Book {
    /// By the delivery's id.
    pub(super) sent: BTreeMap<String, Sent>,
    /// By the reservation's id.
    pub(super) held: BTreeMap<String, Held>,
    /// Units of what only reservations take that may have been received.
    pub(super) received: i64,
    serial: u64,
}

impl Book {
    /// A number that nobody had before.
    pub(super) fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Units that are certainly held or sold at an agreed time, of a SKU that nothing else takes from.
    pub(super) fn taken(&self, sku: &str, now: u64) -> i64 {
        let of_sku = self.held.values().filter(|held| held.sku == sku);
        let counts = of_sku.filter(|held| held.sold || (!held.gone && held.expires > now));
        counts.map(|held| held.units).sum()
    }

    /// Forgets what ended long ago.
    pub(super) fn forget(&mut self, now: u64) {
        self.held.retain(|_, held| held.sold || (!held.gone && held.expires > now));
    }
}
