//! Pages for people, and the description of the API for programs. Everything is in the binary.

use std::sync::Arc;

use axum::Extension;
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};

/// No page may load or be loaded by anything from elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
                      connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'";

fn page(html: &'static str) -> Response {
    let headers =
        [(header::CONTENT_SECURITY_POLICY, POLICY), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (headers, Html(html)).into_response()
}

/// The description of this API, for programs.
#[utoipa::path(get, path = "/openapi.json", operation_id = "openapi",
    tag = "pages", security(()),
    responses((status = 200, content_type = "application/json")))]
pub(super) async fn openapi(
    Extension(api): Extension<Arc<utoipa::openapi::OpenApi>>,
) -> impl IntoResponse {
    axum::Json(api.as_ref().clone())
}

/// The same as a page.
#[utoipa::path(get, path = "/docs", operation_id = "docs",
    tag = "pages", security(()),
    responses((status = 200, content_type = "text/html")))]
pub(super) async fn docs() -> Response {
    page(include_str!("pages/docs.html"))
}

/// The dashboard. It asks for a token and keeps it for as long as the tab is open.
#[utoipa::path(get, path = "/", operation_id = "dashboard",
    tag = "pages", security(()),
    responses((status = 200, content_type = "text/html")))]
pub(super) async fn dashboard() -> Response {
    page(include_str!("pages/dashboard.html"))
}
