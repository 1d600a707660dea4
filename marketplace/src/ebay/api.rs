//! Public keys, tokens, and the part of the Fulfillment API that reads orders.

use hyper::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Seller, inventory,
    token::{self, Grant, error},
};
use crate::{
    clock::{Millis, utc_time},
    sender::{
        book::{Book, Line, Order, Status},
        call::{self, Answer, Call},
        dialect::Dialect,
    },
};

const TOKEN: &str = "/identity/v1/oauth2/token";
const PUBLIC_KEY: &str = "/commerce/notification/v1/public_key/";
const ORDERS: &str = "/sell/fulfillment/v1/order";
const LIMIT_MAX: usize = 200;
const LIMIT: usize = 50;

pub(super) fn answer(seller: &mut Seller, book: &mut Book, call: &Call, now: Millis) -> Answer {
    let path = call.path.as_str();
    if call.method == Method::POST && path == TOKEN {
        return token::issue(seller, call, now);
    }
    if call.method == Method::POST && path.starts_with(inventory::BASE) {
        let refused = token::refused(seller, Grant::Seller, call, now);
        return refused.unwrap_or_else(|| inventory::answer(seller, book, call, now));
    }
    let wanted = match path {
        _ if call.method != Method::GET => return nothing(),
        path if path.starts_with(PUBLIC_KEY) => Grant::Application,
        path if path.starts_with(ORDERS) => Grant::Seller,
        _ => return nothing(),
    };
    if let Some(refused) = token::refused(seller, wanted, call, now) {
        return refused;
    }
    match wanted {
        Grant::Application => public_key(seller, path),
        Grant::Seller => orders(seller, book, call, path),
    }
}

pub(super) fn nothing() -> Answer {
    error(404, 2002, "ACCESS", "Resource not found")
}

fn public_key(seller: &Seller, path: &str) -> Answer {
    let key = path.strip_prefix(PUBLIC_KEY).and_then(|id| seller.public_key(id));
    key.map_or_else(
        || error(404, 195_003, "API_NOTIFICATION", "The specified key could not be found."),
        |key| call::json(200, &key),
    )
}

fn orders(seller: &Seller, book: &Book, call: &Call, path: &str) -> Answer {
    let rest = path.strip_prefix(ORDERS).unwrap_or_default();
    let Some(id) = rest.strip_prefix('/').filter(|id| !id.is_empty()) else {
        return if rest.is_empty() { list(seller, book, call) } else { nothing() };
    };
    // Dashes stand at fixed places, so they can be left out on the way back.
    let number = id.replace('-', "").parse().ok().and_then(|id: u64| book.orders.get(&id));
    match number.filter(|order| seller.order_name(order) == id) {
        Some(order) => call::json(200, &image(seller, order, true)),
        None => error(404, 32100, "API_FULFILLMENT", "Invalid order ID."),
    }
}

fn list(seller: &Seller, book: &Book, call: &Call) -> Answer {
    match select(seller, book, call) {
        Ok(page) => call::json(200, &page),
        Err(message) => error(400, 30700, "API_FULFILLMENT", &message),
    }
}

fn select(seller: &Seller, book: &Book, call: &Call) -> Result<Value, String> {
    let limit = call.count("limit", LIMIT, LIMIT_MAX)?;
    let offset = match call.param("offset") {
        Some(text) => text.parse().map_err(|_| "Invalid offset.".to_owned())?,
        None => 0,
    };
    let filter = call.param("filter").unwrap_or_default();
    let created = span(filter, "creationdate")?;
    let modified = span(filter, "lastmodifieddate")?;
    let wanted = |order: &&Order| match (created, modified) {
        // With both, only the time of creation counts.
        (Some(span), _) => within(span, order.created_ms),
        (None, Some(span)) => within(span, order.modified_ms),
        (None, None) => true,
    };
    let found: Vec<&Order> = book.by_modified().filter(wanted).collect();
    let total = found.len();
    let page: Vec<Value> = found
        .into_iter()
        .skip(offset)
        .take(limit)
        .map(|order| image(seller, order, false))
        .collect();
    let after = offset.saturating_add(page.len());
    let link = |offset: usize| {
        let filter = filter.replace('[', "%5B").replace(']', "%5D").replace(',', "%2C");
        let filter = if filter.is_empty() { filter } else { format!("filter={filter}&") };
        format!("{}{ORDERS}?{filter}limit={limit}&offset={offset}", call.origin)
    };
    let mut answer = json!({
        "href": link(offset), "total": total, "limit": limit, "offset": offset, "orders": page,
    });
    if after < total
        && let Some(fields) = answer.as_object_mut()
    {
        fields.insert("next".to_owned(), Value::from(link(after)));
    }
    Ok(answer)
}

type Span = (Millis, Option<Millis>);

fn within((from, to): Span, at: Millis) -> bool {
    at >= from && to.is_none_or(|to| at <= to)
}

/// `name:[from..to]`, where `to` can be left out.
fn span(filter: &str, name: &str) -> Result<Option<Span>, String> {
    let wrong = || format!("Invalid filter {filter}");
    let Some((_, rest)) = filter.split_once(&format!("{name}:[")) else { return Ok(None) };
    let (inside, _) = rest.split_once(']').ok_or_else(wrong)?;
    let (from, to) = inside.split_once("..").ok_or_else(wrong)?;
    let time = |text: &str| {
        let at: Timestamp = text.parse().map_err(|_| wrong())?;
        Ok::<_, String>(at.as_millisecond())
    };
    let to = if to.is_empty() { None } else { Some(time(to)?) };
    Ok(Some((time(from)?, to)))
}

/// An order as the API shows it: `getOrders` leaves the requests to cancel out, whatever happened.
fn image(seller: &Seller, order: &Order, alone: bool) -> Value {
    let shipped = match order.status {
        Status::Shipped => "FULFILLED",
        _ => "NOT_STARTED",
    };
    let cancelled = order.status == Status::Cancelled;
    let request =
        || json!({"cancelReason": "BUYER_ASKED_CANCEL", "cancelRequestState": "COMPLETED"});
    let requests: Vec<Value> = (cancelled && alone).then(request).into_iter().collect();
    let line = |line: &Line| {
        json!({
            "lineItemId": line.id.to_string(),
            "legacyItemId": line.listing.to_string(),
            "legacyVariationId": null,
            "sku": line.sku,
            "title": format!("{} of a seller", line.sku),
            "quantity": line.ordered,
            "lineItemFulfillmentStatus": shipped,
        })
    };
    json!({
        "orderId": seller.order_name(order),
        "creationDate": utc_time(order.created_ms),
        "lastModifiedDate": utc_time(order.modified_ms),
        "orderFulfillmentStatus": shipped,
        "orderPaymentStatus": if cancelled { "FULLY_REFUNDED" } else { "PAID" },
        "cancelStatus": {
            "cancelState": if cancelled { "CANCELED" } else { "NONE_REQUESTED" },
            "cancelRequests": requests,
        },
        "lineItems": order.lines.iter().map(line).collect::<Vec<_>>(),
    })
}
