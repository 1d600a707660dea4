//! `/v1/stock`: what is there.

use axum::extract::State;
use serde::Deserialize;
use state::allocation::matches;
use state::{Data, Id};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Json, Path, Query};
use super::view::{self, Line, Page, Paging, Quantities, Stock};
use super::{Admin, Problem, past};
use crate::history::History;
use crate::replica::Frozen;

/// How fresh a reading must be.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Consistency {
    /// What this node knows; `as_of` says how much that is.
    #[default]
    Local,
    /// Everything that the cluster had agreed on when the request came.
    Linearizable,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Reading {
    /// How fresh: `local` (the default) or `linearizable`.
    #[serde(default)]
    #[param(inline)]
    consistency: Consistency,
    /// The quantities as they were then: RFC 3339, a `+` written as `%2B`. Channels are left out; a kit is
    /// what it would have been by what it is made of today.
    at: Option<String>,
}

impl Reading {
    async fn wait(&self, admin: &Admin) -> Result<(), Problem> {
        match self.consistency {
            Consistency::Local => Ok(()),
            Consistency::Linearizable => admin.barrier().await,
        }
    }
}

/// One SKU: quantities by location, and what each channel shows. Of a kit: how often its components allow.
#[utoipa::path(get, path = "/v1/stock/{sku}", operation_id = "get_stock",
    tag = "stock", params(("sku" = String, Path), Reading),
    responses((status = 200, body = Stock), (status = 404, body = Problem),
        (status = 422, description = "`at` is no time, or has not come yet", body = Problem),
        (status = 503, body = Problem)))]
pub(super) async fn get(
    State(admin): State<Admin>,
    Path(sku): Path<String>,
    Query(reading): Query<Reading>,
) -> Result<Json<Stock>, Problem> {
    let at = reading.at.as_deref().map(past::moment).transpose()?;
    reading.wait(&admin).await?;
    let missing = Problem::missing(format!("there is no SKU {sku:?}"));
    let stock = if let Some(at) = at {
        admin.look(move |frozen, history| past::stock(frozen, history, &sku, at)).await?
    } else {
        let replica = admin.read();
        view::stock(replica.state().data(), replica.index(), &sku)
    };
    stock.map(Json).ok_or(missing)
}

/// Which SKUs. What is named must all be so.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// SKUs that match: `*` stands for any characters, `?` for one.
    sku: Option<String>,
    /// SKUs that are, were or are awaited there.
    location: Option<String>,
    /// SKUs of which less than this is available, at the location if one is named.
    below: Option<i64>,
    /// SKUs of which more was sold than is there, at the location if one is named.
    #[serde(default)]
    shortfall: bool,
    /// Items wanted: 100 if not given, 1000 at the most.
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
}

impl Wanted {
    fn takes(&self, data: &Data, sku: &str) -> bool {
        if !self.sku.as_deref().is_none_or(|glob| matches(glob, sku)) {
            return false;
        }
        if self.location.is_none() && self.below.is_none() && !self.shortfall {
            return true;
        }
        let Some(found) = view::quantities(data, sku) else { return false };
        let here: Vec<&Quantities> = match &self.location {
            Some(location) => found.get(location).into_iter().collect(),
            None => found.values().collect(),
        };
        let available: i64 = here.iter().map(|quantities| quantities.available()).sum();
        (self.location.is_none() || !here.is_empty())
            && self.below.is_none_or(|below| available < below)
            && (!self.shortfall || here.iter().any(|quantities| quantities.shortfall() > 0))
    }
}

/// All SKUs, or those that are asked for, by name.
#[utoipa::path(get, path = "/v1/stock", operation_id = "list_stock",
    tag = "stock", params(Wanted),
    responses((status = 200, body = Page<Stock>)))]
pub(super) async fn list(
    State(admin): State<Admin>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Page<Stock>>, Problem> {
    admin.look(move |frozen, _| Ok(page(frozen, &wanted))).await.map(Json)
}

fn page(frozen: &Frozen, wanted: &Wanted) -> Page<Stock> {
    let data = &frozen.data;
    let after = wanted.cursor.as_deref().map(Id::from);
    let skus = data.stock.iter().map(|(sku, _)| sku);
    // What was shown already need not be looked at closely.
    let skus = skus
        .filter(|sku| after.as_ref().is_none_or(|after| *sku > after) && wanted.takes(data, sku));
    let (skus, more) = view::first(skus, after.as_ref(), view::limit(wanted.limit));
    let next = skus.last().filter(|_| more).map(ToString::to_string);
    let items = skus.iter().filter_map(|sku| view::stock(data, frozen.index, sku)).collect();
    Page { items, next }
}

/// The lines of the ledger about one SKU, newest first.
#[utoipa::path(get, path = "/v1/stock/{sku}/movements", operation_id = "list_movements",
    tag = "stock", params(("sku" = String, Path), Paging),
    responses((status = 200, body = Page<Line>), (status = 404, body = Problem)))]
pub(super) async fn movements(
    State(admin): State<Admin>,
    Path(sku): Path<String>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<Line>>, Problem> {
    let newest = admin.read().state().data().stock.get(sku.as_str()).map(|stock| stock.newest);
    let newest = newest.ok_or_else(|| Problem::missing(format!("there is no SKU {sku:?}")))?;
    // A cursor is the entry to begin with, and how many of its lines were shown already.
    let (from, shown) = match paging.cursor.as_deref() {
        None => (newest, 0),
        Some(cursor) => view::place(cursor)?,
    };
    let limit = paging.limit();
    let read = move |_: &Frozen, history: &History| {
        let mut items = Vec::new();
        let (mut entry, mut seen) = (from, 0);
        for line in history.of_sku(&sku, from).skip(shown) {
            let (index, movement, hash) =
                line.map_err(|error| Problem::internal(error.to_string()))?;
            if index != entry {
                (entry, seen) = (index, 0);
            }
            if items.len() == limit {
                let already = if entry == from { shown + seen } else { seen };
                return Ok(Page { items, next: Some(format!("{entry}.{already}")) });
            }
            seen += 1;
            items.push(Line::new(index, movement, &hash));
        }
        Ok(Page { items, next: None })
    };
    admin.look(read).await.map(Json)
}
