//! The inventory mutation: what is set, what is refused, and what a repeated call is told.

use marketplace::{Costs, Options};
use serde_json::{Value, json};

use crate::support::{call, input, mutation, open, options, push, row, soon};

/// A right push that is not taken, or taken and not remembered, makes every later comparison stale.
#[tokio::test]
async fn a_matching_push_is_set_and_remembered() {
    let store = open(options()).await;
    let answer = push(&store, "k1", &[row(1, 7, 10), row(2, 0, 5)]).await;
    assert_eq!((answer.status, answer.user_errors()), (200, vec![]));
    let changes = &answer.payload()["inventoryAdjustmentGroup"]["changes"];
    assert_eq!(changes[0], json!({"name": "available", "delta": -3, "quantityAfterChange": 7}));
    assert_eq!((store.available("MUG"), store.available("TEE")), (Some(7), Some(0)));
    let told = store.history().pushes;
    assert_eq!(told.len(), 2);
    assert_eq!((told[0].change_from, told[0].from, told[0].to), (Some(10), 10, 7));
    assert!(told.iter().all(|push| push.applied && push.key == "k1"));
    let cost = &answer.body["extensions"]["cost"];
    assert_eq!((&cost["requestedQueryCost"], &cost["actualQueryCost"]), (&json!(10), &json!(10)));
    assert_eq!(
        cost["throttleStatus"],
        json!({"maximumAvailable": 2000.0, "currentlyAvailable": 1990, "restoreRate": 100.0})
    );
}

/// A store that sets the rows before the stale one would hide sales it has made since.
#[tokio::test]
async fn one_stale_row_refuses_all() {
    let store = open(options()).await;
    store.sell_one("TEE", 1).unwrap();
    let answer = push(&store, "k1", &[row(1, 7, 10), row(2, 3, 5)]).await;
    let field = json!(["input", "quantities", "1", "changeFromQuantity"]);
    assert_eq!(answer.user_errors(), [("CHANGE_FROM_QUANTITY_STALE".to_owned(), field)]);
    assert_eq!(answer.payload()["inventoryAdjustmentGroup"], Value::Null);
    assert_eq!((store.available("MUG"), store.available("TEE")), (Some(10), Some(4)));
    assert!(store.history().pushes.iter().all(|push| !push.applied));
    assert_eq!((store.stats().stale, store.stats().pushes), (1, 0));
}

/// "Opt out" and "forgot" differ: null sets without a comparison, absence is an error.
#[tokio::test]
async fn null_opts_out_and_absence_is_an_error() {
    let store = open(options()).await;
    assert_eq!(push(&store, "k1", &[row(1, 3, None)]).await.user_errors(), vec![]);
    assert_eq!(store.available("MUG"), Some(3));
    let mut bare = row(1, 9, None);
    bare.as_object_mut().unwrap().remove("changeFromQuantity");
    let answer = push(&store, "k2", &[bare]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body["errors"][0]["extensions"]["code"], "INVALID_VARIABLE");
    assert_eq!(answer.body["data"], Value::Null);
    assert_eq!(store.available("MUG"), Some(3));
}

/// The fields of older versions are gone: a client that still sends them must hear of it.
#[tokio::test]
async fn fields_of_older_versions_are_not_defined() {
    let store = open(options()).await;
    let mut old = row(1, 9, None);
    old["compareQuantity"] = json!(10);
    let answer = push(&store, "k1", &[old]).await;
    assert_eq!(answer.body["errors"][0]["extensions"]["code"], "INVALID_VARIABLE");
    let mut old = input(&[row(1, 9, None)]);
    old["ignoreCompareQuantity"] = json!(true);
    let answer = call(&store, &mutation("k2", &old)).await.unwrap();
    assert_eq!(answer.body["errors"][0]["extensions"]["code"], "INVALID_VARIABLE");
    assert_eq!(store.available("MUG"), Some(10));
}

/// Without the directive nothing may be set, since the call could not be repeated safely.
#[tokio::test]
async fn an_idempotency_key_is_owed() {
    let store = open(options()).await;
    let mut bare = mutation("k1", &input(&[row(1, 3, 10)]));
    let document = bare["query"].as_str().unwrap().replace("@idempotent(key: $key)", "");
    bare["query"] = json!(document);
    let answer = call(&store, &bare).await.unwrap();
    let error = &answer.body["errors"][0];
    assert!(error["message"].as_str().unwrap().contains("@idempotent"), "{error}");
    assert_eq!(store.available("MUG"), Some(10));
    let mut empty = mutation("", &input(&[row(1, 3, 10)]));
    assert!(call(&store, &empty).await.unwrap().body["errors"].is_array());
    empty["variables"].as_object_mut().unwrap().remove("key");
    assert!(call(&store, &empty).await.unwrap().body["errors"].is_array());
    assert_eq!(store.available("MUG"), Some(10));
}

/// A repeated call gets its first answer, even a stale one, and sets nothing again.
#[tokio::test]
async fn the_same_key_replays_and_another_call_under_it_is_refused() {
    let store = open(options()).await;
    let first = push(&store, "k1", &[row(1, 7, 10)]).await;
    store.sell_one("MUG", 2).unwrap();
    let again = push(&store, "k1", &[row(1, 7, 10)]).await;
    assert_eq!(again.payload(), first.payload());
    assert_eq!(store.available("MUG"), Some(5));
    let other = push(&store, "k1", &[row(1, 6, 5)]).await;
    assert_eq!(other.user_errors()[0].0, "IDEMPOTENCY_KEY_PARAMETER_MISMATCH");
    let stale = push(&store, "k2", &[row(1, 6, 9)]).await;
    store.set_available("MUG", 9).unwrap();
    let again = push(&store, "k2", &[row(1, 6, 9)]).await;
    assert_eq!(again.payload(), stale.payload());
    assert_eq!((store.available("MUG"), store.stats().replayed), (Some(9), 2));
}

