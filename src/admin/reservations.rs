//! `/v1/reservations`: units held for somebody.
//!
//! Where a SKU has escrow, they are asked of this node's quotas first, and of the cluster only if those cannot
//! say.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use state::command::{Asked, Confirm, Hold, HoldLine};
use state::limits::NAME_LEN_MAX;
use state::reply::{Answered, Lacking};
use state::reservation;
use utoipa::ToSchema;

use super::extract::{Body, Json, Path, Query};
use super::view::{self, Page, Paging};
use super::{Admin, Problem, ask};
use crate::clock::rfc3339;
use crate::escrow::{Change, Said};
use crate::inbox::Busy;

/// How long a leader may take to show that it can be reached.
const REACH: Duration = Duration::from_secs(2);

/// What to hold, all or none: `lines`, or one line's `sku` and `quantity`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    #[serde(default)]
    lines: Vec<Line>,
    /// Of a single line.
    sku: Option<String>,
    /// Of a single line.
    quantity: Option<i64>,
    /// Of a single line.
    location: Option<String>,
    /// The channel for which: without a location, its own is drawn from.
    channel: Option<String>,
    /// Seconds after which it is let go by itself: between 1 and 2592000, which is 30 days.
    ttl_s: u64,
    /// What it belongs to: a cart, an order of yours.
    reference: Option<String>,
}

/// Units of one SKU.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    sku: String,
    quantity: i64,
    /// Without one, the first that has enough: by the configured order, then by name. A line is never
    /// split over locations.
    location: Option<String>,
}

/// What to sell of it; without `lines` all that is held.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    lines: Option<Vec<Units>>,
    /// What the sale belongs to.
    reference: Option<String>,
}

/// Units of one SKU.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Units {
    sku: String,
    quantity: i64,
}

/// How long to hold it from now.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct More {
    /// Seconds: between 1 and 2592000, which is 30 days.
    ttl_s: u64,
}

/// A reservation.
#[derive(Serialize, ToSchema)]
pub(super) struct Reservation {
    id: String,
    /// held, confirmed, released or expired.
    status: &'static str,
    lines: Vec<Held>,
    channel: Option<String>,
    reference: Option<String>,
    created_at: String,
    /// When what is still held is let go.
    expires_at: String,
    /// When nothing was held any more; null until then.
    ended_at: Option<String>,
}

/// One line of it.
#[derive(Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the API says held")]
pub(super) struct Held {
    sku: String,
    location: String,
    /// Units still held.
    held: i64,
    /// Units sold.
    confirmed: i64,
}

impl Reservation {
    fn new(id: String, known: &reservation::Reservation) -> Self {
        let lines = known.lines.iter().map(|line| Held {
            sku: line.sku.clone(),
            location: line.location.clone(),
            held: line.held,
            confirmed: line.confirmed,
        });
        Self {
            id,
            status: known.status.name(),
            lines: lines.collect(),
            channel: known.channel.clone(),
            reference: known.reference.clone(),
            created_at: rfc3339(known.created),
            expires_at: rfc3339(known.expires),
            ended_at: known.ended.map(rfc3339),
        }
    }
}

impl Request {
    fn check(self) -> Result<Hold, Problem> {
        let wrong = |why: &str| Problem::unprocessable("invalid", why);
        let mut lines: Vec<HoldLine> = self
            .lines
            .into_iter()
            .map(|Line { sku, quantity, location }| HoldLine { sku, quantity, location })
            .collect();
        match (self.sku, self.quantity) {
            (Some(sku), Some(quantity)) if lines.is_empty() => {
                lines.push(HoldLine { sku, quantity, location: self.location });
            }
            (None, None) if self.location.is_none() => {}
            _ => return Err(wrong("send either lines, or sku and quantity")),
        }
        let texts = lines.iter().flat_map(|line| [Some(&line.sku), line.location.as_ref()]);
        let texts = texts.chain([self.channel.as_ref(), self.reference.as_ref()]).flatten();
        check_lengths(texts)?;
        let ttl_ms = self.ttl_s.saturating_mul(1000);
        let id = super::random_id()?;
        Ok(Hold { id, lines, channel: self.channel, ttl_ms, reference: self.reference })
    }
}

