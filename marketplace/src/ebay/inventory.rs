//! The part of the Inventory API that reads and sets quantities, many at once.
//!
//! What a listing shows is the smaller of two numbers: the total of its inventory item, and what its offer
//! may show of it. A row that raises only one of them changes nothing that a buyer sees.

use serde_json::{Value, json};

use super::{Seller, api::nothing, token::error};
use crate::{
    clock::Millis,
    sender::{
        book::Book,
        call::{self, Answer, Call},
    },
};

pub(super) const BASE: &str = "/sell/inventory/v1/";
/// Rows of a bulk call.
const ROWS_MAX: usize = 25;
/// The offer of a listing has this much above the listing's own number.
const OFFER_BASE: u64 = 36_000_000_000;

/// The id of the offer that shows a listing.
#[must_use]
pub const fn offer_id(listing: u64) -> u64 {
    OFFER_BASE + listing
}

pub(super) fn answer(seller: &mut Seller, book: &mut Book, call: &Call, now: Millis) -> Answer {
    let set = match call.path.strip_prefix(BASE) {
        Some("bulk_update_price_quantity") => true,
        Some("bulk_get_inventory_item") => false,
        _ => return nothing(),
    };
    let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
    let Some(rows) = body.get("requests").and_then(Value::as_array) else {
        return error(400, 25_002, "API_INVENTORY", "requests is missing.");
    };
    if rows.is_empty() || rows.len() > ROWS_MAX {
        return error(400, 25_002, "API_INVENTORY", "Between 1 and 25 requests are allowed.");
    }
    *(if set { &mut book.told.counts.pushes } else { &mut book.told.counts.reads }) += 1;
    let responses: Vec<Value> = rows
        .iter()
        .map(|row| if set { set_one(seller, book, row, now) } else { get_one(seller, book, row) })
        .collect();
    let failed = responses.iter().any(|row| row.get("statusCode") != Some(&json!(200)));
    call::json(if failed { 207 } else { 200 }, &json!({"responses": responses}))
}

fn sku(row: &Value) -> &str {
    row.get("sku").and_then(Value::as_str).unwrap_or_default()
}

fn refused(sku: &str, status: u16, id: u32, message: &str) -> Value {
    json!({
        "statusCode": status,
        "sku": sku,
        "errors": [{
            "errorId": id, "domain": "API_INVENTORY", "category": "REQUEST",
            "message": message, "parameters": [],
        }],
        "warnings": [],
    })
}

fn get_one(seller: &Seller, book: &Book, row: &Value) -> Value {
    let sku = sku(row);
    let Ok(item) = book.item_of(sku) else {
        return refused(sku, 404, 25_710, "We didn't find the entity you are requesting.");
    };
    let hidden = seller.hidden.get(&item).copied().unwrap_or(0);
    let quantity = book.items.get(item).map_or(0, |item| item.units) + hidden;
    json!({
        "statusCode": 200,
        "sku": sku,
        "inventoryItem": {
            "sku": sku,
            "locale": "en_US",
            "condition": "NEW",
            "availability": {"shipToLocationAvailability": {
                "quantity": quantity,
                "allocationByFormat": {"auction": 0, "fixedPrice": quantity},
            }},
        },
        "errors": [],
        "warnings": [],
    })
}

fn set_one(seller: &mut Seller, book: &mut Book, row: &Value, now: Millis) -> Value {
    let sku = sku(row);
    let Ok(item) = book.item_of(sku) else {
        return refused(sku, 404, 25_702, "The SKU could not be found or is not available.");
    };
    let (listing, shown) = book.items.get(item).map_or((0, 0), |item| (item.listing, item.units));
    let hidden = seller.hidden.get(&item).copied().unwrap_or(0);
    let total = row.pointer("/shipToLocationAvailability/quantity");
    let offers = row.get("offers").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let own = offer_id(listing).to_string();
    if offers.iter().any(|offer| offer.get("offerId").and_then(Value::as_str) != Some(&own)) {
        return refused(sku, 404, 25_713, "This Offer is not available.");
    }
    let of_offer = offers.first().and_then(|offer| offer.get("availableQuantity"));
    let wrong = |number: &Value| number.as_i64().is_none_or(|number| number < 0);
    if [total, of_offer].into_iter().flatten().any(wrong) {
        return refused(sku, 400, 25_709, "Invalid value for quantity.");
    }
    let total = total.and_then(Value::as_i64).unwrap_or(shown + hidden);
    // Without a word about the offer, it goes on showing no more than it did.
    let listed = of_offer.and_then(Value::as_i64).unwrap_or(shown).min(total);
    if book.told.row_fails() {
        book.refuse(item, listed, now);
        return refused(sku, 500, 25_001, "A system error has occurred.");
    }
    book.set(item, listed, now);
    seller.hidden.insert(item, total - listed);
    let mut done = json!({"statusCode": 200, "sku": sku, "errors": [], "warnings": []});
    if let (Some(fields), Some(offer)) = (done.as_object_mut(), offers.first()) {
        fields.insert("offerId".to_owned(), offer.get("offerId").cloned().unwrap_or_default());
    }
    done
}
