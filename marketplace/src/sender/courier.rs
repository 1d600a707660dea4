//! Sends webhooks with the manners of their kind.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Uri, Version};
use tokio::time::{Instant, sleep, timeout};

use super::{
    Delivery, Subscription,
    dialect::{Message, Notice, Try},
    state::{Inner, State},
};
use crate::{
    clock,
    history::{Attempt, Outcome, Progress},
    random::Random,
    shopify::sign,
    store::courier::{answered, in_full},
};

/// The longest wait for anything.
const WAIT_MAX: Duration = Duration::from_secs(60 * 60 * 24 * 365);

/// One webhook to be sent.
pub(super) struct Job {
    /// Its number in the log.
    number: u64,
    notice: Notice,
    targets: Arc<[Uri]>,
    /// How long it waits first, so that others overtake it.
    delay: Duration,
    /// Where a second copy goes at once.
    duplicate: Option<usize>,
    /// Decides whether its answers are lost.
    fate: Random,
    answer_lost: f64,
}

/// Enters what is to be told into the log and decides what will go wrong with it. Without targets
/// nothing is sent, nor while nothing is subscribed.
pub(super) fn book(state: &mut State, notices: Vec<Notice>) -> Vec<Job> {
    if state.targets.is_empty() {
        return Vec::new();
    }
    notices.into_iter().filter_map(|notice| book_one(state, notice)).collect()
}

fn book_one(state: &mut State, mut notice: Notice) -> Option<Job> {
    if state.subscription != Subscription::Active {
        state.stats.unsubscribed += 1;
        return None;
    }
    if state.dialect.manner().coalesces && !state.waiting.insert((notice.topic, notice.subject)) {
        state.stats.coalesced += 1;
        return None;
    }
    let mut fate = state.fate(&notice.key);
    notice.id = fate.uuid();
    let faults = &state.faults;
    let dropped = fate.chance(faults.drop);
    let delayed = fate.chance(faults.delay);
    let delay = fate.up_to(faults.delay_max);
    let duplicated = fate.chance(faults.duplicate);
    let target = fate.below(u64::try_from(state.targets.len()).unwrap_or(0));
    let answer_lost = faults.answer_lost;
    let number = state.log.push(Delivery {
        id: notice.id.clone(),
        topic: notice.topic,
        reference: notice.reference.clone(),
        at_ms: notice.at_ms,
        progress: if dropped { Progress::GivenUp } else { Progress::Pending },
        dropped,
        attempts: Vec::new(),
    });
    state.stats.webhooks += 1;
    if dropped {
        state.stats.dropped += 1;
        state.waiting.remove(&(notice.topic, notice.subject));
        return None;
    }
    state.stats.webhooks_pending += 1;
    Some(Job {
        number,
        notice,
        targets: Arc::clone(&state.targets),
        delay: if delayed { delay } else { Duration::ZERO },
        duplicate: duplicated.then(|| usize::try_from(target).unwrap_or(0)),
        fate,
        answer_lost,
    })
}

/// Sends one webhook until it is accepted or given up.
pub(super) async fn deliver(inner: Arc<Inner>, mut job: Job) {
    tokio::select! {
        biased;
        () = inner.stop.cancelled() => {}
        accepted = run(&inner, &mut job) => finish(&inner, &job, accepted),
    }
}

async fn run(inner: &Inner, job: &mut Job) -> bool {
    if !job.delay.is_zero() {
        sleep(job.delay).await;
    }
    let waits = inner.lock().dialect.manner().waits;
    let mut retry = 0;
    loop {
        let index = usize::try_from(retry).unwrap_or(0);
        // A second copy goes out with the first try only.
        let duplicate = job.duplicate.take();
        let lost = job.fate.chance(job.answer_lost);
        let Some(message) = compose(inner, job, index, retry + 1) else { return false };
        let first =
            attempt(inner, job, &message, Sending { target: index, retry, duplicate: false, lost });
        let accepted = match duplicate {
            None => first.await,
            Some(target) => {
                let copy = Sending { target, retry, duplicate: true, lost: false };
                tokio::join!(first, attempt(inner, job, &message, copy)).0
            }
        };
        if accepted {
            return true;
        }
        let Some(wait) = waits.get(index) else { return false };
        sleep(scaled(*wait, inner.options.time_scale)).await;
        retry += 1;
    }
}

