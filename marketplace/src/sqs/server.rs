//! The queue's door: one call at a time is signed, understood, carried out, and answered.

use std::{io, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use serde_json::Value;
use tokio::{
    net::TcpListener,
    time::{Instant, sleep_until},
};

use super::{
    Inner, State,
    action::{Action, Ask},
    error::Error,
    sigv4::{self, Verifier},
};
use crate::{
    clock::{self, Now},
    door::{Answer, Fault, Refusal},
    options::Outage,
};

const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;
const JSON: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.0");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const QUERY_ERROR: HeaderName = HeaderName::from_static("x-amzn-query-error");

/// Answers calls until the queue closes.
pub(super) async fn serve(inner: Arc<Inner>, listener: TcpListener) {
    let door = inner.door.clone();
    let handle = move |request| {
        let inner = Arc::clone(&inner);
        async move { handle(&inner, request).await }
    };
    door.serve(listener, handle).await;
}

async fn handle(inner: &Inner, request: Request<Incoming>) -> Result<Answer, io::Error> {
    let outage = inner.door.outage.borrow().clone();
    let (fault, id) = roll(inner, &outage);
    let refuse = |refusal| match refusal {
        Refusal::ServerError(status) => respond(Err(Error::Internal(status))),
        Refusal::Throttled { .. } => respond(Err(Error::RequestThrottled)),
    };
    let call = async { Ok(respond(call(inner, request).await)) };
    let mut answer = inner.door.answer(outage, fault, refuse, call).await?;
    if let Ok(id) = HeaderValue::from_str(&id) {
        answer.headers_mut().insert(REQUEST_ID, id);
    }
    Ok(answer)
}

/// Decides what goes wrong with this call by itself, and makes its id.
fn roll(inner: &Inner, outage: &Outage) -> (Option<Fault>, String) {
    let mut state = inner.lock();
    let State { mishaps, faults, counts, .. } = &mut *state;
    let fault = Fault::roll(mishaps, faults.server_error, faults.throttled, faults.answer_lost);
    counts.calls += 1;
    counts.outage_calls += u64::from(*outage != Outage::None || fault.is_some());
    (fault, mishaps.uuid())
}

async fn call(inner: &Inner, request: Request<Incoming>) -> Result<Value, Error> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|_| Error::Serialization("the body is too large".to_owned()))?;
    let body = body.to_bytes();
    let options = &inner.options;
    let verifier =
        Verifier { credentials: &options.credentials, region: &options.region, service: "sqs" };
    let signed = sigv4::Request {
        method: parts.method.as_str(),
        uri: &parts.uri,
        headers: &parts.headers,
        body: &body,
    };
    verifier.verify(&signed, clock::now_ms()).inspect_err(|_| {
        inner.lock().counts.unauthorized += 1;
    })?;
    let is_json = parts.headers.get(CONTENT_TYPE) == Some(&JSON);
    if parts.method != Method::POST || !is_json {
        return Err(Error::UnknownOperation);
    }
    let target = parts.headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    match Action::read(options, target.unwrap_or_default(), &body)? {
        Action::Receive(ask) => receive(inner, &ask).await,
        action => inner.act(|state| state.answer(options, action, Now::read())),
    }
}

/// Waits for messages as long as the call may wait. A client that goes away ends the wait, since its
/// connection is dropped and this with it.
async fn receive(inner: &Inner, ask: &Ask) -> Result<Value, Error> {
    let deadline = Instant::now() + ask.wait;
    let mut changed = inner.changed.subscribe();
    let mut poll = None;
    loop {
        let (received, next) = {
            let mut state = inner.lock();
            let received = state.receive(&inner.options, ask, Now::read())?;
            (received, state.messages.next_visible())
        };
        if let Some(received) = received {
            inner.changed.send_replace(());
            return Ok(received);
        }
        if Instant::now() >= deadline {
            return Ok(Value::Object(serde_json::Map::new()));
        }
        poll.get_or_insert_with(|| Poll::begin(inner));
        let next = next.map_or(deadline, |next| next.min(deadline));
        tokio::select! {
            // It fails only when the sender is gone, and the sender lives in `inner`.
            _ = changed.changed() => {}
            () = sleep_until(next) => {}
        }
    }
}

/// Counts a long poll as long as it waits, however it ends.
struct Poll<'a>(&'a Inner);

impl<'a> Poll<'a> {
    fn begin(inner: &'a Inner) -> Self {
        inner.act(|state| state.counts.polls += 1);
        Self(inner)
    }
}

impl Drop for Poll<'_> {
    fn drop(&mut self) {
        self.0.act(|state| state.counts.polls -= 1);
    }
}

fn respond(result: Result<Value, Error>) -> Answer {
    let (status, body, query_error) = match result {
        Ok(body) => (200, body, None),
        Err(error) => (error.status(), error.body(), error.query_error()),
    };
    let mut answer = Response::new(Full::new(Bytes::from(body.to_string())));
    *answer.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(CONTENT_TYPE, JSON);
    if let Some(query_error) = query_error {
        answer.headers_mut().insert(QUERY_ERROR, query_error);
    }
    answer
}
