//! Those who use the API, and those who must not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use marketplace::Warehouse;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::stores;
use crate::support::book::ledger;
use crate::support::http::{Doors, Http};
use crate::support::orders;
use crate::support::wan::Wan;
use crate::support::{CHANNEL, Node, READER, TOKEN, random};
use crate::world::{OUTSIDE, REGIONS, World};

/// Between two movements, and between two attacks.
const PACE: Duration = Duration::from_millis(250);
/// What no honest client ever names.
const FORGED: &str = "FORGED";

/// Opening stock of what is held.
pub(crate) async fn receive(world: &World, skus: &[String], units: i64) {
    let receipt = |sku: &String| json!({ "id": format!("opening-{sku}"), "kind": "receipt", "sku": sku, "quantity": units });
    for skus in skus.chunks(100) {
        let receipts: Vec<Value> = skus.iter().map(receipt).collect();
        let body = json!({ "movements": receipts, "atomic": true }).to_string();
        world.ask("POST", "/v1/movements", &body).await;
    }
}

/// Somebody who receives goods, asks again until there is an answer, and sometimes after it.
pub(crate) struct Movers {
    stop: Arc<AtomicBool>,
    mover: JoinHandle<Vec<Moved>>,
}

/// One movement that was answered.
pub(crate) struct Moved {
    id: String,
    sku: String,
    units: i64,
}

impl Movers {
    pub(crate) fn start(world: &World, seed: u64, http: &Http) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mover = Mover {
            apis: world.apis.clone(),
            warehouse: world.warehouse.clone(),
            http: http.clone(),
            random: seed,
        };
        Self { stop: Arc::clone(&stop), mover: tokio::spawn(mover.run(stop)) }
    }

    pub(crate) async fn stop(self) -> Vec<Moved> {
        self.stop.store(true, Ordering::Relaxed);
        self.mover.await.unwrap()
    }
}

struct Mover {
    apis: Doors,
    warehouse: Warehouse,
    http: Http,
    random: u64,
}

impl Mover {
    async fn run(mut self, stop: Arc<AtomicBool>) -> Vec<Moved> {
        let skus: Vec<String> = (0..5).map(|n| format!("SKU-{n}")).chain(stores::skus()).collect();
        let mut moved = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let which = random(&mut self.random, u64::try_from(skus.len()).unwrap());
            let sku = skus[usize::try_from(which).unwrap()].clone();
            let units = 1 + i64::try_from(random(&mut self.random, 4)).unwrap();
            let id = format!("move-{}", moved.len());
            if sku.starts_with("TEE") {
                // The truth is there before anybody is told.
                self.warehouse.receive(&sku, units);
            }
            let next = Moved { id, sku, units };
            let first = self.book(&next).await;
            assert!(["applied", "duplicate"].contains(&first.as_str()), "{first}");
            if random(&mut self.random, 4) == 0 {
                assert_eq!(self.book(&next).await, "duplicate", "{}", next.id);
            }
            moved.push(next);
            tokio::time::sleep(PACE).await;
        }
        moved
    }

    /// Until a node says what became of it.
    async fn book(&mut self, moved: &Moved) -> String {
        let Moved { id, sku, units } = moved;
        let body = json!({ "movements": [
            { "id": id, "kind": "receipt", "sku": sku, "quantity": units },
        ] });
        let authorization = format!("Bearer {TOKEN}");
        let headers = [("authorization", authorization.as_str())];
        loop {
            let door = self.apis.one(&mut self.random).await;
            let body = body.to_string().into();
            let answer = self.http.request(*door, "POST", "/v1/movements", &headers, body).await;
            drop(door);
            if let Some(answer) = answer.ok().filter(|answer| answer.status == 200) {
                return answer.json()["results"][0]["outcome"].as_str().unwrap().to_string();
            }
            tokio::time::sleep(PACE / 10).await;
        }
    }
}

/// Each movement is a line of the ledger, once.
pub(crate) async fn check_moved(moved: &[Moved], node: &Node) {
    let mut lines: Vec<(String, String, i64)> = Vec::new();
    for line in ledger(node).await {
        let id = line["delivery"].as_str().unwrap_or_default();
        if line["kind"] == "receipt" && id.contains("move-") {
            let sku = line["sku"].as_str().unwrap().to_string();
            lines.push((id.into(), sku, line["quantity"].as_i64().unwrap()));
        }
    }
    let mut wanted: Vec<_> =
        moved.iter().map(|moved| (moved.id.clone(), moved.sku.clone(), moved.units)).collect();
    lines.sort();
    wanted.sort();
    assert_eq!(lines, wanted);
}

/// Somebody who knows neither the secret of a channel, nor a token, nor the cluster's authority.
pub(crate) struct Intruder {
    /// A node that says it is one of the cluster, with a certificate of its own making.
    node: Node,
    stop: Arc<AtomicBool>,
    refused: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<()>>,
}

