//! `POST /v1/movements`: changes of stock that do not come from a channel.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use state::MovementOutcome;
use state::command::{Count, MovementRequest, Movements};
use state::ledger::Kind;
use state::limits::{NAME_LEN_MAX, REQUEST_MOVEMENTS_MAX};
use state::reply::Answered;
use utoipa::ToSchema;

use super::extract::{Body, Json};
use super::{Admin, Problem};
use crate::channel::key;
use crate::clock;

/// Movements to book together.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    movements: Vec<Asked>,
    /// All or none.
    #[serde(default)]
    atomic: bool,
}

/// One movement.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// Yours; a second movement with the same id changes nothing.
    id: String,
    /// sale, cancellation, fulfilment, return, receipt, incoming, transfer or adjustment.
    kind: String,
    sku: String,
    /// Whole units: positive, but for an adjustment.
    quantity: Option<i64>,
    /// Instead of a quantity, of an adjustment: the units that were counted. Needs `as_of`.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<i64>,
    /// The log index, from `as_of` of a reading, up to which the counter knew the ledger: what moved
    /// there since makes the count stale, and it is rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    as_of: Option<u64>,
    /// The first of the configured ones if not given, which is `main` unless it was changed.
    location: Option<String>,
    channel: Option<String>,
    /// Of a transfer.
    to_location: Option<String>,
    reference: Option<String>,
    reason: Option<String>,
    /// When it happened, if that was not now.
    occurred_at: Option<String>,
}

/// What became of each movement, in order.
#[derive(Serialize, ToSchema)]
pub(super) struct Answer {
    results: Vec<Outcome>,
    /// Log index of the request.
    index: u64,
}

/// What became of one.
#[derive(Serialize, ToSchema)]
pub(super) struct Outcome {
    id: String,
    /// applied, duplicate, conflict or rejected.
    #[serde(rename = "outcome")]
    became: &'static str,
    /// Why, if it was rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// Books movements. Each is applied once by its id; with an `Idempotency-Key` the whole first answer is
/// repeated for 24 hours.
#[utoipa::path(post, path = "/v1/movements", operation_id = "book_movements",
    tag = "stock", request_body = Request,
    params(("Idempotency-Key" = Option<String>, Header, description = "Yours, up to 256 characters")),
    responses((status = 200, body = Answer), (status = 400, body = Problem),
        (status = 409, description = "atomic, and one was refused", body = Answer),
        (status = 422, description = "the key was used with another body", body = Problem)))]
pub(super) async fn post(
    State(admin): State<Admin>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let request: Request = body.json()?;
    if request.movements.is_empty() || request.movements.len() > REQUEST_MOVEMENTS_MAX {
        let most = REQUEST_MOVEMENTS_MAX;
        return Err(Problem::bad_request(format!("movements: send between 1 and {most}")));
    }
    let ids: Vec<String> = request.movements.iter().map(|asked| asked.id.clone()).collect();
    let main = admin.read().state().data().locations.first().cloned();
    let main = main.unwrap_or_else(|| "main".into());
    let mut movements = Vec::with_capacity(ids.len());
    for (n, asked) in request.movements.into_iter().enumerate() {
        let checked = asked.check(&main).map_err(|why| format!("movements[{n}].{why}"));
        movements.push(checked.map_err(Problem::bad_request)?);
    }
    let atomic = request.atomic;
    let asked = state::command::Asked::Movements(Movements { atomic, movements });
    let (index, answer) = admin.ask(&headers, &body.0, asked).await?;
    let Answered::Movements(outcomes) = answer else {
        return Err(Problem::internal(format!("unexpected answer {answer:?}")));
    };
    let refused = |outcome: &MovementOutcome| {
        matches!(outcome, MovementOutcome::Rejected(_) | MovementOutcome::Conflict)
    };
    let status =
        if atomic && outcomes.iter().any(refused) { StatusCode::CONFLICT } else { StatusCode::OK };
    let results = ids.into_iter().zip(outcomes).map(Outcome::new).collect();
    Ok((status, Json(Answer { results, index })).into_response())
}

impl Asked {
    /// The request that it makes, without a location at `main`; or what is wrong with its form.
    pub(crate) fn check(self, main: &str) -> Result<MovementRequest, String> {
        let kind = Kind::NAMES.iter().find(|(name, _)| *name == self.kind).map(|(_, kind)| *kind);
        let kind = kind.ok_or_else(|| {
            let names: Vec<&str> = Kind::NAMES.iter().map(|(name, _)| *name).collect();
            format!("kind: {:?} is none of {}", self.kind, names.join(", "))
        })?;
        let texts = [
            ("id", Some(&self.id)),
            ("sku", Some(&self.sku)),
            ("location", self.location.as_ref()),
            ("channel", self.channel.as_ref()),
            ("to_location", self.to_location.as_ref()),
            ("reference", self.reference.as_ref()),
            ("reason", self.reason.as_ref()),
        ];
        for (name, text) in texts {
            if text.is_some_and(|text| text.is_empty() || text.len() > NAME_LEN_MAX) {
                return Err(format!("{name}: between 1 and {NAME_LEN_MAX} bytes"));
            }
        }
        let occurred_ms = self
            .occurred_at
            .as_deref()
            .map(clock::parse_rfc3339)
            .transpose()
            .map_err(|why| format!("occurred_at: {why}"))?;
        let (quantity, count) = match (self.quantity, self.count, self.as_of) {
            (Some(quantity), None, None) => (quantity, None),
            (None, Some(units), Some(index)) => (0, Some(Count { units, index })),
            _ => return Err("quantity: send either a quantity, or count and as_of".into()),
        };
        let body = serde_json::to_vec(&self).map_err(|error| error.to_string())?;
        Ok(MovementRequest {
            key: key(format!("movement\0{}", self.id).as_bytes()),
            body: key(&body),
            id: self.id,
            kind,
            sku: self.sku,
            quantity,
            count,
            location: self.location.unwrap_or_else(|| main.to_string()),
            to_location: self.to_location,
            channel: self.channel,
            reference: self.reference,
            reason: self.reason,
            occurred_ms,
        })
    }
}

impl Outcome {
    fn new((id, outcome): (String, MovementOutcome)) -> Self {
        let (became, why) = match outcome {
            MovementOutcome::Applied => ("applied", None),
            MovementOutcome::Duplicate => ("duplicate", None),
            MovementOutcome::Conflict => {
                ("conflict", Some("another movement with this id was applied".into()))
            }
            MovementOutcome::Rejected(why) => ("rejected", Some(why)),
        };
        Self { id, became, why }
    }
}
