//! Asking the Admin API for orders: what is told, in which order, in how many pages, and at what price.

use std::collections::BTreeSet;

use marketplace::{Costs, Faults, Options, Restock, Store};
use serde_json::{Value, json};

use crate::support::{Receiver, call, item, item_gid, open, options, soon};

/// The documents that a poller sends.
const ORDER: &str = "query Order($id: ID!) { order(id: $id) { id updatedAt test \
    lineItems(first: 100) { nodes { id sku quantity currentQuantity isGiftCard \
    variant { id inventoryItem { tracked } } } pageInfo { hasNextPage } } \
    refunds(first: 5) { id createdAt refundLineItems(first: 20) { nodes { lineItem { id } quantity \
    restockType } pageInfo { hasNextPage } } } \
    fulfillments(first: 5) { id createdAt status fulfillmentLineItems(first: 40) { nodes \
    { lineItem { id } quantity } pageInfo { hasNextPage } } } } }";
const ORDERS: &str = "query Orders($query: String!, $after: String) { \
    orders(first: 12, after: $after, sortKey: UPDATED_AT, query: $query) { nodes { id updatedAt test \
    lineItems(first: 5) { nodes { id sku quantity currentQuantity isGiftCard \
    variant { id inventoryItem { tracked } } } pageInfo { hasNextPage } } \
    refunds(first: 3) { id createdAt refundLineItems(first: 3) { nodes { lineItem { id } quantity \
    restockType } pageInfo { hasNextPage } } } \
    fulfillments(first: 3) { id createdAt status fulfillmentLineItems(first: 4) { nodes \
    { lineItem { id } quantity } pageInfo { hasNextPage } } } } \
    pageInfo { hasNextPage endCursor } } }";

async fn ask(store: &Store, document: &str, variables: Value) -> Value {
    call(store, &json!({"query": document, "variables": variables})).await.unwrap().body
}

async fn order(store: &Store, id: u64) -> Value {
    let id = format!("gid://shopify/Order/{id}");
    ask(store, ORDER, json!({"id": id})).await["data"]["order"].take()
}

/// One page: its orders, and where the next one goes on.
async fn page(store: &Store, query: &str, after: Option<&str>) -> (Vec<Value>, Option<String>) {
    let mut body = ask(store, ORDERS, json!({"query": query, "after": after})).await;
    let mut orders = body["data"]["orders"].take();
    let info = orders["pageInfo"].take();
    let cursor = info["endCursor"].as_str().map(str::to_owned);
    let next = cursor.filter(|_| info["hasNextPage"].as_bool().unwrap());
    let nodes = orders["nodes"].as_array_mut().unwrap_or_else(|| panic!("{body}"));
    (std::mem::take(nodes), next)
}

/// All pages. The store must have the points for them.
pub(crate) async fn every_order(store: &Store, query: &str) -> Vec<Value> {
    let (mut orders, mut after) = page(store, query, None).await;
    while let Some(cursor) = after {
        let (more, next) = page(store, query, Some(&cursor)).await;
        orders.extend(more);
        after = next;
    }
    orders
}

fn at(value: &Value) -> &str {
    value["updatedAt"].as_str().unwrap()
}

