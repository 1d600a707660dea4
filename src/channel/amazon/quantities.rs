//! Telling Amazon a quantity, and reading what it shows: the Listings Items API, version 2021-08-01.
//!
//! `ACCEPTED` means that Amazon will carry a change out, not that it did: a row is confirmed once Amazon
//! shows it. `INVALID` comes with HTTP 200. No call compares or has a key: what is shown is read right before,
//! and what has no answer is read back and not sent again.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{Settings, account};
use crate::channel::account::Account;
use crate::channel::api::{Answer, Call};
use crate::channel::outcome::{Answered, Calls, Place, PushError, Quantities, Row, RowOutcome};
use crate::channel::pushed::{FEED_ROWS_MIN, NO_ID, OneByOne, Patience, is_id, read, wait_of};

const ITEMS: &str = "/listings/2021-08-01/items";
const AVAILABILITY: &str = "/attributes/fulfillment_availability";
/// Listings that one search finds: what the API allows.
const READS_MAX: usize = 20;
/// Rows of one push. They wait together until they are shown, and one of them is not kept longer than the
/// deadline of a sale allows.
const ROWS_MAX: usize = 10;
/// Searches that go with them: one before they are set, and some until all of them are shown.
const SEARCHES: usize = 3;
/// Messages of a feed: what the API allows.
const FEED_ROWS_MAX: usize = 25_000;
/// Calls that each operation allows at once, and then a second.
const BURST: usize = 5;
const PER_SECOND: f64 = 5.0;
/// What is waited after a refusal for the rate, of which Amazon does not say how long it holds.
const LIMITED_MS: u64 = 1_000;
/// How often a look-up is tried that the rate puts off.
const TRIES: u32 = 5;
/// What is asked for before a quantity is set.
const BEFORE: &str = "fulfillmentAvailability,productTypes";

const NOT_LISTED: &str = "Amazon knows no such listing: map the SKU to the seller SKU of a listing in this \
     marketplace";
const NOT_OWN: &str = "Amazon fulfils this listing: told a quantity, it would be yours to ship from then on. Map the SKU \
     to a listing that you fulfil";
const NO_TYPE: &str = "Amazon does not say of which product type the listing is: set product_type in the SKU's listing";

/// A seller's listings.
pub struct Client {
    pub(super) account: Account,
    pub(super) base_url: String,
    pub(super) seller_id: String,
    marketplace: String,
    /// How long a push waits for what was accepted to be shown.
    pub(super) applied: Patience,
    /// How long a feed is waited for.
    pub(super) feeds: Patience,
}

#[derive(Deserialize)]
struct Submission {
    status: String,
    #[serde(default)]
    issues: Vec<Issue>,
}

#[derive(Deserialize)]
struct Issue {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    severity: String,
}

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    items: Vec<Item>,
}

