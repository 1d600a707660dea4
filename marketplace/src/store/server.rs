//! The Admin API's door: the token, the call, and the faults on order.

use std::{io, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::Instant};

use super::{Inner, State};
use crate::{
    clock,
    door::{Answer, Door, Fault, Refusal},
    options::Outage,
};

const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Answers calls until the store closes.
pub(super) async fn serve(inner: Arc<Inner>, listener: TcpListener) {
    let door = Door {
        address: inner.address,
        outage: inner.outage.subscribe(),
        stop: inner.stop.clone(),
        tasks: inner.tasks.clone(),
        arrivals: inner.arrivals.clone(),
    };
    let answering = door.clone();
    let handle = move |request| {
        let (inner, door) = (Arc::clone(&inner), answering.clone());
        async move { handle(&inner, &door, request).await }
    };
    door.serve(listener, handle).await;
}

async fn handle(
    inner: &Inner,
    door: &Door,
    request: Request<Incoming>,
) -> Result<Answer, io::Error> {
    let outage = door.outage.borrow().clone();
    let fault = roll(inner, &outage);
    door.answer(outage, fault, refuse, call(inner, request)).await
}

fn refuse(refusal: Refusal) -> Answer {
    match refusal {
        Refusal::ServerError(status) => errors(status, "Unexpected error"),
        Refusal::Throttled { retry_after } => {
            let mut answer = errors(429, "Exceeded 2 calls per second for api client.");
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after));
            answer
        }
    }
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
