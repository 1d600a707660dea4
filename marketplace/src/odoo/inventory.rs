//! Inventory adjustments: a shelf is counted, and then the count is applied.

use serde_json::{Map, Value, json};

use super::{
    Counted, STOCK, Warehouse,
    api::{error, list},
    records::quant_id,
};
use crate::{
    clock::Millis,
    sender::{
        book::Book,
        call::{self, Answer},
    },
};

/// The methods of `stock.quant` that change something.
pub(super) const WRITES: [&str; 2] = ["create", "action_apply_inventory"];
/// The fields that a quant may be made with in inventory mode.
const FIELDS: [&str; 6] =
    ["product_id", "location_id", "inventory_quantity", "lot_id", "package_id", "owner_id"];
/// How an adjustment is called for which nobody has a better name.
const UNNAMED: &str = "Product Quantity Updated";

pub(super) fn answer(
    warehouse: &mut Warehouse,
    book: &mut Book,
    (method, arguments): (&str, &Map<String, Value>),
    now: Millis,
) -> Answer {
    let context = arguments.get("context").cloned().unwrap_or_default();
    let counts = context.get("inventory_mode") == Some(&json!(true));
    if !counts {
        let message = "Quant's creation is restricted, you can't do this operation.";
        return user_error(message);
    }
    let done = if method == "create" {
        list(arguments, "vals_list").and_then(|rows| count(warehouse, book, rows))
    } else {
        list(arguments, "ids").map(|ids| {
            let name = context.get("inventory_name").and_then(Value::as_str);
            apply(warehouse, book, ids, (name.unwrap_or(UNNAMED), now))
        })
    };
    match done {
        Ok(value) => call::json(200, &value),
        Err(message) => user_error(&message),
    }
}

fn user_error(message: &str) -> Answer {
    error(422, "odoo.exceptions.UserError", message)
}

/// All rows or none: it is one transaction.
fn count(warehouse: &mut Warehouse, book: &Book, rows: &[Value]) -> Result<Value, String> {
    let mut counted = Vec::with_capacity(rows.len());
    for row in rows {
        let fields = row.as_object().ok_or("vals_list must hold objects")?;
        if let Some(other) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
            return Err(format!("Quant's editing is restricted: {other}"));
        }
        let number = |name: &str| row.get(name).and_then(Value::as_u64);
        let product = number("product_id").ok_or("Missing required value: product_id")?;
        let item = book.items.iter().position(|item| item.listing == product);
        let item =
            item.ok_or_else(|| format!("Record does not exist: product.product({product},)"))?;
        if number("location_id") != Some(STOCK) {
            return Err("You can only adjust the stock of WH/Stock here.".to_owned());
        }
        let units = row.get("inventory_quantity").and_then(whole);
        let units = units.ok_or("inventory_quantity must be a whole number here")?;
        counted.push((item, units));
    }
    let ids = counted.into_iter().map(|(item, units)| {
        let before = book.shelf(item).map_or(0, |(on_hand, _)| on_hand);
        warehouse.counted.insert(item, Counted { units, before });
        json!(quant_id(item))
    });
    Ok(ids.collect())
}

/// Quantities are floats on the wire.
fn whole(value: &Value) -> Option<i64> {
    let text = format!("{:.0}", value.as_f64()?);
    text.parse().ok()
}

/// Null when it is done. If anything moved since one of them was counted, a form to solve the conflict with,
/// and nothing is done.
fn apply(
    warehouse: &mut Warehouse,
    book: &mut Book,
    ids: &[Value],
    (name, now): (&str, Millis),
) -> Value {
    let items = (0..book.items.len()).filter(|item| ids.contains(&json!(quant_id(*item))));
    let items: Vec<usize> = items.collect();
    let moved = book.told.moves_between();
    let outdated = items.iter().enumerate().filter(|(nth, item)| {
        let counted = warehouse.counted.get(item);
        let lies = book.shelf(**item).map(|(on_hand, _)| on_hand);
        counted.is_some_and(|counted| Some(counted.before) != lies) || (moved && *nth == 0)
    });
    let outdated: Vec<Value> = outdated.map(|(_, item)| json!(quant_id(*item))).collect();
    if !outdated.is_empty() {
        for item in items {
            let Some(counted) = warehouse.counted.get(&item) else { continue };
            let promised = book.shelf(item).map_or(0, |(_, promised)| promised);
            book.refuse(item, counted.units - promised, now);
        }
        return json!({
            "name": "Conflict in Inventory Adjustment",
            "type": "ir.actions.act_window",
            "view_mode": "form",
            "views": [[false, "form"]],
            "res_model": "stock.inventory.conflict",
            "target": "new",
            "context": {"default_quant_ids": ids, "default_quant_to_fix_ids": outdated},
        });
    }
    book.told.counts.pushes += 1;
    for item in items {
        if let Some(counted) = warehouse.counted.remove(&item) {
            book.count(item, counted.units, name, now);
        }
    }
    Value::Null
}
