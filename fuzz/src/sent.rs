//! An input as a request: lines of settings and headers, an empty line, the body.
//!
//! ```text
//! :scheme: shopify
//! :secret: hush
//! x-shopify-topic: orders/create
//!
//! {"id":1}
//! ```

use std::borrow::Cow;

use channels::signature::{self, Judged, Request, Scheme};
use channels::{Refused, Verified};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// A run of so many opening brackets stands for [`DEPTH`] of them: a body that would overflow the stack is
/// longer than an input is.
const RUN: usize = 48;

/// More than any stack takes if each level is a call.
const DEPTH: usize = 100_000;

/// When a request arrived unless it says so: 2026-11-20.
const NOW_MS: u64 = 1_795_186_800_000;

/// A request, with what its input says besides.
#[derive(Clone, Debug)]
pub struct Sent<'a> {
    pub(crate) settings: Vec<(&'a str, &'a str)>,
    /// The method; POST unless it is said.
    pub method: Method,
    /// Path and query.
    pub target: Cow<'a, str>,
    /// All headers. Those that HTTP does not allow are left out.
    pub headers: HeaderMap,
    /// The body.
    pub body: Cow<'a, [u8]>,
    /// When it arrived, in milliseconds since the Unix epoch; never after the year 9999.
    pub now_ms: u64,
}

impl<'a> Sent<'a> {
    /// Any input is one.
    #[must_use]
    pub fn read(input: &'a [u8]) -> Self {
        let (mut settings, mut headers, body) = (Vec::new(), HeaderMap::new(), body(input));
        let head = input.get(..input.len() - body.len()).unwrap_or_default();
        for line in head.split(|byte| *byte == b'\n') {
            if let Some(setting) = setting(line) {
                settings.push(setting);
            } else if let Some((name, value)) = header(line) {
                headers.append(name, value);
            }
        }
        let said = |name: &str| {
            settings.iter().find(|(setting, _)| *setting == name).map(|(_, value)| *value)
        };
        let now_ms = said("now").and_then(|now| now.parse().ok()).unwrap_or(NOW_MS);
        Self {
            method: said("method").and_then(|name| name.parse().ok()).unwrap_or(Method::POST),
            target: said("target").unwrap_or("/webhooks/x").into(),
            headers,
            body: stretched(body),
            now_ms: now_ms.min(state::limits::TIME_MAX),
            settings,
        }
    }

    /// The first setting of this name.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<&'a str> {
        self.settings(name).first().copied()
    }

    /// All settings of this name.
    #[must_use]
    pub fn settings(&self, name: &str) -> Vec<&'a str> {
        let named = self.settings.iter().filter(|(setting, _)| *setting == name);
        named.map(|(_, value)| *value).collect()
    }

    /// Puts a header in the place of all of its name; whether HTTP allows its value.
    pub fn set(&mut self, name: &str, value: &str) -> bool {
        let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value))
        else {
            return false;
        };
        self.headers.insert(name, value);
        true
    }

    /// The request.
    #[must_use]
    pub fn request(&self) -> Request<'_> {
        Request {
            method: &self.method,
            target: &self.target,
            headers: &self.headers,
            body: &self.body,
            now_ms: self.now_ms,
        }
    }

    /// What the scheme says of it.
    ///
    /// # Errors
    /// It is refused.
    pub fn judged(
        &self,
        scheme: &Scheme,
        key: Option<&signature::Key>,
    ) -> Result<Judged<'_>, Refused> {
        signature::verify(scheme, &self.request(), key)
    }

    /// What a parser makes of it. Which scheme verified a body does not matter to a parser: here it is a
    /// secret in the path, which lets any body through.
    pub fn parsed<T>(&self, parse: impl FnOnce(&HeaderMap, Verified<'_>) -> T) -> T {
        const SECRET: &str = "a-secret-of-some-length";
        let scheme = Scheme::path_secret(&[SECRET]).expect("it is long enough");
        let request = Request { target: "/webhooks/x/a-secret-of-some-length", ..self.request() };
        match signature::verify(&scheme, &request, None) {
            Ok(Judged::Genuine(verified)) => parse(&self.headers, verified),
            other => panic!("the secret is in the path: {other:?}"),
        }
    }

    /// Its size: what a parser's output is measured by.
    #[must_use]
    pub fn len(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        headers.sum::<usize>() + self.body.len()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What follows the first empty line: nothing where there is none.
#[must_use]
pub fn body(input: &[u8]) -> &[u8] {
    if let Some(body) = input.strip_prefix(b"\n") {
        return body;
    }
    let end = input.windows(2).position(|pair| pair == b"\n\n");
    end.and_then(|end| input.get(end + 2..)).unwrap_or_default()
}

fn setting(line: &[u8]) -> Option<(&str, &str)> {
    str::from_utf8(line).ok()?.strip_prefix(':')?.split_once(": ")
}

fn header(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.windows(2).position(|pair| pair == b": ")?;
    let name = HeaderName::from_bytes(line.get(..colon)?).ok()?;
    Some((name, HeaderValue::from_bytes(line.get(colon + 2..)?).ok()?))
}

/// The body with its first run of opening brackets made deep.
#[must_use]
pub fn stretched(body: &[u8]) -> Cow<'_, [u8]> {
    let run = body.windows(RUN).position(|run| run.iter().all(|byte| *byte == b'['));
    match run.and_then(|at| body.split_at_checked(at)) {
        Some((before, after)) => [before, &vec![b'['; DEPTH], after].concat().into(),
        None => body.into(),
    }
}
