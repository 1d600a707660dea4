//! Stock that moved outside of any order, as a channel tells it.

use super::{Cause, Held, next_letter};
use crate::booking::Booking;
use crate::command::Moved;
use crate::ledger::{Kind, is_quantity};
use crate::limits;
use crate::machine::{State, Work};
use crate::names::Waiter;

impl State {
    /// Books a movement once by its own id.
    pub(super) fn moved(
        &mut self,
        work: &mut Work,
        cause: Cause<'_>,
        moved: &Moved,
    ) -> Result<(), Held> {
        let now = work.stamp.now;
        if !is_quantity(moved.kind, moved.quantity) {
            return Err("a movement's quantity is out of range".into());
        }
        if moved.kind == Kind::Transfer && moved.to_location.is_none() {
            return Err("a transfer names no location to go to".into());
        }
        let place = (cause.channel.into(), moved.id.as_str().into());
        if self.data.told.get(&place).is_some() {
            return Ok(());
        }
        if moved.version.saturating_add(limits::ORDER_KEEP_MS) < now {
            return Err("too_old: the movement may have been forgotten already".into());
        }
        self.data.told.insert(place, now, now + limits::ORDER_KEEP_MS, limits::MOVED_MAX);
        self.book_moved(work, cause, moved)
    }

    /// Books a movement, or lets it wait for its mapping.
    pub(super) fn book_moved(
        &mut self,
        work: &mut Work,
        cause: Cause<'_>,
        moved: &Moved,
    ) -> Result<(), Held> {
        let (listing, sku) = (moved.listing.as_deref(), moved.sku.as_deref());
        let Some(sku) = self.data.names.resolve(cause.channel, listing, sku) else {
            let Some(listing) = listing else {
                return Err("a movement names neither SKU nor listing".into());
            };
            let waiter = Waiter::Movement {
                moved: moved.clone(),
                delivery: cause.delivery.into(),
                received: cause.received,
                letter: (work.stamp.index, next_letter(work)),
            };
            self.data.names.wait((cause.channel.into(), listing.into()), waiter);
            return Err(Held::Pending(alloc::format!("pending: no SKU is mapped to {listing:?}")));
        };
        let channel = self.data.channels.get(cause.channel);
        let own = channel.map(|channel| channel.definition.location.clone()).unwrap_or_default();
        let parts = self.data.kits.recipe(&sku);
        let booking = Booking {
            kind: moved.kind,
            sku: &sku,
            parts: &parts,
            quantity: moved.quantity,
            location: moved.location.as_deref().unwrap_or(&own),
            to_location: moved.to_location.as_deref(),
            channel: Some(cause.channel),
            cause: cause.delivery,
            reference: moved.reference.clone(),
            reason: None,
            occurred: Some(moved.version),
            since: cause.received,
        };
        self.book(work, &booking).map_err(|refusal| Held::from(refusal.reason()))?;
        self.hear(work.stamp, &booking);
        Ok(())
    }
}
