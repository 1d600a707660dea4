//! Reading payloads whose shape a stranger chose: what every channel's parser needs.

use serde::Deserialize;
use state::limits::{NAME_LEN_MAX, ORDER_LINES_MAX, QUANTITY_MAX};

/// Reads a body. The error says whether it is no JSON, or JSON of another shape, and where.
/// Nesting is bounded by `serde_json` (128 levels).
pub fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| {
        let category = if error.is_data() { "unexpected shape" } else { "bad JSON" };
        format!("{category}: {error}")
    })
}

/// A quantity of units as an order or an observation may name it.
pub fn quantity(quantity: i64) -> Result<i64, String> {
    if (0..=QUANTITY_MAX).contains(&quantity) {
        Ok(quantity)
    } else {
        Err(format!("a quantity of {quantity} is out of range"))
    }
}

/// An id or a SKU as the state keeps it: not longer than [`NAME_LEN_MAX`].
pub fn name(what: &str, text: &str) -> Result<String, String> {
    if text.len() > NAME_LEN_MAX {
        Err(format!("{what} is longer than {NAME_LEN_MAX} bytes"))
    } else {
        Ok(text.to_string())
    }
}

/// A SKU, if the text is one: trimmed, and `None` when nothing is left.
pub fn sku(text: Option<&str>) -> Result<Option<String>, String> {
    let text = text.map(str::trim).filter(|text| !text.is_empty());
    text.map(|text| name("a SKU", text)).transpose()
}

/// A stranger's text, short enough for a message.
#[must_use]
pub fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

/// A quantity that a place shows: below zero where more was sold than was there.
pub fn level(quantity: i64) -> Result<i64, String> {
    if (-QUANTITY_MAX..=QUANTITY_MAX).contains(&quantity) {
        Ok(quantity)
    } else {
        Err(format!("a quantity of {quantity} is out of range"))
    }
}

/// An id as the state keeps it: a [`name`] that is not empty.
pub fn id(what: &str, text: &str) -> Result<String, String> {
    if text.is_empty() { Err(format!("{what} is empty")) } else { name(what, text) }
}

/// So many lines of one order as the state keeps.
pub fn line_count(count: usize) -> Result<(), String> {
    if count > ORDER_LINES_MAX {
        Err(format!("more than {ORDER_LINES_MAX} lines of one order"))
    } else {
        Ok(())
    }
}

/// For a member whose `null` says something else than its absence: with `#[serde(default)]`, absent is
/// `None` and `null` is `Some(None)`.
pub fn present<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: serde::Deserializer<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

/// JSON with the members of each object in the order of their names and without spaces: equal values have
/// equal bytes.
#[must_use]
pub fn canonical(value: &serde_json::Value) -> Vec<u8> {
    value.to_string().into_bytes()
}
