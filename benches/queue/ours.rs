//! A topic of a node over HTTP, as a worker uses it.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::nodes::{Fallible, Nodes, TOKEN};
use super::{BODY_BYTES, Queue};

/// One connection to one node.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    topic: String,
}

/// So many connections to a topic, shared among the nodes.
pub(crate) async fn connections(
    nodes: &Nodes,
    topic: &str,
    count: usize,
) -> Fallible<Vec<Connection>> {
    let mut connections = Vec::new();
    for [_, admin, _] in nodes.ports.iter().cycle().take(count) {
        let stream = TcpStream::connect(("127.0.0.1", *admin)).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        connections.push(Connection { sender, topic: topic.into() });
    }
    Ok(connections)
}

#[derive(Deserialize)]
struct LeasedMessages {
    messages: Vec<Lease>,
}

#[derive(Deserialize)]
struct Lease {
    lease: String,
}

#[derive(Deserialize)]
struct Results {
    results: Vec<Outcome>,
}

#[derive(Deserialize)]
struct Outcome {
    outcome: String,
}

impl Queue for Connection {
    async fn publish(&mut self, count: usize) -> Fallible<()> {
        // With its quotes as long as the other side's.
        let body = format!(r#"{{"body":"{}"}}"#, "x".repeat(BODY_BYTES - 2));
        let messages = format!(r#"{{"messages":[{}]}}"#, vec![body; count].join(","));
        let Results { results } = self.call("messages", messages).await?;
        let published = results.iter().all(|result| result.outcome == "published");
        if published { Ok(()) } else { Err("a message was not published".into()) }
    }

    async fn work(&mut self, most: usize) -> Fallible<usize> {
        let leases = self.lease(most).await?;
        if leases.is_empty() { Ok(0) } else { self.ack(leases).await }
    }
}

impl Connection {
    /// Leases up to so many.
    pub(crate) async fn lease(&mut self, most: usize) -> Fallible<Vec<String>> {
        let wanted = json!({ "max": most, "lease_s": 600 });
        let leased: LeasedMessages = self.call("lease", wanted.to_string()).await?;
        Ok(leased.messages.into_iter().map(|message| message.lease).collect())
    }

    /// Finishes what is leased; how many of them were.
    pub(crate) async fn ack(&mut self, leases: Vec<String>) -> Fallible<usize> {
        let Results { results } = self.call("ack", json!({ "leases": leases }).to_string()).await?;
        Ok(results.iter().filter(|result| result.outcome == "done").count())
    }

    async fn call<T: DeserializeOwned>(&mut self, verb: &str, body: String) -> Fallible<T> {
        let request = Request::post(format!("/v1/topics/{}/{verb}", self.topic))
            .header(HOST, "localhost")
            .header(AUTHORIZATION, format!("Bearer {TOKEN}"))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body))?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if status.is_success() {
            return Ok(serde_json::from_slice(&body)?);
        }
        let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
        Err(format!("{verb}: {status}: {problem}").into())
    }
}
