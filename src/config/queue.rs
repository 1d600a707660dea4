//! Topics of a config file: how they behave, what is published to them, and where they are pushed to.

use std::collections::BTreeSet;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use state::queue::is_name;
use state::queue::settings::{self, Settings};

use super::secret::Secret;
use super::values::{Bytes, Millis};
use crate::channel::check_base_url;

/// What the built-in routes do.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Queue {
    /// Whether deliveries that no route matches are published by what they mean.
    pub routes: Builtin,
}

/// Whether the built-in routes are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Builtin {
    /// They are.
    #[default]
    Default,
    /// Only the routes of the file.
    None,
}

/// Deliveries of a kind go to a topic; the first route that matches counts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Which channels, by name: `*` stands for any characters, `?` for one.
    #[serde(default = "all")]
    pub channel: String,
    /// Which deliveries, by the sender's name for their kind.
    pub topic: String,
    /// The topic that they are published to.
    pub to: String,
    /// Whether a message carries the body as it was received.
    #[serde(default)]
    pub payload: bool,
}

fn all() -> String {
    "*".into()
}

/// A topic that the leader makes where there is none of its name. What is not said is as in
/// [`Settings::default`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// See [`Settings::attempts`]; so are the others.
    pub attempts: Option<u32>,
    /// See [`Settings::backoff_ms`].
    #[serde(default, deserialize_with = "maybe_zero")]
    pub backoff: Option<Millis>,
    /// See [`Settings::backoff_max_ms`].
    pub backoff_max: Option<Millis>,
    /// See [`Settings::retention_ms`].
    pub retention: Option<Millis>,
    /// See [`Settings::replay_ms`].
    #[serde(default, deserialize_with = "maybe_zero")]
    pub replay: Option<Millis>,
    /// See [`Settings::dedup_ms`].
    #[serde(default, deserialize_with = "maybe_zero")]
    pub dedup: Option<Millis>,
    /// See [`Settings::messages_max`].
    pub messages_max: Option<u64>,
    /// See [`Settings::bytes_max`].
    pub bytes_max: Option<Bytes>,
    /// See [`Settings::drop_oldest`].
    pub drop_oldest: Option<bool>,
    /// See [`Settings::concurrency`].
    pub concurrency: Option<u32>,
    /// See [`Settings::key_concurrency`].
    pub key_concurrency: Option<u32>,
    /// See [`Settings::rate`].
    pub rate: Option<Rate>,
    /// See [`Settings::key_rate`].
    pub key_rate: Option<Rate>,
}

fn maybe_zero<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Millis>, D::Error> {
    Millis::or_zero(from).map(Some)
}

/// Leases in a time.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In how long.
    pub per: Millis,
}

impl From<Rate> for settings::Rate {
    fn from(rate: Rate) -> Self {
        Self { count: rate.count, per_ms: rate.per.0 }
    }
}

impl Topic {
    /// As the state knows them.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let usual = Settings::default();
        let ms = |said: Option<Millis>, usual| said.map_or(usual, |said| said.0);
        let retention_ms = ms(self.retention, usual.retention_ms);
        Settings {
            attempts: self.attempts.unwrap_or(usual.attempts),
            backoff_ms: ms(self.backoff, usual.backoff_ms),
            backoff_max_ms: ms(self.backoff_max, usual.backoff_max_ms),
            retention_ms,
            // Whoever keeps messages for an hour does not want to be told that a day of replay is too long.
            replay_ms: ms(self.replay, usual.replay_ms.min(retention_ms)),
            dedup_ms: ms(self.dedup, usual.dedup_ms),
            messages_max: self.messages_max.unwrap_or(usual.messages_max),
            bytes_max: self.bytes_max.map_or(usual.bytes_max, |bytes| bytes.0),
            drop_oldest: self.drop_oldest.unwrap_or(usual.drop_oldest),
            concurrency: self.concurrency.unwrap_or(usual.concurrency),
            key_concurrency: self.key_concurrency.unwrap_or(usual.key_concurrency),
            rate: self.rate.map(Into::into),
            key_rate: self.key_rate.map(Into::into),
        }
    }
}

/// Where a group's messages are pushed to, by HTTP.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Its name, for logs and metrics.
    pub name: String,
    /// Where messages are posted: https, or http on loopback.
    pub url: String,
    /// The topic whose messages they are.
    pub topic: String,
    /// The group that goes through it: the endpoint's name if none is said.
    #[serde(default)]
    pub group: String,
    /// What signs them: `whsec_` and base64.
    pub secret: Secret,
    /// How long an answer may take.
    #[serde(default = "ten_seconds")]
    pub timeout: Millis,
    /// Messages on their way at once. With one, they come in the order of the group.
    #[serde(default = "one")]
    pub concurrency: u32,
    /// The node that pushes; without one, the voter with the lowest id.
    pub home: Option<u64>,
}

const fn ten_seconds() -> Millis {
    Millis(10_000)
}

const fn one() -> u32 {
    1
}

/// Messages of one endpoint that may be on their way at once.
const CONCURRENCY_MAX: u32 = 100;

/// Faults by the name of the entry that has them, as `("topic", "orders", why)`.
type At<'a> = dyn FnMut(&str, &str, String) + 'a;

