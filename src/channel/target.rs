//! A channel's API as a place where quantities are set and read: which client each kind has.

use super::amazon::quantities::Client as Amazon;
use super::ebay::quantities::Client as Ebay;
use super::odoo::quantities::Client as Odoo;
use super::outcome::{Answered, Calls, Place, PushError, Quantities, Row, RowOutcome};
use super::shopify::client::Client as Shopify;
use super::walmart::quantities::Client as Walmart;
use super::woocommerce::quantities::Client as WooCommerce;
use super::{amazon, walmart};
use crate::config::Channel;

/// Whether quantities are pushed to channels of this kind.
#[must_use]
pub fn is_pushed(kind: &str) -> bool {
    matches!(kind, "shopify" | "woocommerce" | "amazon" | "ebay" | "walmart" | "odoo")
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
    /// An Amazon seller.
    Amazon(Box<Amazon>),
    /// A seller on Walmart's marketplace.
    Walmart(Box<Walmart>),
    /// A `WooCommerce` store.
    WooCommerce(WooCommerce),
    /// An eBay seller.
    Ebay(Box<Ebay>),
    /// An Odoo database.
    Odoo(Odoo),
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
            "woocommerce" => WooCommerce::new(channel).map(Self::WooCommerce),
            "ebay" => Ebay::new(channel).map(Box::new).map(Self::Ebay),
            "odoo" => Odoo::new(channel).map(Self::Odoo),
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
            Self::WooCommerce(client) => client.calls(),
            Self::Ebay(client) => client.calls(),
            Self::Odoo(client) => client.calls(),
        }
    }

    async fn set(&self, rows: &[Row], key: &str) -> Result<Answered<Vec<RowOutcome>>, PushError> {
        match self {
            Self::Shopify(client) => client.set(rows, key).await,
            Self::Amazon(client) => client.set(rows, key).await,
            Self::Walmart(client) => client.set(rows, key).await,
            Self::WooCommerce(client) => client.set(rows, key).await,
            Self::Ebay(client) => client.set(rows, key).await,
            Self::Odoo(client) => client.set(rows, key).await,
        }
    }

    async fn read(&self, places: &[Place]) -> Result<Answered<Vec<Option<i64>>>, PushError> {
        match self {
            Self::Shopify(client) => client.read(places).await,
            Self::Amazon(client) => client.read(places).await,
            Self::Walmart(client) => client.read(places).await,
            Self::WooCommerce(client) => client.read(places).await,
            Self::Ebay(client) => client.read(places).await,
            Self::Odoo(client) => client.read(places).await,
        }
    }

    async fn feed(&self, rows: &[Row], key: &str) -> Result<Answered<Vec<RowOutcome>>, PushError> {
        match self {
            Self::Shopify(client) => client.feed(rows, key).await,
            Self::Amazon(client) => client.feed(rows, key).await,
            Self::Walmart(client) => client.feed(rows, key).await,
            Self::WooCommerce(client) => client.feed(rows, key).await,
            Self::Ebay(client) => client.feed(rows, key).await,
            Self::Odoo(client) => client.feed(rows, key).await,
        }
    }
}
