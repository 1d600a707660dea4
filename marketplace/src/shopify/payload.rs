//! Webhook bodies: the REST shape of orders, refunds, shipments, edits and levels.
//!
//! Ids are 64-bit integers above 2^53 (a reader that goes through a float loses them), money is a
//! decimal string, times carry the shop's offset.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use crate::options::Item;

/// Where refunded units go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Restock {
    /// Not shipped and not wanted any more: they are for sale again.
    Cancel,
    /// Shipped and sent back: they are for sale again.
    Return,
    /// They are gone: no stock moves.
    NoRestock,
}

impl Restock {
    /// True if the units are for sale again.
    #[must_use]
    pub fn puts_back(self) -> bool {
        !matches!(self, Self::NoRestock)
    }
}

/// The body of `orders/create` and its like: the whole order as it is now.
#[derive(Clone, Debug, Serialize)]
pub struct Order {
    /// The order.
    pub id: u64,
    /// The same, as the Admin API spells it.
    pub admin_graphql_api_id: String,
    /// The number that the customer sees, with its `#`.
    pub name: String,
    /// The same as a number.
    pub order_number: u64,
    /// When the customer bought.
    pub created_at: String,
    /// When anything in it last changed.
    pub updated_at: String,
    /// When it was cancelled.
    pub cancelled_at: Option<String>,
    /// Why it was cancelled.
    pub cancel_reason: Option<&'static str>,
    /// When it was closed; never, here.
    pub closed_at: Option<String>,
    /// True for a placed order.
    pub confirmed: bool,
    /// True for a test order; never, here.
    pub test: bool,
    /// The money it was paid in.
    pub currency: &'static str,
    /// `paid`, `partially_refunded` or `refunded`.
    pub financial_status: &'static str,
    /// Null, `partial` or `fulfilled`.
    pub fulfillment_status: Option<&'static str>,
    /// Null for an order of the web shop.
    pub location_id: Option<u64>,
    /// The way it was bought.
    pub source_name: &'static str,
    /// What was bought.
    pub line_items: Vec<LineItem>,
    /// What was shipped so far.
    pub fulfillments: Vec<Fulfillment>,
    /// What was refunded so far.
    pub refunds: Vec<Refund>,
}

impl Order {
    /// A paid order of the web shop.
    #[must_use]
    pub fn new(id: u64, number: u64, created_at: String, line_items: Vec<LineItem>) -> Self {
        Self {
            id,
            admin_graphql_api_id: gid("Order", id),
            name: format!("#{number}"),
            order_number: number,
            updated_at: created_at.clone(),
            created_at,
            cancelled_at: None,
            cancel_reason: None,
            closed_at: None,
            confirmed: true,
            test: false,
            currency: "USD",
            financial_status: "paid",
            fulfillment_status: None,
            location_id: None,
            source_name: "web",
            line_items,
            fulfillments: Vec::new(),
            refunds: Vec::new(),
        }
    }

    /// The bytes that are signed and sent.
    #[must_use]
    pub fn body(&self) -> Bytes {
        bytes(self)
    }
}

/// One line of an order.
#[derive(Clone, Debug, Serialize)]
pub struct LineItem {
    /// The line.
    pub id: u64,
    /// The same, as the Admin API spells it.
    pub admin_graphql_api_id: String,
    /// The product that the variant belongs to.
    pub product_id: u64,
    /// The variant that was bought.
    pub variant_id: u64,
    /// The seller's own name for it.
    pub sku: String,
    /// What the customer reads.
    pub title: String,
    /// What the customer reads after that.
    pub variant_title: Option<String>,
    /// How many were bought; never changes. Within a shipment, how many it holds.
    pub quantity: u32,
    /// How many are left after refunds and edits.
    pub current_quantity: u32,
    /// How many are still to be shipped.
    pub fulfillable_quantity: u32,
    /// Null, `partial` or `fulfilled`.
    pub fulfillment_status: Option<&'static str>,
    /// Who ships.
    pub fulfillment_service: &'static str,
    /// Who counts.
    pub variant_inventory_management: &'static str,
    /// True for goods.
    pub requires_shipping: bool,
    /// True for a gift card; never, here.
    pub gift_card: bool,
    /// What one costs.
    pub price: String,
}

