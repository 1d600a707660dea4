//! The truth of one channel: what it shows, its orders, the moves of its stock. It reads no clock and
//! sends nothing; what happened it returns as [`Change`].

mod shelf;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{
    options::{Item, Options},
    told::Told,
    totals::Totals,
};
use crate::{
    Error, Warehouse,
    clock::Millis,
    random::{Random, name_hash},
    warehouse::Sale,
};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Placed {
        order: u64,
    },
    Cancelled {
        order: u64,
    },
    /// Units of one line were taken back or refunded.
    Reduced {
        order: u64,
        line: usize,
    },
    Shipped {
        order: u64,
    },
    Trashed {
        order: u64,
    },
    Moved {
        id: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Open,
    Shipped,
    Cancelled,
}

#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) id: u64,
    pub(crate) created_ms: Millis,
    /// Grows with each change.
    pub(crate) modified_ms: Millis,
    /// Counts the changes: 1 when it was placed.
    pub(crate) version: u32,
    pub(crate) status: Status,
    pub(crate) trashed: bool,
    pub(crate) lines: Vec<Line>,
    pub(crate) refunds: Vec<Refund>,
}

#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) id: u64,
    /// Its place among the channel's items.
    pub(crate) item: usize,
    pub(crate) sku: String,
    pub(crate) listing: u64,
    /// The product that the listing is a variation of.
    pub(crate) parent: Option<u64>,
    pub(crate) ordered: i64,
    pub(crate) cancelled: i64,
    pub(crate) returned: i64,
    pub(crate) fulfilled: i64,
    /// Refunded, whether put back or not.
    pub(crate) refunded: i64,
    /// Refunded and put back.
    pub(crate) restocked: i64,
}

impl Line {
    /// What the customer still wants of it.
    pub(crate) fn wanted(&self) -> i64 {
        self.ordered - self.cancelled
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Refund {
    pub(crate) id: u64,
    pub(crate) at_ms: Millis,
    pub(crate) line: usize,
    pub(crate) quantity: i64,
}

/// Why stock moved without a customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MoveKind {
    /// From a supplier to the shelf.
    Receipt,
    /// From one shelf to another.
    Transfer,
    /// Written off.
    Scrap,
    /// Counted: more, or fewer if negative, than was known.
    Count,
}

#[derive(Clone, Debug)]
pub(crate) struct Move {
    pub(crate) id: u64,
    pub(crate) kind: MoveKind,
    pub(crate) item: usize,
    pub(crate) quantity: i64,
    pub(crate) at_ms: Millis,
    /// What whoever made it calls it.
    pub(crate) reference: Option<String>,
}

/// Where the units of an item are, beside those that are shown.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extra {
    /// Units that are the channel's to sell, at the start.
    pub(crate) allotted: i64,
    /// Shipped to customers.
    pub(crate) delivered: i64,
    /// When any count of it changed last.
    pub(crate) changed_ms: Millis,
    /// Counts these changes.
    pub(crate) version: u32,
    pub(crate) received: i64,
    pub(crate) scrapped: i64,
    pub(crate) transferred: i64,
    /// How much of what was received and is still there a count has put on sale.
    pub(crate) on_sale: i64,
}

impl Extra {
    /// Received and neither scrapped nor transferred.
    pub(crate) const fn free(&self) -> i64 {
        self.received - self.scrapped - self.transferred
    }
}

pub(crate) struct Book {
    /// Their `units` are what is still shown.
    pub(crate) items: Vec<Item>,
    pub(crate) orders: BTreeMap<u64, Order>,
    pub(crate) moves: BTreeMap<u64, Move>,
    /// By item.
    pub(crate) extras: Vec<Extra>,
    pub(crate) parents: BTreeMap<u64, u64>,
    pub(crate) told: Told,
    /// What happened through the API and was not told yet.
    pub(super) happened: Vec<Change>,
    name: String,
    warehouse: Option<Warehouse>,
    by_modified: BTreeSet<(Millis, u64)>,
    id_last: u64,
}

impl Book {
    /// What a seller of these options begins with. Its ids follow from its name and its seed.
    pub(super) fn new(options: &Options) -> Self {
        let seed = options.seed ^ name_hash(&options.name);
        let items = &options.items;
        Self {
            items: items.clone(),
            orders: BTreeMap::new(),
            moves: BTreeMap::new(),
            extras: items
                .iter()
                .map(|item| Extra { allotted: item.units, ..Extra::default() })
                .collect(),
            parents: options.parents.clone(),
            told: Told::new(seed ^ name_hash("told"), &options.faults),
            happened: Vec::new(),
            name: options.name.clone(),
            warehouse: options.warehouse.clone(),
            by_modified: BTreeSet::new(),
            // Below every id that it gives out.
            id_last: 1000 * (1 + Random::new(seed ^ name_hash("ids")).below(9000)),
        }
    }

