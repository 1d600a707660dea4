//! The queries `order` and `orders`: orders as the Admin API shows them, which is not how webhooks do.

use std::cmp::Reverse;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    admin::item,
    graphql::Field,
    payload::{Fulfillment, LineItem, Order, Refund, Restock, gid, parse_gid},
    schema::{self, Kind},
    search::Search,
    select::{Element, Selected, cursor, cursor_of, page, select, wrong_cursor},
};
use crate::shop::{Placed, Shop};

/// One order by its id, or null if there is none.
pub(super) fn order(field: &Field, kind: Kind, shop: &Shop) -> Selected {
    let id = field.arguments.get("id").and_then(Value::as_str);
    let id = id.and_then(|id| parse_gid("Order", id));
    let id = id.ok_or_else(|| schema::refusal("RESOURCE_NOT_FOUND", "invalid id", field))?;
    match shop.order(id) {
        Some(placed) => select(&document(placed, shop), kind, field),
        None => Ok((Value::Null, 0)),
    }
}

/// What orders are sorted by, their ids aside.
type SortKey = fn(&Placed) -> i64;

/// One page of the orders that a query finds. It goes on after the last order told, wherever later
/// changes have moved that one.
pub(super) fn orders(field: &Field, kind: Kind, shop: &Shop) -> Selected {
    let wrong = |message: &str| schema::refusal("BAD_REQUEST", message, field);
    let argument = |name: &str| field.arguments.get(name).filter(|value| !value.is_null());
    let search = match argument("query") {
        None => Search::read(""),
        Some(query) => Search::read(query.as_str().unwrap_or("not text")),
    };
    let search = search.map_err(|message| wrong(&message))?;
    let sort_key: SortKey = match argument("sortKey").map(|key| key.as_str().unwrap_or_default()) {
        Some("UPDATED_AT") => |placed| placed.updated_ms,
        Some("ID") => |_| 0,
        None | Some("CREATED_AT" | "PROCESSED_AT") => |placed| placed.created_ms,
        Some(other) => return Err(wrong(&format!("the sort key {other:?} is not understood"))),
    };
    let reverse = argument("reverse") == Some(&json!(true));
    let key = |placed: &Placed| (sort_key(placed), placed.image.id);
    let mut found: Vec<&Placed> = shop.orders().filter(|placed| search.finds(placed)).collect();
    if reverse {
        found.sort_by_key(|placed| Reverse(key(placed)));
    } else {
        found.sort_by_key(|placed| key(placed));
    }
    if let Some((value, id)) = cursor_of(field)? {
        let last =
            value.as_i64().zip(parse_gid("Order", &id)).ok_or_else(|| wrong_cursor(field))?;
        found.retain(|placed| if reverse { key(placed) < last } else { key(placed) > last });
    }
    // One more than asked for, which is not told, says that there are more.
    let most = usize::try_from(schema::size(field).saturating_add(1)).unwrap_or(usize::MAX);
    let elements = found.into_iter().take(most).map(|placed| {
        let (value, id) = key(placed);
        Element { cursor: cursor(&json!(value), &gid("Order", id)), node: document(placed, shop) }
    });
    page(elements.collect(), kind, field)
}