/// A poller written against the real shape must find all it needs, in the real types: ids as text, enums
/// in capitals, times in UTC.
#[tokio::test]
async fn one_order_has_the_real_shape() {
    let store = open(options()).await;
    let id = store.sell(&[("MUG", 4), ("TEE", 1)]).unwrap();
    let fulfillment = store.fulfil(id, &[("MUG", 2)]).unwrap();
    let refund = store.refund(id, "MUG", 1, Restock::Return).unwrap();
    store.take_out(id, "MUG", 1).unwrap();
    let told = order(&store, id).await;
    assert!(at(&told).ends_with('Z') && at(&told).len() == "2026-11-20T15:00:00Z".len());
    let page = json!({"hasNextPage": false});
    let line = |at: usize| told["lineItems"]["nodes"][at]["id"].clone();
    let variant = |n: u64| {
        let id = format!("gid://shopify/ProductVariant/{}", 9_107_199_254_740_000 + n);
        json!({"id": id, "inventoryItem": {"tracked": true}})
    };
    let times = [&told["refunds"][0]["createdAt"], &told["fulfillments"][0]["createdAt"]];
    assert_eq!(
        told,
        json!({
            "id": format!("gid://shopify/Order/{id}"), "updatedAt": at(&told), "test": false,
            "lineItems": {"pageInfo": page, "nodes": [
                {"id": line(0), "sku": "MUG", "quantity": 4, "currentQuantity": 2,
                 "isGiftCard": false, "variant": variant(1)},
                {"id": line(1), "sku": "TEE", "quantity": 1, "currentQuantity": 1,
                 "isGiftCard": false, "variant": variant(2)},
            ]},
            "refunds": [{
                "id": format!("gid://shopify/Refund/{refund}"), "createdAt": times[0],
                "refundLineItems": {"pageInfo": page, "nodes": [
                    {"lineItem": {"id": line(0)}, "quantity": 1, "restockType": "RETURN"}]},
            }],
            "fulfillments": [{
                "id": format!("gid://shopify/Fulfillment/{fulfillment}"), "createdAt": times[1],
                "status": "SUCCESS",
                "fulfillmentLineItems": {"pageInfo": page, "nodes": [
                    {"lineItem": {"id": line(0)}, "quantity": 2}]},
            }],
        })
    );
    assert!(line(0).as_str().unwrap().starts_with("gid://shopify/LineItem/"));
    let times: Vec<_> = times.iter().map(|time| time.as_str().unwrap()).collect();
    assert!(times[1] < times[0] && times[0] < at(&told), "{told}");
}

/// An order that is not there is null, and no error; an id of another kind is an error, and no order.
#[tokio::test]
async fn an_order_that_is_not_there_is_null() {
    let store = open(options()).await;
    let unknown = ask(&store, ORDER, json!({"id": "gid://shopify/Order/1"})).await;
    assert_eq!((&unknown["data"]["order"], &unknown["errors"]), (&Value::Null, &Value::Null));
    assert_eq!(unknown["extensions"]["cost"]["actualQueryCost"], 0);
    for variables in [json!({"id": item_gid(1)}), json!({})] {
        let wrong = ask(&store, ORDER, variables).await;
        assert!(wrong["errors"][0]["extensions"]["code"].is_string(), "{wrong}");
    }
}

/// An order that changes while a poller turns the pages moves to the end: it must be told there again,
/// and push no other order out of the pages.
#[tokio::test]
async fn pages_miss_nothing_while_orders_change() {
    let items = vec![item("MUG", 1, 100)];
    let store = open(Options { items, ..options() }).await;
    let sold: Vec<u64> = (0..30).map(|_| store.sell_one("MUG", 1).unwrap()).collect();
    let (first, next) = page(&store, "status:any", None).await;
    assert_eq!(first.len(), 12);
    store.cancel(sold[0], Restock::Cancel).unwrap();
    let (second, next) = page(&store, "status:any", next.as_deref()).await;
    let (third, none) = page(&store, "status:any", next.as_deref()).await;
    assert_eq!((second.len(), third.len(), none), (12, 7, None));
    let told: Vec<Value> = [first, second, third].concat();
    assert!(told.windows(2).all(|pair| at(&pair[0]) <= at(&pair[1])));
    let ids: Vec<&str> = told.iter().map(|order| order["id"].as_str().unwrap()).collect();
    let all: Vec<String> = sold.iter().map(|id| format!("gid://shopify/Order/{id}")).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 30);
    assert_eq!((ids[0], ids[30]), (all[0].as_str(), all[0].as_str()));
    assert_eq!(told[30]["lineItems"]["nodes"][0]["currentQuantity"], 0);
    assert_eq!(told[30]["refunds"][0]["refundLineItems"]["nodes"][0]["restockType"], "CANCEL");
}

