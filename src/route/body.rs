//! The bodies of messages that deliveries publish: JSON, described in `docs/queue.md`.

use serde_json::{Map, Value, json};
use state::command::{Delivery, Fact};
use state::limits::MESSAGE_BYTES_MAX;
use state::order::{LineImage, Removal, RemovalLine};

use super::{About, Told};
use crate::clock::rfc3339;

/// Writes a message. What does not fit is left out, and `truncated` says so: the payload first, then the lines.
pub(super) fn write(
    told: &Told<'_>,
    delivery: &Delivery,
    payload: Option<&[u8]>,
    room: usize,
) -> Vec<u8> {
    let bound = MESSAGE_BYTES_MAX.min(room);
    let mut said = Map::new();
    said.insert("type".into(), told.event.name().into());
    said.insert("channel".into(), delivery.channel.as_str().into());
    said.insert("topic".into(), delivery.topic.as_str().into());
    said.insert("delivery".into(), delivery.id.as_str().into());
    said.insert("received_at".into(), rfc3339(delivery.received_ms).into());
    let bare = said.clone();
    said.extend(about(&told.about));
    if let Some(raw) = payload {
        let with = Map::from_iter([("payload".to_string(), parsed(raw))]);
        let whole = Value::Object(said.clone().into_iter().chain(with).collect()).to_string();
        if whole.len() <= bound {
            return whole.into_bytes();
        }
        said.insert("truncated".into(), true.into());
    }
    let facts = Value::Object(said).to_string();
    if facts.len() <= bound {
        return facts.into_bytes();
    }
    let mut least = bare;
    if let About::Order(order, _) | About::Refund(order, _) = told.about {
        least.insert("order".into(), order.into());
    }
    least.insert("truncated".into(), true.into());
    Value::Object(least).to_string().into_bytes()
}

fn about(about: &About<'_>) -> Map<String, Value> {
    let said = match about {
        About::Order(order, lines) => {
            json!({ "order": order, "lines": lines.iter().map(|line| image(line)).collect::<Vec<_>>() })
        }
        About::Refund(order, lines) => {
            json!({ "order": order, "lines": lines.iter().map(|line| removed(line)).collect::<Vec<_>>() })
        }
        About::Shown(Fact::Shown { listing, sku, location, quantity, version }) => json!({
            "stock": { "sku": sku, "listing": listing, "location": location, "shown": quantity,
                "at": rfc3339(*version) },
        }),
        About::Moved(moved) => json!({
            "stock": { "sku": moved.sku, "listing": moved.listing, "location": moved.location,
                "to_location": moved.to_location, "movement": moved.id, "kind": moved.kind.name(),
                "quantity": moved.quantity, "reference": moved.reference,
                "at": rfc3339(moved.version) },
        }),
        About::Listed(listed) => {
            let each =
                listed.iter().map(|(listing, sku)| json!({ "listing": listing, "sku": sku }));
            json!({ "listings": each.collect::<Vec<_>>() })
        }
        About::Shown(_) | About::Nothing => json!({}),
    };
    match said {
        Value::Object(said) => said,
        _ => Map::new(),
    }
}

fn image(line: &LineImage) -> Value {
    json!({ "id": line.id, "sku": line.sku, "listing": line.listing, "quantity": line.quantity,
        "fulfilled": line.fulfilled, "returned": line.returned })
}

fn removed(line: &RemovalLine) -> Value {
    let restock = match line.removal {
        Removal::Cancelled => "cancelled",
        Removal::Returned => "returned",
        Removal::NoRestock => "none",
        Removal::Fulfilled => "fulfilled",
    };
    json!({ "id": line.id, "line": line.line, "sku": line.sku, "listing": line.listing,
        "quantity": line.quantity, "restock": restock })
}

/// A body as JSON where it is JSON, else as text.
fn parsed(raw: &[u8]) -> Value {
    serde_json::from_slice(raw).unwrap_or_else(|_| String::from_utf8_lossy(raw).into())
}

/// Whether an order of `WooCommerce` holds no units because nobody has paid it yet.
pub(super) fn is_unpaid(raw: &[u8]) -> bool {
    let order: Value = serde_json::from_slice(raw).unwrap_or_default();
    let status = order.get("status").and_then(Value::as_str);
    matches!(status, Some("pending" | "checkout-draft" | "auto-draft"))
}
