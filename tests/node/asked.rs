//! Promise: what a channel tells without saying how, or does not tell at all, is asked for, and the ledger
//! follows; and the channel is told, whichever node dies.

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

/// What an operator asks of the store's channel.
async fn operate(node: &Node, what: &str, body: &serde_json::Value) {
    let answer = node.post(&format!("/v1/channels/south/{what}"), body).await;
    assert_eq!(answer.status, 200, "{what}: {}", answer.text());
}

// The home of a channel dies in the middle of its pushes: the store would show for good what was sold elsewhere,
// or two nodes tell it at once. And an operator who pauses it would find it told all the same.
#[tokio::test(flavor = "multi_thread")]
async fn another_node_tells_the_store_while_its_home_is_dead() {
    let store = open(Options::new("south")).await;
    let Options { name, secret, access_token, api_version, location_id, items, .. } =
        store.options().clone();
    let mut cluster = Cluster::start(3, |node| {
        node.more = format!(
            "\n[[channel]]\nname = \"{name}\"\nkind = \"shopify\"\nsecrets = [\"{secret}\"]\n\
             home = 2\nrate = {{ per_second = 20, burst = 10 }}\n\
             api = {{ base_url = \"http://{}\", token = \"{access_token}\", \
             version = \"{api_version}\", \
             location_id = \"gid://shopify/Location/{location_id}\" }}\n",
            store.address(),
        );
    })
    .await;
    let listings: Vec<_> = items
        .iter()
        .map(|item| json!({ "sku": item.sku, "channel": name, "id": item.inventory_item_id.to_string() }))
        .collect();
    let node = &cluster.nodes[0];
    let answer = node.post("/v1/listings", &json!({ "listings": listings })).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let receive = async |node: &Node, n: i64, quantity: i64| {
        let movement = |sku: &&str| json!({ "id": format!("{sku} {n}"), "kind": "adjustment", "sku": sku, "quantity": quantity });
        let movements: Vec<_> = SKUS.iter().map(movement).collect();
        let answer = node.post("/v1/movements", &json!({ "movements": movements })).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    let shows = async |wanted: i64| {
        until_true(&format!("the store shows {wanted}"), async || {
            SKUS.iter().all(|sku| store.available(sku) == Some(wanted))
        })
        .await;
    };
    receive(node, 1, 40).await;
    shows(40).await;
    let owner = async |node: &Node| node.get("/v1/channels/south").await["owner"].clone();
    assert_eq!(owner(node).await, json!(2));

    operate(node, "pause", &json!({ "why": "stocktaking" })).await;
    receive(node, 2, 1).await;
    let channel = node.get("/v1/channels/south").await;
    assert_eq!(channel["paused"]["why"], "stocktaking", "{channel}");
    cluster.settle().await;
    assert_eq!(store.available("MUG"), Some(40));
    operate(node, "resume", &json!({})).await;
    shows(41).await;

    cluster.nodes[1].kill();
    receive(&cluster.nodes[0], 3, 1).await;
    shows(42).await;
    assert_eq!(owner(&cluster.nodes[0]).await, json!(1));
    cluster.nodes[1].start().await;
    until_true("the home has its channel back", async || {
        owner(&cluster.nodes[0]).await == json!(2)
    })
    .await;
    receive(&cluster.nodes[0], 4, 1).await;
    shows(43).await;
    // Somebody edits the store by hand, and somebody else wants to see it put right.
    let failures = cluster.nodes[0].get("/v1/channels/south/failures").await;
    assert_eq!(failures["items"], json!([]), "{failures}");
    operate(&cluster.nodes[0], "push", &json!({ "sku": "MUG" })).await;
    cluster.settle().await;
    store.shutdown().await;
}