impl LineItem {
    /// A line of `quantity` units, none of them refunded.
    #[must_use]
    pub fn new(id: u64, item: &Item, quantity: u32) -> Self {
        let cents = price_cents(item.variant_id);
        Self {
            id,
            admin_graphql_api_id: gid("LineItem", id),
            product_id: item.variant_id >> 1,
            variant_id: item.variant_id,
            sku: item.sku.clone(),
            title: item.sku.clone(),
            variant_title: None,
            quantity,
            current_quantity: quantity,
            fulfillable_quantity: quantity,
            fulfillment_status: None,
            fulfillment_service: "manual",
            variant_inventory_management: "shopify",
            requires_shipping: true,
            gift_card: false,
            price: format!("{}.{:02}", cents / 100, cents % 100),
        }
    }
}

/// The body of `refunds/create`, and an entry of an order's `refunds`.
#[derive(Clone, Debug, Serialize)]
pub struct Refund {
    /// The refund.
    pub id: u64,
    /// The same, as the Admin API spells it.
    pub admin_graphql_api_id: String,
    /// The order it belongs to.
    pub order_id: u64,
    /// When it was made.
    pub created_at: String,
    /// When the money went back.
    pub processed_at: String,
    /// What the merchant wrote; nothing, here.
    pub note: Option<String>,
    /// Who made it; nobody, here.
    pub user_id: Option<u64>,
    /// True if any line of it puts units back.
    pub restock: bool,
    /// What was refunded.
    pub refund_line_items: Vec<RefundLine>,
    /// Payments; none, here.
    pub transactions: Vec<()>,
    /// Roundings; none, here.
    pub order_adjustments: Vec<()>,
}

impl Refund {
    /// A refund of these lines.
    #[must_use]
    pub fn new(id: u64, order_id: u64, created_at: String, lines: Vec<RefundLine>) -> Self {
        Self {
            id,
            admin_graphql_api_id: gid("Refund", id),
            order_id,
            processed_at: created_at.clone(),
            created_at,
            note: None,
            user_id: None,
            restock: lines.iter().any(|line| line.restock_type.puts_back()),
            refund_line_items: lines,
            transactions: Vec::new(),
            order_adjustments: Vec::new(),
        }
    }

    /// The bytes that are signed and sent.
    #[must_use]
    pub fn body(&self) -> Bytes {
        bytes(self)
    }
}

/// One line of a refund.
#[derive(Clone, Debug, Serialize)]
pub struct RefundLine {
    /// The refund line.
    pub id: u64,
    /// The order line.
    pub line_item_id: u64,
    /// Where the units go back to; null if they do not.
    pub location_id: Option<u64>,
    /// How many were refunded.
    pub quantity: u32,
    /// Where they go.
    pub restock_type: Restock,
    /// What they cost.
    pub subtotal: f64,
    /// The tax on that; none, here.
    pub total_tax: f64,
    /// The order line as it is after the refund.
    pub line_item: LineItem,
}

impl RefundLine {
    /// A refund of `quantity` units of `line_item`, which must already show what is left after it.
    #[must_use]
    pub fn new(
        id: u64,
        line_item: LineItem,
        quantity: u32,
        restock_type: Restock,
        location_id: u64,
    ) -> Self {
        let cents = quantity.saturating_mul(price_cents(line_item.variant_id));
        Self {
            id,
            line_item_id: line_item.id,
            location_id: restock_type.puts_back().then_some(location_id),
            quantity,
            restock_type,
            subtotal: f64::from(cents) / 100.0,
            total_tax: 0.0,
            line_item,
        }
    }
}

/// The body of `fulfillments/create`, and an entry of an order's `fulfillments`.
#[derive(Clone, Debug, Serialize)]
pub struct Fulfillment {
    /// The shipment.
    pub id: u64,
    /// The same, as the Admin API spells it.
    pub admin_graphql_api_id: String,
    /// The order it belongs to.
    pub order_id: u64,
    /// Its number within the order: `#1001.1`.
    pub name: String,
    /// `success`: it has left.
    pub status: &'static str,
    /// When it left.
    pub created_at: String,
    /// When anything in it last changed.
    pub updated_at: String,
    /// Where it left from.
    pub location_id: u64,
    /// Who ships.
    pub service: &'static str,
    /// What the carrier says of it; nothing, here.
    pub shipment_status: Option<&'static str>,
    /// The carrier; nobody, here.
    pub tracking_company: Option<String>,
    /// What was shipped: each line's `quantity` is what this shipment holds of it.
    pub line_items: Vec<LineItem>,
}

