//! One line of the ledger being written, whoever asked for it.

use alloc::string::{String, ToString};

use crate::ledger::{Kind, Movement, Refusal};
use crate::listing::Stale;
use crate::machine::{Stamp, State, Work};

/// A movement that is about to be booked.
pub(crate) struct Booking<'a> {
    pub(crate) kind: Kind,
    pub(crate) sku: &'a str,
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

impl State {
    /// Writes one line of the ledger.
    pub(crate) fn book(&mut self, work: &mut Work, booking: &Booking<'_>) -> Result<(), Refusal> {
        let stamp = work.stamp;
        let Booking { kind, quantity, location, .. } = *booking;
        let mut stock = self.data.stock.get(&booking.sku.to_string()).cloned().unwrap_or_default();
        stock.book(kind, quantity, location, booking.to_location, booking.reference.as_deref())?;
        let level = stock.levels.get(location).cloned().unwrap_or_default();
        work.effects.movements.push(Movement {
            time: stamp.now,
            kind,
            sku: booking.sku.into(),
            quantity,
            location: location.into(),
            to_location: booking.to_location.map(Into::into),
            channel: booking.channel.map(Into::into),
            cause: booking.cause.into(),
            reference: booking.reference.clone(),
            reason: booking.reason.map(Into::into),
            occurred: booking.occurred,
            on_hand: level.on_hand,
            available: level.available(),
            previous: stock.newest,
        });
        stock.newest = stamp.index;
        self.data.stock.insert(booking.sku.into(), stock);
        self.hear(stamp, booking);
        let since = booking.since.min(stamp.now);
        let deadline = since + kind.window_ms();
        work.touch(booking.sku, Some(Stale { since, deadline }));
        Ok(())
    }

    /// The channel's own listing already shows what the channel did.
    fn hear(&mut self, stamp: Stamp, booking: &Booking<'_>) {
        let Some(channel) = booking.channel else { return };
        let place = (channel.to_string(), booking.sku.to_string());
        let listed =
            self.data.stock.get(&place.1).is_some_and(|s| s.listings.contains_key(channel));
        if !listed {
            return;
        }
        self.change_listing(&place, |listing| match booking.kind {
            Kind::Sale => listing.sold(booking.quantity, stamp.now),
            Kind::Cancellation | Kind::Return => listing.restocked(booking.quantity, stamp.now),
            _ => {}
        });
    }
}
