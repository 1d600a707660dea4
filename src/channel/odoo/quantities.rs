//! Telling Odoo quantities, and reading what it shows: inventory adjustments by JSON-2.
//!
//! What a location shows of a product is what lies there in all its quants (lots, packages, owners) and is
//! not reserved. It is set by a count that is then applied; if something moved there in between, Odoo
//! applies nothing and answers 200 with a form to fill. What is reserved is read before the count and
//! again after it, so that a delivery in between is no reason to put its units back on the shelf.

use std::collections::BTreeMap;

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Odoo, Settings};
use crate::channel::api::Answer;
use crate::channel::compared::{self, Compared, Shown};
use crate::channel::outcome::{Answered, Calls, Place, PushError, Quantities, Row, RowOutcome};
use crate::config;
use channels::odoo::OWN_ADJUSTMENT;

/// Counts of one call. Odoo has no limit, but carries a call out whole or not at all, in some seconds.
const ROWS_MAX: usize = 100;
const MODEL: &str = "stock.quant";
/// Faults of the database that undo the whole call.
const UNDONE: [&str; 3] = ["SerializationFailure", "LockNotAvailable", "DeadlockDetected"];

/// A database's stock.
pub struct Client {
    odoo: Odoo,
    compared: Compared,
}

/// Units of a product that lie at a location.
#[derive(Clone, Debug, Deserialize)]
struct Quant {
    product_id: Value,
    location_id: Value,
    #[serde(default)]
    lot_id: Value,
    #[serde(default)]
    package_id: Value,
    #[serde(default)]
    owner_id: Value,
    quantity: f64,
    #[serde(default)]
    reserved_quantity: f64,
}

/// A product at a location.
type At = (u64, u64);
type Quants = BTreeMap<At, Vec<Quant>>;

/// A row that is to be counted.
struct Wanted {
    /// Its place among the rows.
    row: usize,
    at: At,
    counts: Vec<Value>,
    /// The quants that its counts made or found.
    ids: Vec<u64>,
}

impl Client {
    /// A client for a database; `None` if the config has no API for it.
    #[must_use]
    pub fn new(channel: &config::Channel) -> Option<Self> {
        let odoo = Odoo::new(Settings::of(channel.api.as_ref()?)?).ok()?;
        Some(Self { odoo, compared: Compared::default() })
    }

    async fn call(&self, method: &str, arguments: &Value) -> Result<Value, PushError> {
        let answer = self.odoo.call(MODEL, method, arguments).await?;
        if let Some(error) = refusal(&answer) {
            return Err(error);
        }
        serde_json::from_slice(&answer.changed()?)
            .map_err(|_| PushError::Unknown("the answer is no JSON".into()))
    }

    /// All that lies at some places. Where nothing lies there is no record.
    async fn quants(&self, places: &[At]) -> Result<Quants, PushError> {
        let products: Vec<u64> = places.iter().map(|(product, _)| *product).collect();
        let mut locations: Vec<u64> = places.iter().map(|(_, location)| *location).collect();
        locations.dedup();
        let asked = json!({
            "domain": [["product_id", "in", products], ["location_id", "in", locations]],
            "fields": ["product_id", "location_id", "lot_id", "package_id", "owner_id", "quantity",
                       "reserved_quantity"],
            "order": "id",
        });
        // No row is at fault when a reading fails.
        let told = self.call("search_read", &asked).await.map_err(|error| match error {
            PushError::Suspect(why) => PushError::Refused(why),
            error => compared::unset(error),
        })?;
        let told: Vec<Quant> = serde_json::from_value(told)
            .map_err(|_| PushError::Refused("the answer is no list of quants".into()))?;
        let mut quants = Quants::new();
        for quant in told {
            if let (Some(product), Some(location)) = (id(&quant.product_id), id(&quant.location_id))
            {
                quants.entry((product, location)).or_default().push(quant);
            }
        }
        Ok(quants)
    }

