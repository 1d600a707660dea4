//! Odoo.

pub mod poll;

use std::collections::{BTreeMap, BTreeSet};

use http::HeaderMap;
use serde_json::Value;
use state::command::{Fact, Moved};
use state::ledger::Kind;

use crate::json::{self, Scalar, shortened};
use crate::{Parsed, Understood, Verified, time};

/// How the inventory adjustments are called with which quantities are pushed: `inventory_name` of the call's
/// context, and then the `reference` of the moves that it makes.
pub const OWN_ADJUSTMENT: &str = "stockraft";

/// What has to be known of a database to understand its movements.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The ledger's location by the id of a `stock.location`. Those that are not named lie outside.
    pub locations: BTreeMap<u64, String>,
    /// The ids of the `stock.location`s where customers are.
    pub customers: BTreeSet<u64>,
}

/// Takes a verified webhook apart: what the action "Send Webhook Notification" of an automation rule
/// sends, which is the record's chosen fields and `_model`, `_id` and `_action`. It is sent once, and
/// there is no id of a delivery.
#[must_use]
pub fn parse(_headers: &HeaderMap, body: Verified<'_>, settings: &Settings) -> Parsed {
    let record: Value = match json::read(body.bytes()) {
        Ok(record) => record,
        Err(why) => return Parsed::new("", json::dead(&why)),
    };
    let model = text(&record, "_model").unwrap_or_default();
    let said = match model {
        "" => Err("_model is missing".into()),
        "sale.order" => reload(&record),
        "stock.move" => moved(&record, settings).map(Understood::from),
        "stock.quant" => Ok(Understood::Ignored(
            "one quant is a part of what is there; polling adds them up".into(),
        )),
        other => Err(format!("the model {:?} is unknown", shortened(other))),
    };
    Parsed::new(model, said.unwrap_or_else(|why| json::dead(&why)))
}

/// An order names its lines by their ids only: it must be fetched.
fn reload(record: &Value) -> Result<Understood, String> {
    let order = id(record)?.to_string();
    let version = when(record, "write_date")?.unwrap_or(0);
    Ok(Understood::Facts(vec![Fact::Reload { order, version }]))
}

