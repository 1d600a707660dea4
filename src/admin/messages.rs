//! Messages: publishing them, leasing them, and saying what became of them.

use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use state::Key;
use state::limits::LEASE_MESSAGES_MAX;
use state::origin::Lane;
use state::queue::ask::{Answer, Ask, LeaseId, Leased, Publish, Published, Refused, What};
use utoipa::ToSchema;

use super::extract::{Body, Json, Path};
use super::{Admin, Problem, ask};
use crate::channel::key;
use crate::clock::{now_ms, parse_rfc3339, rfc3339};
use crate::topics::{Unanswered, lease_id, message_id, parse_lease_id};

/// The group of those who name none.
pub(super) const GROUP: &str = "default";
/// The longest that a request waits for messages.
const WAIT_S_MAX: u64 = 300;
/// How often at the most a request that waits looks again.
const LOOKS: Duration = Duration::from_millis(20);
/// How often at the least: a rate opens without anything happening.
const LOOKS_AT_LEAST: Duration = Duration::from_millis(250);

/// Messages to publish: all of them, or none.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Messages {
    messages: Vec<Message>,
}

/// A message to publish.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Message {
    /// Any JSON, up to 256 KiB of it.
    body: Value,
    /// Messages of one key are worked on one after the other, in their order.
    key: Option<String>,
    /// urgent or normal, which it is by default. Of both kinds, eight urgent ones go before another.
    priority: Option<String>,
    /// Seconds from now after which it is there.
    delay_s: Option<f64>,
    /// The time from which on it is there, instead of a delay.
    at: Option<String>,
    /// A second message of the same id changes nothing, for as long as the topic's `dedup_s`.
    dedup_id: Option<String>,
}

/// What became of each message, in the order of the request.
#[derive(Serialize, ToSchema)]
pub(super) struct Outcomes {
    results: Vec<Outcome>,
    /// Log index of the request: a group can begin there.
    index: u64,
}

/// What became of one message.
#[derive(Serialize, ToSchema)]
pub(super) struct Outcome {
    /// Its id in the topic; null while it is delayed.
    id: Option<String>,
    /// published, duplicate or delayed.
    outcome: &'static str,
}

/// Publishes messages. The first ones make the topic, with settings as they are by default.
#[utoipa::path(post, path = "/v1/topics/{topic}/messages", operation_id = "publish",
    tag = "queue", params(("topic" = String, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Yours, up to 256 characters")),
    request_body = Messages,
    responses((status = 200, body = Outcomes), (status = 409, body = Problem),
        (status = 422, body = Problem)))]
pub(super) async fn publish(
    State(admin): State<Admin>,
    Path(topic): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Outcomes>, Problem> {
    let Messages { messages } = body.json()?;
    let now = now_ms();
    let checked = messages.into_iter().enumerate().map(|(n, message)| {
        let checked = message.check(&topic, now);
        checked.map_err(|why| Problem::unprocessable("invalid", format!("messages[{n}].{why}")))
    });
    let what = What::Publish(checked.collect::<Result<_, _>>()?);
    let (index, answer) =
        admin.ask_topic(&topic, ask::idempotency(&headers, &body.0)?, what).await?;
    let Answer::Published(published) = answer else { return Err(unexpected(&answer)) };
    let results = published.into_iter().map(|published| match published {
        Published::New(id) => Outcome { id: Some(message_id(id)), outcome: "published" },
        Published::Duplicate(id) => Outcome { id: Some(message_id(id)), outcome: "duplicate" },
        Published::Delayed(_) => Outcome { id: None, outcome: "delayed" },
    });
    Ok(Json(Outcomes { results: results.collect(), index }))
}

impl Message {
    pub(super) fn check(self, topic: &str, now: u64) -> Result<Publish, String> {
        let lane = match self.priority.as_deref() {
            None | Some("normal") => Lane::Normal,
            Some("urgent") => Lane::Urgent,
            Some(other) => return Err(format!("priority: {other:?} is neither urgent nor normal")),
        };
        let delay_ms = match (self.delay_s, self.at) {
            (None, None) => 0,
            (Some(seconds), None) => millis("delay_s", seconds)?,
            (None, Some(at)) => {
                parse_rfc3339(&at).map_err(|why| format!("at: {why}"))?.saturating_sub(now)
            }
            (Some(_), Some(_)) => return Err("delay_s: send either a delay or a time".into()),
        };
        if self.dedup_id.as_deref() == Some("") {
            return Err("dedup_id: at least one character".into());
        }
        let dedup = self.dedup_id.map(|id| key(format!("dedup\0{topic}\0{id}").as_bytes()));
        let body = self.body.to_string().into_bytes();
        Ok(Publish { lane, key: self.key, delay_ms, dedup, body })
    }
}

/// Seconds as the API takes them.
pub(super) fn millis(name: &str, seconds: f64) -> Result<u64, String> {
    let time = Duration::try_from_secs_f64(seconds);
    let time = time.map_err(|_| format!("{name}: a number of seconds, not below zero"))?;
    u64::try_from(time.as_millis()).map_err(|_| format!("{name}: too long"))
}

/// What a worker asks for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Who asks, for people who read logs.
    consumer: Option<String>,
    /// The workers among which messages are shared; `default` if not given. A group that is new begins before all
    /// that is kept. Every group sees every message.
    group: Option<String>,
    /// Messages at the most: 1 if not given, up to 1000.
    max: Option<u32>,
    /// Seconds after which another worker gets what is not finished: 30 if not given, 1 to 43200.
    lease_s: Option<f64>,
    /// Seconds to wait for a message if there is none: 0 if not given, up to 300.
    wait_s: Option<f64>,
}

