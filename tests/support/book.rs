//! What was sent and what was answered, held against what the ledger says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::http::{Door, Doors, Http};
use super::orders::{self, Webhook, line_id};
use super::{CHANNEL, Node, random, unique, until_true};

/// Between two orders of one sender.
const PACE: Duration = Duration::from_millis(10);

/// What a sender knows of one webhook after all its attempts.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Answered 200 at least once.
    promised: bool,
    /// At least one attempt was not answered 4xx: it may have been taken.
    possible: bool,
}

#[derive(Clone, Debug)]
struct Sent {
    sku: String,
    quantity: u32,
    cancelled: u32,
    create: Known,
    refund: Known,
}

/// Every order that was sent, with what was answered.
#[derive(Clone, Default)]
pub struct Book(Arc<Mutex<BTreeMap<u64, Sent>>>);

/// What the book promises to find, in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub orders: usize,
    pub promised: usize,
    pub uncertain: usize,
    pub refused: usize,
}

enum Part {
    Create,
    Refund,
}

impl Book {
    /// Notes an order before anything of it is sent.
    pub fn open(&self, order: u64, sku: &str, quantity: u32, cancelled: u32) {
        let (create, refund) = Default::default();
        let sent = Sent { sku: sku.into(), quantity, cancelled, create, refund };
        self.0.lock().unwrap().insert(order, sent);
    }

    fn note(&self, order: u64, part: &Part, status: Option<u16>) {
        let mut book = self.0.lock().unwrap();
        let sent = book.get_mut(&order).unwrap();
        let known = match part {
            Part::Create => &mut sent.create,
            Part::Refund => &mut sent.refund,
        };
        match status {
            Some(200) => (known.promised, known.possible) = (true, true),
            Some(400..500) => {}
            Some(503) | None => known.possible = true,
            Some(other) => panic!("order {order} was answered {other}"),
        }
    }

    /// Orders whose creation was answered 200.
    pub fn promised(&self) -> usize {
        self.0.lock().unwrap().values().filter(|sent| sent.create.promised).count()
    }

    pub fn totals(&self) -> Totals {
        let book = self.0.lock().unwrap();
        let mut totals = Totals { orders: book.len(), ..Totals::default() };
        for sent in book.values() {
            match sent.create {
                Known { promised: true, .. } => totals.promised += 1,
                Known { possible: true, .. } => totals.uncertain += 1,
                Known { .. } => totals.refused += 1,
            }
        }
        totals
    }

    /// Adds what another book knows.
    pub fn take_in(&self, other: &Self) {
        let other = other.0.lock().unwrap().clone();
        self.0.lock().unwrap().extend(other);
    }

    /// Orders that were promised and are not there.
    pub async fn missing(&self, node: &Node) -> Vec<u64> {
        let book = self.0.lock().unwrap().clone();
        let mut missing = Vec::new();
        for (order, sent) in book.into_iter().filter(|(_, sent)| sent.create.promised) {
            let line = line_id(order).to_string();
            let known = node.try_get(&format!("/v1/orders/{CHANNEL}/{order}")).await;
            let ordered = known.and_then(|known| known["lines"][&line]["ordered"].as_i64());
            if ordered != Some(i64::from(sent.quantity)) {
                missing.push(order);
            }
        }
        missing
    }

