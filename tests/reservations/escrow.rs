//! Escrow: a region grants from its quota also while it is cut off, never beyond it, and nothing twice.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::{Value, json};

use super::support::book::ledger;
use super::support::http::Answer;
use super::support::links::{Cut, Links};
use super::support::{Cluster, Node, TOKEN, agree, until, until_true};

const UNITS: i64 = 30;
const QUOTA: i64 = 4;

async fn put(node: &Node, path: &str, body: &Value) {
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let answer = node.api("PUT", path, &headers, body.to_string()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Asks to hold one cup for an hour, under a key, until there is an answer other than "not now".
async fn hold(node: &Node, key: &str) -> Answer {
    let authorization = format!("Bearer {TOKEN}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
        ("idempotency-key", key),
    ];
    let body = json!({ "sku": "CUP", "quantity": 1, "ttl_s": 3600 }).to_string();
    until("there is an answer", async || {
        let answer = node.api("POST", "/v1/reservations", &headers, body.clone()).await.ok()?;
        (answer.status != 503).then_some(answer)
    })
    .await
}

fn id_of(answer: &Answer) -> String {
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["id"].as_str().unwrap().into()
}

async fn quota_of(seen_by: &Node, node: &Node) -> i64 {
    let stock = seen_by.get("/v1/stock/CUP").await;
    stock["quotas"]["main"][node.id.to_string()].as_i64().unwrap_or(0)
}

async fn change(node: &Node, id: &str, what: &str) -> Answer {
    node.post(&format!("/v1/reservations/{id}/{what}"), &json!({})).await
}

/// Three nodes with a quota each.
async fn three() -> (Cluster, Links) {
    let mut cluster = Cluster::plan(3, |_| ());
    let links = Links::before(&mut cluster).await;
    for node in &mut cluster.nodes {
        node.start().await;
    }
    links.know(&cluster.nodes);
    super::support::found(&cluster.nodes.iter().collect::<Vec<_>>()).await;
    let receipt = json!({ "movements": [
        { "id": "opening", "kind": "receipt", "sku": "CUP", "quantity": UNITS, "location": "main" },
    ] });
    assert_eq!(cluster.nodes[0].post("/v1/movements", &receipt).await.status, 200);
    put(&cluster.nodes[0], "/v1/skus/CUP", &json!({ "escrow": { "max": 3 * QUOTA } })).await;
    for node in &cluster.nodes {
        until_true("it has a quota", async || quota_of(node, node).await == QUOTA).await;
    }
    (cluster, links)
}

// A region that is cut off and grants what others grant as well sells the same unit twice; one that forgets at
// a restart what it granted does so too. And one that grants nothing loses the sales that escrow is for.
#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_is_cut_off_grants_its_quota_and_no_more() {
    let (mut cluster, links) = three().await;
    let leader = cluster.leader().await;
    let alone = (leader + 1) % 3;
    links.set(Cut::Around(cluster.nodes[alone].id));

    let mut here = BTreeSet::new();
    let first = Instant::now();
    for n in 0..QUOTA {
        here.insert(id_of(&hold(&cluster.nodes[alone], &format!("alone-{n}")).await));
    }
    println!("{QUOTA} were granted alone in {:?}", first.elapsed());
    let refused = hold(&cluster.nodes[alone], "alone-beyond").await;
    let kind = refused.json()["type"].clone();
    assert_eq!((refused.status, kind.as_str()), (409, Some("insufficient_stock")));
    assert!(refused.text().contains("region's quota"), "{}", refused.text());
    let again = hold(&cluster.nodes[alone], "alone-0").await;
    assert!(here.contains(&id_of(&again)) && here.len() == 4, "{}", again.text());

    // It goes on with them by itself; what it let go it does not grant again before the others know.
    let mut ids = here.iter();
    let (sold, gone, held) = (ids.next().unwrap(), ids.next().unwrap(), ids.next().unwrap());
    let answer = change(&cluster.nodes[alone], sold, "confirm").await;
    assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("confirmed")));
    let answer = change(&cluster.nodes[alone], sold, "release").await;
    assert_eq!(answer.json()["type"], "reservation_ended");
    let answer = change(&cluster.nodes[alone], gone, "release").await;
    assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("released")));
    assert_eq!(hold(&cluster.nodes[alone], "alone-released").await.status, 409);

    // The others sell all that is not there.
    let mut others = 0;
    let mut asked = 0;
    until_true("the others have nothing left", async || {
        for n in (0..3).filter(|n| *n != alone) {
            asked += 1;
            let answer = hold(&cluster.nodes[n], &format!("others-{asked}")).await;
            others += i64::from(answer.status == 201);
        }
        others >= UNITS - QUOTA
    })
    .await;
    for n in (0..3).filter(|n| *n != alone) {
        assert_eq!(hold(&cluster.nodes[n], &format!("others-last-{n}")).await.status, 409);
    }
    assert_eq!(others, UNITS - QUOTA);

    cluster.nodes[alone].kill();
    cluster.nodes[alone].start().await;
    links.know(&cluster.nodes);
    let node = &cluster.nodes[alone];
    assert_eq!(hold(node, "alone-restarted").await.status, 409);
    assert_eq!(id_of(&hold(node, "alone-0").await), id_of(&again));
    assert_eq!(node.get(&format!("/v1/reservations/{sold}")).await["status"], "confirmed");
    assert_eq!(node.get(&format!("/v1/reservations/{held}")).await["status"], "held");

    links.set(Cut::Nothing);
    cluster.settle().await;
    for node in &cluster.nodes {
        ledger(node).await;
        let stock = node.get("/v1/stock/CUP").await;
        let number = |name: &str| stock[name].as_i64().unwrap();
        // Of the four one was sold and one let go, which is there for whoever comes first.
        let left = number("escrowed") + number("available");
        assert_eq!((number("committed"), number("reserved"), left), (1, others + 2, 1), "{stock}");
        assert_eq!(id_of(&hold(node, "alone-0").await), id_of(&again));
    }
    // Any node may go on with what one of them granted.
    let answer = change(&cluster.nodes[leader], held, "confirm").await;
    assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("confirmed")));
    until_true("its holder knows", async || {
        let known = cluster.nodes[alone].get(&format!("/v1/reservations/{held}")).await;
        known["status"] == "confirmed"
    })
    .await;
}

