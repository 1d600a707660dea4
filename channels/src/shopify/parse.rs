//! What Shopify's webhooks mean. Pure.
//!
//! Bodies have the shape of its REST resources: 64-bit ids, times with the shop's offset. Any field
//! can be missing, since a subscription may leave fields out.

use std::collections::BTreeMap;

use serde::Deserialize;
use state::command::Fact;

use super::order::{self, Fulfillment, Item, Line, Order, Refund};
use super::{gid, id_of};
use crate::json::{self, dead, shortened};
use crate::{Understood, Verified, time};

/// Variants of one product at the most: Shopify's own limit (shopify.dev, "Shopify API limits").
const PRODUCT_VARIANTS_MAX: usize = 2_048;

/// What a delivery of this topic says.
#[must_use]
pub(super) fn parse(topic: &str, body: Verified<'_>) -> Understood {
    let body = body.bytes();
    let parsed = match topic {
        "orders/create"
        | "orders/updated"
        | "orders/cancelled"
        | "orders/paid"
        | "orders/fulfilled"
        | "orders/partially_fulfilled" => order(body),
        "orders/edited" => edit(body),
        "refunds/create" => refund(body),
        "fulfillments/create" | "fulfillments/update" => fulfillment(body),
        "inventory_levels/update" | "inventory_levels/connect" => level(body),
        "inventory_items/create" | "inventory_items/update" => item(body),
        "products/create" | "products/update" => product(body),
        // Only archived, cancelled and test orders can be deleted; a cancelled one has said already what
        // went back to stock, and the body is nothing but the id.
        "orders/delete" => ignored("a deleted order changes no stock"),
        "inventory_levels/disconnect" => ignored("a place stopped stocking an item"),
        "inventory_items/delete" | "products/delete" => {
            ignored("a listing went away, stock did not")
        }
        "app/uninstalled" | "customers/data_request" | "customers/redact" | "shop/redact" => {
            ignored("this topic changes no stock")
        }
        "" => Err("the X-Shopify-Topic header is missing".to_string()),
        other => Err(format!("the topic {:?} is unknown", shortened(other))),
    };
    parsed.unwrap_or_else(|why| dead(&why))
}

#[expect(clippy::unnecessary_wraps, reason = "an arm of a match whose other arms can fail")]
fn ignored(why: &str) -> Result<Understood, String> {
    Ok(Understood::Ignored(why.to_string()))
}

/// The one who signed a body can send it under another topic, so what names its kind must agree.
fn check(kind: &str, named: Option<&str>) -> Result<(), String> {
    named.map_or(Ok(()), |named| id_of(kind, named).map(|_| ()))
}

fn when(what: &str, text: &str) -> Result<u64, String> {
    time::rfc3339(text).map_err(|why| format!("{what}: {why}"))
}

/// The time of what moves no stock: 0, older than all others, where the subscription leaves it out.
fn when_said(what: &str, text: Option<&str>) -> Result<u64, String> {
    text.map_or(Ok(0), |text| when(what, text))
}

#[derive(Deserialize)]
struct OrderBody {
    id: u64,
    admin_graphql_api_id: Option<String>,
    /// An order has none; a fulfillment does, and is much like an order otherwise.
    order_id: Option<u64>,
    updated_at: String,
    #[serde(default)]
    test: bool,
    line_items: Vec<LineBody>,
    refunds: Option<Vec<RefundBody>>,
    #[serde(default)]
    fulfillments: Vec<FulfillmentBody>,
}

#[derive(Deserialize)]
#[expect(clippy::option_option, reason = "absent, null and present are three things")]
struct LineBody {
    id: u64,
    #[serde(default, deserialize_with = "json::present")]
    variant_id: Option<Option<u64>>,
    sku: Option<String>,
    quantity: i64,
    current_quantity: Option<i64>,
    #[serde(default)]
    gift_card: bool,
    /// Who keeps its stock: `null` where nobody does.
    #[serde(default, deserialize_with = "json::present")]
    variant_inventory_management: Option<Option<String>>,
}

#[derive(Deserialize)]
struct RefundBody {
    id: u64,
    admin_graphql_api_id: Option<String>,
    order_id: Option<u64>,
    created_at: String,
    refund_line_items: Vec<RefundLineBody>,
}

#[derive(Deserialize)]
struct RefundLineBody {
    line_item_id: u64,
    quantity: i64,
    restock_type: String,
    line_item: Option<LineBody>,
}

