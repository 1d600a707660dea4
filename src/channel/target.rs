//! A channel's API as a place where quantities are set and read: which client each kind has.

use super::outcome::{Answered, Calls, Place, PushError, Quantities, Row, RowOutcome};
use super::shopify::client::Client as Shopify;
use crate::config::Channel;

/// Whether quantities are pushed to channels of this kind.
#[must_use]
pub fn is_pushed(kind: &str) -> bool {
    matches!(kind, "shopify")
}

/// Whether channels of this kind take a quantity only in place of the one that they are believed to show.
#[must_use]
pub fn compares(kind: &str) -> bool {
    matches!(kind, "shopify")
}

/// The API of a channel of each kind that is pushed to.
pub enum Target {
    /// A Shopify store.
    Shopify(Shopify),
}

impl Target {
    /// The API that the config gives a channel; `None` if it gives none, or one that cannot be asked.
    #[must_use]
    pub fn new(channel: &Channel) -> Option<Self> {
        match channel.kind.as_str() {
            "shopify" => Shopify::new(channel).map(Self::Shopify),
            _ => None,
        }
    }
}

impl Quantities for Target {
    fn calls(&self) -> Calls {
        match self {
            Self::Shopify(client) => client.calls(),
        }
    }

    async fn set(&self, rows: &[Row], key: &str) -> Result<Answered<Vec<RowOutcome>>, PushError> {
        match self {
            Self::Shopify(client) => client.set(rows, key).await,
        }
    }

    async fn read(&self, places: &[Place]) -> Result<Answered<Vec<Option<i64>>>, PushError> {
        match self {
            Self::Shopify(client) => client.read(places).await,
        }
    }

    async fn feed(&self, rows: &[Row], key: &str) -> Result<Answered<Vec<RowOutcome>>, PushError> {
        match self {
            Self::Shopify(client) => client.feed(rows, key).await,
        }
    }
}
