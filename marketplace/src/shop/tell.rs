//! What the shop wants told, and to which of its actions each telling belongs.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Placed, Shop};
use crate::{
    clock::{self, Millis},
    shopify::{
        payload::{Edit, Fulfillment, InventoryLevel, Refund},
        sign::Topic,
    },
};

/// One webhook to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Fired {
    pub(crate) topic: Topic,
    pub(crate) webhook_id: String,
    pub(crate) event_id: String,
    pub(crate) about: About,
    pub(crate) triggered_ms: Millis,
    pub(crate) body: Bytes,
}

/// What a body tells of.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    /// 0 for none.
    pub(crate) order_id: u64,
    pub(crate) image_ms: Option<Millis>,
    pub(crate) refund_ids: Vec<u64>,
    pub(crate) fulfillment_ids: Vec<u64>,
}

/// One action. Everything that tells of it shares its id.
pub(crate) struct Event {
    id: String,
    pub(super) now: Millis,
    /// Slots whose shown quantity it changed.
    pub(super) levels: BTreeSet<usize>,
}

impl Shop {
    /// Begins an action.
    pub(crate) fn event(&mut self, now: Millis) -> Event {
        Event { id: self.random.uuid(), now, levels: BTreeSet::new() }
    }

    /// Everything that is to be told since the last call.
    pub(crate) fn take_outbox(&mut self) -> Vec<Fired> {
        std::mem::take(&mut self.outbox)
    }

    pub(super) fn tell_order(&mut self, event: &Event, topic: Topic, placed: &Placed) {
        let image = &placed.image;
        let about = About {
            order_id: image.id,
            image_ms: Some(placed.updated_ms),
            refund_ids: image.refunds.iter().map(|refund| refund.id).collect(),
            fulfillment_ids: image.fulfillments.iter().map(|shipment| shipment.id).collect(),
        };
        self.tell(event, topic, about, || image.body());
    }

    pub(super) fn tell_refund(&mut self, event: &Event, refund: &Refund) {
        let about =
            About { order_id: refund.order_id, refund_ids: vec![refund.id], ..About::default() };
        self.tell(event, Topic::RefundsCreate, about, || refund.body());
    }

    pub(super) fn tell_fulfillment(&mut self, event: &Event, fulfillment: &Fulfillment) {
        let about = About {
            order_id: fulfillment.order_id,
            fulfillment_ids: vec![fulfillment.id],
            ..About::default()
        };
        self.tell(event, Topic::FulfillmentsCreate, about, || fulfillment.body());
    }

    pub(super) fn tell_edit(&mut self, event: &Event, edit: &Edit) {
        let about = About { order_id: edit.order_id, ..About::default() };
        self.tell(event, Topic::OrdersEdited, about, || edit.body());
    }

    /// Tells of every level that the action changed.
    pub(crate) fn tell_levels(&mut self, event: &Event) {
        let at = clock::shop_time(event.now, self.utc_offset_minutes);
        for index in &event.levels {
            let Some(slot) = self.slots.get(*index) else { continue };
            let level = InventoryLevel::new(&slot.item, self.location_id, at.clone());
            let about = About::default();
            self.tell(event, Topic::InventoryLevelsUpdate, about, || level.body());
        }
    }

    fn tell(&mut self, event: &Event, topic: Topic, about: About, body: impl FnOnce() -> Bytes) {
        if !self.topics.contains(&topic) {
            return;
        }
        self.outbox.push(Fired {
            topic,
            webhook_id: self.random.uuid(),
            event_id: event.id.clone(),
            about,
            triggered_ms: event.now,
            body: body(),
        });
    }
}
