//! A shop of one's own that sends as Standard Webhooks asks.
//!
//! A webhook has one id for all its tries and a new timestamp for each; both are signed with the body. It
//! is tried ten times in three days. 410 ends the subscription. There is no API: what is given up is lost.
//!
//! Bodies are `{"type": …, "timestamp": RFC 3339, "data": …}`:
//!
//! | type | data |
//! | --- | --- |
//! | `order.created`, `.updated`, `.cancelled`, `.fulfilled` | `{order, version, whole: true, lines: [{id, sku, quantity, fulfilled?}]}` |
//! | `stock.moved` | `{id, kind: "receipt", sku, quantity}` |
//! | `stock.changed` | `{sku, available, revision}` |
//!
//! `version` grows with each change of an order, in milliseconds; `revision` with each change of a SKU.
//!
//! Source: the Standard Webhooks specification and its reference libraries.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{
    Error,
    clock::{Millis, utc_time},
    sender::{
        MoveKind, Options,
        book::{Book, Change, Order},
        call::{self, Answer, Call},
        dialect::{Dialect, Manner, Message, Notice, Partial, Try},
    },
};

const fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 60 * 60)
}

const MANNER: Manner = Manner {
    answer_max: Duration::from_secs(15),
    accepted: 200..=299,
    waits: &[
        Duration::from_secs(5),
        Duration::from_secs(5 * 60),
        Duration::from_secs(30 * 60),
        hours(2),
        hours(5),
        hours(10),
        hours(14),
        hours(20),
        hours(24),
    ],
    failures_max: None,
    gone_disables: true,
    coalesces: false,
    partial: Partial::Units,
    moves: &[MoveKind::Receipt],
};

pub(crate) struct Shop {
    key: Vec<u8>,
    /// By item.
    revisions: Vec<u32>,
}

impl Shop {
    /// Fails if the secret is not `whsec_` and base64.
    pub(crate) fn new(options: &Options) -> Result<Self, Error> {
        let encoded = options.secret.strip_prefix("whsec_");
        let key = encoded.and_then(|encoded| STANDARD.decode(encoded).ok());
        let key = key.filter(|key| !key.is_empty()).ok_or_else(|| Error::Options {
            field: "secret",
            reason: "must be whsec_ and base64".to_owned(),
        })?;
        Ok(Self { key, revisions: vec![0; options.items.len()] })
    }

    /// A notice of what is shown of an item now.
    fn shown(&mut self, book: &Book, item: usize, at: Millis) -> Option<Notice> {
        let revision = self.revisions.get_mut(item)?;
        *revision += 1;
        let shown = book.items.get(item)?;
        let data = json!({"sku": shown.sku, "available": shown.units, "revision": *revision});
        let listing = u64::try_from(item).unwrap_or(0);
        let mut notice = notice("stock.changed", listing, *revision, at, &data);
        notice.reference.clone_from(&shown.sku);
        Some(notice)
    }
}

impl Dialect for Shop {
    fn manner(&self) -> &Manner {
        &MANNER
    }

    fn tell(&mut self, book: &Book, change: Change) -> Vec<Notice> {
        let (topic, id) = match change {
            Change::Placed { order } => ("order.created", order),
            Change::Cancelled { order } => ("order.cancelled", order),
            Change::Reduced { order, .. } => ("order.updated", order),
            Change::Shipped { order } => ("order.fulfilled", order),
            Change::Trashed { .. } => return Vec::new(),
            Change::Moved { id } => return moved(book, id).into_iter().collect(),
        };
        let Some(order) = book.orders.get(&id) else { return Vec::new() };
        let at = order.modified_ms;
        let mut notices = vec![notice(topic, id, order.version, at, &image(order))];
        if !matches!(change, Change::Shipped { .. }) {
            let items = order.lines.iter().map(|line| line.item);
            notices.extend(items.filter_map(|item| self.shown(book, item, at)));
        }
        notices
    }

    fn compose(&mut self, _book: &Book, notice: &Notice, try_: &Try<'_>) -> Message {
        let body = Bytes::from(notice.data.to_string());
        let timestamp = try_.now.div_euclid(1000).to_string();
        let id = format!("msg_{}", notice.id);
        let signature = code(&self.key, &id, &timestamp, &body);
        Message::json(
            &[
                ("webhook-id", &id),
                ("webhook-timestamp", &timestamp),
                ("webhook-signature", &signature),
            ],
            body,
        )
    }

    fn answer(&mut self, _book: &mut Book, _call: &Call, _now: Millis) -> Answer {
        call::json(404, &json!({"message": "there is no API here"}))
    }
}

/// The value of `webhook-signature`: `v1,` and base64 of HMAC-SHA256 over id, timestamp and body with
/// dots between them. The secret is what follows `whsec_`; one that is not base64 counts as empty.
#[must_use]
pub fn signature(secret: &str, id: &str, timestamp: &str, body: &[u8]) -> String {
    code(&STANDARD.decode(secret).unwrap_or_default(), id, timestamp, body)
}

fn code(key: &[u8], id: &str, timestamp: &str, body: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    let mac = mac.chain_update(format!("{id}.{timestamp}.")).chain_update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

fn notice(topic: &'static str, subject: u64, version: u32, at: Millis, data: &Value) -> Notice {
    let mut notice = Notice::new(topic, subject, version, at);
    notice.data = json!({"type": topic, "timestamp": utc_time(at), "data": data});
    notice
}

fn image(order: &Order) -> Value {
    let line = |line: &crate::sender::book::Line| {
        let mut image =
            json!({"id": line.id.to_string(), "sku": line.sku, "quantity": line.wanted()});
        if line.fulfilled > 0
            && let Some(fields) = image.as_object_mut()
        {
            fields.insert("fulfilled".to_owned(), Value::from(line.fulfilled));
        }
        image
    };
    let lines: Vec<Value> = order.lines.iter().map(line).collect();
    let id = order.id.to_string();
    json!({"order": id, "version": order.modified_ms, "whole": true, "lines": lines})
}

fn moved(book: &Book, id: u64) -> Option<Notice> {
    let receipt = book.moves.get(&id)?;
    let sku = &book.items.get(receipt.item)?.sku;
    let (id_text, quantity) = (id.to_string(), receipt.quantity);
    let data = json!({"id": id_text, "kind": receipt.kind, "sku": sku, "quantity": quantity});
    Some(notice("stock.moved", id, 1, receipt.at_ms, &data))
}