    async fn adjust(&self, rows: &[&Row], before: &Quants) -> Result<Vec<RowOutcome>, PushError> {
        let mut outcomes = vec![RowOutcome::Confirmed; rows.len()];
        let mut wanted = wanted(rows, before);
        let counts: Vec<Value> = wanted.iter().flat_map(|one| one.counts.clone()).collect();
        if counts.is_empty() {
            return Ok(outcomes);
        }
        // A count that is not applied changes nothing.
        let counted = json!({ "vals_list": counts, "context": { "inventory_mode": true } });
        let ids = self.call("create", &counted).await.map_err(compared::unset)?;
        let ids: Vec<u64> = serde_json::from_value(ids)
            .map_err(|_| PushError::Refused("the answer is no list of ids".into()))?;
        let mut ids = ids.into_iter();
        for one in &mut wanted {
            one.ids = ids.by_ref().take(one.counts.len()).collect();
        }
        let places: Vec<At> = wanted.iter().map(|one| one.at).collect();
        let after = self.quants(&places).await?;
        wanted.retain(|one| {
            let same = one.ids.len() == one.counts.len() && is_same(before, &after, one.at);
            if !same {
                put(&mut outcomes, one.row, RowOutcome::Stale);
            }
            same
        });
        let ids: Vec<u64> = wanted.iter().flat_map(|one| one.ids.clone()).collect();
        if !ids.is_empty() {
            self.apply(&ids, &wanted, &mut outcomes).await?;
        }
        Ok(outcomes)
    }

    /// Applies counts. Each row is confirmed, unless something is said.
    async fn apply(
        &self,
        ids: &[u64],
        wanted: &[Wanted],
        outcomes: &mut [RowOutcome],
    ) -> Result<(), PushError> {
        let context = json!({ "inventory_mode": true, "inventory_name": OWN_ADJUSTMENT });
        let asked = json!({ "ids": ids, "context": context });
        let answer = self.call("action_apply_inventory", &asked).await?;
        // Null, or false where the call came by another road: it is done.
        if !answer.is_object() {
            return Ok(());
        }
        if answer.get("res_model") != Some(&json!("stock.inventory.conflict")) {
            return Err(PushError::Suspect(
                "Odoo asks a person before it applies the count, as it does for products that are tracked \
                 by lot: stop tracking the product, or take its mapping away"
                    .into(),
            ));
        }
        let fix = answer.pointer("/context/default_quant_to_fix_ids").and_then(Value::as_array);
        let fix: Vec<u64> = fix.into_iter().flatten().filter_map(Value::as_u64).collect();
        for one in wanted {
            let moved = fix.is_empty() || one.ids.iter().any(|id| fix.contains(id));
            let outcome = if moved { RowOutcome::Stale } else { RowOutcome::Untouched };
            put(outcomes, one.row, outcome);
        }
        Ok(())
    }
}

impl Quantities for Client {
    fn calls(&self) -> Calls {
        Calls {
            rows_max: ROWS_MAX,
            calls_a_set: 4,
            reads_max: ROWS_MAX,
            feed_rows_max: 0,
            feed_rows_min: 0,
            located: true,
        }
    }

    async fn set(&self, rows: &[Row], key: &str) -> Result<Answered<Vec<RowOutcome>>, PushError> {
        let places = compared::places(rows);
        let known: Vec<At> = places.iter().filter_map(|place| at(place).ok()).collect();
        let quants = self.quants(&known).await?;
        let judged = self.compared.judge(rows, &shown(&places, &quants), key);
        let sent = self.adjust(&compared::left(rows, &judged), &quants).await;
        self.compared.complete(judged, sent.map(Answered::now), key)
    }

    async fn read(&self, places: &[Place]) -> Result<Answered<Vec<Option<i64>>>, PushError> {
        let known: Vec<At> = places.iter().filter_map(|place| at(place).ok()).collect();
        compared::answered(shown(places, &self.quants(&known).await?))
    }
}

impl Quant {
    fn is_plain(&self) -> bool {
        [&self.lot_id, &self.package_id, &self.owner_id]
            .into_iter()
            .all(|field| id(field).is_none())
    }

    /// A count of it, as Odoo finds it again.
    fn count(&self, at: At, quantity: f64) -> Value {
        let mut count = count(at, quantity);
        let own = [
            ("lot_id", &self.lot_id),
            ("package_id", &self.package_id),
            ("owner_id", &self.owner_id),
        ];
        if let Some(fields) = count.as_object_mut() {
            let own = own.into_iter().filter_map(|(name, value)| Some((name, id(value)?)));
            fields.extend(own.map(|(name, id)| (name.to_owned(), json!(id))));
        }
        count
    }
}

fn count((product, location): At, quantity: f64) -> Value {
    json!({ "product_id": product, "location_id": location, "inventory_quantity": quantity })
}

