//! A consumer of an Amazon SQS queue: where Amazon's notifications of orders come from.
//!
//! A message is deleted only after it was made durable here; until then SQS keeps it and gives it out
//! again. So every message comes at least once, and often twice: whoever takes it recognises it by its
//! own id. SQS gives out the messages of a standard queue in any order.

mod queue;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::channel::api::{ApiError, Credential};
use crate::config;
use queue::{Message, Queue};

/// The shortest and the longest pause after a failure; doubled with each.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// An empty answer that comes at once is followed by this pause: each receive is paid for.
const IDLE: Duration = Duration::from_secs(1);
/// How often one batch is deleted. After that its messages come again, and are recognised.
const DELETE_TRIES: u32 = 5;
/// How long SQS waits for messages before it answers that there are none; it allows no more.
const WAIT: Duration = Duration::from_secs(20);
/// How often the same kind of fault is logged.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// How to reach a queue.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The channel, for the log.
    pub channel: String,
    /// `https://sqs.{region}.amazonaws.com/{account}/{name}`; http on loopback only.
    pub queue_url: String,
    /// The region that requests are signed for.
    pub region: String,
    /// Of a user that may receive and delete messages there and change their visibility.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: Credential,
    /// The token of temporary credentials. When they end somebody must put in new ones.
    pub session_token: Option<Credential>,
    /// Receives side by side; 1 takes some hundred messages a second.
    pub receivers: usize,
    /// How long SQS waits for messages before it answers that there are none: whole seconds, 20 at the most.
    pub wait: Duration,
    /// How long a received message is hidden from others: whole seconds, 12 h at the most. Extended while
    /// the work takes longer than half of it.
    pub visibility: Duration,
}

impl Settings {
    /// As the config says.
    #[must_use]
    pub fn of(channel: &str, sqs: &config::Sqs) -> Self {
        Self {
            channel: channel.into(),
            queue_url: sqs.queue_url.clone(),
            region: sqs.region.clone(),
            access_key_id: sqs.access_key_id.clone(),
            secret_access_key: (&sqs.secret_access_key).into(),
            session_token: sqs.session_token.as_ref().map(Into::into),
            receivers: sqs.receivers,
            wait: WAIT,
            visibility: sqs.visibility.duration(),
        }
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is durable, or need not be: it is deleted from the queue.
    Durable,
    /// It cannot be made durable now: it stays in the queue, and comes again when its visibility ends.
    Busy,
}

/// Who takes messages.
pub trait Take: Send + Sync {
    /// Takes the body of one message. Called for several at once. It may take long: meanwhile the message
    /// stays hidden. A message that will never be understood is to be kept as a dead letter and is
    /// `Durable` then, or it comes until the queue gives it up.
    fn take(&self, body: &str) -> impl Future<Output = Taken> + Send;
}

/// What a consumer counts. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Messages received, repetitions included.
    pub received: Counter,
    /// Messages deleted.
    pub deleted: Counter,
    /// Messages left in the queue because nothing could be made durable.
    pub busy: Counter,
    /// Times that a message was hidden for longer.
    pub extended: Counter,
    /// Messages that are durable and could not be deleted: they come again.
    pub undeleted: Counter,
    /// Calls that failed.
    pub failures: Counter,
}

/// What reads one queue.
pub struct Consumer<T> {
    queue: Queue,
    settings: Settings,
    taker: T,
    counts: Counts,
    /// When a fault of credentials, and another fault, was logged last.
    said: Mutex<[Option<Instant>; 2]>,
}

/// Where a received message stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Open,
    Durable,
    Busy,
    Deleted,
}

impl<T: Take> Consumer<T> {
    /// A consumer; nothing is received yet. The error says what is wrong with the settings.
    pub fn new(settings: Settings, taker: T, counts: Counts) -> Result<Self, String> {
        let queue = Queue::new(&settings)?;
        Ok(Self { queue, settings, taker, counts, said: Mutex::default() })
    }

    /// Receives until `stop`, then finishes what was received and returns. A receive under way is broken
    /// off; what it would have brought comes again when its visibility ends.
    pub async fn run(&self, stop: &CancellationToken) {
        let receivers = self.settings.receivers.max(1);
        join_all((0..receivers).map(|_| self.receive(stop))).await;
    }

