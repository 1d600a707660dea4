//! Channels and policies of a config file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use state::limits::{DEDUP_WINDOW_MAX_MS, MINUTE_MS, NAME_LEN_MAX};

use super::secret::Secret;
use super::values::Millis;

/// The kinds of channel that this release speaks with.
const KINDS: [&str; 1] = ["shopify"];
/// Kinds that it knows of and cannot speak with yet.
const OTHER_KINDS: [&str; 6] = ["woocommerce", "amazon", "ebay", "walmart", "odoo", "generic"];

/// One sales channel.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// Its name in URLs and in the API.
    pub name: String,
    /// The kind of marketplace.
    pub kind: String,
    /// Any one of them verifies a webhook; several while a secret is rotated.
    #[serde(default)]
    pub secrets: Vec<Secret>,
    /// The node that pushes to it; without one, the voter with the lowest id. While it is down its pushes
    /// wait: no other node takes them over in this release.
    pub home: Option<u64>,
    /// The ledger's location that its orders draw from.
    #[serde(default = "main_location")]
    pub location: String,
    /// How to push quantities; without it none are.
    pub api: Option<Api>,
    /// What the channel allows.
    #[serde(default)]
    pub rate: Rate,
    /// How long delivery keys are kept, where the sender repeats later than `ingest.dedup_window`.
    pub dedup_window: Option<Millis>,
}

fn main_location() -> String {
    "main".into()
}

/// How to push to a channel. Keys are those of its kind.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// Where its API is: `https://{shop}.myshopify.com`.
    pub base_url: String,
    /// The access token.
    pub token: Secret,
    /// Shopify: the dated version of its API.
    #[serde(default = "api_version")]
    pub version: String,
    /// Shopify: the location whose quantity is set, `gid://shopify/Location/…`, of listings whose mapping
    /// names none.
    pub location_id: Option<String>,
}

/// The oldest version of Shopify's API whose way of setting quantities is spoken here.
const API_VERSION_MIN: &str = "2026-04";

fn api_version() -> String {
    API_VERSION_MIN.into()
}

impl Api {
    /// What Shopify's needs beyond what every API does.
    fn check_shopify(&self) -> Vec<String> {
        let mut faults = Vec::new();
        // Dated versions of one format sort as text.
        if !is_year_month(&self.version) {
            faults.push(format!("api.version: a year and month like {API_VERSION_MIN:?}"));
        } else if self.version.as_str() < API_VERSION_MIN {
            faults.push(format!("api.version: {API_VERSION_MIN:?} or later"));
        }
        faults
    }
}

fn is_year_month(text: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('-').is_some_and(|(year, month)| {
        let is_month = matches!(month.parse(), Ok(1..=12_u8));
        year.len() == 4 && digits(year) && month.len() == 2 && digits(month) && is_month
    })
}

/// Calls that a channel allows.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Calls a second in the long run.
    pub per_second: f64,
    /// Calls at once after a pause.
    pub burst: u64,
}

impl Default for Rate {
    fn default() -> Self {
        Self { per_second: 2.0, burst: 40 }
    }
}

impl Rate {
    /// Thousandths of a call a second; the agreed state computes in integers.
    fn milli(self) -> Option<u64> {
        let milli = (self.per_second * 1000.0).round();
        let in_range = milli.is_finite() && (1.0..=1_000_000_000.0).contains(&milli);
        #[expect(
            clippy::as_conversions,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be a whole number in range"
        )]
        in_range.then_some(milli as u64)
    }
}

/// How a SKU is allocated; the first policy whose glob matches counts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Which SKUs: `*` stands for any characters, `?` for one.
    pub sku: String,
    /// How.
    pub mode: Mode,
    /// Weights by channel, of `split`.
    #[serde(default)]
    pub weights: BTreeMap<String, u32>,
    /// Units held back, by channel.
    #[serde(default)]
    pub buffers: BTreeMap<String, u32>,
}

/// The ways of allocating.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Every channel shows all that is available.
    Shared,
    /// Each shows its share.
    Split,
}

impl From<&Policy> for state::allocation::Policy {
    fn from(policy: &Policy) -> Self {
        let mode = match policy.mode {
            Mode::Shared => state::allocation::Mode::Shared,
            Mode::Split => state::allocation::Mode::Split,
        };
        let buffers = policy.buffers.iter().map(|(name, units)| (name.clone(), i64::from(*units)));
        Self {
            sku: policy.sku.clone(),
            mode,
            weights: policy.weights.clone(),
            buffers: buffers.collect(),
        }
    }
}

impl Channel {
    /// What the cluster knows of it.
    #[must_use]
    pub fn definition(&self, dedup_window: u64) -> state::channel::Definition {
        let mut settings = BTreeMap::new();
        if let Some(api) = &self.api {
            settings.insert("base_url".into(), api.base_url.clone());
            settings.insert("version".into(), api.version.clone());
            if let Some(location) = &api.location_id {
                settings.insert("location_id".into(), location.clone());
            }
        }
        state::channel::Definition {
            kind: self.kind.clone(),
            location: self.location.clone(),
            home: self.home,
            pushes: self.api.is_some(),
            fetches: self.api.is_some(),
            dedup_window_ms: self.dedup_window.map_or(dedup_window, |window| window.0),
            rate_milli: self.rate.milli().unwrap_or(1),
            burst: self.rate.burst.max(1),
            settings,
        }
    }
}

