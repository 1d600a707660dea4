//! An order as a marketplace keeps it, and what it writes of it: bodies of webhooks, and answers of its
//! API, as Shopify writes them.

use bytes::Bytes;
use marketplace::Item;
use marketplace::clock::utc_time;
use marketplace::shopify::payload::{
    self, Edit, Fulfillment, InventoryLevel, LineItem, Refund, RefundLine, Restock, gid,
};
use marketplace::shopify::sign::Topic;
use serde_json::{Value, json};
use state::command::ListingSpec;

use super::{LISTED, MARKETS};

/// Ids above 2^53: a reader that goes through a float loses them.
const ID_BASE: u64 = 9_007_199_254_740_993;
const PLACE: u64 = 24_826_418;
/// The marketplace whose payloads name no SKUs.
const WITHOUT_SKUS: usize = 2;
/// Refunds, and shipments, of one order: beyond it an order does not fit into an answer of the API.
pub(super) const REMOVALS_MAX: usize = 4;

/// An order as the marketplace knows it.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    pub(super) id: u64,
    pub(super) lines: Vec<Line>,
    pub(super) removals: Vec<Removed>,
    pub(super) created: u64,
    /// When it changed last, by the marketplace's clock; never twice the same.
    pub(super) changed: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) id: u64,
    pub(super) sku: &'static str,
    pub(super) ordered: i64,
    /// Units that an edit took out.
    pub(super) edited: i64,
}

/// Units that were refunded or shipped.
#[derive(Clone, Debug)]
pub(super) struct Removed {
    pub(super) id: u64,
    /// The line's place in the order.
    pub(super) line: usize,
    pub(super) quantity: i64,
    pub(super) how: How,
    pub(super) at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Cancelled,
    Returned,
    Shipped,
}

/// A body and what it is called.
pub(super) type Body = (Topic, Bytes);

/// One SKU at one marketplace.
fn item(market: usize, sku: &str, available: i64) -> Item {
    let n = LISTED.iter().position(|known| *known == sku).unwrap_or(LISTED.len());
    let number = |n: usize| u64::try_from(n).unwrap_or(0);
    let variant_id = ID_BASE + 2 * (100 * number(market) + number(n));
    let named = if market == WITHOUT_SKUS { "" } else { sku };
    Item { sku: named.into(), variant_id, inventory_item_id: variant_id + 1, available }
}

/// How a marketplace names a SKU's stock-keeping record.
pub(super) fn listing(market: usize, sku: &str) -> String {
    gid("InventoryItem", item(market, sku, 0).inventory_item_id)
}

/// How a SKU's listing is mapped.
pub(super) fn spec(market: usize, sku: &str) -> ListingSpec {
    let variant = gid("ProductVariant", item(market, sku, 0).variant_id);
    let settings = [("variant_id".to_string(), variant)].into();
    ListingSpec { id: listing(market, sku), settings }
}

/// A SKU, and all names that marketplaces have for it.
pub(super) fn names(sku: &str) -> Vec<String> {
    let of_market = |m| spec(m, sku).ids().map(ToString::to_string).collect::<Vec<_>>();
    [sku.to_string()].into_iter().chain((0..MARKETS.len()).flat_map(of_market)).collect()
}

/// The SKU of a listing.
pub(super) fn sku_of(market: usize, id: &str) -> Option<&'static str> {
    LISTED.into_iter().find(|sku| listing(market, sku) == id)
}

fn units(units: i64) -> u32 {
    u32::try_from(units).unwrap_or(0)
}

fn time(ms: u64) -> String {
    utc_time(i64::try_from(ms).unwrap_or(i64::MAX))
}

/// A marketplace tells what it shows.
pub(super) fn shown(market: usize, sku: &str, quantity: i64, at: u64) -> Body {
    let level = InventoryLevel::new(&item(market, sku, quantity), PLACE, time(at));
    (Topic::InventoryLevelsUpdate, level.body())
}

impl Order {
    /// What refunds and edits have left of a line.
    fn left(&self, n: usize) -> i64 {
        self.open(n) + self.away(n)
    }

    fn sum(&self, n: usize, how: How) -> i64 {
        let removed = self.removals.iter().filter(|of| of.line == n && of.how == how);
        removed.map(|of| of.quantity).sum()
    }

    /// Units of a line that can still be cancelled or shipped.
    pub(super) fn open(&self, n: usize) -> i64 {
        let sold = self.lines.get(n).map_or(0, |line| line.ordered - line.edited);
        sold - self.sum(n, How::Cancelled) - self.sum(n, How::Shipped)
    }

    /// Units of a line that can come back.
    pub(super) fn away(&self, n: usize) -> i64 {
        self.sum(n, How::Shipped) - self.sum(n, How::Returned)
    }

    /// Whether it can be refunded, or shipped, once more.
    pub(super) fn has_room(&self) -> bool {
        self.removals.len() < REMOVALS_MAX
    }