/// The id of another record: with its name in an answer, and `false` where there is none.
fn id(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.get(0)?.as_u64())
}

/// Where a place is in Odoo.
fn at(place: &Place) -> Result<At, String> {
    let number = |name: &str, id: &str| {
        id.parse::<u64>().map_err(|_| format!("{name} is a number in Odoo: map the SKU to it"))
    };
    Ok((number("a product's id", &place.listing)?, number("location_id", &place.location)?))
}

/// What lies somewhere, and how much of it is reserved.
fn sums(quants: &[Quant]) -> (f64, f64) {
    let add = |(held, reserved), quant: &Quant| {
        (held + quant.quantity, reserved + quant.reserved_quantity)
    };
    quants.iter().fold((0.0, 0.0), add)
}

fn lying(quants: &Quants, at: At) -> &[Quant] {
    quants.get(&at).map_or(&[], Vec::as_slice)
}

/// What each place shows. More may be reserved than is there: none is shown then.
fn shown(places: &[Place], quants: &Quants) -> Vec<Shown> {
    let shown = |place: &Place| {
        let (held, reserved) = sums(lying(quants, at(place)?));
        let free = compared::whole(held - reserved);
        free.map(|free| free.max(0)).ok_or_else(|| "its quantity is out of range".into())
    };
    places.iter().map(shown).collect()
}

fn is_same(before: &Quants, after: &Quants, at: At) -> bool {
    let (one, other) = (sums(lying(before, at)), sums(lying(after, at)));
    (one.0 - other.0).abs() < 1e-6 && (one.1 - other.1).abs() < 1e-6
}

/// What has to be counted where, for each row that shall show something else than it does.
fn wanted(rows: &[&Row], quants: &Quants) -> Vec<Wanted> {
    let wanted = rows.iter().enumerate().filter_map(|(row, wanted)| {
        let at = at(&wanted.place).ok()?;
        let units = i32::try_from(wanted.quantity).unwrap_or(i32::MAX);
        let counts = counts(at, f64::from(units), lying(quants, at));
        (!counts.is_empty()).then(|| Wanted { row, at, counts, ids: Vec::new() })
    });
    wanted.collect()
}

/// Counts after which so many units are free. More are found where nothing else is known of them; fewer are
/// missing there first, and then from the others.
fn counts(at: At, free: f64, quants: &[Quant]) -> Vec<Value> {
    let (held, reserved) = sums(quants);
    let mut change = free + reserved - held;
    if change.abs() < 1e-6 {
        return Vec::new();
    }
    let mut order: Vec<&Quant> = quants.iter().collect();
    order.sort_by_key(|quant| !quant.is_plain());
    let Some(first) = order.first() else { return vec![count(at, change)] };
    if change > 0.0 {
        return vec![first.count(at, first.quantity + change)];
    }
    let mut counted: Vec<(&Quant, f64)> = Vec::new();
    for quant in order {
        let taken = (quant.quantity - quant.reserved_quantity).max(0.0).min(-change);
        if taken > 0.0 {
            counted.push((quant, quant.quantity - taken));
            change += taken;
        }
    }
    counted.into_iter().map(|(quant, quantity)| quant.count(at, quantity)).collect()
}

/// What Odoo says of a whole call, where the name of the exception says more than the status.
fn refusal(answer: &Answer) -> Option<PushError> {
    if answer.status.is_success() {
        return None;
    }
    let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let name = said.get("name").and_then(Value::as_str).unwrap_or_default();
    let message = said.get("message").and_then(Value::as_str).unwrap_or_default();
    let words = || message.chars().take(200).collect::<String>();
    if UNDONE.iter().any(|fault| name.ends_with(fault)) {
        return Some(PushError::Refused(name.into()));
    }
    match name.rsplit('.').next().unwrap_or_default() {
        "AccessError" | "AccessDenied" => Some(PushError::Unauthorised(format!(
            "{}: the key's user needs the right to adjust stock",
            words()
        ))),
        "UserError" | "ValidationError" | "MissingError" => Some(PushError::Suspect(words())),
        _ if answer.status == StatusCode::UNPROCESSABLE_ENTITY => Some(PushError::Suspect(words())),
        _ => None,
    }
}

fn put<T>(all: &mut [T], place: usize, value: T) {
    if let Some(one) = all.get_mut(place) {
        *one = value;
    }
}

#[cfg(test)]
mod tests;
