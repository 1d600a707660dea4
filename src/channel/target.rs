//! A channel's API as a place where quantities are set and read: which client each kind has.

use super::amazon::quantities::Client as Amazon;
use super::outcome::{Answered, Calls, Place, PushError, Quantities, Row, RowOutcome};
use super::shopify::client::Client as Shopify;
use super::walmart::quantities::Client as Walmart;
use super::{amazon, walmart};
use crate::config::Channel;

/// Whether quantities are pushed to channels of this kind.
#[must_use]
pub fn is_pushed(kind: &str) -> bool {
    matches!(kind, "shopify")
}

/// The API of a channel of each kind that is pushed to.
pub enum Target {
    /// A Shopify store.
    Shopify(Shopify),
    /// An Amazon seller.
    Amazon(Box<Amazon>),
    /// A seller on Walmart's marketplace.
    Walmart(Box<Walmart>),
}

impl Target {
    /// The API that the config gives a channel; `None` if it gives none, or one that cannot be asked.
    #[must_use]
    pub fn new(channel: &Channel) -> Option<Self> {
        match channel.kind.as_str() {
            "shopify" => Shopify::new(channel).map(Self::Shopify),
            "amazon" => {
                let settings = amazon::Settings::of(channel.api.as_ref()?)?;
                Amazon::new(&settings).ok().map(Box::new).map(Self::Amazon)
            }
            "walmart" => {
                let settings = walmart::Settings::of(channel.api.as_ref()?)?;
                Walmart::new(&settings).ok().map(Box::new).map(Self::Walmart)
            }
            _ => None,
        }
    }
}

impl Quantities for Target {
    fn calls(&self) -> Calls {
        match self {
            Self::Shopify(client) => client.calls(),
            Self::Amazon(client) => client.calls(),
            Self::Walmart(client) => client.calls(),
        }
    }

    async fn set(&self, rows: &[Row], key: &str) -> Result<Answered<Vec<RowOutcome>>, PushError> {
        match self {
            Self::Shopify(client) => client.set(rows, key).await,
            Self::Amazon(client) => client.set(rows, key).await,
            Self::Walmart(client) => client.set(rows, key).await,
        }
    }

    async fn read(&self, places: &[Place]) -> Result<Answered<Vec<Option<i64>>>, PushError> {
        match self {
            Self::Shopify(client) => client.read(places).await,
            Self::Amazon(client) => client.read(places).await,
            Self::Walmart(client) => client.read(places).await,
        }
    }

    async fn feed(&self, rows: &[Row], key: &str) -> Result<Answered<Vec<RowOutcome>>, PushError> {
        match self {
            Self::Shopify(client) => client.feed(rows, key).await,
            Self::Amazon(client) => client.feed(rows, key).await,
            Self::Walmart(client) => client.feed(rows, key).await,
        }
    }
}
