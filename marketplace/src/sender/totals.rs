//! What a channel has counted itself.

use serde::Serialize;

use super::book::Line;
use crate::history::Expected;

/// Units of one SKU by what became of them, as a channel has counted them itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Ordered, whatever became of it.
    pub sold: i64,
    /// Of these, taken back before they were shipped.
    pub cancelled: i64,
    /// Of these, put back on the shelf after they were shipped.
    pub returned: i64,
    /// Of these, shipped.
    pub fulfilled: i64,
    /// Arrived from a supplier.
    pub received: i64,
    /// Written off, as a negative number.
    pub adjusted: i64,
}

impl Totals {
    /// What left the channel's allotment and has not come back.
    #[must_use]
    pub const fn taken(&self) -> i64 {
        self.sold - self.cancelled - self.returned
    }

    /// Sold and neither cancelled nor shipped: what is still owed to customers.
    #[must_use]
    pub const fn open(&self) -> i64 {
        self.sold - self.cancelled - self.fulfilled
    }

    /// The same in the terms of a [`Store`](crate::Store), so that both can be added up.
    #[must_use]
    pub const fn expected(&self) -> Expected {
        Expected {
            committed: self.sold - self.cancelled,
            returned: self.returned,
            fulfilled: self.fulfilled,
        }
    }

    pub(crate) fn of(line: &Line) -> Self {
        let mut totals = Self::default();
        totals.add(line);
        totals
    }

    pub(super) fn add(&mut self, line: &Line) {
        self.sold += line.ordered;
        self.cancelled += line.cancelled;
        self.returned += line.returned;
        self.fulfilled += line.fulfilled;
    }
}
