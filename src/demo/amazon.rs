//! The demo's Amazon account: it notifies a queue, from which every node takes what it can, and shows what it is
//! told.

use marketplace::amazon::{Account, Faults, Item, Options};
use marketplace::{Warehouse, sqs};

use super::nodes::POLL;
use super::{SKUS, sku};
use crate::simulated::account_config;

/// Its channel.
pub(super) const NAME: &str = "amazon";

/// An account and its queue.
pub(super) struct Amazon {
    pub(super) account: Account,
    pub(super) queue: sqs::Queue,
}

impl Amazon {
    pub(super) async fn open(seed: u64, warehouse: &Warehouse) -> Result<Self, String> {
        let failed = |error: marketplace::Error| format!("a simulated {NAME}: {error}");
        let faults = sqs::Faults {
            twice: 0.05,
            shuffle: 3,
            entry_failed: 0.02,
            server_error: 0.01,
            answer_lost: 0.01,
            ..sqs::Faults::default()
        };
        let queue = sqs::Options { seed, faults, ..sqs::Options::new("orders") };
        let queue = sqs::Queue::start(queue).await.map_err(failed)?;
        let options = Options {
            items: (0..SKUS).map(|n| Item { sku: sku(n), units: 0 }).collect(),
            warehouse: Some(warehouse.clone()),
            seed,
            faults: Faults {
                dropped: 0.02,
                item_level: 0.2,
                amazon_fulfilled: 0.05,
                relisted: 0.5,
                cancel_request: 0.05,
                partial: 0.3,
                feed: 0.05,
                ..Faults::lively()
            },
            ..Options::lively("A0SELLER")
        };
        let account = Account::start(options, queue.clone()).await.map_err(failed)?;
        Ok(Self { account, queue })
    }

    /// Its channel of a node's config, but for the table's head.
    pub(super) fn config(&self) -> String {
        let rate = "rate = { per_second = 20, burst = 40 }";
        format!("{}{POLL}{rate}\n", account_config(NAME, &self.account, &self.queue))
    }

    /// Waits until no order changes any more and everything has been taken from the queue.
    pub(super) async fn drained(&self) {
        self.account.wait_until(|stats| stats.changes_due == 0).await;
        self.queue.drained().await;
    }

    pub(super) async fn close(&self) {
        self.account.shutdown().await;
        self.queue.shutdown().await;
    }
}
