//! The account's door: calls in, answers out, and the faults on order.

use std::{io, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use tokio::net::TcpListener;

use super::{
    Inner, State,
    api::{self, Reply, Visit},
};
use crate::{
    clock::{Millis, Now},
    door::{Answer, Fault, Refusal},
    options::Outage,
    sender::call::Call,
};

/// A feed of 25,000 rows is some megabytes.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const RATE_LIMIT: HeaderName = HeaderName::from_static("x-amzn-ratelimit-limit");

/// Answers calls until the account closes.
pub(super) async fn serve(inner: Arc<Inner>, listener: TcpListener) {
    let door = inner.door.clone();
    let handle = move |request| {
        let inner = Arc::clone(&inner);
        async move { handle(&inner, request).await }
    };
    door.serve(listener, handle).await;
}

async fn handle(inner: &Arc<Inner>, request: Request<Incoming>) -> Result<Answer, io::Error> {
    let outage = inner.door.outage.borrow().clone();
    let (fault, id) = roll(inner, &outage);
    let refuse = |refusal| {
        respond(&match refusal {
            Refusal::Throttled { .. } => api::over_quota(),
            Refusal::ServerError(status) => {
                let code = if status == 503 { "ServiceUnavailable" } else { "InternalFailure" };
                let message = "We encountered an internal error. Please try again.";
                api::refusal(status, code, message, "")
            }
        })
    };
    let mut answer = inner.door.answer(outage, fault, refuse, call(inner, request)).await?;
    if let Ok(id) = HeaderValue::from_str(&id) {
        answer.headers_mut().insert(REQUEST_ID, id);
    }
    Ok(answer)
}

/// Decides what goes wrong with this call by itself, and makes its id.
fn roll(inner: &Inner, outage: &Outage) -> (Option<Fault>, String) {
    inner.act(|state| {
        let State { calls, faults, stats, .. } = state;
        let fault = Fault::roll(calls, faults.server_error, faults.throttled, faults.answer_lost);
        stats.outage_calls += u64::from(*outage != Outage::None || fault.is_some());
        (fault, calls.uuid())
    })
}

async fn call(inner: &Arc<Inner>, request: Request<Incoming>) -> Result<Answer, io::Error> {
    let now = Now::read();
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        return Ok(respond(&api::refusal(413, "InvalidInput", "The request is too large.", "")));
    };
    let call = Call::new(parts.method, &parts.uri, parts.headers, body.to_bytes());
    inner.settle();
    let (reply, wakes) = inner.act(|state| {
        let State { desk, book, stats, faults, calls, .. } = state;
        let (options, random, wakes) = (&inner.options, calls, Vec::new());
        let mut visit = Visit { options, call: &call, book, faults, random, stats, now, wakes };
        (desk.answer(&mut visit), visit.wakes)
    });
    for at in wakes {
        inner.door.tasks.spawn(settle_at(Arc::clone(inner), at));
    }
    Ok(respond(&reply))
}

/// What was accepted is shown when its time has come, whether anybody calls or not.
async fn settle_at(inner: Arc<Inner>, at: Millis) {
    let wait = u64::try_from(at.saturating_sub(Now::read().ms)).unwrap_or(0);
    tokio::select! {
        () = inner.door.stop.cancelled() => return,
        () = tokio::time::sleep(Duration::from_millis(wait)) => {}
    }
    inner.settle();
}

fn respond(reply: &Reply) -> Answer {
    let body = reply.raw.clone().unwrap_or_else(|| reply.body.to_string().into());
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() =
        StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let rate = reply.rate.and_then(|rate| HeaderValue::from_str(&rate.to_string()).ok());
    headers.extend(rate.map(|rate| (RATE_LIMIT, rate)));
    answer
}
