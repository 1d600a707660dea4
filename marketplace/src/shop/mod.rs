//! The shop itself: stock, and orders with what becomes of them. It reads no clock and sends nothing;
//! what it wants told to the seller it leaves in its outbox as [`Fired`].

mod books;
mod change;
mod placed;
mod tell;

use std::collections::{BTreeMap, BTreeSet};

use placed::Pick;
pub(crate) use placed::Placed;
pub(crate) use tell::{Event, Fired};

use crate::{
    Error,
    clock::Millis,
    history::{Cause, Movement, Shipment},
    options::{Item, Options},
    random::{Random, name_hash},
    shopify::{payload::LineItem, sign::Topic},
    warehouse::{Sale, Warehouse},
};

/// Ids start above 2^53, where a reader that goes through a float begins to lose them.
const ID_BASE: u64 = 1 << 60;

/// One item with its counts.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    /// Its `available` is what customers see now.
    pub(crate) item: Item,
    /// Sold, and neither freed again nor shipped.
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

pub(crate) struct Shop {
    name: String,
    pub(crate) location_id: u64,
    utc_offset_minutes: i32,
    pub(crate) slots: Vec<Slot>,
    by_inventory_item: BTreeMap<u64, usize>,
    orders: BTreeMap<u64, Placed>,
    pub(crate) movements: Vec<Movement>,
    pub(crate) shipments: Vec<Shipment>,
    topics: BTreeSet<Topic>,
    outbox: Vec<Fired>,
    /// Makes ids, and nothing else.
    random: Random,
    warehouse: Warehouse,
    id_last: u64,
    order_number_last: u64,
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
            shipments: Vec::new(),
            topics: options.topics.clone(),
            outbox: Vec::new(),
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

    /// An order by its id.
    pub(crate) fn order(&self, id: u64) -> Option<&Placed> {
        self.orders.get(&id)
    }

    /// Every order, oldest first.
    pub(crate) fn orders(&self) -> impl Iterator<Item = &Placed> {
        self.orders.values()
    }

    /// Sells these slots' units in one order. Nobody can buy more than the store shows.
    pub(crate) fn place(&mut self, basket: &[(usize, u32)], now: Millis) -> Result<u64, Error> {
        self.check_shown(basket)?;
        let order_id = self.next_id();
        let mut event = self.event(now);
        let mut sold = Vec::with_capacity(basket.len());
        for (slot, quantity) in basket {
            let line = self.sell(&mut event, *slot, *quantity, order_id, None);
            sold.extend(line.map(|line| (*slot, line)));
        }
        self.order_number_last += 1;
        let number = self.order_number_last;
        let placed = Placed::new(order_id, number, sold, now, self.utc_offset_minutes);
        self.tell_order(&event, Topic::OrdersCreate, &placed);
        self.tell_levels(&event);
        self.orders.insert(order_id, placed);
        Ok(order_id)
    }

    /// Changes what is shown of an item, whoever says so.
    pub(crate) fn adjust(&mut self, event: &mut Event, slot: usize, delta: i64) {
        if let Some(of) = self.slots.get_mut(slot).filter(|_| delta != 0) {
            of.item.available += delta;
            event.levels.insert(slot);
        }
    }

    fn check_shown(&self, basket: &[(usize, u32)]) -> Result<(), Error> {
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
        Ok(())
    }

    fn sell(
        &mut self,
        event: &mut Event,
        slot: usize,
        quantity: u32,
        order_id: u64,
        edit_id: Option<u64>,
    ) -> Option<LineItem> {
        let line_id = self.next_id();
        let item = &self.slots.get(slot)?.item;
        let line = LineItem::new(line_id, item, quantity);
        let oversold = self.warehouse.sell(&Sale {
            at_ms: event.now,
            store: &self.name,
            sku: &item.sku,
            order_id,
            quantity,
            shown_before: item.available,
        });
        let movement = change::movement(event, Cause::Sold, order_id);
        let movement = Movement { line_id, edit_id, quantity, oversold, ..movement };
        let units = i64::from(quantity);
        self.shift(event, Some(slot), (-units, units), movement);
        Some(line)
    }

    /// Moves what is available and what is committed, and notes the movement with what it moved.
    fn shift(
        &mut self,
        event: &mut Event,
        slot: Option<usize>,
        (available, committed): (i64, i64),
        mut movement: Movement,
    ) {
        let Some(slot) = slot else { return };
        movement.shown_before = self.slots.get(slot).map_or(0, |slot| slot.item.available);
        self.adjust(event, slot, available);
        let Some(slot) = self.slots.get_mut(slot) else { return };
        slot.committed += committed;
        movement.sku.clone_from(&slot.item.sku);
        movement.shown_after = slot.item.available;
        self.movements.push(movement);
    }

    pub(crate) fn next_id(&mut self) -> u64 {
        self.id_last += 1;
        self.id_last
    }
}
