//! Telling a `WooCommerce` store quantities, and reading what it shows: batches of its REST API v3.
//!
//! Simple products go in one batch, and the variations of each parent in another. A batch is answered 200
//! whatever became of its rows. Nothing is compared: the last one counts.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Settings;
use crate::channel::api::{Answer, Api, Call};
use crate::channel::compared::{self, Compared, ReadFirst, Shown, UNKNOWN};
use crate::channel::outcome::{Answered, Calls, Place, PushError, Quantities, Row, RowOutcome};
use crate::config;

/// What is created, updated and deleted by one batch, and listed on one page.
const BATCH_MAX: usize = 100;
const PATH: &str = "/wp-json/wc/v3/products";
const UNMANAGED: &str = "its stock is not managed: tick \"Stock management\" of the product, and in \
    WooCommerce > Settings > Products > Inventory";
const OF_PARENT: &str = "it sells its parent's stock: tick \"Manage stock?\" of the variation, or map the \
    SKU to the parent";

/// A store's API.
pub struct Client {
    api: Api,
    settings: Settings,
    rows_max: usize,
    compared: Compared,
}

/// A product or a variation, or why it is none.
#[derive(Deserialize)]
struct Product {
    id: u64,
    /// `true`, `false`, or `"parent"` of a variation that sells its parent's stock.
    #[serde(default)]
    manage_stock: Value,
    #[serde(default)]
    stock_quantity: Option<f64>,
    error: Option<Fault>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Fault {
    code: String,
    message: String,
    data: Option<FaultData>,
}

#[derive(Deserialize)]
struct FaultData {
    status: Option<u16>,
}

/// By the parent of variations; `None` for products. The places among those that were asked for.
type Groups = BTreeMap<Option<u64>, Vec<(usize, u64)>>;

impl Client {
    /// A client for a store; `None` if the config has no API for it.
    #[must_use]
    pub fn new(channel: &config::Channel) -> Option<Self> {
        let api = channel.api.as_ref()?;
        let (settings, rows_max) = (Settings::of(api)?, api.rows_max(BATCH_MAX));
        let api = Api::new(&settings.base_url).ok()?;
        Some(Self { api, settings, rows_max, compared: Compared::default() })
    }

    async fn call(&self, call: Call) -> Result<Value, PushError> {
        let of = &self.settings;
        let call = call.basic(of.consumer_key.expose(), of.consumer_secret.expose());
        let answer = self.api.send(call).await?;
        if let Some(error) = refusal(&answer) {
            return Err(error);
        }
        serde_json::from_slice(&answer.changed()?)
            .map_err(|_| PushError::Unknown("the answer is no JSON".into()))
    }

    async fn batch(
        &self,
        parent: Option<u64>,
        wanted: &[(u64, i64)],
    ) -> Result<Vec<RowOutcome>, PushError> {
        let row = |(id, quantity): &(u64, i64)| json!({ "id": id, "manage_stock": true, "stock_quantity": quantity });
        let rows: Vec<Value> = wanted.iter().map(row).collect();
        let call = Call::post(&path(parent)).segment("batch").json(&json!({ "update": rows }));
        let answer = self.call(call).await?;
        let updated = answer.get("update").and_then(Value::as_array);
        let updated = updated.ok_or_else(|| PushError::Unknown("the answer has no rows".into()))?;
        let of = |id: u64| updated.iter().find(|row| row.get("id") == Some(&json!(id)));
        let outcome = |(id, quantity): &(u64, i64)| {
            // A row that nothing is said of may have been set.
            let row = of(*id).and_then(|row| serde_json::from_value::<Product>(row.clone()).ok());
            row.map_or(RowOutcome::Unknown, |row| row.became(*quantity))
        };
        Ok(wanted.iter().map(outcome).collect())
    }
}

impl ReadFirst for Client {
    fn compared(&self) -> &Compared {
        &self.compared
    }

    async fn shown(&self, places: &[Place]) -> Result<Vec<Shown>, PushError> {
        let (groups, mut shown) = grouped(places);
        for (parent, members) in groups {
            let ids: Vec<String> = members.iter().map(|(_, id)| id.to_string()).collect();
            let call = Call::get(&path(parent))
                .query("include", &ids.join(","))
                .query("per_page", &BATCH_MAX.to_string());
            let listed = match self.call(call).await {
                Ok(listed) => serde_json::from_value::<Vec<Product>>(listed)
                    .map_err(|_| PushError::Refused("the answer is no list of products".into()))?,
                // Its parent is at fault.
                Err(PushError::Suspect(why)) => {
                    for (place, _) in members {
                        put(&mut shown, place, Err(why.clone()));
                    }
                    continue;
                }
                Err(error) => return Err(compared::unset(error)),
            };
            for (place, id) in members {
                let product = listed.iter().find(|product| product.id == id);
                put(&mut shown, place, product.map_or_else(|| Err(UNKNOWN.into()), Product::shown));
            }
        }
        Ok(shown)
    }

