//! What a channel's API answered, and what its status means.

use bytes::Bytes;
use hyper::header::RETRY_AFTER;
use hyper::{HeaderMap, StatusCode};
use jiff::fmt::rfc2822::DateTimeParser;
use serde_json::Value;

use super::ApiError;
use crate::clock;

/// What is waited where the channel says that there is a limit, and not how long.
const WAIT_MS: u64 = 2_000;
/// No header keeps us away for longer.
const WAIT_MS_MAX: u32 = 60_000;
/// Characters of a channel's own words that are shown.
const SAID_MAX: usize = 200;

/// An answer of any status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// All of its body.
    pub body: Bytes,
}

impl Answer {
    /// The body, if the call was a success.
    pub fn success(self) -> Result<Bytes, ApiError> {
        let status = self.status;
        if status.is_success() {
            return Ok(self.body);
        }
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                ApiError::Unauthorised(self.complaint())
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => ApiError::NotFound,
            StatusCode::TOO_MANY_REQUESTS => ApiError::Limited { wait_ms: self.wait_ms() },
            StatusCode::SERVICE_UNAVAILABLE if self.headers.contains_key(RETRY_AFTER) => {
                ApiError::Limited { wait_ms: self.wait_ms() }
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => {
                ApiError::Unreachable(self.complaint())
            }
            status if status.is_redirection() => {
                ApiError::Refused(format!("{status}: redirects are not followed"))
            }
            status if status.is_client_error() => ApiError::Refused(self.complaint()),
            _ => ApiError::Unreachable(self.complaint()),
        })
    }

    /// The body, or `None` if the API says that it knows no such thing. A 404 without JSON is not the
    /// API's own: something before it answered, and an order must not be given up for that.
    pub fn known(self) -> Result<Option<Bytes>, ApiError> {
        let missing = matches!(self.status, StatusCode::NOT_FOUND | StatusCode::GONE);
        let own = || serde_json::from_slice(&self.body).is_ok_and(|said: Value| said.is_object());
        if missing && own() { Ok(None) } else { self.success().map(Some) }
    }

    /// How long the channel wants to be left alone.
    #[must_use]
    pub fn wait_ms(&self) -> u64 {
        retry_after_ms(&self.headers, clock::now_ms()).unwrap_or(WAIT_MS)
    }

    /// The status, and the message where the body has one at a usual place. Nothing else of the body: it
    /// may hold a customer's data, or a traceback.
    #[must_use]
    pub fn complaint(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let places = [
            "/errors/0/longMessage",
            "/errors/0/message",
            "/errors/0/description",
            "/error/0/description",
            "/message",
            "/error_description",
            "/error",
        ];
        let said = places.iter().find_map(|place| body.pointer(place)?.as_str());
        said.map_or_else(
            || self.status.to_string(),
            |said| format!("{}: {}", self.status, said.chars().take(SAID_MAX).collect::<String>()),
        )
    }
}

/// What `Retry-After` says in milliseconds, a minute at the most: seconds, or a date.
#[must_use]
pub fn retry_after_ms(headers: &HeaderMap, now_ms: u64) -> Option<u64> {
    retry_after_within_ms(headers, now_ms, WAIT_MS_MAX)
}

/// The same, with another bound.
#[must_use]
pub fn retry_after_within_ms(headers: &HeaderMap, now_ms: u64, most: u32) -> Option<u64> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return Some(bounded(seconds, most));
    }
    let date = DateTimeParser::new().relaxed_weekday(true).parse_timestamp(text).ok()?;
    let until = u64::try_from(date.as_millisecond()).ok()?;
    Some(until.saturating_sub(now_ms).min(most.into()))
}

/// Seconds as milliseconds, at most a minute: no header keeps us away for longer.
#[must_use]
pub fn millis(seconds: f64) -> u64 {
    bounded(seconds, WAIT_MS_MAX)
}

fn bounded(seconds: f64, most_ms: u32) -> u64 {
    let ms = (seconds * 1000.0).clamp(0.0, most_ms.into());
    #[expect(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to a small positive range; NaN becomes 0"
    )]
    let ms = ms as u64;
    ms
}