    pub(crate) fn item_of(&self, sku: &str) -> Result<usize, Error> {
        let found = self.items.iter().position(|item| item.sku == sku);
        found.ok_or_else(|| Error::UnknownSku(sku.to_owned()))
    }

    /// Orders by the time of their last change.
    pub(crate) fn by_modified(&self) -> impl DoubleEndedIterator<Item = &Order> {
        self.by_modified.iter().filter_map(|(_, id)| self.orders.get(id))
    }

    /// Sells these items in one order. Nobody can buy more than is shown.
    pub(crate) fn place(
        &mut self,
        basket: &[(usize, u32)],
        now: Millis,
    ) -> Result<(u64, Change), Error> {
        for (index, asked) in basket {
            let item =
                self.items.get(*index).ok_or_else(|| Error::UnknownSku(index.to_string()))?;
            let wanted: i64 = basket.iter().filter(|b| b.0 == *index).map(|b| i64::from(b.1)).sum();
            if item.units < wanted || *asked == 0 {
                let (sku, asked, shown) = (item.sku.clone(), *asked, item.units);
                return Err(Error::OutOfStock { sku, asked, shown });
            }
        }
        let id = self.next_id();
        let mut lines = Vec::with_capacity(basket.len());
        for (index, quantity) in basket {
            let line_id = self.next_id();
            let Some(item) = self.items.get_mut(*index) else { continue };
            if let Some(warehouse) = &self.warehouse {
                warehouse.sell(&Sale {
                    at_ms: now,
                    store: &self.name,
                    sku: &item.sku,
                    order_id: id,
                    quantity: *quantity,
                    shown_before: item.units,
                });
            }
            item.units -= i64::from(*quantity);
            lines.push(Line {
                id: line_id,
                item: *index,
                sku: item.sku.clone(),
                listing: item.listing,
                parent: self.parents.get(&item.listing).copied(),
                ordered: i64::from(*quantity),
                cancelled: 0,
                returned: 0,
                fulfilled: 0,
                refunded: 0,
                restocked: 0,
            });
        }
        let order = Order {
            id,
            created_ms: now,
            modified_ms: now,
            version: 1,
            status: Status::Open,
            trashed: false,
            lines,
            refunds: Vec::new(),
        };
        self.by_modified.insert((now, id));
        self.orders.insert(id, order);
        self.mark(id);
        Ok((id, Change::Placed { order: id }))
    }

    /// Cancels what is left of an order that was not shipped.
    pub(crate) fn cancel(&mut self, id: u64, now: Millis) -> Result<Change, Error> {
        let order = self.open_order(id)?;
        order.status = Status::Cancelled;
        let mut freed = Vec::with_capacity(order.lines.len());
        for line in &mut order.lines {
            freed.push((line.item, line.wanted()));
            line.cancelled = line.ordered;
        }
        for (item, units) in freed {
            self.put_back(item, units);
        }
        self.touch(id, now);
        Ok(Change::Cancelled { order: id })
    }

    /// Refunds units of one line, and puts them back on the shelf if `restock`. Units of an order that
    /// was shipped come back; others are cancelled.
    pub(crate) fn reduce(
        &mut self,
        id: u64,
        sku: &str,
        quantity: u32,
        restock: bool,
        now: Millis,
    ) -> Result<Change, Error> {
        let refund_id = self.next_id();
        let order = self.orders.get_mut(&id).ok_or(Error::UnknownOrder(id))?;
        if order.status == Status::Cancelled {
            return Err(Error::Cancelled(id));
        }
        let units = i64::from(quantity);
        let fits = |line: &Line| line.sku == sku && line.ordered - line.refunded >= units;
        let place = order.lines.iter().position(fits).filter(|_| quantity > 0);
        let found = place.and_then(|line| Some((line, order.lines.get_mut(line)?)));
        let Some((index, line)) = found else {
            return Err(Error::NothingLeft { order_id: id, sku: sku.to_owned(), asked: quantity });
        };
        line.refunded += units;
        line.restocked += if restock { units } else { 0 };
        let item = line.item;
        match (restock, order.status) {
            (false, _) => {}
            (true, Status::Shipped) => line.returned += units,
            (true, _) => line.cancelled += units,
        }
        order.refunds.push(Refund { id: refund_id, at_ms: now, line: index, quantity: units });
        if restock {
            self.put_back(item, units);
        }
        self.touch(id, now);
        Ok(Change::Reduced { order: id, line: index })
    }

