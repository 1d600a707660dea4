//! Telling Walmart a quantity, and reading what it shows.
//!
//! Walmart takes what it reserves for open orders off what it is told: to show N, it must be told N and what
//! is reserved (`adds_reserved`). Nothing compares, and no call has a key.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{FeedType, Seller, Settings};
use crate::channel::api::{Answer, Broken, Call, retry_after_ms};
use crate::channel::outcome::{Answered, Calls, Place, PushError, Quantities, Row, RowOutcome};
use crate::channel::pushed::{OneByOne, Patience, success};
use crate::channel::token::Unanswered;
use crate::clock;

const INVENTORY: &str = "/v3/inventory";
pub(super) const INVENTORIES: &str = "/v3/inventories";
/// Rows of a feed: some hundred kilobytes, of which the smallest limit that is told of is one megabyte.
const FEED_ROWS_MAX: usize = 5_000;
/// No header keeps us away for longer.
const WAIT_MS_MAX: u64 = 60_000;
const NOT_FOUND: &str = "Walmart knows no such SKU, or has not taken it in yet: map it to the SKU of a published item, \
     or push it again later";
pub(super) const NO_NODE: &str = "Walmart has not one ship node for it: set location_id to its ship node, in the channel's api or in \
     the SKU's listing";

/// A seller's stock.
pub struct Client {
    pub(super) seller: Seller,
    pub(super) feed_type: FeedType,
    pub(super) adds_reserved: bool,
    /// How long a feed is waited for.
    pub(super) feeds: Patience,
}

/// What Walmart knows of one SKU.
#[derive(Deserialize)]
pub(super) struct Stock {
    pub(super) sku: String,
    #[serde(default)]
    nodes: Vec<Node>,
}

/// The same at one ship node.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    ship_node: String,
    input_qty: Option<Quantity>,
    avail_to_sell_qty: Option<Quantity>,
    reserved_qty: Option<Quantity>,
}

#[derive(Clone, Debug, Deserialize)]
struct Quantity {
    amount: i64,
}

#[derive(Deserialize)]
struct Told {
    quantity: Quantity,
}

impl Client {
    /// Nobody is asked yet. The error says what is wrong with a URL.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let second = Duration::from_secs(1);
        Ok(Self {
            seller: Seller::new(settings)?,
            feed_type: settings.feeds,
            adds_reserved: settings.adds_reserved,
            feeds: Patience { first: second, most: 30 * second, total: 1_200 * second },
        })
    }

    /// Sets one quantity; the second of a pair is what is to be waited.
    async fn put(&self, row: &Row) -> Result<(RowOutcome, Duration), PushError> {
        let failed = |why: &str| Ok((RowOutcome::Failed(why.into()), Duration::ZERO));
        let place = &row.place;
        let reserved = if self.adds_reserved {
            let stock: Option<Answered<Stock>> = self.known(|| stock_of(place)).await?;
            match stock.map(|stock| stock.value.reserved(&place.location)) {
                Some(Some(reserved)) => reserved,
                Some(None) => return failed(NO_NODE),
                None => return failed(NOT_FOUND),
            }
        } else {
            0
        };
        let quantity = each(row.quantity.max(0).saturating_add(reserved));
        let body = json!({ "sku": place.listing, "quantity": quantity });
        let answer = match self.seller.send(|| inventory(Call::put, place).json(&body)).await {
            Err(Unanswered::Call(Broken::Invalid(why))) => return failed(&why),
            answer => answer?,
        };
        match (answer.status.as_u16(), complaint(&answer)) {
            (404, Some(_)) => return failed(NOT_FOUND),
            (400 | 413 | 415 | 422, Some(why)) => return failed(&why),
            _ => {}
        }
        let wait = wait(&answer);
        let told: Told = serde_json::from_slice(&taken(answer)?).map_err(unreadable)?;
        if quantity["amount"] == told.quantity.amount {
            Ok((RowOutcome::Confirmed, wait))
        } else {
            Ok((RowOutcome::Unknown, wait))
        }
    }

    /// What a question is answered; `None` if Walmart knows no such SKU.
    pub(super) async fn known<T: serde::de::DeserializeOwned>(
        &self,
        call: impl Fn() -> Call + Send + Sync,
    ) -> Result<Option<Answered<T>>, PushError> {
        let answer = match self.seller.send(call).await {
            Err(Unanswered::Call(Broken::Invalid(why))) => return Err(PushError::Suspect(why)),
            answer => answer?,
        };
        match (answer.status.as_u16(), complaint(&answer)) {
            (404, Some(_)) => return Ok(None),
            (400, Some(why)) => return Err(PushError::Suspect(why)),
            _ => {}
        }
        let wait = wait(&answer);
        let value = serde_json::from_slice(&taken(answer)?).map_err(unreadable)?;
        Ok(Some(Answered { value, wait }))
    }
}

impl Quantities for Client {
    fn calls(&self) -> Calls {
        Calls { rows_max: 1, reads_max: 1, feed_rows_max: FEED_ROWS_MAX, located: false }
    }

    async fn set(&self, rows: &[Row], _key: &str) -> Result<Answered<Vec<RowOutcome>>, PushError> {
        let mut sent = OneByOne::default();
        for row in rows {
            let result = self.put(row).await.map(|(outcome, wait)| {
                sent.wait = wait;
                Some(outcome)
            });
            if !sent.note(result)? {
                break;
            }
        }
        Ok(sent.answered(rows.len()))
    }

