//! What `GET /wp-json/wc/v3/orders` and `/orders/{id}` answer.

use serde_json::Value;

use super::{order, refuse_error};
use crate::json;
use crate::poll::{Page, Told};

/// One page of orders, as asked for with `dates_are_gmt=true&orderby=modified&order=asc&status=any`.
///
/// Which page follows only the headers say (`X-WP-TotalPages`), so `next` is never set. Orders in the
/// trash are not among `any`: that they went there is told by `order.deleted` alone.
///
/// The error says why the answer is no page of orders.
pub fn orders(body: &[u8]) -> Result<Page, String> {
    let answer: Value = json::read(body)?;
    refuse_error(&answer)?;
    let orders: Vec<Value> = match answer {
        Value::Array(orders) => orders,
        _ => return Err("unexpected shape: no list of orders".into()),
    };
    Ok(Page::of_orders(&orders, None, order::said, order::changed_ms))
}

/// One order by its id. The error says why the answer is no order.
pub fn order(body: &[u8]) -> Result<Told, String> {
    let answer: Value = json::read(body)?;
    refuse_error(&answer)?;
    if answer.get("id").is_none() {
        return Err("unexpected shape: no order".into());
    }
    Ok(Told::order(&answer, order::said(&answer)))
}
