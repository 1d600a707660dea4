//! The shop itself: stock, orders and refunds. It reads no clock and sends nothing; what it wants told
//! to the seller it returns as [`Fired`].

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    Error,
    clock::{self, Millis},
    history::{Cause, Expected, ExpectedBySku, Known, Movement},
    options::{Item, Options},
    random::{Random, name_hash},
    shopify::{
        payload::{LineItem, Order, Refund, RefundLine, Restock},
        sign::Topic,
    },
    warehouse::{Sale, Warehouse},
};

/// Ids start above 2^53, where a reader that goes through a float begins to lose them.
const ID_BASE: u64 = 1 << 60;

/// What one action wants told.
#[derive(Clone, Debug)]
pub(crate) struct Fired {
    pub(crate) topic: Topic,
    pub(crate) webhook_id: String,
    pub(crate) event_id: String,
    pub(crate) order_id: u64,
    pub(crate) refund_ids: Vec<u64>,
    pub(crate) triggered_ms: Millis,
    pub(crate) body: Bytes,
}

/// One item with its counts.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    /// Its `available` is what customers see now.
    pub(crate) item: Item,
    /// Sold and not freed again.
    pub(crate) committed: i64,
}

impl Slot {
    /// A quantity by the name that the Admin API has for it.
    pub(crate) fn quantity(&self, name: &str) -> Option<i64> {
        match name {
            "available" => Some(self.item.available),
            "committed" => Some(self.committed),
            "on_hand" => Some(self.item.available + self.committed),
            _ => None,
        }
    }
}

struct Placed {
    image: Order,
    /// The slot of each line.
    slots: Vec<usize>,
}

pub(crate) struct Shop {
    name: String,
    pub(crate) location_id: u64,
    utc_offset_minutes: i32,
    pub(crate) slots: Vec<Slot>,
    by_inventory_item: BTreeMap<u64, usize>,
    orders: BTreeMap<u64, Placed>,
    pub(crate) movements: Vec<Movement>,
    /// Makes ids, and nothing else.
    random: Random,
    warehouse: Warehouse,
    id_last: u64,
    order_number_last: u64,
}

/// Units of one order line to give back.
struct Pick {
    line: usize,
    quantity: u32,
}

impl Shop {
    pub(crate) fn new(options: &Options, warehouse: Warehouse) -> Self {
        let mut random = Random::new(options.seed ^ name_hash(&options.name));
        let id_last = ID_BASE + (random.below(1 << 26) << 32);
        let by_inventory_item = options
            .items
            .iter()
            .enumerate()
            .map(|(slot, item)| (item.inventory_item_id, slot))
            .collect();
        Self {
            name: options.name.clone(),
            location_id: options.location_id,
            utc_offset_minutes: options.utc_offset_minutes,
            slots: options
                .items
                .iter()
                .map(|item| Slot { item: item.clone(), committed: 0 })
                .collect(),
            by_inventory_item,
            orders: BTreeMap::new(),
            movements: Vec::new(),
            random,
            warehouse,
            id_last,
            order_number_last: 1000,
        }
    }

    pub(crate) fn slot_of_sku(&self, sku: &str) -> Option<usize> {
        self.slots.iter().position(|slot| slot.item.sku == sku)
    }

    pub(crate) fn slot_of_inventory_item(&self, id: u64) -> Option<usize> {
        self.by_inventory_item.get(&id).copied()
    }

