//! Walmart's marketplace.

pub mod orders;
pub mod quantities;

mod feed;

use super::account::Account;
use super::api::{Call, Credential};
use super::token::{self, ClientIn, Grant};
use crate::config;

/// How to reach Walmart.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `https://marketplace.walmartapis.com`.
    pub base_url: String,
    /// `https://marketplace.walmartapis.com/v3/token`.
    pub token_url: String,
    /// The application's id.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Credential,
    /// Which kind of feed sets many quantities.
    pub feeds: FeedType,
    /// Whether what Walmart reserves for open orders is added to what it is told.
    pub adds_reserved: bool,
}

/// Kinds of feeds that set quantities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedType {
    /// Version 1.4 of the specification: one ship node a feed.
    Inventory,
    /// Version 1.5: each row names its ship node.
    MpInventory,
}

impl FeedType {
    /// As the config and Walmart call it.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "inventory" => Some(Self::Inventory),
            "MP_INVENTORY" => Some(Self::MpInventory),
            _ => None,
        }
    }

    /// The same.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inventory => "inventory",
            Self::MpInventory => "MP_INVENTORY",
        }
    }
}

impl Settings {
    /// As the config says; `None` if something is missing there.
    #[must_use]
    pub fn of(api: &config::Api) -> Option<Self> {
        Some(Self {
            base_url: api.base_url.clone(),
            token_url: api.token_url("walmart"),
            client_id: api.client_id.clone()?,
            client_secret: api.client_secret.as_ref()?.into(),
            feeds: FeedType::of(api.feed_type.as_deref().unwrap_or("inventory"))?,
            adds_reserved: api.adds_reserved.unwrap_or(true),
        })
    }
}

/// A seller's account.
fn seller(settings: &Settings) -> Result<Account, String> {
    let token = token::Settings {
        url: settings.token_url.clone(),
        client_id: settings.client_id.clone(),
        client_secret: settings.client_secret.clone(),
        client_in: ClientIn::Basic,
        grant: Grant::ClientCredentials { scope: None },
        dress: dressed,
    };
    let dress = |call, token: &str| dressed(call).header("WM_SEC.ACCESS_TOKEN", token);
    Account::new(&settings.base_url, token, dress)
}

/// What Walmart wants in each call, that for a token included. Without `Accept` it answers XML.
fn dressed(call: Call) -> Call {
    let mut random = [0; 16];
    // An id that is not random is a call that support finds less easily.
    let _ = getrandom::fill(&mut random);
    let id = uuid::Builder::from_random_bytes(random).into_uuid();
    call.header("WM_QOS.CORRELATION_ID", &id.to_string())
        .header("WM_SVC.NAME", "Walmart Marketplace")
        .header("Accept", "application/json")
}
