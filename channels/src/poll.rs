//! What a channel's API told when it was asked, taken apart.

use serde::Deserialize;
use serde_json::Value;

use crate::{Understood, json};

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

impl Told {
    /// An order. One that is not understood is a dead letter, and does not keep the others of its page
    /// from being told.
    #[must_use]
    pub fn order(order: &Value, said: Result<Understood, String>) -> Self {
        let understood = said.unwrap_or_else(|why| json::dead(&why));
        Self { topic: "poll/order", raw: order.to_string().into_bytes(), understood }
    }

    /// The answer `{"order": …}` to the question for one. The error says why it is none.
    pub(crate) fn wrapped_order(
        body: &[u8],
        read: impl Fn(&Value) -> Result<Understood, String>,
    ) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Answer {
            order: Value,
        }
        let Answer { order } = json::read(body)?;
        Ok(Self::order(&order, read(&order)))
    }
}

impl Page {
    /// A page of orders. `changed_ms` is asked even of those that are not understood, so that they do
    /// not hold the cursor back.
    #[must_use]
    pub fn of_orders(
        orders: &[Value],
        next: Option<String>,
        read: impl Fn(&Value) -> Result<Understood, String>,
        changed_ms: impl Fn(&Value) -> Option<u64>,
    ) -> Self {
        let told = orders.iter().map(|order| Told::order(order, read(order))).collect();
        Self { told, next, newest_ms: orders.iter().filter_map(changed_ms).max() }
    }
}
