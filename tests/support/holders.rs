//! Clients that hold, release and sell units through the API, with what they saw of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::http::{Answer, Doors, Http};
use super::linearizable::{Operation, Seen, explain};
use super::{Node, TOKEN, random, until_true};

/// Before a client asks again.
const PAUSE: Duration = Duration::from_millis(20);

/// Units of one SKU that clients have at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Units {
    pub held: i64,
    pub sold: i64,
}

/// What all clients share.
struct World {
    skus: Vec<String>,
    /// Operations after which they go on with the next SKU: the search for an order grows with them.
    each: usize,
    doors: Doors,
    clock: AtomicU64,
    seen: Mutex<BTreeMap<String, Vec<Operation>>>,
    done: AtomicUsize,
    repeated: AtomicUsize,
    stop: AtomicBool,
}

/// Several clients at work.
pub struct Holders {
    world: Arc<World>,
    clients: Vec<JoinHandle<Vec<Held>>>,
}

/// What they saw, by SKU, and what they have.
pub struct Report {
    pub seen: BTreeMap<String, Vec<Operation>>,
    pub units: BTreeMap<String, Units>,
    pub repeated: usize,
}

impl Holders {
    /// So many clients, who ask at any of these doors for units of these SKUs, one after the other.
    pub fn start(clients: u64, skus: &[String], each: usize, doors: &Doors, http: &Http) -> Self {
        let world = Arc::new(World {
            skus: skus.to_vec(),
            each,
            doors: doors.clone(),
            clock: AtomicU64::new(0),
            seen: Mutex::default(),
            done: AtomicUsize::new(0),
            repeated: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let client = |name| {
            let (world, http) = (Arc::clone(&world), http.clone());
            Client { world, http, random: name, serial: 0, name, held: Vec::new() }
        };
        let clients = (0..clients).map(|name| tokio::spawn(client(name).run())).collect();
        Self { world, clients }
    }

    /// Operations that are done.
    pub fn done(&self) -> usize {
        self.world.done.load(Ordering::SeqCst)
    }

    /// Waits until so many more are.
    pub async fn more(&self, operations: usize) {
        let target = self.done() + operations;
        until_true("clients go on", async || self.done() >= target).await;
    }

    /// Lets them end.
    pub async fn stop(self) -> Report {
        self.world.stop.store(true, Ordering::SeqCst);
        let mut units: BTreeMap<String, Units> = BTreeMap::new();
        for client in self.clients {
            for held in client.await.unwrap() {
                let known = units.entry(held.sku).or_default();
                if held.sold {
                    known.sold += held.units;
                } else {
                    known.held += held.units;
                }
            }
        }
        let seen = self.world.seen.lock().unwrap().clone();
        Report { seen, units, repeated: self.world.repeated.load(Ordering::SeqCst) }
    }
}

impl Report {
    /// How many operations were such.
    pub fn count(&self, such: fn(&Seen) -> bool) -> usize {
        self.seen.values().flatten().filter(|operation| such(&operation.seen)).count()
    }

    /// Whether what was seen can have happened one thing after the other, with so much of each SKU at
    /// the beginning; the fault if not.
    pub fn is_linearizable(&self, opening: i64) -> Result<(), String> {
        let inexplicable = self.seen.iter().find(|(_, seen)| explain(seen, opening).is_none());
        inexplicable
            .map_or(Ok(()), |(sku, seen)| Err(format!("no order explains {sku}: {seen:#?}")))
    }

    /// Whether a node says of each SKU what the clients have.
    pub async fn check(&self, node: &Node, opening: i64) {
        for sku in self.seen.keys() {
            let Units { held, sold } = self.units.get(sku).copied().unwrap_or_default();
            let stock = node.get(&format!("/v1/stock/{sku}")).await;
            let numbers = ["reserved", "committed", "available"].map(|name| stock[name].as_i64());
            assert_eq!(numbers, [held, sold, opening - held - sold].map(Some), "{stock}");
        }
    }
}

struct Held {
    id: String,
    sku: String,
    units: i64,
    sold: bool,
}

/// One client: it asks any node, and the next one when it gets no answer to work with, under the same
/// idempotency key.
struct Client {
    world: Arc<World>,
    http: Http,
    random: u64,
    serial: u64,
    name: u64,
    held: Vec<Held>,
}

impl Client {
    async fn run(mut self) -> Vec<Held> {
        while !self.world.stop.load(Ordering::SeqCst) {
            let now = || self.world.clock.fetch_add(1, Ordering::SeqCst);
            let from = now();
            let (sku, seen) = match random(&mut self.random, 20) {
                0..10 => self.hold().await,
                10..15 => self.release().await,
                15 => self.confirm().await,
                _ => self.read().await,
            };
            let to = self.world.clock.fetch_add(1, Ordering::SeqCst);
            let Some(seen) = seen else { continue };
            let mut all = self.world.seen.lock().unwrap();
            all.entry(sku).or_default().push(Operation { from, to, seen });
            drop(all);
            self.world.done.fetch_add(1, Ordering::SeqCst);
        }
        self.held
    }

    fn sku(&self) -> String {
        let turn = self.world.done.load(Ordering::SeqCst) / self.world.each;
        self.world.skus[turn.min(self.world.skus.len() - 1)].clone()
    }

    async fn hold(&mut self) -> (String, Option<Seen>) {
        let (sku, units) = (self.sku(), 1 + i64::try_from(random(&mut self.random, 3)).unwrap());
        let body = json!({ "sku": sku, "quantity": units, "ttl_s": 36_000 });
        let answer = self.ask("POST", "/v1/reservations", &body).await;
        let seen = match answer.status {
            201 => {
                let id = answer.json()["id"].as_str().unwrap().to_string();
                self.held.push(Held { id, sku: sku.clone(), units, sold: false });
                Seen::Held(units)
            }
            409 => Seen::Refused(units),
            _ => panic!("{}", answer.text()),
        };
        (sku, Some(seen))
    }

    async fn release(&mut self) -> (String, Option<Seen>) {
        let Some(Held { id, sku, units, .. }) = self.one_held(|_| true) else {
            return Default::default();
        };
        let answer =
            self.ask("POST", &format!("/v1/reservations/{id}/release"), &Value::Null).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        (sku, Some(Seen::LetGo(units)))
    }

    /// What is sold was not available before either, so that this is nothing that another can see. Sold is
    /// what nobody asks for any more, or there would soon be nothing to hold.
    async fn confirm(&mut self) -> (String, Option<Seen>) {
        let current = self.sku();
        let Some(held) = self.one_held(|sku| sku != current) else { return Default::default() };
        let path = format!("/v1/reservations/{}/confirm", held.id);
        let answer = self.ask("POST", &path, &Value::Null).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let sku = held.sku.clone();
        self.held.push(Held { sold: true, ..held });
        (sku, None)
    }

    async fn read(&mut self) -> (String, Option<Seen>) {
        let sku = self.sku();
        let path = format!("/v1/stock/{sku}?consistency=linearizable");
        let answer = self.ask("GET", &path, &Value::Null).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        (sku, Some(Seen::Available(answer.json()["available"].as_i64().unwrap())))
    }

    fn one_held(&mut self, such: impl Fn(&str) -> bool) -> Option<Held> {
        let is_such = |held: &Held| !held.sold && such(&held.sku);
        let held: Vec<usize> = (0..self.held.len()).filter(|n| is_such(&self.held[*n])).collect();
        let count = u64::try_from(held.len()).unwrap();
        let which = (count > 0).then(|| usize::try_from(random(&mut self.random, count)).unwrap());
        Some(self.held.swap_remove(held[which?]))
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
            let door = self.world.doors.one(&mut self.random).await;
            let asked = self.http.request(*door, method, path, &headers, body.clone().into()).await;
            drop(door);
            match asked {
                // 408: the request did not arrive whole.
                Ok(answer) if answer.status < 500 && answer.status != 408 => return answer,
                _ => {
                    self.world.repeated.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}
