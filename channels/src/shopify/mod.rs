//! Shopify.
//!
//! What webhooks say ([`parse`]) and what the GraphQL Admin API answers ([`poll`]) become one picture of
//! an order first (`order`), so that the same order at the same moment gives the same facts on both roads.
//!
//! Not from the payload, but from how Shopify behaves:
//!
//! - `quantity` of a line is what was ordered, and grows with an edit; `current_quantity` is what is left
//!   of it. Refunds lower it, and so do edits, which leave no refund behind. What refunds do not explain
//!   was taken out by an edit.
//! - A cancelled order keeps its quantities: what goes back to stock stands in its refunds, and the
//!   merchant may have chosen that nothing does.
//! - A refund line's own id may be missing from the API (`RefundLineItem.id` is nullable), so a removal is
//!   named by the refund, the line and what becomes of the units. Units that share all three are added up.
//! - A shipment counts once its status is `success`. One that is cancelled afterwards is not taken back:
//!   what was shipped is a grow-only fact.
//! - Lines without inventory management (gift cards, tips, services, custom lines) stand for no stock.
//! - Shopify keeps every line of an order. A line that stands for no stock now may have stood for some when
//!   it was ordered (tracking was switched off, the variant was deleted), so an image that leaves a line out
//!   is not called whole: nothing is given back because of it.
//!
//! Sources: shopify.dev, "Webhooks" (topics, `include_fields`), the Order, Refund, Fulfillment and
//! `InventoryLevel` resources; "GraphQL Admin API", version 2026-04 and later.

mod order;
mod parse;
pub mod poll;

use http::HeaderMap;

use crate::{Parsed, Verified, plain_id};

/// Takes a verified webhook apart. The topic is not signed, so it is checked against the body's shape.
///
/// The delivery's id is that of the webhook, equal on retries. The event id is no such thing: one action
/// of a merchant makes several deliveries with one event id.
#[must_use]
pub fn parse(headers: &HeaderMap, body: Verified<'_>) -> Parsed {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let either = |new, old| header(new).or_else(|| header(old));
    let topic = either("shopify-topic", "x-shopify-topic").unwrap_or_default();
    let id = either("shopify-webhook-id", "x-shopify-webhook-id").and_then(plain_id);
    Parsed { id, ..Parsed::new(topic, parse::parse(topic, body)) }
}

/// The name that Shopify gives to one of its things in every API: `gid://shopify/ProductVariant/40001`.
fn gid(kind: &str, id: u64) -> String {
    format!("gid://shopify/{kind}/{id}")
}

/// The numeric id in such a name, if it names a thing of this kind. An inventory level's goes on with a
/// query.
fn id_of(kind: &str, gid: &str) -> Result<u64, String> {
    let shortened = crate::json::shortened;
    let tail = gid
        .strip_prefix("gid://shopify/")
        .and_then(|rest| rest.strip_prefix(kind))
        .and_then(|rest| rest.strip_prefix('/'))
        .map(|rest| rest.split('?').next().unwrap_or_default());
    let id = tail.and_then(|tail| tail.parse().ok());
    id.ok_or_else(|| format!("{:?} does not name a {kind}", shortened(gid)))
}
