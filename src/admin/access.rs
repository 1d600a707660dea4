//! Who may do what: bearer tokens with scopes, compared in constant time.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::{AUTHORIZATION, CONNECTION};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Admin, Problem};
use crate::config::Scope;
use crate::listen::Trust;

/// How long whoever sent a wrong token waits for the answer; then he must connect anew. A right one is never
/// held up, however many wrong ones come.
const WRONG: Duration = Duration::from_millis(100);

/// Lets a request through if its token has the scope. All tokens are compared, by hash, so that
/// neither the time nor the answer says how near a guess was.
pub(super) async fn check(
    State((admin, scope)): State<(Admin, Scope)>,
    request: Request,
    next: Next,
) -> Response {
    let guesses = request.headers().contains_key(AUTHORIZATION);
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let sent = header.and_then(|value| value.split_once(' '));
    let sent = sent.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let sent = Sha256::digest(sent.map_or("", |(_, token)| token.trim()));
    let mut scopes: Option<&[Scope]> = None;
    for token in &admin.config.admin.tokens {
        let known = Sha256::digest(token.secret.expose());
        if bool::from(known.as_slice().ct_eq(sent.as_slice())) {
            scopes = Some(&token.scopes);
        }
    }
    if scopes.is_some() {
        Trust::prove(request.extensions());
    }
    match scopes {
        None => {
            let mut refused = Problem::unauthorised().into_response();
            if guesses {
                tokio::time::sleep(WRONG).await;
            }
            refused.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            refused
        }
        Some(scopes) if scopes.contains(&scope) => next.run(request).await,
        Some(_) => Problem::forbidden(format!("this needs the scope {scope:?}").to_lowercase())
            .into_response(),
    }
}
