//! The demo's channels beside the Shopify stores. Some are pushed to, and sell what they are told to show; the
//! others sell what was set aside for them. Each tells of it as the real one does.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use marketplace::Warehouse;
use marketplace::history::ExpectedByLine;
use marketplace::sender::{Item, Kind, Options, Sender};
use serde_json::{Value, json};

use super::amazon::{self, Amazon};
use super::nodes::{Nodes, POLL};
use super::{SKUS, sku};
use crate::channel::target::is_pushed;
use crate::simulated::{sender_config, sender_listing, sender_target};

/// How long a sender may take to find a node for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(20);
/// Units of each SKU that a channel may sell that is not pushed to.
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
    senders: Vec<Sender>,
    amazon: Option<Amazon>,
}

/// What one of them has counted.
pub(super) struct Tally {
    pub(super) name: String,
    /// The node that pushes to it, by its place; none where nothing is pushed.
    pub(super) home: Option<usize>,
    pub(super) orders: u64,
    /// Webhooks or notifications sent, each once.
    pub(super) sent: u64,
    /// Of these, sent twice.
    pub(super) duplicates: u64,
    /// Of these, accepted by a node.
    pub(super) acknowledged: u64,
    pub(super) given_up: u64,
    /// Never sent.
    pub(super) dropped: u64,
}

impl Others {
    /// Opens one seller a kind.
    pub(super) async fn open(
        kinds: &[String],
        seed: u64,
        warehouse: &Warehouse,
    ) -> Result<Self, String> {
        let mut others = Self::default();
        for name in kinds.iter().filter(|name| *name != "shopify") {
            if name == amazon::NAME {
                others.amazon = Some(Amazon::open(seed, warehouse).await?);
                continue;
            }
            let (_, kind) = *KINDS.iter().find(|(known, _)| known == name).ok_or_else(|| {
                let known = KINDS.iter().map(|(name, _)| *name).chain([amazon::NAME]);
                let known: Vec<&str> = known.collect();
                format!("--channels: there is no {name:?}; there are shopify, {}", known.join(", "))
            })?;
            let units = if is_pushed(name) { 0 } else { UNITS_EACH };
            let items = (0..SKUS).map(|n| Item { sku: sku(n), listing: 900 + n, units });
            let options = Options {
                items: items.collect(),
                warehouse: is_pushed(name).then(|| warehouse.clone()),
                seed,
                ..Options::lively(name.clone(), kind)
            };
            let sender = Sender::start(options).await;
            others.senders.push(sender.map_err(|error| format!("a simulated {name}: {error}"))?);
        }
        Ok(others)
    }

    /// The channels of a node's config, as the node at this URL is known to their senders.
    pub(super) fn config(&self, webhooks: &str, nodes: usize) -> String {
        let mut text = String::new();
        for (home, sender) in (0..).zip(&self.senders) {
            // Writing to a String cannot fail.
            let _ = write!(text, "\n[[channel]]\n{}{POLL}", sender_config(sender, webhooks));
            if is_pushed(&sender.options().name) {
                let rate = "rate = { per_second = 20, burst = 40 }";
                let _ = writeln!(text, "home = {}\n{rate}", home % nodes.max(1) + 1);
            }
        }
        if let Some(amazon) = &self.amazon {
            let _ = write!(text, "\n[[channel]]\n{}", amazon.config());
        }
        text
    }

