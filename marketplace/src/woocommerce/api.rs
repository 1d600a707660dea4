//! The part of the REST API, version 3, that reads orders.

use hyper::{Method, header::HeaderValue};
use jiff::civil::DateTime;
use serde_json::{Value, json};

use super::payload::{self, SITE_OFFSET_S};
use crate::{
    clock::Millis,
    sender::{
        book::{Book, Order},
        call::{self, Answer, Call},
    },
};

const BASE: &str = "/wp-json/wc/v3/orders";
const PER_PAGE_MAX: usize = 100;

pub(super) fn answer(book: &Book, call: &Call, known: bool) -> Answer {
    let Some(rest) = call.path.strip_prefix(BASE).filter(|_| call.method == Method::GET) else {
        let message = "No route was found matching the URL and request method.";
        return error(404, "rest_no_route", message);
    };
    if !known {
        let message = "Sorry, you cannot list resources.";
        return error(401, "woocommerce_rest_cannot_view", message);
    }
    let mut parts = rest.split('/').filter(|part| !part.is_empty());
    let Some(id) = parts.next() else { return list(book, call) };
    let order = id.parse().ok().and_then(|id: u64| book.orders.get(&id));
    match (order, parts.next()) {
        (Some(order), None) => call::json(200, &payload::order(order)),
        (Some(order), Some("refunds")) => {
            let refunds = order.refunds.iter().map(|refund| payload::refund(order, refund));
            call::json(200, &refunds.collect())
        }
        _ => error(404, "woocommerce_rest_shop_order_invalid_id", "Invalid ID."),
    }
}

fn list(book: &Book, call: &Call) -> Answer {
    match select(book, call) {
        Err(message) => error(400, "rest_invalid_param", &message),
        Ok((orders, total, pages)) => {
            let body = orders.into_iter().map(payload::order).collect();
            let mut answer = call::json(200, &body);
            for (name, value) in [("x-wp-total", total), ("x-wp-totalpages", pages)] {
                answer.headers_mut().insert(name, HeaderValue::from(value));
            }
            answer
        }
    }
}

/// One page, the count of all that match, and the count of pages.
fn select<'a>(book: &'a Book, call: &Call) -> Result<(Vec<&'a Order>, usize, usize), String> {
    let per_page = call.count("per_page", 10, PER_PAGE_MAX)?;
    let page = call.count("page", 1, usize::MAX)?;
    let after = seconds(call, "modified_after")?;
    let before = seconds(call, "modified_before")?;
    let wanted = |order: &&Order| {
        let second = order.modified_ms.div_euclid(1000);
        after.is_none_or(|after| second > after)
            && before.is_none_or(|before| second < before)
            && has_status(call, payload::status(order))
    };
    let mut found: Vec<&Order> = match call.param("orderby") {
        Some("modified") => book.by_modified().filter(wanted).collect(),
        None | Some("date" | "id") => book.orders.values().filter(wanted).collect(),
        Some(_) => return Err("orderby is not one of date, id, modified".to_owned()),
    };
    // It knows seconds only: what changed in the same one is in no order but that of the ids.
    if call.param("orderby") == Some("modified") {
        found.sort_by_key(|order| (order.modified_ms.div_euclid(1000), order.id));
    }
    if call.param("order") != Some("asc") {
        found.reverse();
    }
    let total = found.len();
    let skipped = per_page.saturating_mul(page - 1);
    let page = found.into_iter().skip(skipped).take(per_page).collect();
    Ok((page, total, total.div_ceil(per_page)))
}

fn has_status(call: &Call, status: &str) -> bool {
    match call.param("status") {
        None | Some("any") => status != "trash",
        Some(wanted) => wanted.split(',').any(|wanted| wanted == status),
    }
}

/// A time among the parameters, as a Unix second. Without `dates_are_gmt` it is in the shop's time.
fn seconds(call: &Call, name: &str) -> Result<Option<Millis>, String> {
    let Some(text) = call.param(name) else { return Ok(None) };
    let wrong = || format!("Invalid date in {name}.");
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Ok(Some(instant.as_second()));
    }
    let civil: DateTime = text.parse().map_err(|_| wrong())?;
    let utc = civil.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| wrong())?;
    let gmt = matches!(call.param("dates_are_gmt"), Some("true" | "1"));
    let offset = if gmt { 0 } else { Millis::from(SITE_OFFSET_S) };
    Ok(Some(utc.timestamp().as_second() - offset))
}

pub(super) fn error(status: u16, code: &str, message: &str) -> Answer {
    let body: Value = json!({"code": code, "message": message, "data": {"status": status}});
    call::json(status, &body)
}
