//! An order, a refund and a shipment of Shopify's, from a webhook or from its API: facts.

use std::collections::BTreeMap;

use serde::Deserialize;
use state::command::Fact;
use state::order::{LineImage, Removal, RemovalLine};

use crate::json::{self, shortened};
use crate::{Understood, time};

/// An order as Shopify's REST resource.
#[derive(Deserialize)]
pub(super) struct Order {
    pub(super) id: u64,
    pub(super) updated_at: String,
    #[serde(default)]
    pub(super) test: bool,
    pub(super) line_items: Vec<Line>,
    /// Absent in a subscription without the field: then what an edit took out cannot be told.
    pub(super) refunds: Option<Vec<Refund>>,
    #[serde(default)]
    pub(super) fulfillments: Vec<Fulfillment>,
}

#[derive(Deserialize)]
pub(super) struct Line {
    pub(super) id: u64,
    pub(super) variant_id: Option<u64>,
    pub(super) sku: Option<String>,
    pub(super) quantity: i64,
    pub(super) current_quantity: Option<i64>,
    #[serde(default)]
    pub(super) gift_card: bool,
    /// `null` where the item is not tracked, as tips are not; absent in a subscription without the field.
    #[serde(default = "tracked")]
    pub(super) variant_inventory_management: Option<String>,
}

#[expect(clippy::unnecessary_wraps, reason = "serde wants the field's own type")]
pub(super) fn tracked() -> Option<String> {
    Some("shopify".into())
}

#[derive(Deserialize)]
pub(super) struct Refund {
    pub(super) id: u64,
    pub(super) order_id: u64,
    pub(super) created_at: String,
    #[serde(rename = "refund_line_items")]
    pub(super) lines: Vec<RefundedLine>,
}

#[derive(Deserialize)]
pub(super) struct RefundedLine {
    pub(super) line_item_id: u64,
    pub(super) quantity: i64,
    pub(super) restock_type: String,
    pub(super) line_item: Option<Line>,
}

#[derive(Deserialize)]
pub(super) struct Fulfillment {
    pub(super) id: u64,
    pub(super) order_id: u64,
    pub(super) created_at: String,
    pub(super) status: Option<String>,
    pub(super) line_items: Vec<Line>,
}

impl Order {
    /// What the order says: its lines, then what was taken out of them.
    ///
    /// `quantity` never falls. `current_quantity` falls with a refund, which is told by itself, and with
    /// an edit, which is not: what it lacks beyond the refunds was taken out by edits.
    pub(super) fn understood(self) -> Result<Understood, String> {
        if self.test {
            return Ok(Understood::Ignored("a test order".into()));
        }
        let version =
            time::rfc3339(&self.updated_at).map_err(|why| format!("updated_at: {why}"))?;
        json::check_lines(self.line_items.len())?;
        let mut refunded: BTreeMap<u64, i64> = BTreeMap::new();
        for line in self.refunds.iter().flatten().flat_map(|refund| &refund.lines) {
            *refunded.entry(line.line_item_id).or_default() += json::quantity(line.quantity)?;
        }
        let mut lines = Vec::new();
        for line in self.line_items.iter().filter(|line| line.stands_for_stock()) {
            let quantity = json::quantity(line.quantity)?;
            let refunds = refunded.get(&line.id).copied().unwrap_or(0);
            let edited = match (line.current_quantity, &self.refunds) {
                (Some(current), Some(_)) => (quantity - json::quantity(current)? - refunds).max(0),
                _ => 0,
            };
            lines.push(LineImage {
                id: line.id.to_string(),
                listing: line.listing(),
                sku: line.sku()?,
                quantity: quantity - edited,
                ..LineImage::default()
            });
        }
        let mut facts =
            vec![Fact::Image { order: self.id.to_string(), version, whole: true, lines }];
        for refund in self.refunds.into_iter().flatten() {
            if refund.order_id != self.id {
                let (other, this) = (refund.order_id, self.id);
                return Err(format!("a refund of order {other} stands in order {this}"));
            }
            facts.push(refund.fact()?);
        }
        for shipped in self.fulfillments {
            if shipped.order_id != self.id {
                let (other, this) = (shipped.order_id, self.id);
                return Err(format!("a fulfillment of order {other} stands in order {this}"));
            }
            facts.extend(shipped.fact()?);
        }
        Ok(Understood::Facts(facts))
    }
}

impl Line {
    fn stands_for_stock(&self) -> bool {
        !self.gift_card && self.variant_inventory_management.is_some()
    }

    fn sku(&self) -> Result<Option<String>, String> {
        json::sku(self.sku.as_deref())
    }

    fn listing(&self) -> Option<String> {
        self.variant_id.map(|id| format!("gid://shopify/ProductVariant/{id}"))
    }
}

impl Refund {
    /// What a refund took out. Its lines have ids in webhooks and none in the API, so each is named by
    /// refund, line and kind on both roads.
    pub(super) fn fact(self) -> Result<Fact, String> {
        let version =
            time::rfc3339(&self.created_at).map_err(|why| format!("created_at: {why}"))?;
        let mut lines: BTreeMap<(u64, Removal), RemovalLine> = BTreeMap::new();
        for line in self.lines {
            if line.line_item.as_ref().is_some_and(|item| !item.stands_for_stock()) {
                continue;
            }
            let quantity = json::quantity(line.quantity)?;
            let removal = match line.restock_type.to_ascii_lowercase().as_str() {
                "cancel" => Removal::Cancelled,
                // Deprecated, and still on old refunds: restocked, whether shipped or not.
                "return" | "legacy_restock" => Removal::Returned,
                "no_restock" => Removal::NoRestock,
                other => return Err(format!("restock_type {:?} is unknown", shortened(other))),
            };
            let item = line.line_item.as_ref();
            let known = lines.entry((line.line_item_id, removal)).or_insert(RemovalLine {
                id: format!("refund {}/{}/{removal:?}", self.id, line.line_item_id),
                line: line.line_item_id.to_string(),
                listing: item.and_then(Line::listing),
                sku: item.map_or(Ok(None), Line::sku)?,
                quantity: 0,
                removal,
            });
            known.quantity = json::quantity(known.quantity + quantity)?;
        }
        let lines = lines.into_values().collect();
        Ok(Fact::Removals { order: self.order_id.to_string(), version, lines })
    }
}

impl Fulfillment {
    /// What a shipment took off the shelf; nothing while it is pending, or once it failed or was called
    /// off.
    pub(super) fn fact(self) -> Result<Option<Fact>, String> {
        let shipped = self.status.as_deref().is_some_and(|s| s.eq_ignore_ascii_case("success"));
        if !shipped {
            return Ok(None);
        }
        let version =
            time::rfc3339(&self.created_at).map_err(|why| format!("created_at: {why}"))?;
        json::check_lines(self.line_items.len())?;
        let line = |line: &Line| -> Result<RemovalLine, String> {
            Ok(RemovalLine {
                id: format!("fulfillment {}/{}", self.id, line.id),
                line: line.id.to_string(),
                listing: line.listing(),
                sku: line.sku()?,
                quantity: json::quantity(line.quantity)?,
                removal: Removal::Fulfilled,
            })
        };
        let lines = self.line_items.iter().filter(|line| line.stands_for_stock()).map(line);
        let lines: Result<Vec<_>, _> = lines.collect();
        Ok(Some(Fact::Removals { order: self.order_id.to_string(), version, lines: lines? }))
    }
}
