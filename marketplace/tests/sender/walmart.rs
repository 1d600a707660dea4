//! Walmart: three tries, strings for numbers, and an API with another shape.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use marketplace::{
    history::Progress,
    sender::{Kind, Options, Sender, WalmartAuth},
};
use serde_json::{Value, json};

use crate::support::{
    Answered, Receiver, Seen, add, busy, call, distinct, hmac_sha256, open, options, settle,
    sha256_hex, soon, truth,
};

fn walmart() -> Options {
    options(Kind::Walmart)
}

async fn token(sender: &Sender) -> String {
    let Options { api_id, api_secret, .. } = sender.options();
    let user = format!("Basic {}", STANDARD.encode(format!("{api_id}:{api_secret}")));
    let url = format!("{}/v3/token", sender.url());
    let headers = [("Authorization", user.as_str())];
    let answer = call("POST", &url, &headers, "grant_type=client_credentials").await.unwrap();
    assert_eq!((answer.status, &answer.body["expires_in"]), (200, &json!(900)), "{answer:?}");
    answer.body["access_token"].as_str().unwrap().to_owned()
}

async fn get(sender: &Sender, token: &str, path: &str) -> Answered {
    let headers = [
        ("WM_SEC.ACCESS_TOKEN", token),
        ("WM_QOS.CORRELATION_ID", "1"),
        ("WM_SVC.NAME", "Walmart Marketplace"),
    ];
    call("GET", &format!("{}{path}", sender.url()), &headers, "").await.unwrap()
}

/// Credentials that only look right would let a receiver that never checks them pass.
#[tokio::test]
async fn every_event_shows_the_password() {
    let receiver = Receiver::open(|_, _| 200).await;
    let sender = open(&receiver, Options { secret: "p:w".into(), ..walmart() }).await;
    let order = sender.sell(&[("MUG", 2), ("TEE", 1)]).unwrap();
    sender.reduce(order, "TEE", 1, true).unwrap();
    sender.cancel(order).unwrap();
    soon(sender.drained()).await;
    let seen = receiver.seen();
    for seen in &seen {
        assert_eq!(seen.header("authorization"), "Basic d206cDp3");
    }
    let mut bodies: Vec<Value> = seen.iter().map(Seen::json).collect();
    bodies.sort_by_key(|body| body["source"]["eventTime"].to_string());
    let types: Vec<_> = bodies.iter().map(|b| b["source"]["eventType"].as_str()).collect();
    let cancelled = Some("PO_LINE_AUTOCANCELLED");
    assert_eq!(types, [Some("PO_CREATED"), cancelled, cancelled]);
    assert_eq!(distinct(bodies.iter().map(|body| body["source"]["eventId"].to_string())), 3);
    let created = &bodies[0]["payload"];
    assert_eq!(created["purchaseOrderId"], sender.order_name(order).unwrap());
    assert_eq!(created["orderLines"][0]["quantity"]["measurementValue"], "2");
    let one = bodies[1]["payload"]["orderLines"].as_array().unwrap();
    assert_eq!((one.len(), &one[0]["lineNumber"]), (1, &json!("2")));
    assert_eq!(one[0]["status"], "CANCELLED");
    let all = bodies[2]["payload"]["orderLines"].as_array().unwrap();
    assert!(all.len() == 2 && all.iter().all(|line| line["status"] == "CANCELLED"));
}

/// A signature that leaves the path or the time out could be used again elsewhere.
#[tokio::test]
async fn the_signature_covers_path_time_and_body() {
    let receiver = Receiver::open(|_, _| 200).await;
    let walmart_auth = WalmartAuth::Signature;
    let sender = open(&receiver, Options { walmart_auth, ..walmart() }).await;
    sender.set_targets(&[format!("{}?x=1", receiver.url)]).unwrap();
    sender.sell(&[("MUG", 2)]).unwrap();
    soon(sender.drained()).await;
    let seen = receiver.seen().remove(0);
    let hash = sha256_hex(&seen.body);
    let time = seen.header("wm_sec.timestamp");
    let text = format!("POST\n/hooks/north?x=1\n{time}\n{hash}");
    let wanted = hmac_sha256(sender.options().secret.as_bytes(), text.as_bytes());
    assert_eq!(seen.header("wm_sec.signature"), STANDARD.encode(wanted));
    assert!(!seen.headers.contains_key("authorization"));
}