impl Fulfillment {
    /// A shipment of these lines.
    #[must_use]
    pub fn new(
        id: u64,
        order_id: u64,
        name: String,
        created_at: String,
        location_id: u64,
        line_items: Vec<LineItem>,
    ) -> Self {
        Self {
            id,
            admin_graphql_api_id: gid("Fulfillment", id),
            order_id,
            name,
            status: "success",
            updated_at: created_at.clone(),
            created_at,
            location_id,
            service: "manual",
            shipment_status: None,
            tracking_company: None,
            line_items,
        }
    }

    /// The bytes that are signed and sent.
    #[must_use]
    pub fn body(&self) -> Bytes {
        bytes(self)
    }
}

/// What a merchant changed in the lines of an order.
#[derive(Clone, Debug)]
pub struct Edit {
    /// The edit.
    pub id: u64,
    /// The order.
    pub order_id: u64,
    /// When it was begun and committed.
    pub committed_at: String,
    /// Lines that were added, each with its units.
    pub additions: Vec<(u64, u32)>,
    /// Lines that units were taken out of, each with those units.
    pub removals: Vec<(u64, u32)>,
}

impl Edit {
    /// The bytes that are signed and sent for `orders/edited`. They name no SKU.
    #[must_use]
    pub fn body(&self) -> Bytes {
        let deltas = |lines: &[(u64, u32)]| -> Value {
            lines.iter().map(|(id, delta)| json!({"id": id, "delta": delta})).collect()
        };
        bytes(&json!({"order_edit": {
            "id": self.id,
            "app_id": null,
            "created_at": self.committed_at,
            "committed_at": self.committed_at,
            "notify_customer": false,
            "order_id": self.order_id,
            "staff_note": "",
            "user_id": null,
            "line_items": {
                "additions": deltas(&self.additions),
                "removals": deltas(&self.removals),
            },
            "discounts": {"line_item": {"additions": [], "removals": []}},
            "shipping_lines": {"additions": [], "removals": []},
        }}))
    }
}

/// The body of `inventory_levels/update`.
#[derive(Clone, Debug, Serialize)]
pub struct InventoryLevel {
    /// The stock-keeping record.
    pub inventory_item_id: u64,
    /// Where.
    pub location_id: u64,
    /// What is shown of it there now.
    pub available: i64,
    /// When that changed.
    pub updated_at: String,
    /// The level, as the Admin API spells it.
    pub admin_graphql_api_id: String,
}

impl InventoryLevel {
    /// What one item shows at one location.
    #[must_use]
    pub fn new(item: &Item, location_id: u64, updated_at: String) -> Self {
        let inventory_item_id = item.inventory_item_id;
        Self {
            inventory_item_id,
            location_id,
            available: item.available,
            updated_at,
            admin_graphql_api_id: level_gid(inventory_item_id, location_id),
        }
    }

    /// The bytes that are signed and sent.
    #[must_use]
    pub fn body(&self) -> Bytes {
        bytes(self)
    }
}

/// The Admin API's spelling of a level, which has no number of its own.
#[must_use]
pub fn level_gid(inventory_item_id: u64, location_id: u64) -> String {
    format!("{}?inventory_item_id={inventory_item_id}", gid("InventoryLevel", location_id))
}

/// The Admin API's spelling of an id.
#[must_use]
pub fn gid(kind: &str, id: u64) -> String {
    format!("gid://shopify/{kind}/{id}")
}

/// The id within the Admin API's spelling of it, if it is of this kind.
#[must_use]
pub fn parse_gid(kind: &str, text: &str) -> Option<u64> {
    let id = text.strip_prefix("gid://shopify/")?.strip_prefix(kind)?.strip_prefix('/')?;
    id.bytes().all(|byte| byte.is_ascii_digit()).then(|| id.parse().ok()).flatten()
}

/// A price between 5.00 and 54.99 that depends on the variant only.
fn price_cents(variant_id: u64) -> u32 {
    500 + u32::try_from(variant_id % 5000).unwrap_or(0)
}

/// These types hold neither maps with odd keys nor failing parts, so they always serialize.
fn bytes<T: Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value).map(Bytes::from).unwrap_or_default()
}
