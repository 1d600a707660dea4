//! Walmart Marketplace (US).

mod order;
pub mod poll;
mod webhook;

use http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;
use state::command::Fact;

use crate::json::{self, Scalar, shortened};
use crate::{Parsed, Understood, Verified, plain_id};

#[derive(Deserialize)]
struct Envelope {
    source: Source,
    payload: Value,
}

#[derive(Deserialize)]
struct Source {
    #[serde(rename = "eventType")]
    event: String,
    #[serde(rename = "eventTime")]
    time: Scalar,
    #[serde(rename = "eventId")]
    id: Option<String>,
}

/// Takes a verified notification apart. Its topic is the type of the event, with the kind of update after
/// a slash where it has one: `ORDER_UPDATES/PO_CREATED`.
///
/// The standalone events about orders end in December 2026; `ORDER_UPDATES` takes their place. Both are
/// read.
///
/// Source: Walmart's pages on the purchase order events and on `ORDER_UPDATES`.
#[must_use]
pub fn parse(_headers: &HeaderMap, body: Verified<'_>) -> Parsed {
    let Envelope { source, payload } = match json::read(body.bytes()) {
        Ok(envelope) => envelope,
        Err(why) => return Parsed::new("", json::dead(&why)),
    };
    let update = (source.event == "ORDER_UPDATES").then(|| kind_of_update(&payload)).flatten();
    let topic = match update {
        Some(update) => format!("{}/{}", source.event, shortened(update)),
        None => source.event.clone(),
    };
    let said = said(&source, update, &payload).unwrap_or_else(|why| json::dead(&why));
    Parsed { id: source.id.as_deref().and_then(plain_id), ..Parsed::new(&topic, said) }
}

/// The prose puts it into the payload, the table beside it into `meta`.
fn kind_of_update(payload: &Value) -> Option<&str> {
    let places = [Some(payload), payload.get("meta")];
    places.into_iter().flatten().find_map(|place| place.get("subEventType")?.as_str())
}

fn said(source: &Source, update: Option<&str>, payload: &Value) -> Result<Understood, String> {
    let event = update.unwrap_or(&source.event);
    match (source.event.as_str(), event) {
        (_, "PO_CREATED" | "INTENT_TO_CANCEL" | "ORDER_INTENT_TO_CANCEL")
        | ("ORDER_UPDATES", "ORDER_UPDATES") => webhook::order(source, payload),
        (_, "PO_LINE_AUTOCANCELLED" | "FRAUD_CANCEL") => webhook::cancelled(source, payload),
        // Kinds will be added: an order is an order whatever the kind, and the rest is not for us.
        ("ORDER_UPDATES", _) => Ok(webhook::order(source, payload).unwrap_or_else(|_| {
            Understood::Ignored("a kind of update that is not known, without an order".into())
        })),
        ("INVENTORY_OOS", _) => out_of_stock(source, payload),
        ("BUY_BOX_CHANGED" | "SELLER_PERFORMANCE_NOTIFICATIONS" | "REPORT_STATUS", _) => {
            Ok(Understood::Ignored("this event changes no stock".into()))
        }
        (event, _) if event.starts_with("OFFER_") || event.starts_with("ITEM_") => {
            Ok(Understood::Ignored("this event changes no stock".into()))
        }
        (event, _) if event.starts_with("RETURN_") => Ok(Understood::Ignored(
            "what comes back is counted where it arrives, not where it is announced".into(),
        )),
        (event, _) => Err(format!("the event {:?} is unknown", shortened(event))),
    }
}

/// The event fires when Walmart shows none. Its members are not documented; without a SKU it says nothing.
fn out_of_stock(source: &Source, payload: &Value) -> Result<Understood, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct OutOfStock {
        sku: String,
        ship_node: Option<Scalar>,
    }
    let told: OutOfStock = json::shaped(payload)?;
    let sku = json::sku(Some(&told.sku))?.ok_or("the SKU is empty")?;
    let shown = Fact::Shown {
        // What is sold has no id there but its SKU.
        listing: sku.clone(),
        sku: Some(sku),
        location: told.ship_node.map(|node| node.id("shipNode")).transpose()?,
        quantity: 0,
        version: source.time_ms()?,
    };
    Ok(Understood::Facts(vec![shown]))
}

impl Source {
    fn time_ms(&self) -> Result<u64, String> {
        order::time_ms(&self.time).map_err(|why| format!("eventTime: {why}"))
    }
}