/// Checks all that a file says of topics.
pub(super) fn check(
    config: &mut super::Config,
    path: &Path,
    private: bool,
    fault: &mut impl FnMut(&str, String),
) {
    let mut at = |what: &str, name: &str, why: String| {
        fault(&format!("\"{name}\""), format!("{what} {name:?}: {why}"));
    };
    for route in config.routes.iter().filter(|route| !is_name(&route.to)) {
        at("route to", &route.to, NAME_RULE.into());
    }
    let mut names = BTreeSet::new();
    for topic in &config.topics {
        once(&mut at, "topic", &topic.name, &mut names);
        if let Err(why) = topic.settings().check() {
            at("topic", &topic.name, why);
        }
    }
    names.clear();
    for endpoint in &mut config.endpoints {
        let name = endpoint.name.clone();
        once(&mut at, "endpoint", &name, &mut names);
        endpoint.check(path, private).into_iter().for_each(|why| at("endpoint", &name, why));
    }
}

const NAME_RULE: &str = "a name has 1 to 128 letters, digits, '.', '_', '-' and ':'";

fn once(at: &mut At<'_>, what: &str, name: &str, names: &mut BTreeSet<String>) {
    if !is_name(name) {
        at(what, name, NAME_RULE.into());
    }
    if !names.insert(name.into()) {
        at(what, name, "there are two of this name".into());
    }
}

impl Endpoint {
    /// The key that its secret stands for: the specification of Standard Webhooks asks for 24 to 64 bytes.
    pub(crate) fn key(&self) -> Option<Vec<u8>> {
        let key = STANDARD.decode(self.secret.expose().strip_prefix("whsec_")?).ok()?;
        (24..=64).contains(&key.len()).then_some(key)
    }

    fn check(&mut self, path: &Path, private: bool) -> Vec<String> {
        let mut faults = Vec::new();
        if self.group.is_empty() {
            self.group.clone_from(&self.name);
        }
        for (key, name) in [("topic", &self.topic), ("group", &self.group)] {
            if !is_name(name) {
                faults.push(format!("{key}: {NAME_RULE}"));
            }
        }
        if let Err(why) = check_base_url(&self.url) {
            faults.push(format!("url: {why}"));
        }
        match self.secret.resolve(path, private) {
            Err(why) => faults.push(format!("secret: {why}")),
            Ok(()) if self.key().is_none() => {
                faults.push("secret: whsec_ and the base64 of 24 to 64 bytes".into());
            }
            Ok(()) => {}
        }
        if !(100..=300_000).contains(&self.timeout.0) {
            faults.push("timeout: between 100ms and 5m".into());
        }
        if !(1..=CONCURRENCY_MAX).contains(&self.concurrency) {
            faults.push(format!("concurrency: between 1 and {CONCURRENCY_MAX}"));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Config;

    fn said(more: &str) -> Vec<String> {
        let node = "[node]\nid = 1\nregion = \"eu\"\ndata_dir = \"data\"\n";
        let faults = Config::parse(&format!("{node}{more}"), Path::new("F"));
        faults
            .err()
            .map_or_else(Vec::new, |faults| faults.to_string().lines().map(Into::into).collect())
    }

    // What the state refuses at a start, at three in the morning, must be refused by `check` on a desk; and
    // on which line.
    #[test]
    fn topics_are_checked_as_the_state_does() {
        let topic = "[[topic]]\nname = \"orders\"\n";
        assert_eq!(said(&format!("{topic}retention = \"1h\"\nreplay = \"0s\"\n")), [""; 0]);
        assert_eq!(said(&format!("{topic}retention = \"1h\"\n")), [""; 0], "replay follows");
        assert_eq!(
            said(&format!("{topic}attempts = 0\n")),
            ["F:6: topic \"orders\": attempts: 0 is not within 1 to 1000"]
        );
        let two = format!("{topic}{topic}rate = {{ count = 0, per = \"1s\" }}\n");
        assert_eq!(said(&two).len(), 2, "{:?}", said(&two));
        assert!(
            said("[[topic]]\nname = \"a b\"\n").concat().contains("F:6: topic \"a b\": a name")
        );
    }

    // A secret that nobody can verify with, or a URL over which messages travel in the clear.
    #[test]
    fn an_endpoint_that_cannot_be_pushed_to_is_a_fault() {
        let dir = tempfile::tempdir().unwrap();
        let endpoint = |url: &str, secret: &str| {
            std::fs::write(dir.path().join("s"), secret).unwrap();
            let file = dir.path().join("s");
            said(&format!(
                "[[endpoint]]\nname = \"erp\"\nurl = \"{url}\"\ntopic = \"orders\"\nsecret = \"file:{}\"\n",
                file.display()
            ))
            .concat()
        };
        let good = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
        assert_eq!(endpoint("https://a.example/hook", good), "");
        assert_eq!(endpoint("http://127.0.0.1:9/hook", good), "");
        assert!(endpoint("http://a.example/hook", good).contains("F:6: endpoint \"erp\": url: "));
        for bad in
            ["MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "whsec_MDEyMzQ1", "whsec_???????"]
        {
            let said = endpoint("https://a.example", bad);
            assert!(said.contains("secret: whsec_ and"), "{said}");
            assert!(!said.contains(bad), "{said}");
        }
    }

    // A route to a topic that cannot be would lose every message of it, without a word.
    #[test]
    fn a_route_goes_to_a_topic_that_can_be() {
        let route = |to: &str| said(&format!("[[route]]\ntopic = \"orders/*\"\nto = \"{to}\"\n"));
        assert_eq!(route("orders"), [""; 0]);
        assert!(route("orders/new").concat().contains("F:7: route to \"orders/new\": a name"));
    }
}
