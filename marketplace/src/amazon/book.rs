//! The orders of one seller account, and what is left to sell. It reads no clock and tells nobody; what
//! changed it returns as [`Change`].

use std::collections::{BTreeMap, BTreeSet};

use super::options::Options;
use crate::{
    Error, Warehouse,
    clock::Millis,
    history::{self, ExpectedByLine, Push},
    random::{Random, name_hash},
    warehouse::Sale,
};

/// Order numbers have seventeen digits.
const NUMBER_BASE: u64 = 10_000_000_000_000_000;
const NUMBER_SPAN: u64 = 80_000_000_000_000_000;

/// How Amazon writes an order's number: `114-1234567-1234567`.
#[must_use]
pub fn order_id(number: u64) -> String {
    let (front, back) = (number / 10_000_000, number % 10_000_000);
    format!("{:03}-{:07}-{back:07}", front / 10_000_000, front % 10_000_000)
}

/// The number of an order's id.
pub(crate) fn order_number(id: &str) -> Option<u64> {
    let number = id.replace('-', "").parse().ok()?;
    (order_id(number) == id).then_some(number)
}

/// How far an order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Pending,
    Unshipped,
    PartiallyShipped,
    Shipped,
    Canceled,
}

/// One line of an order.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) item_id: u64,
    pub(crate) sku: String,
    pub(crate) quantity: u32,
    pub(crate) shipped: u32,
    pub(crate) cancel_requested: bool,
}

/// One order.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) number: u64,
    pub(crate) created_ms: Millis,
    pub(crate) updated_ms: Millis,
    pub(crate) status: Status,
    /// From Amazon's own warehouse.
    pub(crate) amazon_fulfilled: bool,
    pub(crate) lines: Vec<Line>,
}

impl Order {
    pub(crate) fn units(&self) -> u32 {
        self.lines.iter().map(|line| line.quantity).sum()
    }

    pub(crate) fn shipped(&self) -> u32 {
        self.lines.iter().map(|line| line.shipped).sum()
    }
}

/// Why an order changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Status,
    BuyerRequest,
}

/// What one change made of an order.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) order: Order,
    pub(crate) reason: Reason,
    /// The lines that it touched.
    pub(crate) lines: Vec<usize>,
    /// What is left of each SKU whose quantity it changed.
    pub(crate) left: Vec<(String, i64)>,
}

/// What a correct ledger must hold of one SKU for this account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Ordered, cancelled or not.
    pub sold: i64,
    /// Of those, cancelled: owed to nobody.
    pub cancelled: i64,
    /// Of those sold, shipped by the seller.
    pub fulfilled: i64,
}

impl Expected {
    /// Sold, and neither cancelled nor shipped.
    #[must_use]
    pub fn committed(&self) -> i64 {
        self.sold - self.cancelled - self.fulfilled
    }
}

/// By SKU.
pub type ExpectedBySku = BTreeMap<String, Expected>;

pub(crate) struct Book {
    /// What is left of each SKU, in the order of the options.
    pub(crate) shelves: Vec<(String, i64)>,
    /// What it was told to show, in the order of arrival.
    pub(crate) pushes: Vec<Push>,
    /// What will be shown, by time and in the order in which it was accepted.
    pub(super) due: BTreeMap<(Millis, u64), (usize, i64)>,
    pub(super) promises: u64,
    seller_id: String,
    warehouse: Option<Warehouse>,
    orders: BTreeMap<u64, Order>,
    by_update: BTreeSet<(Millis, u64)>,
    /// Makes ids, and nothing else.
    random: Random,
    item_id_last: u64,
}