    async fn read(&self, places: &[Place]) -> Result<Answered<Vec<Option<i64>>>, PushError> {
        let mut answered =
            Answered { value: Vec::with_capacity(places.len()), wait: Duration::ZERO };
        for place in places {
            let shown = if self.adds_reserved {
                let stock: Option<Answered<Stock>> = self.known(|| stock_of(place)).await?;
                stock.map(|of| (of.value.shown(&place.location), of.wait))
            } else {
                let told = self.known(|| inventory(Call::get, place)).await?;
                told.map(|of: Answered<Told>| (Some(of.value.quantity.amount), of.wait))
            };
            let (shown, wait) = shown.unwrap_or_default();
            answered.value.push(shown);
            answered.wait = answered.wait.max(wait);
        }
        Ok(answered)
    }

    async fn feed(&self, rows: &[Row], _key: &str) -> Result<Answered<Vec<RowOutcome>>, PushError> {
        self.run_feed(rows).await
    }
}

impl Stock {
    /// What can be bought at a ship node.
    fn shown(&self, node: &str) -> Option<i64> {
        self.at(node, Node::shown)
    }

    /// What open orders take there of what was told.
    pub(super) fn reserved(&self, node: &str) -> Option<i64> {
        self.at(node, Node::reserved)
    }

    /// A number of a ship node, of the only one there is if none is named; nothing is where nothing was told
    /// yet. `None` if nobody can know which is meant.
    fn at(&self, name: &str, number: fn(&Node) -> i64) -> Option<i64> {
        match self.nodes.as_slice() {
            [only] if name.is_empty() => Some(number(only)),
            [_, _, ..] if name.is_empty() => None,
            nodes => Some(nodes.iter().find(|node| node.ship_node == name).map_or(0, number)),
        }
    }
}

impl Node {
    fn reserved(&self) -> i64 {
        self.reserved_qty.as_ref().map_or(0, |quantity| quantity.amount.max(0))
    }

    fn shown(&self) -> i64 {
        let told = self.input_qty.as_ref().map_or(0, |quantity| quantity.amount);
        self.avail_to_sell_qty.as_ref().map_or(told - self.reserved(), |quantity| quantity.amount)
    }
}

/// A quantity as Walmart writes it.
pub(super) fn each(amount: i64) -> Value {
    json!({ "unit": "EACH", "amount": amount })
}

fn inventory(method: fn(&str) -> Call, place: &Place) -> Call {
    at_node(method(INVENTORY).query("sku", &place.listing), place)
}

fn stock_of(place: &Place) -> Call {
    at_node(Call::get(INVENTORIES).segment(&place.listing), place)
}

fn at_node(call: Call, place: &Place) -> Call {
    if place.location.is_empty() { call } else { call.query("shipNode", &place.location) }
}

/// The body of an answer that is a success.
pub(super) fn taken(answer: Answer) -> Result<bytes::Bytes, PushError> {
    let next = replenished(&answer);
    success(answer).map_err(|error| match error {
        PushError::Limited { wait_ms } => {
            PushError::Limited { wait_ms: next.unwrap_or(wait_ms).max(wait_ms) }
        }
        error => error,
    })
}

/// What is to be waited after an answer: nothing, unless it took the last token.
pub(super) fn wait(answer: &Answer) -> Duration {
    let left = answer.headers.get("x-current-token-count").and_then(|left| left.to_str().ok());
    let is_last =
        left.and_then(|left| left.trim().parse::<f64>().ok()).is_some_and(|left| left < 1.0);
    let wait = is_last.then(|| replenished(answer)).flatten();
    Duration::from_millis(wait.unwrap_or(0))
}

/// Milliseconds until tokens come back, if the answer says it. The header has two spellings, and its time may
/// be in seconds, in milliseconds or a date.
fn replenished(answer: &Answer) -> Option<u64> {
    let names = ["x-next-replenish-time", "x-next-replenishment-time"];
    let value = names.iter().find_map(|name| answer.headers.get(*name))?;
    let now = clock::now_ms();
    let at = match value.to_str().ok()?.trim().parse::<u64>() {
        Ok(ms) if ms > 100_000_000_000 => ms,
        Ok(seconds) => seconds.saturating_mul(1_000),
        Err(_) => {
            let mut headers = hyper::HeaderMap::new();
            headers.insert(hyper::header::RETRY_AFTER, value.clone());
            return retry_after_ms(&headers, now);
        }
    };
    Some(at.saturating_sub(now).min(WAIT_MS_MAX))
}

/// What Walmart's API itself says is wrong; `None` if it was not this API that answered.
pub(super) fn complaint(answer: &Answer) -> Option<String> {
    let body: Value = serde_json::from_slice(&answer.body).ok()?;
    let error = body.pointer("/errors/0").or_else(|| body.pointer("/error/0"))?;
    let part = |name| error.get(name).and_then(Value::as_str);
    let said = part("description").or_else(|| part("message")).or_else(|| part("info"));
    let code = part("code").unwrap_or_default();
    Some(format!("{code}: {}", said.unwrap_or_default()).chars().take(200).collect())
}

pub(super) fn unreadable(error: serde_json::Error) -> PushError {
    PushError::Unknown(format!("the answer cannot be read: {error}"))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
