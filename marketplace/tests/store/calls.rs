//! Everything of the Admin API around the mutation: the token, reading back, and what it refuses.

use marketplace::{Costs, Options};
use serde_json::{Value, json};

use crate::support::{LOCATION, call, item_gid, open, options, send};

/// The document that reads many levels back at once.
const READ: &str = "query Read($ids: [ID!]!, $locationId: ID!) { nodes(ids: $ids) { ... on \
    InventoryItem { id inventoryLevel(locationId: $locationId) { quantities(names: [\"available\"]) \
    { name quantity } } } } }";

/// A read-back that shows the wrong row, or drops one it does not know, would confirm a wrong push.
#[tokio::test]
async fn levels_read_back_in_order() {
    let store = open(options()).await;
    store.sell_one("TEE", 2).unwrap();
    let ids = json!([item_gid(2), "gid://shopify/InventoryItem/1", item_gid(1)]);
    let body = json!({"query": READ, "variables": {"ids": ids, "locationId": LOCATION}});
    let answer = call(&store, &body).await.unwrap();
    let level = |number, quantity| {
        json!({"id": item_gid(number), "inventoryLevel":
            {"quantities": [{"name": "available", "quantity": quantity}]}})
    };
    assert_eq!(answer.body["data"]["nodes"], json!([level(2, 3), null, level(1, 10)]));
    assert_eq!(answer.body["extensions"]["cost"]["actualQueryCost"], 9);
    assert_eq!(answer.headers["x-shopify-api-version"], "2026-04");
}

/// One item, with an alias, at the right location and at a wrong one.
#[tokio::test]
async fn one_level_reads_back() {
    let store = open(options()).await;
    let document = "query($id: ID!, $l: ID!) { thing: inventoryItem(id: $id) { sku \
        inventoryLevel(locationId: $l) { quantities(names: [\"available\", \"on_hand\"]) \
        { name quantity } } } }";
    let read = |location: &str| json!({"query": document, "variables": {"id": item_gid(1), "l": location}});
    let answer = call(&store, &read(LOCATION)).await.unwrap();
    let thing = &answer.body["data"]["thing"];
    assert_eq!(thing["sku"], "MUG");
    assert_eq!(
        thing["inventoryLevel"]["quantities"][1],
        json!({"name": "on_hand", "quantity": 10})
    );
    let answer = call(&store, &read("gid://shopify/Location/1")).await.unwrap();
    assert_eq!(answer.body["data"]["thing"]["inventoryLevel"], Value::Null);
}

/// A client with a wrong token, path or body must see the status that it would see for real.
#[tokio::test]
async fn wrong_doors_answer_with_a_status() {
    let store = open(options()).await;
    let body = json!({"query": READ}).to_string();
    let token = store.options().access_token.clone();
    let url = store.admin_url();
    assert_eq!(send(&url, "shpat_wrong", body.clone()).await.unwrap().status, 401);
    let other = url.replace("2026-04", "2024-01");
    assert_eq!(send(&other, &token, body).await.unwrap().status, 404);
    assert_eq!(send(&url, &token, "not a call".to_owned()).await.unwrap().status, 400);
    let huge = "x".repeat(2 * 1024 * 1024);
    // The connection may break before the answer is read, since the rest of the body is not taken.
    assert!(send(&url, &token, huge).await.map_or(413, |answer| answer.status) == 413);
    assert_eq!(store.stats().unauthorized, 1);
}

/// What the simulation does not know it must not pretend to do.
#[tokio::test]
async fn unknown_operations_and_fields_are_errors() {
    let store = open(options()).await;
    for (document, name) in [
        ("mutation { inventoryActivate(inventoryItemId: 1) { ok } }", "inventoryActivate"),
        ("{ shop { name } }", "shop"),
        ("{ nodes(ids: []) { id price } }", "price"),
        ("{ inventorySetQuantities(input: {}) { userErrors { code } } }", "inventorySetQuantities"),
    ] {
        let answer = call(&store, &json!({"query": document})).await.unwrap();
        assert_eq!(answer.status, 200);
        let extensions = &answer.body["errors"][0]["extensions"];
        assert_eq!(
            (&extensions["code"], &extensions["fieldName"]),
            (&json!("undefinedField"), &json!(name))
        );
    }
    let answer = call(&store, &json!({"query": "query {"})).await.unwrap();
    assert!(answer.body["errors"][0]["message"].is_string());
    assert_eq!(answer.body["data"], Value::Null);
}

/// A call dearer than any call may be is refused without a charge.
#[tokio::test]
async fn a_call_that_costs_too_much_is_refused() {
    let store =
        open(Options { costs: Costs { call_max: 5, ..Costs::default() }, ..options() }).await;
    let ids = json!([item_gid(1), item_gid(2)]);
    let body = json!({"query": READ, "variables": {"ids": ids, "locationId": LOCATION}});
    let answer = call(&store, &body).await.unwrap();
    assert_eq!(answer.body["errors"][0]["extensions"]["code"], "MAX_COST_EXCEEDED");
    let status = &answer.body["extensions"]["cost"]["throttleStatus"];
    assert_eq!(status["currentlyAvailable"], 2000);
}
