//! What the account shows, as it is told: what it accepts it shows some time later.

use super::book::Book;
use crate::{clock::Millis, history::Push};

impl Book {
    /// Somebody sets what is shown of an item; from `at` on it is.
    pub(crate) fn accept(&mut self, index: usize, quantity: i64, arrived: Millis, at: Millis) {
        self.note(index, quantity, arrived, true);
        self.promise(index, quantity, at);
    }

    /// Somebody would have set what is shown, and it will not be.
    pub(crate) fn refuse(&mut self, index: usize, quantity: i64, arrived: Millis) {
        self.note(index, quantity, arrived, false);
    }

    /// From `at` on so many are shown, of which nobody is told before.
    fn promise(&mut self, index: usize, quantity: i64, at: Millis) {
        self.promises += 1;
        self.due.insert((at, self.promises), (index, quantity));
    }

    fn note(&mut self, index: usize, to: i64, at_ms: Millis, applied: bool) {
        let Some((sku, from)) = self.shelves.get(index).cloned() else { return };
        let (key, name, change_from) = (String::new(), "available".to_owned(), None);
        self.pushes.push(Push { at_ms, key, name, sku, change_from, from, to, applied });
    }

    /// Shows what was accepted and is due, and returns it.
    pub(crate) fn settle(&mut self, now: Millis) -> Vec<(String, i64)> {
        let mut shown = Vec::new();
        while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= now) {
            let (index, quantity) = entry.remove();
            if let Some((sku, left)) = self.shelves.get_mut(index) {
                *left = quantity;
                shown.push((sku.clone(), quantity));
            }
        }
        shown
    }
}
