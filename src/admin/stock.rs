//! `/v1/stock`: what is there.

use axum::extract::State;
use serde::Deserialize;
use state::allocation::matches;
use state::limits::NAME_LEN_MAX;
use state::{Data, Id};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Json, Path, Query};
use super::view::{self, Line, Page, Paging, Quantities, Stock};
use super::{Admin, Problem, past};
use crate::history::History;
use crate::replica::Frozen;

/// SKUs of which more than the name is looked at for one page. Whoever filters a million reads on by cursor.
const LOOKED_AT_MAX: usize = 50_000;

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
        (status = 422, description = "`at` is no time, has not come yet, or is too far back", body = Problem),
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
    /// What all SKUs begin with that the glob can match: telling that costs next to nothing.
    fn begins_with(&self) -> &str {
        let glob = self.sku.as_deref().unwrap_or_default();
        glob.split(['*', '?']).next().unwrap_or_default()
    }

    fn takes_any_quantity(&self) -> bool {
        self.location.is_none() && self.below.is_none() && !self.shortfall
    }

    fn takes_all(&self) -> bool {
        self.sku.is_none() && self.takes_any_quantity()
    }

    fn takes(&self, data: &Data, sku: &str) -> bool {
        if !self.sku.as_deref().is_none_or(|glob| matches(glob, sku)) {
            return false;
        }
        if self.takes_any_quantity() {
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

/// All SKUs, or those that are asked for, by name. A page may hold fewer than were asked for, or none, and
/// still have a next one.
#[utoipa::path(get, path = "/v1/stock", operation_id = "list_stock",
    tag = "stock", params(Wanted),
    responses((status = 200, body = Page<Stock>),
        (status = 422, description = "the glob is longer than any SKU", body = Problem)))]
pub(super) async fn list(
    State(admin): State<Admin>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Page<Stock>>, Problem> {
    if wanted.sku.as_ref().is_some_and(|glob| glob.len() > NAME_LEN_MAX) {
        let why = format!("sku: at most {NAME_LEN_MAX} bytes");
        return Err(Problem::unprocessable("too_long", why));
    }
    admin.look(move |frozen, _| Ok(page(frozen, &wanted, LOOKED_AT_MAX))).await.map(Json)
}

/// One page, for which at most so many SKUs are looked at closely.
fn page(frozen: &Frozen, wanted: &Wanted, most: usize) -> Page<Stock> {
    let (data, limit) = (&frozen.data, view::limit(wanted.limit));
    let after = wanted.cursor.as_deref().map(Id::from);
    let (skus, more) = {
        let (begins, all) = (wanted.begins_with(), wanted.takes_all());
        let skus = data.stock.iter().map(|(sku, _)| sku).filter(|sku| sku.starts_with(begins));
        view::first(skus, after.as_ref(), if all { limit } else { most })
    };
    let mut next = skus.last().filter(|_| more);
    let mut found: Vec<&&Id> = Vec::new();
    for sku in skus.iter().filter(|sku| wanted.takes(data, sku)) {
        if found.len() == limit {
            next = found.last().copied();
            break;
        }
        found.push(sku);
    }
    let next = next.map(ToString::to_string);
    let items = found.iter().filter_map(|sku| view::stock(data, frozen.index, sku)).collect();
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use state::command::{Command, SkuSettings};
    use state::{Stamp, State as Agreed};

    use super::*;

    fn walked(frozen: &Frozen, wanted: &mut Wanted, most: usize) -> (Vec<String>, usize) {
        let (mut found, mut pages) = (Vec::new(), 0);
        loop {
            let page = serde_json::to_value(page(frozen, wanted, most)).unwrap();
            let items = page.get("items").and_then(serde_json::Value::as_array).unwrap();
            let name = |item: &serde_json::Value| Some(item.get("sku")?.as_str()?.to_string());
            found.extend(items.iter().filter_map(name));
            pages += 1;
            wanted.cursor = page.get("next").and_then(|next| Some(next.as_str()?.into()));
            if wanted.cursor.is_none() {
                return (found, pages);
            }
        }
    }

    // Whoever asks again and again for what no SKU is would have the node look through all of them each time;
    // and where one page stops early, what lies behind it must not be left out.
    #[test]
    fn what_is_looked_at_for_a_page_is_bounded_and_nothing_is_left_out() {
        let mut state = Agreed::default();
        for n in 0..60_u64 {
            let sku = format!("{}-{n:02}", if n % 3 == 0 { "CUP" } else { "MUG" });
            let map = Command::Map { sku, settings: SkuSettings::default() };
            state.apply(Stamp { index: n + 1, now: 1 }, map);
        }
        let data = state.data().clone();
        let frozen = Frozen { data, chain: [0; 32], index: 60, restores: 0 };
        let all: Vec<String> = {
            let mut all: Vec<_> =
                frozen.data.stock.iter().map(|(sku, _)| sku.to_string()).collect();
            all.sort();
            all
        };
        for (glob, shortfall, pages) in [
            (None, false, 12),
            (Some("*-*"), false, 12),
            (Some("CUP-*"), false, 4),
            // Seven SKUs a page, of which none is: the last page ends with the last SKU.
            (Some("*-x"), false, 9),
            (None, true, 9),
            (Some("NONE*"), false, 1),
        ] {
            let mut wanted = Wanted {
                sku: glob.map(Into::into),
                location: None,
                below: None,
                shortfall,
                limit: Some(5),
                cursor: None,
            };
            let takes = |sku: &&String| !shortfall && glob.is_none_or(|glob| matches(glob, sku));
            let expected: Vec<String> = all.iter().filter(takes).cloned().collect();
            assert_eq!(walked(&frozen, &mut wanted, 7), (expected, pages), "{glob:?} {shortfall}");
        }
    }
}
