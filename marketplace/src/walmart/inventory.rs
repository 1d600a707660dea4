//! What Walmart is told of stock and shows of it, item by item.
//!
//! It keeps what it was told (`inputQty`), takes off what open orders reserve (`reservedQty`), and sells the
//! rest (`availToSellQty`). Shapes are those of its OAS document of the Inventory API.

use hyper::Method;
use serde_json::{Value, json};

use super::api::error;
use crate::{
    clock::Millis,
    sender::{
        book::Book,
        call::{self, Answer, Call, decoded},
    },
};

pub(super) const ONE: &str = "/v3/inventory";
pub(super) const ALL: &str = "/v3/inventories";
/// The only place that things are shipped from.
pub(super) const SHIP_NODE: &str = "361451354333223041";
const LIMIT: usize = 10;
const LIMIT_MAX: usize = 50;

pub(super) fn answer(book: &mut Book, call: &Call, now: Millis) -> Answer {
    if call.param("shipNode").is_some_and(|node| node != SHIP_NODE) {
        return invalid("shipNode", "invalid ship node");
    }
    let path = call.path.as_str();
    match (&call.method, path == ONE, path.strip_prefix(ALL)) {
        (&Method::PUT, true, _) => set(book, call, now),
        (&Method::GET, true, _) => {
            book.told.counts.reads += 1;
            let index = book.item_of(call.param("sku").unwrap_or_default());
            index.map_or_else(
                |_| nothing(),
                |index| call::json(200, &wire(book, index, input(book, index))),
            )
        }
        (&Method::GET, false, Some("")) => list(book, call),
        (&Method::GET, false, Some(sku)) => {
            book.told.counts.reads += 1;
            let index = book.item_of(&decoded(sku.strip_prefix('/').unwrap_or_default()));
            index.map_or_else(|_| nothing(), |index| call::json(200, &nodes(book, index)))
        }
        _ => nothing(),
    }
}

fn nothing() -> Answer {
    error(404, "CONTENT_NOT_FOUND.GMP_INVENTORY_API", "Content not found")
}

fn invalid(field: &str, text: &str) -> Answer {
    error(400, "INVALID_REQUEST_PARAM.GMP_INVENTORY_API", &format!("{field}: {text}"))
}

fn set(book: &mut Book, call: &Call, now: Millis) -> Answer {
    book.told.counts.pushes += 1;
    let sku = call.param("sku").unwrap_or_default();
    let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
    if body.get("sku").and_then(Value::as_str) != Some(sku) {
        return invalid("sku", "invalid sku");
    }
    let Ok(index) = book.item_of(sku) else { return nothing() };
    let Some(amount) = amount(&body) else { return invalid("quantity", "invalid quantity") };
    tell(book, index, amount, now);
    call::json(200, &wire(book, index, amount))
}

/// The quantity that a row names.
pub(super) fn amount(row: &Value) -> Option<i64> {
    let amount = row.pointer("/quantity/amount")?.as_i64()?;
    let each = row.pointer("/quantity/unit").and_then(Value::as_str) == Some("EACH");
    Some(amount).filter(|amount| each && *amount >= 0)
}

/// Walmart is told of so many units, of which open orders reserve some.
pub(super) fn tell(book: &mut Book, index: usize, amount: i64, now: Millis) {
    book.set(index, amount - reserved(book, index), now);
}

/// What open orders reserve.
pub(super) fn reserved(book: &Book, index: usize) -> i64 {
    book.shelf(index).map_or(0, |(_, promised)| promised)
}

fn input(book: &Book, index: usize) -> i64 {
    book.items.get(index).map_or(0, |item| item.units) + reserved(book, index)
}

fn each(amount: i64) -> Value {
    json!({"unit": "EACH", "amount": amount})
}

fn wire(book: &Book, index: usize, amount: i64) -> Value {
    json!({"sku": book.items.get(index).map(|item| &item.sku), "quantity": each(amount)})
}

fn nodes(book: &Book, index: usize) -> Value {
    let Some(item) = book.items.get(index) else { return Value::Null };
    let node = json!({
        "shipNode": SHIP_NODE,
        "inputQty": each(input(book, index)),
        "availToSellQty": each(item.units.max(0)),
        "reservedQty": each(reserved(book, index)),
    });
    json!({"sku": item.sku, "nodes": [node]})
}

/// One page of all that is sold. The cursor is another one on each page.
fn list(book: &mut Book, call: &Call) -> Answer {
    book.told.counts.reads += 1;
    let limit = match call.count("limit", LIMIT, LIMIT_MAX) {
        Ok(limit) => limit,
        Err(text) => return invalid("limit", &text),
    };
    let Ok(place) =
        call.param("nextCursor").unwrap_or("c0").trim_start_matches('c').parse::<usize>()
    else {
        return invalid("nextCursor", "invalid cursor");
    };
    let total = book.items.len();
    let page: Vec<Value> = (place..total).take(limit).map(|index| nodes(book, index)).collect();
    let next = place + page.len();
    let mut meta = json!({"totalCount": total});
    if let (Some(fields), true) = (meta.as_object_mut(), next < total) {
        fields.insert("nextCursor".to_owned(), format!("c{next}").into());
    }
    call::json(200, &json!({"meta": meta, "elements": {"inventories": page}}))
}
