//! An order as Shopify shows it, whichever way it was heard, and the facts that it states.

use std::collections::BTreeMap;

use state::command::Fact;
use state::order::{LineImage, Removal, RemovalLine};

use super::gid;
use crate::json;

/// An order.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) id: u64,
    /// When it last changed, in milliseconds.
    pub(super) version: u64,
    pub(super) lines: Vec<Line>,
    /// `None` where the payload leaves them out: then nothing can be said about edits.
    pub(super) refunds: Option<Vec<Refund>>,
    pub(super) fulfillments: Vec<Fulfillment>,
}

/// What a line is of.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// The line's id.
    pub(super) line: u64,
    pub(super) variant: Option<u64>,
    /// Of what is tracked alone, and checked: refunds and shipments copy it.
    pub(super) sku: Option<String>,
    /// Whether Shopify keeps stock of it.
    pub(super) tracked: bool,
}

/// A line.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) item: Item,
    pub(super) quantity: i64,
    /// What refunds and edits have left of it.
    pub(super) current: Option<i64>,
}

/// A refund.
#[derive(Debug)]
pub(super) struct Refund {
    pub(super) id: u64,
    pub(super) version: u64,
    pub(super) lines: Vec<(Item, i64, Removal)>,
}

/// A shipment.
#[derive(Debug)]
pub(super) struct Fulfillment {
    pub(super) id: u64,
    pub(super) version: u64,
    pub(super) shipped: bool,
    pub(super) lines: Vec<(Item, i64)>,
}

impl Order {
    /// The image first, then what was taken out of it, oldest first.
    pub(super) fn facts(mut self) -> Result<Vec<Fact>, String> {
        json::check_lines(self.lines.len())?;
        let mut refunded = BTreeMap::<u64, i64>::new();
        for (item, quantity, _) in self.refunds.iter().flatten().flat_map(|refund| &refund.lines) {
            let sum = refunded.entry(item.line).or_default();
            *sum = sum.saturating_add(json::quantity(*quantity)?);
        }
        let mut lines = Vec::new();
        for line in self.lines.iter().filter(|line| line.item.tracked) {
            let refunded = refunded.get(&line.item.line).copied().unwrap_or_default();
            lines.push(LineImage {
                id: line.item.line.to_string(),
                listing: line.item.listing(),
                sku: line.item.sku.clone(),
                quantity: line.wanted(self.refunds.as_ref().map(|_| refunded))?,
                ..LineImage::default()
            });
        }
        let whole = lines.len() == self.lines.len();
        let order = self.id.to_string();
        let mut facts = vec![Fact::Image { order, version: self.version, whole, lines }];
        let mut refunds = self.refunds.take().unwrap_or_default();
        refunds.sort_by_key(|refund| refund.id);
        for refund in refunds {
            facts.extend(refund.fact(self.id)?);
        }
        self.fulfillments.sort_by_key(|fulfillment| fulfillment.id);
        for fulfillment in self.fulfillments {
            facts.extend(fulfillment.fact(self.id)?);
        }
        Ok(facts)
    }
}

impl Item {
    /// A line of which nothing but its id is known.
    pub(super) const fn unknown(line: u64) -> Self {
        Self { line, variant: None, sku: None, tracked: true }
    }

    fn listing(&self) -> Option<String> {
        self.variant.map(|variant| gid("ProductVariant", variant))
    }

    fn removal(&self, id: String, quantity: i64, removal: Removal) -> Result<RemovalLine, String> {
        Ok(RemovalLine {
            id,
            line: self.line.to_string(),
            listing: self.listing(),
            sku: self.sku.clone(),
            quantity: json::quantity(quantity)?,
            removal,
        })
    }
}

impl Line {
    /// Units ordered less those that an edit took out: what is missing from the current quantity and no
    /// refund explains.
    fn wanted(&self, refunded: Option<i64>) -> Result<i64, String> {
        let quantity = json::quantity(self.quantity)?;
        let (Some(current), Some(refunded)) = (self.current, refunded) else {
            return Ok(quantity);
        };
        let missing = quantity - json::quantity(current)?;
        Ok(quantity - missing.saturating_sub(refunded).max(0))
    }
}

impl Refund {
    /// What it takes out of the order; `None` where it gives back nothing but money.
    pub(super) fn fact(self, order: u64) -> Result<Option<Fact>, String> {
        json::check_lines(self.lines.len())?;
        let mut lines = BTreeMap::<(u64, Removal), (Item, i64)>::new();
        for (item, quantity, removal) in self.lines.into_iter().filter(|(item, ..)| item.tracked) {
            let (_, sum) = lines.entry((item.line, removal)).or_insert((item, 0));
            *sum = sum.saturating_add(json::quantity(quantity)?);
        }
        let lines = lines.into_iter().map(|((line, removal), (item, quantity))| {
            let becomes = match removal {
                Removal::Cancelled => "cancel",
                Removal::Returned => "return",
                Removal::NoRestock | Removal::Fulfilled => "no_restock",
            };
            item.removal(format!("refund {}/{line}/{becomes}", self.id), quantity, removal)
        });
        removals(order, self.version, lines.collect::<Result<_, _>>()?)
    }
}

impl Fulfillment {
    /// What it ships; `None` unless it certainly was shipped.
    pub(super) fn fact(self, order: u64) -> Result<Option<Fact>, String> {
        json::check_lines(self.lines.len())?;
        let mut lines = BTreeMap::<u64, (Item, i64)>::new();
        for (item, quantity) in self.lines.into_iter().filter(|(item, _)| item.tracked) {
            let (_, sum) = lines.entry(item.line).or_insert((item, 0));
            *sum = sum.saturating_add(json::quantity(quantity)?);
        }
        let lines = lines.into_iter().map(|(line, (item, quantity))| {
            item.removal(format!("fulfillment {}/{line}", self.id), quantity, Removal::Fulfilled)
        });
        let lines = lines.collect::<Result<_, _>>()?;
        if self.shipped { removals(order, self.version, lines) } else { Ok(None) }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the last step of two functions that can fail")]
fn removals(order: u64, version: u64, lines: Vec<RemovalLine>) -> Result<Option<Fact>, String> {
    let order = order.to_string();
    Ok((!lines.is_empty()).then_some(Fact::Removals { order, version, lines }))
}

/// What becomes of refunded units, as REST (`cancel`) and GraphQL (`CANCEL`) spell it.
pub(super) fn removal(restock_type: &str) -> Result<Removal, String> {
    match restock_type.to_ascii_lowercase().as_str() {
        "cancel" => Ok(Removal::Cancelled),
        // Deprecated, and still on old refunds: restocked, whether shipped or not.
        "return" | "legacy_restock" => Ok(Removal::Returned),
        "no_restock" => Ok(Removal::NoRestock),
        _ => Err(format!("restock_type {:?} is unknown", json::shortened(restock_type))),
    }
}

/// Whether a shipment of this status has left. The deprecated `open` and `pending` have not.
pub(super) fn shipped(status: &str) -> Result<bool, String> {
    match status.to_ascii_lowercase().as_str() {
        "success" => Ok(true),
        "cancelled" | "error" | "failure" | "open" | "pending" => Ok(false),
        _ => Err(format!("the fulfillment status {:?} is unknown", json::shortened(status))),
    }
}