    /// Exactly once what was promised, at most once what may have arrived, never what was refused; and
    /// all quantities are the sums of the movements.
    pub async fn check(&self, node: &Node) {
        let book = self.0.lock().unwrap().clone();
        let (sold, cancelled) = self.movements(node).await;
        for (order, sent) in &book {
            let reference = format!("{order}/{}", line_id(*order));
            let sold = sold.get(&reference).copied().unwrap_or(0);
            let cancelled = cancelled.get(&reference).copied().unwrap_or(0);
            let (quantity, less) = (i64::from(sent.quantity), i64::from(sent.cancelled));
            let what = format!("order {order}: {sent:?}, sold {sold}, cancelled {cancelled}");
            assert!(sold == 0 || sold == quantity, "in part or twice: {what}");
            assert!(cancelled == 0 || cancelled == less, "in part or twice: {what}");
            assert!(sold != 0 || !sent.create.promised, "lost: {what}");
            assert!(sold == 0 || sent.create.possible, "out of nothing: {what}");
            assert!(cancelled == 0 || sent.refund.possible, "out of nothing: {what}");
            let owed = sold != 0 && sent.refund.promised;
            assert!(cancelled != 0 || less == 0 || !owed, "lost: {what}");
        }
        let known: BTreeSet<String> =
            book.keys().map(|order| format!("{order}/{}", line_id(*order))).collect();
        let unknown: Vec<_> = sold.keys().filter(|reference| !known.contains(*reference)).collect();
        assert!(unknown.is_empty(), "nobody sent {unknown:?}");
        self.check_orders(node, &book).await;
    }

    /// The same from the node's own view of each order.
    async fn check_orders(&self, node: &Node, book: &BTreeMap<u64, Sent>) {
        for (order, sent) in book {
            let line = line_id(*order).to_string();
            let known = node.try_get(&format!("/v1/orders/{CHANNEL}/{order}")).await;
            let Some(known) = known else {
                assert!(
                    !sent.create.promised && !sent.refund.promised,
                    "unknown: {order} {sent:?}"
                );
                continue;
            };
            let committed = known["lines"][&line]["committed"].as_i64().unwrap();
            let most = i64::from(sent.quantity);
            let least = most - i64::from(sent.cancelled);
            let right = if sent.create.promised { committed >= least } else { committed >= 0 };
            assert!(right && committed <= most, "order {order}: {sent:?}, but {known}");
        }
    }

    /// Units sold and cancelled by order line, from the lines of the ledger; checks on the way that
    /// quantities are the sums of these lines.
    async fn movements(&self, node: &Node) -> (BTreeMap<String, i64>, BTreeMap<String, i64>) {
        let (mut sold, mut cancelled) = (BTreeMap::new(), BTreeMap::new());
        for line in ledger(node).await {
            let units = match line["kind"].as_str().unwrap() {
                _ if line["channel"] != CHANNEL => continue,
                "sale" => &mut sold,
                "cancellation" => &mut cancelled,
                _ => continue,
            };
            let reference = line["reference"].as_str().unwrap_or_default().to_string();
            *units.entry(reference).or_insert(0) += line["quantity"].as_i64().unwrap();
        }
        (sold, cancelled)
    }
}

/// All lines of a node's ledger, by SKU and newest first. Each quantity that it shows must be their sum;
/// nothing may change meanwhile.
pub async fn ledger(node: &Node) -> Vec<Value> {
    let mut all = Vec::new();
    for stock in node.list("/v1/stock", 100).await {
        let sku = stock["sku"].as_str().unwrap();
        let lines = lines_of(node, sku).await;
        let (mut on_hand, mut committed, mut reserved, mut escrowed) = (0, 0, 0, 0);
        for line in &lines {
            let quantity = line["quantity"].as_i64().unwrap();
            match line["kind"].as_str().unwrap() {
                "sale" => committed += quantity,
                "cancellation" => committed -= quantity,
                "fulfilment" => (committed, on_hand) = (committed - quantity, on_hand - quantity),
                "receipt" | "adjustment" | "return" => on_hand += quantity,
                "hold" => reserved += quantity,
                "release" => reserved -= quantity,
                "grant" => escrowed += quantity,
                "surrender" => escrowed -= quantity,
                other => panic!("no test books a {other}"),
            }
        }
        let available = on_hand - committed - reserved - escrowed;
        let sums = [on_hand, committed, reserved, escrowed, available].map(Some);
        let shown = ["on_hand", "committed", "reserved", "escrowed", "available"]
            .map(|name| stock[name].as_i64());
        assert_eq!(shown, sums, "{sku} is not the sum of its movements: {stock}");
        all.extend(lines);
    }
    all
}

