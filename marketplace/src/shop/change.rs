//! What can become of an order: cancelled, refunded, edited, shipped.

use super::{Event, Pick, Placed, Shop};
use crate::{
    Error,
    clock::Millis,
    history::{Cause, Movement, Shipment},
    shopify::{
        payload::{Edit, Fulfillment, LineItem, Refund, RefundLine, Restock},
        sign::Topic,
    },
};

impl Shop {
    /// Changes one order, and tells of what follows from any change: the order as it is now, and the
    /// levels that moved.
    fn change<T>(
        &mut self,
        order_id: u64,
        now: Millis,
        change: impl FnOnce(&mut Self, &mut Placed, &mut Event) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut placed = self.orders.remove(&order_id).ok_or(Error::UnknownOrder(order_id))?;
        let mut event = self.event(now);
        let changed = change(self, &mut placed, &mut event);
        if changed.is_ok() {
            self.tell_order(&event, Topic::OrdersUpdated, &placed);
            self.tell_levels(&event);
        }
        self.orders.insert(order_id, placed);
        changed
    }

    /// Cancels what is left of an order of which nothing was shipped: one `orders/cancelled` with the
    /// refund inside, and one `refunds/create` for the same refund.
    pub(crate) fn cancel(
        &mut self,
        order_id: u64,
        restock: Restock,
        now: Millis,
    ) -> Result<(), Error> {
        self.change(order_id, now, |shop, placed, event| {
            placed.check_not_cancelled()?;
            if !placed.image.fulfillments.is_empty() {
                return Err(Error::Shipped(order_id));
            }
            let picks = placed.unshipped();
            let at = placed.touch(now, shop.utc_offset_minutes);
            placed.image.cancelled_at = Some(at);
            placed.image.cancel_reason = Some("customer");
            placed.image.financial_status = "refunded";
            let cause = Cause::Cancelled(restock);
            let refund =
                (!picks.is_empty()).then(|| shop.give_back(event, placed, &picks, restock, cause));
            shop.tell_order(event, Topic::OrdersCancelled, placed);
            if let Some(refund) = refund {
                shop.tell_refund(event, &refund);
            }
            Ok(())
        })
    }

    /// Refunds `quantity` units of one SKU of an order. Only unshipped units can be cancelled, and
    /// only shipped ones can come back.
    pub(crate) fn refund(
        &mut self,
        order_id: u64,
        sku: &str,
        quantity: u32,
        restock: Restock,
        now: Millis,
    ) -> Result<u64, Error> {
        self.change(order_id, now, |shop, placed, event| {
            let line = placed.line_with(sku, quantity, |_, line| refundable(line, restock))?;
            placed.touch(now, shop.utc_offset_minutes);
            placed.image.financial_status = "partially_refunded";
            let pick = [Pick { line, quantity }];
            let cause = Cause::Refunded(restock);
            let refund = shop.give_back(event, placed, &pick, restock, cause);
            shop.tell_refund(event, &refund);
            Ok(refund.id)
        })
    }

    /// How many units of a SKU a refund of up to `quantity` would be of now, and where they would go:
    /// back if they were shipped, else for sale again at once.
    pub(crate) fn refund_of(
        &self,
        order_id: u64,
        sku: &str,
        quantity: u32,
        gone: bool,
    ) -> Option<(Restock, u32)> {
        let placed = self.orders.get(&order_id)?;
        let line = placed.image.line_items.iter().find(|line| line.sku == sku)?;
        let restock = match refundable(line, Restock::Return) {
            _ if gone => Restock::NoRestock,
            0 => Restock::Cancel,
            _ => Restock::Return,
        };
        Some((restock, quantity.min(refundable(line, restock))))
    }

