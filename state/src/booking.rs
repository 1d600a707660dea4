//! One line of the ledger being written, whoever asked for it.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::ledger::{Kind, Movement, Refusal, Stock};
use crate::listing::Stale;
use crate::machine::{Stamp, State, Work};
use crate::notices::shortfalls;

/// A movement that is about to be booked.
pub(crate) struct Booking<'a> {
    pub(crate) kind: Kind,
    pub(crate) sku: &'a str,
    /// What one unit of the SKU takes out of stock, if it is a kit; else nothing.
    pub(crate) parts: &'a [(String, i64)],
    pub(crate) quantity: i64,
    pub(crate) location: &'a str,
    pub(crate) to_location: Option<&'a str>,
    pub(crate) channel: Option<&'a str>,
    pub(crate) cause: &'a str,
    pub(crate) reference: Option<String>,
    pub(crate) reason: Option<&'a str>,
    pub(crate) occurred: Option<u64>,
    pub(crate) since: u64,
}

impl Booking<'_> {
    /// What it takes out of stock, by SKU.
    pub(crate) fn moves(&self) -> impl Iterator<Item = (&str, i64)> {
        let own = self.parts.is_empty().then_some((self.sku, self.quantity));
        let each = self.parts.iter();
        let parts = each.map(|(sku, units)| (sku.as_str(), units.saturating_mul(self.quantity)));
        own.into_iter().chain(parts)
    }

    /// Changes a SKU's levels; the line of the ledger.
    fn write(
        &self,
        stamp: Stamp,
        stock: &mut Stock,
        (sku, quantity): (&str, i64),
    ) -> Result<Movement, Refusal> {
        let Booking { kind, location, .. } = *self;
        let reference = self.reference.as_deref();
        let arrived = stock.book(kind, quantity, location, self.to_location, reference)?;
        let previous = core::mem::replace(&mut stock.newest, stamp.index);
        let level = stock.levels.entry(location.into());
        if kind.changes_on_hand() {
            level.counted = stamp.index;
        }
        Ok(Movement {
            time: stamp.now,
            kind,
            sku: sku.into(),
            quantity,
            location: location.into(),
            to_location: self.to_location.map(Into::into),
            channel: self.channel.map(Into::into),
            cause: self.cause.into(),
            reference: self.reference.clone(),
            reason: self.reason.map(Into::into),
            occurred: self.occurred,
            on_hand: level.on_hand,
            available: level.available(),
            previous,
            kit: (!self.parts.is_empty()).then(|| (self.sku.to_string(), self.quantity)),
            arrived,
        })
    }
}

impl State {
    /// Writes one line of the ledger, or one for each component of a kit: all or none.
    pub(crate) fn book(&mut self, work: &mut Work, booking: &Booking<'_>) -> Result<(), Refusal> {
        if !booking.parts.is_empty() && booking.kind.is_physical() {
            return Err(Refusal::Kit);
        }
        let mut booked = Vec::new();
        for (sku, quantity) in booking.moves() {
            let mut stock = self.data.stock.get(sku).cloned().unwrap_or_default();
            let stock_mut = Arc::make_mut(&mut stock);
            let movement = booking.write(work.stamp, stock_mut, (sku, quantity))?;
            booked.push((stock, movement));
        }
        self.note_share(work, booking);
        for (stock, movement) in booked {
            self.put_stock(work, &movement.sku, stock);
            let since = booking.since.min(work.stamp.now);
            work.touch(&movement.sku, Some(Stale::new(booking.kind.class(), since)));
            work.effects.movements.push(movement);
        }
        Ok(())
    }

    /// Puts changed levels in place of the old ones.
    pub(crate) fn put_stock(&mut self, work: &mut Work, sku: &str, stock: Arc<Stock>) {
        let short = !shortfalls(&stock).is_empty();
        let before = self.data.stock.insert(sku.into(), stock).unwrap_or_default();
        work.note(sku, &before);
        if short {
            self.short.insert(sku.into());
        } else {
            self.short.remove(sku);
        }
    }

    /// The channel's own listing already shows what the channel did.
    pub(crate) fn hear(&mut self, stamp: Stamp, booking: &Booking<'_>) {
        let Some(channel) = booking.channel else { return };
        let place = (channel.into(), booking.sku.into());
        let is_plain =
            self.data.channels.get(channel).is_some_and(|known| !known.definition.compares);
        self.change_listing(&place, |listing| match booking.kind {
            Kind::Sale => {
                let units = u64::try_from(booking.quantity).unwrap_or(0);
                listing.pace.sold = listing.pace.sold.saturating_add(units);
                listing.sold(booking.quantity, stamp);
            }
            Kind::Cancellation | Kind::Return if is_plain => {
                listing.may_be_restocked(booking.quantity, stamp);
            }
            Kind::Cancellation | Kind::Return => listing.restocked(booking.quantity, stamp),
            _ => {}
        });
    }
}