/// Those of one SKU.
pub async fn lines_of(node: &Node, sku: &str) -> Vec<Value> {
    // An odd page, so that pages end within entries too.
    node.list(&format!("/v1/stock/{sku}/movements"), 337).await
}

fn part_of(webhook: &Webhook) -> Part {
    if webhook.topic == "refunds/create" { Part::Refund } else { Part::Create }
}

/// Traffic from several senders at once, until it is stopped.
pub struct Traffic {
    book: Book,
    stop: Arc<AtomicBool>,
    senders: Vec<tokio::task::JoinHandle<()>>,
}

impl Traffic {
    /// Each sender sends one order after another to one of these doors: some twice or thrice and to
    /// several nodes, some with a refund after or before them, some that are forged.
    pub fn start<D: Into<Door> + Copy>(book: &Book, doors: &[D], senders: u64) -> Self {
        Self::paced(book, &Doors::new(doors), senders, PACE, &Http::new())
    }

    /// The same with so much between two orders of one sender.
    pub fn paced(book: &Book, doors: &Doors, senders: u64, pace: Duration, http: &Http) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let senders = (0..senders).map(|n| {
            let sender = Sender {
                book: book.clone(),
                doors: doors.clone(),
                pace,
                http: http.clone(),
                random: 1_000 + n,
                next: 1_000_000_000_000 * unique(),
            };
            tokio::spawn(sender.run(Arc::clone(&stop)))
        });
        Self { book: book.clone(), senders: senders.collect(), stop }
    }

    /// Waits until so many more orders were answered 200.
    pub async fn more(&self, orders: usize) {
        let before = self.book.promised();
        until_true("more orders are answered 200", async || {
            self.book.promised() >= before + orders
        })
        .await;
    }

    /// Stops sending; returns once all answers are in.
    pub async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for sender in self.senders {
            sender.await.unwrap();
        }
    }
}

struct Sender {
    book: Book,
    doors: Doors,
    pace: Duration,
    http: Http,
    random: u64,
    next: u64,
}

impl Sender {
    async fn run(mut self, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::Relaxed) {
            let order = self.next;
            self.next += 10;
            self.order(order).await;
            // The nodes under test share this machine's few cores.
            tokio::time::sleep(self.pace).await;
        }
    }

    async fn order(&mut self, order: u64) {
        let sku = format!("SKU-{}", self.below(5));
        let quantity = 1 + u32::try_from(self.below(4)).unwrap();
        let cancelled = u32::from(self.below(3) == 0);
        self.book.open(order, &sku, quantity, cancelled);
        let mut create = orders::create(order, &sku, quantity);
        if self.below(20) == 0 {
            create.secret = "the secret of somebody else".into();
            self.send(order, &create).await;
            return;
        }
        let refund = orders::refund(order, &sku, quantity, cancelled);
        let refund_first = self.below(2) == 0;
        if cancelled > 0 && refund_first {
            self.send(order, &refund).await;
        }
        self.send(order, &create).await;
        if cancelled > 0 && !refund_first {
            self.send(order, &refund).await;
        }
        // Again, as senders do, and to whichever node.
        if self.below(4) == 0 {
            self.send(order, &create).await;
        }
        if self.below(8) == 0 {
            // The same order as another delivery, as when two topics tell of it.
            create.id = format!("again-{order}");
            create.topic = "orders/updated".into();
            self.send(order, &create).await;
        }
    }

    fn below(&mut self, below: u64) -> u64 {
        random(&mut self.random, below)
    }

    async fn send(&mut self, order: u64, webhook: &Webhook) {
        let door = self.doors.one(&mut self.random).await;
        let headers = webhook.headers();
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let path = format!("/webhooks/{CHANNEL}");
        let answer = self.http.request(*door, "POST", &path, &headers, webhook.body.clone()).await;
        drop(door);
        if answer.is_err() {
            // A node that is down answers at once: without a breath, its senders would do nothing else.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let status = answer.ok().map(|answer: super::http::Answer| answer.status);
        self.book.note(order, &part_of(webhook), status);
    }
}
