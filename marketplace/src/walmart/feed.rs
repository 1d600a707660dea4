//! Feeds that tell Walmart many quantities: version 1.4 of the specification (`inventory`), whose keys begin
//! with capitals, and 1.5 (`MP_INVENTORY`).
//!
//! A feed is worked through once its time has come and somebody calls. Shapes are those of Walmart's OAS
//! documents of feeds; the words of states and the keys of 1.5 are less certain.

use std::collections::BTreeMap;

use hyper::Method;
use serde_json::{Value, json};

use super::{
    api::error,
    inventory::{SHIP_NODE, amount, reserved, tell},
};
use crate::{
    clock::Millis,
    random::Random,
    sender::{
        book::Book,
        call::{self, Answer, Call, decoded},
    },
};

pub(super) const FEEDS: &str = "/v3/feeds";
const LIMIT_MAX: usize = 50;

/// All feeds, by id.
pub(super) struct Feeds {
    random: Random,
    after_ms: Millis,
    taken: BTreeMap<String, Feed>,
}

struct Feed {
    arrived: Millis,
    due: Millis,
    rows: Vec<Row>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Received,
    Processed,
    /// It is refused as a whole.
    Error,
}

/// One item of a feed, and what became of it.
struct Row {
    sku: String,
    amount: Option<i64>,
    fault: Option<&'static str>,
}

impl Feeds {
    pub(super) fn new(seed: u64, after: std::time::Duration) -> Self {
        let after_ms = Millis::try_from(after.as_millis()).unwrap_or(Millis::MAX);
        Self { random: Random::new(seed), after_ms, taken: BTreeMap::new() }
    }

    /// Works through what is due, in the order of arrival.
    pub(super) fn work(&mut self, book: &mut Book, now: Millis) {
        let due = |feed: &&mut Feed| feed.state == State::Received && feed.due <= now;
        let mut due: Vec<&mut Feed> = self.taken.values_mut().filter(due).collect();
        due.sort_by_key(|feed| feed.arrived);
        for feed in due {
            let refused = book.told.feed_fails();
            feed.state = if refused { State::Error } else { State::Processed };
            for row in feed.rows.iter_mut().filter(|_| !refused) {
                row.fault = carry_out(book, row, feed.arrived).err();
            }
        }
    }

    pub(super) fn answer(&mut self, book: &mut Book, call: &Call, now: Millis) -> Answer {
        let id = call.path.strip_prefix(FEEDS).unwrap_or_default();
        match (&call.method, id.strip_prefix('/')) {
            (&Method::POST, None) => self.take(book, call, now),
            (&Method::GET, Some(id)) => match self.taken.get(&decoded(id)) {
                Some(feed) => show(&decoded(id), feed, call),
                None => error(404, "CONTENT_NOT_FOUND.GMP_FEED_API", "Content not found"),
            },
            _ => error(404, "CONTENT_NOT_FOUND.GMP_FEED_API", "Content not found"),
        }
    }

    fn take(&mut self, book: &mut Book, call: &Call, now: Millis) -> Answer {
        let invalid = |text| error(400, "ERR_EXT_DATA_0503009", text);
        if call.param("shipNode").is_some_and(|node| node != SHIP_NODE) {
            return invalid("invalid ship node");
        }
        let Some(document) = file(call) else {
            return invalid("there is no file of JSON in the form");
        };
        let rows = match call.param("feedType") {
            Some("inventory") if version(&document, "InventoryHeader") == Some("1.4") => {
                rows(&document, "Inventory", amount)
            }
            Some("MP_INVENTORY") if version(&document, "inventoryHeader") == Some("1.5") => {
                rows(&document, "inventory", |row| {
                    let node = row.pointer("/shipNodes/0")?;
                    let own = node.get("shipNode").and_then(Value::as_str) == Some(SHIP_NODE);
                    amount(node).filter(|_| own)
                })
            }
            _ => None,
        };
        let Some(rows) = rows else { return invalid("the file is not of this feed type") };
        book.told.counts.pushes += 1;
        let id = format!("{}@AUoBAQA", self.random.uuid().replace('-', "").to_uppercase());
        let due = now.saturating_add(self.after_ms);
        self.taken.insert(id.clone(), Feed { arrived: now, due, rows, state: State::Received });
        call::json(200, &json!({"feedId": id}))
    }
}

