//! The Listings Items API, version 2021-08-01, as far as it sets and reads the seller's own stock.
//!
//! A patch that is accepted is carried out some time later ([`Options::applied_after`](super::Options));
//! one that is invalid is answered 200 as well. Shapes are those of Amazon's published model.

use hyper::Method;
use serde_json::{Value, json};

use super::{
    api::{Bucket, Reply, Visit, over_quota, refusal},
    options::Options,
};
use crate::{
    clock::Millis,
    sender::call::{Call, decoded},
};

pub(super) const PATH: &str = "/listings/2021-08-01/items/";
const AVAILABILITY: &str = "/attributes/fulfillment_availability";
/// Listings that one search finds.
const SEARCH_MAX: usize = 20;

/// How often each operation is answered.
pub(super) struct Plans {
    patch: Bucket,
    item: Bucket,
    items: Bucket,
}

impl Plans {
    pub(super) fn new(options: &Options, now: tokio::time::Instant) -> Self {
        let bucket = |rate| Bucket::full(rate, options.time_scale, now);
        let plans = &options.plans;
        Self { patch: bucket(plans.patch), item: bucket(plans.item), items: bucket(plans.items) }
    }

    /// Answers a call whose token is good.
    pub(super) fn answer(&mut self, visit: &mut Visit<'_>) -> Reply {
        let path = visit.call.path.strip_prefix(PATH).unwrap_or_default();
        let (seller, sku) = path.split_once('/').map_or((path, None), |(s, sku)| (s, Some(sku)));
        let (seller, sku) = (decoded(seller), sku.map(decoded));
        let bucket = match (visit.call.method == Method::PATCH, &sku) {
            (true, _) => &mut self.patch,
            (_, Some(_)) => &mut self.item,
            (_, None) => &mut self.items,
        };
        if !bucket.take(visit.now.instant) {
            visit.stats.throttled += 1;
            // The header is not sent with this status any more.
            return over_quota();
        }
        let rate = Some(bucket.per_second());
        let reply = if seller != visit.options.seller_id {
            refusal(403, "Unauthorized", "Access to requested resource is denied.", "")
        } else if !visit
            .call
            .list("marketplaceIds")
            .contains(&visit.options.marketplace_id.as_str())
        {
            invalid("marketplaceIds is missing or names a marketplace of somebody else.")
        } else {
            match (&visit.call.method, sku) {
                (&Method::PATCH, Some(sku)) => patch(visit, &sku),
                (&Method::GET, Some(sku)) => item(visit, &sku),
                (&Method::GET, None) => search(visit),
                _ => refusal(404, "NotFound", "The resource specified does not exist.", ""),
            }
        };
        Reply { rate, ..reply }
    }
}

fn invalid(text: &str) -> Reply {
    refusal(400, "InvalidInput", text, "")
}

fn no_listing(sku: &str) -> Reply {
    refusal(404, "NotFound", &format!("SKU '{sku}' not found in marketplace"), "")
}

fn patch(visit: &mut Visit<'_>, sku: &str) -> Reply {
    visit.stats.pushes += 1;
    let Some(index) = visit.book.shelf_of_sku(sku) else { return no_listing(sku) };
    let Ok(body) = serde_json::from_slice::<Value>(&visit.call.body) else {
        return invalid("The body is no JSON.");
    };
    if body.get("productType").and_then(Value::as_str) != Some(&visit.options.product_type) {
        return invalid("The product type is not that of the listing.");
    }
    let patches = body.get("patches").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let [patch] = patches else { return invalid("Here one patch is understood.") };
    let known =
        matches!(patch.get("op").and_then(Value::as_str), Some("add" | "replace" | "merge"));
    if !known || patch.get("path").and_then(Value::as_str) != Some(AVAILABILITY) {
        return invalid("Only fulfillment_availability is added, replaced or merged here.");
    }
    let now = visit.now.ms;
    let wrong = match quantity(patch) {
        Ok(quantity) if visit.random.chance(visit.faults.invalid) => {
            visit.book.refuse(index, quantity, now);
            vec![issue("90220", "'batteries_required' is required but not supplied.")]
        }
        Ok(quantity) => {
            let at = now.saturating_add(applied_after(visit.options));
            visit.book.accept(index, quantity, now, at);
            visit.wakes.push(at);
            Vec::new()
        }
        Err(text) => vec![issue("90244", text)],
    };
    visit.stats.rows += u64::from(wrong.is_empty());
    visit.stats.rows_refused += u64::from(!wrong.is_empty());
    let status = if wrong.is_empty() { "ACCEPTED" } else { "INVALID" };
    let id = visit.random.uuid();
    let body = json!({"sku": sku, "status": status, "submissionId": id, "issues": wrong});
    Reply::new(200, body)
}

pub(super) fn applied_after(options: &Options) -> Millis {
    Millis::try_from(options.applied_after.as_millis()).unwrap_or(Millis::MAX)
}

fn issue(code: &str, text: &str) -> Value {
    json!({"code": code, "message": text, "severity": "ERROR", "categories": ["INVALID_ATTRIBUTE"]})
}

/// The quantity of the seller's own stock that a patch or an update sets.
pub(super) fn quantity(patch: &Value) -> Result<i64, &'static str> {
    let values = patch.get("value").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let own = values.iter().find(|value| {
        value.get("fulfillment_channel_code").and_then(Value::as_str) == Some("DEFAULT")
    });
    let own = own.ok_or("fulfillment_channel_code is missing or not DEFAULT.")?;
    let quantity = own.get("quantity").and_then(Value::as_i64).filter(|quantity| *quantity >= 0);
    quantity.ok_or("'quantity' must be a whole number that is not negative.")
}

fn item(visit: &mut Visit<'_>, sku: &str) -> Reply {
    visit.stats.stock_reads += 1;
    let Some(index) = visit.book.shelf_of_sku(sku) else { return no_listing(sku) };
    Reply::new(200, wire(visit, index))
}

fn search(visit: &mut Visit<'_>) -> Reply {
    visit.stats.stock_reads += 1;
    let call = visit.call;
    let wanted = call.list("identifiers");
    if wanted.is_empty()
        || wanted.len() > SEARCH_MAX
        || call.param("identifiersType") != Some("SKU")
    {
        return invalid("Here between 1 and 20 identifiers of the type SKU are searched for.");
    }
    let max = match call.count("pageSize", 10, SEARCH_MAX) {
        Ok(max) => max,
        Err(text) => return invalid(&text),
    };
    let found = wanted.iter().filter_map(|sku| visit.book.shelf_of_sku(sku));
    let found: Vec<usize> = found.collect();
    let items: Vec<Value> = found.iter().take(max).map(|index| wire(visit, *index)).collect();
    Reply::new(200, json!({"numberOfResults": found.len(), "items": items}))
}

/// A listing with what was asked for of it.
fn wire(visit: &Visit<'_>, index: usize) -> Value {
    let (sku, left) = visit.book.shelves.get(index).cloned().unwrap_or_default();
    let included = included(visit.call);
    let mut item = json!({"sku": sku});
    let Some(members) = item.as_object_mut() else { return item };
    if included.contains(&"fulfillmentAvailability") {
        let own = json!([{"fulfillmentChannelCode": "DEFAULT", "quantity": left}]);
        members.insert("fulfillmentAvailability".to_owned(), own);
    }
    if included.contains(&"productTypes") {
        let options = visit.options;
        let own = json!([
            {"marketplaceId": options.marketplace_id, "productType": options.product_type}
        ]);
        members.insert("productTypes".to_owned(), own);
    }
    item
}

fn included(call: &Call) -> Vec<&str> {
    call.list("includedData")
}
