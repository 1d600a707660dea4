//! What a request brings, or a problem document that says why it cannot be used.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::RequestPartsExt as _;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::{StatusCode, request::Parts};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{BODY_BYTES_MAX, Problem};

/// How long a request's body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A body of JSON, whatever the header says that it is: `curl -d` calls it a form.
pub(super) struct Json<T>(pub(super) T);

/// A whole body.
pub(super) struct Body(pub(super) Bytes);

/// What the URL's path names.
pub(super) struct Path<T>(pub(super) T);

/// What stands behind the question mark.
pub(super) struct Query<T>(pub(super) T);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, state)).await;
        let body = body.map_err(|_| Problem::timeout("the body did not arrive in time"))?;
        body.map(Self).map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Problem::too_large(format!("a body has at most {BODY_BYTES_MAX} bytes"))
            }
            _ => Problem::bad_request(rejection.body_text()),
        })
    }
}

impl Body {
    /// The body as JSON.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_slice(&self.0).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => {
                Problem::unprocessable("invalid_body", error.to_string())
            }
            _ => Problem::bad_request(format!("the body is no JSON: {error}")),
        })
    }

    /// The same of a form that is made of several, which would let an unknown member pass: a filter that is misspelt
    /// would take everything.
    pub(super) fn json_of<T: DeserializeOwned>(&self, members: &[&str]) -> Result<T, Problem> {
        let said: BTreeMap<String, serde_json::Value> = self.json()?;
        match said.keys().find(|member| !members.contains(&member.as_str())) {
            None => self.json(),
            Some(member) => {
                let known = members.join(", ");
                let why = format!("unknown field `{member}`, expected one of {known}");
                Err(Problem::unprocessable("invalid_body", why))
            }
        }
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        Body::from_request(request, state).await?.json().map(Self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

impl<T: DeserializeOwned + Send + 'static, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let path = parts.extract::<axum::extract::Path<T>>().await;
        path.map(|path| Self(path.0)).map_err(|why| Problem::bad_request(why.body_text()))
    }
}

impl<T: DeserializeOwned + Send + 'static, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = parts.extract::<axum::extract::Query<T>>().await;
        query.map(|query| Self(query.0)).map_err(|why| Problem::bad_request(why.body_text()))
    }
}