    /// Sells these slots' units in one order. Nobody can buy more than the store shows.
    pub(crate) fn place(
        &mut self,
        basket: &[(usize, u32)],
        now: Millis,
    ) -> Result<(u64, Fired), Error> {
        for (index, asked) in basket {
            let slot =
                self.slots.get(*index).ok_or_else(|| Error::UnknownSku(index.to_string()))?;
            let wanted: i64 = basket.iter().filter(|b| b.0 == *index).map(|b| i64::from(b.1)).sum();
            if slot.item.available < wanted || *asked == 0 {
                return Err(Error::OutOfStock {
                    sku: slot.item.sku.clone(),
                    asked: *asked,
                    shown: slot.item.available,
                });
            }
        }
        let order_id = self.next_id();
        let mut lines = Vec::with_capacity(basket.len());
        for (index, quantity) in basket {
            lines.extend(self.sell(*index, *quantity, order_id, now));
        }
        self.order_number_last += 1;
        let at = clock::shop_time(now, self.utc_offset_minutes);
        let image = Order::new(order_id, self.order_number_last, at, lines);
        let event_id = self.random.uuid();
        let fired = self.fire(Topic::OrdersCreate, event_id, &image, None, now);
        let slots = basket.iter().map(|(index, _)| *index).collect();
        self.orders.insert(order_id, Placed { image, slots });
        Ok((order_id, fired))
    }

    fn sell(
        &mut self,
        index: usize,
        quantity: u32,
        order_id: u64,
        now: Millis,
    ) -> Option<LineItem> {
        let line_id = self.next_id();
        let slot = self.slots.get_mut(index)?;
        let shown_before = slot.item.available;
        slot.item.available -= i64::from(quantity);
        slot.committed += i64::from(quantity);
        let sale = Sale {
            at_ms: now,
            store: &self.name,
            sku: &slot.item.sku,
            order_id,
            quantity,
            shown_before,
        };
        let oversold = self.warehouse.sell(&sale);
        self.movements.push(Movement {
            at_ms: now,
            cause: Cause::Sold,
            order_id,
            line_id,
            refund_id: None,
            sku: slot.item.sku.clone(),
            quantity,
            shown_before,
            shown_after: slot.item.available,
            oversold,
        });
        Some(LineItem::new(line_id, &slot.item, quantity))
    }

    /// Cancels what is left of an order: one `orders/cancelled` with the refund inside, and one
    /// `refunds/create` for the same refund.
    pub(crate) fn cancel(
        &mut self,
        order_id: u64,
        restock: Restock,
        now: Millis,
    ) -> Result<Vec<Fired>, Error> {
        let mut placed = self.orders.remove(&order_id).ok_or(Error::UnknownOrder(order_id))?;
        if placed.image.cancelled_at.is_some() {
            self.orders.insert(order_id, placed);
            return Err(Error::Cancelled(order_id));
        }
        let picks: Vec<Pick> = placed
            .image
            .line_items
            .iter()
            .enumerate()
            .map(|(line, item)| Pick { line, quantity: item.current_quantity })
            .filter(|pick| pick.quantity > 0)
            .collect();
        let at = clock::shop_time(now, self.utc_offset_minutes);
        placed.image.updated_at.clone_from(&at);
        placed.image.cancelled_at = Some(at);
        placed.image.cancel_reason = Some("customer");
        let refund = (!picks.is_empty())
            .then(|| self.give_back(&mut placed, &picks, restock, Cause::Cancelled(restock), now));
        placed.image.financial_status = "refunded";
        let event_id = self.random.uuid();
        let mut fired =
            vec![self.fire(Topic::OrdersCancelled, event_id.clone(), &placed.image, None, now)];
        if let Some(refund) = refund {
            let topic = Topic::RefundsCreate;
            fired.push(self.fire(topic, event_id, &placed.image, Some(&refund), now));
        }
        self.orders.insert(order_id, placed);
        Ok(fired)
    }

    /// Refunds `quantity` units of one SKU of an order.
    pub(crate) fn refund(
        &mut self,
        order_id: u64,
        sku: &str,
        quantity: u32,
        restock: Restock,
        now: Millis,
    ) -> Result<(u64, Fired), Error> {
        let mut placed = self.orders.remove(&order_id).ok_or(Error::UnknownOrder(order_id))?;
        let line = placed
            .image
            .line_items
            .iter()
            .position(|line| line.sku == sku && line.current_quantity >= quantity);
        let Some(line) = line.filter(|_| quantity > 0) else {
            self.orders.insert(order_id, placed);
            return Err(Error::NothingLeft { order_id, sku: sku.to_owned(), asked: quantity });
        };
        placed.image.updated_at = clock::shop_time(now, self.utc_offset_minutes);
        let pick = [Pick { line, quantity }];
        let refund = self.give_back(&mut placed, &pick, restock, Cause::Refunded(restock), now);
        placed.image.financial_status = "partially_refunded";
        let event_id = self.random.uuid();
        let fired = self.fire(Topic::RefundsCreate, event_id, &placed.image, Some(&refund), now);
        self.orders.insert(order_id, placed);
        Ok((refund.id, fired))
    }

