//! The public listener: a webhook is bounded, verified, understood, made durable, and answered.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;
use state::command::Fact;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{Ack, Channel, Config};
use crate::inbox::{Busy, Inbox};
use crate::measures::Measures;
use crate::replica::Known;
use crate::{channel, clock, listen};

/// What a sender that must come back is told to wait, in seconds.
const RETRY_AFTER_S: &str = "5";
/// What the public listener needs.
pub struct Ingest {
    /// The node's config, with the secrets of its channels.
    pub config: Arc<Config>,
    /// Where deliveries become durable.
    pub inbox: Inbox,
    /// Which channels the cluster knows.
    pub known: watch::Receiver<Known>,
    /// What is counted.
    pub measures: Arc<Measures>,
}

/// Serves webhooks until `stop`, then finishes what is in progress.
pub async fn serve(listener: TcpListener, ingest: Arc<Ingest>, stop: CancellationToken) {
    let connections_max = ingest.config.ingest.max_connections;
    let service = service_fn(move |request| {
        let ingest = Arc::clone(&ingest);
        async move { Ok::<_, Infallible>(ingest.answer(request).await) }
    });
    listen::serve("webhooks", listener, connections_max, service, stop).await;
}

/// An answer to a webhook's sender.
type Answer = (StatusCode, serde_json::Value);

impl Ingest {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let began = Instant::now();
        if request.uri().path() == "/healthz" {
            return respond((StatusCode::OK, json!({ "ok": true })));
        }
        let name = request.uri().path().strip_prefix("/webhooks/").map(str::to_string);
        let known = name.as_deref().and_then(|name| self.config.channel(name));
        let label = known.map_or("unknown", |channel| &channel.name).to_string();
        let answer = self.webhook(request, name).await.unwrap_or_else(|refusal| refusal);
        self.measures.answered(&label, answer.0.as_u16());
        if answer.0 == StatusCode::OK {
            self.measures.ack_seconds.observe(began.elapsed().as_secs_f64());
        }
        respond(answer)
    }

    /// The checks, in the order in which senders may rely on them.
    async fn webhook(
        &self,
        request: Request<Incoming>,
        name: Option<String>,
    ) -> Result<Answer, Answer> {
        let received_ms = clock::now_ms();
        let name = name.ok_or_else(|| refuse(StatusCode::NOT_FOUND, "there is nothing here"))?;
        if request.method() != Method::POST {
            return Err(refuse(StatusCode::METHOD_NOT_ALLOWED, "webhooks are sent by POST"));
        }
        let channel = self.channel(&name)?;
        let (head, body) = request.into_parts();
        let max_body = self.config.ingest.max_body.as_len();
        let too_large =
            || refuse(StatusCode::PAYLOAD_TOO_LARGE, &format!("the limit is {max_body} bytes"));
        if body.size_hint().lower() > self.config.ingest.max_body.0 {
            return Err(too_large());
        }
        let encoding = head.headers.get(CONTENT_ENCODING);
        if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            let message = "send the body as it was signed, without content-encoding";
            return Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        let limit = self.config.ingest.request_timeout.duration();
        let read = tokio::time::timeout(limit, Limited::new(body, max_body).collect()).await;
        let body = match read {
            Ok(Ok(collected)) => collected.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large()),
            Ok(Err(_)) => return Err(refuse(StatusCode::BAD_REQUEST, "the body broke off")),
            Err(_) => return Err(refuse(StatusCode::REQUEST_TIMEOUT, "the body took too long")),
        };
        let request = channels::Request {
            method: &head.method,
            target: head.uri.path_and_query().map_or("/", |target| target.as_str()),
            headers: &head.headers,
            body: &body,
            now_ms: received_ms,
        };
        let verified = channel::verify(channel, &request)
            .map_err(|refused| refuse(StatusCode::UNAUTHORIZED, &refused.to_string()))?;
        let (delivery, ignored) = channel::deliver(channel, &head.headers, verified, received_ms);
        if let Err(why) = ignored {
            return Ok((StatusCode::OK, json!({ "accepted": true, "ignored": why })));
        }
        self.keep(delivery).await
    }

    /// The channel with its secrets, if the cluster knows it and this node can verify it.
    fn channel(&self, name: &str) -> Result<&Channel, Answer> {
        let known = self.known.borrow().clone();
        let is_known = known.as_ref().is_some_and(|known| known.contains(name));
        match (known.is_some(), is_known, self.config.channel(name)) {
            (true, true, Some(channel)) => Ok(channel),
            (true, false, None) => Err(refuse(StatusCode::NOT_FOUND, "there is no such channel")),
            (false, ..) => Err(come_back("this node is not part of a cluster yet")),
            (true, true, None) => Err(come_back("this node has no secret of this channel")),
            (true, false, Some(_)) => Err(come_back("the cluster does not know this channel yet")),
        }
    }

    async fn keep(&self, delivery: state::command::Delivery) -> Result<Answer, Answer> {
        let id = delivery.id.clone();
        let dead = delivery.facts.iter().find_map(|fact| match fact {
            Fact::Dead { reason, .. } => Some(reason.clone()),
            _ => None,
        });
        let lane = channel::lane(&delivery);
        let place = self.inbox.accept(lane, delivery).await.map_err(|busy: Busy| {
            tracing::warn!(%busy, "a webhook was sent back");
            come_back(&busy.to_string())
        })?;
        if self.config.ingest.ack == Ack::Quorum {
            let limit = self.config.ingest.quorum_timeout.duration();
            let agreed = tokio::time::timeout(limit, self.inbox.agreed(place)).await;
            agreed.map_err(|_| come_back("the cluster did not agree in time"))?;
        }
        Ok(match dead {
            None => (StatusCode::OK, json!({ "accepted": true, "id": id })),
            Some(reason) => {
                (StatusCode::ACCEPTED, json!({ "accepted": true, "id": id, "dead_letter": reason }))
            }
        })
    }
}

fn refuse(status: StatusCode, message: &str) -> Answer {
    (status, json!({ "accepted": false, "error": message }))
}

fn come_back(message: &str) -> Answer {
    refuse(StatusCode::SERVICE_UNAVAILABLE, message)
}

fn respond((status, body): Answer) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(status).header(CONTENT_TYPE, "application/json");
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response = response.header(RETRY_AFTER, RETRY_AFTER_S);
    }
    response.body(Full::from(body.to_string())).unwrap_or_default()
}
