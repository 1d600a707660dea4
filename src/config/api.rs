//! How to reach a channel's API: which keys each kind takes, and which it cannot do without.

use std::path::Path;

use serde::Deserialize;

use super::secret::Secret;
use super::values::Millis;
use crate::channel::{check_base_url, walmart};

/// How to reach a channel's API. Which keys there are depends on the channel's kind.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// Where it is: `https://{shop}.myshopify.com`.
    pub base_url: String,
    /// Shopify: the access token. Odoo: the API key.
    pub token: Option<Secret>,
    /// Shopify: the dated version of its API.
    pub version: Option<String>,
    /// Shopify, Odoo, Walmart: the location whose quantity is set, `gid://shopify/Location/…`, the id of a
    /// `stock.location` or of a ship node, of listings whose mapping names none.
    pub location_id: Option<String>,
    /// `WooCommerce`: the consumer key, `ck_…`.
    pub consumer_key: Option<Secret>,
    /// `WooCommerce`: the consumer secret, `cs_…`.
    pub consumer_secret: Option<Secret>,
    /// Amazon, eBay, Walmart: the application's id.
    pub client_id: Option<String>,
    /// Amazon, eBay, Walmart: the application's secret.
    pub client_secret: Option<Secret>,
    /// Amazon, eBay: what the seller granted the application.
    pub refresh_token: Option<Secret>,
    /// Amazon, eBay, Walmart: where access tokens are given out, if not at the usual place.
    pub token_url: Option<String>,
    /// Amazon: the marketplaces whose orders are asked for.
    #[serde(default)]
    pub marketplaces: Vec<String>,
    /// Amazon: the merchant token, which its listings are found by.
    pub seller_id: Option<String>,
    /// Amazon: how long a push waits until what Amazon accepted is shown.
    pub applied_within: Option<Millis>,
    /// Walmart: which feed sets many quantities, `inventory` or `MP_INVENTORY`.
    pub feed_type: Option<String>,
    /// Walmart: whether what it reserves for open orders is added to what it is told, since it takes that off.
    pub adds_reserved: Option<bool>,
    /// Odoo: the database, where its host has several.
    pub database: Option<String>,
    /// `WooCommerce`, eBay: the most quantities that one call may set, where that is fewer than usual.
    pub rows_max: Option<u16>,
}

/// The oldest version of Shopify's API whose way of setting quantities is spoken here.
const SHOPIFY_VERSION_MIN: &str = "2026-04";
/// Where Amazon gives out tokens (Login with Amazon).
const AMAZON_TOKEN_URL: &str = "https://api.amazon.com/auth/o2/token";

/// Keys that a kind takes beside `base_url`: those that it needs, and those that it may have.
fn keys(kind: &str) -> (&'static [&'static str], &'static [&'static str]) {
    match kind {
        "shopify" => (&["token"], &["version", "location_id"]),
        "woocommerce" => (&["consumer_key", "consumer_secret"], &["rows_max"]),
        "amazon" => {
            let needed =
                &["client_id", "client_secret", "refresh_token", "marketplaces", "seller_id"];
            (needed, &["token_url", "applied_within"])
        }
        "ebay" => (&["client_id", "client_secret"], &["refresh_token", "token_url", "rows_max"]),
        "walmart" => (
            &["client_id", "client_secret"],
            &["token_url", "location_id", "feed_type", "adds_reserved"],
        ),
        "odoo" => (&["token"], &["database", "location_id"]),
        _ => (&[], &[]),
    }
}

