//! What a channel's API told when it was asked, taken apart.

use crate::Understood;

/// One thing that was told: an order, a movement, a quantity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What kind of thing, as a topic: `poll/order`.
    pub topic: &'static str,
    /// It alone, as JSON: what was told twice is recognised by it.
    pub raw: Vec<u8>,
    /// What it says.
    pub understood: Understood,
}

/// One page of what changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// What was told, in the channel's order.
    pub told: Vec<Told>,
    /// How to ask for the page after it, if there is one: opaque, as the channel's kind means it.
    pub next: Option<String>,
    /// The newest time of change on it, in milliseconds since the Unix epoch: where to go on later.
    pub newest_ms: Option<u64>,
}
