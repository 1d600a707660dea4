//! Promise: what lies in a channel's queue is applied once and deleted there only after it is durable here,
//! though the node that takes it is killed.

use crate::support::{Cluster, until_true};
use marketplace::amazon::{Account, Item, Options as AccountOptions};
use marketplace::sqs::{Faults, Options as QueueOptions, Queue};
use serde_json::json;

const SKUS: [&str; 3] = ["MUG", "TEE-M", "CUP"];

// A message that is deleted before it is on the disk is lost with the node; one that the queue gives twice,
// or that was kept and not deleted when the node died, would count twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_consumer_loses_and_doubles_nothing() {
    let faults = Faults { twice: 0.2, entry_failed: 0.05, ..Faults::default() };
    let queue = Queue::start(QueueOptions { faults, ..QueueOptions::new("orders") }).await.unwrap();
    let items = SKUS.map(|sku| Item { sku: sku.into(), units: 10_000 }).to_vec();
    let options = AccountOptions { items, ..AccountOptions::new("A0SELLER") };
    let account = Account::start(options, queue.clone()).await.unwrap();
    let credentials = &queue.options().credentials;
    let mut cluster = Cluster::start(1, |node| {
        node.more = format!(
            "\n[[channel]]\nname = \"amazon\"\nkind = \"amazon\"\nsqs = {{ queue_url = \"{}\", \
             region = \"{}\", access_key_id = \"{}\", secret_access_key = \"{}\", \
             visibility = \"10s\" }}\n",
            queue.url(),
            queue.options().region,
            credentials.access_key_id,
            credentials.secret_access_key,
        );
    })
    .await;
    for round in 0..60_usize {
        let order = account.sell(&[(SKUS[round % 3], 2)]).unwrap();
        account.confirm(order).unwrap();
        match round % 4 {
            0 => account.cancel(order).unwrap(),
            1 => account.ship(order, 2).unwrap(),
            _ => {}
        }
        if round == 30 {
            queue.wait_until(|counts| counts.deleted > 5).await;
            cluster.nodes[0].kill();
            cluster.nodes[0].start().await;
        }
    }
    account.stop_selling();
    account.wait_until(|stats| stats.changes_due == 0).await;
    queue.drained().await;
    let expected = account.expected();
    cluster.settle().await;
    let node = &cluster.nodes[0];
    for sku in SKUS {
        let wanted = &expected[sku];
        let (committed, on_hand) = (wanted.committed(), -wanted.fulfilled);
        until_true("the ledger says what the account sold", async || {
            let stock = node.try_get(&format!("/v1/stock/{sku}")).await;
            stock.is_some_and(|stock| {
                (&stock["committed"], &stock["on_hand"]) == (&json!(committed), &json!(on_hand))
            })
        })
        .await;
    }
    account.shutdown().await;
    queue.shutdown().await;
}
