//! What the seller's books must say, for a checker.

use super::{Placed, Shop};
use crate::{
    history::{Expected, ExpectedBySku, Known},
    shopify::payload::{LineItem, Restock},
};

impl Shop {
    /// What a correct ledger holds if it heard of exactly this.
    pub(crate) fn expected(&self, known: &Known) -> ExpectedBySku {
        let mut expected: ExpectedBySku =
            self.slots.iter().map(|s| (s.item.sku.clone(), Expected::default())).collect();
        for (_, line, of_line) in self.lines(known) {
            expected.entry(line.sku.clone()).or_default().add(&of_line);
        }
        expected
    }

    /// The same by order line, with the line and the id of its order.
    pub(crate) fn lines(&self, known: &Known) -> impl Iterator<Item = (u64, &LineItem, Expected)> {
        let orders = known.images.iter();
        let orders = orders.filter_map(|(id, image_ms)| Some((self.orders.get(id)?, *image_ms)));
        // A refund or shipment of a line that no known image shows waits for one.
        orders.flat_map(move |(placed, image_ms)| {
            let lines = placed.wanted(image_ms);
            lines.map(move |(line, wanted)| {
                (placed.image.id, line, expected_of(placed, line.id, wanted, known))
            })
        })
    }

    /// Everything there is.
    pub(crate) fn everything(&self) -> Known {
        let images = || self.orders.values().map(|placed| &placed.image);
        Known {
            images: self.orders.iter().map(|(id, placed)| (*id, placed.updated_ms)).collect(),
            refunds: images().flat_map(|image| &image.refunds).map(|refund| refund.id).collect(),
            fulfillments: images().flat_map(|i| &i.fulfillments).map(|s| s.id).collect(),
        }
    }
}

/// What becomes of a line of which so many units are wanted, by the refunds and shipments that are known.
fn expected_of(placed: &Placed, line: u64, wanted: i64, known: &Known) -> Expected {
    let mut expected = Expected { committed: wanted, ..Expected::default() };
    let refunds = placed.image.refunds.iter().filter(|r| known.refunds.contains(&r.id));
    let refunded = refunds.flat_map(|refund| &refund.refund_line_items);
    for of in refunded.filter(|of| of.line_item_id == line) {
        match of.restock_type {
            Restock::Cancel => expected.committed -= i64::from(of.quantity),
            Restock::Return => expected.returned += i64::from(of.quantity),
            Restock::NoRestock => {}
        }
    }
    let shipments = placed.image.fulfillments.iter();
    let shipments = shipments.filter(|s| known.fulfillments.contains(&s.id));
    let shipped = shipments.flat_map(|shipment| &shipment.line_items).filter(|of| of.id == line);
    expected.fulfilled = shipped.map(|of| i64::from(of.quantity)).sum();
    expected
}
