//! Amazon's Selling Partner API: notifications, in whichever envelope they come.
//!
//! SP-API delivers to SQS, or to `EventBridge`, whose rules may send on to SQS or through SNS to HTTPS.
//! Names are in `PascalCase` in most notifications and in `camelCase` in some: both are read.
//!
//! An image's version is the notification's `EventTime`, or an answer's `lastUpdatedTime`: two clocks of
//! Amazon's that may differ by the moments that a notification takes to be published.
//!
//! Sources: the JSON schemas of notifications and `orders_2026-01-01.json` in Amazon's
//! `selling-partner-api-models`; developer-docs.amazon.com, "Notification Type Values".

pub mod poll;

use serde::Deserialize;
use serde_json::Value;
use state::command::Fact;
use state::order::LineImage;

use crate::json::{self, Scalar, dead, shaped};
use crate::signature::sns;
use crate::{Parsed, Understood, Verified, plain_id, time};

/// Types of notifications that say nothing of a merchant's own stock.
const NO_STOCK: [&str; 22] = [
    "ACCOUNT_STATUS_CHANGED",
    "ANY_OFFER_CHANGED",
    "B2B_ANY_OFFER_CHANGED",
    "BRANDED_ITEM_CONTENT_CHANGE",
    "DATA_KIOSK_QUERY_PROCESSING_FINISHED",
    "DETAIL_PAGE_TRAFFIC_EVENT",
    "EXTERNAL_FULFILLMENT_SHIPMENT_STATUS_CHANGE",
    // A warehouse of Amazon's own, and the same units again for each marketplace.
    "FBA_INVENTORY_AVAILABILITY_CHANGES",
    "FBA_OUTBOUND_SHIPMENT_STATUS",
    "FEE_PROMOTION",
    "FEED_PROCESSING_FINISHED",
    "FULFILLMENT_ORDER_STATUS",
    "ITEM_INVENTORY_EVENT_CHANGE",
    "ITEM_PRODUCT_TYPE_CHANGE",
    "ITEM_SALES_EVENT_CHANGE",
    "LISTINGS_ITEM_ISSUES_CHANGE",
    "LISTINGS_ITEM_STATUS_CHANGE",
    "PRICING_HEALTH",
    "PRODUCT_TYPE_DEFINITIONS_CHANGE",
    "REPORT_PROCESSING_FINISHED",
    "SHIPMENT_TRACKING_MILESTONE_CHANGED",
    "TRANSACTION_UPDATE",
];

/// Takes a verified message of SNS apart: the notification in it, or the question whether a topic may
/// deliver.
#[must_use]
pub fn parse(body: Verified<'_>) -> Parsed {
    let envelope = match sns::envelope(body.bytes()) {
        Ok(envelope) => envelope,
        Err(why) => return Parsed::new("", dead(&why)),
    };
    match envelope.kind.as_ref() {
        "Notification" => {
            let parsed = notification(envelope.message.as_bytes());
            Parsed { id: parsed.id.or_else(|| plain_id(&envelope.message_id)), ..parsed }
        }
        "SubscriptionConfirmation" => Parsed::new(
            "SubscriptionConfirmation",
            match sns::subscribe_url(&envelope) {
                Some(url) => Understood::Confirm(url.to_string()),
                None => dead("the SubscribeURL is none of SNS"),
            },
        ),
        other => {
            let why = "a subscription that ended; what it says to visit would begin it again";
            Parsed::new(other, Understood::Ignored(why.into()))
        }
    }
}

/// Takes a notification apart, as it lies in a queue: by itself, in an event of `EventBridge`, or in a
/// message of SNS. Whoever calls vouches for the bytes: those of a queue are authentic because only the
/// publisher may write to it.
#[must_use]
pub fn notification(message: &[u8]) -> Parsed {
    match json::read::<Value>(message).and_then(inner) {
        Ok(notification) => of_notification(&notification),
        Err(why) => Parsed::new("", dead(&why)),
    }
}

/// The notification inside an envelope that is not signed by itself.
fn inner(mut message: Value) -> Result<Value, String> {
    if let Some(detail) = message.get_mut("detail") {
        return Ok(detail.take());
    }
    let text = message.get("Message").and_then(Value::as_str);
    match text.filter(|_| message.get("TopicArn").is_some()) {
        None => Ok(message),
        Some(text) => {
            let mut message: Value = json::read(text.as_bytes())?;
            Ok(message.get_mut("detail").map(Value::take).unwrap_or(message))
        }
    }
}

