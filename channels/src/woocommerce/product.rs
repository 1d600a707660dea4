//! A product or a variation as version 3 of the REST API shows it.

use serde::Deserialize;
use serde_json::Value;
use state::command::Fact;

use super::order::modified_ms;
use crate::Understood;
use crate::json::{self, Scalar};

#[derive(Deserialize)]
struct Product {
    id: u64,
    sku: Option<String>,
    date_modified_gmt: String,
    /// `true`, `false`, or `"parent"` of a variation that sells its parent's stock. An order has no such
    /// field, and under a product's topic is no product.
    manage_stock: Value,
    stock_quantity: Option<Scalar>,
}

/// Which SKU it is, and what it shows of it where it has a stock of its own. Below zero is what was sold
/// on backorder: none is shown.
pub(super) fn said(product: &Value) -> Result<Understood, String> {
    let product: Product = json::shaped(product)?;
    let version = modified_ms(&product.date_modified_gmt)?;
    let listing = product.id.to_string();
    let sku = json::sku(product.sku.as_deref())?;
    let mut facts = Vec::new();
    if let Some(sku) = sku.clone() {
        facts.push(Fact::Listed { listing: listing.clone(), sku, version });
    }
    if let (Value::Bool(true), Some(shown)) = (&product.manage_stock, &product.stock_quantity) {
        let shown = shown.whole().map_err(|why| format!("stock_quantity: {why}"))?;
        let quantity = json::quantity(shown.max(0))?;
        facts.push(Fact::Shown { listing, sku, location: None, quantity, version });
    }
    if facts.is_empty() {
        return Ok(Understood::Ignored("it names no SKU and has no stock of its own".into()));
    }
    Ok(Understood::Facts(facts))
}
