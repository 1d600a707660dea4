//! Requests that two parsers read differently, and names that are more than names.

use serde_json::Value;

use crate::support::http::Answer;
use crate::support::issuer::Issuer;
use crate::support::senders::{self, SENDERS, Scheme};
use crate::support::{CHANNEL, Cluster, Node, TOKEN, orders, raw, unique, until_true};

fn order_id() -> u64 {
    7_300_000_000_000 + 10 * unique()
}

/// A webhook as it goes over the wire under these headers for its body, and the connection stays open.
fn framed(order: u64, framing: &str, body: &[u8]) -> Vec<u8> {
    let webhook = orders::create(order, "MUG", 1);
    let signed = webhook.headers();
    let signed: Vec<_> =
        signed.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let signed = signed.concat();
    let head = format!("POST /webhooks/{CHANNEL} HTTP/1.1\r\nhost: x\r\n{signed}{framing}\r\n");
    [head.as_bytes(), body].concat()
}

/// How many answers there are in what came back.
fn answers(said: &str) -> usize {
    said.matches("HTTP/1.1 ").count()
}

async fn knows(node: &Node, order: u64) -> bool {
    node.try_get(&format!("/v1/orders/{CHANNEL}/{order}")).await.is_some()
}

// Where a proxy and the node disagree on where a request ends, a stranger's bytes become the beginning of
// somebody else's request, behind the proxy's back.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_ends_where_everybody_says_that_it_ends() {
    let cluster = Cluster::start(1, |_| ()).await;
    let node = &cluster.nodes[0];
    let mut shapes = Vec::new();
    // Two lengths at once: what is behind the shorter one must not be a request of its own.
    for order in [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
    ] {
        shapes.push((order.to_string(), b"0\r\n\r\n".to_vec()));
    }
    for framing in [
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: 5, 6\r\n",
        "content-length: +5\r\n",
        "content-length: -5\r\n",
        "content-length: 0x5\r\n",
        "content-length: 18446744073709551621\r\n",
        "content-length : 5\r\n",
        " content-length: 5\r\n",
        "content-length: 5\r\n transfer-encoding: chunked\r\n",
        "content\0-length: 5\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: identity\r\ncontent-length: 5\r\n",
        "transfer-encoding:\r\ncontent-length: 5\r\n",
    ] {
        shapes.push((framing.to_string(), b"hello".to_vec()));
    }
    let chunked = "transfer-encoding: chunked\r\n";
    for chunks in [
        "5;a=b\r\nhello\r\nfffffffffffffffff\r\n".to_string(),
        format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(64 << 10)),
        "-5\r\nhello\r\n0\r\n\r\n".into(),
        "0x5\r\nhello\r\n0\r\n\r\n".into(),
        "5\r\nhelloworld\r\n0\r\n\r\n".into(),
        "5 5\r\nhello\r\n0\r\n\r\n".into(),
        format!("0\r\n{}\r\n", "x-trailer: y\r\n".repeat(20_000)),
    ] {
        shapes.push((chunked.into(), chunks.into_bytes()));
    }
    let mut smuggled = Vec::new();
    for (framing, body) in shapes {
        let order = order_id();
        let inner = orders::create(order, "MUG", 1).body;
        let inner = framed(order, &format!("content-length: {}\r\n", inner.len()), &inner);
        smuggled.push(order);
        let bytes = [framed(order_id(), &framing, &body), inner].concat();
        let (status, said) = raw::exchange(node.ports[0], &[&bytes], true).await;
        let shown =
            format!("{framing:?} {:?}", String::from_utf8_lossy(&body[..body.len().min(60)]));
        assert!(answers(&said) <= 1, "{shown}: {said}");
        // What stands before the end of the first is no genuine webhook either.
        assert!(status == 0 || (400..500).contains(&status), "{shown}: {said}");
    }
    // The other way round: a chunked webhook with an extension is one, and so is the next on its connection.
    let (first, second) = (order_id(), order_id());
    let body = |order| orders::create(order, "MUG", 1).body;
    let with_extension = [
        format!("{:x};name=\"value\"\r\n", body(first).len()).as_bytes(),
        &body(first),
        b"\r\n0\r\nx-trailer: y\r\n\r\n",
    ]
    .concat();
    let length = format!("content-length: {}\r\nconnection: close\r\n", body(second).len());
    let both = [framed(first, chunked, &with_extension), framed(second, &length, &body(second))];
    let (status, said) = raw::send(node.ports[0], &both.concat()).await;
    assert_eq!((status, answers(&said)), (200, 2), "{said}");
    until_true("both are known", async || knows(node, first).await && knows(node, second).await)
        .await;
    for order in smuggled {
        assert!(!knows(node, order).await, "{order} was smuggled in");
    }
    assert_eq!(node.get("/cluster/status").await["accepted"], 2);
}

