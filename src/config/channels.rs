//! Channels of a config file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use channels::signature::Scheme;
use serde::Deserialize;
use state::limits::{DAY_MS, DEDUP_WINDOW_MAX_MS, MINUTE_MS, NAME_LEN_MAX};

use super::api::Api;
use super::secret::Secret;
use super::sources::{Odoo, Poll, Sns, Sqs};
use super::values::Millis;
use super::verify::Verify;
use crate::channel::target;

/// The kinds of channel that this release speaks with.
pub(crate) const KINDS: [&str; 7] =
    ["shopify", "woocommerce", "amazon", "ebay", "walmart", "odoo", "generic"];

/// One sales channel.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// Its name in URLs and in the API.
    pub name: String,
    /// The kind of marketplace.
    pub kind: String,
    /// Any one of them verifies a webhook; several while a secret is rotated. eBay: the verification
    /// token of its challenge. Odoo: the last part of the webhook's path.
    #[serde(default)]
    pub secrets: Vec<Secret>,
    /// The node that pushes to it and polls it; without one, the voter with the lowest id. While it is
    /// down its pushes wait: no other node takes them over in this release.
    pub home: Option<u64>,
    /// The ledger's location that its orders draw from: the first of `ledger.locations` if none is said.
    #[serde(default)]
    pub location: String,
    /// How to reach its API; without it nothing is pushed, fetched or polled.
    pub api: Option<Api>,
    /// Whether it is told quantities; false for one that is only listened to and asked.
    #[serde(default = "yes")]
    pub push: bool,
    /// What the channel allows.
    #[serde(default)]
    pub rate: Rate,
    /// How long delivery keys are kept, where the sender repeats later than `ingest.dedup_window`.
    pub dedup_window: Option<Millis>,
    /// How it signs, where its kind leaves a choice: Walmart and generic channels.
    pub verify: Option<Verify>,
    /// Amazon: deliveries that come through SNS.
    pub sns: Option<Sns>,
    /// Amazon: the queue that deliveries are taken from.
    pub sqs: Option<Sqs>,
    /// eBay: the endpoint as it was registered there, which its challenge covers.
    pub endpoint: Option<String>,
    /// Odoo: which of its locations are the ledger's.
    pub odoo: Option<Odoo>,
    /// How often its API is asked what changed.
    #[serde(default)]
    pub poll: Poll,
    /// Generic: types of deliveries that change no stock.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// How it signs, made of the above; `None` where it has no webhooks.
    #[serde(skip)]
    pub scheme: Option<Arc<Scheme>>,
    /// What its payloads mean, where that hangs on the above.
    #[serde(skip)]
    pub meaning: Meaning,
}

/// What the parsers of some kinds have to know.
#[derive(Clone, Debug, Default)]
pub struct Meaning {
    /// Odoo's locations.
    pub odoo: channels::odoo::Settings,
    /// What a generic channel sends that changes no stock.
    pub generic: channels::generic::Settings,
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

impl Channel {
    /// What the cluster knows of it.
    #[must_use]
    pub fn definition(&self, dedup_window: u64) -> state::channel::Definition {
        let mut settings = BTreeMap::new();
        if let Some(api) = &self.api {
            settings.insert("base_url".into(), api.base_url.clone());
            if self.kind == "shopify" {
                settings.insert("version".into(), api.version().into());
            }
            if let Some(location) = &api.location_id {
                settings.insert("location_id".into(), location.clone());
            }
        }
        let own_window = || dedup_window.max(repeats_for(&self.kind));
        state::channel::Definition {
            kind: self.kind.clone(),
            location: self.location.clone(),
            home: self.home,
            pushes: self.pushes(),
            fetches: self.api.is_some(),
            dedup_window_ms: self.dedup_window.map_or_else(own_window, |window| window.0),
            rate_milli: self.rate.milli().unwrap_or(1),
            burst: self.rate.burst.max(1),
            settings,
        }
    }