/// The newer event names its cause in one of two places; a reader must find both.
#[tokio::test]
async fn the_newer_event_names_its_cause_in_two_places() {
    let receiver = Receiver::open(|_, _| 200).await;
    let sender = open(&receiver, Options { walmart_order_updates: true, ..walmart() }).await;
    // Ids go up by two an order of one line: one more line makes the next one odd.
    sender.sell(&[("MUG", 1), ("TEE", 1)]).unwrap();
    sender.sell(&[("MUG", 1)]).unwrap();
    soon(sender.drained()).await;
    let bodies: Vec<Value> = receiver.seen().iter().map(Seen::json).collect();
    assert!(bodies.iter().all(|body| body["source"]["eventType"] == "ORDER_UPDATES"));
    let count = |path: &str| {
        bodies.iter().filter(|body| body.pointer(path) == Some(&json!("PO_CREATED"))).count()
    };
    assert_eq!((count("/payload/meta/subEventType"), count("/payload/subEventType")), (1, 1));
    assert!(bodies.iter().all(|body| body["payload"]["order"]["orderLines"].is_array()));
}

/// A fourth try would hide that the third was the last.
#[tokio::test]
async fn there_are_three_tries() {
    let receiver = Receiver::open(|_, _| 503).await;
    let sender = open(&receiver, walmart()).await;
    sender.sell(&[("MUG", 1)]).unwrap();
    soon(sender.drained()).await;
    let seen = receiver.seen();
    assert_eq!((seen.len(), distinct(seen.iter().map(|seen| seen.body.clone()))), (3, 1));
    assert_eq!(sender.webhooks()[0].progress, Progress::GivenUp);
}

/// What was dropped, and what is never told, must be found by polling, or stock is lost.
#[tokio::test]
async fn the_api_adds_up_to_what_is_expected() {
    let receiver = Receiver::open(|_, _| 200).await;
    let sender = open(&receiver, busy(Kind::Walmart)).await;
    settle(&sender, true).await;
    let token = token(&sender).await;
    let first = "?createdStartDate=2020-01-01&lastModifiedStartDate=2020-01-01T00:00:00Z&limit=4";
    let mut next = Some(first.to_owned());
    let (mut sums, mut pages) = (BTreeMap::new(), 0);
    while let Some(query) = next {
        let page = get(&sender, &token, &format!("/v3/orders{query}")).await;
        assert_eq!(page.status, 200, "{page:?}");
        let list = &page.body["list"];
        for order in list["elements"]["order"].as_array().unwrap() {
            for line in order["orderLines"]["orderLine"].as_array().unwrap() {
                let amount =
                    |value: &Value| value["amount"].as_str().unwrap().parse::<i64>().unwrap();
                let statuses = line["orderLineStatuses"]["orderLineStatus"].as_array().unwrap();
                let units = |wanted: &str| {
                    let of = statuses.iter().filter(|status| status["status"] == wanted);
                    of.map(|status| amount(&status["statusQuantity"])).sum()
                };
                let sold = amount(&line["orderLineQuantity"]);
                let counts = [sold, units("Cancelled"), 0, units("Shipped")];
                add(&mut sums, line["item"]["sku"].as_str().unwrap(), counts);
            }
        }
        next = list["meta"]["nextCursor"].as_str().map(str::to_owned);
        pages += 1;
    }
    assert_eq!(sums, truth(&sender));
    assert_eq!(pages, sender.stats().orders.div_ceil(4));
}

/// A door that is always open would hide a client without a token.
#[tokio::test]
async fn the_api_wants_a_token_and_its_headers() {
    let sender = Sender::start(walmart()).await.unwrap();
    let order = sender.sell(&[("MUG", 1)]).unwrap();
    assert_eq!(get(&sender, "x", "/v3/orders").await.status, 401);
    let token = token(&sender).await;
    let url = format!("{}/v3/orders", sender.url());
    let bare = call("GET", &url, &[("WM_SEC.ACCESS_TOKEN", &token)], "").await.unwrap();
    assert_eq!(bare.status, 400);
    let single = format!("/v3/orders/{}", sender.order_name(order).unwrap());
    let single = get(&sender, &token, &single).await.body;
    assert_eq!(single["order"]["purchaseOrderId"].as_str().unwrap().len(), 13);
    assert!(single["order"]["orderDate"].is_i64());
    for (path, status) in [
        ("/v3/orders/1", 404),
        ("/v3/orders?limit=201", 400),
        ("/v3/orders?createdStartDate=soon", 400),
        ("/v3/items", 404),
    ] {
        let refused = get(&sender, &token, path).await;
        assert_eq!((refused.status, refused.body["errors"][0]["code"].is_string()), (status, true));
    }
    let later = get(&sender, &token, "/v3/orders?lastModifiedStartDate=2999-01-01").await;
    assert_eq!(later.body["list"]["meta"]["totalCount"], 0);
    let url = format!("{}/v3/token", sender.url());
    assert_eq!(call("POST", &url, &[], "grant_type=client_credentials").await.unwrap().status, 401);
}