/// Names that mean something to a file system, a terminal, a parser or a log.
fn names() -> Vec<String> {
    let fixed = [
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e%2f%2e%2e%2f",
        "%252e%252e%252f",
        "..%5c..%5c",
        "%2fetc%2fpasswd",
        "%00",
        "a%00.json",
        "%ff%fe",
        "%c0%ae%c0%ae%2f",
        "%0d%0aset-cookie:%20a=b",
        "%0a2026-01-01T00:00:00.000000Z%20ERROR%20forged",
        "%1b%5b2Jgone",
        "%e2%80%ae%f0%9f%92%a9",
        "%",
        "%zz",
        "18446744073709551616",
        "-1",
        "{}",
        "*",
    ];
    fixed.into_iter().map(String::from).chain([("a".repeat(9000)), "%61".repeat(3000)]).collect()
}

/// Asserts that an answer is whole and sober, whatever was asked.
fn assert_sober(answer: &Answer, what: &str) {
    assert!(
        answer.status < 500 || answer.status == 503,
        "{what}: {} {}",
        answer.status,
        answer.text()
    );
    assert!(answer.headers.get("set-cookie").is_none(), "{what}: {:?}", answer.headers);
    if answer.status >= 400 {
        assert_eq!(answer.header("content-type"), "application/problem+json", "{what}");
        assert_eq!(answer.json()["status"], answer.status, "{what}");
    }
    let raw = answer.text().chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(raw, None, "{what}: {:?}", answer.text());
}

/// What lies in a node's directories, but the names of the keys that it knows.
fn files(node: &Node) -> Vec<String> {
    let mut all: Vec<String> = std::fs::read_dir(&node.dir)
        .unwrap()
        .chain(std::fs::read_dir(&node.data_dir).unwrap())
        .map(|entry| entry.unwrap().path().display().to_string())
        .filter(|path| !path.ends_with("keys-ebay-ebay"))
        .collect();
    all.sort();
    all
}

