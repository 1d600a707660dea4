//! Promise: each request gets the answer that senders and clients may rely on, and no other.

use std::collections::BTreeSet;

use crate::support::http::{Answer, Http};
use crate::support::orders::{self, Webhook};
use crate::support::{CHANNEL, Cluster, Node, READER, SECRET, TOKEN, WRITER, raw, unique, until};
use marketplace::shopify::sign;
use serde_json::{Value, json};

async fn alone() -> Cluster {
    Cluster::start(1, |_| ()).await
}

fn order_id() -> u64 {
    9_000_000_000_000_000 + unique() * 10
}

/// Sends a body to a path of the public listener.
async fn send(
    node: &Node,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let body = body.to_string().into();
    Http::new().request(node.ports[0], method, path, headers, body).await.unwrap()
}

async fn applied(node: &Node, order: u64) -> Value {
    let path = format!("/v1/orders/{CHANNEL}/{order}");
    until("an order is in the ledger", async || node.try_get(&path).await).await
}

// A sender stops, retries or disables its webhook depending on the status: which of several faults is
// answered must not depend on luck, and nothing may be stored before the signature was verified.
#[tokio::test(flavor = "multi_thread")]
async fn faults_of_a_webhook_are_answered_in_order() {
    let cluster = alone().await;
    let node = &cluster.nodes[0];
    let (good, unknown) = (format!("/webhooks/{CHANNEL}"), "/webhooks/nowhere");
    let huge = "9".repeat((1 << 20) + 1);
    let encoded = ("content-encoding", "gzip");
    // Each request has all the faults that are answered later as well.
    for (method, path, headers, body, expected) in [
        ("GET", unknown, &[encoded][..], &huge, 405),
        ("PUT", &good, &[encoded], &huge, 405),
        ("POST", unknown, &[encoded], &huge, 404),
        ("POST", "/elsewhere", &[], &huge, 404),
        ("POST", &good, &[encoded], &huge, 413),
        ("POST", &good, &[encoded], &"{}".to_string(), 415),
        ("POST", &good, &[("content-encoding", "identity")], &"{}".to_string(), 401),
    ] {
        // A refusal may come before the whole body went out, which a plain client takes as a failure.
        let length = ("content-length", body.len().to_string());
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_string()));
        let headers: Vec<_> = headers.chain([length]).collect();
        let request = raw::request(method, path, &headers, body);
        let (status, answer) = raw::send(node.ports[0], request.as_bytes()).await;
        assert_eq!(status, expected, "{method} {path} {headers:?}: {answer}");
    }
    // Without a length, bytes are counted.
    let head = format!(
        "POST {good} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let request = [head.as_bytes(), &raw::chunked(huge.as_bytes())].concat();
    let (status, answer) = raw::send(node.ports[0], &request).await;
    assert_eq!(status, 413, "{answer}");
    // Too many bytes of headers, and too many of them.
    let long = vec![("x-long", "y".repeat(70_000))];
    let many = vec![("x-many", "y".to_string()); 200];
    for headers in [long, many] {
        let request = raw::request("POST", &good, &headers, "");
        let (status, answer) = raw::send(node.ports[0], request.as_bytes()).await;
        assert_eq!(status, 431, "{answer}");
    }
    let status = node.get("/cluster/status").await;
    assert_eq!((&status["accepted"], &status["deliveries"]), (&json!(0), &json!(0)), "{status}");
}

// Whoever guesses signatures must not learn from the answer how near a guess was.
#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_signature_is_answered_the_same() {
    let cluster = alone().await;
    let node = &cluster.nodes[0];
    let order = order_id();
    let webhook = orders::create(order, "MUG", 1);
    let body = String::from_utf8(webhook.body.to_vec()).unwrap();
    let right = sign::signature(SECRET, body.as_bytes());
    let forged = sign::signature("another secret entirely", body.as_bytes());
    let claims = [None, Some(""), Some("?"), Some("AAAA"), Some(&right[..40]), Some(&forged)];
    let mut answers = Vec::new();
    for claim in claims {
        let mut headers = vec![("x-shopify-topic", "orders/create"), ("x-shopify-webhook-id", "w")];
        headers.extend(claim.map(|claim| ("x-shopify-hmac-sha256", claim)));
        let answer = send(node, "POST", &format!("/webhooks/{CHANNEL}"), &headers, &body).await;
        answers.push((answer.status, answer.body, answer.headers.len()));
    }
    assert_eq!(answers[0].0, 401);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(node.get("/cluster/status").await["accepted"], 0);
}

