//! Promise: a reservation is granted only if it can be kept, by whichever node it is asked for, while
//! nodes die and networks break.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod escrow;

use serde_json::json;
use support::holders::Holders;
use support::http::{Doors, Http};
use support::linearizable::{Operation, Seen, explain};
use support::links::{Cut, Links};
use support::{Cluster, until_true};

const UNITS: i64 = 9;
const CLIENTS: u64 = 5;

// A checker that lets everything pass proves nothing.
#[test]
fn what_cannot_have_happened_is_found() {
    let op = |from, to, seen| Operation { from, to, seen };
    let held_twice = [op(0, 9, Seen::Held(2)), op(0, 9, Seen::Held(2))];
    assert_eq!(explain(&held_twice, 4).map(|order| order.len()), Some(2));
    assert_eq!(explain(&held_twice, 3), None);
    // A reading from before what it must know of.
    let stale = [op(0, 1, Seen::Held(1)), op(2, 3, Seen::Available(1))];
    assert_eq!(explain(&stale, 1), None);
    let at_once = [op(0, 3, Seen::Held(1)), op(2, 3, Seen::Available(1))];
    assert_eq!(explain(&at_once, 1), Some(vec![1, 0]));
    // Refused, though everything had been let go before.
    let refused = [op(0, 1, Seen::LetGo(2)), op(2, 3, Seen::Refused(2))];
    assert_eq!(explain(&refused, 0), None);
}

// Two nodes that each believe to lead, a replica that is behind, or a request that is sent twice could
// grant the same unit twice, or refuse one that is there.
#[tokio::test(flavor = "multi_thread")]
async fn reservations_are_linearizable() {
    let mut cluster = Cluster::plan(3, |_| ());
    let links = Links::before(&mut cluster).await;
    for node in &mut cluster.nodes {
        node.start().await;
    }
    links.know(&cluster.nodes);
    support::found(&cluster.nodes.iter().collect::<Vec<_>>()).await;
    let receipt = json!({ "movements": [
        { "id": "opening", "kind": "receipt", "sku": "CUP", "quantity": UNITS },
    ] });
    assert_eq!(cluster.nodes[0].post("/v1/movements", &receipt).await.status, 200);

    let doors: Vec<u16> = cluster.nodes.iter().map(|node| node.ports[1]).collect();
    let holders =
        Holders::start(CLIENTS, &["CUP".into()], usize::MAX, &Doors::new(&doors), &Http::new());
    holders.more(40).await;
    for _ in 0..2 {
        let leader = cluster.leader().await;
        cluster.nodes[leader].kill();
        holders.more(30).await;
        cluster.nodes[leader].start().await;
        links.know(&cluster.nodes);
        holders.more(20).await;
        let leader = cluster.leader().await;
        links.set(Cut::Around(cluster.nodes[leader].id));
        holders.more(30).await;
        links.set(Cut::Nothing);
        holders.more(20).await;
    }
    let report = holders.stop().await;
    cluster.settle().await;

    let granted = report.count(|seen| matches!(seen, Seen::Held(_)));
    let refused = report.count(|seen| matches!(seen, Seen::Refused(_)));
    println!("{granted} granted, {refused} refused, {} asked again", report.repeated);
    assert!(granted > 20 && refused > 5 && report.repeated > 0, "nothing was at stake");
    assert_eq!(report.is_linearizable(UNITS), Ok(()));
    for node in &cluster.nodes {
        report.check(node, UNITS).await;
    }
}

// A hold that outlives its time keeps units from being sold; one that ends early breaks a promise; and a
// restart, or another leader, must not start its time again.
#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_ends_by_agreed_time() {
    let mut cluster = Cluster::start(3, |_| ()).await;
    let receipt = json!({ "movements": [
        { "id": "opening", "kind": "receipt", "sku": "CUP", "quantity": 2 },
    ] });
    assert_eq!(cluster.nodes[0].post("/v1/movements", &receipt).await.status, 200);
    let hold = async |ttl_s: u64, node: usize| {
        let body = json!({ "sku": "CUP", "quantity": 1, "ttl_s": ttl_s, "reference": "cart" });
        let answer = cluster.nodes[node].post("/v1/reservations", &body).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()
    };
    let (short, long) = (hold(2, 0).await, hold(3600, 1).await);
    let body = json!({ "sku": "CUP", "quantity": 1, "ttl_s": 60 });
    let refused = cluster.nodes[2].post("/v1/reservations", &body).await;
    assert_eq!(
        (refused.status, refused.json()["type"].as_str()),
        (409, Some("insufficient_stock"))
    );

    let leader = cluster.leader().await;
    cluster.nodes[leader].kill();
    cluster.nodes[leader].start().await;
    let id = short["id"].as_str().unwrap();
    until_true("the short one ends by itself", async || {
        let known = cluster.nodes[leader].try_get(&format!("/v1/reservations/{id}")).await;
        known.is_some_and(|known| known["status"] == "expired")
    })
    .await;
    let known = cluster.nodes[leader].get(&format!("/v1/reservations/{id}")).await;
    assert!(known["ended_at"].as_str() >= short["expires_at"].as_str(), "{known}");
    let late = cluster.nodes[0].post(&format!("/v1/reservations/{id}/confirm"), &json!({})).await;
    assert_eq!((late.status, late.json()["type"].as_str()), (409, Some("reservation_ended")));

    let id = long["id"].as_str().unwrap();
    let sold = cluster.nodes[0].post(&format!("/v1/reservations/{id}/confirm"), &json!({})).await;
    assert_eq!((sold.status, sold.json()["status"].as_str()), (200, Some("confirmed")));
    cluster.settle().await;
    let stock = cluster.nodes[2].get("/v1/stock/CUP").await;
    let numbers =
        ["on_hand", "committed", "reserved", "available"].map(|name| stock[name].as_i64());
    assert_eq!(numbers, [Some(2), Some(1), Some(0), Some(1)]);
}
