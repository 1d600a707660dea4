//! `/v1/locations`: where stock is looked for first.

use std::collections::BTreeSet;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use state::Command;
use state::limits::{LOCATIONS_MAX, NAME_LEN_MAX};
use utoipa::ToSchema;

use super::extract::Json;
use super::{Admin, Problem};

/// Locations in the order in which they are drawn from.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Locations {
    /// The first is where a movement without a location goes; a reservation without one is looked for in
    /// this order, and then wherever else there is stock. A location need not be named here to be used.
    locations: Vec<String>,
}

/// The order of the locations.
#[utoipa::path(get, path = "/v1/locations", operation_id = "get_locations", tag = "stock",
    responses((status = 200, body = Locations)))]
pub(super) async fn get(State(admin): State<Admin>) -> Json<Locations> {
    Json(Locations { locations: admin.read().state().data().locations.clone() })
}

/// Replaces the order of the locations. Moves no stock.
#[utoipa::path(put, path = "/v1/locations", operation_id = "put_locations", tag = "stock",
    request_body = Locations,
    responses((status = 200, body = Locations), (status = 422, body = Problem)))]
pub(super) async fn put(
    State(admin): State<Admin>,
    Json(wanted): Json<Locations>,
) -> Result<Json<Locations>, Problem> {
    let Locations { locations } = &wanted;
    let length = |name: &String| (1..=NAME_LEN_MAX).contains(&name.len());
    let different: BTreeSet<&String> = locations.iter().collect();
    let why = if locations.len() > LOCATIONS_MAX {
        format!("locations: {LOCATIONS_MAX} at the most")
    } else if !locations.iter().all(length) {
        format!("locations: each has 1 to {NAME_LEN_MAX} bytes")
    } else if different.len() < locations.len() {
        "locations: one is named twice".into()
    } else {
        admin.change(&Command::PutLocations(locations.clone())).await?;
        return Ok(Json(wanted));
    };
    Err(Problem::unprocessable("invalid", why))
}
