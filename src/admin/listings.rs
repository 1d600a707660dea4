//! `/v1/listings`: what the channels' own ids stand for.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use state::Id;
use state::command::Change;
use state::limits::LISTING_ROWS_MAX;
use state::names::Source;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Body, Json, Query};
use super::skus::{Listed, check};
use super::view::{Page, first};
use super::{Admin, Problem};
use crate::clock::rfc3339;
use crate::replica::Frozen;

/// An id of a channel's, and the SKU that it stands for.
#[derive(Serialize, ToSchema)]
pub(super) struct Name {
    channel: String,
    /// The channel's own id of a listing, a variant or a product, or its spelling of a SKU.
    id: String,
    sku: String,
    /// `set` by a person, or `learned` from a payload that named both.
    source: &'static str,
    /// When it was learned, by the channel's clock.
    learned: Option<String>,
}

/// Which names.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Of this channel; of all if not given.
    channel: Option<String>,
    /// Items wanted: 100 if not given, 1000 at the most.
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// What the channels' own ids stand for, by channel and id.
#[utoipa::path(get, path = "/v1/listings", operation_id = "list_listings",
    tag = "mapping", params(Wanted), responses((status = 200, body = Page<Name>)))]
pub(super) async fn list(
    State(admin): State<Admin>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Page<Name>>, Problem> {
    let Wanted { channel, limit, cursor } = wanted;
    let after = cursor.map(|cursor| {
        let place = cursor.split_once('/').map(|(channel, id)| (channel.into(), id.into()));
        place.ok_or_else(|| Problem::bad_request("cursor: send `next` of the page before"))
    });
    let after: Option<(Id, Id)> = after.transpose()?;
    let limit = super::view::limit(limit);
    let read = move |frozen: &Frozen, _: &_| {
        let names = frozen.data.names.names();
        let of_channel =
            |place: &&(Id, Id)| channel.as_ref().is_none_or(|channel| place.0 == *channel);
        let places = names.iter().map(|(place, _)| place).filter(of_channel);
        let (places, more) = first(places, after.as_ref(), limit);
        let next = places.last().filter(|_| more).map(|(channel, id)| format!("{channel}/{id}"));
        let item = |place: &(Id, Id)| {
            let name = names.get(place)?;
            let (source, learned) = match name.source {
                Source::Set => ("set", None),
                Source::Learned(at) => ("learned", Some(rfc3339(at))),
            };
            let (channel, id, sku) =
                (place.0.to_string(), place.1.to_string(), name.sku.to_string());
            Some(Name { channel, id, sku, source, learned })
        };
        Ok(Page { items: places.into_iter().filter_map(item).collect(), next })
    };
    admin.look(read).await.map(Json)
}

/// Listings to be added to SKUs, or changed.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Listings {
    /// At most 1,000.
    listings: Vec<Row>,
}

/// One listing of one SKU.
#[derive(Deserialize, Serialize, ToSchema)]
pub(super) struct Row {
    /// The SKU, created at zero if it is new.
    sku: String,
    channel: String,
    #[serde(flatten)]
    listed: Listed,
}

/// How many listings were taken.
#[derive(Serialize, ToSchema)]
pub(super) struct Taken {
    listings: usize,
}

/// Adds listings to SKUs, or changes them, all or none; what is not named stays. Order lines that waited
/// for one of them move by themselves.
#[utoipa::path(post, path = "/v1/listings", operation_id = "post_listings", tag = "mapping",
    params(("Idempotency-Key" = Option<String>, Header, description = "Yours, up to 256 characters")),
    request_body = Listings,
    responses((status = 200, body = Taken), (status = 422, body = Problem)))]
pub(super) async fn post(
    State(admin): State<Admin>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Taken>, Problem> {
    let asked: Listings = body.json()?;
    if asked.listings.len() > LISTING_ROWS_MAX {
        let why = format!("listings: {LISTING_ROWS_MAX} at the most in one request");
        return Err(Problem::unprocessable("too_many", why));
    }
    for (n, row) in asked.listings.iter().enumerate() {
        check(&row.sku, [&row.listed])
            .map_err(|why| Problem::unprocessable("too_long", format!("listings[{n}]: {why}")))?;
    }
    let taken = Taken { listings: asked.listings.len() };
    let kinds: BTreeMap<String, String> = {
        let replica = admin.read();
        let channels = &replica.state().data().channels;
        channels.iter().map(|(name, known)| (name.clone(), known.definition.kind.clone())).collect()
    };
    let rows = asked.listings.into_iter().map(|Row { sku, channel, listed }| {
        let kind = kinds.get(&channel).map_or("", String::as_str);
        let spec = listed.spec(kind);
        (sku, channel, spec)
    });
    let change = Change::List(rows.collect());
    admin.change_once(&headers, &[b"listings", &body.0], change).await?;
    Ok(Json(taken))
}