#[derive(Deserialize)]
struct FulfillmentBody {
    id: u64,
    admin_graphql_api_id: Option<String>,
    order_id: Option<u64>,
    status: String,
    created_at: String,
    line_items: Vec<LineBody>,
}

/// The lines of an order that a refund or a shipment in it speaks of.
type Items = BTreeMap<u64, Item>;

fn order(body: &[u8]) -> Result<Understood, String> {
    let order: OrderBody = json::read(body)?;
    check("Order", order.admin_graphql_api_id.as_deref())?;
    if order.order_id.is_some() {
        return Err("the body is not an order".to_string());
    }
    if order.test {
        return ignored("a test order");
    }
    json::check_lines(order.line_items.len())?;
    let items = order.line_items.iter().map(|line| Ok((line.id, line.item()?)));
    let items: Items = items.collect::<Result<_, String>>()?;
    let of_this = |id: Option<u64>, what: &str| match id {
        Some(id) if id != order.id => {
            Err(format!("a {what} of order {id} stands in order {}", order.id))
        }
        _ => Ok(()),
    };
    let refunds = order.refunds.map(|refunds| {
        let refunds = refunds.into_iter().map(|refund| {
            of_this(refund.order_id, "refund")?;
            refund.read(&items)
        });
        refunds.collect::<Result<_, String>>()
    });
    let fulfillments = order.fulfillments.into_iter().map(|fulfillment| {
        of_this(fulfillment.order_id, "fulfillment")?;
        fulfillment.read(&items)
    });
    let order = Order {
        id: order.id,
        version: when("updated_at", &order.updated_at)?,
        refunds: refunds.transpose()?,
        fulfillments: fulfillments.collect::<Result<_, String>>()?,
        lines: order.line_items.iter().map(LineBody::line).collect::<Result<_, _>>()?,
    };
    Ok(Understood::Facts(order.facts()?))
}

fn refund(body: &[u8]) -> Result<Understood, String> {
    let refund: RefundBody = json::read(body)?;
    check("Refund", refund.admin_graphql_api_id.as_deref())?;
    let order = refund.order_id.ok_or("a refund without order_id")?;
    match refund.read(&Items::new())?.fact(order)? {
        Some(fact) => Ok(Understood::Facts(vec![fact])),
        None => ignored("a refund of nothing that is kept in stock"),
    }
}

fn fulfillment(body: &[u8]) -> Result<Understood, String> {
    let fulfillment: FulfillmentBody = json::read(body)?;
    check("Fulfillment", fulfillment.admin_graphql_api_id.as_deref())?;
    let order = fulfillment.order_id.ok_or("a fulfillment without order_id")?;
    match fulfillment.read(&Items::new())?.fact(order)? {
        Some(fact) => Ok(Understood::Facts(vec![fact])),
        None => ignored("nothing that is kept in stock was shipped"),
    }
}

impl LineBody {
    fn item(&self) -> Result<Item, String> {
        let tracked = match &self.variant_inventory_management {
            Some(management) => management.is_some(),
            // Left out by the subscription. A custom line says at least that it has no variant.
            None => self.variant_id != Some(None),
        };
        let tracked = tracked && !self.gift_card;
        Ok(Item {
            line: self.id,
            variant: self.variant_id.flatten(),
            sku: json::sku(self.sku.as_deref().filter(|_| tracked))?,
            tracked,
        })
    }

    fn line(&self) -> Result<Line, String> {
        let item = self.item()?;
        Ok(Line { item, quantity: self.quantity, current: self.current_quantity })
    }
}

impl RefundBody {
    fn read(self, items: &Items) -> Result<Refund, String> {
        let lines = self.refund_line_items.into_iter().map(|line| {
            let item = match (items.get(&line.line_item_id), &line.line_item) {
                (Some(item), _) => item.clone(),
                (None, Some(own)) => own.item()?,
                (None, None) => Item::unknown(line.line_item_id),
            };
            Ok((item, line.quantity, order::removal(&line.restock_type)?))
        });
        Ok(Refund {
            id: self.id,
            version: when("created_at", &self.created_at)?,
            lines: lines.collect::<Result<_, String>>()?,
        })
    }
}

