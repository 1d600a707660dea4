//! Promise: what is held for one is sold to nobody else, for as long as was agreed and no longer.

use crate::support::http::Answer;
use crate::support::{CHANNEL, Cluster, Node, TOKEN, orders, stockraft, until};
use serde_json::{Value, json};

async fn send(node: &Node, method: &str, path: &str, key: Option<&str>, body: &Value) -> Answer {
    let authorization = format!("Bearer {TOKEN}");
    let mut headers = vec![("authorization", authorization.as_str())];
    headers.extend(key.map(|key| ("idempotency-key", key)));
    node.api(method, path, &headers, body.to_string()).await.unwrap()
}

async fn hold(node: &Node, key: Option<&str>, body: &Value) -> (u16, Value) {
    let answer = send(node, "POST", "/v1/reservations", key, body).await;
    (answer.status, answer.json())
}

async fn receive(node: &Node, sku: &str, quantity: i64) {
    let id = format!("m-{}", crate::support::unique());
    let movement = json!({ "id": id, "kind": "receipt", "sku": sku, "quantity": quantity });
    let answer = node.post("/v1/movements", &json!({ "movements": [movement] })).await;
    assert_eq!(answer.json()["results"][0]["outcome"], "applied", "{}", answer.text());
}

async fn reserved(node: &Node, sku: &str) -> (i64, i64) {
    let stock = node.get(&format!("/v1/stock/{sku}?consistency=linearizable")).await;
    (stock["reserved"].as_i64().unwrap(), stock["available"].as_i64().unwrap())
}

// A shop that got no answer asks again: it must not hold the units twice, nor be told that there are none,
// whichever node it asks.
#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_asked_for_twice_is_made_once() {
    let cluster = Cluster::start(3, |_| ()).await;
    let [here, there, _] = &cluster.nodes[..] else { panic!() };
    receive(here, "MUG", 3).await;
    let body = json!({ "sku": "MUG", "quantity": 2, "ttl_s": 600, "reference": "cart-1" });
    let (status, first) = hold(here, Some("cart-1"), &body).await;
    assert_eq!((status, &first["status"]), (201, &json!("held")), "{first}");
    let (status, again) = hold(there, Some("cart-1"), &body).await;
    assert_eq!((status, &again), (201, &first), "the first answer again");
    let other = json!({ "sku": "MUG", "quantity": 1, "ttl_s": 600 });
    assert_eq!(hold(there, Some("cart-1"), &other).await.0, 422, "another body under the key");
    assert_eq!(reserved(there, "MUG").await, (2, 1));
    let (status, problem) = hold(there, Some("cart-2"), &body).await;
    assert_eq!((status, &problem["type"]), (409, &json!("insufficient_stock")), "{problem}");
    // A no is repeated too, even where there would be enough by now.
    receive(here, "MUG", 9).await;
    assert_eq!(hold(here, Some("cart-2"), &body).await.0, 409);
    let confirm = format!("/v1/reservations/{}/confirm", first["id"].as_str().unwrap());
    for part in [json!({ "lines": [{ "sku": "MUG", "quantity": 1 }] }), json!({})] {
        for node in [here, there] {
            let key = part.to_string();
            let answer = send(node, "POST", &confirm, Some(&key), &part).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }
    let stock = here.get("/v1/stock/MUG?consistency=linearizable").await;
    assert_eq!((&stock["committed"], &stock["reserved"]), (&json!(2), &json!(0)), "{stock}");
}

// Units that stay held for a customer who went away are never sold to anybody.
#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_ends_by_itself() {
    let cluster = Cluster::start(1, |_| ()).await;
    let node = &cluster.nodes[0];
    receive(node, "MUG", 1).await;
    let (_, held) = hold(node, None, &json!({ "sku": "MUG", "quantity": 1, "ttl_s": 1 })).await;
    let path = format!("/v1/reservations/{}", held["id"].as_str().unwrap());
    // Nothing else happens meanwhile that would bring the time along.
    let ended = until("the reservation has expired", async || {
        let known = node.get(&path).await;
        (known["status"] == "expired").then_some(known)
    })
    .await;
    assert!(ended["ended_at"].as_str() >= ended["expires_at"].as_str(), "not before: {ended}");
    assert_eq!(reserved(node, "MUG").await, (0, 1));
    let late = send(node, "POST", &format!("{path}/confirm"), None, &json!({})).await;
    assert_eq!((late.status, &late.json()["type"]), (409, &json!("reservation_ended")));
    let lines = node.list("/v1/stock/MUG/movements", 10).await;
    let kinds: Vec<_> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["release", "hold", "receipt"]);
    assert_eq!(lines[0]["reason"], "expired");
}