/// A poller asks for what changed since a time: with the time itself, or without it.
#[tokio::test]
async fn a_query_finds_what_it_names() {
    let store = open(options()).await;
    let (kept, cancelled) = (store.sell_one("MUG", 1).unwrap(), store.sell_one("MUG", 1).unwrap());
    store.cancel(cancelled, Restock::Cancel).unwrap();
    let told = order(&store, cancelled).await;
    let count = async |query: &str| every_order(&store, query).await.len();
    assert_eq!(count(&format!("updated_at:>='{}' AND status:any", at(&told))).await, 1);
    assert_eq!(count(&format!("updated_at:>'{}'", at(&told))).await, 0);
    assert_eq!(count("updated_at:>='2020-01-01T00:00:00-05:00'").await, 2);
    assert_eq!((count("status:cancelled").await, count("test:true").await), (1, 0));
    let open = every_order(&store, "status:open").await;
    assert_eq!(open[0]["id"], format!("gid://shopify/Order/{kept}"));
    assert_eq!(open.len(), 1);
}

/// What a real store refuses, or what this one does not understand, must not look like "no orders".
#[tokio::test]
async fn wrong_questions_are_errors() {
    let store = open(options()).await;
    store.sell_one("MUG", 1).unwrap();
    for document in [
        "{ orders { nodes { id } } }",
        "{ orders(first: 251) { nodes { id } } }",
        "{ orders(first: 1, query: \"colour:red\") { nodes { id } } }",
        "{ orders(first: 1, after: \"bm9uc2Vuc2U=\") { nodes { id } } }",
        "{ orders(first: 1, sortKey: TOTAL_PRICE) { nodes { id } } }",
        "{ orders(first: 1, colour: \"red\") { nodes { id } } }",
        "{ orders(first: 1) { nodes { lineItems { nodes { id } } } } }",
        "{ orders(first: 1) { nodes { lineItems(first: 1, after: \"e30=\") { nodes { id } } } } }",
        "{ orders(first: 1) { nodes { id { id } } } }",
        "{ orders(first: 1) { nodes } }",
        "{ orders(first: 1) { id } }",
    ] {
        let answer = ask(&store, document, Value::Null).await;
        assert!(answer["errors"][0]["message"].is_string(), "{document}: {answer}");
        assert_eq!(answer["data"], Value::Null, "{document}");
    }
}

/// Whoever reads edges, goes backwards, or turns the pages of lines, gets the same elements.
#[tokio::test]
async fn edges_and_inner_pages() {
    let store = open(options()).await;
    store.sell(&[("MUG", 1), ("TEE", 1)]).unwrap();
    let last = store.sell_one("MUG", 2).unwrap();
    let document = "query($after: String, $line: String) { orders(first: 1, after: $after, \
        sortKey: CREATED_AT, reverse: true) { __typename edges { cursor node { id name \
        displayFulfillmentStatus lineItems(first: 1, after: $line) { nodes { sku } \
        pageInfo { hasNextPage hasPreviousPage endCursor } } } } pageInfo { endCursor } } }";
    let newest = ask(&store, document, json!({})).await["data"]["orders"].take();
    assert_eq!(newest["__typename"], "OrderConnection");
    assert_eq!(newest["edges"][0]["node"]["id"], format!("gid://shopify/Order/{last}"));
    assert_eq!(newest["edges"][0]["node"]["displayFulfillmentStatus"], "UNFULFILLED");
    let after = &newest["edges"][0]["cursor"];
    assert_eq!(*after, newest["pageInfo"]["endCursor"]);
    let read = async |line: &Value| {
        let answer = ask(&store, document, json!({"after": after, "line": line})).await;
        answer["data"]["orders"]["edges"][0]["node"].clone()
    };
    let first = read(&Value::Null).await;
    let info = &first["lineItems"]["pageInfo"];
    assert_eq!(
        (&first["name"], &first["lineItems"]["nodes"]),
        (&json!("#1001"), &json!([{"sku": "MUG"}]))
    );
    assert_eq!((&info["hasNextPage"], &info["hasPreviousPage"]), (&json!(true), &json!(false)));
    let second = read(&info["endCursor"]).await;
    let info = &second["lineItems"]["pageInfo"];
    assert_eq!(second["lineItems"]["nodes"], json!([{"sku": "TEE"}]));
    assert_eq!((&info["hasNextPage"], &info["hasPreviousPage"]), (&json!(false), &json!(true)));
}

