//! One call of a channel's API, taken apart, and the answers to it.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Response, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER},
};
use serde_json::Value;

pub(crate) use crate::door::Answer;
use crate::door::Refusal;

/// A call as a dialect reads it.
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Not decoded.
    pub(crate) path: String,
    /// Decoded.
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// `http://` and the host that was asked.
    pub(crate) origin: String,
}

impl Call {
    pub(crate) fn new(method: Method, uri: &Uri, headers: HeaderMap, body: Bytes) -> Self {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
        Self {
            method,
            path: uri.path().to_owned(),
            query: pairs(uri.query().unwrap_or_default()),
            origin: format!("http://{host}"),
            headers,
            body,
        }
    }

    /// The first parameter of this name.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A parameter that is a list: with commas, or given several times.
    pub(crate) fn list(&self, name: &str) -> Vec<&str> {
        let given = self.query.iter().filter(|(key, _)| key == name);
        given.flat_map(|(_, value)| value.split(',')).filter(|item| !item.is_empty()).collect()
    }

    /// A number among the parameters, `default` if there is none; an error if it is not within `1..=max`.
    pub(crate) fn count(&self, name: &str, default: usize, max: usize) -> Result<usize, String> {
        let Some(text) = self.param(name) else { return Ok(default) };
        let count = text.parse().ok().filter(|count| (1..=max).contains(count));
        count.ok_or_else(|| format!("{name} must be between 1 and {max}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// User and password of HTTP Basic.
    pub(crate) fn basic(&self) -> Option<(String, String)> {
        let text = self.authorization("basic")?;
        let text = String::from_utf8(STANDARD.decode(text).ok()?).ok()?;
        text.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
    }

    pub(crate) fn bearer(&self) -> Option<&str> {
        self.authorization("bearer")
    }

    fn authorization(&self, wanted: &str) -> Option<&str> {
        let (scheme, value) = self.header(AUTHORIZATION.as_str())?.split_once(' ')?;
        scheme.eq_ignore_ascii_case(wanted).then_some(value.trim())
    }

    /// A field of a form.
    pub(crate) fn form(&self, name: &str) -> Option<String> {
        let text = std::str::from_utf8(&self.body).ok()?;
        pairs(text).into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

pub(crate) fn json(status: u16, body: &Value) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body.to_string())));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let kind = HeaderValue::from_static("application/json; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

/// What a proxy before the channel says.
pub(crate) fn page(refusal: Refusal) -> Answer {
    let (status, wait) = match refusal {
        Refusal::ServerError(status) => (status, None),
        Refusal::Throttled { retry_after } => (429, Some(retry_after)),
    };
    let text = format!("<html><head><title>{status}</title></head><body>{status}</body></html>");
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
    if let Some(wait) = wait {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait));
    }
    answer
}

/// The value of HTTP Basic.
pub(crate) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn pairs(text: &str) -> Vec<(String, String)> {
    let pairs = text.trim_start_matches('?').split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(key), decoded(value))
        })
        .collect()
}

/// Percent-decoding as forms do it; what is no escape stays as it is.
pub(crate) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escape = (*first == b'%').then(|| after.get(..2)).flatten();
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

    /// A filter that is not decoded finds nothing, and polling would seem to work; a token with a plus
    /// would never be found.
    #[test]
    fn queries_are_decoded() {
        let text = "filter=lastmodifieddate%3A%5B2026..%5D&token=a%2Bb%3D&q=a+b%zz&empty&x=1%2";
        let expected = [
            ("filter", "lastmodifieddate:[2026..]"),
            ("token", "a+b="),
            ("q", "a b%zz"),
            ("empty", ""),
            ("x", "1%2"),
        ];
        assert_eq!(pairs(text), expected.map(|(key, value)| (key.into(), value.into())));
    }
}
