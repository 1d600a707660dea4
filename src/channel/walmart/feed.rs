//! Many quantities as one feed. `PROCESSED` means that it was worked through: what became of each item stands
//! in the pages of its details.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::FeedType;
use super::quantities::{
    Before, Client, INVENTORIES, NO_NODE, NOT_FOUND, Stock, complaint, each, taken,
};
use crate::channel::api::Call;
use crate::channel::outcome::{Answered, Place, PushError, Row, RowOutcome};
use crate::channel::pushed::{read, wait_of};

const FEEDS: &str = "/v3/feeds";
/// Items of a page: what the API allows.
const PAGE: usize = 50;
/// How often a page is asked for that does not come.
const TRIES: u32 = 4;
/// Between the parts of a form, each time at the beginning of a line: the JSON in it is one line.
const BOUNDARY: &str = "stockraft-feed";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Accepted {
    feed_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(rename = "feedStatus")]
    state: String,
    #[serde(default)]
    items_received: usize,
    item_details: Option<Details>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    #[serde(default)]
    item_ingestion_status: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    sku: Option<String>,
    ingestion_status: String,
    ingestion_errors: Option<Errors>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Errors {
    #[serde(default)]
    ingestion_error: Vec<Fault>,
}

#[derive(Deserialize)]
struct Fault {
    #[serde(default)]
    code: String,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
struct Listed {
    meta: Option<Meta>,
    #[serde(default)]
    elements: Elements,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    next_cursor: Option<String>,
}

#[derive(Default, Deserialize)]
struct Elements {
    #[serde(default)]
    inventories: Vec<Stock>,
}

/// A row as it is sent.
struct Sent<'a> {
    /// Its place among all rows.
    index: usize,
    row: &'a Row,
    /// What Walmart is told, so that it shows what the row says.
    amount: i64,
}

impl Client {
    /// Sets many quantities: by one feed, or by one for each ship node, where a feed knows but one.
    pub(super) async fn run_feed(
        &self,
        rows: &[Row],
    ) -> Result<Answered<Vec<RowOutcome>>, PushError> {
        let mut outcomes: Vec<Option<RowOutcome>> = Vec::with_capacity(rows.len());
        let mut nodes = BTreeMap::<&str, Vec<Sent<'_>>>::new();
        let before = self.before_all(rows).await?;
        for (index, (row, before)) in rows.iter().zip(before).enumerate() {
            let node = row.place.location.as_str();
            let amount = match before {
                _ if node.is_empty() && self.feed_type == FeedType::MpInventory => {
                    outcomes.push(Some(RowOutcome::Failed(NO_NODE.into())));
                    continue;
                }
                Err(why) => {
                    outcomes.push(Some(RowOutcome::Failed(why.into())));
                    continue;
                }
                Ok(before) if before.shown != row.from => {
                    outcomes.push(Some(RowOutcome::Stale));
                    continue;
                }
                Ok(before) => row.quantity.max(0).saturating_add(before.reserved),
            };
            outcomes.push(None);
            let node = if self.feed_type == FeedType::Inventory { node } else { "" };
            nodes.entry(node).or_default().push(Sent { index, row, amount });
        }
        let (mut wait, mut made) = (Duration::ZERO, false);
        for (node, part) in nodes {
            let items = match self.submit(node, &part).await {
                Ok(items) => items,
                Err(error) if !made => return Err(error),
                // The rows of feeds before it have their outcomes; these are as they were.
                Err(error) => {
                    tracing::warn!(%error, "one of several feeds was not made");
                    wait = wait_of(&error);
                    break;
                }
            };
            made = true;
            for Sent { index, row, .. } in part {
                let became = items.get(&row.place.listing).cloned();
                if let Some(outcome) = outcomes.get_mut(index) {
                    *outcome = Some(became.unwrap_or(RowOutcome::Unknown));
                }
            }
        }
        let value = outcomes.into_iter().map(|outcome| outcome.unwrap_or(RowOutcome::Refused));
        Ok(Answered { value: value.collect(), wait })
    }

