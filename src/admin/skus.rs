//! `/v1/skus`: which listings a SKU has.

use std::collections::BTreeMap;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use state::Command;
use state::command::ListingSpec;
use state::limits::{LISTING_SETTINGS_MAX, NAME_LEN_MAX};
use utoipa::ToSchema;

use super::extract::{Json, Path};
use super::{Admin, Problem};

/// The mapping of a SKU.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Mapping {
    /// Listings by channel.
    listings: BTreeMap<String, Listed>,
    /// Of a kit; this release has none, so it must be empty.
    #[serde(default)]
    components: Vec<Component>,
}

/// One listing.
#[derive(Deserialize, Serialize, ToSchema)]
pub(super) struct Listed {
    /// The channel's own id of what is set: of Shopify, `gid://shopify/InventoryItem/…`.
    id: String,
    /// What else is known of it: of Shopify, `location_id`, where that is not the channel's.
    #[serde(flatten)]
    settings: BTreeMap<String, String>,
}

/// A part of a kit.
#[derive(Deserialize, Serialize, ToSchema)]
pub(super) struct Component {
    sku: String,
    quantity: i64,
}

/// The listings of a SKU.
#[utoipa::path(get, path = "/v1/skus/{sku}", operation_id = "get_sku",
    tag = "mapping", params(("sku" = String, Path)),
    responses((status = 200, body = Mapping), (status = 404, body = Problem)))]
pub(super) async fn get(
    State(admin): State<Admin>,
    Path(sku): Path<String>,
) -> Result<Json<Mapping>, Problem> {
    let replica = admin.read();
    let stock = replica.state().data().stock.get(&sku);
    let stock = stock.ok_or_else(|| Problem::missing(format!("there is no SKU {sku:?}")))?;
    let listed = stock.listings.iter().map(|(channel, listing)| {
        let ListingSpec { id, settings } = listing.spec.clone();
        (channel.clone(), Listed { id, settings })
    });
    Ok(Json(Mapping { listings: listed.collect(), components: Vec::new() }))
}

/// Says which listings a SKU has, all of them; creates the SKU if it is new. Quantities are pushed to
/// them from now on.
#[utoipa::path(put, path = "/v1/skus/{sku}", operation_id = "put_sku",
    tag = "mapping", params(("sku" = String, Path)),
    request_body = Mapping, responses((status = 200, body = Mapping), (status = 422, body = Problem)))]
pub(super) async fn put(
    State(admin): State<Admin>,
    Path(sku): Path<String>,
    Json(mapping): Json<Mapping>,
) -> Result<Json<Mapping>, Problem> {
    if !mapping.components.is_empty() {
        return Err(Problem::unprocessable("no_kits", "components: this release has no kits"));
    }
    let long = |text: &String| text.is_empty() || text.len() > NAME_LEN_MAX;
    let wrong = |listed: &Listed| {
        let settings = &listed.settings;
        long(&listed.id)
            || settings.len() > LISTING_SETTINGS_MAX
            || settings.iter().any(|(name, value)| long(name) || long(value))
    };
    if long(&sku) || mapping.listings.values().any(wrong) {
        let limits = format!(
            "a SKU, an id and a setting have 1 to {NAME_LEN_MAX} bytes, \
             a listing at most {LISTING_SETTINGS_MAX} settings"
        );
        return Err(Problem::unprocessable("too_long", limits));
    }
    let specs = mapping.listings.iter().map(|(channel, listed)| {
        let (id, settings) = (listed.id.clone(), listed.settings.clone());
        (channel.clone(), ListingSpec { id, settings })
    });
    let command = Command::Map { sku, listings: specs.collect() };
    admin.change(&command).await?;
    Ok(Json(mapping))
}
