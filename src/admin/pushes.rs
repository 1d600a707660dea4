//! `/v1/channels/{channel}/…`: what an operator does about pushes.

use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use state::command::Change;
use state::limits::NAME_LEN_MAX;
use state::{Id, Millis};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::channels::{self, Channel};
use super::extract::{Body, Json, Path, Query};
use super::view::{Page, Paging};
use super::{Admin, Problem};
use crate::clock::rfc3339;

/// Why a channel is paused.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Pause {
    /// In the operator's words; shown with the channel.
    why: Option<String>,
}

/// Of what a push is asked for.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Push {
    /// This SKU, at once; without it all that is listed there, as the channel's rate allows.
    sku: Option<String>,
}

/// A listing for which its channel takes no push.
#[derive(Serialize, ToSchema)]
pub(super) struct Failure {
    sku: String,
    /// The channel's own id of it.
    listing: String,
    reason: String,
    /// What to do about it.
    cure: String,
    since: String,
}

/// What is asked of channels.
pub(super) fn questions() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .routes(routes!(channels::list))
        .routes(routes!(channels::get))
        .routes(routes!(failures))
}

/// What changes something of them.
pub(super) fn operations() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .routes(routes!(channels::put))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(push))
}

fn known(admin: &Admin, name: &str) -> Result<(), Problem> {
    if admin.read().state().data().channels.contains_key(name) {
        return Ok(());
    }
    Err(Problem::missing(format!("there is no channel {name:?}")))
}

/// A body that may be left out.
fn asked<T: Default + serde::de::DeserializeOwned>(body: &Body) -> Result<T, Problem> {
    if body.0.is_empty() { Ok(T::default()) } else { body.json() }
}

fn shown(admin: &Admin, name: &str) -> Result<Json<Channel>, Problem> {
    let channel = channels::view(admin, &admin.read(), name);
    channel.map(Json).ok_or_else(|| Problem::missing(format!("there is no channel {name:?}")))
}

/// Stops pushing to a channel until it is resumed. What is on its way is finished.
#[utoipa::path(post, path = "/v1/channels/{channel}/pause", operation_id = "pause_channel",
    tag = "channels", params(("channel" = String, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Yours, up to 256 characters")),
    request_body = Option<Pause>,
    responses((status = 200, body = Channel), (status = 404, body = Problem)))]
pub(super) async fn pause(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Channel>, Problem> {
    known(&admin, &name)?;
    let Pause { why } = asked(&body)?;
    let why = why.unwrap_or_else(|| "an operator paused it".into());
    let change = Change::Pause { channel: name.clone(), why };
    admin.change_once(&headers, &[b"pause", name.as_bytes(), &body.0], change).await?;
    shown(&admin, &name)
}

/// Goes on pushing to a channel, whoever paused it.
#[utoipa::path(post, path = "/v1/channels/{channel}/resume", operation_id = "resume_channel",
    tag = "channels", params(("channel" = String, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Yours, up to 256 characters")),
    responses((status = 200, body = Channel), (status = 404, body = Problem)))]
pub(super) async fn resume(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Channel>, Problem> {
    known(&admin, &name)?;
    let change = Change::Resume(name.clone());
    admin.change_once(&headers, &[b"resume", name.as_bytes()], change).await?;
    shown(&admin, &name)
}

/// Reads what the channel shows, and pushes where that is not what it should: also to listings for which it
/// took no push.
#[utoipa::path(post, path = "/v1/channels/{channel}/push", operation_id = "push_channel",
    tag = "channels", params(("channel" = String, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Yours, up to 256 characters")),
    request_body = Option<Push>,
    responses((status = 200, body = Channel), (status = 404, body = Problem)))]
pub(super) async fn push(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Channel>, Problem> {
    known(&admin, &name)?;
    let Push { sku } = asked(&body)?;
    if sku.as_ref().is_some_and(|sku| sku.len() > NAME_LEN_MAX) {
        let why = format!("sku: at most {NAME_LEN_MAX} bytes");
        return Err(Problem::unprocessable("too_long", why));
    }
    if let Some(sku) = &sku {
        let replica = admin.read();
        let stock = replica.state().data().stock.get(sku.as_str());
        if !stock.is_some_and(|stock| stock.listings.contains_key(name.as_str())) {
            return Err(Problem::missing(format!("{sku:?} has no listing on {name:?}")));
        }
    }
    let change = Change::Push { channel: name.clone(), sku };
    admin.change_once(&headers, &[b"push", name.as_bytes(), &body.0], change).await?;
    shown(&admin, &name)
}

/// Listings for which a channel takes no push, by the time since when. One is tried again when its mapping is
/// set, or when a push is asked for.
#[utoipa::path(get, path = "/v1/channels/{channel}/failures", operation_id = "list_failures",
    tag = "channels", params(("channel" = String, Path), Paging),
    responses((status = 200, body = Page<Failure>), (status = 404, body = Problem)))]
pub(super) async fn failures(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<Failure>>, Problem> {
    known(&admin, &name)?;
    let after: Option<(Millis, Id)> =
        match paging.cursor.as_deref() {
            None => None,
            Some(cursor) => {
                let place = cursor
                    .split_once('.')
                    .and_then(|(time, sku)| Some((time.parse().ok()?, sku.into())));
                Some(place.ok_or_else(|| {
                    Problem::bad_request("cursor: send `next` of the page before")
                })?)
            }
        };
    let limit = paging.limit();
    let replica = admin.read();
    let state = replica.state();
    let listed = state.failures().of(&name);
    let listed = listed.filter(|(time, sku)| {
        after.as_ref().is_none_or(|after| (*time, *sku) > (after.0, after.1.as_str()))
    });
    let mut places: Vec<(Millis, &str)> = listed.take(limit + 1).collect();
    let more = places.len() > limit;
    places.truncate(limit);
    let next = places.last().filter(|_| more).map(|(time, sku)| format!("{time}.{sku}"));
    let items = places.into_iter().filter_map(|(time, sku)| {
        let stock = state.data().stock.get(sku)?;
        let listing = stock.listings.get(name.as_str())?.get();
        let reason = listing.fault?;
        let cure = if listing.leaves {
            format!(
                "it was taken out and cannot be lowered: end the listing there, then repeat PUT /v1/skus/{sku} \
                 without it and with abandon=true"
            )
        } else {
            format!(
                "mend the listing there, or its mapping (PUT /v1/skus/{sku}); then `stockraft channel push \
                 {name} {sku}`"
            )
        };
        let (sku, since) = (sku.to_string(), rfc3339(time));
        Some(Failure { sku, listing: listing.spec.id, reason, cure, since })
    });
    let items = items.collect();
    Ok(Json(Page { items, next }))
}
