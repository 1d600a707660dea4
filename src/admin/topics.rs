//! Topics: how deep they are, how they behave, and who goes through them.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use state::Key;
use state::queue::ask::{Answer, From as Begin, What};
use state::queue::settings::{Rate, Settings};
use state::queue::{self, MessageId, key_hash};
use utoipa::ToSchema;

use super::extract::{Body, Json, Path, Query};
use super::messages::{unexpected, unknown};
use super::view::{Page, Paging};
use super::{Admin, Problem, ask};
use crate::clock::{now_ms, parse_rfc3339, rfc3339};

/// A topic.
#[derive(Serialize, ToSchema)]
pub(super) struct Topic {
    name: String,
    /// Messages by where they are, over all groups. Without a group, all that are kept are ready.
    depth: Depth,
    /// Messages that are kept, those too that every group has finished with and that can be replayed.
    messages: u64,
    /// Bytes of their bodies.
    bytes: u64,
    /// Messages published so far.
    published: u64,
    /// Messages that went unfinished for want of room.
    dropped: u64,
    /// Messages a second during the last minute, as this node saw it.
    rates: Rates,
    /// Age of the oldest message that some group has not finished; null if there is none.
    oldest_age_s: Option<f64>,
    paused: bool,
    /// How many keys are paused.
    paused_keys: usize,
    groups: BTreeMap<String, Group>,
    schedules: BTreeMap<String, Schedule>,
    settings: Behaviour,
}

/// Messages by where they are.
#[derive(Clone, Copy, Default, Serialize, ToSchema)]
pub(super) struct Depth {
    ready: u64,
    /// Not yet published, or to be tried again later.
    delayed: u64,
    leased: u64,
    dead: u64,
}

/// Messages a second.
#[derive(Clone, Copy, Default, Serialize, ToSchema)]
pub(super) struct Rates {
    published: f64,
    finished: f64,
}

/// A group of workers.
#[derive(Serialize, ToSchema)]
pub(super) struct Group {
    depth: Depth,
    /// Messages finished so far.
    finished: u64,
    oldest_age_s: Option<f64>,
}

/// A message that is published again and again.
#[derive(Serialize, ToSchema)]
pub(super) struct Schedule {
    cron: String,
    next: String,
}

/// How a topic behaves. What is not given stays as it is, or is as by default.
#[derive(Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Behaviour {
    /// Leases after which a message that nobody finished is given up: 10 by default.
    attempts: Option<u32>,
    /// How long a message waits after its first failed attempt: 1000 by default; twice as long after each
    /// further one, and somewhat less at random.
    backoff_ms: Option<u64>,
    /// The longest that it waits: 600000 by default.
    backoff_max_ms: Option<u64>,
    /// How long a message waits for a group before that group gives it up: seven days by default.
    retention_s: Option<u64>,
    /// How long what every group has come to is kept, to be replayed: a day by default.
    replay_s: Option<u64>,
    /// How long a `dedup_id` stands for its message: a day by default.
    dedup_s: Option<u64>,
    /// Messages kept at the most: 1000000 by default.
    messages_max: Option<u64>,
    /// Bytes of bodies kept at the most: 1 GiB by default.
    bytes_max: Option<u64>,
    /// Whether a full topic drops its oldest messages rather than refuse new ones.
    drop_oldest: Option<bool>,
    /// Messages that one group may have leased at once.
    concurrency: Option<u32>,
    /// The same of one key: 1 by default, which keeps the order of each key.
    key_concurrency: Option<u32>,
    /// Leases of one group in a time; null for no bound.
    #[schema(value_type = Option<PerTime>)]
    rate: Option<PerTime>,
    /// The same of one key.
    #[schema(value_type = Option<PerTime>)]
    key_rate: Option<PerTime>,
}

/// So many in so long.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PerTime {
    count: u32,
    per_ms: u64,
}