/// What a `stock.move` comes to.
enum Movement {
    /// Stock that the ledger has or gets.
    Moved(Moved),
    /// Stock that left one of the ledger's locations, and has arrived in another: in the ledger a transfer
    /// is on its way until its receipt, and in Odoo a move between the two is both.
    Passed(Moved, Moved),
    /// Nothing, for this reason.
    Nothing(&'static str),
}

impl From<Movement> for Understood {
    fn from(movement: Movement) -> Self {
        match movement {
            Movement::Moved(moved) => Self::Facts(vec![Fact::Moved(moved)]),
            Movement::Passed(left, arrived) => {
                Self::Facts(vec![Fact::Moved(left), Fact::Moved(arrived)])
            }
            Movement::Nothing(why) => Self::Ignored(why.into()),
        }
    }
}

/// Reads a `stock.move` of a webhook or of an answer.
///
/// `quantity` counts in the move's own unit of measure. Where both demands are told, that in the move's
/// unit and that in the product's, they must be equal: a dozen is not one.
fn moved(record: &Value, settings: &Settings) -> Result<Movement, String> {
    if required(text(record, "state"), "state")? != "done" {
        return Ok(Movement::Nothing("a move that is not done has moved nothing"));
    }
    // The ledger has it already: it would count its own pushes.
    if text(record, "reference").is_some_and(|name| name.starts_with(OWN_ADJUSTMENT))
        && record.get("is_inventory") != Some(&Value::Bool(false))
    {
        return Ok(Movement::Nothing("an adjustment by which a quantity was pushed"));
    }
    let id = id(record)?;
    let product = required(many2one(record, "product_id")?, "product_id")?;
    let from = required(many2one(record, "location_id")?, "location_id")?;
    let to = required(many2one(record, "location_dest_id")?, "location_dest_id")?;
    let units = json::quantity(whole(record, "quantity")?)?;
    let demands = [present(record, "product_uom_qty"), present(record, "product_qty")];
    if let [Some(_), Some(_)] = demands
        && whole(record, "product_uom_qty")? != whole(record, "product_qty")?
    {
        return Err("the move counts in another unit than its product".into());
    }
    let version = match when(record, "date")? {
        Some(version) => version,
        None => required(when(record, "write_date")?, "date")?,
    };
    if units == 0 {
        return Ok(Movement::Nothing("a move of no units"));
    }
    let (source, destination) = (settings.locations.get(&from), settings.locations.get(&to));
    let (kind, quantity, location, to_location) = match (source, destination) {
        (None, None) => return Ok(Movement::Nothing("it moves outside of the ledger's locations")),
        (Some(source), Some(destination)) if source == destination => {
            return Ok(Movement::Nothing("it moves within one location of the ledger"));
        }
        (Some(source), Some(destination)) => (Kind::Transfer, units, source, Some(destination)),
        (None, Some(destination)) if settings.customers.contains(&from) => {
            (Kind::Return, units, destination, None)
        }
        (None, Some(destination)) => (Kind::Receipt, units, destination, None),
        (Some(source), None) if settings.customers.contains(&to) => {
            (Kind::Fulfilment, units, source, None)
        }
        (Some(source), None) => (Kind::Adjustment, -units, source, None),
    };
    let reference = text(record, "origin").map(|origin| json::name("origin", origin));
    let moved = Moved {
        id: format!("stock.move/{id}"),
        kind,
        listing: Some(product.to_string()),
        sku: None,
        quantity,
        location: Some(location.clone()),
        to_location: to_location.cloned(),
        reference: reference.transpose()?,
        version,
    };
    if to_location.is_none() {
        return Ok(Movement::Moved(moved));
    }
    // The receipt must find this transfer and no other: several moves share an origin.
    let left = Moved { reference: Some(moved.id.clone()), ..moved };
    let arrived = Moved {
        id: format!("{}/arrived", left.id),
        kind: Kind::Receipt,
        location: to_location.cloned(),
        to_location: None,
        ..left.clone()
    };
    Ok(Movement::Passed(left, arrived))
}

/// A field that has a value: an empty one is `false`.
fn present<'a>(record: &'a Value, field: &str) -> Option<&'a Value> {
    record.get(field).filter(|value| !matches!(value, Value::Null | Value::Bool(false)))
}

fn required<T>(value: Option<T>, field: &str) -> Result<T, String> {
    value.ok_or_else(|| format!("{field} is missing"))
}

fn text<'a>(record: &'a Value, field: &str) -> Option<&'a str> {
    present(record, field)?.as_str().filter(|text| !text.is_empty())
}

/// The record's own id, which a webhook calls `_id` whatever fields were chosen.
fn id(record: &Value) -> Result<u64, String> {
    let id = present(record, "id").or_else(|| present(record, "_id"));
    required(id.and_then(Value::as_u64), "id")
}

/// The id of another record: bare in a webhook, with its name in an answer.
fn many2one(record: &Value, field: &str) -> Result<Option<u64>, String> {
    let Some(value) = present(record, field) else { return Ok(None) };
    let id = value.as_u64().or_else(|| value.get(0)?.as_u64());
    id.map(Some).ok_or_else(|| format!("{field} names no record"))
}

/// Quantities are floating point numbers, also of what comes in units.
fn whole(record: &Value, field: &str) -> Result<i64, String> {
    let value: Scalar = json::shaped(required(present(record, field), field)?)?;
    value.whole().map_err(|why| format!("{field}: {why}"))
}

/// Times are in UTC, and do not say so.
fn when(record: &Value, field: &str) -> Result<Option<u64>, String> {
    let Some(value) = present(record, field) else { return Ok(None) };
    let text = value.as_str().ok_or_else(|| format!("{field} is no text"))?;
    time::utc(text).map(Some).map_err(|why| format!("{field}: {why}"))
}
