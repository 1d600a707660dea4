//! Messages that wait, and those that were given up: listed, searched, tried again, deleted.

use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use state::Key;
use state::limits::REQUEST_MESSAGES_MAX;
use state::queue::ask::What;
use state::queue::{self, MessageId};
use utoipa::{IntoParams, ToSchema};

use super::bodies::{self, Filter};
use super::deliveries;
use super::extract::{Body, Json, Path, Query};
use super::messages::{GROUP, unknown};
use super::topics::Concerned;
use super::view::{Page, Paging};
use super::{Admin, Problem, ask};
use crate::clock::{now_ms, rfc3339};
use crate::history::History;
use crate::topics::{message_id, parse_message_id};

/// Messages that one request looks through.
const LOOKS_MAX: usize = 10_000;

/// Bytes of bodies after which a page ends.
pub(super) const PAGE_BYTES_MAX: usize = 8 << 20;

/// A message that is kept.
#[derive(Serialize, ToSchema)]
pub(super) struct Waiting {
    id: String,
    key: Option<String>,
    body: Value,
    enqueued_at: String,
}

/// Messages that are kept, urgent ones first, in their order: those too that every group has finished with.
/// Nothing is leased by looking. A page may be short, or empty, though more follows: one request looks
/// through so many messages at the most.
#[utoipa::path(get, path = "/v1/topics/{topic}/messages", operation_id = "list_messages",
    tag = "queue", params(("topic" = String, Path), Paging, Filter),
    responses((status = 200, body = Page<Waiting>), (status = 404, body = Problem)))]
pub(super) async fn messages(
    State(admin): State<Admin>,
    Path(topic): Path<String>,
    Query(paging): Query<Paging>,
    Query(filter): Query<Filter>,
) -> Result<Json<Page<Waiting>>, Problem> {
    let after = after(&paging)?;
    let page = admin.look(move |frozen, history| {
        let known = frozen.data.queue.topic(&topic).ok_or_else(|| unknown(&topic))?;
        let lanes = [&known.urgent, &known.normal];
        let ids = lanes.into_iter().flat_map(|lane| lane.messages.from(after));
        let ids = ids.map(|(id, message)| (MessageId(id), *message));
        let mut bodies = history.bodies();
        search(ids, paging.limit(), |id, message| {
            let (key, body) = bodies::read(&mut bodies, &message)?.unwrap_or_default();
            let taken = filter.takes(key.as_deref(), &body);
            let enqueued_at = rfc3339(message.time);
            let waiting = || Waiting { id: message_id(id), key, body, enqueued_at };
            Ok(taken.then(|| (waiting(), message.bytes)))
        })
    });
    page.await.map(Json)
}

/// The number after which a page begins.
fn after(paging: &Paging) -> Result<u64, Problem> {
    let Some(cursor) = &paging.cursor else { return Ok(0) };
    let id = parse_message_id(cursor);
    let id = id.ok_or_else(|| Problem::bad_request("cursor: send `next` of the page before"))?;
    Ok(id.0.saturating_add(1))
}

/// The first messages that `take` takes, as many as are wanted, or fewer where their bodies are large: it says how many
/// bytes it keeps of each. The cursor goes on after the last one that was looked at.
fn search<M, T>(
    messages: impl Iterator<Item = (MessageId, M)>,
    limit: usize,
    mut take: impl FnMut(MessageId, M) -> Result<Option<(T, u32)>, Problem>,
) -> Result<Page<T>, Problem> {
    let mut items = Vec::new();
    let (mut last, mut kept) = (None, 0_usize);
    let mut messages = messages.peekable();
    for (id, message) in messages.by_ref().take(LOOKS_MAX) {
        if let Some((item, bytes)) = take(id, message)? {
            items.push(item);
            kept += usize::try_from(bytes).unwrap_or(PAGE_BYTES_MAX);
        }
        last = Some(id);
        if items.len() == limit || kept >= PAGE_BYTES_MAX {
            break;
        }
    }
    let next = last.filter(|_| messages.peek().is_some()).map(message_id);
    Ok(Page { items, next })
}

/// Which of what was given up.
#[derive(Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(super) struct Which {
    /// The group that gave it up; `default` if not given.
    group: Option<String>,
    /// Text somewhere in the reason.
    reason: Option<String>,
    /// Given up at least so many seconds ago.
    older_than_s: Option<u64>,
}

impl Which {
    /// Whether it takes what was given up for this reason at this time.
    pub(super) fn takes(&self, reason: &str, time: u64) -> bool {
        let latest = self.older_than_s.map(|s| now_ms().saturating_sub(s.saturating_mul(1_000)));
        self.reason.as_ref().is_none_or(|wanted| reason.contains(wanted))
            && latest.is_none_or(|latest| time <= latest)
    }
}

