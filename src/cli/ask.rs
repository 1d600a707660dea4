//! Asking a node's API, and printing what it answers.

use std::io::IsTerminal as _;
use std::time::Duration;

use hyper::Method;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::{Failure, Output, Target, say};
use crate::client::{Client, Error};

/// A client of the node that a command is for.
pub(super) fn client(target: &Target) -> Result<Client, Failure> {
    let token = target.token.as_deref().ok_or_else(|| {
        let how = "an admin token is needed: --token or the environment's STOCKRAFT_TOKEN";
        Failure::Usage(how.into())
    })?;
    Ok(Client::new(&target.node, token)?)
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Setup(why) => Self::Usage(why),
            other => Self::Operation(other.to_string()),
        }
    }
}

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
    Ok(client(target)?.patient(longer).call(method, path, body).await?)
}

/// A bar for work that may take a while, on a terminal; of unknown length if that is 0.
pub(super) fn progress(length: u64) -> ProgressBar {
    match (std::io::stderr().is_terminal(), length) {
        (false, _) => ProgressBar::hidden(),
        (true, 0) => ProgressBar::new_spinner(),
        (true, length) => ProgressBar::new(length),
    }
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

/// The items of an answer under a header.
pub(super) fn table(answer: &Value, columns: &[&str]) -> Vec<Vec<String>> {
    let items = answer.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    let cells = |item: &Value| {
        columns.iter().map(|name| cell(item.get(*name).unwrap_or(&Value::Null))).collect()
    };
    let header = columns.iter().map(|name| (*name).to_string()).collect();
    std::iter::once(header).chain(items.iter().map(cells)).collect()
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
