//! Telling a Shopify store a quantity, and reading what it shows: its GraphQL Admin API.
//!
//! From API version 2026-04 on every row must carry `changeFromQuantity` (compare-and-set), and the
//! mutation an idempotency key. The mutation is all or nothing. Errors come with HTTP 200.

use std::time::Duration;

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::channel::api::{Answer, Api, Call, millis};
use crate::channel::outcome::{Answered, Calls, Place, PushError, Quantities, Row, RowOutcome};
use crate::config;

/// Entries of an array that one call may carry: <https://shopify.dev/docs/api/usage/limits>.
const ARRAY_MAX: usize = 250;
/// Points that one mutation costs.
const MUTATION_COST: f64 = 10.0;

const SET: &str = "mutation Set($input: InventorySetQuantitiesInput!, $key: String!) { \
    inventorySetQuantities(input: $input) @idempotent(key: $key) { \
    inventoryAdjustmentGroup { id } userErrors { code field message } } }";
const READ: &str = "query Read($ids: [ID!]!, $locationId: ID!) { nodes(ids: $ids) { \
    ... on InventoryItem { id inventoryLevel(locationId: $locationId) { \
    quantities(names: [\"available\"]) { name quantity } } } } }";

/// Codes that mean that the store shows something else than was believed.
const STALE: [&str; 2] = ["CHANGE_FROM_QUANTITY_STALE", "COMPARE_QUANTITY_STALE"];
/// Codes of the call rather than of a row: another try with a new key may succeed.
const TRY_AGAIN: [&str; 3] = [
    "IDEMPOTENCY_CONCURRENT_REQUEST",
    "IDEMPOTENCY_PREVIOUS_ATTEMPT_FAILED",
    "IDEMPOTENCY_KEY_PARAMETER_MISMATCH",
];

/// A store's API.
pub struct Client {
    api: Api,
    path: String,
    token: config::Secret,
}

#[derive(Deserialize)]
pub(super) struct GraphQl {
    data: Option<Value>,
    #[serde(default)]
    errors: Vec<TopError>,
    extensions: Option<Extensions>,
}

#[derive(Deserialize)]
struct TopError {
    #[serde(default)]
    message: String,
    extensions: Option<ErrorCode>,
}

#[derive(Deserialize)]
struct ErrorCode {
    code: Option<String>,
}