/// Leased messages.
#[derive(Serialize, ToSchema)]
pub(super) struct LeasedMessages {
    messages: Vec<LeasedMessage>,
}

/// A leased message.
#[derive(Serialize, ToSchema)]
pub(super) struct LeasedMessage {
    /// To be named when it is finished. An older lease of the message is refused from now on.
    lease: String,
    id: String,
    body: Value,
    key: Option<String>,
    /// How often it was leased by now, this time included.
    attempts: u32,
    enqueued_at: String,
    leased_until: String,
}

/// Leases messages to a worker. Until the lease runs out nobody else in its group gets them. Asked again under one
/// `Idempotency-Key`, whoever was leased something gets the same leases, run out or not; of an answer without any
/// nothing is kept.
#[utoipa::path(post, path = "/v1/topics/{topic}/lease", operation_id = "lease",
    tag = "queue", params(("topic" = String, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Yours, up to 256 characters")),
    request_body = Wanted,
    responses((status = 200, body = LeasedMessages), (status = 404, body = Problem),
        (status = 422, body = Problem)))]
pub(super) async fn lease(
    State(admin): State<Admin>,
    Path(topic): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<LeasedMessages>, Problem> {
    let wanted: Wanted = body.json()?;
    let idempotency = ask::idempotency(&headers, &body.0)?;
    let invalid = |why: String| Problem::unprocessable("invalid", why);
    let group = wanted.group.unwrap_or_else(|| GROUP.into());
    let max = wanted.max.unwrap_or(1);
    if !(1..=LEASE_MESSAGES_MAX).contains(&max) {
        return Err(invalid(format!("max: 1 to {LEASE_MESSAGES_MAX}")));
    }
    let lease_ms = millis("lease_s", wanted.lease_s.unwrap_or(30.0)).map_err(invalid)?;
    let wait_ms = millis("wait_s", wanted.wait_s.unwrap_or(0.0)).map_err(invalid)?;
    if wait_ms > WAIT_S_MAX * 1_000 {
        return Err(invalid(format!("wait_s: 0 to {WAIT_S_MAX}")));
    }
    tracing::debug!(topic, group, consumer = wanted.consumer, "a worker asks");
    let until = Instant::now() + Duration::from_millis(wait_ms);
    let mut applied = admin.read().watch();
    if admin.is_ready(&topic, &group) != Some(true) {
        // What was published anywhere before this request is seen by it.
        admin.barrier().await?;
    }
    // Who asks again may have been answered before, whatever there is now.
    let mut again = idempotency.is_some();
    loop {
        let ready = admin.is_ready(&topic, &group).ok_or_else(|| unknown(&topic))?;
        if ready || std::mem::take(&mut again) {
            let what = What::Lease { group: group.clone(), max, lease_ms };
            let (_, answer) = admin.ask_topic(&topic, idempotency, what).await?;
            let Answer::Leased(leased) = answer else { return Err(unexpected(&answer)) };
            // What was leased under this key before, and is gone, is not waited for.
            if !leased.is_empty() || idempotency.is_some_and(|(key, _)| admin.has_answered(&key)) {
                return admin.leased(&topic, leased).await.map(Json);
            }
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Json(LeasedMessages { messages: Vec::new() }));
        }
        applied.mark_unchanged();
        let _ = tokio::time::timeout(left.min(LOOKS_AT_LEAST), applied.changed()).await;
        tokio::time::sleep(LOOKS.min(left)).await;
    }
}

