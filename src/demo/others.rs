//! The demo's channels that are not pushed to yet: each sells what was set aside for it, and tells of it as
//! the real one does.
#![expect(clippy::indexing_slicing, reason = "JSON indexed by name is null where nothing is")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use hyper::Method;
use marketplace::sender::{Faults, Item, Kind, Options, Sender, Totals};

use serde_json::{Value, json};

use super::nodes::Nodes;
use super::{SKUS, TIME_SCALE, sku};
use crate::client::Client;

/// How long a sender may take to find a node for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(20);
/// Units of each SKU that one such channel may sell.
pub(super) const UNITS_EACH: i64 = 40;

/// The kinds that `--channels` may name beside `shopify`.
const KINDS: [(&str, Kind); 5] = [
    ("woocommerce", Kind::WooCommerce),
    ("ebay", Kind::Ebay),
    ("walmart", Kind::Walmart),
    ("odoo", Kind::Odoo),
    ("generic", Kind::Generic),
];

/// All of them.
#[derive(Default)]
pub(super) struct Others {
    /// The senders, by the name of their kind, which is their channel's name as well.
    pub(super) all: Vec<Sender>,
}

impl Others {
    /// Opens one sender a kind.
    pub(super) async fn open(kinds: &[String], seed: u64) -> Result<Self, String> {
        let mut others = Self::default();
        for name in kinds.iter().filter(|name| *name != "shopify") {
            let (_, kind) = *KINDS.iter().find(|(known, _)| known == name).ok_or_else(|| {
                let known: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
                format!("--channels: there is no {name:?}; there are shopify, {}", known.join(", "))
            })?;
            let items =
                (0..SKUS).map(|n| Item { sku: sku(n), listing: 900 + n, units: UNITS_EACH });
            let options = Options {
                items: items.collect(),
                seed,
                time_scale: TIME_SCALE,
                faults: Faults {
                    duplicate: 0.1,
                    delay: 0.1,
                    delay_max: Duration::from_secs(2),
                    cancel: 0.1,
                    ship: 0.2,
                    answer_lost: 0.02,
                    // Some channels tell the time of a change in whole seconds.
                    change_after_min: Duration::from_millis(2_100),
                    change_after_max: Duration::from_secs(5),
                    ..Faults::default()
                },
                ..Options::new(name.clone(), kind)
            };
            let sender = Sender::start(options).await;
            others.all.push(sender.map_err(|error| format!("a simulated {name}: {error}"))?);
        }
        Ok(others)
    }

    /// The channels of a node's config, as the node at this URL is known to their senders.
    pub(super) fn config(&self, webhooks: &str) -> String {
        let mut text = String::new();
        for sender in &self.all {
            // Writing to a String cannot fail.
            let _ = write!(text, "\n[[channel]]\n{}", channel(sender, webhooks));
        }
        text
    }

