//! A simulated channel of each kind that is pushed to, all alike to whoever opens them and checks on them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use marketplace::amazon::{self, Account};
use marketplace::history::Push;
use marketplace::sender::{self, Kind, Sender};
use marketplace::sqs::{self, Queue};
use marketplace::{Item, Options, Store, Warehouse};
use serde_json::{Value, json};
use stockraft::simulated::{
    Settings, account_config, sender_config, sender_listing, sender_target, store_config,
    store_listing,
};

use crate::support::wan::Wan;

pub(crate) enum Shop {
    Shopify(Store),
    Sender(Sender),
    Amazon(Account, Queue),
}

/// Units owed to a customer, and units gone.
pub(crate) type Units = (i64, i64);

impl Shop {
    pub(crate) async fn shopify(name: &str, skus: &[String], seed: u64, of: &Warehouse) -> Self {
        let item = |(n, sku): (u64, &String)| Item {
            sku: sku.clone(),
            variant_id: 40_000_000_000_000 + n,
            inventory_item_id: 9_007_199_254_741_000 + n,
            available: 0,
        };
        let options = Options {
            listen: (Wan::address(0), 0).into(),
            secret: format!("hush-this-is-the-secret-of-{name}"),
            location_id: 24_826_418 + seed,
            items: (0..).zip(skus).map(item).collect(),
            seed,
            ..Options::lively(name)
        };
        Self::Shopify(Store::start(options, of.clone()).await.unwrap())
    }

    pub(crate) async fn sender(kind: Kind, skus: &[String], seed: u64, of: &Warehouse) -> Self {
        let item = |(n, sku): (u64, &String)| sender::Item {
            sku: sku.clone(),
            listing: 900 + n,
            units: 0,
        };
        let options = sender::Options {
            listen: (Wan::address(0), 0).into(),
            items: (0..).zip(skus).map(item).collect(),
            warehouse: Some(of.clone()),
            seed,
            ..sender::Options::lively(format!("{kind:?}").to_lowercase(), kind)
        };
        Self::Sender(Sender::start(options).await.unwrap())
    }

    pub(crate) async fn amazon(skus: &[String], seed: u64, of: &Warehouse) -> Self {
        let listen = (Wan::address(0), 0).into();
        let faults =
            sqs::Faults { twice: 0.05, shuffle: 3, server_error: 0.01, ..sqs::Faults::default() };
        let queue = sqs::Options { listen, seed, faults, ..sqs::Options::new("orders") };
        let queue = Queue::start(queue).await.unwrap();
        let options = amazon::Options {
            listen,
            items: skus.iter().map(|sku| amazon::Item { sku: sku.clone(), units: 0 }).collect(),
            warehouse: Some(of.clone()),
            seed,
            ..amazon::Options::lively("A0SELLER")
        };
        let account = Account::start(options, queue.clone()).await.unwrap();
        Self::Amazon(account, queue)
    }

