//! Orders as version 3 of the REST API shows them, and JSON as PHP writes it.

use std::fmt::Write;

use jiff::{Timestamp, tz::Offset};
use serde_json::{Value, json};

use crate::{
    clock::Millis,
    sender::book::{Line, Order, Refund, Status},
};

/// The shop's own time is five hours behind UTC.
pub(super) const SITE_OFFSET_S: i32 = -5 * 3600;

/// A time without an offset, to the second: in the shop's time, or in UTC.
pub(super) fn time(at: Millis, offset_s: i32) -> String {
    let at = Timestamp::from_millisecond(at).unwrap_or_default();
    let offset = Offset::from_seconds(offset_s).unwrap_or(Offset::UTC);
    offset.to_datetime(at).strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

pub(super) fn status(order: &Order) -> &'static str {
    match order.status {
        _ if order.trashed => "trash",
        Status::Open => "processing",
        Status::Shipped => "completed",
        Status::Cancelled => "cancelled",
    }
}

pub(super) fn order(order: &Order) -> Value {
    let utc = |at| time(at, 0);
    let site = |at| time(at, SITE_OFFSET_S);
    let completed = (order.status == Status::Shipped).then(|| utc(order.modified_ms));
    let units: i64 = order.lines.iter().map(|line| line.ordered).sum();
    json!({
        "id": order.id,
        "parent_id": 0,
        "number": order.id.to_string(),
        "order_key": format!("wc_order_{}", order.id),
        "created_via": "checkout",
        "version": "11.2.0",
        "status": status(order),
        "currency": "EUR",
        "prices_include_tax": false,
        "date_created": site(order.created_ms),
        "date_created_gmt": utc(order.created_ms),
        "date_modified": site(order.modified_ms),
        "date_modified_gmt": utc(order.modified_ms),
        "date_paid_gmt": utc(order.created_ms),
        "date_completed_gmt": completed,
        "total": money(units),
        "payment_url": format!("https://shop.example/checkout/order-pay/{}/", order.id),
        "line_items": order.lines.iter().map(line).collect::<Vec<_>>(),
        "refunds": order.refunds.iter().map(|refund| json!({
            "id": refund.id, "reason": "", "total": format!("-{}", money(refund.quantity)),
        })).collect::<Vec<_>>(),
        "meta_data": [],
    })
}

fn line(line: &Line) -> Value {
    let reduced = line.ordered - line.cancelled - line.returned;
    let mut meta = vec![meta(line.id * 10, "_reduced_stock", reduced)];
    if line.restocked > 0 {
        meta.push(self::meta(line.id * 10 + 1, "_restock_refunded_items", line.restocked));
    }
    json!({
        "id": line.id,
        "name": format!("{} – schön", line.sku),
        "product_id": line.parent.unwrap_or(line.listing),
        "variation_id": if line.parent.is_some() { line.listing } else { 0 },
        "quantity": line.ordered,
        "tax_class": "",
        "subtotal": money(line.ordered),
        "total": money(line.ordered),
        "sku": line.sku,
        "price": 19.9,
        "meta_data": meta,
        "parent_name": null,
    })
}

fn meta(id: u64, key: &str, value: i64) -> Value {
    let value = value.to_string();
    json!({"id": id, "key": key, "value": value, "display_key": key, "display_value": value})
}

/// A refund with its lines, whose quantities are negative.
pub(super) fn refund(order: &Order, refund: &Refund) -> Value {
    let lines: Vec<Value> = order.lines.get(refund.line).into_iter().map(|line| json!({
        "id": refund.id * 10,
        "name": format!("{} – schön", line.sku),
        "product_id": line.parent.unwrap_or(line.listing),
        "variation_id": if line.parent.is_some() { line.listing } else { 0 },
        "quantity": -refund.quantity,
        "sku": line.sku,
        "meta_data": [{"id": refund.id * 10, "key": "_refunded_item_id", "value": line.id.to_string()}],
    })).collect();
    json!({
        "id": refund.id,
        "date_created": time(refund.at_ms, SITE_OFFSET_S),
        "date_created_gmt": time(refund.at_ms, 0),
        "amount": money(refund.quantity),
        "reason": "",
        "refunded_by": 1,
        "refunded_payment": true,
        "meta_data": [],
        "line_items": lines,
    })
}

/// All that is sold costs 19.90.
fn money(units: i64) -> String {
    let cents = units * 1990;
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// JSON as PHP's `json_encode` writes it: a slash and all that is not ASCII are escaped, so that whoever
/// writes the body again before checking its signature fails.
pub(super) fn php_json(value: &Value) -> String {
    let plain = value.to_string();
    let mut text = String::with_capacity(plain.len() + plain.len() / 8);
    for c in plain.chars() {
        match c {
            '/' => text.push_str("\\/"),
            c if c.is_ascii() => text.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a string cannot fail.
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body without PHP's escapes would verify even for a reader that writes it again.
    #[test]
    fn json_is_written_as_php_writes_it() {
        let value = json!({"a": "x/y – ü 😀 \" \\ \n"});
        let text = php_json(&value);
        assert_eq!(text, r#"{"a":"x\/y \u2013 \u00fc \ud83d\ude00 \" \\ \n"}"#);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }

    /// A shop's own time taken for UTC would shift every comparison by hours.
    #[test]
    fn times_have_no_offset() {
        assert_eq!(time(1_795_186_800_999, 0), "2026-11-20T15:00:00");
        assert_eq!(time(1_795_186_800_999, SITE_OFFSET_S), "2026-11-20T10:00:00");
    }
}
