//! Durations and sizes as people write them.

use serde::{Deserialize, Deserializer, de};

/// A duration: `"7d"`, `"500ms"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

impl Millis {
    /// As the standard library's type.
    #[must_use]
    pub const fn duration(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }

    /// Reads one that may be nothing: `"0s"`.
    pub fn or_zero<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::at_least(0, deserializer)
    }

    fn at_least<'de, D: Deserializer<'de>>(least: u64, deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let duration = humantime::parse_duration(&text).map_err(|error| {
            de::Error::custom(format!("{text:?} is no duration like \"7d\" or \"500ms\": {error}"))
        })?;
        // A century: beyond it, sums of times could leave their range.
        let most = 100 * 365 * 24 * 60 * 60 * 1000;
        match u64::try_from(duration.as_millis()) {
            Ok(ms) if (least..=most).contains(&ms) => Ok(Self(ms)),
            _ => Err(de::Error::custom(format!("{text:?} is not between {least}ms and 100 years"))),
        }
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::at_least(1, deserializer)
    }
}

/// A size: `"1MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl Bytes {
    /// As a length in memory.
    #[must_use]
    pub fn as_len(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let size: bytesize::ByteSize = text.parse().map_err(|error| {
            de::Error::custom(format!("{text:?} is no size like \"1MiB\": {error}"))
        })?;
        Ok(Self(size.as_u64()))
    }
}