    /// Sets rows, one batch after the other. After one that fails as a whole the rest is left for later.
    async fn send(&self, rows: &[&Row]) -> Result<Answered<Vec<RowOutcome>>, PushError> {
        let places: Vec<Place> = rows.iter().map(|row| row.place.clone()).collect();
        let (groups, _) = grouped(&places);
        let (mut outcomes, mut wait) = (vec![RowOutcome::Untouched; rows.len()], Duration::ZERO);
        for (n, (parent, members)) in groups.into_iter().enumerate() {
            let of = |(place, id): &(usize, u64)| Some((*id, rows.get(*place)?.quantity));
            let wanted: Vec<(u64, i64)> = members.iter().filter_map(of).collect();
            let result = match self.batch(parent, &wanted).await {
                Ok(result) => result,
                Err(error) if n == 0 => return Err(error),
                Err(PushError::Unknown(_)) => vec![RowOutcome::Unknown; members.len()],
                Err(PushError::Limited { wait_ms }) => {
                    wait = Duration::from_millis(wait_ms);
                    break;
                }
                Err(PushError::Suspect(why)) if members.len() == 1 => {
                    vec![RowOutcome::Failed(why)]
                }
                Err(_) => break,
            };
            for ((place, _), outcome) in members.into_iter().zip(result) {
                put(&mut outcomes, place, outcome);
            }
        }
        Ok(Answered { value: outcomes, wait })
    }
}

impl Quantities for Client {
    fn calls(&self) -> Calls {
        let rows_max = self.rows_max;
        Calls {
            rows_max,
            calls_a_set: 2,
            reads_max: BATCH_MAX,
            feed_rows_max: 0,
            feed_rows_min: 0,
            located: false,
        }
    }

    async fn set(&self, rows: &[Row], key: &str) -> Result<Answered<Vec<RowOutcome>>, PushError> {
        compared::set(self, rows, key).await
    }

    async fn read(&self, places: &[Place]) -> Result<Answered<Vec<Option<i64>>>, PushError> {
        compared::read(self, places).await
    }
}

impl Product {
    /// Below zero is what was sold on backorder: none is shown.
    fn shown(&self) -> Shown {
        match (&self.manage_stock, self.stock_quantity) {
            (Value::Bool(true), units) => {
                let whole = compared::whole(units.unwrap_or(0.0));
                whole.map(|units| units.max(0)).ok_or_else(|| "its quantity is out of range".into())
            }
            (Value::String(_), _) => Err(OF_PARENT.into()),
            _ => Err(UNMANAGED.into()),
        }
    }

    /// What became of a row that was to show this.
    fn became(&self, quantity: i64) -> RowOutcome {
        if let Some(fault) = &self.error {
            return fault.became();
        }
        match (&self.manage_stock, self.stock_quantity.and_then(compared::whole)) {
            (Value::Bool(true), Some(shown)) if shown == quantity => RowOutcome::Confirmed,
            // A plugin may have made something else of it.
            (Value::Bool(true), _) => RowOutcome::Unknown,
            (Value::String(_), _) => RowOutcome::Failed(OF_PARENT.into()),
            // What is sent of a stock that is not managed is ignored without a word.
            _ => RowOutcome::Failed(UNMANAGED.into()),
        }
    }
}

impl Fault {
    fn became(&self) -> RowOutcome {
        match self.data.as_ref().and_then(|data| data.status) {
            Some(408 | 429) => RowOutcome::Refused,
            Some(400..500) => RowOutcome::Failed(self.words()),
            // It broke while the product was saved.
            _ => RowOutcome::Unknown,
        }
    }

    /// What is said, and what helps.
    fn words(&self) -> String {
        let cure = match self.code.as_str() {
            "woocommerce_rest_product_invalid_id"
            | "woocommerce_rest_product_variation_invalid_id"
            | "woocommerce_rest_invalid_product_id" => {
                ": map the SKU to a product that exists, a variation with its parent_id"
            }
            code if code.contains("cannot") => ": the REST key's user may not edit this product",
            _ => "",
        };
        let message: String = self.message.chars().take(200).collect();
        format!("{}: {message}{cure}", self.code)
    }
}

/// What the store says of a whole call, where its own words say more than the status.
fn refusal(answer: &Answer) -> Option<PushError> {
    if answer.status.is_success() {
        return None;
    }
    let fault: Fault = serde_json::from_slice(&answer.body).unwrap_or_default();
    let own = !fault.code.is_empty();
    match answer.status {
        // Something in front of the store: it judges by what it likes, and may change its mind.
        StatusCode::FORBIDDEN if !own => {
            Some(PushError::Refused("403, and not by the store: a firewall may be in front".into()))
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Some(PushError::Unauthorised(fault.words()))
        }
        // One row spoils the batch, or the batch is too large for this store.
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE if own => {
            Some(PushError::Suspect(fault.words()))
        }
        StatusCode::NOT_FOUND if fault.code.starts_with("woocommerce_") => {
            Some(PushError::Suspect(fault.words()))
        }
        _ => None,
    }
}

fn path(parent: Option<u64>) -> String {
    parent.map_or_else(|| PATH.into(), |parent| format!("{PATH}/{parent}/variations"))
}

/// Places by the call that they go with, and what is to be said of those that go with none.
fn grouped(places: &[Place]) -> (Groups, Vec<Shown>) {
    let (mut groups, mut shown) = (Groups::new(), vec![Err(UNKNOWN.into()); places.len()]);
    for (n, place) in places.iter().enumerate() {
        let parent = place.settings.get("parent_id").filter(|parent| !parent.is_empty());
        let parent = parent.map(|parent| parent.parse::<u64>());
        match (place.listing.parse::<u64>(), parent.transpose()) {
            (Ok(id), Ok(parent)) => groups.entry(parent).or_default().push((n, id)),
            (Err(_), _) => {
                put(&mut shown, n, Err("a product's id is a number: map the SKU to it".into()));
            }
            (_, Err(_)) => {
                put(&mut shown, n, Err("parent_id is a number: the parent product's id".into()));
            }
        }
    }
    (groups, shown)
}

fn put<T>(all: &mut [T], place: usize, value: T) {
    if let Some(one) = all.get_mut(place) {
        *one = value;
    }
}

#[cfg(test)]
mod tests;