    /// Subscribes every sender to the nodes at these URLs, the first one first.
    pub(super) fn subscribe(&self, nodes: &Nodes) -> Result<(), String> {
        for (n, sender) in self.all.iter().enumerate() {
            let count = nodes.count();
            let options = sender.options();
            let secret = match options.kind {
                Kind::Odoo => format!("/{}", options.secret),
                _ => String::new(),
            };
            let url = |k| format!("{}{secret}", nodes.webhook_url((n + k) % count, &options.name));
            let targets: Vec<String> = (0..count).map(url).collect();
            sender.set_targets(&targets).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// How many units of each SKU were set aside for them.
    pub(super) fn units(&self) -> i64 {
        UNITS_EACH * i64::try_from(self.all.len()).unwrap_or(0)
    }

    /// How each names the SKU of this number.
    pub(super) fn listings(&self, n: u64) -> impl Iterator<Item = (String, Value)> {
        self.all.iter().map(move |sender| {
            let options = sender.options();
            let own = matches!(options.kind, Kind::WooCommerce | Kind::Odoo);
            let id = if own { (900 + n).to_string() } else { sku(n) };
            (options.name.clone(), json!({ "id": id }))
        })
    }

    /// Lets customers in, once each has found a node that answers its handshake.
    pub(super) async fn sell(&self, rate: f64) {
        for sender in &self.all {
            let _ = tokio::time::timeout(HANDSHAKE, sender.subscribed()).await;
            sender.set_orders_per_second(rate);
        }
    }

    /// Lets nobody in any more, and waits until everything has been told.
    pub(super) async fn rest(&self) {
        for sender in &self.all {
            sender.stop_selling();
        }
        for sender in &self.all {
            sender.drained().await;
        }
    }

    /// Closes them.
    pub(super) async fn close(&self) {
        for sender in &self.all {
            sender.shutdown().await;
        }
    }

    /// What every ledger must say of them, compared with what one says: differences, in words.
    pub(super) async fn check(&self, api: &Client) -> Result<Vec<String>, String> {
        let mut booked: BTreeMap<(String, String), (i64, i64)> = BTreeMap::new();
        for sku in (0..SKUS).map(sku) {
            let mut path = format!("/v1/stock/{sku}/movements?limit=1000");
            loop {
                let page = api.call(Method::GET, &path, None).await.map_err(|e| e.to_string())?;
                for line in page["items"].as_array().into_iter().flatten() {
                    let Some(channel) = line["channel"].as_str() else { continue };
                    let quantity = line["quantity"].as_i64().unwrap_or(0);
                    let (committed, on_hand) = effect(line["kind"].as_str(), quantity);
                    let sum = booked.entry((channel.to_string(), sku.clone())).or_default();
                    *sum = (sum.0 + committed, sum.1 + on_hand);
                }
                let Some(next) = page["next"].as_str() else { break };
                path = format!("/v1/stock/{sku}/movements?limit=1000&cursor={next}");
            }
        }
        let mut differences = Vec::new();
        for sender in &self.all {
            let name = &sender.options().name;
            for (sku, totals) in sender.expected() {
                let wanted = (totals.open(), on_hand(&totals));
                let found = booked.remove(&(name.clone(), sku.clone())).unwrap_or_default();
                if found != wanted {
                    differences.push(format!(
                        "{name} {sku}: {} committed and {} on hand, {} and {} expected",
                        found.0, found.1, wanted.0, wanted.1
                    ));
                }
            }
        }
        Ok(differences)
    }
}

fn on_hand(totals: &Totals) -> i64 {
    totals.returned + totals.received + totals.adjusted - totals.fulfilled
}

/// What a movement does to what is committed and what is on hand.
fn effect(kind: Option<&str>, quantity: i64) -> (i64, i64) {
    match kind {
        Some("sale") => (quantity, 0),
        Some("cancellation") => (-quantity, 0),
        Some("fulfilment") => (-quantity, -quantity),
        Some("return" | "receipt" | "adjustment") => (0, quantity),
        _ => (0, 0),
    }
}

/// One channel of a config.
fn channel(sender: &Sender, webhooks: &str) -> String {
    let options = sender.options();
    let (name, secret, url) = (&options.name, &options.secret, sender.url());
    let (id, key) = (&options.api_id, &options.api_secret);
    let common = |secret: &str| format!("name = \"{name}\"\nsecrets = [\"{secret}\"]\n");
    let poll = "poll = { every = \"5s\", overlap = \"10m\" }\n";
    match options.kind {
        Kind::WooCommerce => format!(
            "{}kind = \"woocommerce\"\n{poll}api = {{ base_url = \"{url}\", consumer_key = \"{id}\", \
             consumer_secret = \"{key}\" }}\n",
            common(secret)
        ),
        Kind::Ebay => format!(
            "{}kind = \"ebay\"\n{poll}endpoint = \"{webhooks}{name}\"\napi = {{ base_url = \"{url}\", \
             client_id = \"{id}\", client_secret = \"{key}\", refresh_token = \"{}\" }}\n",
            common(&options.verification_token),
            options.refresh_token
        ),
        Kind::Walmart => format!(
            "{}kind = \"walmart\"\n{poll}verify = {{ scheme = \"basic\", user = \"wm\" }}\n\
             api = {{ base_url = \"{url}\", client_id = \"{id}\", client_secret = \"{key}\" }}\n",
            common(secret)
        ),
        Kind::Odoo => format!(
            "{}kind = \"odoo\"\n{poll}odoo = {{ locations = {{ 8 = \"main\" }}, customers = [5] }}\n\
             api = {{ base_url = \"{url}\", token = \"{key}\" }}\n",
            common(secret)
        ),
        Kind::Generic => format!("{}kind = \"generic\"\n", common(secret)),
    }
}
