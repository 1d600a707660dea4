//! The mutation `inventorySetQuantities`, as API version 2026-04 and later carry it out: every row
//! compares, all rows or none, and an idempotency key is owed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::{
    clock::{self, Millis},
    history::{Push, Stats},
    shop::Shop,
    shopify::{
        graphql::Field,
        payload::{gid, parse_gid},
    },
};

/// The most rows of one call.
const ROWS_MAX: usize = 250;
/// The highest quantity that a store takes.
const QUANTITY_MAX: i64 = 1_000_000_000;
/// How many idempotency keys are remembered; the oldest go first.
const KEYS_MAX: usize = 100_000;
const NAMES: [&str; 2] = ["available", "on_hand"];
const REASONS: [&str; 17] = [
    "correction",
    "cycle_count_available",
    "damaged",
    "movement_canceled",
    "movement_created",
    "movement_received",
    "movement_updated",
    "other",
    "promotion",
    "quality_control",
    "received",
    "reservation_created",
    "reservation_deleted",
    "reservation_updated",
    "restock",
    "safety_stock",
    "shrinkage",
];

/// What calls were answered under which key.
#[derive(Default)]
pub(crate) struct Keys {
    seen: BTreeMap<String, ([u8; 32], Value)>,
    age: VecDeque<String>,
}

impl Keys {
    fn remember(&mut self, key: String, variables: [u8; 32], answer: Value) {
        if self.age.len() >= KEYS_MAX
            && let Some(oldest) = self.age.pop_front()
        {
            self.seen.remove(&oldest);
        }
        self.age.push_back(key.clone());
        self.seen.insert(key, (variables, answer));
    }
}

struct Input {
    name: String,
    reason: String,
    reference: Option<String>,
    rows: Vec<Row>,
}

struct Row {
    item: String,
    location: String,
    quantity: i64,
    change_from: Option<i64>,
}

/// A row whose item the shop knows.
struct Change<'a> {
    slot: usize,
    row: &'a Row,
}

/// Carries out the mutation. `Ok` is its payload (which may hold user errors); `Err` is an entry of
/// the answer's top-level `errors`.
pub(crate) fn set_quantities(
    field: &Field,
    shop: &mut Shop,
    keys: &mut Keys,
    pushes: &mut Vec<Push>,
    stats: &mut Stats,
    now: Millis,
) -> Result<Value, Value> {
    let key = idempotency_key(field)?;
    let given = field.arguments.get("input").cloned().unwrap_or(Value::Null);
    let input = Input::read(&given)?;
    let variables: [u8; 32] = Sha256::digest(given.to_string()).into();
    if let Some((first, answer)) = keys.seen.get(&key) {
        if *first == variables {
            stats.replayed += 1;
            return Ok(answer.clone());
        }
        stats.rejected += 1;
        let message = "The idempotency key was used before with other parameters.";
        return Ok(refused(&[user_error("IDEMPOTENCY_KEY_PARAMETER_MISMATCH", None, message)]));
    }
    let answer = match input.changes(shop) {
        Err(errors) => {
            stats.rejected += 1;
            refused(&errors)
        }
        Ok(changes) => {
            let stale = stale(&input, &changes, shop);
            record(&input, &changes, shop, &key, stale.is_empty(), now, pushes);
            if stale.is_empty() {
                stats.pushes += 1;
                stats.rows += u64::try_from(changes.len()).unwrap_or(0);
                apply(&input, &changes, shop, now)
            } else {
                stats.stale += 1;
                refused(&stale)
            }
        }
    };
    keys.remember(key, variables, answer.clone());
    Ok(answer)
}

fn idempotency_key(field: &Field) -> Result<String, Value> {
    let Some(arguments) = field.directives.get("idempotent") else {
        let message =
            "The @idempotent directive is required for this mutation but was not provided.";
        return Err(top_error(field, "BAD_REQUEST", message));
    };
    match arguments.get("key").and_then(Value::as_str) {
        Some(key) if (1..=255).contains(&key.len()) => Ok(key.to_owned()),
        _ => {
            Err(top_error(field, "BAD_REQUEST", "The idempotency key must be a non-empty string."))
        }
    }
}

fn top_error(field: &Field, code: &str, message: &str) -> Value {
    json!({"message": message, "path": [field.key], "extensions": {"code": code}})
}

