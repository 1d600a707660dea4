//! The door of a sender's API.

use std::{io, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Limited};
use hyper::{Request, body::Incoming, header::HeaderValue};
use serde_json::json;
use tokio::{net::TcpListener, time::Instant};

use super::{
    call::{self, Answer, Call},
    state::{Inner, State},
};
use crate::{
    clock::{self, Millis},
    door::{self, Door, Fault, Refusal},
    options::Outage,
};

const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Answers calls until the sender closes.
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

/// Answers one call; an error drops the connection without an answer.
async fn handle(
    inner: &Arc<Inner>,
    door: &Door,
    request: Request<Incoming>,
) -> Result<Answer, io::Error> {
    let arrived = clock::now_ms();
    let outage = door.outage.borrow().clone();
    let fault = roll(inner, &outage);
    if fault == Some(Fault::ServerError) {
        // A proxy in front of the channel says it, in a shape that is not the channel's.
        let mut answer = call::json(503, &json!({"message": "Service Unavailable"}));
        answer.headers_mut().insert("retry-after", HeaderValue::from_static("1"));
        return Ok(answer);
    }
    let refuse = |refusal| inner.lock().dialect.refused(refusal);
    door.answer(outage, fault, refuse, answer(inner, request, arrived)).await
}

/// Decides what goes wrong with this call by itself, and counts it with the outages.
fn roll(inner: &Inner, outage: &Outage) -> Option<Fault> {
    inner.act(|state| {
        let State { mishaps, faults, stats, .. } = state;
        let fault = Fault::roll(mishaps, faults.api_error, 0.0, faults.api_answer_lost);
        stats.call_faults += u64::from(*outage != Outage::None || fault.is_some());
        fault
    })
}

async fn answer(
    inner: &Arc<Inner>,
    request: Request<Incoming>,
    arrived: Millis,
) -> Result<Answer, io::Error> {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        return Ok(call::json(413, &json!({"message": "Payload Too Large"})));
    };
    let call = Call::new(parts.method, &parts.uri, parts.headers, body.to_bytes());
    let (answer, jobs, is_lost) = inner.act(|state| {
        if let Some(wait) = over_the_limit(state) {
            state.stats.throttled += 1;
            let refused = state.dialect.refused(Refusal::Throttled { retry_after: wait });
            return (refused, Vec::new(), false);
        }
        let State { stats, dialect, book, faults, mishaps, .. } = &mut *state;
        let answer = dialect.answer(book, &call, arrived);
        let refused = matches!(answer.status().as_u16(), 401 | 403);
        *(if refused { &mut stats.unauthorized } else { &mut stats.calls }) += 1;
        let counts = book.told.counts;
        let is_lost = counts.pushes > stats.pushes && mishaps.chance(faults.push_answer_lost);
        stats.call_faults += u64::from(is_lost);
        (stats.pushes, stats.reads) = (counts.pushes, counts.reads);
        (stats.rows, stats.rows_refused) = (counts.rows, counts.rows_refused);
        let happened = std::mem::take(&mut book.happened);
        let jobs = happened.into_iter().flat_map(|change| state.tell(change)).collect();
        (answer, jobs, is_lost)
    });
    inner.send(jobs);
    if is_lost { Err(door::lost()) } else { Ok(answer) }
}

/// Whole seconds until the next call is answered, if there were too many.
fn over_the_limit(state: &mut State) -> Option<u32> {
    let wait = state.allowance.as_mut()?.take(Instant::now()).err()?;
    let whole = Duration::from_secs(wait.as_secs());
    let seconds = wait.as_secs() + u64::from(wait > whole);
    Some(u32::try_from(seconds).unwrap_or(u32::MAX))
}
