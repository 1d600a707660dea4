//! What `searchOrders` and `getOrder` of the Orders API 2026-01-01 answer, asked with [`INCLUDED_DATA`].

use serde::Deserialize;
use serde_json::Value;
use state::command::Fact;
use state::order::LineImage;

use super::{counts, is_cancelled};
use crate::json::{self, Scalar, shaped};
use crate::poll::{Page, Told};
use crate::{Understood, time};

/// What `includedData` must ask for: without the first an answer does not say who ships an order, nor that
/// it was cancelled; without the second, that an item of it was.
pub const INCLUDED_DATA: &str = "FULFILLMENT,CANCELLATION";

/// One page of orders; `next` is its pagination token. The error says why it is none.
pub fn orders(body: &[u8]) -> Result<Page, String> {
    #[derive(Deserialize)]
    struct Answer {
        orders: Vec<Value>,
        pagination: Option<Pagination>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Pagination {
        next_token: Option<String>,
    }
    let Answer { orders, pagination } = json::read(body)?;
    let next = pagination.and_then(|pagination| pagination.next_token);
    let next = next.filter(|next| !next.is_empty());
    Ok(Page::of_orders(&orders, next, said, changed_ms))
}

/// One order by its id. The error says why the answer is no order.
pub fn order(body: &[u8]) -> Result<Told, String> {
    Told::wrapped_order(body, said)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Order {
    #[serde(rename = "orderId")]
    id: Scalar,
    last_updated_time: String,
    fulfillment: Option<OrderFulfillment>,
    #[serde(rename = "orderItems")]
    items: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OrderFulfillment {
    fulfillment_status: String,
    fulfilled_by: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    order_item_id: Scalar,
    quantity_ordered: Scalar,
    product: Option<Product>,
    fulfillment: Option<ItemFulfillment>,
    cancellation: Option<Cancellation>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cancellation {
    /// Beside it there may be a `cancellationRequest`, which is no more than that.
    cancellation_execution: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Product {
    seller_sku: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ItemFulfillment {
    quantity_fulfilled: Option<Scalar>,
    quantity_unfulfilled: Option<Scalar>,
}

impl Item {
    fn image(&self, cancelled: bool) -> Result<LineImage, String> {
        let units = |count: &Option<Scalar>| count.as_ref().map(Scalar::units).transpose();
        let shipping = self.fulfillment.as_ref();
        let fulfilled = shipping.map_or(Ok(None), |known| units(&known.quantity_fulfilled))?;
        let unfulfilled = shipping.map_or(Ok(None), |known| units(&known.quantity_unfulfilled))?;
        let mut ordered = self.quantity_ordered.units()?;
        let executed = |known: &Cancellation| known.cancellation_execution.is_some();
        // Of an item that was cancelled alone, in whole or in part, what is neither shipped nor still to be
        // shipped is wanted no more. Where that is not told the units are held: those held for nothing can
        // be freed later, those sold twice cannot.
        if self.cancellation.as_ref().is_some_and(executed)
            && let (Some(fulfilled), Some(unfulfilled)) = (fulfilled, unfulfilled)
        {
            ordered = ordered.min(fulfilled + unfulfilled);
        }
        let (quantity, fulfilled) = counts(ordered, fulfilled.unwrap_or(0), cancelled);
        let sku = self.product.as_ref().and_then(|product| product.seller_sku.as_deref());
        Ok(LineImage {
            id: self.order_item_id.id("an orderItemId")?,
            listing: None,
            sku: json::sku(sku)?,
            quantity,
            fulfilled,
            returned: 0,
        })
    }
}

fn changed_ms(order: &Value) -> Option<u64> {
    time::rfc3339(order.get("lastUpdatedTime")?.as_str()?).ok()
}

fn said(order: &Value) -> Result<Understood, String> {
    let order: Order = shaped(order)?;
    let version =
        time::rfc3339(&order.last_updated_time).map_err(|why| format!("lastUpdatedTime: {why}"))?;
    let fulfillment = order.fulfillment.ok_or("asked without includedData=FULFILLMENT")?;
    if fulfillment.fulfilled_by.as_deref() == Some("AMAZON") {
        return Ok(Understood::Ignored("Amazon ships it from its own stock".into()));
    }
    json::check_lines(order.items.len())?;
    let cancelled = is_cancelled(&fulfillment.fulfillment_status);
    let lines = order.items.iter().map(|item| item.image(cancelled));
    let lines = lines.collect::<Result<_, _>>()?;
    let order = order.id.id("an orderId")?;
    Ok(Understood::Facts(vec![Fact::Image { order, version, whole: false, lines }]))
}
