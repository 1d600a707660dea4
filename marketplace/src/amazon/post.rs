//! How a change is told: as which notifications, in which envelopes, how late, how often, or not at
//! all.

use std::time::Duration;

use serde_json::Value;

use super::{
    State, Told,
    book::Change,
    notification::{Kind, Writer},
    options::Options,
};
use crate::clock::Millis;

/// One message for the queue.
pub(super) struct Letter {
    pub(super) body: String,
    pub(super) delay: Duration,
}

/// What a notification says, before it has an id.
enum Content<'a> {
    Order(&'a Change, Option<usize>),
    Quantity(&'a str, i64, Millis),
    Feed(&'a str, &'a str, Millis),
}

impl State {
    /// Tells of a change: the order, as a whole or item by item, and the quantities that it changed.
    pub(super) fn tell(&mut self, options: &Options, change: &Change, now: Millis) -> Vec<Letter> {
        let by_item = self.mishaps.chance(self.faults.item_level);
        let items: Vec<Option<usize>> =
            if by_item { change.lines.iter().copied().map(Some).collect() } else { vec![None] };
        let orders = items.into_iter().map(|item| Content::Order(change, item));
        let at = change.order.updated_ms;
        let left = change.left.iter().map(|(sku, left)| Content::Quantity(sku, *left, at));
        orders.chain(left).flat_map(|content| self.write(options, &content, now)).collect()
    }

    /// Tells what listings show now.
    pub(super) fn tell_shown(
        &mut self,
        options: &Options,
        shown: &[(String, i64)],
        now: Millis,
    ) -> Vec<Letter> {
        let contents = shown.iter().map(|(sku, left)| Content::Quantity(sku, *left, now));
        contents.flat_map(|content| self.write(options, &content, now)).collect()
    }

    /// Tells that a feed was worked through.
    pub(super) fn tell_feed(
        &mut self,
        options: &Options,
        feed_id: &str,
        status: &str,
        now: Millis,
    ) -> Vec<Letter> {
        self.write(options, &Content::Feed(feed_id, status, now), now)
    }

    /// Writes one notification, and decides what will go wrong with it.
    fn write(&mut self, options: &Options, content: &Content<'_>, now: Millis) -> Vec<Letter> {
        let id = self.mishaps.uuid();
        let writer = Writer { options, id: &id, published_ms: now };
        let (kind, order, body) = match *content {
            Content::Order(change, item) => {
                let body = writer.order_change(change, item);
                (Kind::OrderChange, Some(change.order.number), body)
            }
            Content::Quantity(sku, quantity, at) => {
                (Kind::QuantityChange, None, writer.quantity_change(sku, quantity, at))
            }
            Content::Feed(feed_id, status, at) => {
                (Kind::FeedFinished, None, writer.feed_finished(feed_id, status, at))
            }
        };
        let body = self.enclose(options, &writer, kind, body);
        let copies = if self.mishaps.chance(self.faults.dropped) {
            0
        } else {
            1 + usize::from(self.mishaps.chance(self.faults.duplicate))
        };
        self.stats.notifications += 1;
        self.stats.dropped += u64::from(copies == 0);
        self.stats.duplicates += u64::from(copies == 2);
        self.told.push(Told { at_ms: now, notification_id: id, kind, order, copies });
        (0..copies).map(|_| Letter { body: body.clone(), delay: self.delay() }).collect()
    }

    /// Puts a notification into the envelopes in which it travels.
    fn enclose(
        &mut self,
        options: &Options,
        writer: &Writer<'_>,
        kind: Kind,
        body: Value,
    ) -> String {
        let body = match kind {
            Kind::QuantityChange => writer.event_bridge(kind, &self.mishaps.uuid(), &body),
            Kind::OrderChange | Kind::FeedFinished => body,
        };
        let body = body.to_string();
        let through = self.mishaps.chance(self.faults.topic);
        let Some(topic) = options.topic.as_ref().filter(|_| through) else { return body };
        let message_id = self.mishaps.uuid();
        let delivery = topic.notification(&message_id, None, &body, writer.published_ms);
        String::from_utf8_lossy(&delivery.body).into_owned()
    }

    fn delay(&mut self) -> Duration {
        let late = self.mishaps.chance(self.faults.delay);
        if late { self.mishaps.up_to(self.faults.delay_max) } else { Duration::ZERO }
    }
}