// A kit that is counted apart from its components sells the same cup twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_kit_is_sold_and_held_by_its_components() {
    let cluster = Cluster::start(1, |_| ()).await;
    let node = &cluster.nodes[0];
    receive(node, "CUP", 7).await;
    receive(node, "POT", 3).await;
    let parts = json!([{ "sku": "CUP", "quantity": 2 }, { "sku": "POT", "quantity": 1 }]);
    let kit = send(node, "PUT", "/v1/skus/SET", None, &json!({ "components": parts })).await;
    assert_eq!(kit.status, 200, "{}", kit.text());
    let set = node.get("/v1/stock/SET").await;
    assert_eq!((&set["available"], &set["on_hand"]), (&json!(3), &json!(0)), "{set}");
    assert_eq!(set["locations"]["main"]["available"], 3, "{set}");

    assert_eq!(node.webhook(&orders::create(81_000, "SET", 1)).await.unwrap().status, 200);
    let path = format!("/v1/orders/{CHANNEL}/81000");
    until("the order is in the ledger", async || node.try_get(&path).await).await;
    let (status, held) =
        hold(node, None, &json!({ "sku": "SET", "quantity": 2, "ttl_s": 60 })).await;
    assert_eq!((status, &held["lines"][0]["held"]), (201, &json!(2)), "{held}");
    assert_eq!(reserved(node, "CUP").await, (4, 1));
    assert_eq!(reserved(node, "POT").await, (2, 0));
    assert_eq!(node.get("/v1/stock/SET").await["available"], 0);
    let (status, _) = hold(node, None, &json!({ "sku": "SET", "quantity": 1, "ttl_s": 60 })).await;
    assert_eq!(status, 409);

    // What is missing is named by the order of the kit, in units of the component.
    let taken = json!([{ "id": "lost", "kind": "adjustment", "sku": "POT", "quantity": -3 }]);
    node.post("/v1/movements", &json!({ "movements": taken })).await;
    let short = node.list("/v1/shortfalls", 10).await;
    assert_eq!((short.len(), &short[0]["units"]), (1, &json!(3)), "{short:?}");
    let waiting = &short[0]["orders"];
    assert_eq!((&waiting[0]["reservation"], &waiting[0]["missing"]), (&held["id"], &json!(2)));
    assert_eq!((&waiting[1]["order"], &waiting[1]["missing"]), (&json!("81000"), &json!(1)));
}

// Whoever helps a customer on the telephone does it by hand.
#[tokio::test(flavor = "multi_thread")]
async fn reservations_are_made_and_ended_by_hand() {
    let cluster = Cluster::start(1, |_| ()).await;
    let node = &cluster.nodes[0];
    receive(node, "MUG", 5).await;
    let run = |arguments: &[&str], code: i32| {
        let mut command = stockraft();
        command.arg("reservation").args(arguments).env("STOCKRAFT_TOKEN", TOKEN);
        command.env("STOCKRAFT_NODE", format!("http://127.0.0.1:{}", node.ports[1]));
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}{error}");
        said
    };
    let made = run(&["create", "MUG=3", "--ttl", "10m", "--output", "json"], 0);
    let made: Value = serde_json::from_str(&made).unwrap();
    let id = made["id"].as_str().unwrap();
    run(&["create", "MUG=3"], 1);
    run(&["create", "MUG"], 2);
    assert!(run(&["list"], 0).contains(id));
    run(&["extend", id, "--ttl", "1h"], 0);
    run(&["confirm", id, "MUG=1", "--reference", "order-9"], 0);
    assert!(run(&["release", id], 0).contains("released"));
    assert!(run(&["get", id], 0).contains("order-9"));
    let stock = node.get("/v1/stock/MUG").await;
    assert_eq!((&stock["committed"], &stock["reserved"]), (&json!(1), &json!(0)), "{stock}");
}