    /// Whether quantities are pushed to it.
    #[must_use]
    pub fn pushes(&self) -> bool {
        // Without a seller's grant there are eBay's public keys, and nothing else.
        let granted = |api: &Api| self.kind != "ebay" || api.refresh_token.is_some();
        self.push && self.api.as_ref().is_some_and(granted) && target::is_pushed(&self.kind)
    }

    /// The kind's own keys that it needs and lacks, or has and cannot use.
    fn check_kind(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let kind = self.kind.as_str();
        let own = [
            ("verify", self.verify.is_some(), &["walmart", "generic"][..]),
            ("sns", self.sns.is_some(), &["amazon"]),
            ("sqs", self.sqs.is_some(), &["amazon"]),
            ("endpoint", self.endpoint.is_some(), &["ebay"]),
            ("odoo", self.odoo.is_some(), &["odoo"]),
            ("ignore", !self.ignore.is_empty(), &["generic"]),
        ];
        for (key, is_there, kinds) in own {
            if is_there && !kinds.contains(&kind) {
                faults.push(format!("{key}: kind {kind:?} has no such key"));
            }
        }
        match kind {
            "amazon" if self.sns.is_none() && self.sqs.is_none() => {
                faults.push("needs sns or sqs: where its notifications come from".into());
            }
            "amazon" if !self.secrets.is_empty() => {
                faults.push("secrets: Amazon signs with its own certificates".into());
            }
            "amazon" => {}
            _ if self.secrets.is_empty() => {
                faults.push("needs secrets: webhooks are always verified".into());
            }
            "ebay" if self.api.is_none() => {
                faults.push("needs api: the keys that eBay signs with are fetched from it".into());
            }
            "ebay" if self.endpoint.is_none() => {
                faults.push(
                    "needs endpoint: the URL as registered, which its challenge covers".into(),
                );
            }
            "odoo" if self.odoo.is_none() => {
                faults.push("needs odoo.locations: which of its locations are the ledger's".into());
            }
            _ => {}
        }
        faults
    }
}

const fn yes() -> bool {
    true
}

/// For how long a sender of this kind may repeat a delivery: SQS keeps a message for up to 14 days, eBay
/// says nothing.
fn repeats_for(kind: &str) -> u64 {
    match kind {
        "amazon" => 15 * DAY_MS,
        "ebay" => 30 * DAY_MS,
        _ => 0,
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
    let near = super::faults::nearest(kind, KINDS.into_iter());
    let hint = near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
    Some(format!("there is no kind {kind:?}{hint}"))
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
            continue;
        }
        if channel.location.len() > NAME_LEN_MAX {
            at_channel(format!("location: at most {NAME_LEN_MAX} bytes"));
        }
        if channel.rate.burst == 0 {
            at_channel("rate.burst must be at least 1".into());
        }
        let window = channel.dedup_window.map(|window| window.0);
        if window.is_some_and(|window| !(MINUTE_MS..=DEDUP_WINDOW_MAX_MS).contains(&window)) {
            at_channel("dedup_window must be between 1m and 90d".into());
        }
        if channel.rate.milli().is_none() {
            at_channel("rate.per_second must be between 0.001 and 1000000".into());
        }
        channel.check_kind().into_iter().for_each(&mut at_channel);
        let mut unresolved = false;
        for secret in &mut channel.secrets {
            if let Err(why) = secret.resolve(path, private) {
                at_channel(why);
                unresolved = true;
            }
        }
        if let Some(api) = &mut channel.api {
            api.check(&channel.kind, path, private).into_iter().for_each(&mut at_channel);
        }
        if let Some(sqs) = &mut channel.sqs {
            sqs.check(path, private).into_iter().for_each(&mut at_channel);
        }
        match channel.odoo.as_ref().map(Odoo::settings) {
            Some(Ok(settings)) => channel.meaning.odoo = settings,
            Some(Err(why)) => at_channel(why),
            None => {}
        }
        channel.meaning.generic.ignore.clone_from(&channel.ignore);
        if !unresolved {
            match super::verify::scheme(channel) {
                Ok(scheme) => channel.scheme = scheme.map(Arc::new),
                Err(why) => at_channel(why),
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
