//! Messages that are published again and again.

use axum::extract::State;
use serde::Deserialize;
use state::queue::ask::What;
use utoipa::ToSchema;

use super::extract::{Body, Json, Path};
use super::messages::Message;
use super::topics::{self, Topic};
use super::{Admin, Problem};
use crate::clock::now_ms;
use crate::cron;

/// What is published, and when.
#[derive(Deserialize, ToSchema)]
pub(super) struct Schedule {
    /// Minute, hour, day of month, month, day of week, and a time zone if it is not UTC:
    /// `0 6 * * MON-FRI Europe/Berlin`.
    cron: String,
    #[serde(flatten)]
    #[schema(value_type = Object)]
    message: Message,
}

/// The members of [`Schedule`].
const SCHEDULE: [&str; 7] = ["cron", "body", "key", "priority", "delay_s", "at", "dedup_id"];

/// Publishes a message again and again, or changes what and when. A `dedup_id` would stop it after the first.
#[utoipa::path(put, path = "/v1/topics/{topic}/schedules/{name}", operation_id = "put_schedule",
    tag = "queue", params(("topic" = String, Path), ("name" = String, Path)),
    request_body = Schedule,
    responses((status = 200, body = Topic), (status = 404, body = Problem),
        (status = 422, body = Problem)))]
pub(super) async fn put(
    State(admin): State<Admin>,
    Path((topic, name)): Path<(String, String)>,
    body: Body,
) -> Result<Json<Topic>, Problem> {
    let Schedule { cron, message } = body.json_of(&SCHEDULE)?;
    let invalid = |why: String| Problem::unprocessable("invalid", why);
    let now = now_ms();
    let next = cron::next(&cron, now).map_err(|why| invalid(format!("cron: {why}")))?;
    let message = message.check(&topic, now).map_err(invalid)?;
    if message.dedup.is_some() {
        return Err(invalid("dedup_id: every time would be the first".into()));
    }
    admin.count(&topic, What::Schedule { name, cron, next, message }).await?;
    topics::get(State(admin), Path(topic)).await
}

/// Publishes no more of it.
#[utoipa::path(delete, path = "/v1/topics/{topic}/schedules/{name}",
    operation_id = "delete_schedule", tag = "queue",
    params(("topic" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = Topic), (status = 404, body = Problem)))]
pub(super) async fn delete(
    State(admin): State<Admin>,
    Path((topic, name)): Path<(String, String)>,
) -> Result<Json<Topic>, Problem> {
    admin.count(&topic, What::Unschedule(name)).await?;
    topics::get(State(admin), Path(topic)).await
}
