//! Tokens, and the part of the Orders API that reads.

use hyper::{Method, header::HeaderValue};
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde_json::{Value, json};

use super::{DAY_MS, ORDER_BASE, Seller, customer_order, feed::FEEDS, inventory, parts};
use crate::{
    clock::Millis,
    sender::{
        book::{Book, Line, Order},
        call::{self, Answer, Call},
        dialect::Dialect,
    },
};

const TOKEN: &str = "/v3/token";
const ORDERS: &str = "/v3/orders";
const LIMIT_MAX: usize = 200;
const LIMIT: usize = 100;
/// Unless said otherwise, only orders of the last week are listed.
const CREATED_SINCE: Millis = 7 * DAY_MS;

pub(super) fn answer(seller: &mut Seller, book: &mut Book, call: &Call, now: Millis) -> Answer {
    seller.feeds.work(book, now);
    let path = call.path.as_str();
    if call.method == Method::POST && path == TOKEN {
        return token(seller, call, now);
    }
    let token = call.header("wm_sec.access_token");
    if token.and_then(|token| seller.tokens.grant(token, now)).is_none() {
        return error(401, "UNAUTHORIZED.GMP_GATEWAY_API", "Unauthorized");
    }
    if call.header("wm_qos.correlation_id").is_none() || call.header("wm_svc.name").is_none() {
        let text = "WM_QOS.CORRELATION_ID and WM_SVC.NAME set null or not present.";
        return error(400, "INVALID_REQUEST_HEADER.GMP_GATEWAY_API", text);
    }
    if path.starts_with(FEEDS) {
        return seller.feeds.answer(book, call, now);
    }
    if path == inventory::ONE || path.starts_with(inventory::ALL) {
        return inventory::answer(book, call, now);
    }
    let rest = path.strip_prefix(ORDERS).filter(|_| call.method == Method::GET);
    match rest.map(|rest| rest.strip_prefix('/').unwrap_or(rest)) {
        Some("") => match list(seller, book, call, now) {
            Ok(page) => call::json(200, &page),
            Err(text) => error(400, "INVALID_REQUEST_PARAM.GMP_ORDER_API", &text),
        },
        Some(id) => {
            let number = id.parse().ok().and_then(|id: u64| id.checked_sub(ORDER_BASE));
            let order = number.and_then(|id| book.orders.get(&id));
            order.map_or_else(nothing, |order| {
                call::json(200, &json!({"order": image(seller, order)}))
            })
        }
        None => nothing(),
    }
}

fn nothing() -> Answer {
    error(404, "CONTENT_NOT_FOUND.GMP_ORDER_API", "Content not found")
}

fn token(seller: &mut Seller, call: &Call, now: Millis) -> Answer {
    let client = (seller.options.api_id.clone(), seller.options.api_secret.clone());
    if call.basic() != Some(client) {
        return error(401, "INVALID_CLIENT.GMP_GATEWAY_API", "Invalid client");
    }
    if call.form("grant_type").as_deref() != Some("client_credentials") {
        return error(400, "INVALID_REQUEST.GMP_GATEWAY_API", "grant_type is not supported");
    }
    let (token, seconds) = seller.tokens.issue((), now);
    let body = json!({"access_token": token, "token_type": "Bearer", "expires_in": seconds});
    call::json(200, &body)
}

