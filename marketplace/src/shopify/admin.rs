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
        orders,
        payload::{gid, level_gid, parse_gid},
        schema::{self, Kind},
        select::{Selected, select},
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
        if let Err(error) = schema::validate(&operation) {
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
        let mut spent = 0_u32;
        for field in &operation.fields {
            match self.resolve(&operation, field, shop, stats, now) {
                Ok((value, cost)) => {
                    data.insert(field.key.clone(), value);
                    spent = spent.saturating_add(cost);
                }
                Err(error) => {
                    stats.rejected += 1;
                    errors.push(error);
                }
            }
        }
        if errors.is_empty() {
            // What was asked for and not there costs nothing.
            self.bucket.put_back(&self.costs, cost.saturating_sub(spent));
            let extensions = self.bucket.extensions(&self.costs, cost, Some(spent));
            return Some(json!({"data": data, "extensions": extensions}));
        }
        let extensions = self.bucket.extensions(&self.costs, cost, Some(cost));
        Some(json!({"data": null, "errors": errors, "extensions": extensions}))
    }

    fn refuse(&self, code: &str, message: &str, cost: u32) -> Value {
        json!({
            "errors": [{"message": message, "extensions": {"code": code}}],
            "extensions": self.bucket.extensions(&self.costs, cost, None),
        })
    }

    /// What a call may cost at the most. Inventory has flat prices.
    fn cost(&self, operation: &Operation) -> u32 {
        let root = schema::root(operation);
        let costs = operation.fields.iter().map(|field| {
            self.flat(field).unwrap_or_else(|| {
                let cost = root.field(&field.name).map_or(0, |(kind, _)| schema::cost(kind, field));
                u32::try_from(cost).unwrap_or(u32::MAX)
            })
        });
        costs.fold(0, u32::saturating_add)
    }

    fn flat(&self, field: &Field) -> Option<u32> {
        match field.name.as_str() {
            "nodes" => {
                let ids = field.arguments.get("ids").and_then(Value::as_array).map_or(1, Vec::len);
                let ids = u32::try_from(ids).unwrap_or(u32::MAX);
                Some(self.costs.item_read.saturating_mul(ids))
            }
            "inventoryItem" => Some(self.costs.item_read),
            "inventorySetQuantities" => Some(self.costs.mutation),
            _ => None,
        }
    }

    /// The value of one field of the operation, and what it cost.
    fn resolve(
        &mut self,
        operation: &Operation,
        field: &Field,
        shop: &mut Shop,
        stats: &mut Stats,
        now: Millis,
    ) -> Result<(Value, u32), Value> {
        let root = schema::root(operation);
        let Some((kind, arguments)) = root.field(&field.name) else {
            // `__typename`: nothing else gets past the schema.
            return Ok((json!(root.name()), 0));
        };
        let (value, cost) = if operation.mutation {
            let (keys, pushes) = (&mut self.keys, &mut self.pushes);
            let payload = inventory::set_quantities(field, shop, keys, pushes, stats, now)?;
            select(&payload, kind, field)?
        } else {
            stats.reads += 1;
            // The first argument of each query but `orders`, whose own is checked with the schema.
            let owed = arguments.split(',').next().filter(|name| *name != "first");
            let missing = owed.filter(|name| !field.arguments.contains_key(*name));
            if let Some(name) = missing {
                let message =
                    format!("Field '{}' is missing required arguments: {name}", field.name);
                return Err(schema::refusal("missingRequiredArguments", &message, field));
            }
            read(field, kind, shop)?
        };
        let spent = u32::try_from(cost).unwrap_or(u32::MAX);
        Ok((value, self.flat(field).unwrap_or(spent)))
    }
}

fn read(field: &Field, kind: Kind, shop: &Shop) -> Selected {
    match field.name.as_str() {
        "order" => orders::order(field, kind, shop),
        "orders" => orders::orders(field, kind, shop),
        "inventoryItem" => {
            let id = field.arguments.get("id").unwrap_or(&Value::Null);
            select(&item_by_id(id, shop), kind, field)
        }
        _ => {
            let ids = field.arguments.get("ids").and_then(Value::as_array);
            let items = ids.into_iter().flatten().map(|id| item_by_id(id, shop)).collect();
            select(&items, kind, field)
        }
    }
}

/// One inventory item, or null if the shop has none with this id.
fn item_by_id(id: &Value, shop: &Shop) -> Value {
    let id = id.as_str().and_then(|id| parse_gid("InventoryItem", id));
    let slot = id.and_then(|id| shop.slot_of_inventory_item(id));
    let slot = slot.and_then(|index| shop.slots.get(index));
    slot.map_or(Value::Null, |slot| item(slot, shop.location_id))
}

/// Everything that can be asked about an inventory item.
pub(super) fn item(slot: &Slot, location_id: u64) -> Value {
    let quantities = ["available", "committed", "on_hand"]
        .map(|name| json!({"name": name, "quantity": slot.quantity(name)}));
    json!({
        "id": gid("InventoryItem", slot.item.inventory_item_id),
        "sku": slot.item.sku,
        "tracked": true,
        "inventoryLevel": {
            "id": level_gid(slot.item.inventory_item_id, location_id),
            "location": {"id": gid("Location", location_id)},
            "quantities": quantities,
        },
    })
}