/// A value that the schema does not let through.
fn invalid(path: &str, problem: &str) -> Value {
    json!({
        "message": format!(
            "Variable $input of type InventorySetQuantitiesInput! was provided invalid value for {path} ({problem})"
        ),
        "extensions": {"code": "INVALID_VARIABLE", "problems": [{"path": path, "explanation": problem}]},
    })
}

impl Input {
    fn read(given: &Value) -> Result<Self, Value> {
        let input = object(given, "input")?;
        let known = ["name", "reason", "referenceDocumentUri", "quantities"];
        only(input, &known, "input")?;
        let rows = input.get("quantities").and_then(Value::as_array);
        let rows =
            rows.ok_or_else(|| invalid("input.quantities", "Expected value to not be null"))?;
        if rows.len() > ROWS_MAX {
            return Err(json!({
                "message": format!(
                    "The input array size of {} is greater than the maximum allowed of {ROWS_MAX}.",
                    rows.len()
                ),
                "path": ["inventorySetQuantities", "input", "quantities"],
                "extensions": {"code": "MAX_INPUT_SIZE_EXCEEDED"},
            }));
        }
        let rows: Result<Vec<Row>, Value> =
            rows.iter().enumerate().map(|(at, row)| Row::read(row, at)).collect();
        Ok(Self {
            name: string(input, "name", "input")?,
            reason: string(input, "reason", "input")?,
            reference: match input.get("referenceDocumentUri") {
                None | Some(Value::Null) => None,
                Some(_) => Some(string(input, "referenceDocumentUri", "input")?),
            },
            rows: rows?,
        })
    }

    /// The rows that the shop can carry out, or everything that is wrong with the call.
    fn changes(&self, shop: &Shop) -> Result<Vec<Change<'_>>, Vec<Value>> {
        let mut errors = Vec::new();
        let mut fail = |code, field: &[&str], message| {
            errors.push(user_error(code, Some(field), message));
        };
        if !NAMES.contains(&self.name.as_str()) {
            fail("INVALID_NAME", &["input", "name"], "The quantity name is invalid.");
        }
        if !REASONS.contains(&self.reason.as_str()) {
            fail("INVALID_REASON", &["input", "reason"], "The reason is invalid.");
        }
        if self.reference.as_ref().is_some_and(|uri| !uri.contains("://")) {
            let field = ["input", "referenceDocumentUri"];
            fail("INVALID_REFERENCE_DOCUMENT", &field, "The reference document URI is invalid.");
        }
        let mut changes = Vec::with_capacity(self.rows.len());
        let mut seen = BTreeSet::new();
        for (at, row) in self.rows.iter().enumerate() {
            let at = at.to_string();
            let path = |leaf| ["input", "quantities", at.as_str(), leaf];
            let slot = parse_gid("InventoryItem", &row.item)
                .and_then(|id| shop.slot_of_inventory_item(id));
            if slot.is_none() {
                let message = "The specified inventory item could not be found.";
                fail("INVALID_INVENTORY_ITEM", &path("inventoryItemId"), message);
            }
            if parse_gid("Location", &row.location) != Some(shop.location_id) {
                let message = "The specified location could not be found.";
                fail("INVALID_LOCATION", &path("locationId"), message);
            }
            if row.quantity < 0 {
                let message = "The quantity can't be negative.";
                fail("INVALID_QUANTITY_NEGATIVE", &path("quantity"), message);
            }
            if row.quantity > QUANTITY_MAX {
                let message = "The quantity can't be higher than 1,000,000,000.";
                fail("INVALID_QUANTITY_TOO_HIGH", &path("quantity"), message);
            }
            if !seen.insert((row.item.as_str(), row.location.as_str())) {
                let message = "The combination of inventoryItemId and locationId must be unique.";
                let code = "NO_DUPLICATE_INVENTORY_ITEM_ID_GROUP_ID_PAIR";
                fail(code, &path("locationId"), message);
            }
            changes.extend(slot.map(|slot| Change { slot, row }));
        }
        if errors.is_empty() { Ok(changes) } else { Err(errors) }
    }
}

