//! Orders: small state machines that give the same result in any order of arrival.
//!
//! A whole image of an order merges by the channel's own version of it; what is taken out of an order
//! (cancelled, returned) is a grow-only fact by its own id, kept even when it comes first. Stock moves
//! by the difference between what the merged line implies and what was moved for it already. So a
//! fact that arrives as a webhook, again as a later topic of the same order, and once more by polling
//! moves stock once.

use alloc::collections::BTreeMap;
use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::Millis;
use crate::ledger::Kind;

/// One line of an order's image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineImage {
    /// The channel's id of the line.
    pub id: String,
    /// The channel's id of what was ordered (a variant, a product), where it has one beside the SKU.
    pub listing: Option<String>,
    /// The SKU, where the payload names one.
    pub sku: Option<String>,
    /// Units ordered and not taken out by an edit; 0 once the order is cancelled as a whole.
    pub quantity: i64,
    /// Units shipped so far, where the image says so itself; else 0.
    pub fulfilled: i64,
    /// Units that came back so far, where the image says so itself; else 0.
    pub returned: i64,
}

/// Units taken out of what is owed of one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovalLine {
    /// The channel's id of this removal.
    pub id: String,
    /// The line.
    pub line: String,
    /// The channel's id of what was ordered, where it has one beside the SKU.
    pub listing: Option<String>,
    /// The SKU, where the payload names one.
    pub sku: Option<String>,
    /// Units.
    pub quantity: i64,
    /// What becomes of them.
    pub removal: Removal,
}

/// What becomes of units taken out of what is owed of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Removal {
    /// They were not shipped and can be sold again.
    Cancelled,
    /// They came back.
    Returned,
    /// Stock does not change.
    NoRestock,
    /// They were shipped.
    Fulfilled,
}

/// An order as merged from everything heard about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Lines by the channel's id.
    pub lines: BTreeMap<String, Line>,
    /// Agreed time at which something was last heard of it.
    pub touched: Millis,
}

/// One line, merged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Version of the image that `quantity` comes from; 0 while none was seen.
    pub version: u64,
    /// Units ordered, by that image.
    pub quantity: i64,
    /// The SKU, fixed by the first fact that names one; without one the line waits.
    pub sku: Option<String>,
    /// The location it draws from, fixed by the first fact.
    pub location: String,
    /// What was taken out of it, by id.
    pub removals: BTreeMap<String, (Removal, i64)>,
    /// What was moved for it already.
    pub moved: Moved,
}

/// Units moved for a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Booked as sold.
    pub sold: i64,
    /// Booked as cancelled.
    pub cancelled: i64,
    /// Booked as returned.
    pub returned: i64,
}

impl Moved {
    /// Notes what was booked. Only the differences count: less sold is as good as more cancelled.
    pub const fn book(&mut self, kind: Kind, quantity: i64) {
        match kind {
            Kind::Sale => self.sold += quantity,
            Kind::Cancellation => self.cancelled += quantity,
            Kind::Return => self.returned += quantity,
            _ => {}
        }
    }

    /// What it comes to: units committed, units returned.
    #[must_use]
    pub const fn net(&self) -> (i64, i64) {
        (self.sold - self.cancelled, self.returned)
    }
}

impl Line {
    /// Takes an image in, if it is newer. Of two images with one version the larger quantity counts,
    /// so that the order of arrival does not.
    pub fn merge(&mut self, version: u64, quantity: i64) {
        if (version, quantity) > (self.version, self.quantity) {
            (self.version, self.quantity) = (version, quantity);
        }
    }

    /// What the facts so far imply. Removals wait for the image: before it, nothing was sold.
    #[must_use]
    pub fn implied(&self) -> Moved {
        if self.version == 0 {
            return Moved::default();
        }
        let sum = |wanted: Removal| -> i64 {
            let of_kind = self.removals.values().filter(|(removal, _)| *removal == wanted);
            of_kind.map(|(_, quantity)| quantity).sum()
        };
        Moved {
            sold: self.quantity,
            cancelled: sum(Removal::Cancelled).min(self.quantity),
            returned: sum(Removal::Returned),
        }
    }

    /// The movements that are owed: kind and units, in the order in which to book them; those of no
    /// units do not count. Once booked, the net of what was moved is the net of what is implied.
    #[must_use]
    pub fn owed(&self) -> [(Kind, i64); 3] {
        let implied = self.implied();
        let (committed, returned) = self.moved.net();
        let sold = (implied.sold - self.moved.sold).max(0);
        // Whatever is left after the sale is cancelled: asked for, or because the image shrank.
        let cancelled = committed + sold - implied.net().0;
        let more = (-cancelled).max(0);
        [
            (Kind::Sale, sold + more),
            (Kind::Cancellation, cancelled.max(0)),
            // Returns are grow-only: the difference is never negative.
            (Kind::Return, implied.returned - returned),
        ]
    }
}
