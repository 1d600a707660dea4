//! Durations and sizes as people write them.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

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

impl Serialize for Millis {
    /// In the largest unit of which it is a whole number.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
        let fits = units.iter().find(|(unit, _)| self.0.is_multiple_of(*unit));
        let (unit, name) = fits.copied().unwrap_or((1, "ms"));
        to.serialize_str(&format!("{}{name}", self.0 / unit))
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
