//! What `getOrders` and `getOrder` of the Fulfillment API answer.

use serde::Deserialize;
use serde_json::Value;
use state::command::Fact;
use state::order::LineImage;

use crate::json::{self, Scalar, shortened};
use crate::poll::{Page, Told};
use crate::{Understood, time};

/// One page of `getOrders`. `next` is the path and query of the page that follows; the host that the
/// answer names for it is dropped, and a path is none that begins like one (`//host`), so that no answer can
/// send a token elsewhere.
///
/// The error says why the answer is no page of orders.
///
/// Source: eBay's `OpenAPI` document of the Fulfillment API, 1.20.
pub fn orders(body: &[u8]) -> Result<Page, String> {
    #[derive(Deserialize)]
    struct Answer {
        orders: Vec<Value>,
        next: Option<String>,
    }
    let answer: Answer = json::read(body)?;
    let next = answer.next.filter(|next| !next.is_empty());
    let next = next.map(|next| path_and_query(&next)).transpose()?;
    Ok(Page::of_orders(&answer.orders, next, said, changed_ms))
}

/// One order by its id. The error says why the answer is no order.
pub fn order(body: &[u8]) -> Result<Told, String> {
    let answer: Value = json::read(body)?;
    if answer.get("orderId").is_none() {
        return Err("unexpected shape: no order".into());
    }
    Ok(Told::order(&answer, said(&answer)))
}

fn path_and_query(url: &str) -> Result<String, String> {
    let wrong = || format!("next: {:?} is no URL", shortened(url));
    let uri: http::Uri = url.parse().map_err(|_| wrong())?;
    let next = uri.path_and_query().map(ToString::to_string);
    next.filter(|next| next.starts_with('/') && !next.starts_with("//")).ok_or_else(wrong)
}

#[derive(Deserialize)]
struct Order {
    #[serde(rename = "orderId")]
    id: Scalar,
    #[serde(rename = "lastModifiedDate")]
    modified: String,
    #[serde(rename = "orderPaymentStatus")]
    payment: Option<String>,
    #[serde(rename = "cancelStatus")]
    cancel: Option<CancelStatus>,
    #[serde(rename = "lineItems")]
    lines: Vec<Line>,
}

#[derive(Deserialize)]
struct CancelStatus {
    #[serde(rename = "cancelState")]
    state: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    #[serde(rename = "lineItemId")]
    id: Scalar,
    legacy_item_id: Option<Scalar>,
    legacy_variation_id: Option<Scalar>,
    sku: Option<String>,
    quantity: Scalar,
    #[serde(rename = "lineItemFulfillmentStatus")]
    fulfillment: Option<String>,
}

fn changed_ms(order: &Value) -> Option<u64> {
    time::rfc3339(order.get("lastModifiedDate")?.as_str()?).ok()
}

/// One whole image. An order wants nothing once it is cancelled as a whole, or once its payment failed;
/// that one was asked to be cancelled, or was paid back, moves no stock.
fn said(order: &Value) -> Result<Understood, String> {
    let order: Order = json::shaped(order)?;
    let version =
        time::rfc3339(&order.modified).map_err(|why| format!("lastModifiedDate: {why}"))?;
    json::check_lines(order.lines.len())?;
    let state = order.cancel.and_then(|cancel| cancel.state);
    let void = state.as_deref() == Some("CANCELED") || order.payment.as_deref() == Some("FAILED");
    let lines = order.lines.iter().map(|line| line.image(void));
    let lines = lines.collect::<Result<_, _>>()?;
    let order = order.id.id("orderId")?;
    Ok(Understood::Facts(vec![Fact::Image { order, version, whole: true, lines }]))
}

impl Line {
    fn image(&self, void: bool) -> Result<LineImage, String> {
        let ordered = self.quantity.units().map_err(|why| format!("quantity: {why}"))?;
        let quantity = if void { 0 } else { ordered };
        // In progress, some are shipped; how many is not said here.
        let shipped = self.fulfillment.as_deref() == Some("FULFILLED");
        Ok(LineImage {
            id: self.id.id("lineItemId")?,
            listing: self.listing()?,
            sku: json::sku(self.sku.as_deref())?,
            quantity,
            fulfilled: if shipped { quantity } else { 0 },
            returned: 0,
        })
    }

    /// The item, and which of its variations where it has some.
    fn listing(&self) -> Result<Option<String>, String> {
        let id = |id: &Option<Scalar>| -> Result<Option<String>, String> {
            let named = id.as_ref().filter(|id| !matches!(id.text().trim(), "" | "0"));
            named.map(|id| id.id("legacyItemId")).transpose()
        };
        let listing = match (id(&self.legacy_item_id)?, id(&self.legacy_variation_id)?) {
            (Some(item), Some(variation)) => Some(format!("{item}/{variation}")),
            (item, _) => item,
        };
        listing.map(|listing| json::name("a listing", &listing)).transpose()
    }
}
