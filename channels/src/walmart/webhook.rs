//! Orders as webhooks show them.

use serde::Deserialize;
use serde_json::Value;
use state::command::Fact;

use super::Source;
use super::order::{Line, images, is_sellers, time_ms};
use crate::Understood;
use crate::json::{self, Scalar};

#[derive(Deserialize)]
struct Order {
    #[serde(rename = "purchaseOrderId")]
    id: Scalar,
    #[serde(rename = "shipNodeType")]
    ship_node_type: Option<String>,
    #[serde(rename = "orderLines")]
    lines: Vec<OrderLine>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OrderLine {
    line_number: Scalar,
    sku: Option<String>,
    quantity: Quantity,
    status: String,
    status_date: Option<Scalar>,
    ship_node_type: Option<String>,
}

/// `measurementValue` is documented as a number in a string.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Quantity {
    measurement_value: Scalar,
}

/// What an event about an order says: its lines, each in its own status. An intent to cancel is a
/// request: what it asks for is not done before the line's status says so.
pub(super) fn order(source: &Source, payload: &Value) -> Result<Understood, String> {
    let order = payload.get("order").filter(|order| order.is_object()).unwrap_or(payload);
    let order: Order = json::shaped(order)?;
    let id = order.id.id("purchaseOrderId")?;
    let kind = order.ship_node_type.as_deref();
    let is_ours = |line: &&OrderLine| is_sellers(line.ship_node_type.as_deref().or(kind));
    let lines = order.lines.iter().filter(is_ours).map(|line| line.line(source));
    images(&id, lines.collect::<Result<_, _>>()?)
}

/// An event that says by its name that something was cancelled. If none of its lines says so, the name
/// may be right and the lines old: then the order must be fetched.
pub(super) fn cancelled(source: &Source, payload: &Value) -> Result<Understood, String> {
    let mut said = order(source, payload)?;
    if let Understood::Facts(facts) = &mut said {
        let reload = facts.iter().find_map(|fact| match fact {
            Fact::Image { order, .. } => Some(order.clone()),
            _ => None,
        });
        let is_cancelled = facts.iter().any(|fact| match fact {
            Fact::Image { lines, .. } => lines.iter().any(|line| line.quantity == 0),
            _ => false,
        });
        if let Some(order) = reload.filter(|_| !is_cancelled) {
            facts.push(Fact::Reload { order, version: source.time_ms()? });
        }
    }
    Ok(said)
}

impl OrderLine {
    fn line(&self, source: &Source) -> Result<Line, String> {
        let ordered = self.quantity.measurement_value.units();
        let ordered = ordered.map_err(|why| format!("measurementValue: {why}"))?;
        // Without a time of its own a line is as old as the event, which is never older.
        let version = self.status_date.as_ref().map_or_else(|| source.time_ms(), time_ms);
        let mut line = Line {
            id: self.line_number.id("lineNumber")?,
            sku: json::sku(self.sku.as_deref())?,
            ordered,
            cancelled: 0,
            shipped: 0,
            version: version.map_err(|why| format!("statusDate: {why}"))?,
        };
        line.part(&self.status, ordered);
        Ok(line)
    }
}