    /// Adds a line to an order. Not even the merchant sells more than the store shows.
    pub(crate) fn add_line(
        &mut self,
        order_id: u64,
        slot: usize,
        quantity: u32,
        now: Millis,
    ) -> Result<(), Error> {
        self.change(order_id, now, |shop, placed, event| {
            placed.check_not_cancelled()?;
            shop.check_shown(&[(slot, quantity)])?;
            let edit_id = shop.next_id();
            let at = placed.touch(now, shop.utc_offset_minutes);
            let Some(line) = shop.sell(event, slot, quantity, order_id, Some(edit_id)) else {
                return Err(Error::UnknownSku(slot.to_string()));
            };
            let additions = vec![(line.id, quantity)];
            placed.add(slot, line);
            let removals = Vec::new();
            let edit = Edit { id: edit_id, order_id, committed_at: at, additions, removals };
            shop.tell_edit(event, &edit);
            Ok(())
        })
    }

    /// Takes unshipped units of one SKU out of an order. They are for sale again, and no refund says so.
    pub(crate) fn take_out(
        &mut self,
        order_id: u64,
        sku: &str,
        quantity: u32,
        now: Millis,
    ) -> Result<(), Error> {
        self.change(order_id, now, |shop, placed, event| {
            placed.check_not_cancelled()?;
            let line = placed.line_with(sku, quantity, |_, line| line.fulfillable_quantity)?;
            let edit_id = shop.next_id();
            let at = placed.touch(now, shop.utc_offset_minutes);
            placed.take_out(Pick { line, quantity });
            let slot = placed.slot_of(line);
            let line = placed.image.line_items.get(line).map_or(0, |line| line.id);
            let cause = Cause::Cancelled(Restock::Cancel);
            let movement = Movement { edit_id: Some(edit_id), ..movement(event, cause, order_id) };
            let movement = Movement { line_id: line, quantity, ..movement };
            shop.shift(event, slot, (i64::from(quantity), -i64::from(quantity)), movement);
            shop.warehouse.restock(sku, quantity);
            let (additions, removals) = (Vec::new(), vec![(line, quantity)]);
            let edit = Edit { id: edit_id, order_id, committed_at: at, additions, removals };
            shop.tell_edit(event, &edit);
            Ok(())
        })
    }

    /// Ships these units of an order, or all that are left. Returns the fulfilment's id.
    pub(crate) fn fulfil(
        &mut self,
        order_id: u64,
        parts: Option<&[(&str, u32)]>,
        now: Millis,
    ) -> Result<u64, Error> {
        self.change(order_id, now, |shop, placed, event| {
            placed.check_not_cancelled()?;
            let picks = match parts {
                None => placed.unshipped(),
                Some(parts) => picks(placed, parts)?,
            };
            if picks.is_empty() {
                return Err(Error::NothingLeft { order_id, sku: "any SKU".to_owned(), asked: 1 });
            }
            let at = placed.touch(now, shop.utc_offset_minutes);
            let id = shop.next_id();
            let mut lines = Vec::with_capacity(picks.len());
            for pick in &picks {
                // The line of the fulfilment has an id too, which the Admin API alone tells.
                shop.next_id();
                lines.extend(shop.ship(placed, *pick, id, now));
            }
            let name = format!("{}.{}", placed.image.name, placed.image.fulfillments.len() + 1);
            let fulfillment = Fulfillment::new(id, order_id, name, at, shop.location_id, lines);
            placed.image.fulfillments.push(fulfillment.clone());
            placed.restate();
            shop.tell_fulfillment(event, &fulfillment);
            let whole = placed.image.fulfillment_status == Some("fulfilled");
            let topic =
                if whole { Topic::OrdersFulfilled } else { Topic::OrdersPartiallyFulfilled };
            shop.tell_order(event, topic, placed);
            Ok(id)
        })
    }

