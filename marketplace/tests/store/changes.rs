//! What becomes of an order, and which webhooks tell of it.

use std::collections::BTreeSet;

use marketplace::{
    Error, Options, Restock, Store,
    history::{Cause, Expected},
    shopify::sign::Topic,
};
use serde_json::{Value, json};

use crate::support::{Receiver, Seen, open, options, push, row, soon};

/// A store that is subscribed to everything, and the one who listens.
async fn subscribed() -> (Store, Receiver) {
    let receiver = Receiver::open(|_| 200).await;
    let targets = vec![receiver.url.clone()];
    let store = open(Options { targets, topics: Topic::ALL.into(), ..options() }).await;
    (store, receiver)
}

/// What `action` makes the store tell, by topic and then by item.
async fn told<T>(store: &Store, receiver: &Receiver, action: impl FnOnce() -> T) -> Vec<Seen> {
    let before = receiver.seen().len();
    action();
    soon(store.drained()).await;
    let mut seen = receiver.seen().split_off(before);
    seen.sort_by_key(|s| {
        (s.header("x-shopify-topic").to_owned(), s.json()["inventory_item_id"].as_u64())
    });
    seen
}

fn topics(seen: &[Seen]) -> Vec<&str> {
    seen.iter().map(|seen| seen.header("x-shopify-topic")).collect()
}

/// One action under several event ids could not be correlated; several deliveries under one webhook id
/// would be taken for one.
fn assert_one_event(seen: &[Seen]) {
    let distinct = |name: &str| seen.iter().map(|s| s.header(name)).collect::<BTreeSet<_>>().len();
    assert_eq!((distinct("x-shopify-event-id"), distinct("x-shopify-webhook-id")), (1, seen.len()));
}

fn expected(committed: i64, returned: i64, fulfilled: i64) -> Expected {
    Expected { committed, returned, fulfilled }
}

/// Who subscribed to three topics must not hear of nine.
#[tokio::test]
async fn only_what_is_subscribed_is_told() {
    let receiver = Receiver::open(|_| 200).await;
    let store = open(Options { targets: vec![receiver.url.clone()], ..options() }).await;
    let order = store.sell_one("MUG", 3).unwrap();
    store.fulfil(order, &[("MUG", 1)]).unwrap();
    store.take_out(order, "MUG", 1).unwrap();
    store.refund(order, "MUG", 1, Restock::Return).unwrap();
    push(&store, "k1", &[row(1, 3, None)]).await;
    soon(store.drained()).await;
    let mut seen = receiver.seen();
    seen.sort_by_key(|seen| seen.header("x-shopify-topic").to_owned());
    assert_eq!(topics(&seen), ["orders/create", "refunds/create"]);
}

/// Two images of one order under one time cannot be told apart, and the older may win.
#[tokio::test]
async fn updated_at_grows_with_every_change() {
    let (store, receiver) = subscribed().await;
    let order = store.sell(&[("MUG", 4), ("TEE", 2)]).unwrap();
    store.take_out(order, "MUG", 1).unwrap();
    store.add_line(order, "TEE", 1).unwrap();
    store.fulfil(order, &[("MUG", 2)]).unwrap();
    store.refund(order, "MUG", 1, Restock::Return).unwrap();
    let other = store.sell_one("MUG", 1).unwrap();
    store.cancel(other, Restock::Cancel).unwrap();
    soon(store.drained()).await;
    let images: Vec<Value> = receiver.seen().iter().map(Seen::json).collect();
    let updates = |order: u64| {
        let of = images.iter().filter(|image| image["id"] == order);
        of.map(|image| image["updated_at"].as_str().unwrap()).collect::<BTreeSet<_>>()
    };
    assert_eq!((updates(order).len(), updates(other).len()), (5, 2));
    let webhooks = store.history().webhooks;
    let versions = webhooks.iter().filter(|w| w.order_id == order).filter_map(|w| w.image_ms);
    assert_eq!(versions.collect::<BTreeSet<_>>().len(), 5);
    let created = images.iter().find(|image| image["id"] == order).unwrap();
    assert_eq!(updates(order).first(), created["created_at"].as_str().as_ref());
}

