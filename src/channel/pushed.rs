//! What clients share that send rows one by one, or wait for a job of the channel's.

use std::time::Duration;

use serde::de::DeserializeOwned;
use state::limits::{FEED_KEEP_MS, SECOND_MS};
use tokio::time::{Instant, sleep};

use super::outcome::{Answered, PushError, RowOutcome};

/// Whether an id can stand in a path. One that cannot would be another call, and never is one.
#[must_use]
pub fn is_id(id: &str) -> bool {
    !matches!(id, "" | "." | "..")
}

/// Why one is none.
pub const NO_ID: &str = "the listing's id is none: map the SKU to a listing";

/// Outcomes of rows that are sent one by one, until a fault is not that of a row alone. `None` is a row
/// that was accepted, and is perhaps not shown yet.
#[derive(Debug, Default)]
pub struct OneByOne {
    /// What became of those that were sent.
    pub outcomes: Vec<Option<RowOutcome>>,
    /// What the channel wants to be waited before the next call.
    pub wait: Duration,
}

impl OneByOne {
    /// Takes down what became of the next row; false if those after it are not to be sent. An error is that
    /// of the whole call: then nothing was done.
    pub fn note(
        &mut self,
        result: Result<Option<RowOutcome>, PushError>,
    ) -> Result<bool, PushError> {
        let error = match result {
            Ok(outcome) => {
                self.outcomes.push(outcome);
                return Ok(true);
            }
            // There is no key by which the channel would know a repetition, so it is read and not sent again.
            Err(PushError::Unknown(why)) => {
                tracing::debug!(why, "a row has no answer");
                self.outcomes.push(Some(RowOutcome::Unknown));
                return Ok(false);
            }
            Err(error) => error,
        };
        if self.outcomes.is_empty() {
            return Err(error);
        }
        if let PushError::Limited { wait_ms } = error {
            self.wait = self.wait.max(Duration::from_millis(wait_ms));
        }
        Ok(false)
    }

    /// All outcomes: rows that were not sent are as before, and what was accepted and is not shown is not
    /// known.
    #[must_use]
    pub fn answered(self, rows: usize) -> Answered<Vec<RowOutcome>> {
        let sent = self.outcomes.into_iter().map(|outcome| outcome.unwrap_or(RowOutcome::Unknown));
        let mut value: Vec<RowOutcome> = sent.collect();
        value.resize(rows, RowOutcome::Refused);
        Answered { value, wait: self.wait }
    }
}

/// So many listings are worth a feed, where the calls that it saves count more than the minutes that it takes.
pub const FEED_ROWS_MIN: usize = 20;

/// How long a job of the channel's is waited for, and with which pauses.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// The first pause.
    pub first: Duration,
    /// The longest.
    pub most: Duration,
    /// All of them together.
    pub total: Duration,
}

const _: () = assert!(
    Patience::FEED.total.as_secs() * SECOND_MS < FEED_KEEP_MS,
    "a feed would be waited for when nobody counts with it any more"
);

impl Patience {
    /// How long a feed is waited for.
    pub const FEED: Self = Self {
        first: Duration::from_secs(1),
        most: Duration::from_secs(30),
        total: Duration::from_secs(1_200),
    };

    /// Begins to wait.
    #[must_use]
    pub fn begin(self) -> Pauses {
        Pauses { next: self.first, most: self.most, ends: Instant::now() + self.total }
    }
}

/// Pauses that grow, until the patience is over.
pub struct Pauses {
    next: Duration,
    most: Duration,
    ends: Instant,
}

impl Pauses {
    /// Waits for the next pause, `least` at the least; false once the patience is over.
    pub async fn pause(&mut self, least: Duration) -> bool {
        let left = self.ends.saturating_duration_since(Instant::now());
        sleep(self.next.max(least).min(left)).await;
        self.next = (self.next * 3 / 2).min(self.most);
        !left.is_zero()
    }
}

/// Reads an answer; nobody knows what one that cannot be read says was done.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, PushError> {
    let unreadable = |error| PushError::Unknown(format!("the answer cannot be read: {error}"));
    serde_json::from_slice(body).map_err(unreadable)
}

/// What a read that failed asks to be waited before the next.
#[must_use]
pub fn wait_of(error: &PushError) -> Duration {
    match error {
        PushError::Limited { wait_ms } => Duration::from_millis(*wait_ms),
        _ => Duration::ZERO,
    }
}
