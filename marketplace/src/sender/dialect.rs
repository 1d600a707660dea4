//! What makes one kind of channel differ from another. All of it is plain code: a dialect is asked under
//! the sender's lock, and whoever asks does the sending and the waiting.

use std::{ops::RangeInclusive, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Request, StatusCode, Uri,
    header::{HeaderName, HeaderValue},
};
use serde_json::Value;

use super::{
    book::{Book, Change, Line, Order},
    call::{self, Answer, Call},
    options::{Kind, Options},
};
use crate::{Error, clock::Millis, door::Refusal};

/// One kind of channel.
pub(crate) trait Dialect: Send {
    /// How it sends.
    fn manner(&self) -> &Manner;

    /// What the seller is told of a change; nothing where only the API shows it.
    fn tell(&mut self, book: &Book, change: Change) -> Vec<Notice>;

    /// The request of one try, as it is at that moment.
    fn compose(&mut self, book: &Book, notice: &Notice, try_: &Try<'_>) -> Message;

    /// What must be answered rightly before anything is sent to this target.
    fn handshake(&self, _target: &Uri, _nonce: &str) -> Option<Handshake> {
        None
    }

    /// Answers one call of its API.
    fn answer(&mut self, book: &mut Book, call: &Call, now: Millis) -> Answer;

    /// What is said of a call that is not looked at; most often by a proxy, in a shape that is not the
    /// channel's.
    fn refused(&self, refusal: Refusal) -> Answer {
        call::page(refusal)
    }

    /// Access tokens that were handed out are good no longer.
    fn expire_tokens(&mut self) {}

    /// An order's id as its payloads write it.
    fn order_name(&self, order: &Order) -> String {
        order.id.to_string()
    }

    /// The id of one line of an order as its payloads write it.
    fn line_name(&self, _index: usize, line: &Line) -> String {
        line.id.to_string()
    }
}

/// The dialect of a kind.
pub(super) fn of(options: &Options) -> Result<Box<dyn Dialect>, Error> {
    Ok(match options.kind {
        Kind::WooCommerce => Box::new(crate::woocommerce::Shop::new(options)),
        Kind::Ebay => Box::new(crate::ebay::Seller::new(options)),
        Kind::Walmart => Box::new(crate::walmart::Seller::new(options)),
        Kind::Odoo => Box::new(crate::odoo::Warehouse::new(options)),
        Kind::Generic => Box::new(crate::generic::Shop::new(options)?),
    })
}

/// How a kind sends.
pub(crate) struct Manner {
    /// How long it waits for an answer.
    pub(crate) answer_max: Duration,
    /// The statuses that it takes for success.
    pub(crate) accepted: RangeInclusive<u16>,
    /// The waits before its retries.
    pub(crate) waits: &'static [Duration],
    /// So many failures in a row disable the subscription.
    pub(crate) failures_max: Option<u32>,
    /// 410 disables it at once.
    pub(crate) gone_disables: bool,
    /// While a webhook waits, another of the same topic and subject is not queued.
    pub(crate) coalesces: bool,
    /// What parts of an order can be taken back.
    pub(crate) partial: Partial,
    /// What moves stock outside of orders.
    pub(crate) moves: &'static [super::MoveKind],
}

/// What parts of an order can be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Partial {
    /// None.
    No,
    /// Units, before the order is shipped.
    Units,
    /// Whole lines, before the order is shipped.
    Lines,
    /// Units, before or after, put back or not.
    Refunds,
}

/// One webhook that is to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Notice {
    /// Tells it from all others of this sender; the same in each run. What goes wrong with it, and its
    /// id, follow from it.
    pub(crate) key: String,
    /// A UUID, given when it is queued.
    pub(crate) id: String,
    pub(crate) topic: &'static str,
    /// The order or move.
    pub(crate) subject: u64,
    /// The subject as payloads name it.
    pub(crate) reference: String,
    pub(crate) at_ms: Millis,
    /// What the dialect wants to remember for it.
    pub(crate) data: Value,
}

impl Notice {
    pub(crate) fn new(topic: &'static str, subject: u64, version: u32, at_ms: Millis) -> Self {
        let (key, reference) = (format!("{topic} {subject} {version}"), subject.to_string());
        let (id, data) = (String::new(), Value::Null);
        Self { key, id, topic, subject, reference, at_ms, data }
    }
}

/// One try of a webhook.
pub(crate) struct Try<'a> {
    /// 1 for the first.
    pub(crate) number: u32,
    pub(crate) target: &'a Uri,
    pub(crate) now: Millis,
}

/// What goes over the wire in one try.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Sent as HTTP/1.0.
    pub(crate) old_http: bool,
}

impl Message {
    pub(crate) fn json(headers: &[(&'static str, &str)], body: impl Into<Bytes>) -> Self {
        let mut headers = header_map(headers);
        headers
            .entry(hyper::header::CONTENT_TYPE)
            .or_insert(HeaderValue::from_static("application/json"));
        Self { headers, body: body.into(), old_http: false }
    }
}

/// A request that proves that the target belongs to the seller.
pub(crate) struct Handshake {
    pub(crate) request: Request<Full<Bytes>>,
    /// Whether a status with the beginning of a body proves it.
    pub(crate) proves: Proof,
}

pub(crate) type Proof = Box<dyn Fn(StatusCode, &str) -> bool + Send + Sync>;

/// Headers by lower-case name; a value that cannot be one is left out.
pub(crate) fn header_map(headers: &[(&'static str, &str)]) -> HeaderMap {
    let value = |value: &str| HeaderValue::from_str(value).ok();
    let pairs = headers.iter().filter_map(|(name, text)| Some((name, value(text)?)));
    pairs.map(|(name, value)| (HeaderName::from_static(name), value)).collect()
}
