//! Times as channels write them, as milliseconds since the Unix epoch.

/// Reads an RFC 3339 time with any offset. Times before 1970 are 0.
pub fn rfc3339(text: &str) -> Result<u64, String> {
    let timestamp: jiff::Timestamp = text
        .parse()
        .map_err(|_| format!("{:?} is no RFC 3339 time", crate::json::shortened(text)))?;
    Ok(u64::try_from(timestamp.as_millisecond()).unwrap_or(0))
}

/// Reads a time without an offset that is meant as UTC: `2026-11-20T15:00:00` or `2026-11-20 15:00:00`.
pub fn utc(text: &str) -> Result<u64, String> {
    let civil: jiff::civil::DateTime =
        text.parse().map_err(|_| format!("{:?} is no time", crate::json::shortened(text)))?;
    let zoned = civil.to_zoned(jiff::tz::TimeZone::UTC).map_err(|error| error.to_string())?;
    Ok(u64::try_from(zoned.timestamp().as_millisecond()).unwrap_or(0))
}
