//! `/v1/stock`: what is there.

use axum::extract::State;
use serde::Deserialize;
use state::Id;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Json, Path, Query};
use super::view::{self, Line, Page, Paging, Stock};
use super::{Admin, Problem};
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
}

impl Reading {
    async fn wait(&self, admin: &Admin) -> Result<(), Problem> {
        match self.consistency {
            Consistency::Local => Ok(()),
            Consistency::Linearizable => admin.barrier().await,
        }
    }
}

/// One SKU: quantities by location, and what each channel shows.
#[utoipa::path(get, path = "/v1/stock/{sku}", operation_id = "get_stock",
    tag = "stock", params(("sku" = String, Path), Reading),
    responses((status = 200, body = Stock), (status = 404, body = Problem),
        (status = 503, body = Problem)))]
pub(super) async fn get(
    State(admin): State<Admin>,
    Path(sku): Path<String>,
    Query(reading): Query<Reading>,
) -> Result<Json<Stock>, Problem> {
    reading.wait(&admin).await?;
    let stock = {
        let replica = admin.read();
        view::stock(replica.state().data(), replica.index(), &sku)
    };
    stock.map(Json).ok_or_else(|| Problem::missing(format!("there is no SKU {sku:?}")))
}

/// All SKUs, by name.
#[utoipa::path(get, path = "/v1/stock", operation_id = "list_stock",
    tag = "stock", params(Paging),
    responses((status = 200, body = Page<Stock>)))]
pub(super) async fn list(
    State(admin): State<Admin>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<Stock>>, Problem> {
    let page = admin.look(move |frozen, _| Ok(page(frozen, &paging))).await?;
    Ok(Json(page))
}

fn page(frozen: &Frozen, paging: &Paging) -> Page<Stock> {
    let skus = frozen.data.stock.iter().map(|(sku, _)| sku);
    let after = paging.cursor.as_deref().map(Id::from);
    let (skus, more) = view::first(skus, after.as_ref(), paging.limit());
    let next = skus.last().filter(|_| more).map(ToString::to_string);
    let items =
        skus.iter().filter_map(|sku| view::stock(&frozen.data, frozen.index, sku)).collect();
    Page { items, next }
}

/// The lines of the ledger about one SKU, newest first.
#[utoipa::path(get, path = "/v1/stock/{sku}/movements", operation_id = "list_movements",
    tag = "stock",     params(("sku" = String, Path), Paging),
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
        Some(cursor) => parse_cursor(cursor)?,
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

fn parse_cursor(cursor: &str) -> Result<(u64, usize), Problem> {
    let parts = cursor
        .split_once('.')
        .and_then(|(entry, shown)| Some((entry.parse().ok()?, shown.parse().ok()?)));
    parts.ok_or_else(|| Problem::bad_request("cursor: send `next` of the page before"))
}
