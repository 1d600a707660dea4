//! Telling eBay quantities, and reading what it shows: bulk calls of its Inventory API.
//!
//! What a listing shows is the smaller of two numbers: the total of its inventory item, and what its offer
//! may show of it. Both are set, so a listing's mapping should name its offer. Bulk calls are answered 200
//! or 207, and say of each row what became of it. Nothing is compared: the last one counts.

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Ebay, Settings};
use crate::channel::api::Call;
use crate::channel::compared::{self, Compared, ReadFirst, Shown, UNKNOWN};
use crate::channel::outcome::{Answered, Calls, Place, PushError, Quantities, Row, RowOutcome};
use crate::config;

/// Rows of a bulk call.
const ROWS_MAX: usize = 25;
const SET: &str = "/sell/inventory/v1/bulk_update_price_quantity";
const GET: &str = "/sell/inventory/v1/bulk_get_inventory_item";
/// A fault on eBay's side.
const SYSTEM: u64 = 25_001;
/// Errors that another try may not meet.
const TRY_AGAIN: [u64; 1] = [25_604];

/// A seller's inventory.
pub struct Client {
    ebay: Ebay,
    rows_max: usize,
    compared: Compared,
}

#[derive(Deserialize)]
struct Responses {
    responses: Vec<Response>,
}

/// What is said of one inventory item, or of one of its offers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    status_code: u16,
    #[serde(default)]
    sku: String,
    #[serde(default)]
    errors: Vec<Fault>,
    inventory_item: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fault {
    #[serde(default)]
    error_id: u64,
    #[serde(default)]
    message: String,
}

impl Client {
    /// A client for a seller; `None` if the config has no API for it, or no refresh token.
    #[must_use]
    pub fn new(channel: &config::Channel) -> Option<Self> {
        let api = channel.api.as_ref()?;
        api.refresh_token.as_ref()?;
        let ebay = Ebay::new(&Settings::of(api)?).ok()?;
        Some(Self { ebay, rows_max: api.rows_max(ROWS_MAX), compared: Compared::default() })
    }

    async fn call(&self, path: &str, requests: Vec<Value>) -> Result<Vec<Response>, PushError> {
        let body = json!({ "requests": requests });
        let call = || Call::post(path).header("Accept", "application/json").json(&body);
        let answer = self.ebay.change(call).await?;
        if answer.status == StatusCode::BAD_REQUEST {
            return Err(PushError::Suspect(answer.complaint()));
        }
        let answer: Result<Responses, _> = serde_json::from_slice(&answer.changed()?);
        let answer =
            answer.map_err(|_| PushError::Unknown("the answer has no responses".into()))?;
        Ok(answer.responses)
    }
}

impl ReadFirst for Client {
    fn compared(&self) -> &Compared {
        &self.compared
    }

    async fn shown(&self, places: &[Place]) -> Result<Vec<Shown>, PushError> {
        let asked = places.iter().map(|place| json!({ "sku": place.listing })).collect();
        let told = self.call(GET, asked).await.map_err(compared::unset)?;
        let shown = |place: &Place| {
            let one = told.iter().find(|one| one.sku == place.listing);
            one.map_or_else(|| Ok(Err(UNKNOWN.into())), Response::shown)
        };
        places.iter().map(shown).collect()
    }

    async fn send(&self, rows: &[&Row]) -> Result<Answered<Vec<RowOutcome>>, PushError> {
        if rows.is_empty() {
            return Ok(Answered::now(Vec::new()));
        }
        let asked = rows.iter().map(|row| {
            let mut asked = json!({
                "sku": row.place.listing,
                "shipToLocationAvailability": { "quantity": row.quantity },
            });
            let offers = row.place.settings.get("offer_id").map_or("", String::as_str);
            let offers = offers.split([',', ' ']).filter(|id| !id.is_empty());
            let offers: Vec<Value> = offers
                .map(|id| json!({ "offerId": id, "availableQuantity": row.quantity }))
                .collect();
            if let (Some(fields), false) = (asked.as_object_mut(), offers.is_empty()) {
                fields.insert("offers".into(), offers.into());
            }
            asked
        });
        let told = self.call(SET, asked.collect()).await?;
        let outcome = |row: &&Row| {
            // One says of the item and others of its offers what became of them: the worst counts.
            let of_row = told.iter().filter(|one| one.sku == row.place.listing);
            let outcomes: Vec<RowOutcome> = of_row.map(Response::became).collect();
            let worst = outcomes.iter().find(|one| **one != RowOutcome::Confirmed);
            worst.or_else(|| outcomes.first()).cloned().unwrap_or(RowOutcome::Unknown)
        };
        Ok(Answered::now(rows.iter().map(outcome).collect()))
    }
}

impl Quantities for Client {
    fn calls(&self) -> Calls {
        let rows_max = self.rows_max;
        Calls {
            rows_max,
            calls_a_set: 2,
            reads_max: rows_max,
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

impl Response {
    /// An item without a quantity shows none. A fault on eBay's side says nothing about the item.
    fn shown(&self) -> Result<Shown, PushError> {
        match self.became() {
            RowOutcome::Confirmed => {
                let item = self.inventory_item.as_ref();
                let place = "/availability/shipToLocationAvailability/quantity";
                let quantity = item.and_then(|item| item.pointer(place)?.as_i64());
                Ok(Ok(quantity.unwrap_or(0)))
            }
            RowOutcome::Failed(_) if self.status_code == 404 => Ok(Err(UNKNOWN.into())),
            RowOutcome::Failed(why) => Ok(Err(why)),
            _ => Err(PushError::Refused(self.words())),
        }
    }

    fn became(&self) -> RowOutcome {
        let has = |ids: &[u64]| self.errors.iter().any(|error| ids.contains(&error.error_id));
        match self.status_code {
            200..300 if self.errors.is_empty() => RowOutcome::Confirmed,
            429 => RowOutcome::Refused,
            _ if has(&TRY_AGAIN) => RowOutcome::Refused,
            // Nobody knows how far it got.
            500.. => RowOutcome::Unknown,
            _ if has(&[SYSTEM]) => RowOutcome::Unknown,
            // A listing may be revised 250 times a day: tomorrow it may again.
            _ if self.errors.iter().any(|error| error.message.contains("revis")) => {
                RowOutcome::Refused
            }
            400..500 => RowOutcome::Failed(self.words()),
            _ => RowOutcome::Unknown,
        }
    }

    /// What is said, and what helps.
    fn words(&self) -> String {
        let Some(error) = self.errors.first() else { return self.status_code.to_string() };
        let cure = match error.error_id {
            25_702 | 25_707 | 25_710 => {
                ": the listing's id must be the SKU of an inventory item of the Inventory API"
            }
            25_713 => ": offer_id must be of a published offer of this SKU",
            25_759 => ": fewer than an auction is promised; lower the auction's allocation",
            _ => "",
        };
        let message: String = error.message.chars().take(200).collect();
        format!("{}: {message}{cure}", error.error_id)
    }
}

#[cfg(test)]
mod tests;
