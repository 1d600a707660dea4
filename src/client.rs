//! A client of a node's API, for the command line and the demo.
#![expect(clippy::indexing_slicing, reason = "JSON indexed by name is null where nothing is")]

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::channel::api::retry_after_ms;
use crate::clock::now_ms;

const TIMEOUT: Duration = Duration::from_secs(30);

/// What all requests of this process go out through: HTTPS, or HTTP where the URL says so.
pub(crate) type Https = HttpClient<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A client that trusts the authorities that browsers do.
pub(crate) fn https() -> Result<Https, rustls::Error> {
    let connector = HttpsConnectorBuilder::new()
        .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())?
        .https_or_http()
        .enable_http1()
        .build();
    Ok(HttpClient::builder(TokioExecutor::new()).build(connector))
}

/// One node's API.
#[derive(Clone)]
pub struct Client {
    http: Https,
    node: String,
    token: String,
    timeout: Duration,
}

/// Why there is no answer to work with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node cannot be reached, or the answer broke off.
    #[error("{node}: {why}")]
    Unreachable {
        /// Its URL.
        node: String,
        /// What happened.
        why: String,
    },
    /// The node said no.
    #[error("{node}: {status}: {detail}")]
    Refused {
        /// Its URL.
        node: String,
        /// The HTTP status.
        status: StatusCode,
        /// Why, in its words.
        detail: String,
        /// After how long it wants to be asked again, if it says so.
        retry_after: Option<Duration>,
    },
    /// The URL is none, or this machine has no randomness for TLS.
    #[error("{0}")]
    Setup(String),
}

impl Client {
    /// A client of the node at a URL, with an admin token.
    pub fn new(node: &str, token: &str) -> Result<Self, Error> {
        let http = https().map_err(|error| Error::Setup(error.to_string()))?;
        let node = node.trim_end_matches('/').into();
        Ok(Self { http, node, token: token.into(), timeout: TIMEOUT })
    }

    /// The same, for answers that may take so much longer.
    #[must_use]
    pub fn patient(self, longer: Duration) -> Self {
        Self { timeout: self.timeout.saturating_add(longer), ..self }
    }

    /// Sends a request; the answer's JSON if it was a success.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Error> {
        let exchange = async {
            let response = self.send(method, path, body).await?;
            let status = response.status();
            let retry_after = retry_after_ms(response.headers(), now_ms());
            let body = response.into_body().collect().await;
            let body = body.map_err(|error| self.failed(root(&error)))?.to_bytes();
            Ok((status, retry_after, body))
        };
        let (status, retry_after, body) = self.in_time(exchange).await?;
        let answer: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(answer);
        }
        let detail = answer["detail"].as_str().unwrap_or_default().to_string();
        let retry_after = retry_after.map(Duration::from_millis);
        Err(Error::Refused { node: self.node.clone(), status, detail, retry_after })
    }

    /// Asks for something large, which is then read piece by piece.
    pub async fn download(&self, path: &str) -> Result<Download, Error> {
        let response = self.in_time(self.send(Method::GET, path, None)).await?;
        if response.status().is_success() {
            return Ok(Download { client: self.clone(), response });
        }
        // Asked for once more as a whole, it says why not.
        self.call(Method::GET, path, None).await?;
        Err(self.failed("it answered no and then yes; try again".into()))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, Error> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.node))
            .header(AUTHORIZATION, format!("Bearer {}", self.token))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::<Bytes>::from(body.map(Value::to_string).unwrap_or_default()))
            .map_err(|error| Error::Setup(format!("{}: {error}", self.node)))?;
        self.http.request(request).await.map_err(|error| self.failed(root(&error)))
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let late = |_| self.failed(format!("no answer in {} s", self.timeout.as_secs()));
        tokio::time::timeout(self.timeout, work).await.map_err(late)?
    }

    fn failed(&self, why: String) -> Error {
        Error::Unreachable { node: self.node.clone(), why }
    }
}

/// A large answer that is still arriving.
pub struct Download {
    client: Client,
    response: Response<Incoming>,
}

impl Download {
    /// A header of the answer.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The next piece; `None` at the end, an error if it breaks off before.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let Self { client, response } = self;
        let frame = async {
            let frame = response.body_mut().frame().await.transpose();
            frame.map_err(|error| client.failed(root(&error)))
        };
        let frame = client.in_time(frame).await?;
        // What is no data is a trailer, of which there is none.
        Ok(frame.and_then(|frame| frame.into_data().ok()))
    }
}

/// What the system said, rather than which layer passed it on.
pub(crate) fn root(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), root)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    // Whoever is told to come back and does not know when asks at once, and is told the same.
    #[tokio::test]
    async fn a_refusal_says_when_to_ask_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            let answer = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\n\
                          content-length: 0\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let client = Client::new(&node, "token").unwrap();
        match client.call(Method::GET, "/", None).await {
            Err(Error::Refused { retry_after, .. }) => {
                assert_eq!(retry_after, Some(Duration::from_secs(2)));
            }
            other => panic!("{other:?}"),
        }
    }
}