/// One page. The cursor of the next one is a whole query, and carries the filters on.
fn list(seller: &Seller, book: &Book, call: &Call, now: Millis) -> Result<Value, String> {
    let limit = call.count("limit", LIMIT, LIMIT_MAX)?;
    let created = time(call, "createdStartDate")?.unwrap_or(now - CREATED_SINCE);
    let created_end = time(call, "createdEndDate")?;
    let modified = time(call, "lastModifiedStartDate")?;
    let modified_end = time(call, "lastModifiedEndDate")?;
    let place = call.param("soIndex").unwrap_or("0");
    let place: usize = place.parse().map_err(|_| "Invalid cursor".to_owned())?;
    let found: Vec<&Order> = book
        .by_modified()
        .filter(|order| order.created_ms >= created)
        .filter(|order| created_end.is_none_or(|end| order.created_ms <= end))
        .filter(|order| modified.is_none_or(|start| order.modified_ms >= start))
        .filter(|order| modified_end.is_none_or(|end| order.modified_ms <= end))
        .collect();
    let total = found.len();
    let page = found.into_iter().skip(place).take(limit);
    let page: Vec<Value> = page.map(|order| image(seller, order)).collect();
    let next = place.saturating_add(page.len());
    let mut meta = json!({"totalCount": total, "limit": limit});
    if next < total
        && let Some(fields) = meta.as_object_mut()
    {
        let created = crate::clock::utc_time(created);
        let mut cursor = format!(
            "?limit={limit}&hasMoreElements=true&soIndex={next}&createdStartDate={created}"
        );
        for name in ["createdEndDate", "lastModifiedStartDate", "lastModifiedEndDate"] {
            if let Some(value) = call.param(name) {
                cursor.extend(["&", name, "=", value]);
            }
        }
        fields.insert("nextCursor".to_owned(), Value::from(cursor));
    }
    Ok(json!({"list": {"meta": meta, "elements": {"order": page}}}))
}

/// A time among the parameters: a date, or RFC 3339.
fn time(call: &Call, name: &str) -> Result<Option<Millis>, String> {
    let Some(text) = call.param(name) else { return Ok(None) };
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(Some(at.as_millisecond()));
    }
    let date: Date = text.parse().map_err(|_| format!("{name} is no date"))?;
    let midnight = date.to_zoned(TimeZone::UTC).map_err(|error| error.to_string())?;
    Ok(Some(midnight.timestamp().as_millisecond()))
}

/// An order as the API shows it: unlike events, in milliseconds and with other names.
fn image(seller: &Seller, order: &Order) -> Value {
    let lines: Vec<Value> = order
        .lines
        .iter()
        .enumerate()
        .map(|(index, line)| line_image(order, index, line))
        .collect();
    json!({
        "purchaseOrderId": seller.order_name(order),
        "customerOrderId": customer_order(order),
        "orderType": "REGULAR",
        "orderDate": order.created_ms,
        "orderLines": {"orderLine": lines},
    })
}

fn line_image(order: &Order, index: usize, line: &Line) -> Value {
    let each = |units: i64| json!({"unitOfMeasurement": "EACH", "amount": units.to_string()});
    let parts = parts(order.status, line).into_iter().filter(|(_, units)| *units > 0);
    let statuses: Vec<Value> = parts
        .map(|(status, units)| json!({"status": status, "statusQuantity": each(units)}))
        .collect();
    json!({
        "lineNumber": (index + 1).to_string(),
        "item": {"productName": format!("{} of a seller", line.sku), "sku": line.sku},
        "orderLineQuantity": each(line.ordered),
        "statusDate": order.modified_ms,
        "orderLineStatuses": {"orderLineStatus": statuses},
    })
}

/// Too many calls: when there will be a token again is said in milliseconds of the epoch.
pub(super) fn throttled(retry_after: u32, now: Millis) -> Answer {
    let mut answer = error(429, "REQUEST_THRESHOLD_VIOLATED.GMP_GATEWAY_API", "Too many requests");
    let at = now.saturating_add(Millis::from(retry_after) * 1000);
    let headers = answer.headers_mut();
    headers.insert("x-current-token-count", HeaderValue::from(0));
    headers.insert("x-next-replenish-time", HeaderValue::from(at));
    answer
}

pub(super) fn error(status: u16, code: &str, text: &str) -> Answer {
    let category = match status {
        401 | 429 => "GATEWAY",
        500.. => "SYSTEM",
        _ => "DATA",
    };
    let error = json!({
        "code": code, "description": text, "info": text, "severity": "ERROR",
        "category": category, "causes": [], "errorIdentifiers": {},
    });
    call::json(status, &json!({"errors": [error]}))
}
