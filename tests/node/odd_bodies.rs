//! Promise: an authentic delivery that makes no sense is kept with its body and the reason, whatever its
//! kind; and the node goes on.

use std::collections::BTreeMap;

use crate::support::issuer::Issuer;
use crate::support::payloads::{CARRIERS, Carrier, Line};
use crate::support::{Cluster, Node, TOKEN, senders, stockraft, unique, until, until_true};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use marketplace::sqs::{Options as QueueOptions, Queue};
use serde_json::Value;

/// A node with a channel of each kind, and where its deliveries come from.
struct Shop {
    cluster: Cluster,
    queue: Queue,
    _issuer: Issuer,
}

impl Shop {
    async fn open() -> Self {
        let queue = Queue::start(QueueOptions::new("orders")).await.unwrap();
        let issuer = Issuer::start().await;
        let credentials = &queue.options().credentials;
        let amazon = format!(
            "\n[[channel]]\nname = \"amazon\"\nkind = \"amazon\"\nsqs = {{ queue_url = \"{}\", \
             region = \"{}\", access_key_id = \"{}\", secret_access_key = \"{}\" }}\n\
             \n[ingest]\nmax_body = \"4MiB\"\n",
            queue.url(),
            queue.options().region,
            credentials.access_key_id,
            credentials.secret_access_key,
        );
        let channels = senders::config(&issuer) + &amazon;
        let cluster = Cluster::start(1, |node| node.more.clone_from(&channels)).await;
        Self { cluster, queue, _issuer: issuer }
    }

    fn node(&self) -> &Node {
        &self.cluster.nodes[0]
    }

    /// Sends a body under these headers: the status and the answer, but from a queue nobody answers.
    async fn send(
        &self,
        carrier: &Carrier,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Option<(u16, Value)> {
        if carrier.sender == "amazon" {
            self.queue.send(str::from_utf8(body).unwrap());
            return None;
        }
        let answer = carrier.sender().sign(headers, body).to(self.node()).await;
        Some((answer.status, answer.json()))
    }

    /// What is listed as dead, by channel and body: the reasons.
    async fn dead(&self) -> BTreeMap<(String, Vec<u8>), String> {
        let letters = self.node().list("/v1/topics/deliveries/dead", 100).await;
        let text = |value: &Value| value.as_str().unwrap().to_string();
        let body = |letter: &Value| match &letter["body"] {
            Value::String(body) if letter["base64"] == true => STANDARD.decode(body).unwrap(),
            Value::String(body) => body.clone().into_bytes(),
            // What the state could not apply is told as it was understood.
            _ => Vec::new(),
        };
        let letter = |l: &Value| ((text(&l["channel"]), body(l)), text(&l["reason"]));
        letters.iter().map(letter).collect()
    }

    /// An order of this carrier is taken and, where it tells lines, in the ledger.
    async fn assert_goes_on(&self, carrier: &Carrier) {
        let (id, order) = (format!("good-{}", unique()), order_id());
        let body = carrier.body(&id, order, &[Line::new(7, "MUG", "2")]);
        let answer = self.send(carrier, &carrier.headers(&id), body.as_bytes()).await;
        assert!(
            answer.as_ref().is_none_or(|(status, _)| *status == 200),
            "{carrier:?}: {answer:?}"
        );
        if carrier.lines {
            let line = self.line(carrier, order, "7").await;
            assert_eq!((line["sku"].as_str(), line["committed"].as_i64()), (Some("MUG"), Some(2)));
        }
    }

    async fn line(&self, carrier: &Carrier, order: u64, line: &str) -> Value {
        let path = format!("/v1/orders/{}/{order}", carrier.sender);
        let known = until(&path, async || self.node().try_get(&path).await).await;
        known["lines"][line].clone()
    }
}

fn order_id() -> u64 {
    8_000_000_000_000 + unique()
}

/// Bodies that are no delivery of any kind.
fn nonsense() -> Vec<(&'static str, Vec<u8>)> {
    let mut all: Vec<(&str, Vec<u8>)> = [
        ("null", "null"),
        ("a list", "[]"),
        ("an object", "{}"),
        ("a list of one", "[{}]"),
        ("a text", "\"order\""),
        ("a number", "1e400"),
        ("no JSON", "sku=MUG&quantity=1"),
        ("XML", "<?xml version=\"1.0\"?><order/>"),
        ("a byte order mark", "\u{feff}{}"),
        ("two objects", "{}{}"),
        ("half an object", "{\"id\": 1, \"line_items\": [{\"id\""),
        (
            "numbers for all names",
            "{\"id\":{},\"source\":1,\"type\":2,\"_model\":3,\"metadata\":[]}",
        ),
    ]
    .map(|(what, body)| (what, body.as_bytes().to_vec()))
    .into();
    all.push(("a deep list", vec![b'['; 10_000]));
    all.push(("a deep object", "{\"a\":".repeat(10_000).into_bytes()));
    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    all.push(("a deep list with its end", deep.into_bytes()));
    all
}

/// Bodies that are no text.
fn bytes() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("NUL bytes", vec![0; 16]),
        ("a NUL byte after it", b"{}\0".to_vec()),
        ("invalid UTF-8", b"{\"id\": \"\xff\xfe\"}".to_vec()),
        ("UTF-16", "{\"id\":1}".encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xae\x05\x00".to_vec()),
    ]
}

