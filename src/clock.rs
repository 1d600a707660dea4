//! The only file that reads the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch by this machine's clock, which may be wrong. What the cluster
/// agrees on comes from the leader; see `cluster`.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the file that reads it")]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A time as the API writes it: RFC 3339 in UTC with milliseconds.
#[must_use]
pub fn rfc3339(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    let timestamp = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX);
    format!("{timestamp:.3}")
}

/// Reads an RFC 3339 time with any offset, as milliseconds since the Unix epoch. Times before it are 0.
pub fn parse_rfc3339(text: &str) -> Result<u64, String> {
    let timestamp: jiff::Timestamp =
        text.parse().map_err(|_| format!("{text:?} is no RFC 3339 time"))?;
    Ok(u64::try_from(timestamp.as_millisecond()).unwrap_or(0))
}
