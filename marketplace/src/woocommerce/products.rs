//! The part of the REST API that reads and sets what is shown: products, and the variations of one.

use hyper::Method;
use serde_json::{Value, json};

use super::{Shop, api::error};
use crate::{
    clock::Millis,
    sender::{
        book::Book,
        call::{self, Answer, Call},
    },
};

const BASE: &str = "/wp-json/wc/v3/products";
const PER_PAGE_MAX: usize = 100;
/// What is created, updated and deleted in one call, taken together.
const BATCH_MAX: usize = 100;

/// Whether a call is about products.
pub(super) fn are_asked(call: &Call) -> bool {
    let rest = call.path.strip_prefix(BASE);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

pub(super) fn answer(
    shop: &Shop,
    book: &mut Book,
    call: &Call,
    (known, now): (bool, Millis),
) -> Answer {
    let rest = call.path.strip_prefix(BASE).unwrap_or_default();
    let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
    let (parent, batch) = match parts.as_slice() {
        [] => (None, false),
        ["batch"] => (None, true),
        [parent, "variations"] => (parent.parse().ok(), false),
        [parent, "variations", "batch"] => (parent.parse().ok(), true),
        _ => return no_route(),
    };
    let is_child = parts.len() > 1;
    if !known {
        let code = if batch { "cannot_batch" } else { "cannot_view" };
        let message = "Sorry, you are not allowed to do that.";
        return error(401, &format!("woocommerce_rest_{code}"), message);
    }
    if is_child && !parent.is_some_and(|id| book.parents.values().any(|known| *known == id)) {
        return error(404, "woocommerce_rest_product_invalid_id", "Invalid parent ID.");
    }
    match (&call.method, batch) {
        (&Method::GET, false) => list(shop, book, call, parent),
        (&Method::POST, true) => set(shop, book, call, (parent, now)),
        _ => no_route(),
    }
}

fn no_route() -> Answer {
    error(404, "rest_no_route", "No route was found matching the URL and request method.")
}

fn list(shop: &Shop, book: &mut Book, call: &Call, parent: Option<u64>) -> Answer {
    let per_page = match call.count("per_page", 10, PER_PAGE_MAX) {
        Ok(count) => count,
        Err(message) => return error(400, "rest_invalid_param", &message),
    };
    let wanted: Vec<u64> = call.list("include").iter().filter_map(|id| id.parse().ok()).collect();
    book.told.counts.reads += 1;
    let found = (0..book.items.len()).filter(|item| {
        let item = book.items.get(*item);
        item.is_some_and(|item| {
            let named = wanted.is_empty() || wanted.contains(&item.listing);
            named && book.parents.get(&item.listing).copied() == parent
        })
    });
    let page: Vec<Value> = found.take(per_page).map(|item| shown(shop, book, item)).collect();
    call::json(200, &Value::Array(page))
}

fn set(shop: &Shop, book: &mut Book, call: &Call, (parent, now): (Option<u64>, Millis)) -> Answer {
    let Ok(body) = serde_json::from_slice::<Value>(&call.body) else {
        return error(400, "rest_invalid_json", "Invalid JSON body passed.");
    };
    let list = |name: &str| body.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let [create, update, delete] = ["create", "update", "delete"].map(list);
    if create.len() + update.len() + delete.len() > BATCH_MAX {
        let message = "Unable to accept more than 100 items for this request.";
        return error(413, "woocommerce_rest_request_entity_too_large", message);
    }
    if !create.is_empty() || !delete.is_empty() {
        return error(501, "not_simulated", "Products are neither made nor deleted here.");
    }
    book.told.counts.pushes += 1;
    let rows: Vec<Value> =
        update.iter().map(|row| set_one(shop, book, row, (parent, now))).collect();
    call::json(200, &json!({"update": rows}))
}

fn set_one(
    shop: &Shop,
    book: &mut Book,
    row: &Value,
    (parent, now): (Option<u64>, Millis),
) -> Value {
    let id = row.get("id").and_then(Value::as_u64).unwrap_or(0);
    let refused = |code: &str, message: &str, status: u16| {
        let error = json!({"code": code, "message": message, "data": {"status": status}});
        json!({"id": id, "error": error})
    };
    let of_parent = |listing: u64, book: &Book| book.parents.get(&listing).copied() == parent;
    let item = book.items.iter().position(|item| item.listing == id && of_parent(id, book));
    let Some(item) = item else {
        let kind = if parent.is_some() { "product_variation" } else { "product" };
        return refused(&format!("woocommerce_rest_{kind}_invalid_id"), "Invalid ID.", 400);
    };
    let quantity = row.get("stock_quantity").filter(|quantity| !quantity.is_null());
    let units = quantity.map(|quantity| {
        let whole = quantity.as_i64();
        whole.ok_or_else(|| {
            refused("rest_invalid_param", "stock_quantity is not of type integer.", 400)
        })
    });
    match units.transpose() {
        Err(refusal) => return refusal,
        Ok(Some(units)) if book.told.row_fails() => {
            book.refuse(item, units, now);
            return refused("internal_server_error", "The product could not be saved.", 500);
        }
        // What is sent of a stock that is not managed is ignored without a word.
        Ok(Some(units)) if shop.unmanaged.contains(&id) => book.refuse(item, units, now),
        Ok(Some(units)) => book.set(item, units, now),
        Ok(None) => {}
    }
    shown(shop, book, item)
}

/// A product as the API shows it, but for what has nothing to do with stock.
fn shown(shop: &Shop, book: &Book, item: usize) -> Value {
    let Some(item) = book.items.get(item) else { return Value::Null };
    let parent = book.parents.get(&item.listing).copied();
    let managed = !shop.unmanaged.contains(&item.listing);
    json!({
        "id": item.listing,
        "name": item.sku,
        "slug": item.sku.to_lowercase(),
        "type": if parent.is_some() { "variation" } else { "simple" },
        "status": "publish",
        "sku": item.sku,
        "manage_stock": managed,
        "stock_quantity": managed.then_some(item.units),
        "backorders": "no",
        "stock_status": if item.units > 0 { "instock" } else { "outofstock" },
        "parent_id": parent.unwrap_or(0),
        "meta_data": [],
    })
}