// A sale that cannot be understood is still a sale: dropping it loses it, and refusing it for days makes
// the sender disable the webhook.
#[tokio::test(flavor = "multi_thread")]
async fn authentic_webhooks_are_answered_2xx_and_kept() {
    let cluster = alone().await;
    let node = &cluster.nodes[0];
    let order = order_id();
    let webhook = orders::create(order, "MUG", 3);
    let id = format!("{CHANNEL}:{}", webhook.id);
    for _ in 0..3 {
        let answer = node.webhook(&webhook).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json(), json!({ "accepted": true, "id": id }));
    }
    // Nobody received this SKU: it exists from now on, and is short.
    let known = applied(node, order).await;
    let line = &known["lines"][orders::line_id(order).to_string()];
    assert_eq!(
        (&line["sku"], &line["ordered"], &line["committed"]),
        (&json!("MUG"), &json!(3), &json!(3))
    );
    let stock = node.get("/v1/stock/MUG?consistency=linearizable").await;
    assert_eq!((&stock["available"], &stock["shortfall"]), (&json!(-3), &json!(3)), "{stock}");
    assert_eq!(node.list("/v1/stock/MUG/movements", 10).await.len(), 1);

    let shown = Webhook::new("shop/redact", "shown", r#"{"id": 4}"#);
    let answer = node.webhook(&shown).await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.json()["ignored"].is_string(), "{}", answer.text());

    let bodies =
        ["this is no JSON", r#"{"id": 5, "updated_at": "2026-11-20T10:00:00Z"}"#, "\u{1f4e6}"];
    for (n, body) in bodies.iter().enumerate() {
        let dead = Webhook::new("orders/create", format!("dead-{n}"), body.to_string());
        let answer = node.webhook(&dead).await.unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text());
        assert!(answer.json()["dead_letter"].is_string(), "{}", answer.text());
        assert_eq!(answer.json()["accepted"], true);
    }
    let letters = until("the dead letters are listed", async || {
        let letters = node.list("/v1/topics/deliveries/dead", 2).await;
        (letters.len() == bodies.len()).then_some(letters)
    })
    .await;
    for body in bodies {
        assert!(letters.iter().any(|letter| letter["body"] == body), "{body}: {letters:?}");
    }

    // One id with two bodies: neither is dropped without a word.
    let mut other = orders::create(order + 1, "MUG", 1);
    other.id = webhook.id;
    assert_eq!(node.webhook(&other).await.unwrap().status, 200);
    until("the conflict is listed", async || {
        let letters = node.list("/v1/topics/deliveries/dead", 100).await;
        letters
            .iter()
            .any(|letter| letter["reason"].as_str().unwrap().contains("conflict"))
            .then_some(())
    })
    .await;
}

// A node that belongs to no cluster could answer 200 for what nobody will ever agree on.
#[tokio::test(flavor = "multi_thread")]
async fn before_there_is_a_cluster_senders_are_told_to_come_back() {
    let mut cluster = Cluster::plan(1, |_| ());
    cluster.nodes[0].start().await;
    let node = &cluster.nodes[0];
    let webhook = orders::create(order_id(), "MUG", 1);
    let answer = node.webhook(&webhook).await.unwrap();
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0));
    let ready = node.api("GET", "/readyz", &[], "").await.unwrap();
    assert_eq!(ready.status, 503);
    assert!(!ready.json()["reasons"].as_array().unwrap().is_empty(), "{}", ready.text());
    for port in [node.ports[0], node.ports[1]] {
        let alive = Http::new().request(port, "GET", "/healthz", &[], "".into()).await.unwrap();
        assert_eq!(alive.status, 200, "the process lives");
    }
    crate::support::found(&[node]).await;
    assert_eq!(node.webhook(&webhook).await.unwrap().status, 200);
    let again = node.post("/cluster/init", &json!({})).await;
    assert_eq!(again.status, 409, "a cluster is founded once: {}", again.text());
}