    /// Subscribes every sender to the nodes at these URLs, the first one first.
    pub(super) fn subscribe(&self, nodes: &Nodes) -> Result<(), String> {
        for (n, sender) in self.senders.iter().enumerate() {
            let count = nodes.count();
            let url = |k| sender_target(sender, &nodes.webhook_url((n + k) % count, ""));
            let targets: Vec<String> = (0..count).map(url).collect();
            sender.set_targets(&targets).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.senders.len() + usize::from(self.amazon.is_some())
    }

    /// How many units of each SKU were set aside for those that are not pushed to.
    pub(super) fn units(&self) -> i64 {
        let alone = self.count() - self.shown().count();
        UNITS_EACH * i64::try_from(alone).unwrap_or(0)
    }

    /// How many quantities each was told that is pushed to.
    pub(super) fn told(&self) -> impl Iterator<Item = (String, u64)> {
        let pushed = self.senders.iter().filter(|sender| is_pushed(&sender.options().name));
        let amazon = self.amazon.iter().map(|of| (amazon::NAME.into(), of.account.stats().rows));
        pushed.map(|sender| (sender.options().name.clone(), sender.stats().rows)).chain(amazon)
    }

    /// Those that are pushed to, and what each shows of every SKU.
    pub(super) fn shown(&self) -> impl Iterator<Item = (String, BTreeMap<String, i64>)> {
        let pushed = self.senders.iter().filter(|sender| is_pushed(&sender.options().name));
        let amazon = self.amazon.iter().map(|of| (amazon::NAME.into(), of.account.shown()));
        pushed.map(|sender| (sender.options().name.clone(), sender.shown())).chain(amazon)
    }

    /// What each has counted.
    pub(super) fn tallies(&self) -> impl Iterator<Item = Tally> {
        let senders = (0..).zip(&self.senders).map(|(home, sender)| {
            let stats = sender.stats();
            Tally {
                name: sender.options().name.clone(),
                home: is_pushed(&sender.options().name).then_some(home),
                orders: stats.orders,
                sent: stats.webhooks,
                duplicates: stats.duplicates,
                acknowledged: stats.acknowledged,
                given_up: stats.given_up,
                dropped: stats.dropped,
            }
        });
        let amazon = self.amazon.iter().map(|amazon| {
            let (stats, deleted) = (amazon.account.stats(), amazon.queue.counts().deleted);
            Tally {
                name: amazon::NAME.into(),
                home: None,
                orders: stats.orders,
                sent: stats.notifications - stats.dropped,
                duplicates: stats.duplicates,
                acknowledged: deleted.saturating_sub(stats.duplicates),
                given_up: 0,
                dropped: stats.dropped,
            }
        });
        senders.chain(amazon)
    }

    /// How each names the SKU of this number.
    pub(super) fn listings(&self, n: u64) -> impl Iterator<Item = (String, Value)> {
        let senders = self.senders.iter().filter_map(move |sender| {
            let options = sender.options();
            let item = options.items.iter().find(|item| item.sku == sku(n))?;
            let (id, settings) = sender_listing(sender, item);
            let settings =
                settings.into_iter().map(|(name, value)| (name.to_owned(), json!(value)));
            let listing: serde_json::Map<String, Value> =
                settings.chain([("id".to_owned(), json!(id))]).collect();
            Some((options.name.clone(), listing.into()))
        });
        let amazon =
            self.amazon.iter().map(move |_| (amazon::NAME.into(), json!({ "id": sku(n) })));
        senders.chain(amazon)
    }

    /// Lets customers in, once each has found a node that answers its handshake.
    pub(super) async fn sell(&self, rate: f64) {
        for sender in &self.senders {
            let _ = tokio::time::timeout(HANDSHAKE, sender.subscribed()).await;
            sender.set_orders_per_second(rate);
        }
        if let Some(amazon) = &self.amazon {
            amazon.account.set_orders_per_second(rate);
        }
    }

    /// Lets nobody in any more, and waits until everything has been told.
    pub(super) async fn rest(&self) {
        for sender in &self.senders {
            sender.stop_selling();
        }
        if let Some(amazon) = &self.amazon {
            amazon.account.stop_selling();
        }
        for sender in &self.senders {
            sender.drained().await;
        }
        if let Some(amazon) = &self.amazon {
            amazon.drained().await;
        }
    }

    /// Closes them.
    pub(super) async fn close(&self) {
        for sender in &self.senders {
            sender.shutdown().await;
        }
        if let Some(amazon) = &self.amazon {
            amazon.close().await;
        }
    }

    /// What a ledger must hold, by channel, of each order line; of each SKU where shipments are movements
    /// of their own that name no line.
    pub(super) fn expected(&self) -> impl Iterator<Item = (String, ExpectedByLine)> {
        let senders = self.senders.iter().map(|sender| {
            let name = sender.options().name.clone();
            let lines = if self.is_by_sku(&name) {
                let skus = sender.expected().into_iter();
                skus.map(|(sku, totals)| (sku, totals.expected())).collect()
            } else {
                sender.expected_lines()
            };
            (name, lines)
        });
        let amazon = self.amazon.iter();
        let amazon = amazon.map(|of| (amazon::NAME.into(), of.account.expected_lines()));
        senders.chain(amazon)
    }

    /// Whether this channel's expectations are by SKU.
    pub(super) fn is_by_sku(&self, channel: &str) -> bool {
        let kind = |sender: &&Sender| sender.options().name == channel;
        self.senders.iter().find(kind).is_some_and(|sender| sender.options().kind == Kind::Odoo)
    }
}
