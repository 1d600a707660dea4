//! Pushes a group's messages to an HTTP endpoint, signed as Standard Webhooks say.
//!
//! A message is leased, posted, and finished with once the endpoint has answered 2xx. Any other answer, and none,
//! puts it back until the topic's backoff is over, or until `Retry-After`. So each comes at least once, under one
//! `webhook-id`, by which the endpoint knows a repetition.
//!
//! Source: the specification of standard-webhooks/standard-webhooks.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cluster::{Clock, Role};
use futures::future::join_all;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::StatusCode;
use sha2::Sha256;
use state::State;
use state::queue::ask::{Answer, Ask, LeaseId, Leased, What};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::agreed::{Agreed, Member};
use crate::channel::api::{Api, Call, retry_after_within_ms};
use crate::config;
use crate::home::home;
use crate::measures::Measures;
use crate::notice::body_of;
use crate::topics::Topics;

/// How often this node looks whether messages wait, while nothing is applied.
const IDLE: Duration = Duration::from_secs(1);
/// How long it gathers what is applied at once.
const LOOK: Duration = Duration::from_millis(20);
/// How long this node may take to apply what was agreed on.
const AGREE: Duration = Duration::from_secs(5);
/// What a lease lasts longer than a post: to read bodies, and to have the outcome agreed on.
const LEASE_SLACK_MS: u64 = 30_000;
/// Failures in a row after which the endpoint is left alone.
const FAILURES_MAX: u32 = 5;
/// The shortest and the longest time for which it is; doubled with each failure.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// No answer keeps a message back for longer.
const DELAY_MS_MAX: u32 = 24 * 60 * 60 * 1000;
/// Bytes of an answer: nobody reads it.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// What pushes to one endpoint.
pub(crate) struct Endpoint {
    /// Where, and what signs.
    pub(crate) config: config::Endpoint,
    /// This node.
    pub(crate) node: u64,
    /// Where messages are leased, and the bodies that this node keeps.
    pub(crate) cluster: Member,
    /// Where what it asks is carried to the cluster.
    pub(crate) topics: Topics,
    /// This node's clock.
    pub(crate) clock: Clock,
    /// What is counted.
    pub(crate) measures: Arc<Measures>,
}

/// What became of a post.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// 2xx.
    Taken,
    /// To be tried again, not before the delay if there is one. Why.
    Failed(Option<u64>, String),
    /// 410: the endpoint wants no more.
    Gone,
}

/// Leaves an endpoint alone that fails: after some failures in a row for a time, then for one try.
#[derive(Debug, Default)]
struct Breaker {
    failures: u32,
    until: Option<Instant>,
}

