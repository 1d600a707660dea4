//! One call of the API, taken apart.

use bytes::Bytes;
use hyper::{HeaderMap, Method};

/// A call as the desk reads it.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// Decoded.
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        find(&self.query, name)
    }

    /// A parameter that is a list: with commas, or given several times.
    pub(crate) fn list(&self, name: &str) -> Vec<&str> {
        let given = self.query.iter().filter(|(key, _)| key == name);
        given.flat_map(|(_, value)| value.split(',')).filter(|item| !item.is_empty()).collect()
    }

    /// The fields of a form.
    pub(crate) fn form(&self) -> Vec<(String, String)> {
        pairs(&String::from_utf8_lossy(&self.body))
    }
}

pub(crate) fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// The pairs of a query or a form.
pub(crate) fn pairs(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(key), decoded(value))
        })
        .collect()
}

/// Percent-decoding as forms do it; what is no escape stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escape = after.get(..2).filter(|_| *first == b'%');
        let escaped = escape
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(escaped.unwrap_or(if *first == b'+' { b' ' } else { *first }));
        rest = if escaped.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A time that is not decoded is no time, and a token with a plus would never be found.
    #[test]
    fn queries_and_forms_are_decoded() {
        let read = pairs("at=2026-11-20T15%3A00%3A00Z&token=a%2Bb%3D&q=a+b%zz&empty&x=1%2");
        let expected = [
            ("at", "2026-11-20T15:00:00Z"),
            ("token", "a+b="),
            ("q", "a b%zz"),
            ("empty", ""),
            ("x", "1%2"),
        ];
        assert_eq!(read, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
}