    /// What is known of each row before it is set, out of the list of all that is sold.
    async fn before_all(
        &self,
        rows: &[Row],
    ) -> Result<Vec<Result<Before, &'static str>>, PushError> {
        let mut missing: BTreeSet<&str> =
            rows.iter().map(|row| row.place.listing.as_str()).collect();
        let mut stocks = BTreeMap::new();
        let mut cursor: Option<String> = None;
        loop {
            let call = || {
                let call = Call::get(INVENTORIES).query("limit", &PAGE.to_string());
                cursor.iter().fold(call, |call, cursor| call.query("nextCursor", cursor))
            };
            let page: Listed = match self.page(call).await {
                // Nothing was set yet.
                Err(PushError::Unknown(why)) => return Err(PushError::Refused(why)),
                page => page?,
            };
            let is_last = page.elements.inventories.is_empty();
            for stock in page.elements.inventories {
                if missing.remove(stock.sku.as_str()) {
                    stocks.insert(stock.sku.clone(), stock);
                }
            }
            let next = page.meta.and_then(|meta| meta.next_cursor);
            // It is another one on each page, and a list that goes round has no end.
            let is_last = is_last || next == cursor;
            cursor = next;
            if is_last || missing.is_empty() || cursor.is_none() {
                break;
            }
        }
        let before = |row: &Row| match stocks.get(&row.place.listing) {
            None => Err(NOT_FOUND),
            Some(stock) => stock.at(&row.place.location).map(|before| {
                if self.adds_reserved {
                    before
                } else {
                    Before { shown: before.shown + before.reserved, reserved: 0 }
                }
            }),
        };
        Ok(rows.iter().map(before).collect())
    }

    /// A page that is asked for again if it does not come.
    async fn page<T: serde::de::DeserializeOwned>(
        &self,
        call: impl Fn() -> Call + Send + Sync,
    ) -> Result<T, PushError> {
        let mut pauses = self.feeds.begin();
        for tries in 1.. {
            let error = match self.known(&call).await {
                Ok(Some(page)) => {
                    tokio::time::sleep(page.wait).await;
                    return Ok(page.value);
                }
                Ok(None) => PushError::Refused("Walmart does not find it".into()),
                Err(error) => error,
            };
            if tries >= TRIES || !pauses.pause(wait_of(&error)).await {
                return Err(error);
            }
        }
        Err(PushError::Refused("it was not asked for".into()))
    }

    /// Makes a feed and waits for what became of its items, by SKU. An error only where nothing was done.
    async fn submit(
        &self,
        node: &str,
        rows: &[Sent<'_>],
    ) -> Result<BTreeMap<String, RowOutcome>, PushError> {
        let (content_type, body) = form(&self.document(rows).to_string());
        let call = || {
            let call = Call::post(FEEDS).query("feedType", self.feed_type.name());
            let call = if node.is_empty() { call } else { call.query("shipNode", node) };
            call.body(&content_type, body.clone())
        };
        let answer = match self.seller.change(call).await {
            Err(PushError::Unknown(why)) => return Ok(unknown(&why)),
            answer => answer?,
        };
        match (answer.status.as_u16(), complaint(&answer)) {
            (413, _) => return Err(PushError::Suspect("the feed is too large".into())),
            (400, Some(why)) => return Err(PushError::Suspect(why)),
            _ => {}
        }
        let accepted = taken(answer);
        let accepted: Result<Accepted, PushError> = accepted.and_then(|body| read(&body));
        match accepted {
            Err(PushError::Unknown(why)) => Ok(unknown(&why)),
            accepted => self.finished(&accepted?.feed_id).await,
        }
    }

    fn document(&self, rows: &[Sent<'_>]) -> Value {
        match self.feed_type {
            FeedType::Inventory => {
                let rows = rows.iter().map(
                    |sent| json!({ "sku": sent.row.place.listing, "quantity": each(sent.amount) }),
                );
                let rows: Vec<Value> = rows.collect();
                json!({ "InventoryHeader": { "version": "1.4" }, "Inventory": rows })
            }
            FeedType::MpInventory => {
                let rows = rows.iter().map(|sent| {
                    let Place { listing, location, .. } = &sent.row.place;
                    let node = json!({ "shipNode": location, "quantity": each(sent.amount) });
                    json!({ "sku": listing, "shipNodes": [node] })
                });
                let rows: Vec<Value> = rows.collect();
                json!({ "inventoryHeader": { "version": "1.5" }, "inventory": rows })
            }
        }
    }

    /// Waits for a feed. One that Walmart refuses as a whole, and names no item, has a row in it that spoils
    /// it.
    async fn finished(&self, id: &str) -> Result<BTreeMap<String, RowOutcome>, PushError> {
        let (mut pauses, mut wait) = (self.feeds.begin(), Duration::ZERO);
        while pauses.pause(wait).await {
            let status: Status = match self.known(|| status(id, false, 0)).await {
                Ok(Some(answered)) => {
                    wait = answered.wait;
                    answered.value
                }
                // It may not be found at once.
                Ok(None) => continue,
                Err(error) => {
                    wait = wait_of(&error);
                    tracing::debug!(feed = id, %error, "a feed is asked for again");
                    continue;
                }
            };
            match status.state.as_str() {
                "PROCESSED" => return Ok(self.details(id, status.items_received).await),
                "ERROR" => {
                    let items = self.details(id, status.items_received).await;
                    if items.is_empty() {
                        return Err(PushError::Suspect("Walmart refuses the feed".into()));
                    }
                    return Ok(items);
                }
                _ => {}
            }
        }
        Ok(unknown("the feed is not worked through in time"))
    }

    /// What became of each item that is told of.
    async fn details(&self, id: &str, received: usize) -> BTreeMap<String, RowOutcome> {
        let mut items = BTreeMap::new();
        for offset in (0..received).step_by(PAGE) {
            let page: Result<Status, PushError> = self.page(|| status(id, true, offset)).await;
            let page = match page {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(feed = id, %error, "the report of a feed cannot be read");
                    break;
                }
            };
            let details = page.item_details.map(|details| details.item_ingestion_status);
            for item in details.into_iter().flatten() {
                let Some(sku) = item.sku.clone() else { continue };
                items.insert(sku, item.outcome());
            }
        }
        items
    }
}

