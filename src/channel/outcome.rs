//! What a channel answers to a push, whatever its kind.

/// One quantity to set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The SKU.
    pub sku: String,
    /// The channel's own id of what is set.
    pub listing: String,
    /// The channel's own id of where, if it has such.
    pub location: String,
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
