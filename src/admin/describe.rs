//! The description of the API: what the handlers say of themselves, and what is true of all of them.

use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::response::{Response, Responses};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, Ref, RefOr, Schema};

use crate::config::Scope;

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";
const PROBLEM_SCHEMA: &str = "#/components/schemas/Problem";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "stockraft",
        description = "Operates one cluster: the ledger, its channels, and the nodes themselves. \
                       Every node answers; changes are forwarded to the leader. Errors are RFC 9457 \
                       problem documents. Quantities are whole units, times are RFC 3339 in UTC.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    security(("token" = [])),
)]
struct Api;

/// What is true of the API as a whole.
pub(super) fn base() -> utoipa::openapi::OpenApi {
    let mut api = Api::openapi();
    let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    api.components.get_or_insert_default().security_schemes.insert("token".into(), scheme.into());
    api
}

/// Adds to the operations of a group what their handlers do not say themselves: answers of the guard and
/// of the extractors, and words for every status.
pub(super) fn complete(api: &mut utoipa::openapi::OpenApi, scope: Option<Scope>) {
    for operation in api.paths.paths.values_mut().flat_map(operations) {
        for status in implied(operation, scope) {
            let answers = &mut operation.responses.responses;
            answers.entry(status.into()).or_insert_with(|| RefOr::T(problem()));
        }
        describe(&mut operation.responses);
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, .. } = item;
    [get, put, post, delete].into_iter().flatten()
}

/// Statuses that an operation may be answered with whatever its handler does.
fn implied(operation: &Operation, scope: Option<Scope>) -> Vec<&'static str> {
    let Some(scope) = scope else { return Vec::new() };
    let mut statuses = vec!["401", "403", "500"];
    if operation.parameters.as_ref().is_some_and(|parameters| !parameters.is_empty()) {
        statuses.push("400");
    }
    if operation.request_body.is_some() {
        statuses.extend(["400", "408", "413", "422"]);
    }
    // Whatever changes something needs the cluster's agreement.
    if scope != Scope::Read {
        statuses.push("503");
    }
    statuses
}

fn problem() -> Response {
    let mut response = Response::new("");
    let content = Content::new(Some(Ref::new(PROBLEM_SCHEMA)));
    response.content.insert(PROBLEM.into(), RefOr::T(content));
    response
}

fn describe(responses: &mut Responses) {
    for (status, response) in &mut responses.responses {
        let RefOr::T(response) = response else { continue };
        if response.description.is_empty() {
            response.description = words(status).into();
        }
        if response.content.get(JSON).is_some_and(is_problem) {
            let content = response.content.swap_remove(JSON);
            response.content.extend(content.map(|content| (PROBLEM.to_string(), content)));
        }
    }
}

fn is_problem(content: &RefOr<Content>) -> bool {
    let RefOr::T(Content { schema: Some(RefOr::<Schema>::Ref(schema)), .. }) = content else {
        return false;
    };
    schema.ref_location == PROBLEM_SCHEMA
}

fn words(status: &str) -> &'static str {
    match status {
        "200" => "Done; what was asked for",
        "201" => "Created",
        "400" => "The request cannot be understood",
        "401" => "No valid token",
        "403" => "The token lacks the scope",
        "404" => "There is no such thing",
        "408" => "The body did not arrive in time",
        "409" => "It cannot be done as things are",
        "413" => "The body is too large",
        "422" => "The request is understood and wrong",
        "503" => "Not now: try again",
        _ => "This node failed",
    }
}