/// A call is charged for what it may return, and gets back what it did not: a client that reckons with
/// the one or the other alone runs dry, or crawls.
#[tokio::test]
async fn a_query_costs_what_it_returns_and_needs_what_it_may() {
    let costs = Costs { maximum_available: 1000, restore_rate: 0, ..Costs::default() };
    let store = open(Options { costs, ..options() }).await;
    let id = store.sell(&[("MUG", 1), ("TEE", 1)]).unwrap();
    store.fulfil_all(id).unwrap();
    let orders = ask(&store, ORDERS, json!({"query": "status:any"})).await;
    let cost = &orders["extensions"]["cost"];
    // A connection, an order; a connection, two lines of three objects; a list without refunds; a list,
    // a fulfilment, a connection, two lines of two.
    let actual = (2 + 1) + (2 + 2 * 3) + 2 + (2 + 1 + 2 + 2 * 2);
    assert_eq!(
        (&cost["requestedQueryCost"], &cost["actualQueryCost"]),
        (&json!(986), &json!(actual))
    );
    assert_eq!(cost["throttleStatus"]["currentlyAvailable"], 1000 - actual);
    let id = json!({"id": format!("gid://shopify/Order/{id}")});
    let one = ask(&store, ORDER, id.clone()).await;
    assert_eq!(one["extensions"]["cost"]["requestedQueryCost"], 937);
    assert_eq!(one["extensions"]["cost"]["actualQueryCost"], actual - 2);
    let mut body = one;
    while body["errors"].is_null() {
        body = ask(&store, ORDER, id.clone()).await;
    }
    assert_eq!(body["errors"][0]["extensions"]["code"], "THROTTLED");
    assert!(
        body["extensions"]["cost"]["throttleStatus"]["currentlyAvailable"].as_u64() < Some(937)
    );
    let dear = "{ orders(first: 250) { nodes { lineItems(first: 250) { nodes { id } } } } }";
    let dear = ask(&store, dear, Value::Null).await;
    assert_eq!(dear["errors"][0]["extensions"]["code"], "MAX_COST_EXCEEDED");
}

/// A webhook that is never sent leaves the order to be found by asking, and only so.
#[tokio::test]
async fn a_dropped_webhook_is_found_by_asking() {
    let receiver = Receiver::open(|_| 200).await;
    let faults = Faults { drop: 1.0, ..Faults::default() };
    let store = open(Options { targets: vec![receiver.url.clone()], faults, ..options() }).await;
    let lost = store.sell_one("MUG", 2).unwrap();
    store.set_faults(Faults::default());
    let told = store.sell_one("MUG", 1).unwrap();
    soon(store.drained()).await;
    let seen = receiver.seen();
    assert_eq!((seen.len(), &seen[0].json()["id"]), (1, &json!(told)));
    let stats = store.stats();
    assert_eq!((stats.webhooks, stats.webhooks_dropped, stats.attempts), (1, 1, 1));
    assert_eq!(store.expected_committed()["MUG"], 1);
    assert_eq!(store.expected_of_all()["MUG"].committed, 3);
    let asked = every_order(&store, "status:any").await;
    let ids: Vec<_> = asked.iter().map(|order| order["id"].clone()).collect();
    assert_eq!(ids, [lost, told].map(|id| json!(format!("gid://shopify/Order/{id}"))));
}