impl Breaker {
    /// How long to wait before the next try.
    fn pause(&self, now: Instant) -> Duration {
        self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// Messages that may be tried at once.
    const fn most(&self, usual: u32) -> u32 {
        if self.failures >= FAILURES_MAX { 1 } else { usual }
    }

    fn count(&mut self, taken: bool, now: Instant) {
        if taken {
            *self = Self::default();
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if let Some(beyond) = self.failures.checked_sub(FAILURES_MAX) {
            let pause = PAUSE.saturating_mul(2_u32.saturating_pow(beyond)).min(PAUSE_MAX);
            self.until = Some(now + pause);
        }
    }
}

/// Pushes until `stop`, whenever this node is the endpoint's home, or until the endpoint wants no more.
pub(crate) async fn run(endpoint: Endpoint, stop: CancellationToken) {
    let pushed = endpoint.push();
    tokio::pin!(pushed);
    tokio::select! {
        () = stop.cancelled() => {}
        () = &mut pushed => {}
    }
}

impl Endpoint {
    async fn push(&self) {
        let name = &self.config.name;
        let api = match Api::new(&self.config.url) {
            Ok(api) => api.bounded(ANSWER_BYTES_MAX).lasting(self.config.timeout.duration()),
            Err(why) => return tracing::error!(endpoint = name, why, "nothing is pushed to it"),
        };
        let mut breaker = Breaker::default();
        let mut changed = self.cluster.watch();
        loop {
            tokio::time::sleep(breaker.pause(Instant::now())).await;
            let ready = self.is_mine() && self.cluster.look(|state| self.is_ready(state));
            if !ready {
                if tokio::time::timeout(IDLE, changed.changed()).await.is_ok() {
                    tokio::time::sleep(LOOK).await;
                }
                continue;
            }
            let Some(leased) = self.lease(breaker.most(self.config.concurrency)).await else {
                tokio::time::sleep(IDLE).await;
                continue;
            };
            let outcomes = join_all(leased.iter().map(|leased| self.post(&api, leased))).await;
            for outcome in &outcomes {
                let taken = *outcome == Outcome::Taken;
                breaker.count(taken, Instant::now());
                self.measures.posted(name, taken);
            }
            self.settle(leased.iter().map(|leased| leased.lease).zip(&outcomes).collect()).await;
            if outcomes.contains(&Outcome::Gone) {
                let why = "it answered 410: nothing is pushed to it until this node starts again";
                return tracing::error!(endpoint = name, "{why}");
            }
        }
    }

    /// Whether this node is the endpoint's home, or leads while the home cannot be reached. Two nodes that both
    /// push do no harm: leases exclude each other.
    fn is_mine(&self) -> bool {
        let status = self.cluster.status();
        let home = home(&status, self.config.home);
        let is_home = |known: &&cluster::MemberStatus| Some(known.member.id) == home;
        let reachable = status.members.iter().find(is_home).is_some_and(|known| known.reachable);
        home == Some(self.node) || (status.role == Role::Leader && !reachable)
    }

    /// Whether a lease would bring something. One message at a time means that the next one waits until the
    /// one before is finished with, or given up.
    fn is_ready(&self, state: &State) -> bool {
        let queue = &state.data().queue;
        let Some(topic) = queue.topic(&self.config.topic) else { return false };
        let in_order = || match topic.groups.get(self.config.group.as_str()) {
            Some(group) => {
                let [_, leased, retried, _] = state.queue().held(topic, group);
                leased + retried == 0
            }
            None => true,
        };
        state.queue().is_ready(topic, &self.config.group, (self.clock)())
            && (self.config.concurrency > 1 || in_order())
    }

    /// Leases some messages. `None` if there are none, or if the cluster does not agree.
    async fn lease(&self, max: u32) -> Option<Vec<Leased>> {
        let lease_ms = self.config.timeout.0 + LEASE_SLACK_MS;
        let group = self.config.group.clone();
        let (index, answer) = self.ask(What::Lease { group, max, lease_ms }).await?;
        match answer {
            Answer::Leased(leased) if !leased.is_empty() => {
                // The bodies are in this node's history once it has applied what published them.
                tokio::time::timeout(AGREE, self.cluster.applied(index)).await.ok()?;
                Some(leased)
            }
            Answer::Refused(why) => {
                tracing::warn!(endpoint = self.config.name, ?why, "nothing can be leased for it");
                None
            }
            _ => None,
        }
    }

    async fn ask(&self, what: What) -> Option<(u64, Answer)> {
        let ask = Ask { idempotency: None, topic: self.config.topic.clone(), what };
        self.topics.ask(ask).await.ok()
    }

    async fn post(&self, api: &Api, leased: &Leased) -> Outcome {
        let Some(body) = self.body(leased) else {
            return Outcome::Failed(None, "its body is not here".into());
        };
        let number = self.cluster.look(|state| {
            state.data().queue.topic(&self.config.topic).map_or(0, |topic| topic.number)
        });
        let id = format!("msg_{number}_{:x}", leased.lease.message.0);
        let seconds = ((self.clock)() / 1_000).to_string();
        let key = self.config.key();
        let signature = key.and_then(|key| sign(&key, [&id, &seconds], &body));
        let Some(signature) = signature else {
            return Outcome::Failed(None, "it cannot be signed".into());
        };
        let call = Call::post("")
            .body("application/json", body)
            .header("webhook-id", &id)
            .header("webhook-timestamp", &seconds)
            .header("webhook-signature", &signature);
        match api.send(call).await {
            Err(broken) => Outcome::Failed(None, broken.to_string()),
            Ok(answer) if answer.status.is_success() => Outcome::Taken,
            Ok(answer) if answer.status == StatusCode::GONE => Outcome::Gone,
            Ok(answer) => {
                let now = (self.clock)();
                let delay = retry_after_within_ms(&answer.headers, now, DELAY_MS_MAX);
                Outcome::Failed(delay, answer.status.to_string())
            }
        }
    }

    fn body(&self, leased: &Leased) -> Option<Vec<u8>> {
        let place = (leased.message.index, leased.message.n);
        let replica = self.cluster.replica.read().unwrap_or_else(PoisonError::into_inner);
        let history = replica.history();
        drop(replica);
        let kept = history.bodies().get(place.0, place.1).inspect_err(|error| {
            tracing::error!(endpoint = self.config.name, %error, "a message cannot be read");
        });
        body_of(kept.ok()??, place)
    }

    /// Has outcomes agreed on. What is not agreed on while the lease lasts is pushed again after it.
    async fn settle(&self, outcomes: Vec<(LeaseId, &Outcome)>) {
        let (mut taken, mut asks) = (Vec::new(), Vec::new());
        for (lease, outcome) in outcomes {
            let (delay_ms, reason) = match outcome {
                Outcome::Taken => {
                    taken.push(lease);
                    continue;
                }
                Outcome::Failed(delay, why) => (*delay, why.clone()),
                Outcome::Gone => (None, StatusCode::GONE.to_string()),
            };
            tracing::warn!(endpoint = self.config.name, reason, "a message was not taken");
            asks.push(What::Nack { leases: vec![lease], delay_ms, reason });
        }
        asks.extend((!taken.is_empty()).then_some(What::Ack(taken)));
        let until = Instant::now() + Duration::from_millis(LEASE_SLACK_MS);
        for what in asks {
            while self.ask(what.clone()).await.is_none() && Instant::now() < until {
                tokio::time::sleep(IDLE).await;
            }
        }
    }
}

/// The value of `webhook-signature`: version 1, HMAC-SHA256 over id, timestamp and body.
fn sign(key: &[u8], head: [&str; 2], body: &[u8]) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    for part in head {
        mac.update(part.as_bytes());
        mac.update(b".");
    }
    mac.update(body);
    Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use channels::signature::{Request, Scheme, verify};
    use hyper::{HeaderMap, Method};

    use super::*;

    // An endpoint that verifies by the specification would refuse every message; what verifies here was tried
    // against the specification's own vectors.
    #[test]
    fn what_signs_agrees_with_what_verifies() {
        let key = b"0123456789abcdef0123456789abcdef";
        let scheme =
            Scheme::standard_webhooks(&[format!("whsec_{}", STANDARD.encode(key))]).unwrap();
        let judged = |body: &[u8], id: &str| {
            let signature = sign(key, ["msg_1_a", "1700000000"], br#"{"type":"t"}"#).unwrap();
            let mut headers = HeaderMap::new();
            headers.insert("webhook-id", id.parse().unwrap());
            headers.insert("webhook-timestamp", "1700000000".parse().unwrap());
            headers.insert("webhook-signature", signature.parse().unwrap());
            let now_ms = 1_700_000_000_500;
            let (method, headers) = (&Method::POST, &headers);
            verify(&scheme, &Request { method, target: "/", headers, body, now_ms }, None).is_ok()
        };
        assert!(judged(br#"{"type":"t"}"#, "msg_1_a"));
        assert!(!judged(br#"{"type":"u"}"#, "msg_1_a"));
        assert!(!judged(br#"{"type":"t"}"#, "msg_1_b"));
    }

    // An endpoint that is down would be asked as fast as its messages come, or never again.
    #[test]
    fn an_endpoint_that_fails_is_left_alone_longer_and_longer_and_tried_once() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 1..FAILURES_MAX {
            breaker.count(false, now);
            assert_eq!((breaker.pause(now), breaker.most(8)), (Duration::ZERO, 8));
        }
        let mut pauses = Vec::new();
        for _ in 0..12 {
            breaker.count(false, now);
            assert_eq!(breaker.most(8), 1);
            pauses.push(breaker.pause(now));
        }
        assert_eq!(pauses.first_chunk(), Some(&[PAUSE, PAUSE * 2, PAUSE * 4]));
        assert_eq!(pauses.last(), Some(&PAUSE_MAX));
        assert_eq!(breaker.pause(now + PAUSE_MAX), Duration::ZERO);
        breaker.count(true, now);
        assert_eq!((breaker.pause(now), breaker.most(8)), (Duration::ZERO, 8));
    }
}