/// An order of a kind with something wrong in a line of it.
fn wrong_lines(carrier: &Carrier) -> Vec<(String, Vec<Line>)> {
    let line = Line::new(7, "MUG", "2");
    let mut all = vec![("without an id".to_string(), vec![Line { id: None, ..line.clone() }])];
    if carrier.counts {
        let quantities = [
            "-1",
            "1.5",
            "-0.5",
            "1e400",
            "1e300",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551616",
            "1000000001",
            "NaN",
            "Infinity",
            "0x10",
            "null",
            "true",
            "[]",
            "\"many\"",
            "\"-1\"",
            "\"1,5\"",
            "\"\"",
        ];
        let quantity = |q: &&str| (format!("of {q}"), vec![Line::new(7, "MUG", q)]);
        all.extend(quantities.iter().map(quantity));
    }
    if carrier.lines {
        let many = (0..10_000).map(|n| Line::new(n, "MUG", "1")).collect();
        all.push(("one of 10,000".into(), many));
        all.push(("with a huge SKU".into(), vec![Line::new(7, &"X".repeat(100_000), "1")]));
        all.push(("with a long SKU".into(), vec![Line::new(7, &"X".repeat(257), "1")]));
        all.push(("with a SKU of long letters".into(), vec![Line::new(7, &"ü".repeat(129), "1")]));
        let sku = |sku: &str| vec![Line { sku: sku.into(), ..line.clone() }];
        all.push(("with a list for a SKU".into(), sku("[\"MUG\"]")));
        all.push(("with half a surrogate in its SKU".into(), sku("\"\\ud800\"")));
        all.push(("with a raw line end in its SKU".into(), sku("\"A\nB\"")));
        let good = Line::new(8, "CUP", "1");
        all.push(("beside a good one".into(), vec![good, Line::new(7, "MUG", "-1")]));
    }
    all
}

// What is answered 5xx comes again for days until the webhook is disabled; what is answered 2xx and dropped
// is a sale that nobody knows of; and what stops the node stops it again after each restart.
#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_a_dead_letter_with_its_body() {
    let shop = Shop::open().await;
    let mut expected = BTreeMap::new();
    for carrier in &CARRIERS {
        let by_queue = carrier.sender == "amazon";
        let mut bodies = nonsense();
        bodies.extend(if by_queue { Vec::new() } else { bytes() });
        let mut bodies: Vec<(String, Vec<u8>)> =
            bodies.into_iter().map(|(what, body)| (what.to_string(), body)).collect();
        for (what, lines) in wrong_lines(carrier) {
            let body = carrier.body(&format!("line-{}", unique()), order_id(), &lines);
            bodies.push((format!("a line {what}"), body.into_bytes()));
        }
        for other in CARRIERS.iter().filter(|other| other.sender != carrier.sender) {
            let body =
                other.body(&format!("{}", unique()), order_id(), &[Line::new(7, "MUG", "2")]);
            bodies.push((format!("an order of {}", other.sender), body.into_bytes()));
        }
        for (what, body) in bodies {
            let what = format!("{}: {what}", carrier.sender);
            let id = format!("odd-{}", unique());
            let answer = shop.send(carrier, &carrier.headers(&id), &body).await;
            let reason = answer.map(|(status, answer)| {
                assert_eq!(status, 202, "{what}: {answer}");
                assert_eq!(answer["accepted"], true, "{what}: {answer}");
                let reason = answer["dead_letter"].as_str().unwrap().to_string();
                assert!(!reason.trim().is_empty(), "{what}: {answer}");
                reason
            });
            expected.insert((carrier.sender.to_string(), body), (what, reason));
        }
        shop.assert_goes_on(carrier).await;
    }
    shop.queue.drained().await;
    let expected = &expected;
    until_true("every dead letter is listed", async || {
        let dead = shop.dead().await;
        expected.keys().all(|place| dead.contains_key(place))
    })
    .await;
    let dead = shop.dead().await;
    for (place, (what, reason)) in expected {
        let listed = &dead[place];
        assert!(reason.as_ref().is_none_or(|reason| reason == listed), "{what}: {listed}");
    }
    for carrier in &CARRIERS {
        shop.assert_goes_on(carrier).await;
    }
}

