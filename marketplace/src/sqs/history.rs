//! What a queue remembers for whoever checks its consumer afterwards.

use std::{sync::Arc, time::Duration};

use crate::clock::Millis;

/// One thing that happened to a message. Nothing of it is ever dropped: it grows with every receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at_ms: Millis,
    /// To which message.
    pub message_id: String,
    /// What.
    pub what: What,
}

/// What can happen to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A consumer got it.
    Received {
        /// How often it was received, this time included.
        count: u32,
        /// What it says.
        body: Arc<str>,
    },
    /// The consumer hides it for so long from now on, in seconds that are not scaled.
    Hidden(Duration),
    /// It is gone.
    Deleted,
    /// Its consumer believes it gone, and a copy is left: see [`Faults::twice`](super::Faults::twice).
    DeleteMissed,
    /// Answered as a success, though the handle was not the newest: it is still there.
    DeleteIgnored,
}

/// Counters, and how many messages are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that a receive would find.
    pub visible: usize,
    /// Messages received and hidden.
    pub in_flight: usize,
    /// Messages that nobody has seen yet and that will become visible.
    pub delayed: usize,
    /// Long polls that wait for a message now.
    pub polls: usize,
    /// Messages ever handed out, each time counted.
    pub received: u64,
    /// Messages gone by a delete.
    pub deleted: u64,
    /// Messages gone by age.
    pub expired: u64,
    /// Calls, whatever their answer.
    pub calls: u64,
    /// Calls whose signature was refused.
    pub unauthorized: u64,
    /// Calls that met an outage or a fault.
    pub outage_calls: u64,
}

impl Counts {
    /// True if no message is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.visible + self.in_flight + self.delayed == 0
    }
}