/// Each wrong value has its own code at its own place, since each needs its own repair.
#[tokio::test]
async fn wrong_values_are_named_where_they_stand() {
    let store = open(options()).await;
    let at = |leaf: &str| json!(["input", "quantities", "0", leaf]);
    let mut nowhere = row(1, 1, None);
    nowhere["locationId"] = json!("gid://shopify/Location/1");
    let cases = [
        (row(9, 1, None), "INVALID_INVENTORY_ITEM", at("inventoryItemId")),
        (nowhere, "INVALID_LOCATION", at("locationId")),
        (row(1, -1, None), "INVALID_QUANTITY_NEGATIVE", at("quantity")),
        (row(1, 1_000_000_001, None), "INVALID_QUANTITY_TOO_HIGH", at("quantity")),
    ];
    for (number, (bad, code, field)) in cases.into_iter().enumerate() {
        let rows = [bad, row(2, 1, None)];
        let answer = push(&store, &format!("k{number}"), &rows).await;
        assert_eq!(answer.user_errors(), [(code.to_owned(), field)]);
    }
    let twice = [row(1, 1, None), row(1, 2, None)];
    let errors = push(&store, "twice", &twice).await.user_errors();
    assert_eq!(errors[0].0, "NO_DUPLICATE_INVENTORY_ITEM_ID_GROUP_ID_PAIR");
    for (name, value, code) in [
        ("name", "committed", "INVALID_NAME"),
        ("reason", "because", "INVALID_REASON"),
        ("referenceDocumentUri", "no uri", "INVALID_REFERENCE_DOCUMENT"),
    ] {
        let mut wrong = input(&[row(1, 1, None)]);
        wrong[name] = json!(value);
        let answer = call(&store, &mutation(name, &wrong)).await.unwrap();
        assert_eq!(answer.user_errors(), [(code.to_owned(), json!(["input", name]))]);
    }
    assert_eq!((store.available("MUG"), store.available("TEE")), (Some(10), Some(5)));
}

/// One row over the limit must not be cut off silently.
#[tokio::test]
async fn at_most_250_rows() {
    let items: Vec<_> =
        (1..=251).map(|n| crate::support::item(&format!("SKU-{n}"), n, 1)).collect();
    let store = open(Options { items, ..options() }).await;
    let rows: Vec<_> = (1..=251).map(|n| row(n, 2, 1)).collect();
    let answer = push(&store, "k1", &rows).await;
    assert_eq!(answer.body["errors"][0]["extensions"]["code"], "MAX_INPUT_SIZE_EXCEEDED");
    assert_eq!(push(&store, "k2", &rows[1..]).await.user_errors(), vec![]);
    assert_eq!((store.available("SKU-1"), store.available("SKU-251")), (Some(1), Some(2)));
    assert_eq!(store.stats().rows, 250);
}

/// Setting what is on hand must leave alone what customers have bought of it.
#[tokio::test]
async fn on_hand_is_available_and_committed() {
    let store = open(options()).await;
    store.sell_one("MUG", 4).unwrap();
    let mut by_hand = input(&[row(1, 20, 10)]);
    by_hand["name"] = json!("on_hand");
    let answer = call(&store, &mutation("k1", &by_hand)).await.unwrap();
    assert_eq!(answer.user_errors(), vec![]);
    assert_eq!(store.available("MUG"), Some(16));
}

/// An empty bucket refuses with HTTP 200 and changes nothing; its numbers tell how long to wait.
#[tokio::test]
async fn an_empty_bucket_throttles() {
    let costs = Costs { maximum_available: 25, restore_rate: 0, ..Costs::default() };
    let store = open(Options { costs, ..options() }).await;
    for (key, quantity) in [("k1", 9), ("k2", 8)] {
        let answer = push(&store, key, &[row(1, quantity, None)]).await;
        assert_eq!(answer.user_errors(), vec![]);
    }
    let answer = push(&store, "k3", &[row(1, 7, None)]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body["errors"][0]["extensions"]["code"], "THROTTLED");
    let cost = &answer.body["extensions"]["cost"];
    assert_eq!(cost["actualQueryCost"], Value::Null);
    assert_eq!(cost["throttleStatus"]["currentlyAvailable"], 5);
    assert_eq!((store.available("MUG"), store.stats().throttled), (Some(8), 1));
}

/// The key of a throttled call is not used up, and the bucket fills again.
#[tokio::test]
async fn a_throttled_key_works_later() {
    let costs = Costs { maximum_available: 10, restore_rate: 200, ..Costs::default() };
    let store = open(Options { costs, ..options() }).await;
    assert_eq!(push(&store, "k1", &[row(1, 9, 10)]).await.user_errors(), vec![]);
    let again = async {
        loop {
            let answer = push(&store, "k2", &[row(1, 8, 9)]).await;
            if answer.body["errors"].is_null() {
                break answer;
            }
        }
    };
    assert_eq!(soon(again).await.user_errors(), vec![]);
    assert_eq!((store.available("MUG"), store.stats().pushes), (Some(8), 2));
}
