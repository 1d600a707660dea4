//! What a channel answers to a push, whatever its kind.

use std::collections::BTreeMap;
use std::time::Duration;

/// A channel's API as a place where quantities are set and read.
pub trait Quantities: Send + Sync + 'static {
    /// What its calls take.
    fn calls(&self) -> Calls;

    /// Sets quantities. One outcome a row, in order. `key` must be new unless rows are the same.
    fn set(
        &self,
        rows: &[Row],
        key: &str,
    ) -> impl Future<Output = Result<Answered<Vec<RowOutcome>>, PushError>> + Send;

    /// Reads what the channel shows at places that share one location; `None` for what it does not know.
    fn read(
        &self,
        places: &[Place],
    ) -> impl Future<Output = Result<Answered<Vec<Option<i64>>>, PushError>> + Send;

    /// Sets many quantities as one job of the channel's, and waits for its report: minutes, perhaps. Asked
    /// for only where [`Calls::feed_rows_max`] is not 0.
    fn feed(
        &self,
        rows: &[Row],
        key: &str,
    ) -> impl Future<Output = Result<Answered<Vec<RowOutcome>>, PushError>> + Send {
        self.set(rows, key)
    }
}

/// What the calls of a channel take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calls {
    /// Rows that are set at once.
    pub rows_max: usize,
    /// Calls that setting so many takes, all in all: what is shown is read first where a channel does not compare.
    pub calls_a_set: usize,
    /// Places that one call reads.
    pub reads_max: usize,
    /// Rows of one feed; 0 where there are none.
    pub feed_rows_max: usize,
    /// So many rows are worth a feed, which takes minutes.
    pub feed_rows_min: usize,
    /// Whether it keeps quantities by location, so that a place without one cannot be addressed.
    pub located: bool,
}

/// An answer, and how long the channel wants us to wait before the next call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered<T> {
    /// What it answered.
    pub value: T,
    /// To be waited before the next call, so that it is not throttled.
    pub wait: Duration,
}

impl<T> Answered<T> {
    /// An answer after which nothing needs to be waited.
    pub const fn now(value: T) -> Self {
        Self { value, wait: Duration::ZERO }
    }
}

/// Something that a channel shows, as it is addressed there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The SKU.
    pub sku: String,
    /// The channel's own id of what is set.
    pub listing: String,
    /// The channel's own id of where, if it has such.
    pub location: String,
    /// What else the mapping says of the listing.
    pub settings: BTreeMap<String, String>,
}

/// One quantity to set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Of what.
    pub place: Place,
    /// What it shall show.
    pub quantity: i64,
    /// What it is believed to show.
    pub from: i64,
}

/// What became of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowOutcome {
    /// The channel shows the quantity.
    Confirmed,
    /// It did not take the row, because it shows something else than was believed: read it back.
    Stale,
    /// Nobody knows whether it took the row: read it back.
    Unknown,
    /// It did not take this row, and never will until something is mended.
    Failed(String),
    /// It did not take the row; a later try may succeed.
    Refused,
    /// It did not take the row because of another one.
    Untouched,
}

/// What became of a whole call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// Too many calls; the channel says how long to wait, in milliseconds.
    #[error("the channel limits the rate; wait {wait_ms} ms")]
    Limited {
        /// Milliseconds.
        wait_ms: u64,
    },
    /// The channel certainly did nothing; a later call may succeed.
    #[error("refused: {0}")]
    Refused(String),
    /// Some row of several is at fault, and the channel does not say which.
    #[error("one of the rows is at fault: {0}")]
    Suspect(String),
    /// Nobody knows whether the channel did it.
    #[error("no answer: {0}")]
    Unknown(String),
    /// The credentials are not accepted.
    #[error("not authorised: {0}")]
    Unauthorised(String),
}
