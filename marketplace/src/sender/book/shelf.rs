//! What is shown of an item, and what lies on the shelf that it is sold from, as somebody else says.

use super::{Book, MoveKind};
use crate::clock::Millis;

impl Book {
    /// Somebody sets what is shown of an item, whatever it was.
    pub(crate) fn set(&mut self, index: usize, units: i64, now: Millis) {
        let Some(item) = self.items.get_mut(index) else { return };
        let from = std::mem::replace(&mut item.units, units);
        self.told.note(now, &item.sku, (from, units), true);
        if let Some(extra) = self.extras.get_mut(index) {
            extra.allotted += units - from;
        }
    }

    /// Somebody would have set what is shown, and it was not.
    pub(crate) fn refuse(&mut self, index: usize, units: i64, now: Millis) {
        if let Some(item) = self.items.get(index) {
            self.told.note(now, &item.sku, (item.units, units), false);
        }
    }

    /// What lies on the shelf that is sold from, and how much of it is promised to somebody.
    pub(crate) fn shelf(&self, index: usize) -> Option<(i64, i64)> {
        let (item, extra) = (self.items.get(index)?, self.extras.get(index)?);
        let on_hand = extra.allotted + extra.free() - extra.delivered;
        Some((on_hand, extra.allotted + extra.on_sale - item.units - extra.delivered))
    }

    /// Somebody counted that shelf, and so many units lie there: all that is not promised is on sale.
    pub(crate) fn count(&mut self, index: usize, on_hand: i64, reference: &str, now: Millis) {
        let Some((before, promised)) = self.shelf(index) else { return };
        let (Some(item), Some(extra)) = (self.items.get_mut(index), self.extras.get_mut(index))
        else {
            return;
        };
        let units = on_hand - promised;
        let from = std::mem::replace(&mut item.units, units);
        self.told.note(now, &item.sku, (from, units), true);
        extra.allotted += on_hand - before;
        extra.on_sale = extra.free();
        extra.changed_ms = extra.changed_ms.max(now);
        extra.version += 1;
        if on_hand != before {
            let reference = Some(reference.to_owned());
            let moved = self.note_move(MoveKind::Count, index, on_hand - before, reference, now);
            self.happened.push(moved);
        }
    }
}
