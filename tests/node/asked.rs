//! Promise: what a channel tells without saying how, or does not tell at all, is asked for, and the ledger
//! follows.

use crate::support::{Cluster, Node, until_true};
use marketplace::shopify::sign::Topic;
use marketplace::{Costs, Faults, Item, Options, Restock, Store, Warehouse};
use serde_json::json;

const SKUS: [&str; 2] = ["MUG", "TEE"];

/// A store without customers, which knows no node yet.
async fn open(options: Options) -> Store {
    let items = (1..).zip(SKUS).map(|(n, sku)| Item {
        sku: sku.into(),
        variant_id: 9_107_199_254_740_000 + n,
        inventory_item_id: 9_207_199_254_740_000 + n,
        available: 1_000,
    });
    let warehouse = Warehouse::open(SKUS.map(|sku| (sku, 1_000)));
    Store::start(Options { items: items.collect(), ..options }, warehouse).await.unwrap()
}

/// A node that may ask the store, and polls it this often, and to which the store sends.
async fn listener(store: &Store, every: &str) -> Cluster {
    let Options { name, secret, access_token, api_version, .. } = store.options();
    let cluster = Cluster::start(1, |node| {
        node.more = format!(
            "\n[[channel]]\nname = \"{name}\"\nkind = \"shopify\"\nsecrets = [\"{secret}\"]\n\
             poll = {{ every = \"{every}\", overlap = \"1m\" }}\n\
             api = {{ base_url = \"http://{}\", token = \"{access_token}\", \
             version = \"{api_version}\" }}\n",
            store.address(),
        );
    })
    .await;
    let url = format!("http://127.0.0.1:{}/webhooks/{name}", cluster.nodes[0].ports[0]);
    store.set_targets(&[url]).unwrap();
    cluster
}

/// Waits until the ledger holds of each SKU what the store knows that it must.
async fn follows(node: &Node, store: &Store) {
    for (sku, wanted) in store.expected_of_all() {
        let wanted = (json!(wanted.open()), json!(wanted.on_hand()));
        let what = format!("the ledger holds {wanted:?} of {sku}");
        until_true(&what, async || {
            // A SKU of which nothing was sold yet is not known.
            let stock = node.try_get(&format!("/v1/stock/{sku}")).await;
            let stock = stock.unwrap_or_else(|| json!({ "committed": 0, "on_hand": 0 }));
            (&stock["committed"], &stock["on_hand"]) == (&wanted.0, &wanted.1)
        })
        .await;
    }
}

// The webhook of an edit names the order and no SKU: a ledger that reads nothing but webhooks keeps what
// was taken out, and never hears of what was added.
#[tokio::test(flavor = "multi_thread")]
async fn an_edited_order_is_fetched() {
    let topics = [Topic::OrdersCreate, Topic::OrdersEdited].into();
    let store = open(Options { topics, ..Options::new("south") }).await;
    // It never polls: only the fetch can bring the order.
    let cluster = listener(&store, "0s").await;
    let node = &cluster.nodes[0];
    let order = store.sell_one("MUG", 5).unwrap();
    follows(node, &store).await;
    store.take_out(order, "MUG", 3).unwrap();
    follows(node, &store).await;
    store.add_line(order, "TEE", 2).unwrap();
    store.add_line(order, "TEE", 1).unwrap();
    follows(node, &store).await;
    // What no topic told came with the order.
    store.fulfil(order, &[("MUG", 1), ("TEE", 2)]).unwrap();
    store.refund(order, "MUG", 1, Restock::Cancel).unwrap();
    store.add_line(order, "MUG", 4).unwrap();
    follows(node, &store).await;
    let known = node.get(&format!("/v1/orders/south/{order}")).await;
    assert_eq!(known["lines"].as_object().unwrap().len(), 4, "{known}");
    cluster.settle().await;
    store.shutdown().await;
}

// A webhook that is never sent is lost for whoever only listens. A poll that the store puts off in the
// middle must go on where it was: one that begins anew never comes to the end, and finds nothing more.
#[tokio::test(flavor = "multi_thread")]
async fn orders_that_nobody_told_are_found() {
    let faults = Faults { drop: 1.0, ..Faults::default() };
    // Enough for one page at a time.
    let costs = Costs { maximum_available: 1_000, restore_rate: 1_000, ..Costs::default() };
    let store = open(Options { topics: Topic::ALL.into(), faults, costs, ..Options::new("south") });
    let store = store.await;
    let cluster = listener(&store, "1s").await;
    let node = &cluster.nodes[0];
    let orders: Vec<u64> =
        (1..=40).map(|n| store.sell(&[("MUG", 1 + n % 3), ("TEE", 1)]).unwrap()).collect();
    follows(node, &store).await;
    // What becomes of them is found as well.
    store.take_out(orders[0], "MUG", 1).unwrap();
    store.cancel(orders[1], Restock::Cancel).unwrap();
    store.fulfil_all(orders[2]).unwrap();
    store.refund(orders[2], "TEE", 1, Restock::Return).unwrap();
    store.add_line(orders[3], "TEE", 7).unwrap();
    follows(node, &store).await;
    let stats = store.stats();
    assert_eq!(stats.attempts, 0, "nothing was told");
    assert!(stats.throttled > 0, "the store never put a page off");
    cluster.settle().await;
    store.shutdown().await;
}