/// A message that was given up.
#[derive(Serialize, ToSchema)]
pub(super) struct Dead {
    id: String,
    reason: String,
    attempts: u32,
    /// When it was given up.
    time: String,
    enqueued_at: String,
    key: Option<String>,
    body: Value,
}

/// What was given up, with the body as it was published. The topic `deliveries` is that of webhooks that
/// could not be applied: its items say what is known of those, and it can be searched by `reason`, `older_than_s`,
/// `channel` and `delivery`; what else is asked for none of them has. A page may be short, or empty, though more
/// follows.
#[utoipa::path(get, path = "/v1/topics/{topic}/dead", operation_id = "list_dead",
    tag = "queue", params(("topic" = String, Path), Paging, Which, Filter),
    responses((status = 200, body = Page<Dead>), (status = 404, body = Problem)))]
pub(super) async fn dead(
    State(admin): State<Admin>,
    Path(topic): Path<String>,
    Query(paging): Query<Paging>,
    Query(which): Query<Which>,
    Query(filter): Query<Filter>,
) -> Result<axum::response::Response, Problem> {
    use axum::response::IntoResponse as _;
    if topic == deliveries::TOPIC {
        return Ok(deliveries::dead(&admin, paging, which, filter).await?.into_response());
    }
    let after = after(&paging)?;
    let page = admin.look(move |frozen, history| {
        let known = frozen.data.queue.topic(&topic).ok_or_else(|| unknown(&topic))?;
        found(history, known, (&which, &filter), (after, paging.limit()), |found| {
            let Found { id, dead, message, key, body } = found;
            let item = Dead {
                id: message_id(id),
                reason: dead.reason.to_string(),
                attempts: dead.attempts,
                time: rfc3339(dead.time),
                enqueued_at: rfc3339(message.time),
                key,
                body,
            };
            (item, message.bytes)
        })
    });
    Ok(page.await.map(Json)?.into_response())
}

/// One of what was given up, as it is read.
struct Found<'a> {
    id: MessageId,
    dead: &'a queue::Dead,
    message: &'a queue::Message,
    key: Option<String>,
    body: Value,
}

fn found<T>(
    history: &History,
    topic: &queue::Topic,
    (which, filter): (&Which, &Filter),
    (after, limit): (u64, usize),
    made: impl Fn(Found<'_>) -> (T, u32),
) -> Result<Page<T>, Problem> {
    let group = topic.groups.get(which.group.as_deref().unwrap_or(GROUP));
    // Nobody may have worked without naming a group yet.
    let named = which.group.as_deref().filter(|name| *name != GROUP);
    if let Some(name) = named.filter(|_| group.is_none()) {
        return Err(Problem::missing(format!("there is no group {name:?}")));
    }
    let dead = group.into_iter().flat_map(|group| group.dead.from(after));
    let dead = dead.map(|(id, dead)| (MessageId(id), dead));
    let mut bodies = history.bodies();
    search(dead, limit, |id, dead| {
        let message = topic.message(id).filter(|_| which.takes(&dead.reason, dead.time));
        let Some(message) = message else { return Ok(None) };
        let (key, body) = bodies::read(&mut bodies, message)?.unwrap_or_default();
        let taken = filter.takes(key.as_deref(), &body);
        Ok(taken.then(|| made(Found { id, dead, message, key, body })))
    })
}

/// What is to be tried again: these ids, or all that the rest of it takes. Nothing at all means everything.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
pub(super) struct Redrive {
    pub(super) ids: Option<Vec<String>>,
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub(super) which: Which,
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub(super) filter: Filter,
}

/// The members of [`Redrive`].
const REDRIVE: [&str; 10] = [
    "ids",
    "group",
    "reason",
    "older_than_s",
    "text",
    "order",
    "sku",
    "channel",
    "delivery",
    "key",
];

/// Tries again what was given up, with its attempts counted anew. Of the topic `deliveries`, what was
/// understood is applied again.
#[utoipa::path(post, path = "/v1/topics/{topic}/dead/redrive", operation_id = "redrive",
    tag = "queue", params(("topic" = String, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Yours, up to 256 characters")),
    request_body = Redrive,
    responses((status = 200, body = Concerned), (status = 404, body = Problem)))]
pub(super) async fn redrive(
    State(admin): State<Admin>,
    Path(topic): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Concerned>, Problem> {
    let idempotency = ask::idempotency(&headers, &body.0)?;
    let asked: Redrive =
        if body.0.is_empty() { Redrive::default() } else { body.json_of(&REDRIVE)? };
    if topic == deliveries::TOPIC {
        let messages = deliveries::redrive(&admin, &asked, idempotency).await?;
        return Ok(Json(Concerned { messages }));
    }
    let group = asked.which.group.clone().unwrap_or_else(|| GROUP.into());
    if let Some(ids) = &asked.ids {
        let wrong = || Problem::unprocessable("invalid", "ids: ids of what was given up");
        let ids: Option<Vec<_>> = ids.iter().map(|id| parse_message_id(id)).collect();
        let messages = ids.filter(|ids| ids.len() <= REQUEST_MESSAGES_MAX).ok_or_else(wrong)?;
        let what = What::Redrive { group, messages };
        let messages = admin.count_once(&topic, idempotency, what).await?;
        return Ok(Json(Concerned { messages }));
    }
    let messages = admin.redrive(&topic, &group, &asked, idempotency).await?;
    Ok(Json(Concerned { messages }))
}

impl Admin {
    /// Tries again, page by page, what a filter takes.
    async fn redrive(
        &self,
        topic: &str,
        group: &str,
        asked: &Redrive,
        idempotency: Option<(Key, Key)>,
    ) -> Result<u64, Problem> {
        let mut pieces = self.pieces(topic, idempotency).await?;
        let mut after = (!pieces.ended).then_some(0);
        while let Some(from) = after {
            let page = self.dead(topic, asked, from).await?;
            let next = page.next.and_then(|next| parse_message_id(&next));
            after = next.map(|next| next.0.saturating_add(1));
            let messages = page.items;
            if !messages.is_empty() {
                let what = What::Redrive { group: group.into(), messages };
                pieces.count += self.count_once(topic, pieces.take(), what).await?;
            }
        }
        self.end(pieces).await
    }

    /// What was given up and is asked for, from a number on.
    async fn dead(
        &self,
        topic: &str,
        asked: &Redrive,
        from: u64,
    ) -> Result<Page<MessageId>, Problem> {
        let (topic, which, filter) = (topic.to_string(), asked.which.clone(), asked.filter.clone());
        self.look(move |frozen, history| {
            let known = frozen.data.queue.topic(&topic).ok_or_else(|| unknown(&topic))?;
            let page = (from, REQUEST_MESSAGES_MAX);
            found(history, known, (&which, &filter), page, |found| (found.id, 0))
        })
        .await
    }
}

/// Forgets a message that was given up. It is not tried again.
#[utoipa::path(delete, path = "/v1/topics/{topic}/dead/{id}", operation_id = "delete_dead",
    tag = "queue", params(("topic" = String, Path), ("id" = String, Path), Which),
    responses((status = 200, body = Concerned), (status = 404, body = Problem)))]
