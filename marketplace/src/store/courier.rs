//! Sends webhooks as the real sender does: short time limits, eight retries, one id per delivery.

use std::{fmt::Write, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{HeaderMap, Response, Uri, body::Incoming};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep, timeout};

use super::{Inner, State};
use crate::{
    clock,
    history::{Attempt, Outcome, Progress, RETRIES, Webhook},
    shop::Fired,
    shopify::sign::{self, Delivery},
};

/// From the first attempt to the last retry, before the store's time scale.
const RETRY_SPAN: Duration = Duration::from_secs(4 * 60 * 60);
/// The first wait; each is twice the one before, so that eight of them make up the span.
const RETRY_FIRST: Duration = Duration::from_millis(RETRY_SPAN_MS / 255);
const RETRY_SPAN_MS: u64 = 4 * 60 * 60 * 1000;
const _: () = assert!((1 << RETRIES) - 1 == 255 && RETRY_SPAN.as_secs() * 1000 == RETRY_SPAN_MS);

const CONNECT_MAX: Duration = Duration::from_secs(1);
const TOTAL_MAX: Duration = Duration::from_secs(5);
/// How much of an answer is read, and how much of that is remembered.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const ANSWER_CHARS_KEPT: usize = 512;

pub(crate) type HttpClient = Client<HttpConnector, Full<Bytes>>;

pub(crate) fn client() -> HttpClient {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT_MAX));
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).http1_title_case_headers(true).build(connector)
}

/// One webhook to be sent.
pub(super) struct Job {
    /// Its place in the history.
    index: usize,
    fired: Fired,
    targets: Arc<[Uri]>,
    /// How long it waits first, so that others overtake it.
    delay: Duration,
    /// Where a second copy goes at once.
    duplicate: Option<usize>,
}

/// Enters what the shop wants told into the history and decides what will go wrong with it. Without
/// targets nothing is subscribed, and nothing is sent.
pub(super) fn book(state: &mut State) {
    for fired in state.shop.take_outbox() {
        if !state.targets.is_empty() {
            let job = book_one(state, fired);
            state.jobs.extend(job);
        }
    }
}