    async fn receive(&self, stop: &CancellationToken) {
        let mut failures = 0;
        loop {
            let asked = Instant::now();
            let received = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                received = self.queue.receive() => received,
            };
            let wait = match received {
                Ok(messages) if messages.is_empty() => {
                    failures = 0;
                    IDLE.saturating_sub(asked.elapsed())
                }
                Ok(messages) if self.work(&messages).await => {
                    failures = 0;
                    Duration::ZERO
                }
                Ok(_) => {
                    failures += 1;
                    pause(failures)
                }
                Err(error) => {
                    failures += 1;
                    self.failed(&error, "receive");
                    match error {
                        ApiError::Limited { wait_ms } => {
                            pause(failures).max(Duration::from_millis(wait_ms))
                        }
                        _ => pause(failures),
                    }
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Has messages taken, all at once, and deletes those that became durable. Whether all did.
    async fn work(&self, messages: &[Message]) -> bool {
        self.counts.received.inc_by(count(messages.len()));
        let fates = Mutex::new(vec![Fate::Open; messages.len()]);
        let taking = async {
            let each = messages.iter().enumerate();
            let mut taking: FuturesUnordered<_> = each
                .map(|(at, message)| async move { (at, self.taker.take(&message.body).await) })
                .collect();
            while let Some((at, taken)) = taking.next().await {
                set(&fates, at, if taken == Taken::Durable { Fate::Durable } else { Fate::Busy });
            }
        };
        tokio::select! {
            () = taking => {}
            () = self.keep_hidden(messages, &fates) => {}
        }
        self.delete(messages, &fates).await;
        let busy = of_fate(messages, &fates, Fate::Busy).len();
        self.counts.busy.inc_by(count(busy));
        busy == 0
    }

    /// While the work lasts: every half of the visibility, deletes what is durable and hides the rest for
    /// longer. Ends only by being dropped, which harms nothing: what is done twice is as good as once.
    async fn keep_hidden(&self, messages: &[Message], fates: &Mutex<Vec<Fate>>) {
        let half = self.settings.visibility / 2;
        let mut next = half;
        loop {
            tokio::time::sleep(next).await;
            let open = of_fate(messages, fates, Fate::Open);
            let outcome = self.queue.hide(&open).await;
            let outcome =
                outcome.inspect_err(|error| self.failed(error, "hide")).unwrap_or_default();
            self.counts.extended.inc_by(count(outcome.done.len()));
            for code in outcome.lost.values() {
                tracing::debug!(
                    channel = self.settings.channel,
                    code,
                    "a message is no longer hidden"
                );
            }
            // What failed is tried again while there is time.
            let all = outcome.done.len() + outcome.lost.len() >= open.len();
            next = if all { half } else { half / 4 };
            self.delete_once(messages, fates).await;
        }
    }

    /// Deletes what is durable, several times if need be.
    async fn delete(&self, messages: &[Message], fates: &Mutex<Vec<Fate>>) {
        for tried in 1..=DELETE_TRIES {
            self.delete_once(messages, fates).await;
            if of_fate(messages, fates, Fate::Durable).is_empty() {
                return;
            }
            if tried < DELETE_TRIES {
                tokio::time::sleep(pause(tried)).await;
            }
        }
        self.counts.undeleted.inc_by(count(of_fate(messages, fates, Fate::Durable).len()));
    }

    async fn delete_once(&self, messages: &[Message], fates: &Mutex<Vec<Fate>>) {
        let durable = of_fate(messages, fates, Fate::Durable);
        if durable.is_empty() {
            return;
        }
        let outcome = self.queue.delete(&durable).await;
        let outcome = outcome.inspect_err(|error| self.failed(error, "delete")).unwrap_or_default();
        // Only what was asked for: a confused answer must not settle another message.
        for (at, _) in durable {
            if outcome.done.contains(&at) {
                set(fates, at, Fate::Deleted);
                self.counts.deleted.inc();
            } else if let Some(code) = outcome.lost.get(&at) {
                tracing::debug!(
                    channel = self.settings.channel,
                    code,
                    "a message cannot be deleted"
                );
                set(fates, at, Fate::Deleted);
                self.counts.undeleted.inc();
            }
        }
    }

    /// Counts a failure, and logs it unless one of its kind was logged within the minute.
    fn failed(&self, error: &ApiError, call: &str) {
        self.counts.failures.inc();
        let final_one = matches!(error, ApiError::Unauthorised(_) | ApiError::Refused(_));
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let [denied, other] = &mut *said;
        if !is_due(if final_one { denied } else { other }, Instant::now()) {
            return;
        }
        let channel = &self.settings.channel;
        if final_one {
            tracing::error!(fault = "sqs_denied", channel, call, %error,
                "the queue refuses us; its messages wait until somebody mends it");
        } else {
            tracing::warn!(channel, call, %error, "the queue cannot be reached");
        }
    }
}

/// Whether something may be said again; notes that it was.
fn is_due(last: &mut Option<Instant>, now: Instant) -> bool {
    let due = last.is_none_or(|last| now.duration_since(last) >= SAID_EVERY);
    if due {
        *last = Some(now);
    }
    due
}

/// Half of it at random, so that nodes that failed together do not come back together.
fn pause(failures: u32) -> Duration {
    let whole =
        PAUSE.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(PAUSE_MAX);
    let random = u64::from(getrandom::u32().unwrap_or_default());
    let half = u64::try_from(whole.as_millis() / 2).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(half + random % half)
}

fn of_fate<'a>(
    messages: &'a [Message],
    fates: &Mutex<Vec<Fate>>,
    wanted: Fate,
) -> Vec<(usize, &'a Message)> {
    let fates = fates.lock().unwrap_or_else(PoisonError::into_inner);
    let of = messages.iter().enumerate().zip(fates.iter());
    of.filter(|(_, fate)| **fate == wanted).map(|(message, _)| message).collect()
}

fn set(fates: &Mutex<Vec<Fate>>, at: usize, fate: Fate) {
    if let Some(known) = fates.lock().unwrap_or_else(PoisonError::into_inner).get_mut(at) {
        *known = fate;
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
