//! Many who connect, and say nothing, or say it slowly.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::http::Http;
use crate::support::{CHANNEL, Cluster, Node, TOKEN, orders, raw, unique, until_true};

/// Connections of the public port.
const ROOM: usize = 48;
/// Between two bytes of those who are slow.
const SLOWLY: Duration = Duration::from_millis(50);
/// A sender's patience, as Shopify's.
const PATIENCE: Duration = Duration::from_secs(5);

/// How strangers hold a connection.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// They say nothing.
    Idle,
    /// A head that does not end.
    Head,
    /// A body that does not end, and does not say how long it is.
    Body,
    /// One request after another that anybody may make.
    Asking,
}

const WAYS: [Way; 4] = [Way::Idle, Way::Head, Way::Body, Way::Asking];

/// Strangers, each of whom connects again as soon as he is thrown out. They end with this.
struct Flood {
    _strangers: JoinSet<()>,
}

/// How many strangers have connected once.
type Connected = Arc<AtomicUsize>;

impl Flood {
    /// So many of each way. Returns once each has connected.
    async fn start(port: u16, ways: &[Way], each: usize) -> Self {
        let (mut strangers, connected) = (JoinSet::new(), Connected::default());
        for way in ways.iter().flat_map(|way| std::iter::repeat_n(*way, each)) {
            let connected = Arc::clone(&connected);
            strangers.spawn(async move {
                loop {
                    let _ = hold(port, way, &connected).await;
                    tokio::time::sleep(SLOWLY).await;
                }
            });
        }
        let all = strangers.len();
        until_true("all strangers have connected", async || {
            connected.load(Ordering::Relaxed) >= all
        })
        .await;
        Self { _strangers: strangers }
    }
}

/// Holds a connection for as long as the node lets him.
async fn hold(port: u16, way: Way, connected: &AtomicUsize) -> std::io::Result<()> {
    let (first, then) = match way {
        Way::Idle => (String::new(), ""),
        Way::Head => (format!("POST /webhooks/{CHANNEL} HTTP/1.1\r\nhost: x\r\nx-long: "), "x"),
        Way::Body => {
            let head = "host: x\r\ntransfer-encoding: chunked";
            (format!("POST /webhooks/{CHANNEL} HTTP/1.1\r\n{head}\r\n\r\n"), "1\r\nx\r\n")
        }
        Way::Asking => (String::new(), "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"),
    };
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    connected.fetch_add(1, Ordering::Relaxed);
    stream.write_all(first.as_bytes()).await?;
    let (mut answers, mut requests) = stream.split();
    let says = async {
        loop {
            tokio::time::sleep(SLOWLY).await;
            requests.write_all(then.as_bytes()).await?;
        }
    };
    let hears = async {
        let mut piece = [0; 4096];
        while answers.read(&mut piece).await? > 0 {}
        Ok(())
    };
    tokio::select! {
        ended = says => ended,
        ended = hears => ended,
    }
}

/// Webhooks that each come over a connection of their own; how long the slowest took.
async fn honest(node: &Node, count: usize) -> Duration {
    let mut senders = JoinSet::new();
    for _ in 0..count {
        let (door, webhook) =
            (node.public(), orders::create(7_000_000_000_000 + 10 * unique(), "MUG", 1));
        senders.spawn(async move {
            let headers = webhook.headers();
            let headers: Vec<_> =
                headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let path = format!("/webhooks/{CHANNEL}");
            let (http, began) = (Http::patient(PATIENCE), Instant::now());
            let answer = http.request(door, "POST", &path, &headers, webhook.body.clone()).await;
            let status = answer.map(|answer| answer.status);
            assert_eq!(status, Ok(200), "after {:?}", began.elapsed());
            began.elapsed()
        });
    }
    let took = senders.join_all().await;
    took.into_iter().max().unwrap()
}

/// Asks the API over a connection of its own, within a person's patience.
async fn status(node: &Node) -> serde_json::Value {
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    let http = Http::patient(PATIENCE);
    let answer = http.request(node.admin(), "GET", "/cluster/status", &headers, "".into()).await;
    answer.unwrap().json()
}

async fn small(count: u64) -> Cluster {
    let ingest = format!("[ingest]\nmax_connections = {ROOM}\nrequest_timeout = \"20s\"\n");
    Cluster::start(count, |node| node.more.clone_from(&ingest)).await
}

// A laptop that opens connections and says nothing, or a byte now and then, would keep every shop's webhooks
// out for as long as it likes: each connection may be silent for over a minute, and is opened anew.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_who_hold_connections_keep_no_webhook_out() {
    let cluster = small(1).await;
    let node = &cluster.nodes[0];
    // All places are taken, and as many wait.
    let flood = Flood::start(node.ports[0], &WAYS, ROOM / 2).await;
    for _ in 0..2 {
        honest(node, 8).await;
        assert_eq!(status(node).await["role"], "leader");
    }
    drop(flood);
    let took = honest(node, 8).await;
    assert!(took < Duration::from_secs(3), "the flood is over, and yet: {took:?}");
    assert_eq!(status(node).await["accepted"], 24);
}

// Somebody who floods the API must not stop webhooks, nor lock the operator out who wants to see why.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_the_api_stops_neither_webhooks_nor_the_operator() {
    let cluster = small(1).await;
    let node = &cluster.nodes[0];
    // More than the API takes at once.
    let _flood = Flood::start(node.ports[1], &[Way::Idle, Way::Head, Way::Asking], 200).await;
    honest(node, 8).await;
    assert_eq!(status(node).await["accepted"], 8);
}

// A connection is a file to the system, and so is all that is stored: whoever connects often enough would take
// the last one from the log, and the node would stop.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_leaves_files_to_the_stores() {
    let cluster = Cluster::start(1, |node| node.files_max = Some(256)).await;
    let node = &cluster.nodes[0];
    let _public = Flood::start(node.ports[0], &[Way::Idle], 300).await;
    let _admin = Flood::start(node.ports[1], &[Way::Idle], 100).await;
    honest(node, 8).await;
    let answer = node.post("/cluster/snapshot", &serde_json::json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(!node.log().contains("Too many open files"), "{}", node.log());
}

// A head without end, of one header or of many, must cost neither memory nor time.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_is_bounded_in_size_and_in_number() {
    let cluster = small(1).await;
    let node = &cluster.nodes[0];
    for port in &node.ports[..2] {
        let many = "x-many: y\r\n".repeat(200);
        let endless = format!("x-long: {}", "y".repeat(8 << 20));
        let target = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(100_000));
        for (what, bytes) in [
            ("many headers", format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{many}\r\n")),
            ("one without end", format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{endless}")),
            ("a target without end", target),
        ] {
            let (status, said) = raw::send(*port, bytes.as_bytes()).await;
            // The connection may be gone before the answer is read.
            let refused = [0, 414, 431].contains(&status);
            assert!(refused, "{what}: {said}");
        }
    }
    assert!(honest(node, 1).await < PATIENCE);
}