fn book_one(state: &mut State, fired: Fired) -> Option<Job> {
    let index = state.webhooks.len();
    let digest = Sha256::digest(&fired.body);
    let State { mishaps, faults, targets, .. } = state;
    let delayed = mishaps.chance(faults.delay);
    let delay = if delayed { mishaps.up_to(faults.delay_max) } else { Duration::ZERO };
    let duplicated = mishaps.chance(faults.duplicate);
    let count = u64::try_from(targets.len()).unwrap_or(0);
    let duplicate = duplicated.then(|| usize::try_from(mishaps.below(count)).unwrap_or(0));
    let dropped = mishaps.chance(faults.drop);
    state.webhooks.push(Webhook {
        webhook_id: fired.webhook_id.clone(),
        event_id: fired.event_id.clone(),
        topic: fired.topic,
        order_id: fired.about.order_id,
        image_ms: fired.about.image_ms,
        refund_ids: fired.about.refund_ids.clone(),
        fulfillment_ids: fired.about.fulfillment_ids.clone(),
        body_sha256: hex(&digest),
        triggered_ms: fired.triggered_ms,
        progress: if dropped { Progress::Dropped } else { Progress::Pending },
        attempts: Vec::new(),
    });
    if dropped {
        state.stats.webhooks_dropped += 1;
        return None;
    }
    state.stats.webhooks += 1;
    state.stats.webhooks_pending += 1;
    Some(Job { index, fired, targets: Arc::clone(&state.targets), delay, duplicate })
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Sends on its way whatever is booked, until the store closes.
pub(super) async fn dispatch(inner: Arc<Inner>) {
    let mut changed = inner.changed.subscribe();
    loop {
        let jobs = std::mem::take(&mut inner.lock().jobs);
        for job in jobs {
            inner.tasks.spawn(deliver(Arc::clone(&inner), job));
        }
        tokio::select! {
            () = inner.stop.cancelled() => return,
            // It fails only when the sender is gone, and the sender lives in `inner`.
            _ = changed.changed() => {}
        }
    }
}

/// Sends one webhook until it is accepted or given up.
async fn deliver(inner: Arc<Inner>, job: Job) {
    let delivery = Delivery {
        topic: job.fired.topic,
        shop_domain: inner.options.domain(),
        api_version: inner.options.api_version.clone(),
        webhook_id: job.fired.webhook_id.clone(),
        event_id: job.fired.event_id.clone(),
        triggered_at: clock::utc_time(job.fired.triggered_ms),
        body: job.fired.body.clone(),
    };
    // The parts that could not be headers were refused when the store started.
    let headers = delivery.headers(&inner.options.secret).unwrap_or_default();
    tokio::select! {
        () = inner.stop.cancelled() => {}
        () = run(&inner, &job, &headers) => finish(&inner, &job),
    }
}

async fn run(inner: &Inner, job: &Job, headers: &HeaderMap) {
    if !job.delay.is_zero() {
        sleep(job.delay).await;
    }
    let first = attempt(inner, job, headers, 0, 0, false);
    let accepted = match job.duplicate {
        None => first.await,
        Some(target) => tokio::join!(first, attempt(inner, job, headers, target, 0, true)).0,
    };
    if accepted {
        return;
    }
    for retry in 1..=RETRIES {
        sleep(backoff(retry, inner.options.time_scale)).await;
        let target = usize::try_from(retry).unwrap_or(0);
        if attempt(inner, job, headers, target, retry, false).await {
            return;
        }
    }
}

/// The wait before this retry.
fn backoff(retry: u32, time_scale: f64) -> Duration {
    let wait = RETRY_FIRST.saturating_mul(1 << retry.saturating_sub(1).min(RETRIES));
    Duration::try_from_secs_f64(wait.as_secs_f64() / time_scale).unwrap_or(RETRY_SPAN)
}

/// Sends one request, notes what came of it, and says whether it was accepted.
async fn attempt(
    inner: &Inner,
    job: &Job,
    headers: &HeaderMap,
    target: usize,
    retry: u32,
    duplicate: bool,
) -> bool {
    let Some(uri) = target.checked_rem(job.targets.len()).and_then(|at| job.targets.get(at)) else {
        return false;
    };
    let Ok(_permit) = inner.permits.acquire().await else { return false };
    let at_ms = clock::now_ms();
    let start = Instant::now();
    let request = sign::request(uri, headers.clone(), job.fired.body.clone());
    let outcome = match timeout(TOTAL_MAX, inner.client.request(request)).await {
        Err(_) => Outcome::TimedOut,
        Ok(Err(error)) => Outcome::Failed(in_full(&error)),
        Ok(Ok(response)) => {
            let left = TOTAL_MAX.saturating_sub(start.elapsed());
            timeout(left, answered(response)).await.unwrap_or(Outcome::TimedOut)
        }
    };
    let accepted = outcome.is_success();
    let target = uri.to_string();
    let took = start.elapsed();
    note(inner, job.index, Attempt { at_ms, target, retry, duplicate, took, outcome });
    accepted
}

/// The whole answer, and the beginning of its body.
pub(crate) async fn answered(response: Response<Incoming>) -> Outcome {
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let body = String::from_utf8_lossy(&body).chars().take(ANSWER_CHARS_KEPT).collect();
    Outcome::Answered { status, body }
}

fn note(inner: &Inner, index: usize, attempt: Attempt) {
    inner.act(|state| {
        let State { stats, webhooks, .. } = state;
        stats.attempts += 1;
        stats.retries += u64::from(attempt.retry > 0);
        stats.duplicates += u64::from(attempt.duplicate);
        let Some(webhook) = webhooks.get_mut(index) else { return };
        if attempt.outcome.is_success() {
            stats.consecutive_failures = 0;
            if webhook.progress == Progress::Pending {
                webhook.progress = Progress::Acknowledged;
                stats.acknowledged += 1;
            }
        } else {
            stats.consecutive_failures += 1;
            stats.consecutive_failures_max =
                stats.consecutive_failures_max.max(stats.consecutive_failures);
        }
        webhook.attempts.push(attempt);
    });
}

fn finish(inner: &Inner, job: &Job) {
    inner.act(|state| {
        let State { stats, webhooks, .. } = state;
        stats.webhooks_pending -= 1;
        let webhook = webhooks.get_mut(job.index);
        if let Some(webhook) = webhook.filter(|w| w.progress == Progress::Pending) {
            webhook.progress = Progress::GivenUp;
            stats.given_up += 1;
        }
    });
}

/// An error with its causes: the outermost alone says little.
pub(crate) fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits that do not add up to the documented span would test another sender.
    #[test]
    fn eight_retries_take_four_hours() {
        let waits = |scale| (1..=RETRIES).map(|retry| backoff(retry, scale)).sum::<Duration>();
        assert!(RETRY_SPAN.abs_diff(waits(1.0)) < Duration::from_secs(1));
        assert!(waits(1000.0) < Duration::from_millis(14_401));
        assert_eq!(backoff(2, 1.0), backoff(1, 1.0) * 2);
    }
}
