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

/// A value that a channel writes as a number in one place and as text in another.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// `2`, `2.0`.
    Number(serde_json::Number),
    /// `"2"`, `"2.0"`, `"anything"`.
    Text(String),
}

impl Scalar {
    /// An id, not empty and not longer than [`NAME_LEN_MAX`]. A number of more than 64 bits is read as
    /// floating point, where different ids are one, and is an error.
    pub fn id(&self, what: &str) -> Result<String, String> {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if let Self::Number(number) = self
            && number.is_f64()
            && number.as_f64().is_none_or(|float| float.abs() >= EXACT)
        {
            return Err(format!("{what} is too large a number: write it as text"));
        }
        let id = name(what, self.text().trim())?;
        if id.is_empty() { Err(format!("{what} is empty")) } else { Ok(id) }
    }

    /// A whole number, however it is written: `2`, `2.0`, `"2"` and `"2.00"` are two. A fraction is an
    /// error, since units cannot be divided.
    pub fn whole(&self) -> Result<i64, String> {
        let text = self.text();
        let (units, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), "0"));
        let is_whole = fraction.bytes().all(|digit| digit == b'0');
        let number = units.parse().ok().filter(|_| is_whole);
        number.ok_or_else(|| format!("{:?} is no whole number", shortened(&text)))
    }

    /// A whole number that is a [`quantity`].
    pub fn units(&self) -> Result<i64, String> {
        quantity(self.whole()?)
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        match self {
            Self::Number(number) => number.to_string().into(),
            Self::Text(text) => text.into(),
        }
    }
}

/// Reads JSON that was read already as [`serde_json::Value`].
pub fn shaped<'a, T: Deserialize<'a>>(value: &'a serde_json::Value) -> Result<T, String> {
    T::deserialize(value).map_err(|error| format!("unexpected shape: {error}"))
}

/// Refuses an order that the state would not take.
pub fn check_lines(count: usize) -> Result<(), String> {
    if count > ORDER_LINES_MAX {
        Err(format!("the order has more than {ORDER_LINES_MAX} lines"))
    } else {
        Ok(())
    }
}

/// What could not be understood. The reason goes through the log, and may quote a stranger: it is cut.
#[must_use]
pub fn dead(reason: &str) -> crate::Understood {
    crate::Understood::Dead(reason.chars().take(NAME_LEN_MAX).collect())
}

/// A quantity that a place shows: below zero where more was sold than was there.
pub fn level(shown: i64) -> Result<i64, String> {
    quantity(shown.saturating_abs()).map(|_| shown)
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
