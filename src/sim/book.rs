//! What senders and clients know by themselves: what they sent, what was answered, what they were granted.

use std::collections::{BTreeMap, BTreeSet};

use super::truth::LineId;

/// One delivery, after all its attempts.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    pub(super) channel: String,
    /// Answered 200 at least once.
    pub(super) promised: bool,
    /// It may have been taken.
    pub(super) possible: bool,
    /// Nodes whose disk is all that the promise stands on.
    pub(super) kept_by: BTreeSet<usize>,
    /// The line that it alone tells of.
    pub(super) line: Option<LineId>,
}

/// Units that a client was granted.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// Units of what only reservations take.
    pub(super) units: i64,
    /// Of these, what was sold.
    pub(super) sold: i64,
    /// Agreed time until which the rest is held.
    pub(super) expires: u64,
    /// Whether the rest may have been let go.
    pub(super) gone: bool,
}

impl Held {
    /// Units that are certainly held or sold at an agreed time.
    fn taken(&self, now: u64) -> i64 {
        if self.gone || self.expires <= now { self.sold } else { self.units }
    }
}

#[derive(Default)]
pub(super) struct Book {
    /// By the delivery's id.
    pub(super) sent: BTreeMap<String, Sent>,
    /// By the reservation's id.
    pub(super) held: BTreeMap<String, Held>,
    /// Units of what only reservations take that may have been received.
    pub(super) received: i64,
    /// Units sold of reservations that have ended.
    ended: i64,
    serial: u64,
}

impl Book {
    /// A number that nobody had before.
    pub(super) fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Units that are certainly held or sold at an agreed time, of what nothing else takes.
    pub(super) fn taken(&self, now: u64) -> i64 {
        self.ended + self.held.values().map(|held| held.taken(now)).sum::<i64>()
    }

    /// The disk of a node is destroyed. What it promised alone, and what is not agreed on, is lost.
    pub(super) fn disk_lost(&mut self, n: usize, is_agreed: impl Fn(&str) -> bool) {
        for (id, sent) in &mut self.sent {
            if sent.kept_by.contains(&n) && !is_agreed(id) {
                sent.kept_by.remove(&n);
                sent.promised = !sent.kept_by.is_empty();
            }
        }
    }

    /// Units of a reservation were sold.
    pub(super) fn sold(&mut self, id: &str, units: i64) {
        match self.held.get_mut(id) {
            Some(held) => held.sold += units,
            None => self.ended += units,
        }
    }

    /// Forgets what ended long ago.
    pub(super) fn forget(&mut self, now: u64) {
        let ended = &mut self.ended;
        self.held.retain(|_, held| {
            let ends = held.gone || held.expires <= now;
            *ended += if ends { held.sold } else { 0 };
            !ends
        });
    }
}
