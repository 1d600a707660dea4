//! Asking a node's API, and printing what it answers.

use hyper::Method;
use serde_json::Value;

use super::{Failure, Output, Target, say};
use crate::client::{Client, Error};

/// Sends a request to the node; the answer's JSON if it was a success.
pub(super) async fn ask(
    target: &Target,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, Failure> {
    let token = target.token.as_deref().ok_or_else(|| {
        let how = "an admin token is needed: --token or the environment's STOCKRAFT_TOKEN";
        Failure::Usage(how.into())
    })?;
    let answer = async { Client::new(&target.node, token)?.call(method, path, body).await }.await;
    answer.map_err(|error| match error {
        Error::Setup(why) => Failure::Usage(why),
        other => Failure::Operation(other.to_string()),
    })
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

/// A value as a cell.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
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