// A topic that is misspelt, or that a newer version sends, must not lose what it tells.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_topic_is_a_dead_letter_and_an_odd_id_is_none() {
    let shop = Shop::open().await;
    let long = "y".repeat(3000);
    for carrier in &CARRIERS {
        let lines = [Line::new(7, "MUG", "2")];
        let Some((topic, _)) = carrier.topic else { continue };
        let odd = ["", "order", "orders/creat", "order.create", "ORDER.CREATED.", &long, "é"];
        for value in odd {
            let body = carrier.body("x", order_id(), &lines);
            let headers = [(topic, value)];
            let (status, answer) = shop.send(carrier, &headers, body.as_bytes()).await.unwrap();
            assert_eq!(status, 202, "{} {value:?}: {answer}", carrier.sender);
        }
        let body = carrier.body("x", order_id(), &lines);
        let (status, answer) = shop.send(carrier, &[], body.as_bytes()).await.unwrap();
        assert_eq!(status, 202, "{} without a topic: {answer}", carrier.sender);
    }
    // Without a usable id the body tells deliveries apart: two orders are two.
    let shopify = &CARRIERS[0];
    for id in ["", "a b", long.as_str(), "ü"] {
        for _ in 0..2 {
            let order = order_id();
            let body = shopify.body("x", order, &[Line::new(7, "MUG", "2")]);
            let headers = shopify.headers(id);
            let (status, answer) = shop.send(shopify, &headers, body.as_bytes()).await.unwrap();
            assert_eq!(status, 200, "{id:?}: {answer}");
            assert_eq!(shop.line(shopify, order, "7").await["committed"], 2);
        }
    }
}

// A SKU is what the channel says that it is, however odd: another one would take another product's stock,
// and without it the order's other lines would not move either.
#[tokio::test(flavor = "multi_thread")]
async fn odd_but_sensible_orders_are_taken_as_they_are() {
    let shop = Shop::open().await;
    for carrier in CARRIERS.iter().filter(|carrier| carrier.lines) {
        let odd_sku =
            Line { sku: r#""A\u0000\u001b[31mB\t\ud83d\udce6\"""#.into(), ..Line::new(7, "", "3") };
        let blank = Line { sku: r#"" \u00a0 ""#.into(), ..Line::new(8, "", "1") };
        let padded = Line { sku: r#""  CUP\n""#.into(), ..Line::new(9, "", "1") };
        let twice = Line::new(10, "MUG", "1,\"unknown\":{\"deeper\":[1,2,{}]}");
        let order = order_id();
        let id = format!("taken-{}", unique());
        let body = carrier.body(&id, order, &[odd_sku, blank, padded, twice]);
        let answer = shop.send(carrier, &carrier.headers(&id), body.as_bytes()).await;
        assert!(
            answer.as_ref().is_none_or(|(status, _)| *status == 200),
            "{carrier:?}: {answer:?}"
        );
        let sku = |line: &Value| line["sku"].as_str().map(String::from);
        let odd = shop.line(carrier, order, "7").await;
        assert_eq!(sku(&odd).as_deref(), Some("A\u{0}\u{1b}[31mB\t\u{1f4e6}\""), "{odd}");
        assert_eq!(odd["committed"], 3, "{odd}");
        assert_eq!(sku(&shop.line(carrier, order, "8").await), None);
        assert_eq!(sku(&shop.line(carrier, order, "9").await).as_deref(), Some("CUP"));
        assert_eq!(shop.line(carrier, order, "10").await["committed"], 1);
    }
    // A terminal would obey what stands in a name; a line end would make two rows of it.
    let node = format!("http://127.0.0.1:{}", shop.node().ports[1]);
    let list = ["stock", "list", "--node", &node, "--token", TOKEN];
    let output = stockraft().args(list).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("[31mB"), "{said:?}");
    assert!(!said.contains(|c: char| c.is_control() && c != '\n'), "{said:?}");
}

// An id that comes again with another body is two deliveries, one of which would be dropped without a word;
// and where the body is the id, two bodies are two deliveries.
#[tokio::test(flavor = "multi_thread")]
async fn one_id_with_two_bodies_is_a_conflict_that_is_listed() {
    let shop = Shop::open().await;
    for carrier in &CARRIERS {
        let id = format!("same-{}", unique());
        let by_body = matches!(carrier.sender, "woo" | "odoo");
        let bodies = [2, 3].map(|units: u32| {
            carrier.body(&id, order_id(), &[Line::new(7, "MUG", &units.to_string())])
        });
        let mut ids = Vec::new();
        // The first one again is no conflict.
        for body in [&bodies[0], &bodies[0], &bodies[1]] {
            let answer = shop.send(carrier, &carrier.headers(&id), body.as_bytes()).await;
            if let Some((status, answer)) = answer {
                assert_eq!(status, 200, "{carrier:?}: {answer}");
                ids.push(answer["id"].clone());
            }
            // A queue gives in any order.
            shop.queue.drained().await;
        }
        if !ids.is_empty() {
            assert_eq!(ids[0] != ids[2], by_body, "{carrier:?}: {ids:?}");
        }
        let conflicts = async || {
            let letters = shop.node().list("/v1/topics/deliveries/dead", 100).await;
            let of = |letter: &&Value| letter["channel"] == carrier.sender;
            let reasons = letters.iter().filter(of).map(|letter| letter["reason"].to_string());
            reasons.filter(|reason| reason.contains("conflict")).count()
        };
        if by_body {
            shop.cluster.settle().await;
            assert_eq!(conflicts().await, 0, "{carrier:?}");
        } else {
            until_true("the conflict is listed", async || conflicts().await == 1).await;
        }
    }
}