fn check_lengths<'a>(mut texts: impl Iterator<Item = &'a String>) -> Result<(), Problem> {
    if texts.any(|text| text.is_empty() || text.len() > NAME_LEN_MAX) {
        let why = format!("a SKU, location, channel or reference has 1 to {NAME_LEN_MAX} bytes");
        return Err(Problem::unprocessable("invalid", why));
    }
    Ok(())
}

/// Asks the cluster, and gives back the reservation as it is then.
async fn agree(
    admin: &Admin,
    headers: &HeaderMap,
    said: &[u8],
    asked: Asked,
) -> Result<Json<Reservation>, Problem> {
    let answer = admin.ask(headers, said, asked).await;
    if answer.as_ref().is_err_and(Problem::is_unknown) {
        admin.escrow.sent_away(ask::idempotency(headers, said)?);
    }
    match answer?.1 {
        Answered::Reservation(id, known) => Ok(Json(Reservation::new(id, &known))),
        other => Err(Problem::internal(format!("unexpected answer {other:?}"))),
    }
}

/// Asks the cluster for what this node's quotas lack. Where nobody can be asked that is all there is.
async fn beyond(
    admin: &Admin,
    headers: &HeaderMap,
    said: &[u8],
    (hold, lacking): (Hold, Vec<Lacking>),
) -> Result<Json<Reservation>, Problem> {
    // What was sent on its way to a leader who cannot be reached may still be granted, and so could not be
    // refused: first it is asked for something that changes nothing.
    let reached = admin.raft.status().leader.is_some() && admin.raft.barrier(REACH).await.is_ok();
    if reached {
        let answer = agree(admin, headers, said, Asked::Hold(hold)).await;
        if !answer.as_ref().is_err_and(Problem::is_not_begun) {
            return answer;
        }
    }
    let each: Vec<String> = lacking.iter().map(ask::lack).collect();
    let quota = "in this region's quota, and the cluster cannot be reached";
    Err(Problem::conflict("insufficient_stock", format!("{} {quota}", each.join("; "))))
}

/// Asks this node first, where it goes on with the reservation by itself.
async fn change(
    admin: &Admin,
    headers: &HeaderMap,
    said: &[u8],
    change: Change,
) -> Result<Json<Reservation>, Problem> {
    let key = ask::idempotency(headers, said)?;
    match admin.escrow.change(&change, key).await? {
        Said::Elsewhere | Said::Beyond(_) => {
            let asked = match change {
                Change::Confirm(asked) => Asked::Confirm(asked),
                Change::Release(id) => Asked::Release(id),
                Change::Extend(id, ttl_ms) => Asked::Extend(id, ttl_ms),
            };
            agree(admin, headers, said, asked).await
        }
        other => shown(other),
    }
}

/// What this node said by itself.
fn shown(said: Said) -> Result<Json<Reservation>, Problem> {
    match said {
        Said::Reservation(id, known) => Ok(Json(Reservation::new(id, &known))),
        Said::Refused(refused) => Err(refused.into()),
        Said::KeyReused => Err(Problem::key_reused()),
        Said::Elsewhere | Said::Beyond(_) => Err(Problem::internal("nobody was asked".into())),
    }
}

impl From<Busy> for Problem {
    fn from(busy: Busy) -> Self {
        Self::unavailable(busy.to_string())
    }
}