/// Leases.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Leases {
    leases: Vec<String>,
}

/// Leases of what failed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Failed {
    leases: Vec<String>,
    /// Seconds until it is tried again; as the topic's backoff says if not given.
    delay_s: Option<f64>,
    /// Why: it is shown with what is given up.
    #[serde(default)]
    reason: String,
}

/// Leases of what takes longer.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Longer {
    leases: Vec<String>,
    /// Seconds from now: 1 to 43200.
    lease_s: f64,
}

/// What became of each lease, in the order of the request.
#[derive(Serialize, ToSchema)]
pub(super) struct Results {
    results: Vec<LeaseResult>,
}

/// What became of a lease.
#[derive(Serialize, ToSchema)]
pub(super) struct LeaseResult {
    lease: String,
    /// done, or gone: it has run out, or was never one of this topic, and nothing was changed.
    outcome: &'static str,
}

/// Says that messages are finished.
#[utoipa::path(post, path = "/v1/topics/{topic}/ack", operation_id = "ack",
    tag = "queue", params(("topic" = String, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Yours, up to 256 characters")),
    request_body = Leases,
    responses((status = 200, body = Results), (status = 404, body = Problem)))]
pub(super) async fn ack(
    State(admin): State<Admin>,
    Path(topic): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Results>, Problem> {
    let Leases { leases } = body.json()?;
    admin.with_leases(&topic, ask::idempotency(&headers, &body.0)?, leases, What::Ack).await
}

/// Says that messages failed. They are tried again, or given up after the topic's number of attempts.
#[utoipa::path(post, path = "/v1/topics/{topic}/nack", operation_id = "nack",
    tag = "queue", params(("topic" = String, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Yours, up to 256 characters")),
    request_body = Failed,
    responses((status = 200, body = Results), (status = 404, body = Problem),
        (status = 422, body = Problem)))]
pub(super) async fn nack(
    State(admin): State<Admin>,
    Path(topic): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Results>, Problem> {
    let Failed { leases, delay_s, reason } = body.json()?;
    let delay_ms = delay_s.map(|seconds| millis("delay_s", seconds)).transpose();
    let delay_ms = delay_ms.map_err(|why| Problem::unprocessable("invalid", why))?;
    let idempotency = ask::idempotency(&headers, &body.0)?;
    let what = |leases| What::Nack { leases, delay_ms, reason };
    admin.with_leases(&topic, idempotency, leases, what).await
}

/// Says that messages take longer.
#[utoipa::path(post, path = "/v1/topics/{topic}/extend", operation_id = "extend_leases",
    tag = "queue", params(("topic" = String, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Yours, up to 256 characters")),
    request_body = Longer,
    responses((status = 200, body = Results), (status = 404, body = Problem),
        (status = 422, body = Problem)))]
pub(super) async fn extend(
    State(admin): State<Admin>,
    Path(topic): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Results>, Problem> {
    let Longer { leases, lease_s } = body.json()?;
    let lease_ms = millis("lease_s", lease_s);
    let lease_ms = lease_ms.map_err(|why| Problem::unprocessable("invalid", why))?;
    let idempotency = ask::idempotency(&headers, &body.0)?;
    let what = |leases| What::Extend { leases, lease_ms };
    admin.with_leases(&topic, idempotency, leases, what).await
}

impl Admin {
    /// Asks a topic. Whoever asks this node next finds what it was just told.
    pub(super) async fn ask_topic(
        &self,
        topic: &str,
        idempotency: Option<(Key, Key)>,
        what: What,
    ) -> Result<(u64, Answer), Problem> {
        let idempotency = idempotency.map(|once| ask::of_topic(once, topic, what.verb()));
        let ask = Ask { idempotency, topic: topic.into(), what };
        let (index, answer) = self.topics.ask(ask).await?;
        self.caught_up(index).await?;
        match answer {
            Answer::Refused(Refused::UnknownTopic) => Err(unknown(topic)),
            Answer::Refused(refused) => Err(refused.into()),
            answer => Ok((index, answer)),
        }
    }

    /// Whether a group has something to lease; nothing if there is no such topic.
    fn is_ready(&self, topic: &str, group: &str) -> Option<bool> {
        let replica = self.read();
        let topic = replica.state().data().queue.topic(topic)?;
        Some(replica.state().queue().is_ready(topic, group, now_ms()))
    }

    /// Whether something asked for under this key was answered, and the answer is kept.
    fn has_answered(&self, key: &Key) -> bool {
        self.read().state().data().answers.get(key).is_some()
    }

    /// Leased messages with their bodies. One that is gone by now, or unreadable, is left to its lease's end.
    async fn leased(&self, topic: &str, leased: Vec<Leased>) -> Result<LeasedMessages, Problem> {
        let history = self.read().history();
        let number = self.read().state().data().queue.topic(topic).map(|topic| topic.number);
        let number = number.ok_or_else(|| unknown(topic))?;
        let mut bodies = history.bodies();
        let read = move || {
            let messages = leased.into_iter().filter_map(|leased| {
                let (key, body) =
                    super::bodies::read(&mut bodies, &leased.message).transpose()?.ok()?;
                Some(LeasedMessage {
                    lease: lease_id(number, &leased.lease),
                    id: message_id(leased.lease.message),
                    body,
                    key,
                    attempts: leased.attempts,
                    enqueued_at: rfc3339(leased.message.time),
                    leased_until: rfc3339(leased.until),
                })
            });
            LeasedMessages { messages: messages.collect() }
        };
        let done = tokio::task::spawn_blocking(read).await;
        done.map_err(|error| Problem::internal(error.to_string()))
    }

    /// Asks for something to be done with leases. What is no lease of this topic has run out for ever.
    async fn with_leases(
        &self,
        topic: &str,
        idempotency: Option<(Key, Key)>,
        leases: Vec<String>,
        what: impl FnOnce(Vec<LeaseId>) -> What,
    ) -> Result<Json<Results>, Problem> {
        let most = usize::try_from(LEASE_MESSAGES_MAX).unwrap_or(usize::MAX);
        if leases.is_empty() || leases.len() > most {
            return Err(Problem::unprocessable("invalid", format!("leases: 1 to {most}")));
        }
        let number = match self.read().state().data().queue.topic(topic) {
            Some(topic) => topic.number,
            None => return Err(unknown(topic)),
        };
        let parsed: Vec<Option<LeaseId>> =
            leases.iter().map(|lease| parse_lease_id(number, lease)).collect();
        let ids: Vec<LeaseId> = parsed.iter().flatten().copied().collect();
        let mut done = Vec::new();
        if !ids.is_empty() {
            let (_, answer) = self.ask_topic(topic, idempotency, what(ids)).await?;
            let Answer::Done(said) = answer else { return Err(unexpected(&answer)) };
            done = said;
        }
        let mut done = done.into_iter();
        let results = leases.into_iter().zip(parsed).map(|(lease, parsed)| {
            let done = parsed.is_some() && done.next() == Some(true);
            LeaseResult { lease, outcome: if done { "done" } else { "gone" } }
        });
        Ok(Json(Results { results: results.collect() }))
    }
}

pub(super) fn unknown(topic: &str) -> Problem {
    Problem::missing(format!("there is no topic {topic:?}; the first message makes it"))
}

pub(super) fn unexpected(answer: &Answer) -> Problem {
    Problem::internal(format!("unexpected answer {answer:?}"))
}

impl From<Unanswered> for Problem {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Proposal(error) => (*error).clone().into(),
            Unanswered::Stopping => Self::unavailable("this node is stopping".into()),
            Unanswered::Unexpected(_) => Self::internal(unanswered.to_string()),
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::UnknownTopic => Self::missing("there is no such topic".into()),
            Refused::UnknownGroup(name) => Self::missing(format!("there is no group {name:?}")),
            Refused::UnknownSchedule(name) => {
                Self::missing(format!("there is no schedule {name:?}"))
            }
            Refused::Full { messages, bytes } => Self::conflict(
                "topic_full",
                format!("it keeps {messages} messages of {bytes} bytes; nothing was taken"),
            ),
            Refused::TooMany(what) => {
                Self::conflict("too_many", format!("there may be {what} at the most"))
            }
            Refused::Invalid(why) => Self::unprocessable("invalid", why),
            Refused::KeyReused => Self::unprocessable(
                "idempotency_key_reused",
                "this Idempotency-Key was used with another request in the last 24 hours",
            ),
        }
    }
}
