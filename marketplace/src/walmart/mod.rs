//! Walmart Marketplace: purchase orders that are told three times at most.
//!
//! A purchase order is told when it is created, and its lines when they are cancelled: as `PO_CREATED` and
//! `PO_LINE_AUTOCANCELLED`, or both as the newer `ORDER_UPDATES`, whose sub-type stands in one of two
//! places. Shipping is never told. Quantities are strings. The API knows all.
//!
//! It is told quantities item by item (`PUT /v3/inventory`) and by feeds, and sells what it was told less
//! what open orders reserve.
//!
//! Source: Walmart's pages on notifications and their security, and its OAS documents of orders, inventory,
//! feeds and tokens. How long it waits for an answer and between tries is not published: these are invented.

mod api;
mod feed;
mod inventory;

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    clock::{Millis, now_ms, utc_time},
    door::Refusal,
    random::name_hash,
    sender::{
        Options, WalmartAuth,
        book::{Book, Change, Line, Order, Status},
        call::{Answer, Call, basic},
        dialect::{Dialect, Manner, Message, Notice, Partial, Try},
        tokens::Tokens,
    },
    shopify::sign,
    store::courier::hex,
};

/// The user name of HTTP Basic.
pub const USER: &str = "wm";

/// How long an access token lives.
const TOKEN_LIFE: Duration = Duration::from_secs(900);
const DAY_MS: Millis = 24 * 60 * 60 * 1000;
/// Before the number of each purchase order, so that it has thirteen digits.
const ORDER_BASE: u64 = 4_791_000_000_000;

const MANNER: Manner = Manner {
    answer_max: Duration::from_secs(10),
    accepted: 200..=299,
    waits: &[Duration::from_secs(60), Duration::from_secs(10 * 60)],
    failures_max: None,
    gone_disables: false,
    coalesces: false,
    partial: Partial::Lines,
    moves: &[],
};

pub(crate) struct Seller {
    options: Options,
    tokens: Tokens<()>,
    feeds: feed::Feeds,
}

impl Seller {
    pub(crate) fn new(options: &Options) -> Self {
        let seed = options.seed ^ name_hash(&options.name) ^ name_hash("tokens");
        let life = options.token_life.unwrap_or(TOKEN_LIFE);
        Self {
            options: options.clone(),
            tokens: Tokens::new(life, seed),
            feeds: feed::Feeds::new(seed ^ name_hash("feeds"), options.feed_after),
        }
    }

    /// The payload of this event with these lines of an order.
    fn event(&self, event: &'static str, order: &Order, wanted: Option<usize>) -> Notice {
        let at = order.modified_ms;
        let lines = order.lines.iter().enumerate();
        let lines = lines.filter(|(index, _)| wanted.is_none_or(|wanted| wanted == *index));
        let lines: Vec<Value> = lines.map(|(index, line)| line_image(index, line, at)).collect();
        let image = json!({
            "partnerId": "10001124691",
            "purchaseOrderId": self.order_name(order),
            "customerOrderId": customer_order(order),
            "orderDate": utc_time(order.created_ms),
            "estimatedShipDate": utc_time(order.created_ms + DAY_MS),
            "estimatedDeliveryDate": utc_time(order.created_ms + 5 * DAY_MS),
            "shipNodeType": "SellerFulfilled",
            "orderLines": lines,
        });
        let topic = if self.options.walmart_order_updates { "ORDER_UPDATES" } else { event };
        let mut notice = Notice::new(topic, order.id, order.version, at);
        notice.reference = self.order_name(order);
        notice.data = match topic {
            "ORDER_UPDATES" if order.id.is_multiple_of(2) => {
                json!({"meta": {"subEventType": event}, "order": image})
            }
            // The page's prose says one place, its table the other.
            "ORDER_UPDATES" => json!({"subEventType": event, "order": image}),
            _ => image,
        };
        notice
    }
}

impl Dialect for Seller {
    fn manner(&self) -> &Manner {
        &MANNER
    }

    fn tell(&mut self, book: &Book, change: Change) -> Vec<Notice> {
        let (event, id, line) = match change {
            Change::Placed { order } => ("PO_CREATED", order, None),
            Change::Cancelled { order } => ("PO_LINE_AUTOCANCELLED", order, None),
            Change::Reduced { order, line } => ("PO_LINE_AUTOCANCELLED", order, Some(line)),
            Change::Shipped { .. } | Change::Trashed { .. } | Change::Moved { .. } => {
                return Vec::new();
            }
        };
        let order = book.orders.get(&id).into_iter();
        order.map(|order| self.event(event, order, line)).collect()
    }

    fn compose(&mut self, _book: &Book, notice: &Notice, try_: &Try<'_>) -> Message {
        let body = json!({
            "source": {
                "eventType": notice.topic,
                "eventTime": utc_time(notice.at_ms),
                "eventId": notice.id,
            },
            "payload": notice.data,
        });
        let body = Bytes::from(body.to_string());
        let secret = &self.options.secret;
        match self.options.walmart_auth {
            WalmartAuth::Basic => Message::json(&[("authorization", &basic(USER, secret))], body),
            WalmartAuth::Signature => {
                let timestamp = try_.now.div_euclid(1000).to_string();
                let path = try_.target.path_and_query().map_or("/", |path| path.as_str());
                let hash = hex(&Sha256::digest(&body));
                let text = format!("POST\n{path}\n{timestamp}\n{hash}");
                let headers = [
                    ("wm_sec.timestamp", timestamp.as_str()),
                    ("wm_sec.signature", &sign::signature(secret, text.as_bytes())),
                    ("wm_sec.key_id", "1"),
                ];
                Message::json(&headers, body)
            }
        }
    }

    fn answer(&mut self, book: &mut Book, call: &Call, now: Millis) -> Answer {
        api::answer(self, book, call, now)
    }

    fn refused(&self, refusal: Refusal) -> Answer {
        match refusal {
            Refusal::ServerError(status) => {
                api::error(status, "SYSTEM_ERROR.GMP_GATEWAY_API", "System error")
            }
            Refusal::Throttled { retry_after } => api::throttled(retry_after, now_ms()),
        }
    }

    fn expire_tokens(&mut self) {
        self.tokens.expire();
    }

    fn order_name(&self, order: &Order) -> String {
        (ORDER_BASE + order.id).to_string()
    }

    /// Lines are numbered within their order.
    fn line_name(&self, index: usize, _line: &Line) -> String {
        (index + 1).to_string()
    }
}

fn customer_order(order: &Order) -> String {
    (200_000_000_000_000 + order.id).to_string()
}

/// What became of units of a line.
fn parts(order: Status, line: &Line) -> [(&'static str, i64); 2] {
    let rest = match order {
        Status::Shipped => "Shipped",
        _ => "Created",
    };
    [(rest, line.wanted()), ("Cancelled", line.cancelled)]
}

fn line_image(index: usize, line: &Line, at: Millis) -> Value {
    let status = if line.wanted() == 0 { "CANCELLED" } else { "CREATED" };
    json!({
        "lineNumber": (index + 1).to_string(),
        "sku": line.sku,
        "productName": format!("{} of a seller", line.sku),
        "quantity": {"unitOfMeasure": "EACH", "measurementValue": line.ordered.to_string()},
        "status": status,
        "statusDate": utc_time(at),
        "shippingProgramType": null,
        "shippingMethod": "Standard",
    })
}
