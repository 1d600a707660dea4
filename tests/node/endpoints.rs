//! Promise: an endpoint gets every message of its topic, signed, in order, until it has taken it; and is left
//! alone once it wants no more.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use crate::support::{Cluster, Node, orders, unique, until, until_true};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use channels::signature::{Judged, Request, Scheme, verify};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use stockraft::clock;
use tokio::net::TcpListener;

/// What an endpoint was sent, and what it answered.
#[derive(Clone, Debug)]
struct Posted {
    id: String,
    body: Value,
    genuine: bool,
    at_ms: u64,
    answer: u16,
}

/// An endpoint that answers as it was told, one after the other, and 200 after that.
#[derive(Clone)]
struct Hook {
    port: u16,
    posted: Arc<Mutex<Vec<Posted>>>,
}

fn secret() -> String {
    format!("whsec_{}", STANDARD.encode([7; 32]))
}

impl Hook {
    async fn start(answers: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let hook = Self { port, posted: Arc::default() };
        let (served, answers) = (hook.clone(), Arc::<[u16]>::from(answers));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (hook, answers) = (served.clone(), Arc::clone(&answers));
                let service = service_fn(move |request| {
                    let (hook, answers) = (hook.clone(), Arc::clone(&answers));
                    async move { Ok::<_, Infallible>(hook.answer(request, &answers).await) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        hook
    }

    async fn answer(
        &self,
        request: hyper::Request<Incoming>,
        answers: &[u16],
    ) -> Response<Empty<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let genuine = is_genuine(&head.headers, &body);
        let id = head.headers["webhook-id"].to_str().unwrap().to_string();
        let mut posted = self.posted.lock().unwrap();
        let answer = answers.get(posted.len()).copied().unwrap_or(200);
        let body = serde_json::from_slice(&body).unwrap();
        posted.push(Posted { id, body, genuine, at_ms: clock::now_ms(), answer });
        let mut response = Response::builder().status(answer);
        if answer == 503 {
            response = response.header("retry-after", "2");
        }
        response.body(Empty::new()).unwrap()
    }

    fn posted(&self) -> Vec<Posted> {
        self.posted.lock().unwrap().clone()
    }

    fn taken(&self) -> Vec<Posted> {
        self.posted().into_iter().filter(|posted| posted.answer == 200).collect()
    }
}

/// Judged by the reading of the scheme that was tried against its own vectors.
fn is_genuine(headers: &HeaderMap, body: &[u8]) -> bool {
    let scheme = Scheme::standard_webhooks(&[secret()]).unwrap();
    let request =
        Request { method: &Method::POST, target: "/", headers, body, now_ms: clock::now_ms() };
    headers["content-type"] == "application/json"
        && matches!(verify(&scheme, &request, None), Ok(Judged::Genuine(_)))
}

/// A node that pushes these topics to these endpoints. What fails is tried again soon.
async fn node(endpoints: &[(&str, &str, &Hook)]) -> Cluster {
    let mut more = String::new();
    for name in ["orders.created", "stock.notices"] {
        let waits = "backoff = \"100ms\"\nbackoff_max = \"200ms\"";
        write!(more, "\n[[topic]]\nname = \"{name}\"\n{waits}\n").unwrap();
    }
    for (name, topic, hook) in endpoints {
        let (port, secret) = (hook.port, secret());
        write!(
            more,
            "\n[[endpoint]]\nname = \"{name}\"\ntopic = \"{topic}\"\nsecret = \"{secret}\"\n\
             url = \"http://127.0.0.1:{port}/hook\"\n"
        )
        .unwrap();
    }
    Cluster::start(1, |node| node.more.clone_from(&more)).await
}

/// Has an order sold, and waits until it is in the ledger, so that orders are told in this order.
async fn sell(node: &Node) -> String {
    let order = 9_000_000_000_000_000 + unique() * 10;
    let answer = node.webhook(&orders::create(order, "MUG", 1)).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let path = format!("/v1/orders/{}/{order}", crate::support::CHANNEL);
    until("an order is in the ledger", async || node.try_get(&path).await).await;
    order.to_string()
}

// A shipper that misses one order, gets an older one after a newer one, or cannot tell a repetition, ships
// wrong; one that cannot verify the sender ships for anybody.
#[tokio::test(flavor = "multi_thread")]
async fn every_message_comes_signed_in_order_and_until_it_is_taken() {
    let hook = Hook::start(&[500, 503, 200, 302, 404]).await;
    let notices = Hook::start(&[]).await;
    let endpoints = [("shipper", "orders.created", &hook), ("alarm", "stock.notices", &notices)];
    let cluster = node(&endpoints).await;
    let node = &cluster.nodes[0];
    let mut sold = Vec::new();
    for _ in 0..4 {
        sold.push(sell(node).await);
    }
    until_true("all are taken", async || hook.taken().len() >= sold.len()).await;
    let posted = hook.posted();
    assert!(posted.iter().all(|posted| posted.genuine), "{posted:?}");
    let order = |posted: &Posted| posted.body["order"].as_str().unwrap().to_string();
    assert_eq!(hook.taken().iter().map(order).collect::<Vec<_>>(), sold);
    // The first is tried three times before the second is tried at all, and so on.
    let tried: Vec<String> = posted.iter().map(order).collect();
    let (first, second) = (sold[0].clone(), sold[1].clone());
    assert_eq!(tried[..5], [&first, &first, &first, &second, &second].map(Clone::clone));
    assert_eq!((&posted[0].id, &posted[3].id), (&posted[2].id, &posted[4].id));
    assert_ne!(posted[2].id, posted[3].id);
    // Retry-After was 2 s, the backoff 200 ms at the most.
    let waited = posted[2].at_ms - posted[1].at_ms;
    assert!(waited >= 1_900, "it came back after {waited} ms");
    assert_eq!(posted.len(), sold.len() + 4);

    // Nobody received any: the first one sold is missing.
    until_true("a notice is taken", async || !notices.taken().is_empty()).await;
    let notice = &notices.taken()[0];
    assert!(notice.genuine, "{notice:?}");
    assert_eq!((&notice.body["event"], &notice.body["sku"]), (&"shortfall".into(), &"MUG".into()));
    let metrics = node.api("GET", "/metrics", &[("authorization", &bearer())], "").await.unwrap();
    let line = "stockraft_endpoint_posts_total{endpoint=\"shipper\",outcome=\"failed\"} 4";
    assert!(metrics.text().contains(line), "{}", metrics.text());
}

fn bearer() -> String {
    format!("Bearer {}", crate::support::TOKEN)
}

// An endpoint that was taken down would be asked for ever; and its neighbours must not suffer with it.
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_gone_is_left_alone() {
    let (gone, other) = (Hook::start(&[410]).await, Hook::start(&[]).await);
    let endpoints = [("gone", "orders.created", &gone), ("other", "orders.created", &other)];
    let cluster = node(&endpoints).await;
    let node = &cluster.nodes[0];
    sell(node).await;
    until_true("it was asked", async || !gone.posted().is_empty()).await;
    until_true("that is said", async || node.log().contains("it answered 410")).await;
    for _ in 0..3 {
        sell(node).await;
    }
    until_true("the other takes all", async || other.taken().len() == 4).await;
    assert_eq!(gone.posted().len(), 1);
}
