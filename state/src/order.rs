//! Orders: small state machines that give the same result in any order of arrival.
//!
//! A whole image of an order merges by the channel's own version of it; what is taken out of an order
//! (cancelled, returned) is a grow-only fact by its own id, kept even when it comes first. Stock moves
//! by the difference between what the merged line implies and what was moved for it already. So a
//! fact that arrives as a webhook, again as a later topic of the same order, and once more by polling
//! moves stock once.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::Millis;
use crate::kits::{Kits, Parts};
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
    /// Version of the newest image that named all lines: an older line was taken out. 0 without one.
    pub whole: u64,
    /// Agreed time at which something was last heard of it.
    pub touched: Millis,
    /// Dead letters that leave the list once no line waits for a mapping any more.
    pub letters: Vec<(u64, u32)>,
}

/// One line, merged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Version of the image that `quantity` comes from; 0 while none was seen.
    pub version: u64,
    /// Units ordered, by that image.
    pub quantity: i64,
    /// The most units that an image called shipped: that only grows.
    pub fulfilled: i64,
    /// The most units that an image called returned: that only grows.
    pub returned: i64,
    /// The channel's id of what was ordered, by the first fact that names one.
    pub listing: Option<String>,
    /// The SKU, fixed by the first fact that names one or by a mapping; without one the line waits.
    pub sku: Option<String>,
    /// What one unit of it takes out of stock, fixed with the SKU, if that was a kit then; else nothing.
    pub parts: Parts,
    /// Whether it is listed as waiting for a mapping.
    pub waits: bool,
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
    /// Booked as shipped.
    pub fulfilled: i64,
    /// Booked as returned.
    pub returned: i64,
}

impl Moved {
    /// Notes what was booked.
    pub const fn book(&mut self, kind: Kind, quantity: i64) {
        match kind {
            Kind::Sale => self.sold += quantity,
            Kind::Cancellation => self.cancelled += quantity,
            Kind::Fulfilment => self.fulfilled += quantity,
            Kind::Return => self.returned += quantity,
            _ => {}
        }
    }

    /// What it comes to: units committed, units on hand. Only these count: less sold is as good as more
    /// cancelled, and what was cancelled after it was shipped has come back.
    #[must_use]
    pub const fn net(&self) -> (i64, i64) {
        (self.sold - self.cancelled - self.fulfilled, self.returned - self.fulfilled)
    }
}

impl Line {
    /// Says what was ordered, and fixes what that is made of.
    pub(crate) fn name(&mut self, kits: &Kits, sku: String) {
        self.parts = kits.recipe(&sku);
        self.sku = Some(sku);
    }

    /// Takes an image in, if it is newer. Of two images with one version the larger quantity counts,
    /// so that the order of arrival does not.
    pub fn merge(&mut self, version: u64, image: &LineImage) {
        if (version, image.quantity) > (self.version, self.quantity) {
            (self.version, self.quantity) = (version, image.quantity);
        }
        self.fulfilled = self.fulfilled.max(image.fulfilled);
        self.returned = self.returned.max(image.returned);
    }

    /// What the facts so far imply, in an order whose newest whole image has the version `whole`.
    /// Removals wait for the image: before it, nothing was sold.
    #[must_use]
    pub fn implied(&self, whole: u64) -> Moved {
        if self.version == 0 {
            return Moved::default();
        }
        let sum = |wanted: Removal| -> i64 {
            let of_kind = self.removals.values().filter(|(removal, _)| *removal == wanted);
            of_kind.map(|(_, quantity)| quantity).sum()
        };
        let sold = if self.version < whole { 0 } else { self.quantity };
        let cancelled = sum(Removal::Cancelled).min(sold);
        let shipped = sum(Removal::Fulfilled).max(self.fulfilled);
        let returned = sum(Removal::Returned).max(self.returned);
        // What was shipped and is no longer ordered has come back: what was said to have come back is
        // that first.
        let back = (shipped - sold).max(0);
        Moved {
            sold,
            cancelled,
            // So has what was cancelled after it was shipped.
            fulfilled: shipped.min(sold - cancelled),
            returned: (returned - back).max(0),
        }
    }

    /// The movements that are owed: kind and units, in the order in which to book them; those of no
    /// units do not count. Once booked, the net of what was moved is the net of what is implied.
    #[must_use]
    pub fn owed(&self, whole: u64) -> [(Kind, i64); 4] {
        let implied = self.implied(whole);
        let (committed, on_hand) = implied.net();
        let mut moved = self.moved;
        let sold = (implied.sold - moved.sold).max(0);
        moved.sold += sold;
        moved.fulfilled += (implied.fulfilled - moved.fulfilled).max(0);
        moved.returned += (implied.returned - moved.returned).max(0);
        // What is on hand is made good first, and what is committed with it.
        let missing = on_hand - moved.net().1;
        moved.returned += missing.max(0);
        moved.fulfilled += (-missing).max(0);
        let surplus = moved.net().0 - committed;
        [
            (Kind::Sale, sold + (-surplus).max(0)),
            (Kind::Cancellation, surplus.max(0)),
            (Kind::Fulfilment, moved.fulfilled - self.moved.fulfilled),
            (Kind::Return, moved.returned - self.moved.returned),
        ]
    }
}