async fn put(sender: &Sender, token: &str, sku: &str, body: Value) -> Answered {
    let headers = [
        ("WM_SEC.ACCESS_TOKEN", token),
        ("WM_QOS.CORRELATION_ID", "1"),
        ("WM_SVC.NAME", "Walmart Marketplace"),
    ];
    let url = format!("{}/v3/inventory?sku={sku}", sender.url());
    call("PUT", &url, &headers, &body.to_string()).await.unwrap()
}

fn told(sku: &str, amount: i64) -> Value {
    json!({"sku": sku, "quantity": {"unit": "EACH", "amount": amount}})
}

/// A channel that shows what it is told, and not what it is told less what is reserved, hides a seller who
/// deducts open orders twice, or not at all.
#[tokio::test]
async fn what_is_reserved_is_taken_off() {
    let warehouse = marketplace::Warehouse::open([("MUG", 5)]);
    let options = Options { warehouse: Some(warehouse.clone()), ..walmart() };
    let sender = Sender::start(options).await.unwrap();
    let token = token(&sender).await;
    let first = sender.sell(&[("MUG", 2)]).unwrap();
    let answer = put(&sender, &token, "MUG", told("MUG", 6)).await;
    assert_eq!((answer.status, answer.body), (200, told("MUG", 6)));
    let node = |body: Value| {
        let of = |name: &str| body["nodes"][0][name]["amount"].as_i64().unwrap();
        (of("inputQty"), of("availToSellQty"), of("reservedQty"))
    };
    let single = get(&sender, &token, "/v3/inventories/MUG").await.body;
    assert_eq!((node(single), sender.available("MUG")), ((6, 4, 2), Some(4)));
    sender.ship(first).unwrap();
    let single = get(&sender, &token, "/v3/inventories/MUG").await.body;
    assert_eq!(node(single), (4, 4, 0));
    assert!(sender.sell(&[("MUG", 5)]).is_err());
    sender.sell(&[("MUG", 4)]).unwrap();
    assert_eq!(warehouse.oversold_units(), 1);
    let page = get(&sender, &token, "/v3/inventories?limit=1").await.body;
    assert_eq!(page["elements"]["inventories"][0]["sku"], "MUG");
    let cursor = page["meta"]["nextCursor"].as_str().unwrap();
    let next = format!("/v3/inventories?limit=1&nextCursor={cursor}");
    let page = get(&sender, &token, &next).await.body;
    assert_eq!(
        (&page["elements"]["inventories"][0]["sku"], &page["meta"]["nextCursor"]),
        (&json!("TEE"), &Value::Null)
    );
    let told_to = sender.pushes();
    assert_eq!((told_to.len(), told_to[0].to), (1, 4));
    for (sku, body, status) in
        [("NO", told("NO", 1), 404), ("MUG", told("TEE", 1), 400), ("MUG", told("MUG", -1), 400)]
    {
        let refused = put(&sender, &token, sku, body).await;
        assert_eq!((refused.status, refused.body["errors"][0]["code"].is_string()), (status, true));
    }
}

/// The limit must be told as Walmart tells it, and a token must end.
#[tokio::test]
async fn too_many_calls_and_old_tokens_are_refused() {
    let rate = Some(marketplace::sender::Rate { per_second: 1, burst: 2 });
    let sender = Sender::start(Options { rate, ..walmart() }).await.unwrap();
    let token = token(&sender).await;
    sender.expire_tokens();
    assert_eq!(put(&sender, &token, "MUG", told("MUG", 1)).await.status, 401);
    let refused = put(&sender, &token, "MUG", told("MUG", 1)).await;
    assert_eq!(
        (refused.status, &refused.headers["x-current-token-count"]),
        (429, &"0".parse().unwrap())
    );
    let at: i64 = refused.headers["x-next-replenish-time"].to_str().unwrap().parse().unwrap();
    assert!((0..=2_000).contains(&(at - marketplace::clock::now_ms())), "{at}");
    assert!(sender.pushes().is_empty());
}
