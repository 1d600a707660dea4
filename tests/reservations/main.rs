//! Promise: a reservation is granted only if it can be kept, by whichever node it is asked for, while
//! nodes die and networks break.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod linearizable;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use linearizable::{Operation, Seen, explain};
use serde_json::{Value, json};
use support::http::{Answer, Http};
use support::links::{Cut, Links};
use support::{Cluster, TOKEN, random, until_true};

const UNITS: i64 = 9;
const CLIENTS: u64 = 5;

/// What all clients share.
struct World {
    ports: Vec<u16>,
    clock: AtomicU64,
    seen: Mutex<Vec<Operation>>,
    done: AtomicUsize,
    repeated: AtomicUsize,
    stop: AtomicBool,
}

impl World {
    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    async fn until_done(&self, more: usize) {
        let target = self.done.load(Ordering::SeqCst) + more;
        until_true("clients go on", async || self.done.load(Ordering::SeqCst) >= target).await;
    }
}

/// One client: it asks any node, and the next one when it gets no answer to work with, under the same
/// idempotency key.
struct Client {
    world: Arc<World>,
    http: Http,
    random: u64,
    serial: u64,
    name: u64,
    held: Vec<(String, i64)>,
}

impl Client {
    async fn run(mut self) -> Vec<(String, i64)> {
        while !self.world.stop.load(Ordering::SeqCst) {
            let from = self.world.now();
            let seen = match random(&mut self.random, 10) {
                0..5 => self.hold().await,
                5..8 => self.let_go().await,
                _ => Some(self.read().await),
            };
            let to = self.world.now();
            let Some(seen) = seen else { continue };
            self.world.seen.lock().unwrap().push(Operation { from, to, seen });
            self.world.done.fetch_add(1, Ordering::SeqCst);
        }
        self.held
    }

    async fn hold(&mut self) -> Option<Seen> {
        let units = 1 + i64::try_from(random(&mut self.random, 3)).unwrap();
        let body = json!({ "sku": "CUP", "quantity": units, "ttl_s": 3600 });
        let answer = self.ask("POST", "/v1/reservations", &body).await;
        match answer.status {
            201 => {
                let id = answer.json()["id"].as_str().unwrap().to_string();
                self.held.push((id, units));
                Some(Seen::Held(units))
            }
            409 => Some(Seen::Refused(units)),
            _ => panic!("{}", answer.text()),
        }
    }

    async fn let_go(&mut self) -> Option<Seen> {
        if self.held.is_empty() {
            return None;
        }
        let count = u64::try_from(self.held.len()).unwrap();
        let which = usize::try_from(random(&mut self.random, count)).unwrap();
        let (id, units) = self.held.swap_remove(which);
        let path = format!("/v1/reservations/{id}/release");
        let answer = self.ask("POST", &path, &Value::Null).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        Some(Seen::LetGo(units))
    }

    async fn read(&mut self) -> Seen {
        let answer = self.ask("GET", "/v1/stock/CUP?consistency=linearizable", &Value::Null).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        Seen::Available(answer.json()["available"].as_i64().unwrap())
    }

    /// Asks until there is an answer other than "not now".
    async fn ask(&mut self, method: &str, path: &str, body: &Value) -> Answer {
        self.serial += 1;
        let key = format!("{}-{}", self.name, self.serial);
        let authorization = format!("Bearer {TOKEN}");
        let headers =
            [("authorization", authorization.as_str()), ("idempotency-key", key.as_str())];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        loop {
            let nodes = u64::try_from(self.world.ports.len()).unwrap();
            let node = usize::try_from(random(&mut self.random, nodes)).unwrap();
            let port = self.world.ports[node];
            let asked = self.http.request(port, method, path, &headers, body.clone().into()).await;
            match asked {
                Ok(answer) if answer.status < 500 => return answer,
                _ => {
                    self.world.repeated.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
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

    let world = Arc::new(World {
        ports: cluster.nodes.iter().map(|node| node.ports[1]).collect(),
        clock: AtomicU64::new(0),
        seen: Mutex::default(),
        done: AtomicUsize::new(0),
        repeated: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
    });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|name| {
            let (world, http) = (Arc::clone(&world), Http::new());
            let client = Client { world, http, random: name, serial: 0, name, held: Vec::new() };
            tokio::spawn(client.run())
        })
        .collect();

    world.until_done(40).await;
    for _ in 0..2 {
        let leader = cluster.leader().await;
        cluster.nodes[leader].kill();
        world.until_done(30).await;
        cluster.nodes[leader].start().await;
        links.know(&cluster.nodes);
        world.until_done(20).await;
        let leader = cluster.leader().await;
        links.set(Cut::Around(cluster.nodes[leader].id));
        world.until_done(30).await;
        links.set(Cut::Nothing);
        world.until_done(20).await;
    }
    world.stop.store(true, Ordering::SeqCst);
    let mut held = Vec::new();
    for client in clients {
        held.extend(client.await.unwrap());
    }
    cluster.settle().await;

    let seen = world.seen.lock().unwrap().clone();
    let count = |what: fn(&Seen) -> bool| seen.iter().filter(|op| what(&op.seen)).count();
    let granted = count(|seen| matches!(seen, Seen::Held(_)));
    let refused = count(|seen| matches!(seen, Seen::Refused(_)));
    let repeated = world.repeated.load(Ordering::SeqCst);
    println!(
        "{} operations: {granted} granted, {refused} refused, {repeated} repeated",
        seen.len()
    );
    assert!(granted > 20 && refused > 5 && repeated > 0, "nothing was at stake");
    assert!(explain(&seen, UNITS).is_some(), "no order explains it: {seen:#?}");
    let reserved: i64 = held.iter().map(|(_, units)| units).sum();
    for node in &cluster.nodes {
        let stock = node.get("/v1/stock/CUP").await;
        assert_eq!(stock["reserved"].as_i64(), Some(reserved), "{stock}");
        assert_eq!(stock["available"].as_i64(), Some(UNITS - reserved), "{stock}");
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
