//! `/v1/skus`: what a SKU is.

use std::collections::BTreeMap;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use state::Command;
use state::command::{ListingSpec, SkuSettings};
use state::escrow::Size;
use state::limits::{LISTING_SETTINGS_MAX, NAME_LEN_MAX};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Json, Path, Query};
use super::{Admin, Problem};

/// What a SKU is. What is not named in a request stays as it is.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Sku {
    /// Listings by channel, all of them. One that is left out is lowered to 0, and what it shows goes on counting until
    /// it is known to show nothing.
    listings: Option<BTreeMap<String, Listed>>,
    /// Channels of listings that were left out and may still sell. Not looked at in a request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    leaving: Vec<String>,
    /// What a kit is made of; an empty list makes it a SKU like others. A kit has no stock of its own, and
    /// what was sold of it before keeps what it was made of then.
    components: Option<Vec<Component>>,
    /// How far below zero reservations may take what is available: backorders and pre-orders. 0 if it was
    /// never said.
    backorder: Option<i64>,
    /// A notice is given when what is available, over all locations, falls to this or below; below zero
    /// it means never.
    low_at: Option<i64>,
    /// How much of it, at each location, may be set apart for the regions to grant from by themselves, also
    /// while they are cut off; a `max` of 0 ends that.
    escrow: Option<Escrow>,
}

/// How much may be set apart: one of both.
#[derive(Clone, Copy, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Escrow {
    /// Units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max: Option<i64>,
    /// Of a hundred units that are available or set apart already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    percent: Option<u8>,
}

impl Escrow {
    fn size(self) -> Result<Size, Problem> {
        match (self.max, self.percent) {
            (Some(units), None) => Ok(Size::Units(units)),
            (None, Some(percent)) => Ok(Size::Percent(percent)),
            _ => Err(Problem::unprocessable("invalid", "escrow: send either max or percent")),
        }
    }

    const fn of(size: Size) -> Self {
        match size {
            Size::Units(units) => Self { max: Some(units), percent: None },
            Size::Percent(percent) => Self { max: None, percent: Some(percent) },
        }
    }
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

/// What a SKU is: its listings, its components, its limits.
#[utoipa::path(get, path = "/v1/skus/{sku}", operation_id = "get_sku",
    tag = "mapping", params(("sku" = String, Path)),
    responses((status = 200, body = Sku), (status = 404, body = Problem)))]
pub(super) async fn get(
    State(admin): State<Admin>,
    Path(sku): Path<String>,
) -> Result<Json<Sku>, Problem> {
    let known = look(&admin, &sku);
    known.map(Json).ok_or_else(|| Problem::missing(format!("there is no SKU {sku:?}")))
}

fn look(admin: &Admin, sku: &str) -> Option<Sku> {
    let replica = admin.read();
    let data = replica.state().data();
    let stock = data.stock.get(sku)?;
    let (mut listings, mut leaving) = (BTreeMap::new(), Vec::new());
    for (channel, listing) in &stock.listings {
        let listing = listing.get();
        if listing.leaves {
            leaving.push(channel.to_string());
        } else {
            let ListingSpec { id, settings } = listing.spec;
            listings.insert(channel.to_string(), Listed { id, settings });
        }
    }
    let components = data.kits.components(sku).into_iter().flatten();
    let components = components
        .map(|(sku, quantity)| Component { sku: sku.clone(), quantity: *quantity })
        .collect();
    Some(Sku {
        listings: Some(listings),
        leaving,
        components: Some(components),
        backorder: Some(stock.backorder),
        low_at: stock.low_at,
        escrow: data.escrow.skus().get(sku).map(|shares| Escrow::of(shares.size)),
    })
}

/// What becomes of listings that a SKU has no more.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Left {
    /// They go at once and whatever they still show: say so where they are ended already, or nothing is pushed to them.
    #[serde(default)]
    abandon: bool,
}

/// Says what a SKU is; creates it at zero if it is new. Quantities are pushed to its listings from now on.
#[utoipa::path(put, path = "/v1/skus/{sku}", operation_id = "put_sku",
    tag = "mapping", params(("sku" = String, Path), Left),
    request_body = Sku, responses((status = 200, body = Sku), (status = 422, body = Problem)))]
pub(super) async fn put(
    State(admin): State<Admin>,
    Path(sku): Path<String>,
    Query(Left { abandon }): Query<Left>,
    Json(said): Json<Sku>,
) -> Result<Json<Sku>, Problem> {
    check(&sku, said.listings.iter().flat_map(BTreeMap::values))
        .map_err(|why| Problem::unprocessable("too_long", why))?;
    let kind = |channel: &String| {
        let replica = admin.read();
        let known = replica.state().data().channels.get(channel);
        known.map(|known| known.definition.kind.clone()).unwrap_or_default()
    };
    let listings = said.listings.map(|listings| {
        let specs = listings.iter().map(|(name, listed)| (name.clone(), listed.spec(&kind(name))));
        specs.collect()
    });
    let components = said.components.map(|parts| {
        let parts = parts.into_iter().map(|Component { sku, quantity }| (sku, quantity));
        parts.collect()
    });
    let settings = SkuSettings {
        listings,
        components,
        backorder: said.backorder,
        low_at: said.low_at,
        escrow: said.escrow.map(Escrow::size).transpose()?,
        abandon,
    };
    admin.change(&Command::Map { sku: sku.clone(), settings }).await?;
    let known = look(&admin, &sku);
    known.map(Json).ok_or_else(|| Problem::internal(format!("{sku:?} is gone again")))
}