    fn give_back(
        &mut self,
        placed: &mut Placed,
        picks: &[Pick],
        restock: Restock,
        cause: Cause,
        now: Millis,
    ) -> Refund {
        let refund_id = self.next_id();
        let order_id = placed.image.id;
        let mut lines = Vec::with_capacity(picks.len());
        for pick in picks {
            let slot = placed.slots.get(pick.line).copied();
            let Some(line) = placed.image.line_items.get_mut(pick.line) else { continue };
            line.current_quantity = line.current_quantity.saturating_sub(pick.quantity);
            line.fulfillable_quantity = line.current_quantity;
            let id = self.next_id();
            lines.push(RefundLine::new(id, line.clone(), pick.quantity, restock, self.location_id));
            let Some(slot) = slot.and_then(|index| self.slots.get_mut(index)) else { continue };
            let shown_before = slot.item.available;
            if restock.puts_back() {
                slot.item.available += i64::from(pick.quantity);
                slot.committed -= i64::from(pick.quantity);
                self.warehouse.restock(&slot.item.sku, pick.quantity);
            }
            self.movements.push(Movement {
                at_ms: now,
                cause,
                order_id,
                line_id: line.id,
                refund_id: Some(refund_id),
                sku: slot.item.sku.clone(),
                quantity: pick.quantity,
                shown_before,
                shown_after: slot.item.available,
                oversold: 0,
            });
        }
        let at = clock::shop_time(now, self.utc_offset_minutes);
        let refund = Refund::new(refund_id, order_id, at, lines);
        placed.image.refunds.push(refund.clone());
        refund
    }

    fn fire(
        &mut self,
        topic: Topic,
        event_id: String,
        image: &Order,
        refund: Option<&Refund>,
        now: Millis,
    ) -> Fired {
        let (body, refund_ids) = match refund {
            Some(refund) => (refund.body(), vec![refund.id]),
            None => (image.body(), image.refunds.iter().map(|refund| refund.id).collect()),
        };
        Fired {
            topic,
            webhook_id: self.random.uuid(),
            event_id,
            order_id: image.id,
            refund_ids,
            triggered_ms: now,
            body,
        }
    }

    /// What a correct ledger holds if it heard of exactly this.
    pub(crate) fn expected(&self, known: &Known) -> ExpectedBySku {
        let mut expected: ExpectedBySku =
            self.slots.iter().map(|s| (s.item.sku.clone(), Expected::default())).collect();
        for placed in known.orders.iter().filter_map(|id| self.orders.get(id)) {
            for line in &placed.image.line_items {
                expected.entry(line.sku.clone()).or_default().committed += i64::from(line.quantity);
            }
            let refunds = placed.image.refunds.iter().filter(|r| known.refunds.contains(&r.id));
            for line in refunds.flat_map(|refund| &refund.refund_line_items) {
                let sku = expected.entry(line.line_item.sku.clone()).or_default();
                match line.restock_type {
                    Restock::Cancel => sku.committed -= i64::from(line.quantity),
                    Restock::Return => sku.returned += i64::from(line.quantity),
                    Restock::NoRestock => {}
                }
            }
        }
        expected
    }

    /// Every order and refund there is.
    pub(crate) fn everything(&self) -> Known {
        let images = self.orders.values().map(|placed| &placed.image);
        Known {
            orders: self.orders.keys().copied().collect(),
            refunds: images.flat_map(|image| &image.refunds).map(|refund| refund.id).collect(),
        }
    }

    pub(crate) fn next_id(&mut self) -> u64 {
        self.id_last += 1;
        self.id_last
    }
}
