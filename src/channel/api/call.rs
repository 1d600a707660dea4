//! One call as it will be sent. What comes from outside (ids, cursors, times) is encoded.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::Broken;

/// What a request carries.
pub(super) type Body = Full<Bytes>;

/// All but what RFC 3986 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// No cursor is longer.
const QUERY_LEN_MAX: usize = 8192;

/// A request to an API, without the address that the API has. A part that does not fit shows when it is
/// sent.
pub struct Call {
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Bytes,
    fault: Option<&'static str>,
}

impl Call {
    /// A GET of a path that is encoded already.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self::new(Method::GET, path)
    }

    /// A POST to a path that is encoded already.
    #[must_use]
    pub fn post(path: &str) -> Self {
        Self::new(Method::POST, path)
    }

    /// A PUT to a path that is encoded already.
    #[must_use]
    pub fn put(path: &str) -> Self {
        Self::new(Method::PUT, path)
    }

    /// A PATCH of a path that is encoded already.
    #[must_use]
    pub fn patch(path: &str) -> Self {
        Self::new(Method::PATCH, path)
    }

    fn new(method: Method, path: &str) -> Self {
        let (headers, body) = (HeaderMap::new(), Bytes::new());
        Self { method, target: path.into(), headers, body, fault: None }
    }

    /// One more part of the path. None, and dots alone, would name something else than was meant.
    #[must_use]
    pub fn segment(mut self, part: &str) -> Self {
        if matches!(part, "" | "." | "..") {
            self.fault = Some("an id that cannot stand in a path");
        }
        self.target.push('/');
        self.target.extend(utf8_percent_encode(part, RESERVED));
        self
    }

    /// One more parameter of the query.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.target.push(if self.target.contains('?') { '&' } else { '?' });
        self.target.extend(utf8_percent_encode(name, RESERVED));
        self.target.push('=');
        self.target.extend(utf8_percent_encode(value, RESERVED));
        self
    }

    /// The whole query, as the API itself wrote it for a next page.
    #[must_use]
    pub fn ready_query(mut self, query: &str) -> Self {
        let fits = |c: u8| c.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&c);
        if query.len() > QUERY_LEN_MAX || !query.bytes().all(fits) {
            self.fault = Some("a next page that cannot stand in a URL");
        } else {
            self.target.push('?');
            self.target.push_str(query);
        }
        self
    }

    /// A header; one of this name that was set before is replaced.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                self.headers.insert(name, value);
            }
            _ => self.fault = Some("a value that cannot stand in a header"),
        }
        self
    }

    /// With a bearer token.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header(AUTHORIZATION.as_str(), &format!("Bearer {token}"))
    }

    /// With a name and a password.
    #[must_use]
    pub fn basic(self, name: &str, password: &str) -> Self {
        let pair = STANDARD.encode(format!("{name}:{password}"));
        self.header(AUTHORIZATION.as_str(), &format!("Basic {pair}"))
    }

    /// With a JSON body.
    #[must_use]
    pub fn json(self, value: &Value) -> Self {
        self.body("application/json", value.to_string())
    }

    /// With the fields of a form.
    #[must_use]
    pub fn form(self, fields: &[(&str, &str)]) -> Self {
        let encoded = |text| utf8_percent_encode(text, RESERVED);
        let fields: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
            .collect();
        self.body("application/x-www-form-urlencoded", fields.join("&"))
    }

    /// With a body of this type.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.header(CONTENT_TYPE.as_str(), content_type)
    }

    pub(super) fn request(self, base: &str) -> Result<Request<Body>, Broken> {
        if let Some(fault) = self.fault {
            return Err(Broken::Invalid(fault.into()));
        }
        let request = Request::builder().method(self.method).uri(format!("{base}{}", self.target));
        let mut request = request
            .body(Full::new(self.body))
            .map_err(|error| Broken::Invalid(error.to_string()))?;
        *request.headers_mut() = self.headers;
        Ok(request)
    }
}