#[derive(Deserialize)]
struct Notification {
    #[serde(rename = "NotificationType", alias = "notificationType")]
    kind: String,
    #[serde(rename = "EventTime", alias = "eventTime")]
    event_time: Option<String>,
    #[serde(rename = "Payload", alias = "payload", default)]
    payload: Value,
    #[serde(rename = "NotificationMetadata", alias = "notificationMetadata")]
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "NotificationId", alias = "notificationId")]
    id: Option<String>,
}

fn of_notification(value: &Value) -> Parsed {
    let read: Notification = match shaped(value) {
        Ok(read) => read,
        Err(why) => return Parsed::new("", dead(&why)),
    };
    let understood = understood(&read).unwrap_or_else(|why| dead(&why));
    let id = read.metadata.as_ref().and_then(|metadata| metadata.id.as_deref());
    Parsed {
        id: id.and_then(plain_id),
        // The same notification may come through a queue and through a topic, in other envelopes.
        essence: Some(value.to_string().into_bytes()),
        ..Parsed::new(&read.kind, understood)
    }
}

fn understood(read: &Notification) -> Result<Understood, String> {
    let version = || {
        let text = read.event_time.as_deref().ok_or("EventTime is missing")?;
        time::rfc3339(text).map_err(|why| format!("EventTime: {why}"))
    };
    match read.kind.as_str() {
        "ORDER_CHANGE" => order(&read.payload, version()?),
        "LISTINGS_ITEM_MFN_QUANTITY_CHANGE" => shown(&read.payload, version()?),
        kind if NO_STOCK.contains(&kind) => {
            Ok(Understood::Ignored("this notification changes no stock of the merchant's".into()))
        }
        kind => Err(format!("the notification type {:?} is unknown", json::shortened(kind))),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OrderChange {
    amazon_order_id: Scalar,
    summary: Summary,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Summary {
    order_status: String,
    fulfillment_type: Option<String>,
    order_items: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    order_item_id: Scalar,
    #[serde(rename = "SellerSKU")]
    seller_sku: Option<String>,
    quantity: Scalar,
    quantity_shipped: Option<Scalar>,
}

/// An order from its first moment on: Amazon lowers its own quantity when it is placed, so a pending one
/// holds its units too. A buyer's wish to cancel (`IsBuyerRequestedCancel`) frees nothing yet. An
/// item-level notification carries one item, so these are never all lines.
fn order(payload: &Value, version: u64) -> Result<Understood, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Payload {
        order_change_notification: OrderChange,
    }
    let Payload { order_change_notification: OrderChange { amazon_order_id, summary } } =
        shaped(payload)?;
    if summary.fulfillment_type.as_deref() == Some("AFN") {
        return Ok(Understood::Ignored("Amazon ships it from its own stock".into()));
    }
    json::check_lines(summary.order_items.len())?;
    let cancelled = is_cancelled(&summary.order_status);
    let line = |item: &Item| -> Result<LineImage, String> {
        let shipped = item.quantity_shipped.as_ref().map_or(Ok(0), Scalar::units)?;
        let (quantity, fulfilled) = counts(item.quantity.units()?, shipped, cancelled);
        Ok(LineImage {
            id: item.order_item_id.id("an OrderItemId")?,
            listing: None,
            sku: json::sku(item.seller_sku.as_deref())?,
            quantity,
            fulfilled,
            returned: 0,
        })
    };
    let lines: Result<Vec<_>, _> = summary.order_items.iter().map(line).collect();
    let order = amazon_order_id.id("an AmazonOrderId")?;
    Ok(Understood::Facts(vec![Fact::Image { order, version, whole: false, lines: lines? }]))
}

/// Units that an item wants of stock, and those shipped of them. What has left stays away, even if the
/// order is cancelled.
fn counts(ordered: i64, shipped: i64, cancelled: bool) -> (i64, i64) {
    let fulfilled = shipped.min(ordered);
    (if cancelled { fulfilled } else { ordered }, fulfilled)
}

/// `Canceled` in notifications and in the old orders API, `CANCELLED` in the new one.
fn is_cancelled(status: &str) -> bool {
    status.eq_ignore_ascii_case("canceled") || status.eq_ignore_ascii_case("cancelled")
}

/// An absolute quantity, our own updates included.
fn shown(payload: &Value, version: u64) -> Result<Understood, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Shown {
        fulfillment_channel_code: Option<String>,
        sku: Scalar,
        quantity: Scalar,
    }
    let read: Shown = shaped(payload)?;
    if read.fulfillment_channel_code.is_some_and(|code| code != "DEFAULT") {
        return Ok(Understood::Ignored("a quantity of another fulfilment channel".into()));
    }
    let sku = read.sku.id("a Sku")?;
    Ok(Understood::Facts(vec![Fact::Shown {
        listing: sku.clone(),
        sku: Some(sku),
        location: None,
        quantity: read.quantity.units()?,
        version,
    }]))
}
