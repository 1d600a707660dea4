//! What a channel is told of quantities: remembered row by row, with what goes wrong with single rows.

use super::options::Faults;
use crate::{clock::Millis, history::Push, random::Random};

/// Counters of what a channel is told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) pushes: u64,
    pub(crate) rows: u64,
    pub(crate) rows_refused: u64,
    pub(crate) reads: u64,
}

/// Everything that a channel was told, in the order in which it was carried out.
pub(crate) struct Told {
    pub(crate) pushes: Vec<Push>,
    pub(crate) counts: Counts,
    mishaps: Random,
    row_error: f64,
    conflict: f64,
    report_lies: f64,
    feed_error: f64,
}

impl Told {
    pub(crate) fn new(seed: u64, faults: &Faults) -> Self {
        let (pushes, counts, mishaps) = (Vec::new(), Counts::default(), Random::new(seed));
        let (row_error, conflict) = (faults.row_error, faults.conflict);
        let (report_lies, feed_error) = (faults.report_lies, faults.feed_error);
        Self { pushes, counts, mishaps, row_error, conflict, report_lies, feed_error }
    }

    pub(crate) const fn set_faults(&mut self, faults: &Faults) {
        (self.row_error, self.conflict) = (faults.row_error, faults.conflict);
        (self.report_lies, self.feed_error) = (faults.report_lies, faults.feed_error);
    }

    /// Whether the next row of a bulk call fails on order.
    pub(crate) fn row_fails(&mut self) -> bool {
        self.mishaps.chance(self.row_error)
    }

    /// Whether the next row of a feed is reported as taken on order, and is not.
    pub(crate) fn report_lies(&mut self) -> bool {
        self.mishaps.chance(self.report_lies)
    }

    /// Whether the next feed is refused as a whole on order.
    pub(crate) fn feed_fails(&mut self) -> bool {
        self.mishaps.chance(self.feed_error)
    }

    /// Whether something moves, on order, between a count and the moment at which it is applied.
    pub(crate) fn moves_between(&mut self) -> bool {
        self.mishaps.chance(self.conflict)
    }

    /// Remembers one row.
    pub(crate) fn note(&mut self, at_ms: Millis, sku: &str, (from, to): (i64, i64), applied: bool) {
        let counter = if applied { &mut self.counts.rows } else { &mut self.counts.rows_refused };
        *counter += 1;
        self.pushes.push(Push {
            at_ms,
            key: String::new(),
            name: "available".to_owned(),
            sku: sku.to_owned(),
            change_from: None,
            from,
            to,
            applied,
        });
    }
}
