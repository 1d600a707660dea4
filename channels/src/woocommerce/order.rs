//! An order as version 3 of the REST API shows it, in a webhook and in an answer alike.

use serde::Deserialize;
use serde_json::Value;
use state::command::Fact;
use state::order::LineImage;

use crate::json::{self, Scalar};
use crate::stage::Stage;
use crate::{Understood, time};

/// All of it must be there: a product under an order's topic is no order.
#[derive(Deserialize)]
struct Order {
    id: u64,
    status: String,
    date_modified_gmt: String,
    line_items: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    id: u64,
    #[serde(default)]
    product_id: u64,
    #[serde(default)]
    variation_id: u64,
    quantity: Scalar,
    sku: Option<String>,
    /// A list, or an object where a filter of PHP has left gaps in the list.
    #[serde(default)]
    meta_data: Value,
}

/// What an order says: one whole image, versioned by `date_modified_gmt`. That has whole seconds, so of
/// two images of one second the one further on in an order's life counts.
///
/// What was refunded and put back into stock is told by the order itself: the line's running count
/// `_restock_refunded_items`, which `wc_restock_refunded_items` writes before it sets the order's time
/// of change. The list of refunds (`/orders/{id}/refunds`) does not say whether units were put back, so
/// it adds nothing and is not read. Neither is `_reduced_stock`: it is missing until the shop has
/// reduced, and for whatever the shop does not manage itself.
pub(super) fn said(order: &Value) -> Result<Understood, String> {
    let order: Order = json::shaped(order)?;
    let stage = Stage::of(&order.status);
    let version = stage.within_second(modified_ms(&order.date_modified_gmt)?);
    json::check_lines(order.line_items.len())?;
    let lines = order.line_items.iter().map(|line| line.image(&order.status, stage));
    let lines = lines.collect::<Result<_, _>>()?;
    let image = Fact::Image { order: order.id.to_string(), version, whole: true, lines };
    Ok(Understood::Facts(vec![image]))
}

/// When it was changed, if it says so.
pub(super) fn changed_ms(order: &Value) -> Option<u64> {
    modified_ms(order.get("date_modified_gmt")?.as_str()?).ok()
}

/// Reads the field `date_modified_gmt` of an order or a product.
pub(super) fn modified_ms(text: &str) -> Result<u64, String> {
    time::utc(text).map_err(|why| format!("date_modified_gmt: {why}"))
}

impl Stage {
    /// The core holds units on hold, processing and completed; a refund alone puts nothing back. A status
    /// of a plugin's is unknown here and counts as holding: units that are held for nothing can be freed
    /// later, units sold twice cannot.
    fn of(status: &str) -> Self {
        match status {
            "pending" | "checkout-draft" | "auto-draft" => Self::Before,
            "failed" | "cancelled" | "trash" => Self::After,
            _ => Self::Holds,
        }
    }
}

impl Line {
    /// Units that were put back have left and returned, whatever becomes of the order: so they count in
    /// full on both sides, and a later cancellation frees the others only.
    fn image(&self, status: &str, stage: Stage) -> Result<LineImage, String> {
        let ordered = self.quantity.units().map_err(|why| format!("quantity: {why}"))?;
        let returned = self.restocked()?;
        let quantity = if stage == Stage::Holds { ordered } else { 0 }.max(returned);
        let fulfilled = if status == "completed" { quantity } else { returned };
        let listing = [self.variation_id, self.product_id].into_iter().find(|id| *id != 0);
        Ok(LineImage {
            id: self.id.to_string(),
            listing: listing.map(|id| id.to_string()),
            sku: json::sku(self.sku.as_deref())?,
            quantity,
            fulfilled,
            returned,
        })
    }

    fn restocked(&self) -> Result<i64, String> {
        const KEY: &str = "_restock_refunded_items";
        let is_it = |meta: &&Value| meta.get("key").and_then(Value::as_str) == Some(KEY);
        let meta = match &self.meta_data {
            Value::Array(list) => list.iter().find(is_it),
            Value::Object(map) => map.values().find(is_it),
            _ => None,
        };
        match meta.and_then(|meta| meta.get("value")) {
            None | Some(Value::Null) => Ok(0),
            Some(Value::String(text)) if text.is_empty() => Ok(0),
            Some(value) => json::shaped::<Scalar>(value)
                .and_then(|count| count.units())
                .map_err(|why| format!("{KEY}: {why}")),
        }
    }
}
