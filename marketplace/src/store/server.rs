//! The Admin API's door: connections, the token, and the faults on order.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::{Instant, sleep},
};

use super::{Inner, State};
use crate::{clock, options::Outage};

const BODY_BYTES_MAX: usize = 1024 * 1024;
const HEADER_READ_MAX: Duration = Duration::from_secs(30);
const BACKLOG: u32 = 1024;
/// How soon a port that could not be taken is tried again.
const PORT_RETRY: Duration = Duration::from_millis(5);

type Answer = Response<Full<Bytes>>;

/// Accepts connections until the store closes, and closes the port while it is down.
pub(super) async fn serve(inner: Arc<Inner>, listener: TcpListener) {
    let mut listener = Some(listener);
    loop {
        let Some(open) = &listener else {
            tokio::select! {
                () = inner.stop.cancelled() => return,
                opened = reopen(&inner) => listener = Some(opened),
            }
            continue;
        };
        tokio::select! {
            biased;
            () = inner.stop.cancelled() => return,
            () = until(&inner, |outage| *outage == Outage::Down) => listener = None,
            accepted = open.accept() => match accepted {
                Ok((stream, _)) => {
                    inner.tasks.spawn(connection(Arc::clone(&inner), stream));
                }
                Err(error) => {
                    tracing::warn!(%error, "the simulated store could not accept a connection");
                    sleep(PORT_RETRY).await;
                }
            },
        }
    }
}

/// Keeps the port without listening, so that connections are refused and nobody else takes it; listens
/// again when the outage is over.
async fn reopen(inner: &Inner) -> TcpListener {
    loop {
        match reserve(inner) {
            Ok(socket) => {
                until(inner, |outage| *outage != Outage::Down).await;
                match socket.listen(BACKLOG) {
                    Ok(listener) => return listener,
                    Err(error) => tracing::warn!(%error, "the simulated store could not listen"),
                }
            }
            Err(error) => tracing::debug!(%error, "the port is not free yet"),
        }
        sleep(PORT_RETRY).await;
    }
}

fn reserve(inner: &Inner) -> io::Result<TcpSocket> {
    let socket = if inner.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(inner.address)?;
    Ok(socket)
}

/// Waits until the outage is such a one.
async fn until(inner: &Inner, such: impl Fn(&Outage) -> bool) {
    // It fails only when the sender is gone, and the sender lives in `inner`.
    let _ = inner.outage.subscribe().wait_for(such).await;
}

async fn connection(inner: Arc<Inner>, stream: TcpStream) {
    // Without it answers wait for the peer's acknowledgement of the header; failing is harmless.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| handle(&inner, request));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        biased;
        () = inner.stop.cancelled() => {}
        () = until(&inner, |outage| *outage == Outage::Down) => {}
        ended = serving => if let Err(error) = ended {
            tracing::debug!(%error, "a connection of the simulated store ended");
        },
    }
}

/// Answers one call; an error drops the connection without an answer.
async fn handle(inner: &Inner, request: Request<Incoming>) -> Result<Answer, io::Error> {
    let outage = inner.outage.borrow().clone();
    let faulty = roll(inner, &outage);
    match &outage {
        Outage::Slow(wait) => sleep(*wait).await,
        Outage::ServerError(status) => return Ok(plain(*status)),
        Outage::TooManyRequests { retry_after } => {
            let mut answer = errors(429, "Exceeded 2 calls per second for api client.");
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(*retry_after));
            return Ok(answer);
        }
        _ => {}
    }
    if faulty == Some(Fault::ServerError) {
        return Ok(plain(502));
    }
    let answer = call(inner, request).await?;
    if faulty == Some(Fault::AnswerLost) || outage == Outage::DropAfterApply {
        return Err(lost());
    }
    if outage == Outage::TimeoutAfterApply {
        until(inner, |outage| *outage != Outage::TimeoutAfterApply).await;
        return Err(lost());
    }
    Ok(answer)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    ServerError,
    AnswerLost,
}

/// Decides what goes wrong with this call by itself, and counts it with the outages.
fn roll(inner: &Inner, outage: &Outage) -> Option<Fault> {
    inner.act(|state| {
        let State { mishaps, faults, stats, .. } = state;
        let fault = if mishaps.chance(faults.server_error) {
            Some(Fault::ServerError)
        } else {
            mishaps.chance(faults.answer_lost).then_some(Fault::AnswerLost)
        };
        stats.outage_calls += u64::from(*outage != Outage::None || fault.is_some());
        fault
    })
}

async fn call(inner: &Inner, request: Request<Incoming>) -> Result<Answer, io::Error> {
    let path = format!("/admin/api/{}/graphql.json", inner.options.api_version);
    if request.method() != Method::POST || request.uri().path() != path {
        return Ok(errors(404, "Not Found"));
    }
    let token = request.headers().get("x-shopify-access-token");
    if token.map(HeaderValue::as_bytes) != Some(inner.options.access_token.as_bytes()) {
        inner.act(|state| state.stats.unauthorized += 1);
        let message =
            "[API] Invalid API key or access token (unrecognized login or wrong password)";
        return Ok(errors(401, message));
    }
    let Ok(body) = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await else {
        return Ok(errors(413, "Payload Too Large"));
    };
    let body = body.to_bytes();
    let answer = inner.act(|state| {
        let State { desk, shop, stats, .. } = state;
        desk.answer(&body, shop, stats, clock::now_ms(), Instant::now())
    });
    Ok(match answer {
        Some(answer) => {
            let mut response = respond(200, &answer);
            if let Ok(version) = HeaderValue::from_str(&inner.options.api_version) {
                response.headers_mut().insert("x-shopify-api-version", version);
            }
            response
        }
        None => errors(400, "Bad Request"),
    })
}

fn lost() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the answer is lost on order")
}

fn plain(status: u16) -> Answer {
    errors(status, "Unexpected error")
}

fn errors(status: u16, message: &str) -> Answer {
    respond(status, &json!({"errors": message}))
}

fn respond(status: u16, body: &Value) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}