impl Api {
    /// Resolves the secrets, and says what of it does not fit the kind.
    pub(super) fn check(&mut self, kind: &str, path: &Path, private: bool) -> Vec<String> {
        let mut faults = Vec::new();
        if kind == "generic" {
            return vec!["api: nothing is known of the API of a generic channel".into()];
        }
        let (needed, allowed) = keys(kind);
        for (key, is_there) in self.present() {
            let is_known = needed.contains(&key) || allowed.contains(&key);
            if is_there && !is_known {
                faults.push(format!("api.{key}: kind {kind:?} has no such key"));
            } else if !is_there && needed.contains(&key) {
                faults.push(format!("api.{key}: kind {kind:?} needs it"));
            }
        }
        for (key, secret) in self.secrets_mut() {
            if let Err(why) = secret.resolve(path, private) {
                faults.push(format!("api.{key}: {why}"));
            }
        }
        for (key, url) in
            [("base_url", Some(&self.base_url)), ("token_url", self.token_url.as_ref())]
        {
            if let Some(Err(why)) = url.map(|url| check_base_url(url)) {
                faults.push(format!("api.{key}: {why}"));
            }
        }
        if self.rows_max == Some(0) {
            faults.push("api.rows_max: at least 1".into());
        }
        if let Some(version) = &self.version {
            faults.extend(check_version(version));
        }
        if self.feed_type.as_deref().is_some_and(|name| walmart::FeedType::of(name).is_none()) {
            faults.push("api.feed_type: \"inventory\" or \"MP_INVENTORY\"".into());
        }
        faults
    }

    fn present(&self) -> [(&'static str, bool); 16] {
        [
            ("token", self.token.is_some()),
            ("version", self.version.is_some()),
            ("location_id", self.location_id.is_some()),
            ("consumer_key", self.consumer_key.is_some()),
            ("consumer_secret", self.consumer_secret.is_some()),
            ("client_id", self.client_id.is_some()),
            ("client_secret", self.client_secret.is_some()),
            ("refresh_token", self.refresh_token.is_some()),
            ("token_url", self.token_url.is_some()),
            ("marketplaces", !self.marketplaces.is_empty()),
            ("seller_id", self.seller_id.is_some()),
            ("applied_within", self.applied_within.is_some()),
            ("feed_type", self.feed_type.is_some()),
            ("adds_reserved", self.adds_reserved.is_some()),
            ("database", self.database.is_some()),
            ("rows_max", self.rows_max.is_some()),
        ]
    }

    fn secrets_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut Secret)> {
        let all = [
            ("token", &mut self.token),
            ("consumer_key", &mut self.consumer_key),
            ("consumer_secret", &mut self.consumer_secret),
            ("client_secret", &mut self.client_secret),
            ("refresh_token", &mut self.refresh_token),
        ];
        all.into_iter().filter_map(|(key, secret)| Some((key, secret.as_mut()?)))
    }

    /// How many quantities one call may set, where `usual` is what the kind's API takes.
    #[must_use]
    pub fn rows_max(&self, usual: usize) -> usize {
        self.rows_max.map_or(usual, |most| usize::from(most).clamp(1, usual))
    }

    /// The dated version of Shopify's API.
    #[must_use]
    pub fn version(&self) -> &str {
        self.version.as_deref().unwrap_or(SHOPIFY_VERSION_MIN)
    }

    /// Where access tokens are given out.
    #[must_use]
    pub fn token_url(&self, kind: &str) -> String {
        let base = self.base_url.trim_end_matches('/');
        let usual = || match kind {
            "ebay" => format!("{base}/identity/v1/oauth2/token"),
            "walmart" => format!("{base}/v3/token"),
            _ => AMAZON_TOKEN_URL.into(),
        };
        self.token_url.clone().unwrap_or_else(usual)
    }
}

fn check_version(version: &str) -> Option<String> {
    // Dated versions of one format sort as text.
    if !is_year_month(version) {
        Some(format!("api.version: a year and month like {SHOPIFY_VERSION_MIN:?}"))
    } else if version < SHOPIFY_VERSION_MIN {
        Some(format!("api.version: {SHOPIFY_VERSION_MIN:?} or later"))
    } else {
        None
    }
}

fn is_year_month(text: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('-').is_some_and(|(year, month)| {
        let is_month = matches!(month.parse(), Ok(1..=12_u8));
        year.len() == 4 && digits(year) && month.len() == 2 && digits(month) && is_month
    })
}
