//! Errors of the API: RFC 9457 problem documents.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// What went wrong, and what to do.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    /// A name for the kind of problem.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The kind in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// This one, in words.
    detail: String,
    /// Whether nothing was even begun because nobody could be asked.
    #[serde(skip)]
    not_begun: bool,
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: String) -> Self {
        Self { kind, title, status: status.as_u16(), detail, not_begun: false }
    }

    /// Whether nothing was even begun because nobody could be asked.
    pub(super) const fn is_not_begun(&self) -> bool {
        self.not_begun
    }

    /// Whether what was asked for may have been done, or may still be.
    pub(super) const fn is_unknown(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE.as_u16() && !self.not_begun
    }

    /// What cannot be done now, and certainly was not.
    pub(super) fn not_begun(detail: String) -> Self {
        Self { not_begun: true, ..Self::unavailable(detail) }
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        let title = "The request cannot be understood";
        Self::new(StatusCode::BAD_REQUEST, "bad_request", title, detail.into())
    }

    pub(super) fn unauthorised() -> Self {
        let detail = "send a token of this cluster: `Authorization: Bearer …`".into();
        Self::new(StatusCode::UNAUTHORIZED, "unauthorised", "No valid token", detail)
    }

    pub(super) fn forbidden(detail: String) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "The token lacks the scope", detail)
    }

    pub(super) fn missing(detail: String) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is no such thing", detail)
    }

    pub(super) fn timeout(detail: &str) -> Self {
        let title = "The request took too long";
        Self::new(StatusCode::REQUEST_TIMEOUT, "timeout", title, detail.into())
    }

    pub(super) fn conflict(kind: &'static str, detail: String) -> Self {
        Self::new(StatusCode::CONFLICT, kind, "It cannot be done as things are", detail)
    }

    pub(super) fn too_large(detail: String) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "The request is too large", detail)
    }

    pub(super) fn unprocessable(kind: &'static str, detail: impl Into<String>) -> Self {
        let title = "The request is understood and wrong";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, kind, title, detail.into())
    }

    pub(super) fn key_reused() -> Self {
        let why = "this Idempotency-Key was used with another request in the last 24 hours";
        Self::unprocessable("idempotency_key_reused", why)
    }

    pub(super) fn unavailable(detail: String) -> Self {
        let title = "The cluster does not agree right now";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", title, detail)
    }

    pub(super) fn internal(detail: String) -> Self {
        tracing::error!(detail, "a request failed");
        let title = "This node failed";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", title, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_string(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        let problem = header::HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, problem);
        if status == StatusCode::UNAUTHORIZED {
            let bearer = header::HeaderValue::from_static("Bearer");
            headers.insert(header::WWW_AUTHENTICATE, bearer);
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        response
    }
}

pub(super) async fn not_found(uri: axum::http::Uri) -> Problem {
    Problem::missing(format!("there is nothing at {}; see /openapi.json", uri.path()))
}

pub(super) async fn method_not_allowed(method: axum::http::Method) -> Problem {
    let status = StatusCode::METHOD_NOT_ALLOWED;
    let detail = format!("{method} is not allowed here; see /openapi.json");
    Problem::new(status, "method_not_allowed", "The method is not allowed", detail)
}
