//! One order as the shop keeps it: what it tells of it, and what only a checker wants to know.

use crate::{
    Error,
    clock::{self, Millis},
    shopify::payload::{LineItem, Order},
};

/// A placed order.
pub(crate) struct Placed {
    /// As webhooks show it.
    pub(crate) image: Order,
    /// `created_at`, in whole seconds.
    pub(crate) created_ms: Millis,
    /// `updated_at`, in whole seconds: it grows with every change, and so is the version of the image.
    pub(crate) updated_ms: Millis,
    /// Beside each line of the image.
    sources: Vec<Source>,
    taken_out: Vec<TakenOut>,
}

/// Where a line came from.
struct Source {
    slot: usize,
    /// The first image that shows the line.
    since_ms: Millis,
}

/// Units that an edit took out of a line.
struct TakenOut {
    line: usize,
    quantity: u32,
    /// The first image that shows them gone.
    since_ms: Millis,
}

/// Units of one line.
#[derive(Clone, Copy)]
pub(super) struct Pick {
    pub(super) line: usize,
    pub(super) quantity: u32,
}

impl Placed {
    /// An order of these lines, each with the slot that it was sold from.
    pub(super) fn new(
        id: u64,
        number: u64,
        sold: Vec<(usize, LineItem)>,
        now: Millis,
        utc_offset_minutes: i32,
    ) -> Self {
        let created_ms = whole_seconds(now);
        let (slots, lines): (Vec<usize>, Vec<LineItem>) = sold.into_iter().unzip();
        let source = |slot| Source { slot, since_ms: created_ms };
        Self {
            image: Order::new(id, number, clock::shop_time(now, utc_offset_minutes), lines),
            created_ms,
            updated_ms: created_ms,
            sources: slots.into_iter().map(source).collect(),
            taken_out: Vec::new(),
        }
    }

    /// Dates a change. Times are told to the second, and two images with one time could not be told
    /// apart, so a change counts as made a second after the one before at the earliest.
    pub(super) fn touch(&mut self, now: Millis, utc_offset_minutes: i32) -> String {
        self.updated_ms = whole_seconds(now).max(self.updated_ms.saturating_add(1000));
        let at = clock::shop_time(self.updated_ms, utc_offset_minutes);
        self.image.updated_at.clone_from(&at);
        at
    }

    pub(super) fn check_not_cancelled(&self) -> Result<(), Error> {
        match self.image.cancelled_at {
            None => Ok(()),
            Some(_) => Err(Error::Cancelled(self.image.id)),
        }
    }

    /// The slot that a line was sold from.
    pub(crate) fn slot_of(&self, line: usize) -> Option<usize> {
        self.sources.get(line).map(|source| source.slot)
    }

    /// True once an edit changed its lines.
    pub(crate) fn is_edited(&self) -> bool {
        !self.taken_out.is_empty() || self.sources.iter().any(|s| s.since_ms > self.created_ms)
    }

    /// The first line of this SKU that still has so many `units`.
    pub(super) fn line_with(
        &self,
        sku: &str,
        quantity: u32,
        units: impl Fn(usize, &LineItem) -> u32,
    ) -> Result<usize, Error> {
        let has = |(at, line): (usize, &LineItem)| line.sku == sku && units(at, line) >= quantity;
        let line = self.image.line_items.iter().enumerate().position(has);
        line.filter(|_| quantity > 0).ok_or_else(|| Error::NothingLeft {
            order_id: self.image.id,
            sku: sku.to_owned(),
            asked: quantity,
        })
    }

    /// Everything that is still to be shipped.
    pub(super) fn unshipped(&self) -> Vec<Pick> {
        let lines = self.image.line_items.iter().enumerate();
        lines
            .map(|(line, item)| Pick { line, quantity: item.fulfillable_quantity })
            .filter(|pick| pick.quantity > 0)
            .collect()
    }

    /// Adds a line in an edit that has been dated.
    pub(super) fn add(&mut self, slot: usize, line: LineItem) {
        self.image.line_items.push(line);
        self.sources.push(Source { slot, since_ms: self.updated_ms });
        self.restate();
    }

    /// Takes unshipped units out in an edit that has been dated.
    pub(super) fn take_out(&mut self, pick: Pick) {
        let Pick { line, quantity } = pick;
        self.taken_out.push(TakenOut { line, quantity, since_ms: self.updated_ms });
        if let Some(line) = self.image.line_items.get_mut(line) {
            line.current_quantity = line.current_quantity.saturating_sub(quantity);
            line.fulfillable_quantity = line.fulfillable_quantity.saturating_sub(quantity);
        }
        self.restate();
    }

    /// Says again how much of it is shipped.
    pub(super) fn restate(&mut self) {
        let shipped = |line: &LineItem| {
            let left = line.fulfillable_quantity > 0;
            let lines = self.image.fulfillments.iter().flat_map(|shipment| &shipment.line_items);
            match (lines.into_iter().any(|of| of.id == line.id), left) {
                (false, _) => None,
                (true, true) => Some("partial"),
                (true, false) => Some("fulfilled"),
            }
        };
        let statuses: Vec<_> = self.image.line_items.iter().map(shipped).collect();
        let left = self.image.line_items.iter().any(|line| line.fulfillable_quantity > 0);
        let status = if left { "partial" } else { "fulfilled" };
        self.image.fulfillment_status = (!self.image.fulfillments.is_empty()).then_some(status);
        for (line, status) in self.image.line_items.iter_mut().zip(statuses) {
            line.fulfillment_status = status;
        }
    }

    /// The lines that the image of this time shows, each with the units ordered and not taken out by
    /// an edit until then.
    pub(super) fn wanted(&self, image_ms: Millis) -> impl Iterator<Item = (&LineItem, i64)> {
        let lines = self.image.line_items.iter().zip(&self.sources).enumerate();
        lines.filter(move |(_, (_, source))| source.since_ms <= image_ms).map(
            move |(at, (line, _))| {
                let gone =
                    self.taken_out.iter().filter(|out| out.line == at && out.since_ms <= image_ms);
                let gone: i64 = gone.map(|out| i64::from(out.quantity)).sum();
                (line, i64::from(line.quantity) - gone)
            },
        )
    }
}

fn whole_seconds(at: Millis) -> Millis {
    at - at.rem_euclid(1000)
}