/// What an edit takes out leaves no refund behind: a reader that subtracts refunds alone keeps it sold.
#[tokio::test]
async fn an_edit_takes_units_out_without_a_refund() {
    let (store, receiver) = subscribed().await;
    let order = store.sell(&[("MUG", 5), ("TEE", 1)]).unwrap();
    store.refund(order, "MUG", 1, Restock::Cancel).unwrap();
    soon(store.drained()).await;
    let seen = told(&store, &receiver, || store.take_out(order, "MUG", 3).unwrap()).await;
    assert_eq!(topics(&seen), ["inventory_levels/update", "orders/edited", "orders/updated"]);
    assert_one_event(&seen);
    assert_eq!(seen[0].json()["available"], 9);
    let (edit, image) = (seen[1].json()["order_edit"].take(), seen[2].json());
    let line = &image["line_items"][0];
    let at = &image["updated_at"];
    assert_eq!((&edit["order_id"], &edit["committed_at"]), (&json!(order), at));
    assert_eq!(
        edit["line_items"],
        json!({"additions": [], "removals": [{"id": line["id"], "delta": 3}]})
    );
    assert!(edit["line_items"]["removals"][0].get("sku").is_none());
    assert_eq!(
        (&line["quantity"], &line["current_quantity"], &line["fulfillable_quantity"]),
        (&json!(5), &json!(1), &json!(1))
    );
    assert_eq!(image["refunds"].as_array().unwrap().len(), 1);
    assert_eq!(store.expected()["MUG"], expected(1, 0, 0));
    let movement = store.history().movements.pop().unwrap();
    assert_eq!((movement.cause, movement.quantity), (Cause::Cancelled(Restock::Cancel), 3));
    assert_eq!((movement.refund_id, movement.edit_id), (None, edit["id"].as_u64()));
    assert_eq!((movement.shown_before, movement.shown_after), (6, 9));
    assert!(matches!(store.take_out(order, "MUG", 2), Err(Error::NothingLeft { .. })));
}

/// A line that an edit adds is sold like any other, and belongs to no order of its own.
#[tokio::test]
async fn an_edit_adds_a_line() {
    let (store, receiver) = subscribed().await;
    let order = store.sell_one("MUG", 1).unwrap();
    soon(store.drained()).await;
    let seen = told(&store, &receiver, || store.add_line(order, "TEE", 2).unwrap()).await;
    assert_eq!(topics(&seen), ["inventory_levels/update", "orders/edited", "orders/updated"]);
    let (edit, image) = (seen[1].json()["order_edit"].take(), seen[2].json());
    let line = &image["line_items"][1];
    assert_eq!((&line["sku"], &line["quantity"]), (&json!("TEE"), &json!(2)));
    assert_eq!(
        edit["line_items"],
        json!({"additions": [{"id": line["id"], "delta": 2}], "removals": []})
    );
    assert_eq!((store.available("TEE"), store.expected()["TEE"].committed), (Some(3), 2));
    assert_eq!((store.stats().orders, store.stats().units_sold, store.stats().edits), (1, 3, 1));
    assert!(matches!(store.add_line(order, "TEE", 4), Err(Error::OutOfStock { .. })));
    store.cancel(order, Restock::Cancel).unwrap();
    assert!(matches!(store.add_line(order, "TEE", 1), Err(Error::Cancelled(_))));
    soon(store.drained()).await;
    assert_eq!((store.available("TEE"), store.expected()["TEE"]), (Some(5), Expected::default()));
}