impl FulfillmentBody {
    fn read(self, items: &Items) -> Result<Fulfillment, String> {
        let lines = self.line_items.into_iter().map(|line| {
            let item = items.get(&line.id).cloned().map_or_else(|| line.item(), Ok);
            Ok((item?, line.quantity))
        });
        Ok(Fulfillment {
            id: self.id,
            version: when("created_at", &self.created_at)?,
            shipped: order::shipped(&self.status)?,
            lines: lines.collect::<Result<_, String>>()?,
        })
    }
}

/// An edit names lines by id, without SKUs: the order must be fetched.
fn edit(body: &[u8]) -> Result<Understood, String> {
    #[derive(Deserialize)]
    struct Body {
        order_edit: Edit,
    }
    #[derive(Deserialize)]
    struct Edit {
        order_id: u64,
        committed_at: Option<String>,
        created_at: Option<String>,
    }
    let Body { order_edit: edit } = json::read(body)?;
    let at = edit.committed_at.or(edit.created_at);
    let version = when_said("committed_at", at.as_deref())?;
    Ok(Understood::Facts(vec![Fact::Reload { order: edit.order_id.to_string(), version }]))
}

/// What one place shows of one item: `available` is `null` where the item is not tracked, and below zero
/// where more was sold than was there.
fn level(body: &[u8]) -> Result<Understood, String> {
    #[derive(Deserialize)]
    struct Body {
        admin_graphql_api_id: Option<String>,
        inventory_item_id: u64,
        location_id: u64,
        available: Option<i64>,
        updated_at: Option<String>,
    }
    let level: Body = json::read(body)?;
    check("InventoryLevel", level.admin_graphql_api_id.as_deref())?;
    let version = when_said("updated_at", level.updated_at.as_deref())?;
    let Some(quantity) = level.available else {
        return ignored("an item that is not tracked");
    };
    Ok(Understood::Facts(vec![Fact::Shown {
        listing: gid("InventoryItem", level.inventory_item_id),
        sku: None,
        location: Some(gid("Location", level.location_id)),
        quantity: json::level(quantity)?,
        version,
    }]))
}

fn item(body: &[u8]) -> Result<Understood, String> {
    #[derive(Deserialize)]
    #[expect(clippy::option_option, reason = "absent, null and present are three things")]
    struct Body {
        id: u64,
        admin_graphql_api_id: Option<String>,
        /// `null` where it has none. What else has an id and a time has no such member.
        #[serde(default, deserialize_with = "json::present")]
        sku: Option<Option<String>>,
        updated_at: Option<String>,
    }
    let item: Body = json::read(body)?;
    check("InventoryItem", item.admin_graphql_api_id.as_deref())?;
    let sku = item.sku.ok_or("the body names no SKU, not even none")?;
    let version = when_said("updated_at", item.updated_at.as_deref())?;
    match json::sku(sku.as_deref())? {
        Some(sku) => {
            let listing = gid("InventoryItem", item.id);
            Ok(Understood::Facts(vec![Fact::Listed { listing, sku, version }]))
        }
        None => ignored("an item without a SKU"),
    }
}

/// The SKUs of a product's variants. Their `inventory_quantity` is a sum over all places, and so no
/// observation of any.
fn product(body: &[u8]) -> Result<Understood, String> {
    #[derive(Deserialize)]
    struct Body {
        admin_graphql_api_id: Option<String>,
        updated_at: Option<String>,
        variants: Vec<Variant>,
    }
    #[derive(Deserialize)]
    struct Variant {
        id: u64,
        sku: Option<String>,
        inventory_item_id: Option<u64>,
    }
    let product: Body = json::read(body)?;
    check("Product", product.admin_graphql_api_id.as_deref())?;
    if product.variants.len() > PRODUCT_VARIANTS_MAX {
        return Err(format!("the product has more than {PRODUCT_VARIANTS_MAX} variants"));
    }
    let version = when_said("updated_at", product.updated_at.as_deref())?;
    let mut facts = Vec::new();
    for variant in product.variants {
        let Some(sku) = json::sku(variant.sku.as_deref())? else { continue };
        let item = variant.inventory_item_id.map(|item| gid("InventoryItem", item));
        for listing in [Some(gid("ProductVariant", variant.id)), item].into_iter().flatten() {
            facts.push(Fact::Listed { listing, sku: sku.clone(), version });
        }
    }
    if facts.is_empty() { ignored("a product without SKUs") } else { Ok(Understood::Facts(facts)) }
}
