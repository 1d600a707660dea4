//! Orders: facts merged into them, and what is owed for their lines booked.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write as _;

use super::{Cause, Held, next_letter};
use crate::booking::Booking;
use crate::limits;
use crate::machine::{State, Work};
use crate::names::Waiter;
use crate::order::{Line, LineImage, Order, RemovalLine};
use crate::{Id, Packed};

/// Channel and the channel's id of an order.
type OrderPlace = (Id, Id);

/// A line as a fact names it: its id, the listing and the SKU.
type Named<'a> = (&'a str, Option<&'a str>, Option<&'a str>);

impl State {
    /// Takes an order's image in.
    pub(super) fn image(
        &mut self,
        work: &mut Work,
        cause: Cause<'_>,
        (order, version, whole): (&str, u64, bool),
        lines: &[LineImage],
    ) -> Result<(), Held> {
        let in_range = |units: i64| (0..=limits::QUANTITY_MAX).contains(&units);
        let is_good = |line: &LineImage| {
            in_range(line.quantity) && in_range(line.fulfilled) && in_range(line.returned)
        };
        if !lines.iter().all(is_good) {
            return Err("an order line's quantity is out of range".into());
        }
        let place = (cause.channel.into(), order.into());
        let named: Vec<Named<'_>> = lines
            .iter()
            .map(|line| (line.id.as_str(), line.listing.as_deref(), line.sku.as_deref()))
            .collect();
        let mut known = self.open_order(work, &place, version, &named)?;
        let version = version.max(1);
        for image in lines {
            if let Some(line) = known.lines.get_mut(&image.id) {
                line.merge(version, image);
            }
        }
        let mut changed: BTreeSet<String> = lines.iter().map(|line| line.id.clone()).collect();
        if whole && version > known.whole {
            known.whole = version;
            // Lines that it does not name were taken out.
            changed.extend(known.lines.keys().cloned());
            let answered = |reload: &crate::Reload| (1..=version).contains(&reload.version);
            let place = (cause.channel.to_string(), order.to_string());
            if self.data.reloads.get(&place).is_some_and(answered) {
                self.data.reloads.remove(&place);
            }
        }
        self.settle_order(work, cause, (place, known), &changed)
    }

    /// Takes units out of what is owed of an order.
    pub(super) fn removals(
        &mut self,
        work: &mut Work,
        cause: Cause<'_>,
        (order, version): (&str, u64),
        lines: &[RemovalLine],
    ) -> Result<(), Held> {
        if !lines.iter().all(|line| (0..=limits::QUANTITY_MAX).contains(&line.quantity)) {
            return Err("a removed quantity is out of range".into());
        }
        let place = (cause.channel.into(), order.into());
        let named: Vec<Named<'_>> = lines
            .iter()
            .map(|line| (line.line.as_str(), line.listing.as_deref(), line.sku.as_deref()))
            .collect();
        let mut known = self.open_order(work, &place, version, &named)?;
        let mut full = false;
        for removal in lines {
            let Some(line) = known.lines.get_mut(&removal.line) else { continue };
            if line.removals.len() < limits::LINE_REMOVALS_MAX
                || line.removals.contains_key(&removal.id)
            {
                let what = (removal.removal, removal.quantity);
                line.removals.entry(removal.id.clone()).or_insert(what);
            } else {
                full = true;
            }
        }
        let changed = lines.iter().map(|line| line.line.clone()).collect();
        self.settle_order(work, cause, (place, known), &changed)?;
        if full { Err("an order line has too many refunds or shipments".into()) } else { Ok(()) }
    }

