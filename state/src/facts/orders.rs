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

/// Channel and the channel's id of an order.
type OrderPlace = (String, String);

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
        let place = (cause.channel.to_string(), order.to_string());
        let named: Vec<Named<'_>> = lines
            .iter()
            .map(|line| (line.id.as_str(), line.listing.as_deref(), line.sku.as_deref()))
            .collect();
        self.open_order(work, &place, version, &named)?;
        let Some(known) = self.data.orders.get_mut(&place) else { return Ok(()) };
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
            if self.data.reloads.get(&place).is_some_and(answered) {
                self.data.reloads.remove(&place);
            }
        }
        self.settle_order(work, cause, &place, &changed)
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
        let place = (cause.channel.to_string(), order.to_string());
        let named: Vec<Named<'_>> = lines
            .iter()
            .map(|line| (line.line.as_str(), line.listing.as_deref(), line.sku.as_deref()))
            .collect();
        self.open_order(work, &place, version, &named)?;
        let Some(known) = self.data.orders.get_mut(&place) else { return Ok(()) };
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
        self.settle_order(work, cause, &place, &changed)?;
        if full { Err("an order line has too many refunds or shipments".into()) } else { Ok(()) }
    }

    /// Makes sure that the order and the lines are known, with a SKU where one can be found.
    fn open_order(
        &mut self,
        work: &Work,
        place: &OrderPlace,
        version: u64,
        lines: &[Named<'_>],
    ) -> Result<(), Held> {
        let now = work.stamp.now;
        if self.data.orders.get(place).is_none() {
            if version.saturating_add(limits::ORDER_KEEP_MS) < now {
                return Err("too_old: the order may have been forgotten already".into());
            }
            let expires = now + limits::ORDER_KEEP_MS;
            let orders = &mut self.data.orders;
            let gone = orders.insert(place.clone(), Order::default(), expires, limits::ORDERS_MAX);
            if let Some((place, order)) = gone {
                self.data.names.forget(&place, &order);
            }
        }
        let Some(known) = self.data.orders.get_mut(place) else { return Err("no order".into()) };
        let Some(channel) = self.data.channels.get(&place.0) else {
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
                self.data.names.wait((place.0.clone(), listing), Waiter::Order(place.1.clone()));
            }
        }
        Ok(())
    }

    fn settle_order(
        &mut self,
        work: &mut Work,
        cause: Cause<'_>,
        place: &OrderPlace,
        lines: &BTreeSet<String>,
    ) -> Result<(), Held> {
        let Some(order) = self.data.orders.get(place) else { return Ok(()) };
        let whole = order.whole;
        let moves = |line: &Line| line.owed(whole).iter().any(|(_, quantity)| *quantity > 0);
        let owed: Vec<(String, Line)> = lines
            .iter()
            .filter_map(|id| Some((id.clone(), order.lines.get(id)?.clone())))
            .filter(|(_, line)| moves(line))
            .collect();
        let mut outcome = Ok(());
        let mut waits = Vec::new();
        for (id, line) in owed {
            let Some(sku) = &line.sku else {
                if !line.waits {
                    waits.push((id, line.listing));
                }
                continue;
            };
            for (kind, quantity) in line.owed(whole).into_iter().filter(|(_, q)| *q > 0) {
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
                let order = self.data.orders.get_mut(place);
                if let Some(known) = order.and_then(|order| order.lines.get_mut(&id)) {
                    known.moved.book(kind, quantity);
                }
            }
        }
        if !waits.is_empty() {
            return Err(self.let_wait(work, place, waits));
        }
        self.unlist_order(place);
        outcome
    }

    /// Takes an order's dead letters off the list if none of its lines waits any more.
    fn unlist_order(&mut self, place: &OrderPlace) {
        let Some(order) = self.data.orders.get(place) else { return };
        if order.letters.is_empty() || order.lines.values().any(|line| line.waits) {
            return;
        }
        let order = self.data.orders.get_mut(place);
        let letters = order.map(|order| core::mem::take(&mut order.letters));
        for letter in letters.into_iter().flatten() {
            self.data.dead.remove(&letter);
        }
    }

    /// Notes lines that wait for a mapping. They are listed once, in a dead letter that the caller lists
    /// next.
    fn let_wait(
        &mut self,
        work: &Work,
        place: &OrderPlace,
        lines: Vec<(String, Option<String>)>,
    ) -> Held {
        let letter = (work.stamp.index, next_letter(work));
        let mut reason = String::from("pending:");
        for (id, listing) in lines {
            let order = self.data.orders.get_mut(place);
            if let Some(line) = order.and_then(|order| order.lines.get_mut(&id)) {
                line.waits = true;
            }
            let Some(listing) = listing else {
                // Writing to a String cannot fail.
                let _ = write!(reason, " line {id:?} names no SKU and no listing;");
                continue;
            };
            if reason.len() < limits::NAME_LEN_MAX {
                let _ = write!(reason, " no SKU is mapped to {listing:?} of line {id:?};");
            }
        }
        if let Some(order) = self.data.orders.get_mut(place)
            && order.letters.len() < limits::ORDER_LETTERS_MAX
        {
            order.letters.push(letter);
        }
        reason.truncate(reason.trim_end_matches(';').len());
        Held::Pending(reason)
    }

    /// A listing got its name: what an order's lines owe for it moves now.
    pub(super) fn order_named(
        &mut self,
        work: &mut Work,
        channel: &str,
        listing: &str,
        order: &str,
    ) {
        let place = (channel.to_string(), order.to_string());
        let sku = self.data.names.resolve(channel, Some(listing), None);
        let (Some(known), Some(sku)) = (self.data.orders.get_mut(&place), sku) else { return };
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
        let _ = self.settle_order(work, cause, &place, &named);
    }
}