/// The request of one try, or nothing if the subscription has ended.
fn compose(inner: &Inner, job: &Job, target: usize, number: u32) -> Option<Message> {
    let target = pick(&job.targets, target)?;
    let mut guard = inner.lock();
    let State { dialect, book, waiting, subscription, .. } = &mut *guard;
    waiting.remove(&(job.notice.topic, job.notice.subject));
    let try_ = Try { number, target, now: clock::now_ms() };
    (*subscription != Subscription::Disabled).then(|| dialect.compose(book, &job.notice, &try_))
}

fn pick(targets: &[Uri], nth: usize) -> Option<&Uri> {
    nth.checked_rem(targets.len()).and_then(|at| targets.get(at))
}

fn scaled(wait: Duration, time_scale: f64) -> Duration {
    Duration::try_from_secs_f64(wait.as_secs_f64() / time_scale).unwrap_or(WAIT_MAX).min(WAIT_MAX)
}

/// One request of a try.
#[derive(Clone, Copy)]
struct Sending {
    target: usize,
    retry: u32,
    duplicate: bool,
    /// Its answer does not reach the sender.
    lost: bool,
}

/// Sends one request, notes what came of it, and says whether the sender takes it for accepted.
async fn attempt(inner: &Inner, job: &Job, message: &Message, sending: Sending) -> bool {
    let Some(uri) = pick(&job.targets, sending.target) else { return false };
    let Ok(_permit) = inner.permits.acquire().await else { return false };
    let at_ms = clock::now_ms();
    let start = Instant::now();
    let mut request = sign::request(uri, message.headers.clone(), message.body.clone());
    if message.old_http {
        *request.version_mut() = Version::HTTP_10;
    }
    let answer_max = inner.lock().dialect.manner().answer_max;
    let outcome = exchange(inner, request, answer_max).await;
    let (target, took) = (uri.to_string(), start.elapsed());
    let Sending { retry, duplicate, lost, .. } = sending;
    let attempt = Attempt { at_ms, target, retry, duplicate, took, outcome };
    note(inner, job.number, attempt, lost)
}

/// Sends a request and waits for the whole answer.
pub(super) async fn exchange(
    inner: &Inner,
    request: Request<Full<Bytes>>,
    answer_max: Duration,
) -> Outcome {
    let exchange = async {
        match inner.client.request(request).await {
            Ok(response) => answered(response).await,
            Err(error) => Outcome::Failed(in_full(&error)),
        }
    };
    timeout(answer_max, exchange).await.unwrap_or(Outcome::TimedOut)
}

/// Notes an answer and says whether the sender takes it for success.
fn note(inner: &Inner, number: u64, attempt: Attempt, lost: bool) -> bool {
    inner.act(|state| {
        let State { stats, log, dialect, .. } = state;
        let manner = dialect.manner();
        stats.attempts += 1;
        stats.retries += u64::from(attempt.retry > 0 && !attempt.duplicate);
        stats.duplicates += u64::from(attempt.duplicate);
        stats.answers_lost += u64::from(lost);
        let status = match &attempt.outcome {
            Outcome::Answered { status, .. } => Some(*status),
            _ => None,
        };
        let taken = status.is_some_and(|status| manner.accepted.contains(&status));
        if manner.gone_disables && status == Some(410) {
            state.subscription = Subscription::Disabled;
        }
        if let Some(delivery) = log.get_mut(number) {
            // The receiver promised something with it, whatever the sender believes.
            if taken {
                delivery.progress = Progress::Acknowledged;
            }
            delivery.attempts.push(attempt);
        }
        taken && !lost
    })
}

fn finish(inner: &Inner, job: &Job, accepted: bool) {
    inner.act(|state| {
        state.stats.webhooks_pending -= 1;
        if accepted {
            state.stats.acknowledged += 1;
            state.failures_in_row = 0;
            return;
        }
        state.stats.given_up += 1;
        let delivery = state.log.get_mut(job.number);
        if let Some(delivery) = delivery.filter(|d| d.progress == Progress::Pending) {
            delivery.progress = Progress::GivenUp;
        }
        state.failures_in_row += 1;
        let max = state.dialect.manner().failures_max;
        if max.is_some_and(|max| state.failures_in_row >= max) {
            state.subscription = Subscription::Disabled;
        }
    });
}