impl Behaviour {
    fn of(settings: &Settings) -> Self {
        let per_time = |rate: Rate| PerTime { count: rate.count, per_ms: rate.per_ms };
        Self {
            attempts: Some(settings.attempts),
            backoff_ms: Some(settings.backoff_ms),
            backoff_max_ms: Some(settings.backoff_max_ms),
            retention_s: Some(settings.retention_ms / 1_000),
            replay_s: Some(settings.replay_ms / 1_000),
            dedup_s: Some(settings.dedup_ms / 1_000),
            messages_max: Some(settings.messages_max),
            bytes_max: Some(settings.bytes_max),
            drop_oldest: Some(settings.drop_oldest),
            concurrency: Some(settings.concurrency),
            key_concurrency: Some(settings.key_concurrency),
            rate: settings.rate.map(per_time),
            key_rate: settings.key_rate.map(per_time),
        }
    }

    fn over(self, known: &Settings) -> Settings {
        let rate = |rate: PerTime| Rate { count: rate.count, per_ms: rate.per_ms };
        let ms = |seconds: u64| seconds.saturating_mul(1_000);
        Settings {
            attempts: self.attempts.unwrap_or(known.attempts),
            backoff_ms: self.backoff_ms.unwrap_or(known.backoff_ms),
            backoff_max_ms: self.backoff_max_ms.unwrap_or(known.backoff_max_ms),
            retention_ms: self.retention_s.map_or(known.retention_ms, ms),
            replay_ms: self.replay_s.map_or(known.replay_ms, ms),
            dedup_ms: self.dedup_s.map_or(known.dedup_ms, ms),
            messages_max: self.messages_max.unwrap_or(known.messages_max),
            bytes_max: self.bytes_max.unwrap_or(known.bytes_max),
            drop_oldest: self.drop_oldest.unwrap_or(known.drop_oldest),
            concurrency: self.concurrency.unwrap_or(known.concurrency),
            key_concurrency: self.key_concurrency.unwrap_or(known.key_concurrency),
            rate: self.rate.map(rate),
            key_rate: self.key_rate.map(rate),
        }
    }
}

/// Topics by name.
#[utoipa::path(get, path = "/v1/topics", operation_id = "list_topics", tag = "queue",
    params(Paging), responses((status = 200, body = Page<Topic>)))]
pub(super) async fn list(
    State(admin): State<Admin>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<Topic>>, Problem> {
    let replica = admin.read();
    let topics = &replica.state().data().queue.topics;
    let after = paging.cursor.as_deref();
    let mut left = topics.keys().filter(|name| after.is_none_or(|after| name.as_str() > after));
    let names: Vec<_> = left.by_ref().take(paging.limit()).collect();
    let next = names.last().filter(|_| left.next().is_some()).map(ToString::to_string);
    let items = names.iter().filter_map(|name| admin.shown(&replica, name)).collect();
    Ok(Json(Page { items, next }))
}

/// One topic.
#[utoipa::path(get, path = "/v1/topics/{topic}", operation_id = "get_topic", tag = "queue",
    params(("topic" = String, Path)),
    responses((status = 200, body = Topic), (status = 404, body = Problem)))]
pub(super) async fn get(
    State(admin): State<Admin>,
    Path(topic): Path<String>,
) -> Result<Json<Topic>, Problem> {
    let replica = admin.read();
    admin.shown(&replica, &topic).ok_or_else(|| unknown(&topic)).map(Json)
}

