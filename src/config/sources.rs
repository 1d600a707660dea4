//! Where deliveries come from besides webhooks: Amazon's queues and topics, Odoo, and polls.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use super::secret::Secret;
use super::values::Millis;
use crate::channel::check_base_url;

/// Amazon's notifications through SNS over HTTPS.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sns {
    /// The topics that may deliver. Anyone can have a topic of their own, so each is named in full.
    pub topics: Vec<String>,
    /// How old a message may be. SNS itself repeats for an hour at the most.
    #[serde(default = "an_hour")]
    pub max_age: Millis,
    /// Whether signatures with SHA-1 (version 1, what a topic uses unless it is told otherwise) are taken.
    #[serde(default = "yes")]
    pub sha1: bool,
}

/// Amazon's notifications through an SQS queue.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sqs {
    /// The queue, `https://sqs.{region}.amazonaws.com/{account}/{name}`.
    pub queue_url: String,
    /// The region that requests are signed for.
    pub region: String,
    /// Of a user that may receive, delete and change visibility there, and nothing else.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: Secret,
    /// The token of temporary credentials.
    pub session_token: Option<Secret>,
    /// Receives side by side, each of ten messages at the most.
    #[serde(default = "one")]
    pub receivers: usize,
    /// How long a message that was received is hidden from others; extended while it takes longer.
    #[serde(default = "half_a_minute")]
    pub visibility: Millis,
}

/// Odoo's locations.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Odoo {
    /// The ledger's location by the id of Odoo's; all others count as outside.
    pub locations: BTreeMap<String, String>,
    /// Ids of the locations that stand for customers: what goes there was sold, what comes back returned.
    #[serde(default)]
    pub customers: Vec<u64>,
}

/// How often a channel's API is asked what changed, so that a lost webhook is made good.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Poll {
    /// Between two polls; 0 polls never. Orders that only the API can tell of are fetched all the same.
    #[serde(deserialize_with = "Millis::or_zero")]
    pub every: Millis,
    /// How far behind the newest change a poll begins again: clocks differ, long transactions end late, and
    /// some channels show a change only minutes after the time that it bears.
    #[serde(deserialize_with = "Millis::or_zero")]
    pub overlap: Millis,
}

impl Default for Poll {
    fn default() -> Self {
        Self { every: Millis(5 * 60_000), overlap: Millis(10 * 60_000) }
    }
}

fn an_hour() -> Millis {
    Millis(3_600_000)
}

fn half_a_minute() -> Millis {
    Millis(30_000)
}

const fn one() -> usize {
    1
}

const fn yes() -> bool {
    true
}

impl Sqs {
    pub(super) fn check(&mut self, path: &Path, private: bool) -> Vec<String> {
        let mut faults = Vec::new();
        if let Err(why) = check_base_url(&self.queue_url) {
            faults.push(format!("sqs.queue_url: {why}"));
        }
        for (key, secret) in [
            ("secret_access_key", Some(&mut self.secret_access_key)),
            ("session_token", self.session_token.as_mut()),
        ] {
            if let Some(Err(why)) = secret.map(|secret| secret.resolve(path, private)) {
                faults.push(format!("sqs.{key}: {why}"));
            }
        }
        if !(10_000..=43_200_000).contains(&self.visibility.0) {
            faults.push("sqs.visibility: between 10s and 12h".into());
        }
        if !(1..=16).contains(&self.receivers) {
            faults.push("sqs.receivers: between 1 and 16".into());
        }
        faults
    }
}

impl Odoo {
    /// What the parsers need to know.
    pub fn settings(&self) -> Result<channels::odoo::Settings, String> {
        let id = |text: &String| {
            text.parse::<u64>().map_err(|_| format!("odoo.locations: {text:?} is no id"))
        };
        let locations: Result<BTreeMap<u64, String>, String> =
            self.locations.iter().map(|(key, name)| Ok((id(key)?, name.clone()))).collect();
        let customers: BTreeSet<u64> = self.customers.iter().copied().collect();
        Ok(channels::odoo::Settings { locations: locations?, customers })
    }
}
