//! Amazon's Selling Partner API.

pub mod orders;
pub mod quantities;

mod feed;

use std::time::Duration;

use super::account::Account;
use super::api::{Call, Credential};
use super::token::{self, ClientIn, Grant};
use crate::config::{self, Millis};

/// Calls without one are refused. The form is Amazon's.
const USER_AGENT: &str = concat!("stockraft/", env!("CARGO_PKG_VERSION"), " (Language=Rust)");
/// How long Amazon may take to show what it accepted, if the config does not say.
const APPLIED_WITHIN: Duration = Duration::from_secs(5);

/// How to reach Amazon.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `https://sellingpartnerapi-{na|eu|fe}.amazon.com`.
    pub base_url: String,
    /// `https://api.amazon.com/auth/o2/token`.
    pub token_url: String,
    /// The application's id.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Credential,
    /// What the seller granted it.
    pub refresh_token: Credential,
    /// The marketplaces whose orders are asked for. Quantities are set in the first, where a listing names
    /// no other.
    pub marketplaces: Vec<String>,
    /// The merchant token.
    pub seller_id: String,
    /// How long a push waits until Amazon shows what it accepted.
    pub applied_within: Duration,
}

impl Settings {
    /// As the config says; `None` if something is missing there.
    #[must_use]
    pub fn of(api: &config::Api) -> Option<Self> {
        Some(Self {
            base_url: api.base_url.clone(),
            token_url: api.token_url("amazon"),
            client_id: api.client_id.clone()?,
            client_secret: api.client_secret.as_ref()?.into(),
            refresh_token: api.refresh_token.as_ref()?.into(),
            marketplaces: api.marketplaces.clone(),
            seller_id: api.seller_id.clone()?,
            applied_within: api.applied_within.map_or(APPLIED_WITHIN, Millis::duration),
        })
    }
}

/// A seller's account.
fn account(settings: &Settings) -> Result<Account, String> {
    let token = token::Settings {
        url: settings.token_url.clone(),
        client_id: settings.client_id.clone(),
        client_secret: settings.client_secret.clone(),
        client_in: ClientIn::Form,
        grant: Grant::RefreshToken { token: settings.refresh_token.clone(), scope: None },
        dress: std::convert::identity,
    };
    Account::new(&settings.base_url, token, dressed)
}

/// All that Amazon wants to see in each call.
fn dressed(call: Call, token: &str) -> Call {
    call.header("user-agent", USER_AGENT).header("x-amz-access-token", token)
}
