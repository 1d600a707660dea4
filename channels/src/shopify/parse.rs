//! What Shopify's webhooks mean. Pure.
//!
//! Bodies have the shape of its REST resources: 64-bit ids, times with the shop's offset. Any field
//! can be missing, since a subscription may leave fields out.

use serde::Deserialize;
use state::command::Fact;
use state::limits::ORDER_LINES_MAX;
use state::order::{LineImage, Removal, RemovalLine};

use crate::json::{self, shortened};
use crate::{Understood, Verified, time};

#[derive(Deserialize)]
struct Order {
    id: u64,
    updated_at: String,
    #[serde(default)]
    test: bool,
    line_items: Vec<Line>,
    #[serde(default)]
    refunds: Vec<Refund>,
}

#[derive(Deserialize)]
struct Line {
    id: u64,
    sku: Option<String>,
    quantity: i64,
    #[serde(default)]
    gift_card: bool,
    /// `null` where the item is not tracked; absent in a subscription without the field.
    #[serde(default = "tracked")]
    variant_inventory_management: Option<String>,
}

#[expect(clippy::unnecessary_wraps, reason = "serde wants the field's own type")]
fn tracked() -> Option<String> {
    Some("shopify".into())
}

#[derive(Deserialize)]
struct Refund {
    order_id: u64,
    created_at: String,
    #[serde(rename = "refund_line_items")]
    lines: Vec<RefundedLine>,
}

#[derive(Deserialize)]
struct RefundedLine {
    id: u64,
    line_item_id: u64,
    quantity: i64,
    restock_type: String,
    line_item: Option<Line>,
}

/// What a delivery of this topic says.
#[must_use]
pub(super) fn parse(topic: &str, body: Verified<'_>) -> Understood {
    let parsed = match topic {
        "orders/create"
        | "orders/updated"
        | "orders/cancelled"
        | "orders/paid"
        | "orders/fulfilled"
        | "orders/partially_fulfilled" => order(body),
        "refunds/create" => refund(body),
        "inventory_levels/update" | "inventory_levels/connect" | "inventory_levels/disconnect" => {
            return Understood::Ignored("what a channel shows is no movement".into());
        }
        "inventory_items/create"
        | "inventory_items/update"
        | "inventory_items/delete"
        | "products/create"
        | "products/update"
        | "products/delete"
        | "app/uninstalled"
        | "customers/data_request"
        | "customers/redact"
        | "shop/redact" => {
            return Understood::Ignored("this topic changes no stock".into());
        }
        "orders/edited" => Err("an edit carries no order: it must be fetched".to_string()),
        "" => Err("the X-Shopify-Topic header is missing".to_string()),
        other => Err(format!("the topic {:?} is unknown", shortened(other))),
    };
    parsed.unwrap_or_else(Understood::Dead)
}

fn order(body: Verified<'_>) -> Result<Understood, String> {
    let order: Order = json::read(body.bytes())?;
    if order.test {
        return Ok(Understood::Ignored("a test order".into()));
    }
    let version = time::rfc3339(&order.updated_at).map_err(|why| format!("updated_at: {why}"))?;
    if order.line_items.len() > ORDER_LINES_MAX {
        return Err(format!("the order has more than {ORDER_LINES_MAX} lines"));
    }
    let mut lines = Vec::new();
    for line in order.line_items.into_iter().filter(Line::stands_for_stock) {
        json::quantity(line.quantity)?;
        let sku = line.sku()?;
        lines.push(LineImage {
            id: line.id.to_string(),
            sku,
            quantity: line.quantity,
            ..LineImage::default()
        });
    }
    let mut facts = vec![Fact::Image { order: order.id.to_string(), version, whole: true, lines }];
    for embedded in order.refunds {
        if embedded.order_id != order.id {
            return Err(format!(
                "a refund of order {} stands in order {}",
                embedded.order_id, order.id
            ));
        }
        facts.push(embedded.fact()?);
    }
    Ok(Understood::Facts(facts))
}

fn refund(body: Verified<'_>) -> Result<Understood, String> {
    let refund: Refund = json::read(body.bytes())?;
    Ok(Understood::Facts(vec![refund.fact()?]))
}

impl Line {
    fn stands_for_stock(&self) -> bool {
        !self.gift_card && self.variant_inventory_management.is_some()
    }

    fn sku(&self) -> Result<Option<String>, String> {
        json::sku(self.sku.as_deref())
    }
}

impl Refund {
    fn fact(self) -> Result<Fact, String> {
        let version =
            time::rfc3339(&self.created_at).map_err(|why| format!("created_at: {why}"))?;
        let mut lines = Vec::new();
        for line in self.lines {
            if line.line_item.as_ref().is_some_and(|item| !item.stands_for_stock()) {
                continue;
            }
            json::quantity(line.quantity)?;
            let removal = match line.restock_type.as_str() {
                "cancel" => Removal::Cancelled,
                // Deprecated, and still on old refunds: restocked, whether shipped or not.
                "return" | "legacy_restock" => Removal::Returned,
                "no_restock" => Removal::NoRestock,
                other => return Err(format!("restock_type {:?} is unknown", shortened(other))),
            };
            lines.push(RemovalLine {
                id: line.id.to_string(),
                line: line.line_item_id.to_string(),
                listing: None,
                sku: line.line_item.as_ref().map_or(Ok(None), Line::sku)?,
                quantity: line.quantity,
                removal,
            });
        }
        Ok(Fact::Removals { order: self.order_id.to_string(), version, lines })
    }
}