/// An image from before an edit must not be taken for the order as it is: what is expected of whoever
/// heard only that image is what it said.
#[tokio::test]
async fn an_edit_that_was_not_heard_of_is_not_expected() {
    let receiver = Receiver::open(|nth| if nth == 0 { 200 } else { 500 }).await;
    let topics = Topic::ALL.into();
    let store = open(Options { targets: vec![receiver.url.clone()], topics, ..options() }).await;
    let levels = [Topic::InventoryLevelsUpdate];
    let order = store.sell_one("MUG", 4).unwrap();
    soon(store.drained()).await;
    store.take_out(order, "MUG", 1).unwrap();
    store.add_line(order, "TEE", 1).unwrap();
    soon(store.drained()).await;
    let heard = store.history().webhooks.into_iter().filter(|w| !levels.contains(&w.topic));
    assert_eq!(
        heard.filter(|w| w.progress == marketplace::history::Progress::Acknowledged).count(),
        1
    );
    assert_eq!(store.expected_committed(), [("MUG".into(), 4), ("TEE".into(), 0)].into());
    let all = store.expected_of_all();
    assert_eq!((all["MUG"].committed, all["TEE"].committed), (3, 1));
}

/// A shipment moves no level; what comes back afterwards is a return, and what was never shipped is not.
#[tokio::test]
async fn an_order_ships_in_parts_and_comes_back() {
    let (store, receiver) = subscribed().await;
    let order = store.sell(&[("MUG", 3), ("TEE", 1)]).unwrap();
    soon(store.drained()).await;
    let part = told(&store, &receiver, || store.fulfil(order, &[("MUG", 2)]).unwrap()).await;
    assert_eq!(
        topics(&part),
        ["fulfillments/create", "orders/partially_fulfilled", "orders/updated"]
    );
    assert_one_event(&part);
    let (shipment, image) = (part[0].json(), part[2].json());
    assert_eq!((&shipment["order_id"], &shipment["status"]), (&json!(order), &json!("success")));
    assert_eq!(
        (&shipment["line_items"][0]["quantity"], &shipment["name"]),
        (&json!(2), &json!("#1001.1"))
    );
    assert_eq!(image["fulfillments"], json!([shipment]));
    let statuses = |image: &Value| {
        let of = |value: &Value| value["fulfillment_status"].clone();
        (of(image), of(&image["line_items"][0]), of(&image["line_items"][1]))
    };
    assert_eq!(statuses(&image), (json!("partial"), json!("partial"), Value::Null));
    assert_eq!(image["line_items"][0]["fulfillable_quantity"], 1);
    assert!(matches!(store.cancel(order, Restock::Cancel), Err(Error::Shipped(_))));

    // Two are shipped, one is not.
    assert!(store.refund(order, "MUG", 3, Restock::Return).is_err());
    assert!(store.refund(order, "MUG", 2, Restock::Cancel).is_err());
    assert!(store.fulfil(order, &[("MUG", 1), ("MUG", 1)]).is_err());
    let back = told(&store, &receiver, || store.refund(order, "MUG", 1, Restock::Return)).await;
    assert_eq!(topics(&back), ["inventory_levels/update", "orders/updated", "refunds/create"]);
    assert_eq!(back[2].json()["refund_line_items"][0]["restock_type"], "return");
    assert_eq!(back[1].json()["line_items"][0]["fulfillable_quantity"], 1);
    told(&store, &receiver, || store.refund(order, "MUG", 1, Restock::Cancel).unwrap()).await;

    let rest = told(&store, &receiver, || store.fulfil_all(order).unwrap()).await;
    assert!(topics(&rest).contains(&"orders/fulfilled"));
    let image = rest.last().unwrap().json();
    assert_eq!(statuses(&image), (json!("fulfilled"), json!("fulfilled"), json!("fulfilled")));
    assert!(store.fulfil_all(order).is_err());
    soon(store.drained()).await;
    assert_eq!((store.available("MUG"), store.available("TEE")), (Some(9), Some(4)));
    assert_eq!(store.expected()["MUG"], expected(2, 1, 2));
    assert_eq!(store.expected()["TEE"], expected(1, 0, 1));
    assert_eq!(store.expected(), store.expected_of_all());
    let shipped: Vec<_> = store.history().shipments.iter().map(|s| s.quantity).collect();
    assert_eq!((shipped, store.stats().fulfillments), (vec![2, 1], 2));
}

