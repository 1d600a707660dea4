//! Asking Shopify's GraphQL Admin API for orders: the questions, and what the answers say.
//!
//! The answer is turned into the shape of a webhook, so that both are understood by one piece of code. Ids
//! are the numbers at the end of the API's ids.

use serde::Deserialize;
use serde_json::{Value, json};

use super::order::Order;
use crate::json::{self, shaped};
use crate::poll::{Page, Told};
use crate::{Understood, time};

/// The fields of an order that matter, as a fragment.
macro_rules! order_fields {
    () => {
        "id updatedAt test lineItems(first: 100) { nodes { id sku quantity currentQuantity isGiftCard \
         variant { id inventoryItem { tracked } } } } \
         refunds { id createdAt refundLineItems(first: 100) { nodes { quantity restockType \
         lineItem { id } } } } \
         fulfillments { id createdAt status fulfillmentLineItems(first: 100) { nodes { quantity \
         lineItem { id } } } }"
    };
}

/// Asks for one order by its id. Variable: `id`.
pub const ORDER_QUERY: &str =
    concat!("query Order($id: ID!) { order(id: $id) { ", order_fields!(), " } }");

/// Asks for a page of orders in the order of their last change. Variables: `first`, `after`, `query`.
pub const ORDERS_QUERY: &str = concat!(
    "query Orders($first: Int!, $after: String, $query: String) { orders(first: $first, ",
    "after: $after, sortKey: UPDATED_AT, query: $query) { nodes { ",
    order_fields!(),
    " } pageInfo { hasNextPage endCursor } } }"
);

/// The answer to [`ORDERS_QUERY`]. The error says why it is none.
pub fn orders(body: &[u8]) -> Result<Page, String> {
    #[derive(Deserialize)]
    struct Answer {
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        orders: Orders,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Orders {
        nodes: Vec<Value>,
        page_info: PageInfo,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct PageInfo {
        has_next_page: bool,
        end_cursor: Option<String>,
    }
    let Answer { data: Data { orders } } = json::read(body)?;
    let next = orders.page_info.end_cursor.filter(|_| orders.page_info.has_next_page);
    Ok(Page::of_orders(&orders.nodes, next, said, changed_ms))
}

/// The answer to [`ORDER_QUERY`]; `None` if the store knows no such order.
pub fn order(body: &[u8]) -> Result<Option<Told>, String> {
    #[derive(Deserialize)]
    struct Answer {
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        order: Option<Value>,
    }
    let Answer { data } = json::read(body)?;
    Ok(data.order.map(|order| Told::order(&order, said(&order))))
}

fn changed_ms(order: &Value) -> Option<u64> {
    time::rfc3339(order.get("updatedAt")?.as_str()?).ok()
}

fn said(order: &Value) -> Result<Understood, String> {
    shaped::<Order>(&as_webhook(order)?)?.understood()
}

/// The number at the end of `gid://shopify/Order/5678`.
fn number(node: &Value) -> Result<u64, String> {
    let gid = node.get("id").and_then(Value::as_str).unwrap_or_default();
    let tail = gid.rsplit('/').next().unwrap_or_default();
    tail.parse().map_err(|_| format!("{:?} is no id of Shopify's", json::shortened(gid)))
}

fn nodes<'v>(value: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    value
        .get(name)
        .and_then(|list| list.get("nodes"))
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn as_webhook(order: &Value) -> Result<Value, String> {
    let id = number(order)?;
    let mut lines = Vec::new();
    for line in nodes(order, "lineItems") {
        let variant = line.get("variant").filter(|variant| !variant.is_null());
        let tracked = variant.and_then(|v| v.pointer("/inventoryItem/tracked")?.as_bool());
        lines.push(json!({
            "id": number(line)?,
            "variant_id": variant.map(number).transpose()?,
            "sku": line.get("sku"),
            "quantity": line.get("quantity"),
            "current_quantity": line.get("currentQuantity"),
            "gift_card": line.get("isGiftCard").and_then(Value::as_bool).unwrap_or(false),
            // A variant that was deleted since was tracked, as far as anybody can tell.
            "variant_inventory_management":
                tracked.unwrap_or(variant.is_none() && line.get("sku").is_some_and(|s| !s.is_null()))
                    .then_some("shopify"),
        }));
    }
    let of_line = |row: &Value| -> Result<(u64, Value), String> {
        let line = number(row.get("lineItem").unwrap_or(&Value::Null))?;
        Ok((
            line,
            lines
                .iter()
                .find(|known| known.get("id") == Some(&json!(line)))
                .cloned()
                .unwrap_or(Value::Null),
        ))
    };
    let list = |name: &str| order.get(name).and_then(Value::as_array).into_iter().flatten();
    let mut refunds = Vec::new();
    for refund in list("refunds") {
        let mut rows = Vec::new();
        for row in nodes(refund, "refundLineItems") {
            let (line, item) = of_line(row)?;
            rows.push(json!({
                "line_item_id": line, "quantity": row.get("quantity"),
                "restock_type": row.get("restockType"), "line_item": item,
            }));
        }
        refunds.push(json!({
            "id": number(refund)?, "order_id": id, "created_at": refund.get("createdAt"),
            "refund_line_items": rows,
        }));
    }
    let mut fulfillments = Vec::new();
    for shipped in list("fulfillments") {
        let mut rows = Vec::new();
        for row in nodes(shipped, "fulfillmentLineItems") {
            let (line, mut item) = of_line(row)?;
            if let Some(fields) = item.as_object_mut() {
                fields.insert("quantity".into(), row.get("quantity").cloned().unwrap_or_default());
            } else {
                item = json!({ "id": line, "quantity": row.get("quantity") });
            }
            rows.push(item);
        }
        fulfillments.push(json!({
            "id": number(shipped)?, "order_id": id, "created_at": shipped.get("createdAt"),
            "status": shipped.get("status"), "line_items": rows,
        }));
    }
    Ok(json!({
        "id": id, "updated_at": order.get("updatedAt"),
        "test": order.get("test").and_then(Value::as_bool).unwrap_or(false),
        "line_items": lines, "refunds": refunds, "fulfillments": fulfillments,
    }))
}