// A name in a URL that becomes a path, a header, a line of the log or a character that a terminal obeys, hands
// over files, forges answers, or hides what somebody did.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_a_name_wherever_it_comes_to_stand() {
    let issuer = Issuer::start().await;
    let channels = senders::config(&issuer);
    let cluster = Cluster::start(1, |node| {
        node.more.clone_from(&channels);
        // All that it could say.
        node.env.push(("STOCKRAFT_LOG".into(), "warn,stockraft=trace,cluster=debug".into()));
    })
    .await;
    let node = &cluster.nodes[0];
    let before = files(node);
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let api = node.api("GET", "/openapi.json", &[], "").await.unwrap().json();
    let mut asked = 0;
    for (path, methods) in api["paths"].as_object().unwrap().iter().filter(|(p, _)| p.contains('{'))
    {
        for method in methods.as_object().unwrap().keys().map(|method| method.to_uppercase()) {
            for name in names() {
                let mut parts: Vec<&str> = path.split('/').collect();
                for part in parts.iter_mut().filter(|part| part.starts_with('{')) {
                    *part = &name;
                }
                let request = raw::request(
                    &method,
                    &parts.join("/"),
                    &headers.map(|(n, v)| (n, v.to_string())),
                    "",
                );
                let (status, said) = raw::send(node.ports[1], request.as_bytes()).await;
                assert!((200..500).contains(&status), "{method} {path} {name:.60}: {said}");
                let (head, body) = said.split_once("\r\n\r\n").unwrap();
                assert!(!head.contains("set-cookie"), "{method} {path} {name:.60}: {head}");
                let odd = body.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\r'));
                assert_eq!(odd, None, "{method} {path} {name:.60}: {body:?}");
                asked += 1;
            }
        }
    }
    assert!(asked > 300, "only {asked} were asked");
    for query in
        ["sku=%0d%0aset-cookie:%20a", "cursor=%00", "cursor=%1b%5b2J", "limit=%0a", "at=%0a"]
    {
        for path in ["/v1/stock", "/v1/listings", "/v1/reservations", "/v1/notices", "/v1/stock/A"]
        {
            let answer = node.api("GET", &format!("{path}?{query}"), &headers, "").await.unwrap();
            assert_sober(&answer, &format!("{path}?{query}"));
        }
    }
    webhooks(node).await;
    assert_eq!(files(node), before, "a name became a file");
    for line in node.log().lines() {
        let begins = line.starts_with("20") && line.get(10..11) == Some("T");
        assert!(begins && !line.chars().any(char::is_control), "{line:?}");
    }
}

/// The same by whoever sends webhooks, unsigned and signed.
async fn webhooks(node: &Node) {
    for name in names() {
        for path in
            [format!("/webhooks/{name}"), format!("/webhooks/{CHANNEL}/{name}"), format!("/{name}")]
        {
            let request = raw::request("POST", &path, &[("content-length", "2".into())], "{}");
            let (status, said) = raw::send(node.ports[0], request.as_bytes()).await;
            assert!((400..500).contains(&status), "{path:.60}: {said}");
            assert!(!said.contains("set-cookie"), "{path:.60}: {said}");
        }
    }
    let text = "x\\r\\nset-cookie: a=b\\n2026-01-01T00:00:00.000000Z ERROR forged \\u001b[2J";
    for sender in &SENDERS {
        for header in
            ["x-shopify-topic", "x-wc-webhook-topic", "webhook-id", "x-request-id", "user-agent"]
        {
            let body = format!(
                "{{\"id\": \"{text}\", \"topic\": \"{text}\", \"kid\": \"{text}\", \
                                \"Type\": \"Notification\", \"TopicArn\": \"{text}\", \
                                \"SigningCertURL\": \"https://{text}\", \"metadata\": {{\"topic\": \"{text}\"}}}}"
            );
            let sent = sender.sign(&[(header, "../..%0d%0a\t[31m")], body.as_bytes());
            let answer = sent.to(node).await;
            assert!(answer.status < 500, "{}: {}", sender.name, answer.text());
            assert!(answer.headers.get("set-cookie").is_none(), "{}", sender.name);
        }
        if sender.scheme == Scheme::Ebay {
            let mut sent = sender.sign(&[], b"{}");
            sent.set(
                "x-ebay-signature",
                &Issuer::claim("a\r\nset-cookie: b\n2026 ERROR \u{1b}[2J", "AAAA"),
            );
            assert_eq!(sent.to(node).await.status, 401);
        }
    }
    // A buyer's own words come with a genuine order.
    let order = order_id();
    let webhook = orders::create(order, "A\nB\u{1b}[2J", 1);
    assert_eq!(node.webhook(&webhook).await.unwrap().status, 200);
    until_true("the order is known", async || knows(node, order).await).await;
    let known = node.get(&format!("/v1/orders/{CHANNEL}/{order}")).await;
    let line = &known["lines"][orders::line_id(order).to_string()];
    assert_eq!(line["sku"], Value::from("A\nB\u{1b}[2J"));
}
