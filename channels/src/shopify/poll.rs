//! What the GraphQL Admin API (2026-04 and later) is asked about orders, and what it answers.
//!
//! A query may cost 1,000 points, and connections are paid for by what they may return, those within each
//! other multiplied; both queries stay below that by the plainest count (an object one point, a connection
//! two and its objects). So a page has few orders with few lines each: an order that does not fit is
//! answered with [`Fact::Reload`], and [`ORDER_QUERY`] fetches it by itself.
//!
//! What differs from a webhook: whether a variant is tracked is its state now, not when it was ordered, and
//! a variant that was deleted is `null` like that of a custom line; neither takes anything back (see the
//! parent module). Only the last 60 days are told to an app without `read_all_orders`.
//!
//! Sources: shopify.dev, GraphQL Admin API: `Order`, `LineItem`, `Refund`, `RefundLineItem` (its `id` is
//! nullable), `Fulfillment`, `FulfillmentStatus`; "GraphQL Admin API rate limits".

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use state::command::Fact;

use super::id_of;
use super::order::{self, Fulfillment, Item, Line, Order, Refund};
use crate::json;
use crate::poll::{Page, Told};
use crate::{Understood, time};

/// The fields of an order; the arguments say how many of what is in it may be told.
macro_rules! order_fields {
    ($lines:literal, $refunds:literal, $refunded:literal, $fulfillments:literal, $fulfilled:literal) => {
        concat!(
            "id updatedAt test ",
            "lineItems(first: ",
            $lines,
            ") { nodes { id sku quantity currentQuantity isGiftCard ",
            "variant { id inventoryItem { tracked } } } pageInfo { hasNextPage } } ",
            "refunds(first: ",
            $refunds,
            ") { id createdAt refundLineItems(first: ",
            $refunded,
            ") { nodes { lineItem { id } quantity restockType } pageInfo { hasNextPage } } } ",
            "fulfillments(first: ",
            $fulfillments,
            ") { id createdAt status fulfillmentLineItems(first: ",
            $fulfilled,
            ") { nodes { lineItem { id } quantity } pageInfo { hasNextPage } } }",
        )
    };
}

/// One order, with the variable `id`: `gid://shopify/Order/5678901234567`. Costs at most 937 points.
pub const ORDER_QUERY: &str =
    concat!("query Order($id: ID!) { order(id: $id) { ", order_fields!(100, 5, 20, 5, 40), " } }");

/// A page of orders, oldest change first, with the variables `query` (`updated_at:>='2026-11-20T15:00:00Z'`),
/// `first` (at most [`ORDERS_MAX`]) and `after` (`null`, or [`Page::next`] of the page before). Costs at most
/// 986 points.
pub const ORDERS_QUERY: &str = concat!(
    "query Orders($query: String!, $first: Int!, $after: String) { ",
    "orders(first: $first, after: $after, sortKey: UPDATED_AT, query: $query) { nodes { ",
    order_fields!(5, 3, 3, 3, 4),
    " } pageInfo { hasNextPage endCursor } } }"
);

/// How many orders a page may have, lest it cost too much.
pub const ORDERS_MAX: u32 = 12;

/// How many refunds and fulfillments each query asks for: they are lists without a next page, so one that
/// is full may go on.
const ORDER_LIST_MAX: usize = 5;
const ORDERS_LIST_MAX: usize = 3;

/// Reads the answer to [`ORDER_QUERY`]: `None` if the store knows no such order, or may not tell this app
/// of one so old.
///
/// # Errors
/// The answer is none: errors instead of data, or another shape.
pub fn order(body: &[u8]) -> Result<Option<Told>, String> {
    #[derive(Deserialize)]
    #[expect(clippy::option_option, reason = "absent, null and present are three things")]
    struct Data {
        #[serde(default, deserialize_with = "json::present")]
        order: Option<Option<Value>>,
    }
    let Data { order } = data(body)?;
    let order = order.ok_or("an answer to another question")?;
    let too_large = |_, _| Err("the order is larger than one answer".to_string());
    let said = |order: &Value| json::shaped::<Node>(order)?.understood(ORDER_LIST_MAX, too_large);
    Ok(order.map(|order| Told::order(&order, said(&order))))
}

/// Reads the answer to [`ORDERS_QUERY`].
///
/// # Errors
/// The answer is none: errors instead of data, or another shape.
pub fn orders(body: &[u8]) -> Result<Page, String> {
    #[derive(Deserialize)]
    struct Data {
        orders: Connection<Value>,
    }
    let Data { orders: Connection { nodes, page_info } } = data(body)?;
    let next = match (page_info.has_next_page, page_info.end_cursor) {
        (true, None) => return Err("a next page without a cursor".to_string()),
        (has_next, cursor) => cursor.filter(|_| has_next),
    };
    let reload = |order: u64, version| {
        Ok(Understood::Facts(vec![Fact::Reload { order: order.to_string(), version }]))
    };
    let said = |order: &Value| json::shaped::<Node>(order)?.understood(ORDERS_LIST_MAX, reload);
    Ok(Page::of_orders(&nodes, next, said, changed_ms))
}

fn changed_ms(order: &Value) -> Option<u64> {
    time::rfc3339(order.get("updatedAt")?.as_str()?).ok()
}