    /// Its channel.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Shopify(store) => &store.options().name,
            Self::Sender(sender) => &sender.options().name,
            Self::Amazon(..) => "amazon",
        }
    }

    /// Where it listens.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        match self {
            Self::Shopify(store) => vec![store.address()],
            Self::Sender(sender) => vec![sender.address()],
            Self::Amazon(account, queue) => vec![account.address(), queue.address()],
        }
    }

    /// Its channel in the config of a node that takes webhooks below a URL, and finds it at ports of its own
    /// loopback.
    pub(crate) fn config(&self, webhooks: &str, ports: &[u16]) -> String {
        let config = match self {
            Self::Shopify(store) => store_config(store),
            Self::Sender(sender) => sender_config(sender, webhooks),
            Self::Amazon(account, queue) => account_config(self.name(), account, queue),
        };
        let places = self.addresses().into_iter().zip(ports);
        places.fold(config, |config, (address, port)| {
            config.replace(&address.to_string(), &format!("127.0.0.1:{port}"))
        })
    }

    /// Tells of orders at these URLs, the first one first.
    pub(crate) fn set_targets(&self, webhooks: &[String]) {
        let own =
            |name: &str| webhooks.iter().map(|url| format!("{url}{name}")).collect::<Vec<_>>();
        match self {
            Self::Shopify(store) => store.set_targets(&own(self.name())).unwrap(),
            Self::Sender(sender) => {
                let targets = webhooks.iter().map(|url| sender_target(sender, url));
                sender.set_targets(&targets.collect::<Vec<_>>()).unwrap();
            }
            // Whoever can takes from its queue.
            Self::Amazon(..) => {}
        }
    }

    /// What it calls a SKU.
    pub(crate) fn listing(&self, sku: &str) -> Value {
        let (id, settings): (String, Settings) = match self {
            Self::Shopify(store) => {
                let item = store.options().items.iter().find(|item| item.sku == sku).unwrap();
                store_listing(store, item)
            }
            Self::Sender(sender) => {
                let item = sender.options().items.iter().find(|item| item.sku == sku).unwrap();
                sender_listing(sender, item)
            }
            Self::Amazon(..) => (sku.into(), Vec::new()),
        };
        let settings = settings.into_iter().map(|(name, value)| (name.to_owned(), json!(value)));
        let listing: serde_json::Map<_, _> =
            settings.chain([("id".to_owned(), json!(id))]).collect();
        listing.into()
    }

    pub(crate) fn set_orders_per_second(&self, rate: f64) {
        match self {
            Self::Shopify(store) => store.set_orders_per_second(rate),
            Self::Sender(sender) => sender.set_orders_per_second(rate),
            Self::Amazon(account, _) => account.set_orders_per_second(rate),
        }
    }

    pub(crate) fn stop_selling(&self) {
        match self {
            Self::Shopify(store) => store.stop_selling(),
            Self::Sender(sender) => sender.stop_selling(),
            Self::Amazon(account, _) => account.stop_selling(),
        }
    }

    /// Waits until all that was told has arrived or been given up.
    pub(crate) async fn drained(&self) {
        match self {
            Self::Shopify(store) => store.drained().await,
            Self::Sender(sender) => sender.drained().await,
            Self::Amazon(account, queue) => {
                account.wait_until(|stats| stats.changes_due == 0).await;
                queue.drained().await;
            }
        }
    }

    /// Whether the ledger can be held against it by SKU alone: its shipments name no order line.
    pub(crate) fn is_by_sku(&self) -> bool {
        matches!(self, Self::Sender(sender) if sender.options().kind == Kind::Odoo)
    }

    /// What a ledger must hold of each of its order lines, or of each SKU.
    pub(crate) fn expected(&self) -> BTreeMap<String, Units> {
        let lines = match self {
            Self::Shopify(store) => store.expected_lines(),
            Self::Sender(sender) if self.is_by_sku() => {
                let skus = sender.expected().into_iter();
                skus.map(|(sku, totals)| (sku, totals.expected())).collect()
            }
            Self::Sender(sender) => sender.expected_lines(),
            Self::Amazon(account, _) => account.expected_lines(),
        };
        lines.into_iter().map(|(line, of)| (line, (of.open(), -of.on_hand()))).collect()
    }

    /// What it shows of each SKU.
    pub(crate) fn shown(&self) -> BTreeMap<String, i64> {
        match self {
            Self::Shopify(store) => store.shown(),
            Self::Sender(sender) => sender.shown(),
            Self::Amazon(account, _) => account.shown(),
        }
    }

    /// What it was told.
    pub(crate) fn pushes(&self) -> Vec<Push> {
        match self {
            Self::Shopify(store) => store.history().pushes,
            Self::Sender(sender) => sender.pushes(),
            Self::Amazon(account, _) => account.pushes(),
        }
    }

    /// Epochs of the owners that pushed to it, in the order in which their calls came.
    pub(crate) fn epochs(&self) -> Vec<u64> {
        let calls = match self {
            Self::Shopify(store) => store.calls(),
            Self::Sender(sender) => sender.calls(),
            Self::Amazon(account, _) => account.calls(),
        };
        calls.into_iter().filter_map(|call| call.epoch).collect()
    }

    pub(crate) fn orders(&self) -> u64 {
        match self {
            Self::Shopify(store) => store.stats().orders,
            Self::Sender(sender) => sender.stats().orders,
            Self::Amazon(account, _) => account.stats().orders,
        }
    }
}
