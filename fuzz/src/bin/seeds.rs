//! Writes `corpus/<target>/seed-*` anew, out of the samples and vectors of `channels/tests`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use channels::Understood;
use fuzz::codec;
use fuzz::sent::Sent;
use serde_json::{Value, json};
use state::command::{Command, Delivery, Fact, Segment};
use state::origin::{Lane, Origin};
use state::queue::ask::Publish;
use state::{Millis, Stamp, State};

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// As deep as an input says that it is: see `fuzz::sent`.
const DEEP: &str = "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[";

const SHOPIFY_TOPICS: [&str; 15] = [
    "app/uninstalled",
    "fulfillments/create",
    "inventory_items/create",
    "inventory_items/delete",
    "inventory_items/update",
    "inventory_levels/connect",
    "inventory_levels/disconnect",
    "inventory_levels/update",
    "orders/cancelled",
    "orders/create",
    "orders/edited",
    "orders/updated",
    "products/delete",
    "products/update",
    "refunds/create",
];

fn main() {
    let mut seeds = Seeds::default();
    seeds.webhooks();
    seeds.signatures();
    seeds.keys();
    seeds.log();
    seeds.records();
    seeds.write();
}

/// Seeds by target and name.
#[derive(Default)]
struct Seeds(BTreeMap<(&'static str, String), Vec<u8>>);

impl Seeds {
    fn put(&mut self, target: &'static str, name: &str, input: impl Into<Vec<u8>>) {
        self.0.insert((target, name.to_string()), input.into());
    }

    fn webhooks(&mut self) {
        for (target, channel) in [
            ("parse_amazon", "amazon"),
            ("parse_ebay", "ebay"),
            ("parse_generic", "generic"),
            ("parse_odoo", "odoo"),
            ("parse_shopify", "shopify"),
            ("parse_walmart", "walmart"),
            ("parse_woocommerce", "woocommerce"),
        ] {
            for (name, body) in samples(channel) {
                let header = match channel {
                    "shopify" => shopify_topic(&name),
                    "woocommerce" => woocommerce_topic(&name),
                    "generic" => "webhook-id: msg_1\n".into(),
                    _ => String::new(),
                };
                self.put(target, &name, [header.as_bytes(), b"\n", &body].concat());
                if channel == "woocommerce" {
                    self.put("poll_woocommerce", &name, body.clone());
                    self.put(
                        "poll_woocommerce",
                        &format!("page-{name}"),
                        [b"[", &body[..], b"]"].concat(),
                    );
                } else if let Some(target) = polled(channel) {
                    self.put(target, &name, body);
                }
            }
            let topic = match channel {
                "shopify" => "x-shopify-topic: orders/create\n",
                "woocommerce" => "x-wc-webhook-topic: order.created\n",
                _ => "",
            };
            for member in ["line_items", "data", "payload", "detail", "_model"] {
                let body = format!("{topic}\n{{\"{member}\":{DEEP}");
                self.put(target, &format!("deep-{member}"), body);
            }
            if let Some(target) = polled(channel) {
                for member in ["orders", "data", "list", "order"] {
                    self.put(target, &format!("deep-{member}"), format!("{{\"{member}\":{DEEP}"));
                }
                self.put(target, "deep", DEEP);
            }
        }
    }

    fn signatures(&mut self) {
        for (family, vectors) in vectors()["schemes"].as_object().into_iter().flatten() {
            for vector in vectors["vectors"].as_array().into_iter().flatten() {
                let target = if family == "aws_sns" { "sns" } else { "signature" };
                let name = format!("{family}-{}", text(&vector["name"]));
                let input = request(family, vector);
                if family == "aws_sns" {
                    self.put("parse_amazon", &name, input.clone());
                }
                self.put(target, &name, input);
            }
        }
        for (name, lines) in [
            ("path", ":scheme: path\n:secret: 0123456789abcdef\n:target: /a/0123456789abcdef"),
            ("token", ":scheme: token\n:header: x-token\n:prefix: \n:secret: abc\nx-token: abc"),
            ("bearer", ":scheme: token\n:secret: abc\n:secret: def\nauthorization: Bearer def"),
            ("basic", ":scheme: basic\n:user: me\n:secret: abc\nauthorization: Basic bWU6YWJj"),
            ("ebay-sha256", ":scheme: ebay\n:digest: SHA256"),
            (
                "ping",
                ":scheme: woocommerce\n:secret: abc\ncontent-type: application/x-www-form-urlencoded",
            ),
        ] {
            self.put("signature", name, format!("{lines}\n\nwebhook_id=7"));
        }
        for (name, lines) in [
            ("body", ":secret: abc"),
            ("stripe", ":signed: {timestamp}.{body}\n:timestamp: x-time\n:secret: abc"),
            ("github", ":prefix: sha256=\n:signed: {body}\n:secret: abc\n:secret: def"),
            (
                "walmart",
                ":encoding: base64\n:signed: {method}\\n{path}\\n{timestamp}\\n{body_sha256}\n:timestamp: wm-time\n:unit: ms\n:tolerance: 0\n:key: hex\n:secret: 616263",
            ),
            (
                "standard",
                ":header: webhook-signature\n:prefix: v1,\n:separator:  \n:encoding: base64\n:signed: {id}.{timestamp}.{body}\n:id: webhook-id\n:timestamp: webhook-timestamp\n:key: base64\n:secret: YWJj",
            ),
        ] {
            self.put("described", name, format!("{lines}\n\n{{}}"));
        }
    }

    fn keys(&mut self) {
        let leaf = fs::read(format!("{HERE}/leaf.pem")).expect("the certificate is here");
        let base64: Vec<u8> = leaf
            .split(|c| *c == b'\n')
            .filter(|l| !l.starts_with(b"-"))
            .flatten()
            .copied()
            .collect();
        self.put("keys", "leaf", STANDARD.decode(base64).expect("it is PEM"));
        self.put("keys", "leaf.pem", leaf);
        let vectors = vectors();
        let certificates = &vectors["schemes"]["aws_sns"]["certs"];
        for (name, pem) in certificates.as_object().into_iter().flatten() {
            self.put("keys", name, text(pem));
        }
        let records = &vectors["schemes"]["ebay"]["public_keys_as_returned_by_getPublicKey"];
        for (name, record) in records.as_object().into_iter().flatten() {
            self.put("keys", name, record.to_string());
        }
    }

    /// What the samples say, as a log says it, after the channel and before the rest of what can be said.
    fn log(&mut self) {
        let deliveries = self.0.iter().filter(|((target, _), _)| target.starts_with("parse_"));
        let facts: Vec<Vec<Fact>> =
            deliveries.filter_map(|((target, _), input)| facts(target, input)).collect();
        let (begin, end) = (begin(), end());
        for (n, facts) in facts.into_iter().enumerate() {
            let delivery = |key: u8| Delivery {
                key: [key; 16],
                channel: "shop".into(),
                id: "shop:1".into(),
                facts: facts.clone(),
                publish: vec![("orders.created".into(), message(key))],
                ..Delivery::default()
            };
            let segment = Segment {
                origin: Origin { node: 1, incarnation: 7 },
                lane: Lane::Urgent,
                sequence: 1,
                durable_ms: 1_795_186_800_000,
                deliveries: vec![delivery(1), delivery(2)],
            };
            let commands =
                begin.iter().cloned().chain([Command::Segment(segment)]).chain(end.iter().cloned());
            let log: Vec<(Millis, Command)> = (1_795_186_800_000..).zip(commands).collect();
            self.put("command", &n.to_string(), codec::encode(&log));
            if n.is_multiple_of(4) {
                self.left_behind(&n.to_string(), log);
            }
        }
    }

    /// What a node has on its disk after a log: its state, and the history of each kind.
    fn left_behind(&mut self, name: &str, log: Vec<(Millis, Command)>) {
        let mut state = State::default();
        for (index, (now, command)) in (1..).zip(log) {
            let segment = match &command {
                Command::Segment(segment) => Some(segment.clone()),
                _ => None,
            };
            let (_, effects) = state.apply(Stamp { index, now }, command);
            if let Some(Segment { lane, durable_ms, deliveries, .. }) = segment {
                let received =
                    deliveries.iter().map(|of| (of.key, of.received_ms)).collect::<Vec<_>>();
                self.put(
                    "history",
                    &format!("arrivals-{name}"),
                    codec::encode(&(durable_ms, received)),
                );
                self.put("inbox", name, codec::encode(&(lane, durable_ms, deliveries)));
                let lines = effects.movements.into_iter().map(|of| (of, [7_u8; 32]));
                let lines = codec::encode(&lines.collect::<Vec<_>>());
                let framed = Some((vec![1, 0, 0, 0, 0, 0, 0, 0, 9], lines.clone()));
                self.put("history", &format!("lines-{name}"), lines);
                self.put("history", &format!("framed-{name}"), codec::encode(&framed));
            }
        }
        self.put("snapshot", name, codec::encode(state.data()));
    }

    fn records(&mut self) {
        for (target, inputs) in
            [("frame", fuzz::fuzzing::frames()), ("stored", fuzz::fuzzing::records())]
        {
            for (n, input) in inputs.into_iter().enumerate() {
                self.put(target, &n.to_string(), input);
            }
        }
        self.put("inbox", "key", [&[1][..], &9_u64.to_be_bytes()].concat());
    }

    fn write(self) {
        let corpus = Path::new(HERE).join("corpus");
        for (target, _) in fuzz::TARGETS {
            let folder = corpus.join(target);
            fs::create_dir_all(&folder).expect("it can be made");
            for old in entries(&folder) {
                if old.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seed-")) {
                    fs::remove_file(old).expect("it can be removed");
                }
            }
        }
        for ((target, name), input) in self.0 {
            fs::write(corpus.join(target).join(format!("seed-{name}")), input)
                .expect("it can be written");
        }
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder is here");
    let mut entries: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    entries.sort();
    entries
}

/// The samples of a channel by the names of their files, without what follows the last dot.
fn samples(channel: &str) -> Vec<(String, Vec<u8>)> {
    let folder = format!("{HERE}/../channels/tests/samples/{channel}");
    let named = entries(Path::new(&folder)).into_iter().filter_map(|path| {
        let name = path.file_stem()?.to_str()?.to_string();
        Some((name, fs::read(path).ok()?))
    });
    named.collect()
}

fn polled(channel: &str) -> Option<&'static str> {
    let known = fuzz::TARGETS.map(|(name, _)| name);
    known.into_iter().find(|name| name.strip_prefix("poll_") == Some(channel))
}

fn shopify_topic(name: &str) -> String {
    let is_it = |topic: &&str| name.starts_with(&topic.replace('/', "_"));
    let topic = SHOPIFY_TOPICS.into_iter().find(is_it).unwrap_or("shop/redact");
    format!("x-shopify-topic: {topic}\nx-shopify-webhook-id: b54557e4\n")
}

fn woocommerce_topic(name: &str) -> String {
    let event = [
        "order.created",
        "order.updated",
        "order.deleted",
        "product.created",
        "product.updated",
        "product.deleted",
    ];
    let topic = event.into_iter().find(|topic| name.starts_with(topic)).unwrap_or(name);
    format!("x-wc-webhook-topic: {topic}\n")
}

fn vectors() -> Value {
    let path = format!("{HERE}/../channels/tests/vectors/vectors.json");
    serde_json::from_slice(&fs::read(path).expect("the vectors are here")).expect("they are JSON")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A vector as a request.
fn request(family: &str, vector: &Value) -> Vec<u8> {
    let mut lines = vec![format!(":scheme: {family}")];
    let secrets =
        vector["secrets"].as_array().cloned().unwrap_or_else(|| vec![vector["secret"].clone()]);
    lines.extend(
        secrets.iter().filter_map(Value::as_str).map(|secret| format!(":secret: {secret}")),
    );
    lines.extend(vector["now_unix"].as_u64().map(|now| format!(":now: {now}000")));
    lines.extend(vector["request_method"].as_str().map(|method| format!(":method: {method}")));
    lines.extend(vector["request_target"].as_str().map(|target| format!(":target: {target}")));
    for (name, value) in vector["headers"].as_object().into_iter().flatten() {
        let values = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        lines.extend(values.iter().map(|value| format!("{name}: {}", text(value))));
    }
    let body = STANDARD.decode(text(&vector["body_b64"])).expect("it is base64");
    [lines.join("\n").as_bytes(), b"\n\n", &body].concat()
}

/// The facts of a seed of a parser.
fn facts(target: &str, input: &[u8]) -> Option<Vec<Fact>> {
    let sent = Sent::read(input);
    let parsed = match target {
        "parse_amazon" => channels::amazon::notification(&sent.body),
        "parse_ebay" => sent.parsed(channels::ebay::parse),
        "parse_shopify" => sent.parsed(channels::shopify::parse),
        "parse_walmart" => sent.parsed(channels::walmart::parse),
        "parse_woocommerce" => sent.parsed(channels::woocommerce::parse),
        _ => return None,
    };
    match parsed.understood {
        Understood::Facts(facts) => Some(facts),
        _ => None,
    }
}

/// What a delivery publishes.
fn message(n: u8) -> Publish {
    let (lane, key) = (Lane::Urgent, Some("o".into()));
    Publish { lane, key, delay_ms: 0, dedup: Some([n; 16]), body: vec![n] }
}

fn asked(topic: &str, what: &Value) -> Value {
    json!({"idempotency": null, "topic": topic, "what": what})
}

/// What workers ask of the topic that the deliveries made, and of another one.
fn asks() -> [Value; 6] {
    let publish = |delay: u64| json!({"lane": "Normal", "key": "k", "delay_ms": delay, "dedup": null, "body": [1, 2]});
    let lease = json!({"Lease": {"group": "erp", "max": 3, "lease_ms": 1000}});
    [
        asked("jobs", &json!({"Publish": [publish(0), publish(0), publish(1)]})),
        asked("jobs", &lease),
        asked("orders.created", &lease),
        asked(
            "jobs",
            &json!({"Schedule": {"name": "s", "cron": "* * * * *", "next": 5, "message": publish(0)}}),
        ),
        asked("jobs", &json!({"Fire": {"name": "s", "at": 5, "next": 6}})),
        asked("jobs", &json!({"Pause": 7})),
    ]
}

/// What follows it. The sixteenth command was the one that leased.
fn after() -> [Value; 8] {
    let normal = |place: u64| place | 1 << 63;
    let lease = |place: u64| json!([{"group": 1, "message": normal(place), "token": 16}]);
    [
        asked("jobs", &json!({"Extend": {"leases": lease(1), "lease_ms": 2000}})),
        asked("jobs", &json!({"Nack": {"leases": lease(1), "delay_ms": 1, "reason": "no"}})),
        asked("orders.created", &json!({"Ack": [{"group": 1, "message": 1, "token": 16}]})),
        asked("jobs", &json!({"Redrive": {"group": "erp", "messages": [normal(1)]}})),
        asked("jobs", &json!({"Begin": {"group": "erp", "from": "Earliest"}})),
        asked("jobs", &json!({"Remove": [normal(2)]})),
        asked("jobs", &json!({"Disband": "erp"})),
        asked("jobs", &json!("Delete")),
    ]
}

fn definition() -> Value {
    json!({"kind": "shopify", "location": "main", "home": null, "pushes": true, "fetches": true,
        "dedup_window_ms": 604_800_000, "rate_milli": 1000, "burst": 1, "per_day": 0, "compares": true,
        "shadow": false, "settings": {}})
}

/// What JSON spells of a type of the state's.
fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("it spells it")
}

/// What is set up, asked and held before a delivery comes.
fn begin() -> Vec<Command> {
    let (name, definition) = ("shop".to_string(), definition());
    vec![
        from(json!({"PutChannel": {"name": name, "definition": definition}})),
        from(
            json!({"PutPolicies": {"replaces": null, "policies": [{"sku": "*", "mode": "Split", "weights": {"Fixed": {}},
                    "half_life_ms": null, "floor": null, "cap": null, "buffers": {"Named": {"shop": {"Units": 1}}},
                    "risk": null, "min": {"Named": {}}, "max": {"All": 90}, "end_at": {"Named": {}}, "low_share": null}]}}),
        ),
        from(
            json!({"Map": {"sku": "TEE-M", "settings": {"listings": {"shop": {"id": "1", "settings": {"variant_id": "2"}}},
                    "components": null, "backorder": 1, "low_at": 2, "escrow": null, "abandon": false}}}),
        ),
        from(json!({"List": [["TEE-L", "shop", {"id": "3", "settings": {}}]]})),
        from(json!({"Claim": {"channel": "shop", "node": 1}})),
        from(
            json!({"Request": {"idempotency": null, "asked": {"Movements": {"atomic": true, "movements": [
                {"key": [1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6], "body": [1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6], "id": "m",
                 "kind": "Receipt", "sku": "TEE-M", "quantity": 10, "location": "main", "to_location": null,
                 "channel": null, "reference": null, "reason": null, "occurred_ms": null, "count": null}]}}}}),
        ),
        from(
            json!({"Map": {"sku": "SET", "settings": {"listings": null, "components": [["TEE-M", 2]],
                "backorder": null, "low_at": null, "escrow": null, "abandon": false}}}),
        ),
        from(json!({"PutLocations": ["main"]})),
        from(
            json!({"Request": {"idempotency": null, "asked": {"Hold": {"id": "r", "channel": null, "ttl_ms": 1000,
                "lines": [{"sku": "SET", "quantity": 1, "location": null}], "reference": null}}}}),
        ),
        from(json!({"Request": {"idempotency": null, "asked": {"Extend": ["r", 5000]}}})),
    ]
}

/// What is pushed, sold and told after it.
fn end() -> Vec<Command> {
    vec![
        // The fifth command was the one that claimed, the twelfth is this one: both must be read first.
        from(
            json!({"Intend": {"channel": "shop", "epoch": 5, "lane": "Urgent", "skus": ["TEE-M", "TEE-L"]}}),
        ),
        from(
            json!({"Settle": {"channel": "shop", "epoch": 5, "lane": "Urgent", "intent": 12, "calls": 1, "outcomes": [
                {"sku": "TEE-M", "listing": "1", "revision": 0, "result": {"Observed": 0}},
                {"sku": "TEE-L", "listing": "3", "revision": 0, "result": {"Observed": 3}}]}}),
        ),
        from(json!({"Request": {"idempotency": null,
                "asked": {"Confirm": {"id": "r", "lines": [["SET", 1]], "reference": "o"}}}})),
        from(json!({"Request": {"idempotency": null, "asked": {"Release": "r"}}})),
        Command::Queue(asks().map(from).into()),
        Command::Queue(after().map(from).into()),
        from(
            json!({"Intend": {"channel": "shop", "epoch": 5, "lane": "Urgent", "skus": ["TEE-M", "TEE-L"]}}),
        ),
        from(
            json!({"Settle": {"channel": "shop", "epoch": 5, "lane": "Urgent", "intent": 18, "calls": 2, "outcomes": [
                {"sku": "TEE-M", "listing": "1", "revision": 18, "result": "Confirmed"}]}}),
        ),
        Command::Checkpoint,
        Command::Tick,
    ]
}