    /// An order in which the lines are known, with a SKU where one can be found. It is put back when it is
    /// settled.
    fn open_order(
        &mut self,
        work: &Work,
        place: &OrderPlace,
        version: u64,
        lines: &[Named<'_>],
    ) -> Result<Order, Held> {
        let now = work.stamp.now;
        let known = self.data.orders.get(place).map(Packed::get);
        if known.is_none() && version.saturating_add(limits::ORDER_KEEP_MS) < now {
            return Err("too_old: the order may have been forgotten already".into());
        }
        let mut known = known.unwrap_or_default();
        let Some(channel) = self.data.channels.get(place.0.as_str()) else {
            return Err("no channel".into());
        };
        known.touched = now;
        let ids: BTreeSet<&str> = lines.iter().map(|(id, ..)| *id).collect();
        let new = ids.iter().filter(|id| !known.lines.contains_key(**id)).count();
        if known.lines.len() + new > limits::ORDER_LINES_MAX {
            return Err("the order has too many lines".into());
        }
        for (id, listing, sku) in lines {
            let location = &channel.definition.location;
            let new_line = || Line { location: location.clone(), ..Line::default() };
            let line = known.lines.entry((*id).to_string()).or_insert_with(new_line);
            let is_new = line.listing.is_none() && listing.is_some();
            if is_new {
                line.listing = listing.map(ToString::to_string);
            }
            if line.sku.is_none() {
                let named = self.data.names.resolve(&place.0, line.listing.as_deref(), *sku);
                line.waits &= named.is_none();
                if let Some(sku) = named {
                    line.name(&self.data.kits, sku);
                }
            }
            if line.sku.is_none()
                && let Some(listing) = line.listing.clone().filter(|_| is_new)
            {
                let listed = (place.0.clone(), listing.into());
                self.data.names.wait(listed, Waiter::Order(place.1.clone()));
            }
        }
        Ok(known)
    }

    /// Books what is owed for lines of an order, and puts the order back.
    fn settle_order(
        &mut self,
        work: &mut Work,
        cause: Cause<'_>,
        (place, mut order): (OrderPlace, Order),
        lines: &BTreeSet<String>,
    ) -> Result<(), Held> {
        let whole = order.whole;
        let (mut outcome, mut waits) = (Ok(()), Vec::new());
        for id in lines {
            let Some(line) = order.lines.get_mut(id) else { continue };
            let owed = line.owed(whole);
            let Some(sku) = &line.sku else {
                if !line.waits && owed.iter().any(|(_, quantity)| *quantity > 0) {
                    line.waits = true;
                    waits.push((id.as_str(), line.listing.clone()));
                }
                continue;
            };
            for (kind, quantity) in owed.into_iter().filter(|(_, quantity)| *quantity > 0) {
                let booking = Booking {
                    kind,
                    sku,
                    parts: &line.parts,
                    quantity,
                    location: &line.location,
                    to_location: None,
                    channel: Some(&place.0),
                    cause: cause.delivery,
                    reference: Some(alloc::format!("{}/{id}", place.1)),
                    reason: None,
                    occurred: None,
                    since: cause.received,
                };
                if self.book(work, &booking).is_err() {
                    outcome = Err("the level would leave its bounds".into());
                    continue;
                }
                self.hear(work.stamp, &booking);
                line.moved.book(kind, quantity);
            }
        }
        if waits.is_empty() {
            self.unlist_order(work, &mut order);
        } else {
            outcome = Err(Held::Pending(in_words(&waits)));
            if order.letters.len() < limits::ORDER_LETTERS_MAX {
                // The caller lists it next.
                order.letters.push((work.stamp.index, next_letter(work)));
            }
        }
        self.put_order(place, &order);
        outcome
    }

    fn put_order(&mut self, place: OrderPlace, order: &Order) {
        let packed = Packed::new(order);
        let orders = &mut self.data.orders;
        if let Some(known) = orders.get_mut(&place) {
            *known = packed;
            return;
        }
        let expires = order.touched + limits::ORDER_KEEP_MS;
        if let Some((place, gone)) = orders.insert(place, packed, expires, limits::ORDERS_MAX) {
            self.data.names.forget(&place, &gone.get());
        }
    }

    /// Takes an order's dead letters off the list if none of its lines waits any more.
    fn unlist_order(&mut self, work: &mut Work, order: &mut Order) {
        if order.lines.values().any(|line| line.waits) {
            return;
        }
        for letter in core::mem::take(&mut order.letters) {
            self.unbury(work, &letter);
        }
    }

    /// A listing got its name: what an order's lines owe for it moves now.
    pub(super) fn order_named(
        &mut self,
        work: &mut Work,
        channel: &str,
        listing: &str,
        order: &str,
    ) {
        let place = (channel.into(), order.into());
        let known = self.data.orders.get(&place).map(Packed::get);
        let sku = self.data.names.resolve(channel, Some(listing), None);
        let (Some(mut known), Some(sku)) = (known, sku) else { return };
        let mut named = BTreeSet::new();
        for (id, line) in &mut known.lines {
            if line.sku.is_none() && line.listing.as_deref() == Some(listing) {
                line.name(&self.data.kits, sku.clone());
                line.waits = false;
                named.insert(id.clone());
            }
        }
        let delivery = alloc::format!("{channel}:{order}");
        let cause = Cause { channel, delivery: &delivery, received: work.stamp.now };
        // A level at its bounds is listed again with the next fact about the order.
        let _ = self.settle_order(work, cause, (place, known), &named);
    }
}

/// What lines wait for: their ids, and the listings for which no SKU is known.
fn in_words(lines: &[(&str, Option<String>)]) -> String {
    let mut reason = String::from("pending:");
    for (id, listing) in lines {
        let Some(listing) = listing else {
            // Writing to a String cannot fail.
            let _ = write!(reason, " line {id:?} names no SKU and no listing;");
            continue;
        };
        if reason.len() < limits::NAME_LEN_MAX {
            let _ = write!(reason, " no SKU is mapped to {listing:?} of line {id:?};");
        }
    }
    reason.truncate(reason.trim_end_matches(';').len());
    reason
}
