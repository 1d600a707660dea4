//! Shopify.

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
