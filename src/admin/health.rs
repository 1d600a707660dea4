//! Probes and metrics.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use cluster::Role;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Admin, Problem};

/// Whether the process lives.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    ok: bool,
}

/// Whether this node can do its work, and if not, why.
#[derive(Serialize, ToSchema)]
pub(super) struct Readiness {
    ready: bool,
    reasons: Vec<String>,
}

/// The process lives.
#[utoipa::path(get, path = "/healthz", operation_id = "healthz",
    tag = "probes", security(()),
    responses((status = 200, body = Health)))]
pub(super) async fn healthz() -> Json<Health> {
    Json(Health { ok: true })
}

/// This node is a member, can make webhooks durable, and its replica is not far behind. With `?leader` a known
/// leader is asked for too.
#[utoipa::path(get, path = "/readyz", operation_id = "readyz",
    tag = "probes", security(()),
    params(("leader" = Option<bool>, Query,
        description = "Asks for a known leader too; needs no value")),
    responses((status = 200, body = Readiness), (status = 503, body = Readiness)))]
pub(super) async fn readyz(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Response {
    let mut reasons = Vec::new();
    if let Err(busy) = admin.inbox.ready() {
        reasons.push(busy.to_string());
    }
    let status = admin.raft.status();
    if status.role == Role::Uninitialised || !admin.read().state().data().seeded {
        reasons.push("this node is not part of a cluster yet".into());
    }
    if status.removed {
        reasons.push("this node was removed from the cluster".into());
    }
    let behind = status.committed.unwrap_or(0).saturating_sub(status.applied.unwrap_or(0));
    if behind > admin.config.ready.max_lag {
        reasons.push(format!("the replica is {behind} log entries behind"));
    }
    let names = query.iter().flat_map(|query| query.split('&'));
    let asks = names.filter_map(|pair| pair.split('=').next()).any(|name| name == "leader");
    if asks && status.leader.is_none() {
        reasons.push("no leader is known".into());
    }
    let ready = reasons.is_empty();
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Readiness { ready, reasons })).into_response()
}

/// Metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics",
    tag = "probes",     responses((status = 200, body = String, content_type = "application/openmetrics-text")))]
pub(super) async fn metrics(State(admin): State<Admin>) -> Result<Response, Problem> {
    admin.measures.held.count(admin.read().state());
    let text = admin.measures.render().map_err(|error| Problem::internal(error.to_string()))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