/// A sale, a cancellation, a push of our own and a hand in the store's screens all change what is
/// shown, and each is told: whoever pushes must know its own echo.
#[tokio::test]
async fn every_change_of_a_level_is_told() {
    let (store, receiver) = subscribed().await;
    let mut order = 0;
    let sale =
        told(&store, &receiver, || order = store.sell(&[("MUG", 4), ("TEE", 1)]).unwrap()).await;
    assert_eq!(
        topics(&sale),
        ["inventory_levels/update", "inventory_levels/update", "orders/create"]
    );
    assert_one_event(&sale);
    let level = sale[0].json();
    assert!(level["updated_at"].as_str().unwrap().ends_with("-05:00"));
    let item = 9_207_199_254_740_001_u64;
    let name = format!("gid://shopify/InventoryLevel/24826418?inventory_item_id={item}");
    assert_eq!(
        level,
        json!({"inventory_item_id": item, "location_id": 24_826_418, "available": 6,
            "updated_at": level["updated_at"], "admin_graphql_api_id": name})
    );
    let shown = |seen: &[Seen]| {
        let levels =
            seen.iter().filter(|s| s.header("x-shopify-topic") == "inventory_levels/update");
        levels.map(|s| s.json()["available"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    let gone = told(&store, &receiver, || store.refund(order, "MUG", 1, Restock::NoRestock)).await;
    let cancelled = told(&store, &receiver, || store.cancel(order, Restock::Cancel)).await;
    let by_hand = told(&store, &receiver, || store.set_available("MUG", 40)).await;
    assert_eq!((shown(&gone), shown(&cancelled), shown(&by_hand)), (vec![], vec![9, 5], vec![40]));
    assert_eq!(store.expected(), store.expected_of_all());
}

/// The echo of a push says what was pushed. A push that is refused or repeated changes nothing, and one
/// that sets what is shown already has no echo.
#[tokio::test]
async fn a_push_has_an_echo() {
    let (store, receiver) = subscribed().await;
    push(&store, "k1", &[row(1, 7, 10), row(2, 0, 5)]).await;
    soon(store.drained()).await;
    let mut echo = receiver.seen();
    echo.sort_by_key(|seen| seen.json()["inventory_item_id"].as_u64());
    assert_eq!(topics(&echo), ["inventory_levels/update"; 2]);
    assert_one_event(&echo);
    assert_eq!(
        (&echo[0].json()["available"], &echo[1].json()["available"]),
        (&json!(7), &json!(0))
    );
    push(&store, "k1", &[row(1, 7, 10), row(2, 0, 5)]).await;
    push(&store, "k2", &[row(1, 3, 9)]).await;
    push(&store, "k3", &[row(1, 7, 7)]).await;
    soon(store.drained()).await;
    assert_eq!(receiver.seen().len(), 2);
    let webhooks = store.history().webhooks;
    assert!(webhooks.iter().all(|w| (w.order_id, w.image_ms) == (0, None)));
}

/// A shipment that names a line twice reads as two shipments of it, or as the last one alone.
#[tokio::test]
async fn a_shipment_names_a_line_once() {
    let (store, receiver) = subscribed().await;
    let order = store.sell_one("MUG", 4).unwrap();
    store.fulfil(order, &[("MUG", 1), ("MUG", 2)]).unwrap();
    soon(store.drained()).await;
    let seen = receiver.seen();
    let shipped = seen.iter().find(|s| s.header("x-shopify-topic") == "fulfillments/create");
    let shipped = shipped.unwrap().json();
    let lines = shipped["line_items"].as_array().unwrap();
    assert_eq!((lines.len(), &lines[0]["quantity"]), (1, &json!(3)));
    assert_eq!(store.expected()["MUG"], expected(4, 0, 3));
}
