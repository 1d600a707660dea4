//! A store to test, a caller of its Admin API, and a receiver of its webhooks.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode, header::HeaderMap, server::conn::http1};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};
use marketplace::{Item, Options, Store, Warehouse};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch};

pub(crate) const LOCATION: &str = "gid://shopify/Location/24826418";

/// Longest wait of any test: one that hangs must fail, not stop the run.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

pub(crate) fn item(sku: &str, number: u64, available: i64) -> Item {
    Item {
        sku: sku.to_owned(),
        variant_id: 9_107_199_254_740_000 + number,
        inventory_item_id: 9_207_199_254_740_000 + number,
        available,
    }
}

pub(crate) fn item_gid(number: u64) -> String {
    format!("gid://shopify/InventoryItem/{}", 9_207_199_254_740_000 + number)
}

/// A quiet store with ten mugs (item 1) and five tees (item 2), whose retries come at once.
pub(crate) fn options() -> Options {
    Options {
        items: vec![item("MUG", 1, 10), item("TEE", 2, 5)],
        time_scale: 1_000_000.0,
        ..Options::new("north")
    }
}

pub(crate) async fn open(options: Options) -> Store {
    let warehouse = Warehouse::open(options.items.iter().map(|i| (i.sku.clone(), i.available)));
    Store::start(options, warehouse).await.unwrap()
}

pub(crate) fn row(number: u64, quantity: i64, from: impl Into<Option<i64>>) -> Value {
    let from = from.into();
    json!({
        "inventoryItemId": item_gid(number), "locationId": LOCATION,
        "quantity": quantity, "changeFromQuantity": from,
    })
}

pub(crate) fn input(rows: &[Value]) -> Value {
    json!({"name": "available", "reason": "correction", "quantities": rows})
}

/// What a correct client sends.
pub(crate) fn mutation(key: &str, input: &Value) -> Value {
    json!({
        "query": "mutation Set($input: InventorySetQuantitiesInput!, $key: String!) { \
            inventorySetQuantities(input: $input) @idempotent(key: $key) { \
            inventoryAdjustmentGroup { id changes { name delta quantityAfterChange } } \
            userErrors { code field message } } }",
        "variables": {"key": key, "input": input},
    })
}

/// An answer of the Admin API.
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answered {
    pub(crate) fn payload(&self) -> &Value {
        &self.body["data"]["inventorySetQuantities"]
    }

    /// Codes and fields of the user errors.
    pub(crate) fn user_errors(&self) -> Vec<(String, Value)> {
        let errors = self.payload()["userErrors"].as_array().expect("a payload").iter();
        errors.map(|e| (e["code"].as_str().unwrap().to_owned(), e["field"].clone())).collect()
    }
}

pub(crate) async fn push(store: &Store, key: &str, rows: &[Value]) -> Answered {
    call(store, &mutation(key, &input(rows))).await.expect("an answer")
}

/// Sends a call with the right token; an error is a broken or refused connection.
pub(crate) async fn call(store: &Store, body: &Value) -> Result<Answered, String> {
    let token = store.options().access_token.clone();
    send(&store.admin_url(), &token, body.to_string()).await
}

pub(crate) async fn send(url: &str, token: &str, body: String) -> Result<Answered, String> {
    let request = Request::post(url).header("X-Shopify-Access-Token", token);
    let request = request.body(Full::new(Bytes::from(body))).unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http();
    let response = soon(client.request(request)).await.map_err(|e| e.to_string())?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
    let body = serde_json::from_slice(&body).expect("JSON");
    Ok(Answered { status: parts.status.as_u16(), headers: parts.headers, body })
}

/// One webhook as it arrived.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Bytes,
    pub(crate) answered: u16,
}

impl Seen {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        &self.headers[name]
    }
}

/// Takes webhooks and answers the n-th with what the test wants.
pub(crate) struct Receiver {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    count: watch::Sender<usize>,
}

impl Receiver {
    pub(crate) async fn open(answer: impl Fn(usize) -> u16 + Send + Sync + 'static) -> Self {
        Self::choosy(move |nth, _| answer(nth)).await
    }

    /// One whose answer also depends on the webhook's id.
    pub(crate) async fn choosy(
        answer: impl Fn(usize, &str) -> u16 + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/webhooks/north?x=1", listener.local_addr().unwrap());
        let receiver = Self { url, seen: Arc::default(), count: watch::Sender::new(0) };
        let (seen, count, answer) =
            (Arc::clone(&receiver.seen), receiver.count.clone(), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, count, answer) = (Arc::clone(&seen), count.clone(), Arc::clone(&answer));
                let service = hyper::service::service_fn(move |request: Request<_>| {
                    let (seen, count, answer) =
                        (Arc::clone(&seen), count.clone(), Arc::clone(&answer));
                    async move { take(request, &seen, &count, &*answer).await }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        receiver
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) async fn after(&self, count: usize) -> Vec<Seen> {
        soon(self.count.subscribe().wait_for(|seen| *seen >= count)).await.unwrap();
        self.seen()
    }
}

async fn take(
    request: Request<hyper::body::Incoming>,
    seen: &Mutex<Vec<Seen>>,
    count: &watch::Sender<usize>,
    answer: &(dyn Fn(usize, &str) -> u16 + Send + Sync),
) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_eq!(request.uri().path_and_query().unwrap().as_str(), "/webhooks/north?x=1");
    let text = |value: &hyper::header::HeaderValue| value.to_str().unwrap().to_owned();
    let headers = request.headers().iter().map(|(k, v)| (k.to_string(), text(v)));
    let headers: BTreeMap<String, String> = headers.collect();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let answered = {
        let mut seen = seen.lock().unwrap();
        let answered = answer(seen.len(), &headers["x-shopify-webhook-id"]);
        seen.push(Seen { headers, body, answered });
        answered
    };
    count.send_modify(|count| *count += 1);
    let mut response = Response::new(Full::new(Bytes::from(format!("said {answered}"))));
    *response.status_mut() = StatusCode::from_u16(answered).unwrap();
    response.headers_mut().insert("location", "http://127.0.0.1:1/".parse().unwrap());
    Ok(response)
}