/// A listing as far as it was asked for.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    sku: String,
    #[serde(default)]
    fulfillment_availability: Vec<Availability>,
    #[serde(default)]
    product_types: Vec<ProductType>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Availability {
    fulfillment_channel_code: String,
    quantity: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProductType {
    product_type: String,
}

impl Client {
    /// Nobody is asked yet. The error says what is wrong with a URL.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        Ok(Self {
            account: account(settings)?,
            base_url: settings.base_url.clone(),
            seller_id: settings.seller_id.clone(),
            marketplace: settings.marketplaces.first().cloned().unwrap_or_default(),
            applied: Patience {
                first: settings.applied_within / 20,
                most: Duration::from_secs(2),
                total: settings.applied_within,
            },
            feeds: Patience::FEED,
        })
    }

    /// The marketplace of a listing.
    pub(super) fn marketplace<'a>(&'a self, place: &'a Place) -> &'a str {
        place.settings.get("marketplace").unwrap_or(&self.marketplace)
    }

    /// Sets one quantity; `None` if it is accepted.
    async fn patch(&self, row: &Row, product_type: &str) -> Result<Option<RowOutcome>, PushError> {
        // Other than `replace` it leaves lead times and restock dates as they are.
        let patch = json!({ "op": "merge", "path": AVAILABILITY, "value": [availability(row)] });
        let body = json!({ "productType": product_type, "patches": [patch] });
        let call = || {
            let call = Call::patch(ITEMS).segment(&self.seller_id).segment(&row.place.listing);
            call.query("marketplaceIds", self.marketplace(&row.place)).json(&body)
        };
        let answer = self.account.change(call).await?;
        match (answer.status.as_u16(), complaint(&answer)) {
            (404, Some(_)) => return Ok(Some(RowOutcome::Failed(NOT_LISTED.into()))),
            (400 | 413 | 415, Some(why)) => return Ok(Some(RowOutcome::Failed(why))),
            _ => {}
        }
        let body = taken(answer)?;
        let told: Submission = read(&body)?;
        match told.status.as_str() {
            "ACCEPTED" => Ok(None),
            "INVALID" => Ok(Some(RowOutcome::Failed(told.reason()))),
            status => Err(PushError::Unknown(format!("the status is {status:?}"))),
        }
    }

    /// Looks until Amazon shows what it accepted, as long as the patience lasts.
    async fn look(&self, rows: &[Row], sent: &mut OneByOne) {
        let rows = rows.iter().zip(&mut sent.outcomes);
        let mut open: Vec<_> = rows.filter(|(_, outcome)| outcome.is_none()).collect();
        let (mut pauses, mut wait) = (self.applied.begin(), Duration::ZERO);
        while !open.is_empty() && pauses.pause(wait).await {
            let places: Vec<Place> = open.iter().map(|(row, _)| row.place.clone()).collect();
            match self.read(&places).await {
                Ok(answered) => {
                    for ((row, outcome), shown) in open.iter_mut().zip(answered.value) {
                        if shown == Some(row.quantity) {
                            **outcome = Some(RowOutcome::Confirmed);
                        }
                    }
                    wait = answered.wait;
                }
                Err(error) => wait = wait_of(&error),
            }
            open.retain(|(_, outcome)| outcome.is_none());
        }
    }

    /// The product type of each row that can be set, and what becomes of the others: those of which Amazon
    /// shows something else than was believed, and those that it would never take.
    pub(super) async fn look_up(
        &self,
        rows: &[Row],
    ) -> Result<Vec<Result<String, RowOutcome>>, PushError> {
        let mut wanted: Vec<&Place> = rows.iter().map(|row| &row.place).collect();
        // A search is of one marketplace.
        wanted.sort_by_key(|place| self.marketplace(place));
        let parts = wanted.chunk_by(|a, b| self.marketplace(a) == self.marketplace(b));
        let mut items = BTreeMap::new();
        for (n, part) in parts.flat_map(|part| part.chunks(READS_MAX)).enumerate() {
            if n >= BURST {
                sleep(gap()).await;
            }
            let mut tries = 1;
            let found = loop {
                match self.items(part, BEFORE).await {
                    Err(PushError::Limited { wait_ms }) if tries < TRIES => {
                        tries += 1;
                        sleep(Duration::from_millis(wait_ms)).await;
                    }
                    // Nothing was set yet.
                    Err(PushError::Unknown(why)) => return Err(PushError::Refused(why)),
                    found => break found?,
                }
            };
            items.extend(found);
        }
        Ok(rows.iter().map(|row| judge(row, items.get(&row.place.listing))).collect())
    }

    /// What Amazon knows of listings of one marketplace, by seller SKU. What must not stand in a list is asked
    /// for by itself, and so is a single one.
    async fn items(
        &self,
        places: &[&Place],
        data: &str,
    ) -> Result<BTreeMap<String, Item>, PushError> {
        if places.iter().any(|place| !is_id(&place.listing)) {
            return Err(PushError::Suspect(NO_ID.into()));
        }
        let (mut listed, mut single): (Vec<&Place>, Vec<&Place>) =
            places.iter().partition(|place| !place.listing.contains(','));
        if listed.len() == 1 {
            single.append(&mut listed);
        }
        let mut items = BTreeMap::new();
        for place in single {
            let call = || {
                let call = Call::get(ITEMS).segment(&self.seller_id).segment(&place.listing);
                call.query("marketplaceIds", self.marketplace(place)).query("includedData", data)
            };
            let answer = self.asked(call).await?;
            if answer.status.as_u16() == 404 && complaint(&answer).is_some() {
                continue;
            }
            let item: Item = read(&taken(answer)?)?;
            items.insert(place.listing.clone(), item);
        }
        if let Some(first) = listed.first() {
            let skus: Vec<&str> = listed.iter().map(|place| place.listing.as_str()).collect();
            let call = || {
                let call = Call::get(ITEMS).segment(&self.seller_id);
                call.query("marketplaceIds", self.marketplace(first))
                    .query("identifiers", &skus.join(","))
                    .query("identifiersType", "SKU")
                    .query("includedData", data)
                    .query("pageSize", &READS_MAX.to_string())
            };
            let body = taken(self.asked(call).await?)?;
            let found: Found = read(&body)?;
            items.extend(found.items.into_iter().map(|item| (item.sku.clone(), item)));
        }
        Ok(items)
    }

    /// A question. That one of several listings cannot be asked for is found by asking for fewer.
    async fn asked(&self, call: impl Fn() -> Call + Send + Sync) -> Result<Answer, PushError> {
        let answer = self.account.send(call).await?;
        match complaint(&answer).filter(|_| answer.status.as_u16() == 400) {
            Some(why) => Err(PushError::Suspect(why)),
            None => Ok(answer),
        }
    }
}

