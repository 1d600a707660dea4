//! What the seller's books must say, for a checker.

use super::Shop;
use crate::{
    history::{Expected, ExpectedBySku, Known},
    shopify::payload::Restock,
};

impl Shop {
    /// What a correct ledger holds if it heard of exactly this.
    pub(crate) fn expected(&self, known: &Known) -> ExpectedBySku {
        let mut expected: ExpectedBySku =
            self.slots.iter().map(|s| (s.item.sku.clone(), Expected::default())).collect();
        for (order_id, image_ms) in &known.images {
            let Some(placed) = self.orders.get(order_id) else { continue };
            let wanted: Vec<_> = placed.wanted(*image_ms).collect();
            for (line, quantity) in &wanted {
                expected.entry(line.sku.clone()).or_default().committed += quantity;
            }
            // A refund or shipment of a line that no known image shows waits for one.
            let shown = |id: u64| wanted.iter().any(|(line, _)| line.id == id);
            let refunds = placed.image.refunds.iter().filter(|r| known.refunds.contains(&r.id));
            let refunded = refunds.flat_map(|refund| &refund.refund_line_items);
            for line in refunded.filter(|line| shown(line.line_item_id)) {
                let sku = expected.entry(line.line_item.sku.clone()).or_default();
                match line.restock_type {
                    Restock::Cancel => sku.committed -= i64::from(line.quantity),
                    Restock::Return => sku.returned += i64::from(line.quantity),
                    Restock::NoRestock => {}
                }
            }
            let shipments = placed.image.fulfillments.iter();
            let shipments = shipments.filter(|s| known.fulfillments.contains(&s.id));
            let shipped = shipments.flat_map(|shipment| &shipment.line_items);
            for line in shipped.filter(|line| shown(line.id)) {
                let sku = expected.entry(line.sku.clone()).or_default();
                sku.fulfilled += i64::from(line.quantity);
            }
        }
        expected
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