// What a destroyed region had left would be lost to everybody, or be sold while it lives; and a hold whose time
// is over must not take from its region for ever.
#[tokio::test(flavor = "multi_thread")]
async fn quota_comes_back_when_it_is_let_go_or_its_region_is_destroyed() {
    let (mut cluster, _links) = three().await;
    let node = &cluster.nodes[0];
    // What is more than is left here is asked of the others.
    let body = json!({ "sku": "CUP", "quantity": 2 * QUOTA, "ttl_s": 60 });
    let answer = node.post("/v1/reservations", &body).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let body = json!({ "sku": "CUP", "quantity": QUOTA, "ttl_s": 1 });
    let answer = node.post("/v1/reservations", &body).await;
    let (held, id) = (answer.json(), id_of(&answer));
    assert_eq!(held["status"], "held", "{held}");
    until_true("it ends by itself", async || {
        node.get(&format!("/v1/reservations/{id}")).await["status"] == "expired"
    })
    .await;
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    let metrics = node.api("GET", "/metrics", &headers, "").await.unwrap().text();
    for said in ["stockraft_escrow_granted_total 1\n", "stockraft_escrow_beyond_total 1\n"] {
        assert!(metrics.contains(said), "{metrics}");
    }

    let leader = cluster.leader().await;
    let mut gone = cluster.nodes.remove((leader + 1) % 3);
    gone.kill();
    let others: Vec<&Node> = cluster.nodes.iter().collect();
    // What it still told is known by then.
    agree(&others).await;
    let before = quota_of(others[0], &gone).await;
    assert!(before > 0, "it has nothing to lose");
    let path = format!("/cluster/members/{}", gone.id);
    // Of a new disk that nobody has heard of it would give up nothing, and say that it is done.
    let former = others[0].post(&format!("{path}/former-disk-destroyed"), &json!({})).await;
    let (status, why) = (former.status, former.json());
    assert_eq!((status, &why["type"]), (409, &json!("new_disk_unknown")), "{why}");
    until_true("it is removed", async || {
        let asked = others[0].api("DELETE", &path, &headers, "").await;
        asked.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    assert_eq!(quota_of(others[0], &gone).await, before, "nobody said that it is destroyed");
    let path = format!("{path}?destroyed=true");
    until_true("its quota comes back", async || {
        let asked = others[0].api("DELETE", &path, &headers, "").await;
        asked.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    assert_eq!(quota_of(others[0], &gone).await, 0);
    agree(&others).await;
    for node in others {
        ledger(node).await;
    }
}
