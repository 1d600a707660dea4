//! How a topic behaves.

use alloc::format;
use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::Millis;
use crate::buckets::hash_of;
use crate::limits::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS};

/// How a topic behaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Leases after which a message that nobody finished is given up.
    pub attempts: u32,
    /// How long a message waits after its first failed attempt; twice as long after each further one.
    pub backoff_ms: Millis,
    /// The longest that it waits.
    pub backoff_max_ms: Millis,
    /// How long a message waits for a group to come to it; then that group gives it up.
    pub retention_ms: Millis,
    /// How long a message that every group has come to is kept, to be replayed.
    pub replay_ms: Millis,
    /// For how long a dedup id stands for the message that was published under it.
    pub dedup_ms: Millis,
    /// Messages kept at the most.
    pub messages_max: u64,
    /// Bytes of bodies kept at the most.
    pub bytes_max: u64,
    /// Whether a full topic makes room by dropping its oldest messages, rather than refusing new ones.
    pub drop_oldest: bool,
    /// Messages that one group may have leased at once.
    pub concurrency: u32,
    /// The same of one key. With one, the order of each key is kept.
    pub key_concurrency: u32,
    /// Leases of one group in a time.
    pub rate: Option<Rate>,
    /// The same of one key.
    pub key_rate: Option<Rate>,
}

/// So many in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In how long.
    pub per_ms: Millis,
}

/// Messages that one topic may keep.
pub const MESSAGES_MAX: u64 = 10_000_000;
/// Leases at once of one group.
pub const CONCURRENCY_MAX: u32 = 100_000;
/// Bytes of bodies that one topic may keep.
const BYTES_MAX: u64 = 1 << 40;
const ATTEMPTS_MAX: u32 = 1_000;

impl Default for Settings {
    fn default() -> Self {
        Self {
            attempts: 10,
            backoff_ms: SECOND_MS,
            backoff_max_ms: 10 * MINUTE_MS,
            retention_ms: 7 * DAY_MS,
            replay_ms: DAY_MS,
            dedup_ms: DAY_MS,
            messages_max: 1_000_000,
            bytes_max: 1 << 30,
            drop_oldest: false,
            concurrency: CONCURRENCY_MAX,
            key_concurrency: 1,
            rate: None,
            key_rate: None,
        }
    }
}

impl Settings {
    /// What cannot be meant, in words.
    ///
    /// # Errors
    /// The first setting that is out of its bounds, and the bounds.
    pub fn check(&self) -> Result<(), String> {
        let within = |name: &str, value: u64, least: u64, most: u64| {
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err(format!("{name}: {value} is not within {least} to {most}"))
            }
        };
        within("attempts", self.attempts.into(), 1, ATTEMPTS_MAX.into())?;
        within("backoff_ms", self.backoff_ms, 0, DAY_MS)?;
        within("backoff_max_ms", self.backoff_max_ms, self.backoff_ms, 7 * DAY_MS)?;
        within("retention_ms", self.retention_ms, SECOND_MS, 90 * DAY_MS)?;
        within("replay_ms", self.replay_ms, 0, self.retention_ms)?;
        within("dedup_ms", self.dedup_ms, 0, 30 * DAY_MS)?;
        within("messages_max", self.messages_max, 1, MESSAGES_MAX)?;
        within("bytes_max", self.bytes_max, 1, BYTES_MAX)?;
        within("concurrency", self.concurrency.into(), 1, CONCURRENCY_MAX.into())?;
        within("key_concurrency", self.key_concurrency.into(), 1, CONCURRENCY_MAX.into())?;
        for (name, rate) in [("rate", self.rate), ("key_rate", self.key_rate)] {
            let Some(rate) = rate else { continue };
            within(name, rate.count.into(), 1, 1_000_000)?;
            within(name, rate.per_ms, 1, 24 * HOUR_MS)?;
        }
        Ok(())
    }

    /// How long a message waits after so many failed attempts: exponential, and somewhere in the upper half,
    /// so that what failed together does not come back together. `seed` stands for chance.
    #[must_use]
    pub fn backoff(&self, attempts: u32, seed: u64) -> Millis {
        let doublings = attempts.saturating_sub(1).min(40);
        let whole = self.backoff_ms.saturating_mul(1 << doublings).min(self.backoff_max_ms);
        let half = whole / 2;
        whole - (hash_of(&seed) >> 33) % (half + 1)
    }
}

impl Rate {
    /// The time from one to the next, in microseconds: rounded up, so that there are never more.
    pub(crate) fn interval_us(self) -> u64 {
        (self.per_ms * 1_000).div_ceil(u64::from(self.count.max(1)))
    }

    /// The same in milliseconds.
    pub(crate) fn interval_ms(self) -> Millis {
        self.interval_us().div_ceil(1_000)
    }
}