    fn line(&self, market: usize, n: usize) -> Option<LineItem> {
        let line = self.lines.get(n)?;
        let item = LineItem::new(line.id, &item(market, line.sku, 0), units(line.ordered));
        Some(LineItem { current_quantity: units(self.left(n)), ..item })
    }

    fn refund(&self, market: usize, of: &Removed) -> Option<Refund> {
        let restock = if of.how == How::Returned { Restock::Return } else { Restock::Cancel };
        let line = self.line(market, of.line)?;
        let line = RefundLine::new(of.id, line, units(of.quantity), restock, PLACE);
        Some(Refund::new(of.id, self.id, time(of.at), vec![line]))
    }

    fn shipment(&self, market: usize, of: &Removed) -> Option<Fulfillment> {
        let line = LineItem { quantity: units(of.quantity), ..self.line(market, of.line)? };
        let name = format!("#{}.{}", self.id, of.id);
        Some(Fulfillment::new(of.id, self.id, name, time(of.at), PLACE, vec![line]))
    }

    /// The body of `orders/create` and its like.
    pub(super) fn image(&self, market: usize, topic: Topic) -> Body {
        let lines = (0..self.lines.len()).filter_map(|n| self.line(market, n)).collect();
        let (shipped, refunded): (Vec<_>, Vec<_>) =
            self.removals.iter().partition(|of| of.how == How::Shipped);
        let order = payload::Order {
            updated_at: time(self.changed),
            fulfillments: shipped.iter().filter_map(|of| self.shipment(market, of)).collect(),
            refunds: refunded.iter().filter_map(|of| self.refund(market, of)).collect(),
            ..payload::Order::new(self.id, self.id, time(self.created), lines)
        };
        (topic, order.body())
    }

    /// The body of `orders/edited`, which does not say what the order is now.
    pub(super) fn edit(&self, n: usize) -> Body {
        let line = self.lines.get(n).map_or(0, |line| line.id);
        let edit = Edit {
            id: self.changed,
            order_id: self.id,
            committed_at: time(self.changed),
            additions: Vec::new(),
            removals: vec![(line, 1)],
        };
        (Topic::OrdersEdited, edit.body())
    }

    /// The body that tells of one removal alone.
    pub(super) fn removal(&self, market: usize, of: &Removed) -> Option<Body> {
        Some(match of.how {
            How::Shipped => (Topic::FulfillmentsCreate, self.shipment(market, of)?.body()),
            _ => (Topic::RefundsCreate, self.refund(market, of)?.body()),
        })
    }

    /// The order as the API shows it.
    pub(super) fn node(&self, market: usize) -> Value {
        let connection =
            |nodes: Vec<Value>| json!({ "nodes": nodes, "pageInfo": { "hasNextPage": false } });
        let lines = (0..self.lines.len()).filter_map(|n| {
            let line = self.line(market, n)?;
            Some(json!({
                "id": line.admin_graphql_api_id, "sku": line.sku, "quantity": line.quantity,
                "currentQuantity": line.current_quantity, "isGiftCard": false,
                "variant": {
                    "id": gid("ProductVariant", line.variant_id),
                    "inventoryItem": { "tracked": true },
                },
            }))
        });
        let removals = |shipped: bool| {
            let wanted = self.removals.iter().filter(move |of| (of.how == How::Shipped) == shipped);
            wanted.map(move |of| {
                let line = self.lines.get(of.line).map_or(0, |line| line.id);
                let restock = if of.how == How::Returned { "RETURN" } else { "CANCEL" };
                let line = json!({
                    "lineItem": { "id": gid("LineItem", line) },
                    "quantity": of.quantity, "restockType": restock,
                });
                let (kind, lines) = if shipped {
                    ("Fulfillment", "fulfillmentLineItems")
                } else {
                    ("Refund", "refundLineItems")
                };
                json!({
                    "id": gid(kind, of.id), "createdAt": time(of.at), "status": "SUCCESS",
                    (lines): connection(vec![line]),
                })
            })
        };
        json!({
            "id": gid("Order", self.id), "updatedAt": time(self.changed), "test": false,
            "lineItems": connection(lines.collect()),
            "refunds": removals(false).collect::<Vec<_>>(),
            "fulfillments": removals(true).collect::<Vec<_>>(),
        })
    }
}

/// The API's answer to the question for one order.
pub(super) fn one(order: Option<&Value>) -> Vec<u8> {
    json!({ "data": { "order": order } }).to_string().into_bytes()
}

/// A page of the API's answer to the question for what changed.
pub(super) fn page(orders: &[Value], next: Option<&str>) -> Vec<u8> {
    let page_info = json!({ "hasNextPage": next.is_some(), "endCursor": next });
    let orders = json!({ "nodes": orders, "pageInfo": page_info });
    json!({ "data": { "orders": orders } }).to_string().into_bytes()
}

/// The number of a marketplace.
pub(super) fn number(name: &str) -> usize {
    MARKETS.iter().position(|known| *known == name).unwrap_or(MARKETS.len())
}