pub(super) async fn forget(
    State(admin): State<Admin>,
    Path((topic, id)): Path<(String, String)>,
    Query(which): Query<Which>,
) -> Result<Json<Concerned>, Problem> {
    let missing = || Problem::missing(format!("no message {id:?} was given up"));
    let forgotten = if topic == deliveries::TOPIC {
        deliveries::forget(&admin, &id).await?
    } else {
        let message = parse_message_id(&id).ok_or_else(missing)?;
        let group = which.group.unwrap_or_else(|| GROUP.into());
        admin.count(&topic, What::Forget { group, messages: vec![message] }).await?
    };
    match forgotten {
        0 => Err(missing()),
        messages => Ok(Json(Concerned { messages })),
    }
}

/// Deletes a message, for all groups. A worker that has it finds its lease gone.
#[utoipa::path(delete, path = "/v1/topics/{topic}/messages/{id}", operation_id = "delete_message",
    tag = "queue", params(("topic" = String, Path), ("id" = String, Path)),
    responses((status = 200, body = Concerned), (status = 404, body = Problem)))]
pub(super) async fn remove(
    State(admin): State<Admin>,
    Path((topic, id)): Path<(String, String)>,
) -> Result<Json<Concerned>, Problem> {
    let missing = || Problem::missing(format!("there is no message {id:?}"));
    let message = parse_message_id(&id).ok_or_else(missing)?;
    match admin.count(&topic, What::Remove(vec![message])).await? {
        0 => Err(missing()),
        messages => Ok(Json(Concerned { messages })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A number that has none after it would stop the node of whoever sends it.
    #[test]
    fn a_cursor_may_be_any_id() {
        let after = |cursor: &str| {
            after(&serde_json::from_value(serde_json::json!({ "cursor": cursor })).unwrap())
        };
        assert_eq!(after("u7").unwrap(), 8);
        assert_eq!(after("n9223372036854775807").unwrap(), u64::MAX);
        assert!(after("n9223372036854775808").is_err());
    }

    // A thousand bodies of a quarter of a megabyte would be in memory at once, as JSON.
    #[test]
    fn a_page_ends_where_its_bodies_are_large() {
        let messages = || (1..=100).map(|n| (MessageId(n), ()));
        let page = |bytes| search(messages(), 50, |id, ()| Ok(Some((id, bytes)))).unwrap();
        assert_eq!((page(10).items.len(), page(10).next), (50, Some("u50".into())));
        let large = page(1 << 20);
        assert_eq!((large.items.len(), large.next), (8, Some("u8".into())));
    }
}
