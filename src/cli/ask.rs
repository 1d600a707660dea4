//! Asking a node's API, and printing what it answers.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use super::{Failure, Output, Target, say};
use crate::client::{Client, Error};

/// Sends a request to the node; the answer's JSON if it was a success.
pub(super) async fn ask(
    target: &Target,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, Failure> {
    ask_patiently(target, method, path, body, Duration::ZERO).await
}

/// The same, where the answer may take so much longer.
pub(super) async fn ask_patiently(
    target: &Target,
    method: Method,
    path: &str,
    body: Option<&Value>,
    longer: Duration,
) -> Result<Value, Failure> {
    let token = target.token.as_deref().ok_or_else(|| {
        let how = "an admin token is needed: --token or the environment's STOCKRAFT_TOKEN";
        Failure::Usage(how.into())
    })?;
    let client = || Ok(Client::new(&target.node, token)?.patient(longer));
    let answer = async { client()?.call(method, path, body).await }.await;
    answer.map_err(|error| match error {
        Error::Setup(why) => Failure::Usage(why),
        other => Failure::Operation(other.to_string()),
    })
}

/// Items of one page, the most that a node gives.
const PAGE_MAX: u64 = 1000;

/// Asks for a list page by page, to its end or until there are `most` items. The answer is one page:
/// `next` is null if it is the whole list.
pub(super) async fn ask_all(target: &Target, path: &str, most: u64) -> Result<Value, Failure> {
    let mut items = Vec::new();
    let mut left = most;
    let mut cursor = String::new();
    loop {
        let limit = left.min(PAGE_MAX);
        let query = if path.contains('?') { "" } else { "?" };
        let page = format!("{path}{query}limit={limit}{cursor}");
        let mut answer = ask(target, Method::GET, &page, None).await?;
        let some = answer.get_mut("items").and_then(Value::as_array_mut);
        let some = some.map(std::mem::take).unwrap_or_default();
        left = left.saturating_sub(u64::try_from(some.len()).unwrap_or(u64::MAX));
        items.extend(some);
        match answer.get("next").and_then(Value::as_str) {
            Some(next) if left > 0 => cursor = format!("&cursor={}", encode(next)),
            next => return Ok(json!({ "items": items, "next": next })),
        }
    }
}

/// A part of a URL: everything but unreserved characters is percent-encoded (RFC 3986).
pub(super) fn encode(text: &str) -> String {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let part = |byte: u8| {
        if unreserved(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(part).collect()
}

/// Prints an answer as JSON, or as the lines that `table` makes of it.
pub(super) fn show(target: &Target, answer: &Value, table: impl Fn(&Value) -> Vec<Vec<String>>) {
    if target.output == Output::Json {
        say(&serde_json::to_string_pretty(answer).unwrap_or_default());
        return;
    }
    // An empty row ends one table and begins the next, with widths of its own.
    for (n, part) in table(answer).split(Vec::is_empty).enumerate() {
        if n > 0 {
            say("");
        }
        for line in align(part) {
            say(&line);
        }
    }
}

/// A value as a cell. A name that a channel gave may hold what a terminal would obey.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.replace(char::is_control, "\u{fffd}"),
        other => other.to_string(),
    }
}

fn align(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |n: usize| {
        rows.iter().filter_map(|row| row.get(n)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    rows.iter().map(line).collect()
}
