//! A misspelt parameter is refused, wherever it is: a filter that nobody looks at would take everything.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Query, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::path::{ParameterIn, PathItem};
use utoipa::openapi::{OpenApi, RefOr};

use super::Problem;

/// What each operation takes behind the question mark, by method and path.
pub(super) type Known = Arc<BTreeMap<(&'static str, String), Vec<String>>>;

/// What the operations of a group say of themselves.
pub(super) fn of(api: &OpenApi) -> Known {
    let mut known = BTreeMap::new();
    for (path, item) in &api.paths.paths {
        let PathItem { get, put, post, delete, .. } = item;
        for (method, operation) in [("GET", get), ("PUT", put), ("POST", post), ("DELETE", delete)]
        {
            let Some(operation) = operation else { continue };
            let all = operation.parameters.iter().flatten();
            let asked = all.filter_map(|one| match one {
                RefOr::T(one) => (one.parameter_in == ParameterIn::Query).then(|| one.name.clone()),
                RefOr::Ref(_) => None,
            });
            known.insert((method, path.clone()), asked.collect());
        }
    }
    Arc::new(known)
}

/// Lets a request through that names no other parameters than its operation has.
pub(super) async fn check(State(known): State<Known>, request: Request, next: Next) -> Response {
    match misspelt(&known, &request) {
        Ok(()) => next.run(request).await,
        Err(why) => Problem::bad_request(why).into_response(),
    }
}

fn misspelt(known: &Known, request: &Request) -> Result<(), String> {
    let method = match *request.method() {
        Method::GET | Method::HEAD => "GET",
        Method::PUT => "PUT",
        Method::POST => "POST",
        _ => "DELETE",
    };
    // In their order what is spelled out comes before what a name stands for.
    let path = request.uri().path();
    let mut known = known.iter().filter(|((of, at), _)| *of == method && leads_to(at, path));
    let Some((_, known)) = known.next() else { return Ok(()) };
    let said = Query::<Vec<(String, String)>>::try_from_uri(request.uri());
    let said = said.map_err(|why| why.body_text())?.0;
    let Some((name, _)) = said.iter().find(|(name, _)| !known.contains(name)) else {
        return Ok(());
    };
    let taken = if known.is_empty() {
        "this takes none".to_string()
    } else {
        format!("this takes {}", known.join(", "))
    };
    Err(format!("unknown parameter {name:?}: {taken}"))
}

/// Whether a path is one of those that an operation stands for: `{…}` is any one part of it.
fn leads_to(operation: &str, path: &str) -> bool {
    let (mut wanted, mut found) = (operation.split('/'), path.split('/'));
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some(wanted), Some(found)) if wanted == found || wanted.starts_with('{') => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    // Whoever misspells a filter would be shown, or have deleted, everything.
    #[test]
    fn what_is_misspelt_is_named_with_what_there_is() {
        let operation = |method, path: &str, names: &[&str]| {
            let names = names.iter().map(ToString::to_string).collect::<Vec<_>>();
            ((method, path.to_string()), names)
        };
        let known: Known = Arc::new(BTreeMap::from([
            operation("GET", "/v1/topics/{topic}/dead", &["limit", "reason"]),
            operation("GET", "/v1/topics/all/dead", &["limit"]),
            operation("DELETE", "/v1/topics/{topic}/dead", &[]),
        ]));
        for (method, uri, why) in [
            ("GET", "/v1/topics/t/dead", None),
            ("HEAD", "/v1/topics/t/dead?reason=x&limit=1", None),
            ("GET", "/v1/topics/t/dead?raeson=x", Some("\"raeson\": this takes limit, reason")),
            ("GET", "/v1/topics/t%2Fu/dead?limit=1&a%20b", Some("\"a b\"")),
            ("GET", "/v1/topics/all/dead?reason=x", Some("\"reason\": this takes limit")),
            ("DELETE", "/v1/topics/t/dead?limit=1", Some("this takes none")),
            ("GET", "/nowhere?raeson=x", None),
        ] {
            let request = Request::builder().method(method).uri(uri).body(Body::empty()).unwrap();
            let said = misspelt(&known, &request).err();
            let as_wanted = match (&said, why) {
                (Some(said), Some(why)) => said.contains(why),
                (said, why) => said.is_none() && why.is_none(),
            };
            assert!(as_wanted, "{method} {uri}: {said:?}");
        }
    }
}