#[derive(Deserialize)]
struct Extensions {
    cost: Option<Cost>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cost {
    requested_query_cost: Option<f64>,
    throttle_status: Option<ThrottleStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ThrottleStatus {
    currently_available: f64,
    restore_rate: f64,
}

#[derive(Deserialize)]
struct UserError {
    code: Option<String>,
    #[serde(default)]
    field: Option<Vec<String>>,
    #[serde(default)]
    message: String,
}

impl Client {
    /// A client for a store; `None` if the config has no API for it.
    #[must_use]
    pub fn new(channel: &config::Channel) -> Option<Self> {
        let api = channel.api.as_ref()?;
        Some(Self {
            api: Api::new(&api.base_url).ok()?,
            path: path(api.version()),
            token: api.token.clone()?,
        })
    }

    async fn call(&self, query: &str, variables: &Value) -> Result<Answered<Value>, PushError> {
        let call = call(&self.path, self.token.expose(), query, variables);
        let answer = self.api.send(call).await?;
        check_status(&answer)?;
        let answer: GraphQl = serde_json::from_slice(&answer.body)
            .map_err(|error| PushError::Unknown(format!("the answer is no GraphQL: {error}")))?;
        if let Some(error) = answer.error() {
            return Err(error);
        }
        let cost = answer.extensions.and_then(|extensions| extensions.cost);
        let value = answer.data.ok_or_else(|| PushError::Unknown("the answer is empty".into()))?;
        Ok(Answered { value, wait: wait(cost.as_ref(), MUTATION_COST) })
    }
}

impl Quantities for Client {
    fn calls(&self) -> Calls {
        Calls {
            rows_max: ARRAY_MAX,
            calls_a_set: 1,
            reads_max: ARRAY_MAX,
            feed_rows_max: 0,
            feed_rows_min: 0,
            located: true,
        }
    }

    async fn set(&self, rows: &[Row], key: &str) -> Result<Answered<Vec<RowOutcome>>, PushError> {
        let quantities: Vec<Value> = rows
            .iter()
            .map(|row| {
                json!({
                    "inventoryItemId": row.place.listing,
                    "locationId": row.place.location,
                    "quantity": row.quantity,
                    "changeFromQuantity": row.from,
                })
            })
            .collect();
        let input =
            json!({ "name": "available", "reason": "correction", "quantities": quantities });
        let answered = self.call(SET, &json!({ "input": input, "key": key })).await?;
        let errors = answered.value.pointer("/inventorySetQuantities/userErrors").cloned();
        let errors: Vec<UserError> = errors
            .and_then(|errors| serde_json::from_value(errors).ok())
            .ok_or_else(|| PushError::Unknown("the answer has no userErrors".into()))?;
        Ok(Answered { value: outcomes(rows.len(), &errors)?, wait: answered.wait })
    }

    async fn read(&self, places: &[Place]) -> Result<Answered<Vec<Option<i64>>>, PushError> {
        let listings: Vec<&str> = places.iter().map(|place| place.listing.as_str()).collect();
        let location = places.first().map_or("", |place| &place.location);
        let variables = json!({ "ids": listings, "locationId": location });
        let answered = self.call(READ, &variables).await?;
        let nodes = answered.value.get("nodes").and_then(Value::as_array);
        let nodes = nodes.ok_or_else(|| PushError::Unknown("the answer has no nodes".into()))?;
        let quantity = |node: &Value| {
            let quantities = node.pointer("/inventoryLevel/quantities")?.as_array()?;
            let of_name = quantities.iter().find(|quantity| quantity["name"] == "available")?;
            of_name["quantity"].as_i64()
        };
        let of_listing = |id: &&str| {
            nodes.iter().find(|node| node["id"].as_str() == Some(*id)).and_then(quantity)
        };
        Ok(Answered { value: listings.iter().map(of_listing).collect(), wait: answered.wait })
    }
}

impl GraphQl {
    /// What went wrong with the call, if something did.
    pub(super) fn error(&self) -> Option<PushError> {
        let cost = self.extensions.as_ref().and_then(|extensions| extensions.cost.as_ref());
        self.errors.first().map(|error| top_error(error, cost))
    }

    /// Whether the question was refused for what it would cost.
    pub(super) fn costs_too_much(&self) -> bool {
        let codes =
            self.errors.iter().filter_map(|error| error.extensions.as_ref()?.code.as_deref());
        codes.into_iter().any(|code| code == "MAX_COST_EXCEEDED")
    }
}

/// Where a store's GraphQL of a dated version is.
pub(super) fn path(version: &str) -> String {
    format!("/admin/api/{version}/graphql.json")
}

/// A query or a mutation.
pub(super) fn call(path: &str, token: &str, query: &str, variables: &Value) -> Call {
    Call::post(path)
        .header("X-Shopify-Access-Token", token)
        .json(&json!({ "query": query, "variables": variables }))
}

fn check_status(answer: &Answer) -> Result<(), PushError> {
    match answer.status {
        status if status.is_success() => Ok(()),
        StatusCode::TOO_MANY_REQUESTS => Err(PushError::Limited { wait_ms: answer.wait_ms() }),
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            Err(PushError::Unauthorised(status.to_string()))
        }
        status if status.is_client_error() => Err(PushError::Refused(status.to_string())),
        status => Err(PushError::Unknown(status.to_string())),
    }
}

fn top_error(error: &TopError, cost: Option<&Cost>) -> PushError {
    let code = error.extensions.as_ref().and_then(|extensions| extensions.code.as_deref());
    match code {
        Some("THROTTLED") => {
            let requested = cost.and_then(|cost| cost.requested_query_cost);
            let wait =
                wait(cost, requested.unwrap_or(MUTATION_COST)).max(Duration::from_millis(100));
            PushError::Limited { wait_ms: u64::try_from(wait.as_millis()).unwrap_or(1000) }
        }
        Some("ACCESS_DENIED" | "SHOP_INACTIVE") => PushError::Unauthorised(error.message.clone()),
        // A listing's id that is none, most often.
        Some("INVALID_VARIABLE") => PushError::Suspect(error.message.clone()),
        Some("INTERNAL_SERVER_ERROR") => PushError::Unknown(error.message.clone()),
        _ => PushError::Refused(error.message.clone()),
    }
}

/// How long until the store's bucket holds the cost of a call.
fn wait(cost: Option<&Cost>, needed: f64) -> Duration {
    let Some(status) = cost.and_then(|cost| cost.throttle_status.as_ref()) else {
        return Duration::ZERO;
    };
    let missing = needed - status.currently_available;
    if missing <= 0.0 || status.restore_rate <= 0.0 {
        return Duration::ZERO;
    }
    Duration::from_millis(millis(missing / status.restore_rate))
}

/// The mutation is all or nothing: with an error, rows without one of their own were not touched.
fn outcomes(rows: usize, errors: &[UserError]) -> Result<Vec<RowOutcome>, PushError> {
    if errors.is_empty() {
        return Ok(vec![RowOutcome::Confirmed; rows]);
    }
    let mut outcomes = vec![RowOutcome::Untouched; rows];
    for error in errors {
        let code = error.code.as_deref().unwrap_or_default();
        if TRY_AGAIN.contains(&code) {
            return Err(PushError::Refused(format!("{code}: {}", error.message)));
        }
        let path = error.field.as_deref().unwrap_or_default();
        let row = path.iter().find_map(|part| part.parse::<usize>().ok());
        let row = row.or((rows == 1).then_some(0));
        let Some(outcome) = row.and_then(|row| outcomes.get_mut(row)) else {
            // Which row it is will show in a smaller batch.
            return Err(PushError::Suspect(format!("{code}: {}", error.message)));
        };
        *outcome = if STALE.contains(&code) {
            RowOutcome::Stale
        } else {
            RowOutcome::Failed(format!("{code}: {}", error.message))
        };
    }
    Ok(outcomes)
}