    /// Takes shipped units off what is on hand: they were committed, so nothing shown changes.
    fn ship(
        &mut self,
        placed: &mut Placed,
        pick: Pick,
        fulfillment_id: u64,
        now: Millis,
    ) -> Option<LineItem> {
        let slot = placed.slot_of(pick.line)?;
        let line = placed.image.line_items.get_mut(pick.line)?;
        line.fulfillable_quantity = line.fulfillable_quantity.saturating_sub(pick.quantity);
        self.slots.get_mut(slot)?.committed -= i64::from(pick.quantity);
        self.shipments.push(Shipment {
            at_ms: now,
            order_id: placed.image.id,
            line_id: line.id,
            fulfillment_id,
            sku: line.sku.clone(),
            quantity: pick.quantity,
        });
        Some(LineItem { quantity: pick.quantity, ..line.clone() })
    }

    fn give_back(
        &mut self,
        event: &mut Event,
        placed: &mut Placed,
        picks: &[Pick],
        restock: Restock,
        cause: Cause,
    ) -> Refund {
        let refund_id = self.next_id();
        let order_id = placed.image.id;
        let mut lines = Vec::with_capacity(picks.len());
        for Pick { line, quantity } in picks.iter().copied() {
            let slot = placed.slot_of(line);
            let Some(line) = placed.image.line_items.get_mut(line) else { continue };
            let unshipped = quantity - quantity.min(from_shipped(line, quantity, restock));
            line.current_quantity = line.current_quantity.saturating_sub(quantity);
            line.fulfillable_quantity = line.fulfillable_quantity.saturating_sub(unshipped);
            let id = self.next_id();
            lines.push(RefundLine::new(id, line.clone(), quantity, restock, self.location_id));
            let movement = Movement {
                refund_id: Some(refund_id),
                line_id: line.id,
                quantity,
                ..movement(event, cause, order_id)
            };
            let delta = if restock.puts_back() {
                self.warehouse.restock(&line.sku, quantity);
                (i64::from(quantity), -i64::from(unshipped))
            } else {
                (0, 0)
            };
            self.shift(event, slot, delta, movement);
        }
        let at = placed.image.updated_at.clone();
        let refund = Refund::new(refund_id, order_id, at, lines);
        placed.image.refunds.push(refund.clone());
        placed.restate();
        refund
    }
}

/// A movement of no line yet.
pub(super) fn movement(event: &Event, cause: Cause, order_id: u64) -> Movement {
    Movement {
        at_ms: event.now,
        cause,
        order_id,
        line_id: 0,
        refund_id: None,
        edit_id: None,
        sku: String::new(),
        quantity: 0,
        shown_before: 0,
        shown_after: 0,
        oversold: 0,
    }
}

/// Units of a line that were shipped and not refunded since.
fn shipped(line: &LineItem) -> u32 {
    line.current_quantity.saturating_sub(line.fulfillable_quantity)
}

/// Units of a line that a refund of this kind can be of.
fn refundable(line: &LineItem, restock: Restock) -> u32 {
    match restock {
        Restock::Cancel => line.fulfillable_quantity,
        Restock::Return => shipped(line),
        Restock::NoRestock => line.current_quantity,
    }
}

/// How many of the refunded units had been shipped. What does not come back was not shipped first.
fn from_shipped(line: &LineItem, quantity: u32, restock: Restock) -> u32 {
    match restock {
        Restock::Return => shipped(line).min(quantity),
        _ => quantity.saturating_sub(line.fulfillable_quantity),
    }
}

/// The lines that these units of SKUs are shipped from, each once: a shipment names no line twice.
fn picks(placed: &Placed, parts: &[(&str, u32)]) -> Result<Vec<Pick>, Error> {
    let mut picks: Vec<Pick> = Vec::with_capacity(parts.len());
    for (sku, quantity) in parts {
        let free = |at: usize, line: &LineItem| {
            let taken = picks.iter().filter(|pick| pick.line == at).map(|pick| pick.quantity);
            line.fulfillable_quantity.saturating_sub(taken.sum())
        };
        let line = placed.line_with(sku, *quantity, free)?;
        match picks.iter_mut().find(|pick| pick.line == line) {
            Some(pick) => pick.quantity += quantity,
            None => picks.push(Pick { line, quantity: *quantity }),
        }
    }
    Ok(picks)
}