impl Admin {
    fn shown(&self, replica: &crate::replica::Replica, name: &str) -> Option<Topic> {
        let state = replica.state();
        let topic = state.data().queue.topic(name)?;
        let now = now_ms();
        let age = |ms: Option<u64>| {
            ms.map(|time| std::time::Duration::from_millis(now.saturating_sub(time)).as_secs_f64())
        };
        let mut groups = BTreeMap::new();
        let mut depth = Depth { delayed: count(topic.delayed.len()), ..Depth::default() };
        let mut oldest = None;
        for (group, known) in &topic.groups {
            let [ready, leased, retried, parked] = state.queue().held(topic, known);
            let of_group = Depth {
                ready: count(topic.ahead(known) + ready + parked),
                delayed: count(retried),
                leased: count(leased),
                dead: count(known.dead.len()),
            };
            depth.add(of_group);
            let waits = oldest_of(topic, known);
            oldest = [oldest, waits].into_iter().flatten().min();
            let finished = known.finished;
            let shown = Group { depth: of_group, finished, oldest_age_s: age(waits) };
            groups.insert(group.to_string(), shown);
        }
        if topic.groups.is_empty() {
            depth.ready = topic.depth() - depth.delayed;
            let first = [&topic.urgent, &topic.normal].map(|lane| lane.messages.iter().next());
            oldest = first.into_iter().flatten().map(|(_, message)| message.time).min();
        }
        let schedules = topic.schedules.iter().map(|(name, schedule)| {
            let (cron, next) = (schedule.cron.clone(), rfc3339(schedule.next));
            (name.clone(), Schedule { cron, next })
        });
        let (published, finished) = self.topics.rates(topic);
        Some(Topic {
            name: name.into(),
            depth,
            messages: topic.depth(),
            bytes: topic.bytes,
            published: topic.urgent.published + topic.normal.published,
            dropped: topic.dropped,
            rates: Rates { published, finished },
            oldest_age_s: age(oldest),
            paused: topic.paused,
            paused_keys: topic.paused_keys.len(),
            groups,
            schedules: schedules.collect(),
            settings: Behaviour::of(&topic.settings),
        })
    }
}

impl Depth {
    const fn add(&mut self, other: Self) {
        self.ready += other.ready;
        self.delayed += other.delayed;
        self.leased += other.leased;
        self.dead += other.dead;
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// When the oldest message was published that a group has not finished.
fn oldest_of(topic: &queue::Topic, group: &queue::Group) -> Option<u64> {
    use state::origin::Lane::{Normal, Urgent};
    let waiting = [Urgent, Normal].into_iter().flat_map(|lane| {
        let first = MessageId::new(lane, 0);
        let beyond = MessageId::new(lane, group.at(lane) + 1);
        let held = group.held.from(first.0).next().map(|(id, _)| MessageId(id));
        let held = held.filter(|id| id.lane() == lane).and_then(|id| topic.message(id));
        let ahead = topic.lane(lane).messages.from(beyond.0).next().map(|(_, message)| message);
        [held, ahead]
    });
    waiting.flatten().map(|message| message.time).min()
}

/// Makes a topic, or changes how it behaves.
#[utoipa::path(put, path = "/v1/topics/{topic}", operation_id = "put_topic", tag = "queue",
    params(("topic" = String, Path)), request_body = Behaviour,
    responses((status = 200, body = Topic), (status = 422, body = Problem)))]
pub(super) async fn put(
    State(admin): State<Admin>,
    Path(topic): Path<String>,
    Json(behaviour): Json<Behaviour>,
) -> Result<Json<Topic>, Problem> {
    let known = admin.read().state().data().queue.topic(&topic).map(|t| t.settings.clone());
    let settings = behaviour.over(&known.unwrap_or_default());
    admin.ask_topic(&topic, None, What::Put(settings)).await?;
    get(State(admin), Path(topic)).await
}

/// How many something concerned.
#[derive(Serialize, ToSchema)]
pub(super) struct Concerned {
    pub(super) messages: u64,
}

/// Deletes a topic with all that is in it.
#[utoipa::path(delete, path = "/v1/topics/{topic}", operation_id = "delete_topic", tag = "queue",
    params(("topic" = String, Path)),
    responses((status = 200, body = Concerned), (status = 404, body = Problem)))]
pub(super) async fn delete(
    State(admin): State<Admin>,
    Path(topic): Path<String>,
) -> Result<Json<Concerned>, Problem> {
    admin.count(&topic, What::Delete).await.map(|messages| Json(Concerned { messages }))
}

impl Admin {
    /// Asks for something whose answer is a number.
    pub(super) async fn count(&self, topic: &str, what: What) -> Result<u64, Problem> {
        self.count_once(topic, None, what).await
    }

