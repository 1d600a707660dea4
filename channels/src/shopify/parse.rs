//! What Shopify's webhooks mean. Pure.
//!
//! Bodies have the shape of its REST resources: 64-bit ids, times with the shop's offset. Any field
//! can be missing, since a subscription may leave fields out.

use serde::Deserialize;
use state::command::Fact;

use super::order::{Fulfillment, Order, Refund};
use crate::json::{self, dead, shortened};
use crate::{Understood, Verified, time};

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
        | "orders/partially_fulfilled" => json::read(body).and_then(Order::understood),
        "orders/edited" => edited(body),
        "refunds/create" => json::read::<Refund>(body)
            .and_then(Refund::fact)
            .map(|fact| Understood::Facts(vec![fact])),
        "fulfillments/create" | "fulfillments/update" => shipped(body),
        "inventory_levels/update" | "inventory_levels/connect" => level(body),
        "inventory_items/create" | "inventory_items/update" => item(body),
        "products/create" | "products/update" => product(body),
        "orders/delete" => Ok(ignored("only an order that is over can be deleted")),
        "inventory_levels/disconnect"
        | "inventory_items/delete"
        | "products/delete"
        | "app/uninstalled"
        | "customers/data_request"
        | "customers/redact"
        | "shop/redact" => Ok(ignored("this topic changes no stock")),
        "" => Err("the X-Shopify-Topic header is missing".to_string()),
        other => Err(format!("the topic {:?} is unknown", shortened(other))),
    };
    parsed.unwrap_or_else(|why| dead(&why))
}

fn ignored(why: &str) -> Understood {
    Understood::Ignored(why.into())
}

fn shipped(body: &[u8]) -> Result<Understood, String> {
    let fact = json::read::<Fulfillment>(body)?.fact()?;
    let pending = || ignored("a shipment that has not left, or that was called off");
    Ok(fact.map_or_else(pending, |fact| Understood::Facts(vec![fact])))
}

/// An edit names lines by what was added and taken away, not the order: that must be fetched.
fn edited(body: &[u8]) -> Result<Understood, String> {
    #[derive(Deserialize)]
    struct Edited {
        order_edit: Edit,
    }
    #[derive(Deserialize)]
    struct Edit {
        order_id: u64,
        committed_at: Option<String>,
        created_at: Option<String>,
    }
    let Edited { order_edit } = json::read(body)?;
    let at = order_edit.committed_at.or(order_edit.created_at);
    let version = at.map_or(Ok(0), |at| time::rfc3339(&at))?;
    let order = order_edit.order_id.to_string();
    Ok(Understood::Facts(vec![Fact::Reload { order, version }]))
}

/// The quantity that one location shows after a change, whatever made it; our own pushes too. `null` where
/// the item is not tracked.
fn level(body: &[u8]) -> Result<Understood, String> {
    #[derive(Deserialize)]
    struct Level {
        inventory_item_id: u64,
        location_id: u64,
        available: Option<i64>,
        updated_at: Option<String>,
    }
    let level: Level = json::read(body)?;
    let Some(quantity) = level.available else { return Ok(ignored("an item that is not tracked")) };
    if quantity.abs() > state::limits::QUANTITY_MAX {
        return Err(format!("a quantity of {quantity} is out of range"));
    }
    let version = level.updated_at.map_or(Ok(0), |at| time::rfc3339(&at))?;
    Ok(Understood::Facts(vec![Fact::Shown {
        listing: format!("gid://shopify/InventoryItem/{}", level.inventory_item_id),
        sku: None,
        location: Some(format!("gid://shopify/Location/{}", level.location_id)),
        quantity,
        version,
    }]))
}

fn item(body: &[u8]) -> Result<Understood, String> {
    #[derive(Deserialize)]
    struct Item {
        id: u64,
        sku: Option<String>,
        updated_at: Option<String>,
    }
    let item: Item = json::read(body)?;
    let version = item.updated_at.map_or(Ok(0), |at| time::rfc3339(&at))?;
    let Some(sku) = json::sku(item.sku.as_deref())? else {
        return Ok(ignored("an item without a SKU"));
    };
    let listing = format!("gid://shopify/InventoryItem/{}", item.id);
    Ok(Understood::Facts(vec![Fact::Listed { listing, sku, version }]))
}

/// A product teaches what its variants' ids stand for. The quantity that a variant carries is a sum over
/// locations, and no observation of any of them.
fn product(body: &[u8]) -> Result<Understood, String> {
    #[derive(Deserialize)]
    struct Product {
        #[serde(default)]
        variants: Vec<Variant>,
        updated_at: Option<String>,
    }
    #[derive(Deserialize)]
    struct Variant {
        id: u64,
        sku: Option<String>,
        inventory_item_id: Option<u64>,
    }
    let product: Product = json::read(body)?;
    let version = product.updated_at.map_or(Ok(0), |at| time::rfc3339(&at))?;
    let mut facts = Vec::new();
    for variant in &product.variants {
        let Some(sku) = json::sku(variant.sku.as_deref())? else { continue };
        let mut learn = |listing| {
            facts.push(Fact::Listed { listing, sku: sku.clone(), version });
        };
        learn(format!("gid://shopify/ProductVariant/{}", variant.id));
        if let Some(item) = variant.inventory_item_id {
            learn(format!("gid://shopify/InventoryItem/{item}"));
        }
    }
    if facts.is_empty() {
        return Ok(ignored("a product without a SKU"));
    }
    Ok(Understood::Facts(facts))
}