/// Holds units until they are confirmed or released, or their time is over. Granted only if it can be
/// kept: by agreement of the cluster, or where all of it has escrow by this node's quotas alone.
#[utoipa::path(post, path = "/v1/reservations", operation_id = "create_reservation",
    tag = "reservations", request_body = Request,
    params(("Idempotency-Key" = Option<String>, Header, description = "Yours, up to 256 characters")),
    responses((status = 201, body = Reservation), (status = 400, body = Problem),
        (status = 409, description = "insufficient_stock", body = Problem),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn post(
    State(admin): State<Admin>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let hold = body.json::<Request>()?.check()?;
    let key = ask::idempotency(&headers, &body.0)?;
    let granted = match admin.escrow.hold(&hold, key).await? {
        Said::Elsewhere => agree(&admin, &headers, &body.0, Asked::Hold(hold)).await,
        Said::Beyond(lacking) => beyond(&admin, &headers, &body.0, (hold, lacking)).await,
        said => shown(said),
    };
    let granted = granted?;
    Ok((StatusCode::CREATED, granted).into_response())
}

/// Sells what is held, all or part of it. What is left stays held.
#[utoipa::path(post, path = "/v1/reservations/{id}/confirm", operation_id = "confirm_reservation",
    tag = "reservations", request_body = Option<Part>,
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header, description = "Yours, up to 256 characters")),
    responses((status = 200, body = Reservation), (status = 404, body = Problem),
        (status = 409, description = "reservation_ended, more_than_held", body = Problem),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn confirm(
    State(admin): State<Admin>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Reservation>, Problem> {
    let part = if body.0.is_empty() { Part::default() } else { body.json()? };
    check_lengths(part.reference.iter())?;
    let lines = part.lines.map(|lines| lines.into_iter().map(|l| (l.sku, l.quantity)).collect());
    let said = said(&id, "confirm", &body);
    let asked = Change::Confirm(Confirm { id, lines, reference: part.reference });
    change(&admin, &headers, &said, asked).await
}

/// Lets go what is still held. Again changes nothing.
#[utoipa::path(post, path = "/v1/reservations/{id}/release", operation_id = "release_reservation",
    tag = "reservations",
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header, description = "Yours, up to 256 characters")),
    responses((status = 200, body = Reservation), (status = 404, body = Problem),
        (status = 409, description = "reservation_ended", body = Problem),
        (status = 503, body = Problem)))]
pub(super) async fn release(
    State(admin): State<Admin>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Reservation>, Problem> {
    let said = said(&id, "release", &body);
    change(&admin, &headers, &said, Change::Release(id)).await
}

/// Holds it for so long from now.
#[utoipa::path(post, path = "/v1/reservations/{id}/extend", operation_id = "extend_reservation",
    tag = "reservations", request_body = More,
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header, description = "Yours, up to 256 characters")),
    responses((status = 200, body = Reservation), (status = 404, body = Problem),
        (status = 409, description = "reservation_ended", body = Problem),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn extend(
    State(admin): State<Admin>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Reservation>, Problem> {
    let More { ttl_s } = body.json()?;
    let said = said(&id, "extend", &body);
    change(&admin, &headers, &said, Change::Extend(id, ttl_s.saturating_mul(1000))).await
}

/// What an idempotency key stands for: the operation and its body.
fn said(id: &str, what: &str, body: &Body) -> Vec<u8> {
    [id.as_bytes(), b"\0", what.as_bytes(), b"\0", &body.0[..]].concat()
}

/// One reservation: for a day after its end, too.
#[utoipa::path(get, path = "/v1/reservations/{id}", operation_id = "get_reservation",
    tag = "reservations", params(("id" = String, Path)),
    responses((status = 200, body = Reservation), (status = 404, body = Problem)))]
pub(super) async fn get(
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<Json<Reservation>, Problem> {
    let here = admin.escrow.get(&id);
    let agreed = || admin.read().state().data().reservations.get(&id).cloned();
    let known = here.or_else(agreed);
    let known = known.ok_or_else(|| Problem::from(state::reply::Refused::UnknownReservation))?;
    Ok(Json(Reservation::new(id, &known)))
}

/// All reservations that are known, by id.
#[utoipa::path(get, path = "/v1/reservations", operation_id = "list_reservations",
    tag = "reservations", params(Paging),
    responses((status = 200, body = Page<Reservation>)))]
pub(super) async fn list(
    State(admin): State<Admin>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<Reservation>>, Problem> {
    let page = admin.look(move |frozen, _| {
        let known = frozen.data.reservations.entries();
        let ids = known.iter().map(|(id, _)| id);
        let (ids, more) = view::first(ids, paging.cursor.as_ref(), paging.limit());
        let next = ids.last().filter(|_| more).map(|id| (*id).clone());
        let items =
            ids.iter().filter_map(|id| Some(Reservation::new((*id).clone(), known.get(*id)?)));
        Ok(Page { items: items.collect(), next })
    });
    Ok(Json(page.await?))
}