/// The JSON of the form's one file.
fn file(call: &Call) -> Option<Value> {
    let boundary = call.header("content-type")?.split_once("boundary=")?.1;
    let text = std::str::from_utf8(&call.body).ok()?;
    let part = text.strip_prefix(&format!("--{boundary}\r\n"))?;
    let (head, rest) = part.split_once("\r\n\r\n")?;
    let (file, _) = rest.split_once(&format!("\r\n--{boundary}"))?;
    head.contains("name=\"file\"").then(|| serde_json::from_str(file).ok()).flatten()
}

fn version<'a>(document: &'a Value, header: &str) -> Option<&'a str> {
    document.get(header)?.get("version")?.as_str()
}

fn rows(document: &Value, key: &str, amount: impl Fn(&Value) -> Option<i64>) -> Option<Vec<Row>> {
    let rows = document.get(key)?.as_array().filter(|rows| !rows.is_empty())?;
    let row = |row: &Value| {
        let sku = row.get("sku")?.as_str()?.to_owned();
        Some(Row { sku, amount: amount(row), fault: None })
    };
    rows.iter().map(row).collect()
}

fn carry_out(book: &mut Book, row: &Row, arrived: Millis) -> Result<(), &'static str> {
    let index = book.item_of(&row.sku).map_err(|_| "the sku is not known")?;
    let amount = row.amount.ok_or("the quantity is not valid")?;
    let shown = amount - reserved(book, index);
    if book.told.row_fails() {
        book.refuse(index, shown, arrived);
        return Err("the item is not ready");
    }
    if book.told.report_lies() {
        book.refuse(index, shown, arrived);
    } else {
        tell(book, index, amount, arrived);
    }
    Ok(())
}

fn show(id: &str, feed: &Feed, call: &Call) -> Answer {
    let limit = call.count("limit", LIMIT_MAX, LIMIT_MAX);
    let offset = call.param("offset").unwrap_or("0").parse::<usize>();
    let (Ok(limit), Ok(offset)) = (limit, offset) else {
        let text = "limit or offset is not valid";
        return error(400, "INVALID_REQUEST_PARAM.GMP_FEED_API", text);
    };
    let (status, done) = match feed.state {
        State::Received => ("INPROGRESS", false),
        State::Processed => ("PROCESSED", true),
        State::Error => ("ERROR", false),
    };
    let failed = feed.rows.iter().filter(|row| row.fault.is_some()).count();
    let count = |count: usize| if done { count } else { 0 };
    let waits = if feed.state == State::Received { feed.rows.len() } else { 0 };
    let mut body = json!({
        "feedId": id, "feedStatus": status, "offset": offset, "limit": limit,
        "itemsReceived": feed.rows.len(), "itemsProcessing": waits,
        "itemsSucceeded": count(feed.rows.len() - failed), "itemsFailed": count(failed),
    });
    if let (Some(fields), Some("true"), true) =
        (body.as_object_mut(), call.param("includeDetails"), done)
    {
        let rows = feed.rows.iter().enumerate().skip(offset).take(limit);
        let rows: Vec<Value> = rows.map(|(index, row)| item(index, row)).collect();
        fields.insert("itemDetails".to_owned(), json!({"itemIngestionStatus": rows}));
    }
    call::json(200, &body)
}

fn item(index: usize, row: &Row) -> Value {
    let status = if row.fault.is_some() { "DATA_ERROR" } else { "SUCCESS" };
    let mut item = json!({"martId": 0, "sku": row.sku, "index": index, "ingestionStatus": status});
    if let (Some(fields), Some(fault)) = (item.as_object_mut(), row.fault) {
        let error = json!({
            "type": "DATA_ERROR", "code": "ERR_EXT_DATA_0101119", "field": "sku", "description": fault,
        });
        fields.insert("ingestionErrors".to_owned(), json!({"ingestionError": [error]}));
    }
    item
}
