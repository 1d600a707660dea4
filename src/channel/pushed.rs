//! What all clients that push share: what a status means for what was to be changed, rows that are sent
//! one by one, and waiting for a job of the channel's.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::api::{Answer, ApiError, Broken};
use super::outcome::{Answered, PushError, RowOutcome};
use super::token::Unanswered;

impl From<Broken> for PushError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Invalid(why) | Broken::Unsent(why) => Self::Refused(why),
            broken => Self::Unknown(broken.to_string()),
        }
    }
}

impl From<Unanswered> for PushError {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            // Without a token nothing was sent.
            Unanswered::Token(ApiError::Limited { wait_ms }) => Self::Limited { wait_ms },
            Unanswered::Token(ApiError::Unauthorised(why)) => Self::Unauthorised(why),
            Unanswered::Token(error) => Self::Refused(error.to_string()),
            Unanswered::Call(broken) => broken.into(),
        }
    }
}

/// The body of an answer to a call that was to change something, if its status is a success. A server's
/// fault may come after the change.
pub fn success(answer: Answer) -> Result<Bytes, PushError> {
    answer.success().map_err(|error| match error {
        ApiError::Unauthorised(why) => PushError::Unauthorised(why),
        ApiError::Limited { wait_ms } => PushError::Limited { wait_ms },
        ApiError::NotFound => PushError::Refused(error.to_string()),
        ApiError::Refused(why) => PushError::Refused(why),
        ApiError::Unreachable(why) | ApiError::Unreadable(why) => PushError::Unknown(why),
    })
}

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

impl Patience {
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

/// What a read that failed asks to be waited before the next.
#[must_use]
pub fn wait_of(error: &PushError) -> Duration {
    match error {
        PushError::Limited { wait_ms } => Duration::from_millis(*wait_ms),
        _ => Duration::ZERO,
    }
}
