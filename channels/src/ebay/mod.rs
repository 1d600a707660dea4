//! eBay.

pub mod poll;

use http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;
use state::command::Fact;

use crate::json::{self, Scalar, shortened};
use crate::{Parsed, Understood, Verified, plain_id, time};

#[derive(Deserialize)]
struct Envelope {
    metadata: Metadata,
    notification: Notification,
}

#[derive(Deserialize)]
struct Metadata {
    topic: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Notification {
    #[serde(rename = "notificationId")]
    id: String,
    event_date: String,
    #[serde(default)]
    data: Value,
}

/// Takes a verified notification apart.
///
/// Each attempt carries another `publishDate` and `publishAttemptCount`: what happened is said by the
/// topic, the id, the time of the event and the data, and these are the essence.
///
/// Source: eBay's `AsyncAPI` documents of the Notification API.
#[must_use]
pub fn parse(_headers: &HeaderMap, body: Verified<'_>) -> Parsed {
    let Envelope { metadata, notification } = match json::read(body.bytes()) {
        Ok(envelope) => envelope,
        Err(why) => return Parsed::new("", json::dead(&why)),
    };
    let said = said(&metadata.topic, &notification).unwrap_or_else(|why| json::dead(&why));
    // Objects are maps in the order of their keys here: two spellings of one are one.
    let essence = serde_json::json!([
        metadata.topic,
        notification.id,
        notification.event_date,
        notification.data
    ]);
    Parsed {
        id: plain_id(&notification.id),
        essence: Some(essence.to_string().into_bytes()),
        ..Parsed::new(&metadata.topic, said)
    }
}

fn said(topic: &str, notification: &Notification) -> Result<Understood, String> {
    match topic {
        "ORDER_CONFIRMATION" => confirmed(notification),
        "ITEM_AVAILABILITY" => {
            Ok(Understood::Ignored("it tells a class of availability, no quantity".into()))
        }
        "MARKETPLACE_ACCOUNT_DELETION" => {
            Ok(Understood::Ignored("nothing about buyers is kept".into()))
        }
        other => Err(format!("the topic {:?} is unknown", shortened(other))),
    }
}

/// It names the order and nothing of its lines: sent for each line, and again when a payment that failed
/// succeeds.
fn confirmed(notification: &Notification) -> Result<Understood, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Data {
        order_id: Scalar,
    }
    let data: Data = json::shaped(&notification.data)?;
    let version =
        time::rfc3339(&notification.event_date).map_err(|why| format!("eventDate: {why}"))?;
    let order = data.order_id.id("orderId")?;
    Ok(Understood::Facts(vec![Fact::Reload { order, version }]))
}