impl Quantities for Client {
    fn calls(&self) -> Calls {
        Calls {
            rows_max: ROWS_MAX,
            calls_a_set: ROWS_MAX + SEARCHES,
            reads_max: READS_MAX,
            feed_rows_max: FEED_ROWS_MAX,
            feed_rows_min: FEED_ROWS_MIN,
            located: false,
        }
    }

    async fn set(&self, rows: &[Row], _key: &str) -> Result<Answered<Vec<RowOutcome>>, PushError> {
        let began = Instant::now();
        let types = self.look_up(rows).await?;
        let mut sent = OneByOne::default();
        for (n, (row, product_type)) in rows.iter().zip(types).enumerate() {
            if n >= BURST {
                sleep(gap()).await;
            }
            let result = match product_type {
                Ok(product_type) => self.patch(row, &product_type).await,
                Err(outcome) => Ok(Some(outcome)),
            };
            if !sent.note(result)? {
                break;
            }
        }
        self.look(rows, &mut sent).await;
        let calls = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        sent.wait = sent.wait.max((gap() * calls).saturating_sub(began.elapsed()));
        Ok(sent.answered(rows.len()))
    }

    async fn read(&self, places: &[Place]) -> Result<Answered<Vec<Option<i64>>>, PushError> {
        let mut listed: Vec<&Place> = places.iter().collect();
        listed.sort_by_key(|place| self.marketplace(place));
        let mut items = BTreeMap::new();
        for part in listed.chunk_by(|a, b| self.marketplace(a) == self.marketplace(b)) {
            items.extend(self.items(part, "fulfillmentAvailability").await?);
        }
        let shown = places.iter().map(|place| items.get(&place.listing)?.shown());
        Ok(Answered { value: shown.collect(), wait: gap() })
    }

    async fn feed(&self, rows: &[Row], _key: &str) -> Result<Answered<Vec<RowOutcome>>, PushError> {
        self.run_feed(rows).await
    }
}

impl Item {
    /// What the seller's own stock shows. A listing whose stock was never told shows nothing; one that Amazon
    /// fulfils is not the seller's to set: told a quantity, it would be the seller's to ship from then on.
    fn shown(&self) -> Option<i64> {
        let own = self.fulfillment_availability.iter();
        let own = own.into_iter().find(|of| of.fulfillment_channel_code == "DEFAULT");
        match own {
            Some(own) => Some(own.quantity.unwrap_or(0)),
            None => self.fulfillment_availability.is_empty().then_some(0),
        }
    }
}

impl Submission {
    /// Why it is invalid.
    fn reason(&self) -> String {
        let errors = self.issues.iter().filter(|issue| issue.severity != "WARNING");
        let errors: Vec<String> =
            errors.map(|issue| format!("{}: {}", issue.code, issue.message)).collect();
        if errors.is_empty() { "Amazon calls it invalid".into() } else { errors.join("; ") }
    }
}

/// Whether a row can be set: its product type, or what becomes of it.
fn judge(row: &Row, item: Option<&Item>) -> Result<String, RowOutcome> {
    let failed = |why: &str| RowOutcome::Failed(why.into());
    let item = item.ok_or_else(|| failed(NOT_LISTED))?;
    let shown = item.shown().ok_or_else(|| failed(NOT_OWN))?;
    if shown != row.from {
        return Err(RowOutcome::Stale);
    }
    let said = row.place.settings.get("product_type").cloned();
    let own = || item.product_types.first().map(|own| own.product_type.clone());
    said.or_else(own).ok_or_else(|| failed(NO_TYPE))
}

/// The new value of the attribute. A replacement must carry the lead time, or it is lost.
pub(super) fn availability(row: &Row) -> Value {
    let mut value =
        json!({ "fulfillment_channel_code": "DEFAULT", "quantity": row.quantity.max(0) });
    let lead = row.place.settings.get("lead_time_days").and_then(|days| days.parse::<u32>().ok());
    if let (Some(days), Some(members)) = (lead, value.as_object_mut()) {
        members.insert("lead_time_to_ship_max_days".into(), days.into());
    }
    value
}

/// The body of an answer that is a success.
pub(super) fn taken(answer: Answer) -> Result<bytes::Bytes, PushError> {
    answer.changed().map_err(|error| match error {
        PushError::Limited { wait_ms } => PushError::Limited { wait_ms: wait_ms.max(LIMITED_MS) },
        error => error,
    })
}

/// What the Selling Partner API itself says is wrong; `None` if it was not this API that answered.
pub(super) fn complaint(answer: &Answer) -> Option<String> {
    let body: Value = serde_json::from_slice(&answer.body).ok()?;
    let error = body.pointer("/errors/0")?;
    let part = |name| error.get(name).and_then(Value::as_str).unwrap_or_default();
    Some(format!("{}: {}", part("code"), part("message")).chars().take(200).collect())
}

/// The pause between calls of one operation, once its burst is used up.
fn gap() -> Duration {
    Duration::from_secs_f64(1.0 / PER_SECOND)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
