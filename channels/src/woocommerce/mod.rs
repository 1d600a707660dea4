//! `WooCommerce`.

mod order;
pub mod poll;
mod product;

use http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;
use state::command::Fact;

use crate::json::{self, shortened};
use crate::{Parsed, Understood, Verified};

/// Takes a verified webhook apart. The topic is not signed, so it is checked against the body's shape.
///
/// There is no id of a delivery: `X-WC-Webhook-Delivery-ID` is a hash of the hook's number and of the
/// second in which it is sent, so that two orders told in one second have the same. Only an order that was
/// put into the trash needs it: all that is told is its number, which is the same the next time.
///
/// Source: `class-wc-webhook.php` and `wc-webhook-functions.php` of the plugin. A body is what version 3
/// of the REST API shows at the time of sending.
#[must_use]
pub fn parse(headers: &HeaderMap, body: Verified<'_>) -> Parsed {
    let topic = headers.get("x-wc-webhook-topic").and_then(|value| value.to_str().ok());
    let topic = topic.unwrap_or_default();
    let said = said(topic, body.bytes()).unwrap_or_else(|why| json::dead(&why));
    let id = match &said {
        Understood::Facts(facts) => match facts.as_slice() {
            [Fact::Reload { order, .. }] => delivery_id(headers, order),
            _ => None,
        },
        _ => None,
    };
    Parsed { id, ..Parsed::new(topic, said) }
}

/// The order that was put into the trash, and the second in which that was told.
fn delivery_id(headers: &HeaderMap, order: &str) -> Option<String> {
    let sent = headers.get("x-wc-webhook-delivery-id")?.to_str().ok()?;
    crate::plain_id(&format!("{order}/{sent}"))
}

fn said(topic: &str, body: &[u8]) -> Result<Understood, String> {
    let (resource, event) = topic.split_once('.').unwrap_or((topic, ""));
    match (resource, event) {
        ("", _) => Err("the X-WC-Webhook-Topic header is missing".into()),
        ("order", "created" | "updated" | "restored") => order::said(&resource_of(body)?),
        ("order", "deleted") => trashed(body),
        ("product", "created" | "updated" | "restored" | "published") => {
            product::said(&resource_of(body)?)
        }
        ("product", "deleted") => {
            bare(body)?;
            Ok(Understood::Ignored("a product that is gone moves no stock".into()))
        }
        ("coupon" | "customer", _) => other(&resource_of(body)?),
        ("action", "woocommerce_product_set_stock" | "woocommerce_variation_set_stock") => {
            poke(event, body)
        }
        _ => Err(format!("the topic {:?} is unknown", shortened(topic))),
    }
}

/// The body, unless it is the error that the plugin sends in its place: when the user who owns the hook
/// may not read what it is about.
fn resource_of(body: &[u8]) -> Result<Value, String> {
    let value: Value = json::read(body)?;
    refuse_error(&value)?;
    Ok(value)
}

/// `WordPress` answers any fault as `{"code", "message", "data"}`.
fn refuse_error(value: &Value) -> Result<(), String> {
    match (value.get("code").and_then(Value::as_str), value.get("message")) {
        (Some(code), Some(_)) if value.get("id").is_none() => {
            Err(format!("the shop told an error in its place: {:?}", shortened(code)))
        }
        _ => Ok(()),
    }
}

/// All that the topics `*.deleted` send.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bare {
    id: u64,
}

fn bare(body: &[u8]) -> Result<Bare, String> {
    json::read(body)
}

/// An order was put into the trash, from where it may come back. Whoever fetches it reads its status.
/// Nothing says when.
fn trashed(body: &[u8]) -> Result<Understood, String> {
    let order = bare(body)?.id.to_string();
    Ok(Understood::Facts(vec![Fact::Reload { order, version: 0 }]))
}

/// Coupons and customers; but an order under such a topic is no coupon.
fn other(value: &Value) -> Result<Understood, String> {
    if value.get("line_items").is_some() || value.get("manage_stock").is_some() {
        return Err("the body does not belong to the topic".into());
    }
    Ok(Understood::Ignored("this topic changes no stock".into()))
}

/// Its argument is an object of PHP, of which nothing is left once it was queued as JSON.
fn poke(event: &str, body: &[u8]) -> Result<Understood, String> {
    #[derive(Deserialize)]
    struct Poke {
        action: String,
    }
    let poke: Poke = json::read(body)?;
    if poke.action != event {
        return Err("the body does not belong to the topic".into());
    }
    Ok(Understood::Ignored("it does not say what has changed: polling finds it".into()))
}
