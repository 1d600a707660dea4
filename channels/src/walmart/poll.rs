//! What `GET /v3/orders` and `/v3/orders/{purchaseOrderId}` answer.

use serde::Deserialize;
use serde_json::Value;

use super::order::{Line, images, is_sellers, time_ms};
use crate::Understood;
use crate::json::{self, Scalar};
use crate::poll::{Page, Told};

/// One page of orders. `next` is the query string of the page that follows, question mark included, as
/// Walmart gives it. The newest change is that of the lines: an order does not say its own, which is
/// never older.
///
/// The error says why the answer is no page of orders.
///
/// Source: Walmart's `OpenAPI` document of orders.
pub fn orders(body: &[u8]) -> Result<Page, String> {
    #[derive(Deserialize)]
    struct Answer {
        list: List,
    }
    #[derive(Deserialize)]
    struct List {
        meta: Meta,
        elements: Option<Elements>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Meta {
        next_cursor: Option<String>,
    }
    #[derive(Deserialize)]
    struct Elements {
        order: Option<Vec<Value>>,
    }
    let Answer { list } = json::read(body)?;
    let next = list.meta.next_cursor.filter(|next| !next.is_empty());
    let orders = list.elements.and_then(|elements| elements.order).unwrap_or_default();
    Ok(Page::of_orders(&orders, next, said, changed_ms))
}

/// One order by its id. The error says why the answer is no order.
pub fn order(body: &[u8]) -> Result<Told, String> {
    Told::wrapped_order(body, said)
}

#[derive(Deserialize)]
struct Order {
    #[serde(rename = "purchaseOrderId")]
    id: Scalar,
    #[serde(rename = "orderLines")]
    lines: OrderLines,
    #[serde(rename = "shipNode")]
    ship_node: Option<ShipNode>,
}

#[derive(Deserialize)]
struct ShipNode {
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct OrderLines {
    #[serde(rename = "orderLine")]
    list: Vec<OrderLine>,
}

#[derive(Deserialize)]
struct OrderLine {
    #[serde(rename = "lineNumber")]
    number: Scalar,
    item: Item,
    #[serde(rename = "orderLineQuantity")]
    quantity: Quantity,
    #[serde(rename = "statusDate")]
    status_date: Scalar,
    #[serde(rename = "orderLineStatuses")]
    statuses: Statuses,
}

#[derive(Deserialize)]
struct Item {
    sku: Option<String>,
}

#[derive(Deserialize)]
struct Quantity {
    amount: Scalar,
}

#[derive(Deserialize)]
struct Statuses {
    #[serde(rename = "orderLineStatus")]
    list: Vec<Status>,
}

#[derive(Deserialize)]
struct Status {
    status: String,
    #[serde(rename = "statusQuantity")]
    quantity: Option<Quantity>,
}

fn changed_ms(order: &Value) -> Option<u64> {
    let lines = order.get("orderLines")?.get("orderLine")?.as_array()?;
    let dates = lines.iter().filter_map(|line| line.get("statusDate"));
    dates.filter_map(|date| time_ms(&json::shaped(date).ok()?).ok()).max()
}

fn said(order: &Value) -> Result<Understood, String> {
    let order: Order = json::shaped(order)?;
    let is_ours = is_sellers(order.ship_node.as_ref().and_then(|node| node.kind.as_deref()));
    let lines = order.lines.list.iter().filter(|_| is_ours).map(OrderLine::line);
    images(&order.id.id("purchaseOrderId")?, lines.collect::<Result<_, _>>()?)
}

impl OrderLine {
    fn line(&self) -> Result<Line, String> {
        let ordered = self.quantity.units()?;
        let mut line = Line {
            id: self.number.id("lineNumber")?,
            sku: json::sku(self.item.sku.as_deref())?,
            ordered,
            cancelled: 0,
            shipped: 0,
            version: time_ms(&self.status_date).map_err(|why| format!("statusDate: {why}"))?,
        };
        for part in &self.statuses.list {
            // A status without a count is that of the whole line.
            let units = part.quantity.as_ref().map_or(Ok(ordered), Quantity::units)?;
            line.part(&part.status, units);
        }
        Ok(line)
    }
}

impl Quantity {
    fn units(&self) -> Result<i64, String> {
        self.amount.units().map_err(|why| format!("amount: {why}"))
    }
}