/// Everything that can be asked about an order. Connections are arrays here.
fn document(placed: &Placed, shop: &Shop) -> Value {
    let order: &Order = &placed.image;
    let lines: Vec<Value> = order
        .line_items
        .iter()
        .enumerate()
        .map(|(at, line)| document_of_line(placed, at, line, shop))
        .collect();
    // Refunds and fulfilments show the line as it is now.
    let line = |id: u64| {
        let at = order.line_items.iter().position(|line| line.id == id);
        at.and_then(|at| lines.get(at)).cloned().unwrap_or(Value::Null)
    };
    let refunds: Vec<Value> = order.refunds.iter().map(|r| document_of_refund(r, line)).collect();
    let fulfillments: Vec<Value> =
        order.fulfillments.iter().map(|f| document_of_fulfillment(f, line)).collect();
    json!({
        "id": order.admin_graphql_api_id,
        "name": order.name,
        "createdAt": utc(&order.created_at),
        "processedAt": utc(&order.created_at),
        "updatedAt": utc(&order.updated_at),
        "cancelledAt": order.cancelled_at.as_deref().map(utc),
        "cancelReason": order.cancel_reason.map(str::to_uppercase),
        "closedAt": null,
        "confirmed": order.confirmed,
        "edited": placed.is_edited(),
        "test": order.test,
        "currencyCode": order.currency,
        "sourceName": order.source_name,
        "displayFinancialStatus": order.financial_status.to_uppercase(),
        "displayFulfillmentStatus": match order.fulfillment_status {
            None => "UNFULFILLED",
            Some("partial") => "PARTIALLY_FULFILLED",
            Some(_) => "FULFILLED",
        },
        "lineItems": lines,
        "refunds": refunds,
        "fulfillments": fulfillments,
    })
}

fn document_of_line(placed: &Placed, at: usize, line: &LineItem, shop: &Shop) -> Value {
    let slot = placed.slot_of(at).and_then(|slot| shop.slots.get(slot));
    json!({
        "id": line.admin_graphql_api_id,
        "name": line.title,
        "title": line.title,
        "sku": line.sku,
        "quantity": line.quantity,
        "currentQuantity": line.current_quantity,
        "unfulfilledQuantity": line.fulfillable_quantity,
        "isGiftCard": line.gift_card,
        "requiresShipping": line.requires_shipping,
        "variant": {
            "id": gid("ProductVariant", line.variant_id),
            "sku": line.sku,
            "inventoryItem": slot.map(|slot| item(slot, shop.location_id)),
        },
    })
}

fn document_of_refund(refund: &Refund, line: impl Fn(u64) -> Value) -> Value {
    let lines = refund.refund_line_items.iter().map(|of| {
        json!({
            "id": gid("RefundLineItem", of.id),
            "quantity": of.quantity,
            "restockType": match of.restock_type {
                Restock::Cancel => "CANCEL",
                Restock::Return => "RETURN",
                Restock::NoRestock => "NO_RESTOCK",
            },
            "restocked": of.restock_type.puts_back(),
            "lineItem": line(of.line_item_id),
            "location": of.location_id.map(|id| json!({"id": gid("Location", id)})),
        })
    });
    json!({
        "id": refund.admin_graphql_api_id,
        "createdAt": utc(&refund.created_at),
        "updatedAt": utc(&refund.created_at),
        "note": refund.note,
        "refundLineItems": lines.collect::<Vec<_>>(),
    })
}

fn document_of_fulfillment(fulfillment: &Fulfillment, line: impl Fn(u64) -> Value) -> Value {
    // The ids after the fulfilment's own are those of its lines.
    let lines = fulfillment.line_items.iter().zip(fulfillment.id + 1..).map(|(of, id)| {
        json!({
            "id": gid("FulfillmentLineItem", id),
            "quantity": of.quantity,
            "lineItem": line(of.id),
        })
    });
    json!({
        "id": fulfillment.admin_graphql_api_id,
        "name": fulfillment.name,
        "createdAt": utc(&fulfillment.created_at),
        "updatedAt": utc(&fulfillment.updated_at),
        "status": fulfillment.status.to_uppercase(),
        "totalQuantity": fulfillment.line_items.iter().map(|line| line.quantity).sum::<u32>(),
        "location": {"id": gid("Location", fulfillment.location_id)},
        "fulfillmentLineItems": lines.collect::<Vec<_>>(),
    })
}

/// The same time as the Admin API spells it: in UTC, where webhooks carry the shop's offset.
fn utc(at: &str) -> String {
    at.parse::<Timestamp>().map_or_else(|_| at.to_owned(), |at| at.to_string())
}