async fn with_token(node: &Node, method: &str, path: &str, token: &str, body: &str) -> Answer {
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    node.api(method, path, &headers, body.to_string()).await.unwrap()
}

fn assert_problem(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/problem+json", "{}", answer.text());
    let problem = answer.json();
    assert_eq!(problem["status"], status, "{problem}");
    for field in ["type", "title", "detail"] {
        assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
    }
}

// A route without a guard lets anybody change stock; an error in another shape breaks every client.
#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_closed_and_says_no_in_one_shape() {
    let cluster = alone().await;
    let node = &cluster.nodes[0];
    let api = node.api("GET", "/openapi.json", &[], "").await.unwrap();
    let api = api.json();
    let open = BTreeSet::from(["/", "/docs", "/healthz", "/readyz", "/openapi.json"]);
    let mut routes = 0;
    for (path, methods) in api["paths"].as_object().unwrap() {
        let concrete = path.replace("{id}", "7").replace(['{', '}'], "");
        for method in methods.as_object().unwrap().keys().map(|method| method.to_uppercase()) {
            routes += 1;
            let answer = node.api(&method, &concrete, &[], "").await.unwrap();
            if open.contains(path.as_str()) {
                assert_eq!(answer.status, 200, "{method} {path}");
            } else {
                assert_problem(&answer, 401);
                assert_eq!(answer.header("www-authenticate"), "Bearer");
                assert_problem(
                    &with_token(node, &method, &concrete, "a wrong token", "").await,
                    401,
                );
            }
        }
    }
    assert!(routes >= 25, "only {routes} routes are described");
    for path in [
        "/v1/stock",
        "/v1/stock/{sku}",
        "/v1/stock/{sku}/movements",
        "/v1/movements",
        "/v1/shortfalls",
        "/v1/notices",
        "/v1/locations",
        "/v1/export",
        "/v1/reservations",
        "/v1/reservations/{id}",
        "/v1/reservations/{id}/confirm",
        "/v1/reservations/{id}/release",
        "/v1/reservations/{id}/extend",
        "/v1/orders/{channel}/{order}",
        "/v1/topics/{topic}/dead",
        "/v1/skus/{sku}",
        "/v1/policies",
        "/v1/explain/{channel}/{sku}",
        "/v1/allocations/rebalance",
        "/v1/channels",
        "/v1/channels/{channel}",
        "/cluster/status",
        "/cluster/init",
        "/cluster/members",
        "/cluster/members/{id}/promote",
        "/cluster/members/{id}/demote",
        "/cluster/members/{id}",
        "/cluster/transfer-leadership",
        "/cluster/snapshot",
        "/metrics",
        "/readyz",
    ] {
        assert!(api["paths"][path].is_object(), "{path} is not described");
    }
    let booking = r#"{"movements": [{"id": "m", "kind": "receipt", "sku": "A", "quantity": 1}]}"#;
    assert_problem(&with_token(node, "POST", "/v1/movements", READER, booking).await, 403);
    assert_problem(&with_token(node, "GET", "/v1/stock", WRITER, "").await, 403);
    assert_problem(&with_token(node, "POST", "/cluster/snapshot", WRITER, "").await, 403);
    assert_problem(&with_token(node, "POST", "/cluster/snapshot", READER, "").await, 403);
    assert_eq!(with_token(node, "GET", "/v1/stock", READER, "").await.status, 200);
    assert_eq!(with_token(node, "POST", "/v1/movements", WRITER, booking).await.status, 200);
    assert_problem(&with_token(node, "GET", "/nothing/here", TOKEN, "").await, 404);
    assert_problem(&with_token(node, "GET", "/v1/stock/NO-SUCH", TOKEN, "").await, 404);
    assert_problem(&with_token(node, "DELETE", "/v1/stock", TOKEN, "").await, 405);
}