impl Book {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            shelves: options.items.iter().map(|item| (item.sku.clone(), item.units)).collect(),
            pushes: Vec::new(),
            due: BTreeMap::new(),
            promises: 0,
            seller_id: options.seller_id.clone(),
            warehouse: options.warehouse.clone(),
            orders: BTreeMap::new(),
            by_update: BTreeSet::new(),
            random: Random::new(options.seed ^ name_hash(&options.seller_id)),
            item_id_last: 12_345_678_900_000,
        }
    }

    pub(crate) fn shelf_of_sku(&self, sku: &str) -> Option<usize> {
        self.shelves.iter().position(|(known, _)| known == sku)
    }

    /// A buyer orders these. What Amazon ships itself comes from Amazon's own stock.
    pub(crate) fn place(
        &mut self,
        basket: &[(usize, u32)],
        amazon_fulfilled: bool,
        now: Millis,
    ) -> Result<Change, Error> {
        let number = NUMBER_BASE + self.random.below(NUMBER_SPAN);
        if !amazon_fulfilled {
            self.take(basket, number, now)?;
        }
        let lines = basket.iter().filter_map(|(index, quantity)| {
            let (sku, _) = self.shelves.get(*index)?;
            self.item_id_last += 1;
            let (item_id, sku) = (self.item_id_last, sku.clone());
            Some(Line { item_id, sku, quantity: *quantity, shipped: 0, cancel_requested: false })
        });
        let lines: Vec<Line> = lines.collect();
        let status = Status::Pending;
        let order =
            Order { number, created_ms: now, updated_ms: now, status, amazon_fulfilled, lines };
        self.orders.insert(number, order.clone());
        self.by_update.insert((now, number));
        let lines = (0..order.lines.len()).collect();
        let touched = basket.iter().filter(|_| !amazon_fulfilled);
        let left = touched.filter_map(|(index, _)| self.shelves.get(*index).cloned()).collect();
        Ok(Change { order, reason: Reason::Status, lines, left })
    }

    fn take(&mut self, basket: &[(usize, u32)], order: u64, now: Millis) -> Result<(), Error> {
        for (index, asked) in basket {
            let (sku, left) =
                self.shelves.get(*index).ok_or_else(|| Error::UnknownSku(index.to_string()))?;
            let wanted: i64 = basket.iter().filter(|b| b.0 == *index).map(|b| i64::from(b.1)).sum();
            if *left < wanted || *asked == 0 {
                return Err(Error::OutOfStock { sku: sku.clone(), asked: *asked, shown: *left });
            }
        }
        for (index, quantity) in basket {
            let Some((sku, left)) = self.shelves.get_mut(*index) else { continue };
            if let Some(warehouse) = &self.warehouse {
                warehouse.sell(&Sale {
                    at_ms: now,
                    store: &self.seller_id,
                    sku,
                    order_id: order,
                    quantity: *quantity,
                    shown_before: *left,
                });
            }
            *left -= i64::from(*quantity);
        }
        Ok(())
    }

    /// The payment is through: the order may ship.
    pub(crate) fn confirm(&mut self, number: u64, now: Millis) -> Result<Change, Error> {
        self.change(number, Reason::Status, now, |order| {
            (order.status == Status::Pending).then(|| {
                order.status = Status::Unshipped;
                (0..order.lines.len()).collect()
            })
        })
    }

    /// The buyer asks for a cancellation, which changes nothing yet.
    pub(crate) fn request_cancel(&mut self, number: u64, now: Millis) -> Result<Change, Error> {
        self.change(number, Reason::BuyerRequest, now, |order| {
            (order.status == Status::Unshipped).then(|| {
                for line in &mut order.lines {
                    line.cancel_requested = true;
                }
                (0..order.lines.len()).collect()
            })
        })
    }

    /// Nothing of the order will ship. Its units are in the warehouse, and on show again if they are `relisted`.
    pub(crate) fn cancel(
        &mut self,
        number: u64,
        relisted: bool,
        now: Millis,
    ) -> Result<Change, Error> {
        let mut change = self.change(number, Reason::Status, now, |order| {
            matches!(order.status, Status::Pending | Status::Unshipped).then(|| {
                order.status = Status::Canceled;
                (0..order.lines.len()).collect()
            })
        })?;
        if change.order.amazon_fulfilled {
            return Ok(change);
        }
        for line in &change.order.lines {
            if let Some(warehouse) = &self.warehouse {
                warehouse.restock(&line.sku, line.quantity);
            }
            let shown = self.shelves.iter_mut().find(|(sku, _)| relisted && *sku == line.sku);
            if let Some((sku, left)) = shown {
                *left += i64::from(line.quantity);
                change.left.push((sku.clone(), *left));
            }
        }
        Ok(change)
    }

    /// Up to `units` of the order ship.
    pub(crate) fn ship(&mut self, number: u64, units: u32, now: Millis) -> Result<Change, Error> {
        self.change(number, Reason::Status, now, |order| {
            if units == 0 || !matches!(order.status, Status::Unshipped | Status::PartiallyShipped) {
                return None;
            }
            let (mut units, mut touched) = (units, Vec::new());
            for (index, line) in order.lines.iter_mut().enumerate() {
                let some = units.min(line.quantity - line.shipped);
                line.shipped += some;
                units -= some;
                touched.extend((some > 0).then_some(index));
            }
            order.status = if order.shipped() == order.units() {
                Status::Shipped
            } else {
                Status::PartiallyShipped
            };
            Some(touched)
        })
    }

    /// Applies a change, which names the lines it touched, or nothing if the order is not in a state
    /// for it. No two changes of an order have one time.
    fn change(
        &mut self,
        number: u64,
        reason: Reason,
        now: Millis,
        change: impl FnOnce(&mut Order) -> Option<Vec<usize>>,
    ) -> Result<Change, Error> {
        let order = self.orders.get_mut(&number).ok_or(Error::UnknownOrder(number))?;
        let Some(lines) = change(order) else {
            return Err(match order.status {
                Status::Canceled => Error::Cancelled(number),
                _ => Error::NothingLeft { order_id: number, sku: String::new(), asked: 0 },
            });
        };
        self.by_update.remove(&(order.updated_ms, number));
        order.updated_ms = now.max(order.updated_ms + 1);
        self.by_update.insert((order.updated_ms, number));
        Ok(Change { order: order.clone(), reason, lines, left: Vec::new() })
    }

    pub(crate) fn order(&self, number: u64) -> Option<&Order> {
        self.orders.get(&number)
    }

    /// Orders by their last change, from `after` (at this time and number, or later) to `before`.
    pub(crate) fn updated(
        &self,
        after: (Millis, u64),
        before: Millis,
    ) -> impl Iterator<Item = &Order> {
        // A range that ends before it begins is empty here, and would panic there.
        let end = (before, u64::MAX).max(after);
        let found = self.by_update.range(after..=end);
        found.filter(move |(at, _)| *at <= before).filter_map(|(_, number)| self.orders.get(number))
    }

    /// What a correct ledger holds once it heard of everything that is the seller's.
    pub(crate) fn expected(&self) -> ExpectedBySku {
        let mut expected: ExpectedBySku =
            self.shelves.iter().map(|(sku, _)| (sku.clone(), Expected::default())).collect();
        for order in self.orders.values().filter(|order| !order.amazon_fulfilled) {
            for line in &order.lines {
                let sku = expected.entry(line.sku.clone()).or_default();
                let quantity = i64::from(line.quantity);
                sku.sold += quantity;
                sku.fulfilled += i64::from(line.shipped);
                if order.status == Status::Canceled {
                    sku.cancelled += quantity;
                }
            }
        }
        expected
    }

    /// The same by order line.
    pub(crate) fn expected_lines(&self) -> ExpectedByLine {
        let orders = self.orders.values().filter(|order| !order.amazon_fulfilled);
        let lines = orders.flat_map(|order| order.lines.iter().map(move |line| (order, line)));
        let lines = lines.map(|(order, line)| {
            let owed = order.status != Status::Canceled;
            let expected = history::Expected {
                committed: if owed { i64::from(line.quantity) } else { 0 },
                fulfilled: i64::from(line.shipped),
                returned: 0,
            };
            (format!("{}/{}", order_id(order.number), line.item_id), expected)
        });
        lines.collect()
    }
}
