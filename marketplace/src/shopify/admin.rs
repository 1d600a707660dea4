//! The Admin API: reads one call, charges for it, carries it out, answers only what was selected.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::{
    clock::Millis,
    history::{Push, Stats},
    options::Costs,
    shop::{Shop, Slot},
    shopify::{
        bucket::Bucket,
        graphql::{self, Field, Operation},
        inventory::{self, Keys},
        payload::{gid, parse_gid},
    },
};

/// What the API remembers between calls.
pub(crate) struct Desk {
    costs: Costs,
    bucket: Bucket,
    keys: Keys,
    pub(crate) pushes: Vec<Push>,
}

#[derive(Deserialize)]
struct Call {
    query: String,
    #[serde(default)]
    variables: Option<Map<String, Value>>,
}

/// Types and their fields; an empty type is a scalar.
const SCHEMA: [(&str, &[(&str, &str)]); 9] = [
    (
        "Payload",
        &[("inventoryAdjustmentGroup", "InventoryAdjustmentGroup"), ("userErrors", "UserError")],
    ),
    ("UserError", &[("code", ""), ("field", ""), ("message", "")]),
    (
        "InventoryAdjustmentGroup",
        &[
            ("id", ""),
            ("createdAt", ""),
            ("reason", ""),
            ("referenceDocumentUri", ""),
            ("changes", "InventoryChange"),
        ],
    ),
    (
        "InventoryChange",
        &[
            ("name", ""),
            ("delta", ""),
            ("quantityAfterChange", ""),
            ("ledgerDocumentUri", ""),
            ("item", "Reference"),
            ("location", "Reference"),
        ],
    ),
    ("Reference", &[("id", "")]),
    (
        "InventoryItem",
        &[("id", ""), ("sku", ""), ("tracked", ""), ("inventoryLevel", "InventoryLevel")],
    ),
    (
        "InventoryLevel",
        &[("id", ""), ("location", "Reference"), ("quantities", "InventoryQuantity")],
    ),
    ("InventoryQuantity", &[("name", ""), ("quantity", "")]),
    ("", &[]),
];

impl Desk {
    pub(crate) fn new(costs: Costs, now: Instant) -> Self {
        let bucket = Bucket::full(&costs, now);
        Self { costs, bucket, keys: Keys::default(), pushes: Vec::new() }
    }

    /// Answers one call. `None` if the body is not a call at all.
    pub(crate) fn answer(
        &mut self,
        body: &[u8],
        shop: &mut Shop,
        stats: &mut Stats,
        now: Millis,
        instant: Instant,
    ) -> Option<Value> {
        let call: Call = serde_json::from_slice(body).ok()?;
        let variables = call.variables.unwrap_or_default();
        let operation = match graphql::parse(&call.query, &variables) {
            Ok(operation) => operation,
            Err(message) => return Some(json!({"errors": [{"message": message}]})),
        };
        if let Err(error) = validate(&operation) {
            stats.rejected += 1;
            return Some(json!({"errors": [error]}));
        }
        let cost = self.cost(&operation);
        if cost > self.costs.call_max {
            let message =
                format!("Query cost is {cost}, above the limit of {}", self.costs.call_max);
            return Some(self.refuse("MAX_COST_EXCEEDED", &message, cost));
        }
        if !self.bucket.take(&self.costs, cost, instant) {
            stats.throttled += 1;
            return Some(self.refuse("THROTTLED", "Throttled", cost));
        }
        let mut data = Map::new();
        let mut errors = Vec::new();
        for field in &operation.fields {
            match self.resolve(&operation, field, shop, stats, now) {
                Ok(value) => {
                    data.insert(field.key.clone(), value);
                }
                Err(error) => {
                    stats.rejected += 1;
                    errors.push(error);
                }
            }
        }
        let extensions = self.bucket.extensions(&self.costs, cost, Some(cost));
        Some(if errors.is_empty() {
            json!({"data": data, "extensions": extensions})
        } else {
            json!({"data": null, "errors": errors, "extensions": extensions})
        })
    }

    fn refuse(&self, code: &str, message: &str, cost: u32) -> Value {
        json!({
            "errors": [{"message": message, "extensions": {"code": code}}],
            "extensions": self.bucket.extensions(&self.costs, cost, None),
        })
    }

    fn cost(&self, operation: &Operation) -> u32 {
        let of = |field: &Field| match field.name.as_str() {
            "nodes" => {
                let ids = field.arguments.get("ids").and_then(Value::as_array).map_or(1, Vec::len);
                self.costs.item_read.saturating_mul(u32::try_from(ids).unwrap_or(u32::MAX))
            }
            "inventoryItem" => self.costs.item_read,
            _ => self.costs.mutation,
        };
        operation.fields.iter().map(of).fold(0, u32::saturating_add)
    }