// A body that is wrong in its shape must be refused as a document too, whatever part of it is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_cannot_be_understood_change_nothing() {
    let cluster = alone().await;
    let node = &cluster.nodes[0];
    for (method, path, body) in [
        ("POST", "/v1/movements", "no JSON"),
        ("POST", "/v1/movements", r#"{"movements": []}"#),
        ("POST", "/v1/movements", r#"{"movements": [], "atomc": true}"#),
        (
            "POST",
            "/v1/movements",
            r#"{"movements": [{"id": "m", "kind": "gift", "sku": "A", "quantity": 1}]}"#,
        ),
        (
            "POST",
            "/v1/movements",
            r#"{"movements": [{"id": "", "kind": "receipt", "sku": "A", "quantity": 1}]}"#,
        ),
        (
            "POST",
            "/v1/movements",
            r#"{"movements": [{"id": "m", "kind": "receipt", "sku": "A", "quantity": 1.5}]}"#,
        ),
        ("PUT", "/v1/skus/A", "no JSON"),
        ("PUT", "/v1/policies", "{}"),
        ("PUT", "/v1/channels/x", "[]"),
        ("POST", "/cluster/members", r#"{"id": "seven"}"#),
        ("POST", "/cluster/transfer-leadership", "{}"),
        ("GET", "/v1/stock?limit=many", ""),
        ("GET", "/v1/stock?limti=1", ""),
        ("GET", "/v1/topics/orders.created/dead?limit=1&raeson=x", ""),
        ("DELETE", "/v1/channels/x?abandn=true", ""),
        ("PUT", "/v1/skus/A?abandn=true", "{}"),
        ("GET", "/v1/stock/A?consistency=perfect", ""),
        ("GET", "/v1/stock/A?at=yesterday", ""),
        ("GET", "/v1/export?what=all", ""),
        ("GET", "/v1/export?format=xml", ""),
        ("GET", "/v1/notices?cursor=first", ""),
        ("PUT", "/v1/locations", r#"{"locations": "main"}"#),
        ("POST", "/cluster/members/seven/promote", ""),
    ] {
        let answer = with_token(node, method, path, TOKEN, body).await;
        assert!([400, 422].contains(&answer.status), "{method} {path} {body}: {}", answer.text());
        assert_problem(&answer, answer.status);
    }
    assert_eq!(node.list("/v1/stock", 10).await, Vec::<Value>::new());
}

async fn book(node: &Node, key: Option<&str>, body: &Value) -> (u16, Value) {
    let authorization = format!("Bearer {TOKEN}");
    let mut headers = vec![("authorization", authorization.as_str())];
    headers.extend(key.map(|key| ("idempotency-key", key)));
    let answer = node.api("POST", "/v1/movements", &headers, body.to_string()).await.unwrap();
    (answer.status, answer.json())
}

fn outcomes(answer: &Value) -> Vec<&str> {
    let results = answer["results"].as_array().unwrap();
    results.iter().map(|result| result["outcome"].as_str().unwrap()).collect()
}

// A client that got no answer sends again: the second time must change nothing and say the same.
#[tokio::test(flavor = "multi_thread")]
async fn movements_are_applied_once_each_and_together_when_asked() {
    let cluster = alone().await;
    let node = &cluster.nodes[0];
    let movement = |id: &str, kind: &str, sku: &str, quantity: i64| json!({ "id": id, "kind": kind, "sku": sku, "quantity": quantity });
    let receipt = json!({ "movements": [movement("m1", "receipt", "CUP", 10)] });
    let (status, first) = book(node, Some("key-1"), &receipt).await;
    assert_eq!((status, outcomes(&first)), (200, vec!["applied"]));
    let (status, again) = book(node, Some("key-1"), &receipt).await;
    assert_eq!((status, &again["results"]), (200, &first["results"]), "the first answer again");
    let other = json!({ "movements": [movement("m2", "receipt", "CUP", 10)] });
    let (status, problem) = book(node, Some("key-1"), &other).await;
    assert_eq!(status, 422, "{problem}");

    let mixed = json!({ "movements": [
        movement("m1", "receipt", "CUP", 10),
        movement("m1", "receipt", "CUP", 11),
        movement("m3", "sale", "NO-SUCH", 1),
        movement("m4", "sale", "CUP", 4),
        movement("m5", "adjustment", "CUP", -1),
    ] });
    let (status, answer) = book(node, None, &mixed).await;
    let expected = ["duplicate", "conflict", "rejected", "applied", "applied"];
    assert_eq!((status, outcomes(&answer)), (200, expected.to_vec()), "{answer}");
    let stock = node.get("/v1/stock/CUP?consistency=linearizable").await;
    let numbers =
        ["on_hand", "committed", "available", "shortfall"].map(|name| stock[name].as_i64());
    assert_eq!(numbers, [Some(9), Some(4), Some(5), Some(0)], "{stock}");

    let all = json!({ "atomic": true, "movements": [
        movement("m6", "receipt", "CUP", 100), movement("m7", "sale", "NO-SUCH", 1),
    ] });
    let (status, answer) = book(node, None, &all).await;
    assert_eq!(status, 409, "{answer}");
    let after = node.get("/v1/stock/CUP?consistency=linearizable").await;
    assert_eq!(after["on_hand"], 9, "all or none: {after}");
    let fits = json!({ "atomic": true, "movements": [
        movement("m6", "receipt", "CUP", 100), movement("m8", "sale", "CUP", 1),
    ] });
    let (status, answer) = book(node, None, &fits).await;
    assert_eq!((status, outcomes(&answer)), (200, vec!["applied", "applied"]));

    let mut transfer = movement("m9", "transfer", "CUP", 5);
    transfer["to_location"] = json!("shop");
    transfer["reference"] = json!("T-1");
    book(node, None, &json!({ "movements": [transfer] })).await;
    let stock = node.get("/v1/stock/CUP").await;
    assert_eq!(stock["locations"]["main"]["on_hand"], 104, "{stock}");
    assert_eq!(stock["locations"]["shop"]["incoming"], 5, "{stock}");
    let lines = node.list("/v1/stock/CUP/movements", 2).await;
    let indexes: Vec<u64> = lines.iter().map(|line| line["index"].as_u64().unwrap()).collect();
    assert!(indexes.is_sorted_by(|a, b| a >= b), "newest first: {indexes:?}");
    assert_eq!(lines.len(), 6, "{lines:?}");
}

// A read on a follower right after a write through another node shows the past, unless it waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_linearizable_read_shows_what_was_answered_anywhere() {
    let cluster = Cluster::start(3, |_| ()).await;
    for n in 0..30 {
        let (here, there) = (&cluster.nodes[n % 3], &cluster.nodes[(n + 1) % 3]);
        let id = format!("r-{n}");
        let receipt = json!({ "id": id, "kind": "receipt", "sku": "PEN", "quantity": 1 });
        let (status, _) = book(here, None, &json!({ "movements": [receipt] })).await;
        assert_eq!(status, 200);
        let stock = there.get("/v1/stock/PEN?consistency=linearizable").await;
        assert_eq!(stock["on_hand"].as_u64(), Some(u64::try_from(n).unwrap() + 1));
    }
}

// A deploy stops nodes all day: each must finish what it began, end cleanly, and say how it is doing.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_shows_its_health_and_ends_when_it_is_told_to() {
    let mut cluster = alone().await;
    let node = &cluster.nodes[0];
    assert_eq!(node.webhook(&orders::create(order_id(), "MUG", 1)).await.unwrap().status, 200);
    let ready = node.api("GET", "/readyz?leader", &[], "").await.unwrap();
    assert_eq!((ready.status, &ready.json()["ready"]), (200, &json!(true)));
    let metrics = with_token(node, "GET", "/metrics", READER, "").await;
    assert_eq!(metrics.status, 200);
    let text = metrics.text();
    assert!(!text.contains(SECRET) && !text.contains(TOKEN), "a secret is in the metrics");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("stockraft_") && value.parse::<f64>().is_ok(), "{line}");
    }
    let channel = node.get(&format!("/v1/channels/{CHANNEL}")).await;
    assert!(!channel.to_string().contains(SECRET), "a secret is shown: {channel}");
    let rate = json!({ "per_second": 2.0, "burst": 40, "available": null });
    assert_eq!((&channel["rate"], &channel["last_push"]), (&rate, &json!(null)), "nobody pushes");

    let ended = cluster.nodes[0].stop().await;
    assert_eq!(ended.code(), Some(0), "{}", cluster.nodes[0].log());
    assert!(!cluster.nodes[0].log().contains(SECRET), "a secret is logged");
    cluster.nodes[0].start().await;
    let stock = cluster.nodes[0].get("/v1/stock/MUG?consistency=linearizable").await;
    assert_eq!(stock["committed"], 1, "what was agreed on is there: {stock}");
}
