//! Promise: what the ledger is asked, it answers: filters, the past, kits, shortfalls, notices.

use crate::support::http::Answer;
use crate::support::{CHANNEL, Cluster, Node, TOKEN, orders, until, until_true};
use serde_json::{Value, json};

async fn send(node: &Node, method: &str, path: &str, body: &Value) -> Answer {
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    node.api(method, path, &headers, body.to_string()).await.unwrap()
}

/// Books movements, all of which must be applied: kind, SKU, quantity, and what else they say.
async fn book(node: &Node, movements: &[(&str, &str, i64, Value)]) {
    let asked = movements.iter().map(|(kind, sku, quantity, more)| {
        let id = format!("m-{}", crate::support::unique());
        let mut asked = json!({ "id": id, "kind": kind, "sku": sku, "quantity": quantity });
        asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        asked
    });
    let body = json!({ "movements": asked.collect::<Vec<_>>(), "atomic": true });
    let answer = send(node, "POST", "/v1/movements", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

async fn skus(node: &Node, query: &str) -> Vec<String> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = node.get(&format!("/v1/stock?limit=2&{query}{cursor}")).await;
        let items = page["items"].as_array().unwrap();
        found.extend(items.iter().map(|item| item["sku"].as_str().unwrap().to_string()));
        let Some(next) = page["next"].as_str() else { return found };
        cursor = format!("&cursor={next}");
    }
}

// A filter that is forgotten on the second page, or looks at all locations where one is named, sends a
// buyer to order what is there.
#[tokio::test(flavor = "multi_thread")]
async fn stock_is_found_by_name_place_and_quantity() {
    let cluster = Cluster::start(1, |_| ()).await;
    let node = &cluster.nodes[0];
    let outlet = || json!({ "location": "outlet" });
    book(
        node,
        &[
            ("receipt", "TEE-M", 5, json!({})),
            ("receipt", "TEE-L", 1, json!({})),
            ("receipt", "TEE-L", 9, outlet()),
            ("receipt", "CUP", 3, outlet()),
            ("receipt", "POT", 2, json!({})),
            ("sale", "POT", 4, json!({})),
            ("receipt", "POT", 7, outlet()),
        ],
    )
    .await;
    let kit =
        json!({ "components": [{ "sku": "POT", "quantity": 1 }, { "sku": "CUP", "quantity": 2 }] });
    assert_eq!(send(node, "PUT", "/v1/skus/TEA-SET", &kit).await.status, 200);
    for (query, expected) in [
        ("", &["CUP", "POT", "TEA-SET", "TEE-L", "TEE-M"][..]),
        ("sku=TE*", &["TEA-SET", "TEE-L", "TEE-M"]),
        ("sku=TEE-?", &["TEE-L", "TEE-M"]),
        ("sku=tee*", &[]),
        ("location=outlet", &["CUP", "POT", "TEA-SET", "TEE-L"]),
        ("location=nowhere", &[]),
        // Over all locations: three cups, five pots, ten and five shirts, and one set less two.
        ("below=5", &["CUP", "TEA-SET"]),
        ("below=6", &["CUP", "POT", "TEA-SET", "TEE-M"]),
        ("below=2&location=main", &["POT", "TEA-SET", "TEE-L"]),
        ("below=2&location=main&sku=T*", &["TEA-SET", "TEE-L"]),
        ("below=0&location=outlet", &[]),
        ("shortfall=true", &["POT", "TEA-SET"]),
        ("shortfall=true&location=main", &["POT", "TEA-SET"]),
        ("shortfall=true&location=outlet", &[]),
        ("shortfall=true&sku=P*&below=6", &["POT"]),
    ] {
        assert_eq!(skus(node, query).await, expected, "{query}");
    }
    for query in ["below=few", "shortfall=perhaps", "limit=-1"] {
        let answer = send(node, "GET", &format!("/v1/stock?{query}"), &json!({})).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text());
    }
    let set = node.get("/v1/stock/TEA-SET").await;
    assert_eq!(set["locations"]["outlet"]["available"], 1, "{set}");
    assert_eq!(set["locations"]["main"]["available"], -2, "{set}");
    assert_eq!(set["available"], -1, "{set}");
    assert!(set["as_of"]["age_ms"].as_u64().is_some(), "{set}");
}