/// What a channel's name is made of.
pub(crate) const CHANNEL_NAME_RULE: &str = "a name has 1 to 64 letters, digits, - and _";

pub(crate) fn is_channel_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (1..=64).contains(&name.len()) && name.chars().all(plain)
}

/// Why a channel cannot be of this kind, if it cannot.
pub(crate) fn unknown_kind(kind: &str) -> Option<String> {
    if KINDS.contains(&kind) {
        return None;
    }
    Some(if OTHER_KINDS.contains(&kind) {
        format!("kind {kind:?} is not in this release; it speaks with shopify")
    } else {
        format!("there is no kind {kind:?}; did you mean shopify?")
    })
}

pub(super) fn check(
    channels: &mut [Channel],
    path: &Path,
    private: bool,
    fault: &mut impl FnMut(&str, String),
) {
    let mut names = BTreeSet::new();
    for channel in channels {
        let name = channel.name.clone();
        let quoted = format!("\"{name}\"");
        let mut at_channel =
            |message: String| fault(&quoted, format!("channel {name:?}: {message}"));
        if !is_channel_name(&name) {
            at_channel(CHANNEL_NAME_RULE.into());
        }
        if !names.insert(name.clone()) {
            at_channel("there are two of this name".into());
        }
        if let Some(why) = unknown_kind(&channel.kind) {
            at_channel(why);
        }
        if !(1..=NAME_LEN_MAX).contains(&channel.location.len()) {
            at_channel(format!("location: between 1 and {NAME_LEN_MAX} bytes"));
        }
        if channel.rate.burst == 0 {
            at_channel("rate.burst must be at least 1".into());
        }
        let window = channel.dedup_window.map(|window| window.0);
        if window.is_some_and(|window| !(MINUTE_MS..=DEDUP_WINDOW_MAX_MS).contains(&window)) {
            at_channel("dedup_window must be between 1m and 90d".into());
        }
        if channel.secrets.is_empty() {
            at_channel("needs secrets: webhooks are always verified".into());
        }
        for secret in &mut channel.secrets {
            if let Err(why) = secret.resolve(path, private) {
                at_channel(why);
            }
        }
        if channel.rate.milli().is_none() {
            at_channel("rate.per_second must be between 0.001 and 1000000".into());
        }
        if let Some(api) = &mut channel.api {
            if let Err(why) = api.token.resolve(path, private) {
                at_channel(format!("api.token: {why}"));
            }
            if let Err(why) = crate::channel::check_base_url(&api.base_url) {
                at_channel(format!("api.base_url: {why}"));
            }
            if channel.kind == "shopify" {
                api.check_shopify().into_iter().for_each(&mut at_channel);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Config;

    fn faults(api: &str) -> Vec<String> {
        let text = format!(
            "[node]\nid = 1\nregion = \"eu\"\ndata_dir = \"data\"\n\
             [[channel]]\nname = \"a\"\nkind = \"shopify\"\nsecrets = [\"file:/dev/null\"]\n\
             api = {{ token = \"file:/dev/null\", {api} }}\n"
        );
        let faults = Config::parse(&text, Path::new("F")).unwrap_err();
        let said = faults.all().iter().map(|fault| fault.message.clone());
        said.filter(|message| !message.contains("a secret has")).collect()
    }

    // With an older version every push fails, and a host that begins like loopback may be anywhere: the
    // token would travel there in the clear.
    #[test]
    fn an_api_that_cannot_be_pushed_to_is_a_fault() {
        let url = |url: &str| format!("base_url = \"{url}\", location_id = \"gid://l/1\"");
        for good in
            ["https://a.example", "http://127.0.0.1:9", "http://[::1]:9", "http://localhost"]
        {
            assert_eq!(faults(&url(good)), Vec::<String>::new(), "{good}");
        }
        let evil =
            ["http://127.0.0.1.evil.example.com", "http://localhost.example", "http://10.0.0.1"];
        for bad in evil.iter().chain(&["ftp://localhost", "https://", "no url"]) {
            let said = faults(&url(bad)).concat();
            assert!(said.contains("api.base_url: "), "{bad}: {said}");
        }
        let said = faults("base_url = \"http://u:pass-word@a.example\"").concat();
        assert!(said.contains("api.base_url: ") && !said.contains("pass-word"), "{said}");
        let version = |version: &str| {
            let good = url("https://a.example");
            faults(&format!("{good}, version = \"{version}\"")).concat()
        };
        assert_eq!(version("2026-07") + &version("2031-01"), "");
        assert!(version("2026-01").contains("or later"));
        for bad in ["unstable", "2026-13", "2026-7", "20260-07", "2026-+7"] {
            assert!(version(bad).contains("a year and month"), "{bad}");
        }
    }
}
