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
#[derive(Clone, Deserialize, Serialize, ToSchema)]
pub(super) struct Listed {
    /// The channel's own id of what is set: of Shopify, `gid://shopify/InventoryItem/…`; of Amazon, eBay
    /// and Walmart, their SKU; of `WooCommerce` and Odoo, the product's id.
    id: String,
    /// What else is known of it: of Shopify, `location_id`, where that is not the channel's, and
    /// `variant_id`, by which order lines name it. Every setting that ends in `_id`, but `location_id`,
    /// is one more id that payloads may name it by.
    #[serde(flatten)]
    settings: BTreeMap<String, String>,
}

impl Listed {
    /// How the state keeps it. Shopify's ids may be given as bare numbers.
    pub(super) fn spec(&self, kind: &str) -> ListingSpec {
        let gid = |what: &str, id: &str| {
            let bare = kind == "shopify" && id.bytes().all(|byte| byte.is_ascii_digit());
            if bare { format!("gid://shopify/{what}/{id}") } else { id.to_string() }
        };
        let settings = self.settings.iter().map(|(key, value)| {
            let value = match key.as_str() {
                "variant_id" => gid("ProductVariant", value),
                "location_id" => gid("Location", value),
                _ => value.clone(),
            };
            (key.clone(), value)
        });
        ListingSpec { id: gid("InventoryItem", &self.id), settings: settings.collect() }
    }
}

/// Whether a SKU and its listings are no longer than the state keeps.
pub(super) fn check<'a>(
    sku: &String,
    listings: impl IntoIterator<Item = &'a Listed>,
) -> Result<(), String> {
    let long = |text: &String| text.is_empty() || text.len() > NAME_LEN_MAX;
    let wrong = |listed: &Listed| {
        let settings = &listed.settings;
        long(&listed.id)
            || settings.len() > LISTING_SETTINGS_MAX
            || settings.iter().any(|(name, value)| long(name) || long(value))
    };
    if long(sku) || listings.into_iter().any(wrong) {
        return Err(format!(
            "a SKU, an id and a setting have 1 to {NAME_LEN_MAX} bytes, \
             a listing at most {LISTING_SETTINGS_MAX} settings"
        ));
    }
    Ok(())
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
    check(&sku, mapping.listings.values())
        .map_err(|why| Problem::unprocessable("too_long", why))?;
    let kind = |channel: &String| {
        let replica = admin.read();
        let known = replica.state().data().channels.get(channel);
        known.map(|known| known.definition.kind.clone()).unwrap_or_default()
    };
    let specs =
        mapping.listings.iter().map(|(name, listed)| (name.clone(), listed.spec(&kind(name))));
    let specs: Vec<_> = specs.collect();
    let command = Command::Map { sku, listings: specs.into_iter().collect() };
    admin.change(&command).await?;
    Ok(Json(mapping))
}