// Whoever asks what was there when a customer complained must get the levels of that moment, not today's.
#[tokio::test(flavor = "multi_thread")]
async fn the_past_is_what_it_was() {
    let cluster = Cluster::start(1, |_| ()).await;
    let node = &cluster.nodes[0];
    let transfer = || json!({ "to_location": "outlet", "reference": "T-1" });
    let steps = [
        ("receipt", 10, json!({})),
        ("incoming", 4, json!({ "reference": "PO-1" })),
        ("sale", 3, json!({})),
        ("receipt", 6, json!({ "reference": "PO-1" })),
        ("transfer", 5, transfer()),
        ("fulfilment", 2, json!({})),
        ("receipt", 5, json!({ "location": "outlet", "reference": "T-1" })),
        ("adjustment", -1, json!({})),
    ];
    let mut past: Vec<Value> = Vec::new();
    for (kind, quantity, more) in steps {
        // Between two movements time must pass, or they are one moment.
        let before = past.last().map(|stock| stock["as_of"]["time"].clone());
        until_true("time goes on", async || {
            book(node, &[("receipt", "CLOCK", 1, json!({}))]).await;
            let now = node.get("/v1/stock/CLOCK").await["as_of"]["time"].clone();
            before.as_ref() != Some(&now)
        })
        .await;
        book(node, &[(kind, "MUG", quantity, more)]).await;
        past.push(node.get("/v1/stock/MUG?consistency=linearizable").await);
    }
    let numbers = |stock: &Value| {
        let names = ["on_hand", "committed", "reserved", "incoming", "available"];
        let of = |level: &Value| names.map(|name| level[name].as_i64().unwrap());
        let outlet = stock["locations"].get("outlet").map_or([0; 5], of);
        (of(stock), of(&stock["locations"]["main"]), outlet)
    };
    for then in &past {
        let time = then["as_of"]["time"].as_str().unwrap();
        let told = node.get(&format!("/v1/stock/MUG?at={time}")).await;
        assert_eq!(numbers(&told), numbers(then), "at {time}: {told}");
        assert_eq!((&told["as_of"]["time"], &told["channels"]), (&json!(time), &json!({})));
    }
    let first = node.get("/v1/stock/MUG?at=2001-01-01T00:00:00Z").await;
    assert_eq!(numbers(&first), ([0; 5], [0; 5], [0; 5]), "{first}");
    assert_eq!(first["as_of"]["index"], 0, "nothing had moved: {first}");
    for at in ["2999-01-01T00:00:00Z", "yesterday", "", "2001-01-01T00:00:00+01:00"] {
        let answer = send(node, "GET", &format!("/v1/stock/MUG?at={at}"), &json!({})).await;
        assert_eq!(answer.status, 422, "{at}: {}", answer.text());
    }
    let missing = send(node, "GET", "/v1/stock/NONE?at=2001-01-01T00:00:00Z", &json!({})).await;
    assert_eq!(missing.status, 404);

    // A kit is what its components were.
    let kit = json!({ "components": [{ "sku": "MUG", "quantity": 2 }] });
    assert_eq!(send(node, "PUT", "/v1/skus/PAIR", &kit).await.status, 200);
    for then in &past {
        let path = format!("/v1/stock/PAIR?at={}", then["as_of"]["time"].as_str().unwrap());
        let pairs = then["locations"]["main"]["available"].as_i64().unwrap().div_euclid(2);
        assert_eq!(node.get(&path).await["locations"]["main"]["available"], pairs);
    }
}

/// Waits for the shortfalls to be so many.
async fn shortfalls(node: &Node, count: usize) -> Vec<Value> {
    until("the shortfalls are as expected", async || {
        let found = node.list("/v1/shortfalls", 1).await;
        (found.len() == count).then_some(found)
    })
    .await
}