    fn resolve(
        &mut self,
        operation: &Operation,
        field: &Field,
        shop: &mut Shop,
        stats: &mut Stats,
        now: Millis,
    ) -> Result<Value, Value> {
        if operation.mutation {
            let (keys, pushes) = (&mut self.keys, &mut self.pushes);
            let payload = inventory::set_quantities(field, shop, keys, pushes, stats, now)?;
            return Ok(select(&payload, &field.fields));
        }
        stats.reads += 1;
        let missing = |argument: &str| {
            json!({
                "message": format!("Field '{}' is missing required arguments: {argument}", field.name),
                "path": ["query", field.key],
                "extensions": {"code": "missingRequiredArguments"},
            })
        };
        if field.name == "inventoryItem" {
            let id = field.arguments.get("id").ok_or_else(|| missing("id"))?;
            return Ok(item(id, shop, &field.fields));
        }
        let ids = field.arguments.get("ids").and_then(Value::as_array);
        let ids = ids.ok_or_else(|| missing("ids"))?;
        Ok(ids.iter().map(|id| item(id, shop, &field.fields)).collect())
    }
}

fn validate(operation: &Operation) -> Result<(), Value> {
    for field in &operation.fields {
        let kind = match (operation.mutation, field.name.as_str()) {
            (true, "inventorySetQuantities") => "Payload",
            (false, "inventoryItem" | "nodes") => "InventoryItem",
            (true, _) => return Err(undefined(&field.name, "Mutation")),
            (false, _) => return Err(undefined(&field.name, "QueryRoot")),
        };
        validate_selection(kind, &field.fields)?;
    }
    Ok(())
}

fn validate_selection(kind: &str, fields: &[Field]) -> Result<(), Value> {
    let known = SCHEMA.iter().find(|entry| entry.0 == kind).map_or(&[][..], |entry| entry.1);
    for field in fields.iter().filter(|field| field.name != "__typename") {
        let found = known.iter().find(|entry| entry.0 == field.name);
        let (_, inner) = found.ok_or_else(|| undefined(&field.name, kind))?;
        validate_selection(inner, &field.fields)?;
    }
    Ok(())
}

fn undefined(field: &str, kind: &str) -> Value {
    json!({
        "message": format!("Field '{field}' doesn't exist on type '{kind}'"),
        "extensions": {"code": "undefinedField", "typeName": kind, "fieldName": field},
    })
}

/// One inventory item as selected, or null if the shop has none with this id.
fn item(id: &Value, shop: &Shop, fields: &[Field]) -> Value {
    let slot = id
        .as_str()
        .and_then(|id| parse_gid("InventoryItem", id))
        .and_then(|id| shop.slot_of_inventory_item(id))
        .and_then(|index| shop.slots.get(index));
    let Some(slot) = slot else { return Value::Null };
    let mut answer = Map::new();
    for field in fields {
        let value = match field.name.as_str() {
            "id" => json!(gid("InventoryItem", slot.item.inventory_item_id)),
            "sku" => json!(slot.item.sku),
            "tracked" => json!(true),
            "__typename" => json!("InventoryItem"),
            "inventoryLevel" => level(slot, shop.location_id, field),
            _ => Value::Null,
        };
        answer.insert(field.key.clone(), value);
    }
    Value::Object(answer)
}

/// The item's level at the asked location, or null if it is not stocked there.
fn level(slot: &Slot, location_id: u64, field: &Field) -> Value {
    let asked = field.arguments.get("locationId").and_then(Value::as_str);
    if asked.and_then(|id| parse_gid("Location", id)) != Some(location_id) {
        return Value::Null;
    }
    let mut answer = Map::new();
    for field in &field.fields {
        let value = match field.name.as_str() {
            "id" => {
                let item = slot.item.inventory_item_id;
                json!(format!("{}?inventory_item_id={item}", gid("InventoryLevel", location_id)))
            }
            "location" => select(&json!({"id": gid("Location", location_id)}), &field.fields),
            "quantities" => {
                let names = field.arguments.get("names").and_then(Value::as_array);
                let quantities: Value = names
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .filter_map(|name| {
                        Some(json!({"name": name, "quantity": slot.quantity(name)?}))
                    })
                    .collect();
                select(&quantities, &field.fields)
            }
            "__typename" => json!("InventoryLevel"),
            _ => Value::Null,
        };
        answer.insert(field.key.clone(), value);
    }
    Value::Object(answer)
}

/// What was selected of a value, under the names asked for.
fn select(value: &Value, fields: &[Field]) -> Value {
    match value {
        Value::Array(values) => values.iter().map(|value| select(value, fields)).collect(),
        Value::Object(object) if !fields.is_empty() => fields
            .iter()
            .map(|field| {
                let inner = object.get(&field.name).unwrap_or(&Value::Null);
                (field.key.clone(), select(inner, &field.fields))
            })
            .collect(),
        other => other.clone(),
    }
}