/// The data of an answer. Errors come with status 200, and what stands beside them is not complete.
fn data<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, String> {
    #[derive(Deserialize)]
    struct Answer<T> {
        data: Option<T>,
        #[serde(default)]
        errors: Value,
    }
    let answer: Answer<Value> = json::read(body)?;
    let failed = match &answer.errors {
        Value::Null => false,
        Value::Array(errors) => !errors.is_empty(),
        _ => true,
    };
    if failed {
        let message = answer.errors.pointer("/0/message").and_then(Value::as_str);
        return Err(format!("the API answers: {}", json::shortened(message.unwrap_or("an error"))));
    }
    let data = answer.data.ok_or("an answer without data")?;
    T::deserialize(data).map_err(|error| format!("unexpected shape: {error}"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Connection<T> {
    nodes: Vec<T>,
    page_info: PageInfo,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageInfo {
    has_next_page: bool,
    end_cursor: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    id: String,
    updated_at: String,
    test: bool,
    line_items: Connection<LineNode>,
    refunds: Vec<RefundNode>,
    fulfillments: Vec<FulfillmentNode>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LineNode {
    id: String,
    sku: Option<String>,
    quantity: i64,
    current_quantity: i64,
    is_gift_card: bool,
    variant: Option<VariantNode>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VariantNode {
    id: String,
    inventory_item: Tracked,
}

#[derive(Deserialize)]
struct Tracked {
    tracked: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RefundNode {
    id: String,
    created_at: Option<String>,
    refund_line_items: Connection<MovedNode>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FulfillmentNode {
    id: String,
    created_at: String,
    status: String,
    fulfillment_line_items: Connection<MovedNode>,
}

/// A line of a refund or of a fulfillment.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MovedNode {
    line_item: Named,
    quantity: Option<i64>,
    restock_type: Option<String>,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

impl Node {
    /// What it says; `larger` speaks of an order that did not fit into the answer.
    fn understood(
        self,
        list_max: usize,
        larger: impl FnOnce(u64, u64) -> Result<Understood, String>,
    ) -> Result<Understood, String> {
        let id = id_of("Order", &self.id)?;
        if self.test {
            return Ok(Understood::Ignored("a test order".to_string()));
        }
        let version = time::rfc3339(&self.updated_at)?;
        let goes_on = self.line_items.page_info.has_next_page
            || self.refunds.len() >= list_max
            || self.fulfillments.len() >= list_max
            || self.refunds.iter().any(|refund| refund.refund_line_items.page_info.has_next_page)
            || self
                .fulfillments
                .iter()
                .any(|shipment| shipment.fulfillment_line_items.page_info.has_next_page);
        if goes_on {
            return larger(id, version);
        }
        let lines: Vec<Line> =
            self.line_items.nodes.into_iter().map(LineNode::line).collect::<Result<_, _>>()?;
        let items = lines.iter().map(|line| (line.item.line, line.item.clone())).collect();
        let refunds = self.refunds.into_iter().map(|refund| refund.read(version, &items));
        let fulfillments = self.fulfillments.into_iter().map(|shipment| shipment.read(&items));
        let order = Order {
            id,
            version,
            refunds: Some(refunds.collect::<Result<_, _>>()?),
            fulfillments: fulfillments.collect::<Result<_, _>>()?,
            lines,
        };
        Ok(Understood::Facts(order.facts()?))
    }
}

impl LineNode {
    fn line(self) -> Result<Line, String> {
        let variant = self.variant.as_ref();
        let tracked = variant.is_some_and(|variant| variant.inventory_item.tracked);
        let tracked = tracked && !self.is_gift_card;
        let item = Item {
            line: id_of("LineItem", &self.id)?,
            variant: variant.map(|variant| id_of("ProductVariant", &variant.id)).transpose()?,
            sku: json::sku(self.sku.as_deref().filter(|_| tracked))?,
            tracked,
        };
        Ok(Line { item, quantity: self.quantity, current: Some(self.current_quantity) })
    }
}

impl MovedNode {
    fn item(&self, items: &BTreeMap<u64, Item>) -> Result<Item, String> {
        let line = id_of("LineItem", &self.line_item.id)?;
        Ok(items.get(&line).cloned().unwrap_or(Item::unknown(line)))
    }

    fn quantity(&self) -> Result<i64, String> {
        self.quantity.ok_or_else(|| "a line without a quantity".to_string())
    }
}

impl RefundNode {
    fn read(self, version: u64, items: &BTreeMap<u64, Item>) -> Result<Refund, String> {
        let lines = self.refund_line_items.nodes.iter().map(|line| {
            let removal = order::removal(line.restock_type.as_deref().unwrap_or_default())?;
            Ok((line.item(items)?, line.quantity()?, removal))
        });
        let created = self.created_at.as_deref().map(time::rfc3339).transpose()?;
        Ok(Refund {
            id: id_of("Refund", &self.id)?,
            version: created.unwrap_or(version),
            lines: lines.collect::<Result<_, String>>()?,
        })
    }
}

impl FulfillmentNode {
    fn read(self, items: &BTreeMap<u64, Item>) -> Result<Fulfillment, String> {
        let lines = self.fulfillment_line_items.nodes.iter();
        let lines = lines.map(|line| Ok((line.item(items)?, line.quantity()?)));
        Ok(Fulfillment {
            id: id_of("Fulfillment", &self.id)?,
            version: time::rfc3339(&self.created_at)?,
            shipped: order::shipped(&self.status)?,
            lines: lines.collect::<Result<_, String>>()?,
        })
    }
}