// Somebody has to write to the customers who will not get what they bought: the newest ones, by name, and
// no longer than they wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_shortfall_names_its_orders_and_closes_by_itself() {
    let cluster = Cluster::start(1, |_| ()).await;
    let node = &cluster.nodes[0];
    book(node, &[("receipt", "MUG", 4, json!({})), ("receipt", "CUP", 1, json!({}))]).await;
    let low = json!({ "low_at": 1 });
    assert_eq!(send(node, "PUT", "/v1/skus/MUG", &low).await.status, 200);
    let held = json!({ "sku": "MUG", "quantity": 1, "ttl_s": 3600, "reference": "cart-1" });
    let held = send(node, "POST", "/v1/reservations", &held).await.json();
    // Three of four are left: the first order is served, the second misses one of two, the third all.
    for (order, units) in [(71_000, 2), (72_000, 2), (73_000, 3)] {
        assert_eq!(node.webhook(&orders::create(order, "MUG", units)).await.unwrap().status, 200);
        let path = format!("/v1/orders/{CHANNEL}/{order}");
        until("the order is in the ledger", async || node.try_get(&path).await).await;
    }
    book(node, &[("adjustment", "CUP", -3, json!({}))]).await;
    let found = shortfalls(node, 2).await;
    let (cup, mug) = (&found[0], &found[1]);
    assert_eq!((&cup["units"], &cup["untraced"]), (&json!(2), &json!(2)), "nobody waits: {cup}");
    assert_eq!((&mug["units"], &mug["location"]), (&json!(4), &json!("main")), "{mug}");
    let named: Vec<_> = mug["orders"].as_array().unwrap().iter().collect();
    let told = |n: usize| (named[n]["order"].as_str(), named[n]["missing"].as_i64());
    assert_eq!(told(0), (Some("73000"), Some(3)), "{mug}");
    assert_eq!(told(1), (Some("72000"), Some(1)), "{mug}");
    assert_eq!((named.len(), &named[1]["quantity"]), (2, &json!(2)), "{mug}");
    assert_eq!(named[0]["channel"], CHANNEL, "{mug}");

    let metrics = send(node, "GET", "/metrics", &json!({})).await.text();
    for line in
        ["stockraft_skus_short 2", "stockraft_units_short 6", "stockraft_reservations_held 1"]
    {
        assert!(metrics.lines().any(|said| said == line), "{line}: {metrics}");
    }

    // What was cancelled waits no longer; a sale through the API and a reservation do.
    assert_eq!(node.webhook(&orders::refund(73_000, "MUG", 3, 3)).await.unwrap().status, 200);
    let sale = |reference: &str| json!({ "reference": reference });
    book(node, &[("sale", "MUG", 2, sale("walk-in")), ("sale", "MUG", 1, sale("gone"))]).await;
    book(node, &[("cancellation", "MUG", 1, sale("gone"))]).await;
    let mug = until("only four are missing", async || {
        let found = node.list("/v1/shortfalls", 5).await;
        (found[1]["units"] == 3).then(|| found[1].clone())
    })
    .await;
    let named = mug["orders"].as_array().unwrap();
    assert_eq!((&named[0]["reference"], &named[0]["missing"]), (&json!("walk-in"), &json!(2)));
    assert_eq!((&named[1]["order"], &named[1]["missing"]), (&json!("72000"), &json!(1)), "{mug}");
    book(node, &[("adjustment", "MUG", -3, json!({}))]).await;
    let mug = shortfalls(node, 2).await[1].clone();
    let last = mug["orders"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["order"], &mug["untraced"]), (&json!("71000"), &json!(0)), "{mug}");
    book(node, &[("adjustment", "MUG", -1, json!({}))]).await;
    let mug = shortfalls(node, 2).await[1].clone();
    let last = mug["orders"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&last["reservation"], &last["reference"]),
        (&held["id"], &json!("cart-1")),
        "{mug}"
    );

    book(node, &[("receipt", "MUG", 50, json!({})), ("receipt", "CUP", 2, json!({}))]).await;
    shortfalls(node, 0).await;
    let notices = node.list("/v1/notices", 1).await;
    let of_mug = notices.iter().filter(|notice| notice["sku"] == "MUG");
    let events: Vec<&str> = of_mug.map(|notice| notice["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["low", "shortfall", "covered"], "{notices:?}");
}

// The order of the locations decides where reservations draw from; a typing error must not replace it.
#[tokio::test(flavor = "multi_thread")]
async fn locations_are_ranked() {
    let cluster = Cluster::start(1, |_| ()).await;
    let node = &cluster.nodes[0];
    let ranked = json!({ "locations": ["outlet", "main"] });
    let answer = send(node, "PUT", "/v1/locations", &ranked).await;
    assert_eq!((answer.status, answer.json()), (200, ranked.clone()));
    for wrong in [json!(["a", "a"]), json!([""]), json!(["x".repeat(257)]), json!("main")] {
        let answer = send(node, "PUT", "/v1/locations", &json!({ "locations": wrong })).await;
        assert_eq!(answer.status, 422, "{}", answer.text());
    }
    assert_eq!(node.get("/v1/locations").await, ranked);
    book(node, &[("receipt", "MUG", 1, json!({}))]).await;
    assert_eq!(node.get("/v1/stock/MUG").await["locations"]["outlet"]["on_hand"], 1);
}
