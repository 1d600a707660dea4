//! Webhooks as a Shopify store sends them.

use std::sync::LazyLock;

use bytes::Bytes;
use marketplace::Item;
use marketplace::Restock;
use marketplace::shopify::payload::{LineItem, Order, Refund, RefundLine};
use marketplace::shopify::sign;
use stockraft::clock;

use super::SECRET;

/// When orders are placed, for the same order to be the same bytes; and when they are refunded. A fixed time
/// would be too old one day.
static AT: LazyLock<String> = LazyLock::new(|| clock::rfc3339(clock::now_ms() - 600_000));
static LATER: LazyLock<String> = LazyLock::new(|| clock::rfc3339(clock::now_ms() - 300_000));

/// One webhook: what is signed, and what stands around it.
#[derive(Clone, Debug)]
pub struct Webhook {
    pub topic: String,
    pub id: String,
    pub body: Bytes,
    /// The secret that it is signed with.
    pub secret: String,
}

impl Webhook {
    pub fn new(topic: &str, id: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { topic: topic.into(), id: id.into(), body: body.into(), secret: SECRET.into() }
    }

    pub fn headers(&self) -> Vec<(&'static str, String)> {
        vec![
            ("content-type", "application/json".into()),
            ("x-shopify-topic", self.topic.clone()),
            ("x-shopify-webhook-id", self.id.clone()),
            ("x-shopify-hmac-sha256", sign::signature(&self.secret, &self.body)),
        ]
    }
}

fn line(order: u64, sku: &str, quantity: u32) -> LineItem {
    let item = Item {
        sku: sku.into(),
        variant_id: 9_107_199_254_740_993,
        inventory_item_id: 9_207_199_254_740_993,
        available: 0,
    };
    LineItem::new(line_id(order), &item, quantity)
}

/// The id of an order's only line.
pub const fn line_id(order: u64) -> u64 {
    order + 1
}

/// An order of one line is placed.
pub fn create(order: u64, sku: &str, quantity: u32) -> Webhook {
    let body = Order::new(order, order, AT.clone(), vec![line(order, sku, quantity)]).body();
    Webhook::new("orders/create", format!("create-{order}"), body)
}

/// A part of that order is cancelled.
pub fn refund(order: u64, sku: &str, ordered: u32, cancelled: u32) -> Webhook {
    let mut line = line(order, sku, ordered);
    line.current_quantity -= cancelled;
    line.fulfillable_quantity -= cancelled;
    let refunded = RefundLine::new(order + 3, line, cancelled, Restock::Cancel, 5);
    let body = Refund::new(order + 2, order, LATER.clone(), vec![refunded]).body();
    Webhook::new("refunds/create", format!("refund-{order}"), body)
}
