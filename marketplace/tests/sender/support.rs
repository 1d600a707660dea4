//! A receiver of webhooks, and a caller of a sender's API.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode, Version, header::HeaderMap, server::conn::http1};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};
use marketplace::sender::{Faults, Item, Kind, Options, Sender, Stats, Totals};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

/// Longest wait of any test: one that hangs must fail, not stop the run.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

/// A quiet sender with ten mugs and five tees, whose retries come at once.
pub(crate) fn options(kind: Kind) -> Options {
    let item = |sku: &str, listing, units| Item { sku: sku.to_owned(), listing, units };
    Options {
        items: vec![item("MUG", 93, 10), item("TEE", 94, 5)],
        time_scale: 1_000_000.0,
        handshake_retry: Duration::from_millis(5),
        ..Options::new("north", kind)
    }
}

/// A sender with customers and enough to sell, whose orders change soon, and half of whose webhooks are
/// never sent.
pub(crate) fn busy(kind: Kind) -> Options {
    let mut options = options(kind);
    for item in &mut options.items {
        item.units = 500;
    }
    let faults = Faults {
        drop: 0.5,
        cancel: 0.2,
        partial: 0.5,
        ship: 0.5,
        change_after_max: Duration::from_millis(50),
        ..Faults::default()
    };
    Options { orders_per_second: 200.0, faults, ..options }
}

/// Waits until all kinds of changes have happened in a busy sender, then until nothing is due.
pub(crate) async fn settle(sender: &Sender, partial: bool) {
    let enough = |s: &Stats| {
        let changed = s.cancellations > 0 && s.shipments > 0 && (s.reductions > 0 || !partial);
        s.orders >= 40 && changed && s.dropped > 0 && s.acknowledged > 0
    };
    soon(sender.wait_until(enough)).await;
    sender.stop_selling();
    soon(sender.drained()).await;
}

/// A sender that sells to this receiver, after its handshake.
pub(crate) async fn open(receiver: &Receiver, options: Options) -> Sender {
    let targets = vec![receiver.url.clone()];
    let sender = Sender::start(Options { targets, ..options }).await.unwrap();
    soon(sender.subscribed()).await;
    sender
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) version: Version,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }
}

/// What a receiver answers.
pub(crate) struct Reply(pub(crate) u16, pub(crate) String);

impl From<u16> for Reply {
    fn from(status: u16) -> Self {
        Self(status, format!("said {status}"))
    }
}

type Answers = dyn Fn(usize, &Seen) -> Reply + Send + Sync;

/// Takes requests and answers the n-th with what the test wants.
pub(crate) struct Receiver {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Receiver {
    pub(crate) async fn open<R: Into<Reply>>(
        answer: impl Fn(usize, &Seen) -> R + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hooks/north", listener.local_addr().unwrap());
        let receiver = Self { url, seen: Arc::default() };
        let answer: Arc<Answers> = Arc::new(move |nth, seen| answer(nth, seen).into());
        let seen = Arc::clone(&receiver.seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                let service = hyper::service::service_fn(move |request: Request<_>| {
                    let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                    async move { take(request, &seen, &*answer).await }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        receiver
    }

    /// Everything that arrived.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn take(
    request: Request<hyper::body::Incoming>,
    seen: &Mutex<Vec<Seen>>,
    answer: &Answers,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let text = |value: &hyper::header::HeaderValue| value.to_str().unwrap().to_owned();
    let arrived = Seen {
        at: Instant::now(),
        method: parts.method.to_string(),
        path: parts.uri.to_string(),
        version: parts.version,
        headers: parts.headers.iter().map(|(k, v)| (k.to_string(), text(v))).collect(),
        body: body.collect().await.unwrap().to_bytes(),
    };
    let Reply(status, body) = {
        let mut seen = seen.lock().unwrap();
        let reply = answer(seen.len(), &arrived);
        seen.push(arrived);
        reply
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    Ok(response)
}

/// An answer of a sender's API.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

/// Calls a sender's API; an error is a broken connection.
pub(crate) async fn call(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Answered, String> {
    let request = Request::builder().method(method).uri(url);
    let request = headers.iter().fold(request, |request, (k, v)| request.header(*k, *v));
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http();
    let response = soon(client.request(request)).await.map_err(|e| e.to_string())?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
    let body = serde_json::from_slice(&body).expect("JSON");
    Ok(Answered { status: parts.status.as_u16(), headers: parts.headers, body })
}

/// HMAC-SHA256 written out by its definition, so that the library that signs does not judge itself.
pub(crate) fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0_u8; 64];
    if key.len() > 64 {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let pad = |with: u8| block.map(|byte| byte ^ with).to_vec();
    let inner = Sha256::digest([pad(0x36), message.to_vec()].concat());
    Sha256::digest([pad(0x5c), inner.to_vec()].concat()).to_vec()
}

/// What the sender says of itself: by SKU, what it sold, cancelled, got back and shipped.
pub(crate) fn truth(sender: &Sender) -> BTreeMap<String, [i64; 4]> {
    let counts = |t: Totals| [t.sold, t.cancelled, t.returned, t.fulfilled];
    let totals = sender.expected().into_iter().map(|(sku, totals)| (sku, counts(totals)));
    totals.filter(|(_, counts)| *counts != [0; 4]).collect()
}

/// What a test read of one order line in the API, to be added up as [`truth`] is.
pub(crate) fn add(sums: &mut BTreeMap<String, [i64; 4]>, sku: &str, counts: [i64; 4]) {
    let sum = sums.entry(sku.to_owned()).or_default();
    for (sum, count) in sum.iter_mut().zip(counts) {
        *sum += count;
    }
}

/// Lower-case hex of the SHA-256.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

pub(crate) fn distinct<T: Ord>(values: impl IntoIterator<Item = T>) -> usize {
    values.into_iter().collect::<BTreeSet<_>>().len()
}
