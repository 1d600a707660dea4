//! What `searchOrders` and `getOrder` of the Orders API 2026-01-01 answer.

use serde::Deserialize;
use serde_json::Value;
use state::command::Fact;
use state::order::LineImage;

use super::is_cancelled;
use crate::json::{self, Scalar, shaped};
use crate::poll::{Page, Told};
use crate::{Understood, time};

/// One page of orders; `next` is its pagination token. The error says why it is none.
pub fn orders(body: &[u8]) -> Result<Page, String> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        orders: Vec<Value>,
        pagination: Option<Pagination>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Pagination {
        next_token: Option<String>,
    }
    let Answer { orders, pagination } = json::read(body)?;
    let next = pagination.and_then(|pagination| pagination.next_token);
    let next = next.filter(|next| !next.is_empty());
    Ok(Page::of_orders(&orders, next, said, changed_ms))
}

/// One order by its id. The error says why the answer is no order.
pub fn order(body: &[u8]) -> Result<Told, String> {
    let mut answer: Value = json::read(body)?;
    let order = answer.get_mut("order").map(Value::take).unwrap_or(answer);
    Ok(Told::order(&order, said(&order)))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Order {
    #[serde(rename = "orderId")]
    id: String,
    last_updated_time: String,
    fulfillment: Option<OrderFulfillment>,
    #[serde(default, rename = "orderItems")]
    items: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OrderFulfillment {
    fulfillment_status: Option<String>,
    fulfilled_by: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    order_item_id: Scalar,
    quantity_ordered: Scalar,
    product: Option<Product>,
    fulfillment: Option<ItemFulfillment>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Product {
    seller_sku: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ItemFulfillment {
    quantity_fulfilled: Option<Scalar>,
}

fn changed_ms(order: &Value) -> Option<u64> {
    time::rfc3339(order.get("lastUpdatedTime")?.as_str()?).ok()
}

fn said(order: &Value) -> Result<Understood, String> {
    let order: Order = shaped(order)?;
    let version =
        time::rfc3339(&order.last_updated_time).map_err(|why| format!("lastUpdatedTime: {why}"))?;
    let fulfillment = order.fulfillment.as_ref();
    if fulfillment.and_then(|known| known.fulfilled_by.as_deref()) == Some("AMAZON") {
        return Ok(Understood::Ignored("Amazon ships it from its own stock".into()));
    }
    json::check_lines(order.items.len())?;
    let status = fulfillment.and_then(|known| known.fulfillment_status.as_deref());
    let cancelled = status.is_some_and(is_cancelled);
    let line = |item: &Item| -> Result<LineImage, String> {
        let sku = item.product.as_ref().and_then(|product| product.seller_sku.as_deref());
        let shipped = item.fulfillment.as_ref().and_then(|known| known.quantity_fulfilled.as_ref());
        Ok(LineImage {
            id: item.order_item_id.id("an orderItemId")?,
            listing: None,
            sku: json::sku(sku)?,
            quantity: if cancelled { 0 } else { item.quantity_ordered.units()? },
            fulfilled: shipped.map_or(Ok(0), Scalar::units)?,
            returned: 0,
        })
    };
    let lines: Result<Vec<_>, _> = order.items.iter().map(line).collect();
    let id = json::name("an orderId", &order.id)?;
    Ok(Understood::Facts(vec![Fact::Image { order: id, version, whole: false, lines: lines? }]))
}