    /// The same under an `Idempotency-Key`.
    pub(super) async fn count_once(
        &self,
        topic: &str,
        idempotency: Option<(Key, Key)>,
        what: What,
    ) -> Result<u64, Problem> {
        match self.ask_topic(topic, idempotency, what).await? {
            (_, Answer::Count(count)) => Ok(count),
            (_, other) => Err(unexpected(&other)),
        }
    }
}

/// What is to be paused or resumed.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Which {
    /// Only messages of this key; the whole topic if not given.
    key: Option<String>,
}

/// Leases nothing of a topic, or of a key, until it is resumed. What is leased stays so; publishing goes on.
#[utoipa::path(post, path = "/v1/topics/{topic}/pause", operation_id = "pause_topic",
    tag = "queue", params(("topic" = String, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Yours, up to 256 characters")),
    request_body = Which,
    responses((status = 200, body = Topic), (status = 404, body = Problem)))]
pub(super) async fn pause(
    State(admin): State<Admin>,
    Path(topic): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Topic>, Problem> {
    let key = which(&body)?;
    let idempotency = ask::idempotency(&headers, &body.0)?;
    admin.count_once(&topic, idempotency, What::Pause(key)).await?;
    get(State(admin), Path(topic)).await
}

/// Undoes a pause.
#[utoipa::path(post, path = "/v1/topics/{topic}/resume", operation_id = "resume_topic",
    tag = "queue", params(("topic" = String, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Yours, up to 256 characters")),
    request_body = Which,
    responses((status = 200, body = Topic), (status = 404, body = Problem)))]
pub(super) async fn resume(
    State(admin): State<Admin>,
    Path(topic): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Topic>, Problem> {
    let key = which(&body)?;
    let idempotency = ask::idempotency(&headers, &body.0)?;
    admin.count_once(&topic, idempotency, What::Resume(key)).await?;
    get(State(admin), Path(topic)).await
}

/// A body may be left out.
fn which(body: &Body) -> Result<Option<u64>, Problem> {
    let Which { key } = if body.0.is_empty() { Which::default() } else { body.json()? };
    Ok(key.as_deref().map(key_hash))
}

/// Where a group begins.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Start {
    /// earliest, latest, a time, or a log index.
    from: serde_json::Value,
}

/// Makes a group that begins there, or lets one go on from there: what lies after it comes again, finished or
/// not.
#[utoipa::path(put, path = "/v1/topics/{topic}/groups/{group}", operation_id = "put_group",
    tag = "queue", params(("topic" = String, Path), ("group" = String, Path)),
    request_body = Start,
    responses((status = 200, body = Topic), (status = 404, body = Problem),
        (status = 422, body = Problem)))]
pub(super) async fn begin(
    State(admin): State<Admin>,
    Path((topic, group)): Path<(String, String)>,
    Json(Start { from }): Json<Start>,
) -> Result<Json<Topic>, Problem> {
    let wrong = || {
        let what = "from: earliest, latest, an RFC 3339 time, or a log index";
        Problem::unprocessable("invalid", what)
    };
    let from = match (from.as_str(), from.as_u64()) {
        (Some("earliest"), _) => Begin::Earliest,
        (Some("latest"), _) => Begin::Latest,
        (Some(time), _) => Begin::Time(parse_rfc3339(time).map_err(|_| wrong())?),
        (None, Some(index)) => Begin::Index(index),
        (None, None) => return Err(wrong()),
    };
    admin.count(&topic, What::Begin { group, from }).await?;
    get(State(admin), Path(topic)).await
}

/// Deletes a group. What others have not finished stays.
#[utoipa::path(delete, path = "/v1/topics/{topic}/groups/{group}", operation_id = "delete_group",
    tag = "queue", params(("topic" = String, Path), ("group" = String, Path)),
    responses((status = 200, body = Topic), (status = 404, body = Problem)))]
pub(super) async fn disband(
    State(admin): State<Admin>,
    Path((topic, group)): Path<(String, String)>,
) -> Result<Json<Topic>, Problem> {
    admin.count(&topic, What::Disband(group)).await?;
    get(State(admin), Path(topic)).await
}
