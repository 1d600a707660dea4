//! Telling Walmart a quantity, and reading what it shows.
//!
//! Walmart takes what it reserves for open orders off what it is told: to show N, it must be told N and what
//! is reserved (`adds_reserved`). No call compares or has a key: what is shown is read right before, and what
//! has no answer is read back and not sent again.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{FeedType, Settings, seller};
use crate::channel::account::Account;
use crate::channel::api::{Answer, Call, retry_after_ms};
use crate::channel::outcome::{Answered, Calls, Place, PushError, Quantities, Row, RowOutcome};
use crate::channel::pushed::{FEED_ROWS_MIN, NO_ID, OneByOne, Patience, is_id, read};
use crate::clock;

const INVENTORY: &str = "/v3/inventory";
pub(super) const INVENTORIES: &str = "/v3/inventories";
/// Rows of a feed: some hundred kilobytes, of which the smallest limit that is told of is one megabyte.
const FEED_ROWS_MAX: usize = 5_000;
/// No header keeps us away for longer.
const WAIT_MS_MAX: u64 = 60_000;
pub(super) const NOT_FOUND: &str = "Walmart knows no such SKU, or has not taken it in yet: map it to the SKU of a published item, \
     or push it again later";
pub(super) const NO_NODE: &str = "Walmart has not one ship node for it: set location_id to its ship node, in the channel's api or in \
     the SKU's listing";

/// A seller's stock.
pub struct Client {
    pub(super) seller: Account,
    pub(super) feed_type: FeedType,
    pub(super) adds_reserved: bool,
    /// How long a feed is waited for.
    pub(super) feeds: Patience,
}

/// What is at a place before a quantity is set there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Before {
    /// What can be bought.
    pub(super) shown: i64,
    /// What open orders take of what was told.
    pub(super) reserved: i64,
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
    #[serde(rename = "shipNode")]
    name: String,
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
        Ok(Self {
            seller: seller(settings)?,
            feed_type: settings.feeds,
            adds_reserved: settings.adds_reserved,
            feeds: Patience::FEED,
        })
    }

    /// Sets one quantity; the second of a pair is what is to be waited.
    async fn put(&self, row: &Row) -> Result<(RowOutcome, Duration), PushError> {
        let failed = |why: &str| Ok((RowOutcome::Failed(why.into()), Duration::ZERO));
        let place = &row.place;
        let before = self.before(place).await.map_err(|error| match error {
            // Nothing was set yet.
            PushError::Unknown(why) => PushError::Refused(why),
            error => error,
        });
        let reserved = match before?.value {
            Err(why) => return failed(why),
            Ok(Before { shown, .. }) if shown != row.from => {
                return Ok((RowOutcome::Stale, Duration::ZERO));
            }
            Ok(Before { reserved, .. }) => reserved,
        };
        let amount = row.quantity.max(0).saturating_add(reserved);
        let body = json!({ "sku": place.listing, "quantity": each(amount) });
        let answer = self.seller.change(|| inventory(Call::put, place).json(&body)).await?;
        match (answer.status.as_u16(), complaint(&answer)) {
            (404, Some(_)) => return failed(NOT_FOUND),
            (400 | 413 | 415 | 422, Some(why)) => return failed(&why),
            _ => {}
        }
        let wait = wait(&answer);
        let told: Told = read(&taken(answer)?)?;
        if told.quantity.amount == amount {
            Ok((RowOutcome::Confirmed, wait))
        } else {
            Ok((RowOutcome::Unknown, wait))
        }
    }

    /// What is known of a place before a quantity is set there, or why none ever can be.
    async fn before(
        &self,
        place: &Place,
    ) -> Result<Answered<Result<Before, &'static str>>, PushError> {
        if !is_id(&place.listing) {
            return Ok(Answered::now(Err(NO_ID)));
        }
        let (before, wait) = if self.adds_reserved {
            let stock: Option<Answered<Stock>> = self.known(|| stock_of(place)).await?;
            let before = |of: Answered<Stock>| (of.value.at(&place.location), of.wait);
            stock.map_or((Err(NOT_FOUND), Duration::ZERO), before)
        } else {
            let told: Option<Answered<Told>> = self.known(|| inventory(Call::get, place)).await?;
            let before = |of: Answered<Told>| {
                (Ok(Before { shown: of.value.quantity.amount, reserved: 0 }), of.wait)
            };
            told.map_or((Err(NOT_FOUND), Duration::ZERO), before)
        };
        Ok(Answered { value: before, wait })
    }

    /// What a question is answered; `None` if Walmart knows no such SKU.
    pub(super) async fn known<T: serde::de::DeserializeOwned>(
        &self,
        call: impl Fn() -> Call + Send + Sync,
    ) -> Result<Option<Answered<T>>, PushError> {
        let answer = self.seller.send(call).await?;
        match (answer.status.as_u16(), complaint(&answer)) {
            (404, Some(_)) => return Ok(None),
            (400, Some(why)) => return Err(PushError::Suspect(why)),
            _ => {}
        }
        let wait = wait(&answer);
        let value = read(&taken(answer)?)?;
        Ok(Some(Answered { value, wait }))
    }
}

impl Quantities for Client {
    fn calls(&self) -> Calls {
        Calls {
            rows_max: 1,
            calls_a_set: 2,
            reads_max: 1,
            feed_rows_max: FEED_ROWS_MAX,
            feed_rows_min: FEED_ROWS_MIN,
            located: false,
        }
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
            let before = self.before(place).await?;
            answered.wait = answered.wait.max(before.wait);
            answered.value.push(match before.value {
                Ok(before) => Some(before.shown),
                Err(NOT_FOUND) => None,
                // Whoever is asked about alone is said why.
                Err(why) => return Err(PushError::Suspect(why.into())),
            });
        }
        Ok(answered)
    }

    async fn feed(&self, rows: &[Row], _key: &str) -> Result<Answered<Vec<RowOutcome>>, PushError> {
        self.run_feed(rows).await
    }
}

impl Stock {
    /// What there is at a ship node, or at the only one there is if none is named; nothing is where nothing
    /// was told yet.
    pub(super) fn at(&self, name: &str) -> Result<Before, &'static str> {
        let node = match self.nodes.as_slice() {
            [only] if name.is_empty() => Some(only),
            [_, _, ..] if name.is_empty() => return Err(NO_NODE),
            nodes => nodes.iter().find(|node| node.name == name),
        };
        Ok(node.map_or(Before::default(), |node| Before {
            shown: node.shown(),
            reserved: node.reserved(),
        }))
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
    answer.changed().map_err(|error| match error {
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

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