impl Item {
    fn outcome(self) -> RowOutcome {
        match self.ingestion_status.as_str() {
            "SUCCESS" => RowOutcome::Confirmed,
            "DATA_ERROR" => {
                let faults = self.ingestion_errors.map(|errors| errors.ingestion_error);
                let faults = faults.into_iter().flatten();
                let faults: Vec<String> =
                    faults.map(|fault| format!("{}: {}", fault.code, fault.description)).collect();
                RowOutcome::Failed(faults.join("; "))
            }
            // SYSTEM_ERROR, TIMEOUT_ERROR, and what is still being worked on.
            _ => RowOutcome::Unknown,
        }
    }
}

/// Nothing is known of any item.
fn unknown(why: &str) -> BTreeMap<String, RowOutcome> {
    tracing::warn!(why, "nobody knows what became of a feed");
    BTreeMap::new()
}

fn status(id: &str, details: bool, offset: usize) -> Call {
    let call = Call::get(FEEDS).segment(id).query("includeDetails", &details.to_string());
    call.query("limit", &PAGE.to_string()).query("offset", &offset.to_string())
}

/// A form with one file in it, and its type.
fn form(json: &str) -> (String, String) {
    let body = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"inventory.json\"\r\n\
         Content-Type: application/json\r\n\r\n{json}\r\n--{BOUNDARY}--\r\n"
    );
    (format!("multipart/form-data; boundary={BOUNDARY}"), body)
}