impl Row {
    fn read(given: &Value, at: usize) -> Result<Self, Value> {
        let path = format!("input.quantities.{at}");
        let row = object(given, &path)?;
        only(row, &["inventoryItemId", "locationId", "quantity", "changeFromQuantity"], &path)?;
        let integer = |name: &str| {
            row.get(name).and_then(Value::as_i64).ok_or_else(|| {
                invalid(&format!("{path}.{name}"), "Expected value to be an integer")
            })
        };
        let change_from = match row.get("changeFromQuantity") {
            None => {
                let problem =
                    "changeFromQuantity must be provided; null opts out of the comparison";
                return Err(invalid(&format!("{path}.changeFromQuantity"), problem));
            }
            Some(Value::Null) => None,
            Some(_) => Some(integer("changeFromQuantity")?),
        };
        Ok(Self {
            item: string(row, "inventoryItemId", &path)?,
            location: string(row, "locationId", &path)?,
            quantity: integer("quantity")?,
            change_from,
        })
    }
}

fn object<'a>(given: &'a Value, path: &str) -> Result<&'a Map<String, Value>, Value> {
    given.as_object().ok_or_else(|| invalid(path, "Expected value to be an object"))
}

fn only(given: &Map<String, Value>, known: &[&str], path: &str) -> Result<(), Value> {
    match given.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(invalid(&format!("{path}.{name}"), "Field is not defined")),
    }
}

fn string(given: &Map<String, Value>, name: &str, path: &str) -> Result<String, Value> {
    let text = given.get(name).and_then(Value::as_str).map(str::to_owned);
    text.ok_or_else(|| invalid(&format!("{path}.{name}"), "Expected value to be a string"))
}

fn user_error(code: &str, field: Option<&[&str]>, message: &str) -> Value {
    json!({"code": code, "field": field, "message": message})
}

fn refused(errors: &[Value]) -> Value {
    json!({"inventoryAdjustmentGroup": null, "userErrors": errors})
}

fn shown(shop: &Shop, slot: usize, name: &str) -> i64 {
    shop.slots.get(slot).map_or(0, |slot| slot.quantity(name).unwrap_or(0))
}

fn stale(input: &Input, changes: &[Change<'_>], shop: &Shop) -> Vec<Value> {
    let differs = |change: &Change<'_>| {
        change.row.change_from.is_some_and(|from| from != shown(shop, change.slot, &input.name))
    };
    changes
        .iter()
        .enumerate()
        .filter(|(_, change)| differs(change))
        .map(|(at, _)| {
            let at = at.to_string();
            let field = ["input", "quantities", &at, "changeFromQuantity"];
            let message = "The changeFromQuantity value does not match the current quantity.";
            user_error("CHANGE_FROM_QUANTITY_STALE", Some(&field), message)
        })
        .collect()
}

fn record(
    input: &Input,
    changes: &[Change<'_>],
    shop: &Shop,
    key: &str,
    applied: bool,
    now: Millis,
    pushes: &mut Vec<Push>,
) {
    pushes.extend(changes.iter().filter_map(|change| {
        let slot = shop.slots.get(change.slot)?;
        Some(Push {
            at_ms: now,
            key: key.to_owned(),
            name: input.name.clone(),
            sku: slot.item.sku.clone(),
            change_from: change.row.change_from,
            from: slot.quantity(&input.name)?,
            to: change.row.quantity,
            applied,
        })
    }));
}

fn apply(input: &Input, changes: &[Change<'_>], shop: &mut Shop, now: Millis) -> Value {
    let mut done = Vec::with_capacity(changes.len());
    let mut event = shop.event(now);
    for change in changes {
        let delta = change.row.quantity - shown(shop, change.slot, &input.name);
        shop.adjust(&mut event, change.slot, delta);
        done.push(json!({
            "name": input.name,
            "delta": delta,
            "quantityAfterChange": change.row.quantity,
            "ledgerDocumentUri": null,
            "item": {"id": change.row.item},
            "location": {"id": change.row.location},
        }));
    }
    // Who changes a quantity hears of it as everybody does.
    shop.tell_levels(&event);
    let id = shop.next_id();
    json!({
        "inventoryAdjustmentGroup": {
            "id": gid("InventoryAdjustmentGroup", id),
            "createdAt": clock::utc_time(now),
            "reason": input.reason,
            "referenceDocumentUri": input.reference,
            "changes": done,
        },
        "userErrors": [],
    })
}