    /// Ships what is left of an order.
    pub(crate) fn ship(&mut self, id: u64, now: Millis) -> Result<Change, Error> {
        let order = self.open_order(id)?;
        order.status = Status::Shipped;
        let mut left = Vec::with_capacity(order.lines.len());
        for line in &mut order.lines {
            line.fulfilled = line.wanted();
            left.push((line.item, line.fulfilled));
        }
        for (item, units) in left {
            if let Some(extra) = self.extras.get_mut(item) {
                extra.delivered += units;
            }
        }
        self.touch(id, now);
        Ok(Change::Shipped { order: id })
    }

    /// Puts a cancelled order into the trash.
    pub(crate) fn trash(&mut self, id: u64, now: Millis) -> Result<Change, Error> {
        let order = self.orders.get_mut(&id).ok_or(Error::UnknownOrder(id))?;
        if order.status != Status::Cancelled || order.trashed {
            return Err(Error::UnknownOrder(id));
        }
        order.trashed = true;
        self.touch(id, now);
        Ok(Change::Trashed { order: id })
    }

    /// Stock moves without a customer. Only what was received can be moved or written off, so that the
    /// allotment stays whole.
    pub(crate) fn shift(
        &mut self,
        kind: MoveKind,
        sku: &str,
        quantity: u32,
        now: Millis,
    ) -> Result<Change, Error> {
        let item = self.item_of(sku)?;
        let units = i64::from(quantity);
        let extra = self.extras.get_mut(item).ok_or_else(|| Error::UnknownSku(sku.to_owned()))?;
        let free = extra.free();
        if kind != MoveKind::Receipt && free < units || quantity == 0 || kind == MoveKind::Count {
            return Err(Error::OutOfStock { sku: sku.to_owned(), asked: quantity, shown: free });
        }
        extra.changed_ms = extra.changed_ms.max(now);
        extra.version += 1;
        match kind {
            MoveKind::Receipt => extra.received += units,
            MoveKind::Transfer => extra.transferred += units,
            MoveKind::Scrap | MoveKind::Count => extra.scrapped += units,
        }
        // What a count has put on sale is taken from the shelf that is sold from.
        let taken = (extra.on_sale - extra.free()).max(0);
        extra.on_sale -= taken;
        if let (Some(warehouse), true) = (&self.warehouse, kind != MoveKind::Transfer) {
            warehouse.receive(sku, if kind == MoveKind::Receipt { units } else { -units });
        }
        self.put_on_show(item, -taken);
        Ok(self.note_move(kind, item, units, None, now))
    }

    fn note_move(
        &mut self,
        kind: MoveKind,
        item: usize,
        quantity: i64,
        reference: Option<String>,
        now: Millis,
    ) -> Change {
        let id = self.next_id();
        self.moves.insert(id, Move { id, kind, item, quantity, at_ms: now, reference });
        Change::Moved { id }
    }

    /// By SKU.
    pub(crate) fn totals(&self) -> BTreeMap<String, Totals> {
        let mut totals = BTreeMap::new();
        for (item, extra) in self.items.iter().zip(&self.extras) {
            let entry: &mut Totals = totals.entry(item.sku.clone()).or_default();
            entry.received += extra.received;
            entry.adjusted -= extra.scrapped;
        }
        for line in self.orders.values().flat_map(|order| &order.lines) {
            totals.entry(line.sku.clone()).or_default().add(line);
        }
        totals
    }

    fn open_order(&mut self, id: u64) -> Result<&mut Order, Error> {
        let order = self.orders.get_mut(&id).ok_or(Error::UnknownOrder(id))?;
        if order.status == Status::Open { Ok(order) } else { Err(Error::Cancelled(id)) }
    }

    fn put_back(&mut self, item: usize, units: i64) {
        if let (Some(warehouse), Some(item)) = (&self.warehouse, self.items.get(item)) {
            warehouse.restock(&item.sku, u32::try_from(units).unwrap_or(0));
        }
        self.put_on_show(item, units);
    }

    fn put_on_show(&mut self, item: usize, units: i64) {
        if let Some(item) = self.items.get_mut(item) {
            item.units += units;
        }
    }

    fn touch(&mut self, id: u64, now: Millis) {
        let Some(order) = self.orders.get_mut(&id) else { return };
        self.by_modified.remove(&(order.modified_ms, id));
        order.modified_ms = now.max(order.modified_ms + 1);
        order.version += 1;
        self.by_modified.insert((order.modified_ms, id));
        self.mark(id);
    }

    /// Counts of the items of an order have changed with it.
    fn mark(&mut self, id: u64) {
        let Some(order) = self.orders.get(&id) else { return };
        for line in &order.lines {
            if let Some(extra) = self.extras.get_mut(line.item) {
                extra.changed_ms = extra.changed_ms.max(order.modified_ms);
                extra.version += 1;
            }
        }
    }

    fn next_id(&mut self) -> u64 {
        self.id_last += 1;
        self.id_last
    }
}
