//! One request, one answer: HTTP as the tests see it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::sync::{RwLock, RwLockReadGuard};

use super::random;

/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(20);

/// Where something listens; a port alone is one of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door(pub SocketAddr);

impl From<u16> for Door {
    fn from(port: u16) -> Self {
        Self((Ipv4Addr::LOCALHOST, port).into())
    }
}

impl From<SocketAddr> for Door {
    fn from(address: SocketAddr) -> Self {
        Self(address)
    }
}

/// The doors of a cluster whose members change while somebody sends.
#[derive(Clone)]
pub struct Doors(Arc<RwLock<Vec<Door>>>);

impl Doors {
    pub fn new<D: Into<Door> + Copy>(doors: &[D]) -> Self {
        Self(Arc::new(RwLock::new(doors.iter().map(|door| (*door).into()).collect())))
    }

    /// One of them, which stays one of them as long as it is held.
    pub async fn one(&self, state: &mut u64) -> RwLockReadGuard<'_, Door> {
        let doors = self.0.read().await;
        let chosen = random(state, u64::try_from(doors.len()).unwrap());
        RwLockReadGuard::map(doors, |doors| &doors[usize::try_from(chosen).unwrap()])
    }

    /// From now on these: returns once nobody is inside one that is none any more.
    pub async fn set(&self, doors: Vec<Door>) {
        *self.0.write().await = doors;
    }
}

/// Connections to any nodes, reused.
#[derive(Clone)]
pub struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
    patience: Duration,
}

/// What a node answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Http {
    pub fn new() -> Self {
        Self::patient(ANSWER)
    }

    /// One that waits so long for an answer.
    pub fn patient(patience: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        // A request is sent once: what is counted is how often it arrives.
        let mut builder = Client::builder(TokioExecutor::new());
        Self { client: builder.retry_canceled_requests(false).build(connector), patience }
    }

    /// Sends one request; an error if no whole answer came.
    pub async fn request(
        &self,
        to: impl Into<Door>,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, String> {
        let Door(address) = to.into();
        let mut request = Request::builder().method(method).uri(format!("http://{address}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).unwrap();
        let exchange = async {
            let response =
                self.client.request(request).await.map_err(|error| format!("{error:?}"))?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
            Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
        };
        tokio::time::timeout(self.patience, exchange)
            .await
            .unwrap_or_else(|_| Err("no answer".into()))
    }
}