impl Intruder {
    pub(crate) async fn start(world: &World, http: &Http) -> Self {
        let mut node = world.plain_node(2, OUTSIDE, "another-authority");
        node.start().await;
        let members: Vec<Value> = world
            .member_nodes()
            .iter()
            .map(|known| known.member())
            .filter(|m| m["id"] != 2)
            .collect();
        let founding = json!({ "members": members }).to_string();
        let (own, door) = (http.clone(), node.admin());
        let found = async move {
            let authorization = format!("Bearer {TOKEN}");
            let headers = [("authorization", authorization.as_str())];
            // It has no answer before it is given up, as nobody votes for it.
            let _ = own.request(door, "POST", "/cluster/init", &headers, founding.into()).await;
        };
        let (stop, refused) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let forger = Forger {
            webhooks: world.webhooks.clone(),
            apis: world.apis.clone(),
            http: http.clone(),
            random: 1,
            refused: Arc::clone(&refused),
        };
        let tasks = vec![tokio::spawn(found), tokio::spawn(forger.run(Arc::clone(&stop)))];
        Self { node, stop, refused, tasks }
    }

    pub(crate) async fn stop(self) -> Intrusion {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        let status = self.node.get("/cluster/status").await;
        Intrusion { refused: self.refused.load(Ordering::Relaxed), status }
    }
}

/// What became of it.
pub(crate) struct Intrusion {
    refused: usize,
    status: Value,
}

impl Intrusion {
    /// Nothing of it came to anything.
    pub(crate) async fn check(&self, world: &World, node: &Node) -> String {
        assert!(self.refused > 10, "hardly anything was tried: {}", self.refused);
        assert_ne!(self.status["role"], "leader", "{}", self.status);
        assert_eq!(self.status["leader"], Value::Null, "{}", self.status);
        assert!(node.try_get(&format!("/v1/stock/{FORGED}")).await.is_none());
        let outside = Wan::address(OUTSIDE).to_string();
        for node in world.member_nodes() {
            let status = node.get("/cluster/status").await.to_string();
            assert!(!status.contains(&outside), "{status}");
        }
        format!("{} forged requests and connections, and a node that is none", self.refused)
    }
}

struct Forger {
    webhooks: Doors,
    apis: Doors,
    http: Http,
    random: u64,
    refused: Arc<AtomicUsize>,
}

impl Forger {
    async fn run(mut self, stop: Arc<AtomicBool>) {
        let mut serial = 7_000_000_000_000;
        while !stop.load(Ordering::Relaxed) {
            serial += 10;
            match random(&mut self.random, 4) {
                0 => self.webhook(serial).await,
                1 => self.api("Bearer guessed", 401).await,
                2 => self.api(&format!("Bearer {READER}"), 403).await,
                _ => self.peer().await,
            }
            tokio::time::sleep(PACE).await;
        }
    }

    fn expect(&self, answer: Result<crate::support::http::Answer, String>, status: u16) {
        // A node that is down refuses in its own way.
        if let Ok(answer) = answer {
            assert_eq!(answer.status, status, "{}", answer.text());
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn webhook(&mut self, order: u64) {
        let mut forged = orders::create(order, FORGED, 3);
        forged.secret = "the secret of somebody else".into();
        let headers = forged.headers();
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let path = format!("/webhooks/{CHANNEL}");
        let door = self.webhooks.one(&mut self.random).await;
        let answer = self.http.request(*door, "POST", &path, &headers, forged.body.clone()).await;
        self.expect(answer, 401);
    }

    async fn api(&mut self, authorization: &str, status: u16) {
        let body = json!({ "movements": [
            { "id": FORGED, "kind": "receipt", "sku": FORGED, "quantity": 1 },
        ] });
        let (headers, body) = ([("authorization", authorization)], body.to_string().into());
        let door = self.apis.one(&mut self.random).await;
        let answer = self.http.request(*door, "POST", "/v1/movements", &headers, body).await;
        self.expect(answer, status);
    }

    /// Bytes that are no handshake, at a port for peers: they are answered by the connection's end.
    async fn peer(&mut self) {
        let region = usize::try_from(random(&mut self.random, u64::try_from(REGIONS).unwrap()));
        let address = SocketAddr::from((Wan::address(region.unwrap() + 1), 8082));
        let noise: Vec<u8> =
            (0..600).map(|_| u8::try_from(random(&mut self.random, 256)).unwrap()).collect();
        let exchange = async {
            let mut stream = TcpStream::connect(address).await.ok()?;
            stream.write_all(&noise).await.ok()?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.ok();
            Some(())
        };
        if let Ok(Some(())) = tokio::time::timeout(8 * PACE, exchange).await {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }
}
