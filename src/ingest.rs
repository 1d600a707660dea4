//! The public listener: a webhook is bounded, verified, understood, made durable, and answered.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use channels::signature::{self, Judged, Scheme};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::channel::Meant;
use crate::config::{Channel, Config};
use crate::intake::Intake;
use crate::issuers::Issuers;
use crate::keyring::Found;
use crate::listen::Trust;
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
    pub intake: Intake,
    /// Which channels the cluster knows.
    pub known: watch::Receiver<Known>,
    /// Who gives out the keys that some channels sign with.
    pub issuers: Arc<Issuers>,
    /// What is counted.
    pub measures: Arc<Measures>,
}

/// Serves webhooks until `stop`, then finishes what is in progress.
pub async fn serve(listener: TcpListener, ingest: Arc<Ingest>, stop: CancellationToken) {
    let connections_max = listen::room("webhooks", ingest.config.ingest.max_connections, 2);
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
        let known = channel_name(request.uri()).and_then(|name| self.config.channel(name));
        let label = known.map_or("unknown", |channel| &channel.name).to_string();
        let kind = known.map(|channel| channel.kind.clone());
        let answer = self.webhook(request).await.unwrap_or_else(|refusal| refusal);
        let answer = if kind.as_deref() == Some("amazon") { for_sns(answer) } else { answer };
        self.measures.answered(&label, answer.0.as_u16());
        if answer.0 == StatusCode::OK {
            self.measures.ack_seconds.observe(began.elapsed().as_secs_f64());
        }
        respond(answer)
    }

    /// The checks, in the order in which senders may rely on them.
    async fn webhook(&self, request: Request<Incoming>) -> Result<Answer, Answer> {
        let received_ms = clock::now_ms();
        let nothing = || refuse(StatusCode::NOT_FOUND, "there is nothing here");
        let name = channel_name(request.uri()).ok_or_else(nothing)?.to_string();
        if request.method() == Method::GET
            && let Some(answer) = self.challenge(&name, request.uri())
        {
            return Ok(answer);
        }
        if request.method() != Method::POST {
            return Err(refuse(StatusCode::METHOD_NOT_ALLOWED, "webhooks are sent by POST"));
        }
        let channel = self.channel(&name)?;
        let (head, body) = request.into_parts();
        let body = self.body(&head, body).await?;
        let request = channels::Request {
            method: &head.method,
            target: head.uri.path_and_query().map_or("/", |target| target.as_str()),
            headers: &head.headers,
            body: &body,
            now_ms: received_ms,
        };
        let parsed = match self.judge(channel, &request).await? {
            Judged::Ping => return Ok(ignored("an activation ping")),
            Judged::Genuine(verified) => {
                Trust::prove(&head.extensions);
                channel::parse(channel, &head.headers, verified)
            }
        };
        let router = self.intake.router();
        match channel::deliver(router, &channel.name, parsed, &body, received_ms) {
            Meant::Ignored(why) => Ok(ignored(&why)),
            Meant::Confirm(url) => self.confirm(&channel.name, &url).await,
            Meant::Delivery(delivery, dead) => {
                let id = delivery.id.clone();
                self.intake.keep(*delivery).await.map_err(|later| {
                    tracing::warn!(%later, "a webhook was sent back");
                    come_back(&later.to_string())
                })?;
                Ok(accepted(&id, dead))
            }
        }
    }

    /// The body as it was sent, if it is as large, as fast and as plain as it must be.
    async fn body(&self, head: &Parts, body: Incoming) -> Result<Bytes, Answer> {
        let max_body = self.config.ingest.max_body.as_len();
        let too_large =
            || refuse(StatusCode::PAYLOAD_TOO_LARGE, &format!("the limit is {max_body} bytes"));
        if body.size_hint().lower() > self.config.ingest.max_body.0 {
            return Err(too_large());
        }
        let mut encodings = head.headers.get_all(CONTENT_ENCODING).iter();
        if encodings.any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            let message = "send the body as it was signed, without content-encoding";
            return Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        let limit = self.config.ingest.request_timeout.duration();
        let read = tokio::time::timeout(limit, Limited::new(body, max_body).collect()).await;
        match read {
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
            Ok(Err(_)) => Err(refuse(StatusCode::BAD_REQUEST, "the body broke off")),
            Err(_) => Err(refuse(StatusCode::REQUEST_TIMEOUT, "the body took too long")),
        }
    }

    /// Whether the sender knew the channel's secret. A key that signs may have to be fetched first.
    async fn judge<'a>(
        &self,
        channel: &Channel,
        request: &channels::Request<'a>,
    ) -> Result<Judged<'a>, Answer> {
        let refused =
            |refused: channels::Refused| refuse(StatusCode::UNAUTHORIZED, &refused.to_string());
        let scheme: &Scheme =
            channel.scheme.as_deref().ok_or(channels::Refused).map_err(refused)?;
        let wanted = signature::wanted(scheme, request).map_err(refused)?;
        let key = match wanted {
            None => None,
            Some(wanted) => match self.issuers.find(&channel.name, &wanted).await {
                Found::Known(key) => Some(key),
                Found::Unknown => return Err(refused(channels::Refused)),
                Found::Unavailable => return Err(come_back("the signer's key cannot be had now")),
            },
        };
        signature::verify(scheme, request, key.as_deref()).map_err(refused)
    }

    /// eBay asks whether the endpoint is ours before it sends anything.
    fn challenge(&self, name: &str, uri: &Uri) -> Option<Answer> {
        let channel = self.config.channel(name).filter(|channel| channel.kind == "ebay")?;
        let code = uri.query()?.split('&').find_map(|pair| pair.strip_prefix("challenge_code="))?;
        let (token, endpoint) = (channel.secrets.first()?, channel.endpoint.as_deref()?);
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~');
        if code.is_empty() || code.len() > 256 || !code.chars().all(is_plain) {
            return None;
        }
        let response = signature::ebay::challenge(code, token.expose(), endpoint);
        Some((StatusCode::OK, json!({ "challengeResponse": response })))
    }

    /// Visits the URL by which an allowed topic asks to be confirmed.
    async fn confirm(&self, channel: &str, url: &str) -> Result<Answer, Answer> {
        self.issuers.confirm(url).await.map_err(|why| {
            tracing::warn!(channel, why, "a subscription could not be confirmed");
            come_back("the subscription could not be confirmed now")
        })?;
        tracing::info!(channel, "a subscription was confirmed");
        Ok(ignored("a subscription that is confirmed now"))
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
}

/// The channel that a path names: `/webhooks/{channel}`, with a slash or a secret after it or not.
fn channel_name(uri: &Uri) -> Option<&str> {
    let rest = uri.path().strip_prefix("/webhooks/")?;
    Some(rest.split_once('/').map_or(rest, |(name, _)| name))
}

/// SNS takes any 4xx for a final answer and drops the message: what may go well later is a 503.
fn for_sns((status, body): Answer) -> Answer {
    match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::BAD_REQUEST => {
            (StatusCode::SERVICE_UNAVAILABLE, body)
        }
        status => (status, body),
    }
}

fn accepted(id: &str, dead: Option<String>) -> Answer {
    match dead {
        None => (StatusCode::OK, json!({ "accepted": true, "id": id })),
        Some(reason) => {
            (StatusCode::ACCEPTED, json!({ "accepted": true, "id": id, "dead_letter": reason }))
        }
    }
}

fn ignored(why: &str) -> Answer {
    (StatusCode::OK, json!({ "accepted": true, "ignored": why }))
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
