//! The one place of this crate that reads the wall clock, and the ways it writes a time down.

use jiff::{
    Timestamp,
    tz::{Offset, TimeZone},
};
use tokio::time::Instant;

/// Milliseconds since the Unix epoch, by this machine's wall clock.
pub type Millis = i64;

/// The wall clock now.
#[expect(
    clippy::disallowed_methods,
    reason = "a simulated store is outside the cluster: its orders are dated by the wall clock, as a real store's are"
)]
#[must_use]
pub fn now_ms() -> Millis {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .ok()
        .and_then(|since| Millis::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}

/// One moment by both clocks: the one that measures, and the one that dates.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    pub(crate) ms: Millis,
}

impl Now {
    pub(crate) fn read() -> Self {
        Self { instant: Instant::now(), ms: now_ms() }
    }
}

/// RFC 3339 to the second with the shop's own offset, as payload fields carry it:
/// `2026-11-20T10:00:00-05:00`.
#[must_use]
pub fn shop_time(at: Millis, utc_offset_minutes: i32) -> String {
    let offset = Offset::from_seconds(utc_offset_minutes.saturating_mul(60)).unwrap_or(Offset::UTC);
    instant(at).to_zoned(TimeZone::fixed(offset)).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

/// RFC 3339 in UTC with milliseconds, as the `X-Shopify-Triggered-At` header carries it.
#[must_use]
pub fn utc_time(at: Millis) -> String {
    instant(at).strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// RFC 3339 in UTC to the second, rounded down: `2026-11-20T15:00:00Z`.
#[must_use]
pub fn utc_seconds(at: Millis) -> String {
    instant(at).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// ISO 8601 in UTC to the second without separators, as AWS signs it: `20261120T150000Z`.
#[must_use]
pub fn basic_time(at: Millis) -> String {
    instant(at).strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn instant(at: Millis) -> Timestamp {
    Timestamp::from_millisecond(at).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shop time in UTC, or without its offset, would hide the offset handling of whoever reads it.
    #[test]
    fn shop_time_carries_its_offset() {
        assert_eq!(shop_time(1_795_186_800_123, -300), "2026-11-20T10:00:00-05:00");
        assert_eq!(shop_time(1_795_186_800_123, 330), "2026-11-20T20:30:00+05:30");
        assert_eq!(utc_time(1_795_186_800_123), "2026-11-20T15:00:00.123Z");
        assert_eq!(utc_seconds(1_795_186_800_123), "2026-11-20T15:00:00Z");
        assert_eq!(basic_time(1_795_186_800_123), "20261120T150000Z");
    }
}
