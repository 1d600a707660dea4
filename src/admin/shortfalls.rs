//! `/v1/shortfalls`: what was sold and is not there, and who waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use axum::extract::State;
use serde::Serialize;
use state::Data;
use state::kits::Parts;
use state::ledger::{Kind, Movement};
use state::notices::shortfalls;
use state::order::Line;
use utoipa::ToSchema;

use super::extract::{Json, Query};
use super::view::{Page, Paging};
use super::{Admin, Problem};
use crate::clock::rfc3339;
use crate::history::{Error, History};
use crate::replica::Frozen;

/// Lines of the ledger that are read of one SKU; what they do not explain stays untraced.
const LINES_MAX: usize = 10_000;
/// Lines after which a page ends.
const PAGE_LINES_MAX: usize = 50_000;

/// Units that are missing at one location.
#[derive(Serialize, ToSchema)]
pub(super) struct Shortfall {
    sku: String,
    location: String,
    /// Units that are missing: sold or held, and not there.
    units: i64,
    /// Who waits for them: the newest sales of which something is still owed, newest first.
    orders: Vec<Waiting>,
    /// Units that no sale is known for, as after a correction below zero, or that are owed for longer than
    /// was read back.
    untraced: i64,
}

/// An order, a sale through the API or a reservation that waits for units.
#[derive(Serialize, ToSchema)]
pub(super) struct Waiting {
    channel: Option<String>,
    /// The channel's id of the order.
    order: Option<String>,
    /// The channel's id of its line.
    line: Option<String>,
    /// The reservation's id, if the units are held.
    reservation: Option<String>,
    reference: Option<String>,
    /// The delivery that brought it, or the id of the request.
    delivery: String,
    /// Units that are owed.
    quantity: i64,
    /// Of them, those that are missing.
    missing: i64,
    /// When that was agreed on.
    time: String,
}

/// Where more was sold than is there, by SKU and location, with the orders that caused it. An entry goes
/// away by itself when stock arrives or the orders do.
#[utoipa::path(get, path = "/v1/shortfalls", operation_id = "list_shortfalls",
    tag = "stock", params(Paging),
    responses((status = 200, body = Page<Shortfall>)))]
pub(super) async fn list(
    State(admin): State<Admin>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<Shortfall>>, Problem> {
    let limit = paging.limit();
    let skus: Vec<String> = {
        let after = paging.cursor.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let replica = admin.read();
        let short = replica.state().short().range::<str, _>((after, Bound::Unbounded));
        short.take(limit + 1).map(ToString::to_string).collect()
    };
    let page = admin.look(move |frozen, history| {
        let page = page(frozen, history, &skus, limit);
        page.map_err(|error| Problem::internal(error.to_string()))
    });
    page.await.map(Json)
}

fn page(
    frozen: &Frozen,
    history: &History,
    skus: &[String],
    limit: usize,
) -> Result<Page<Shortfall>, Error> {
    let (mut items, mut lines, mut next) = (Vec::new(), 0, None);
    for (n, sku) in skus.iter().enumerate() {
        if n == limit || lines >= PAGE_LINES_MAX {
            return Ok(Page { items, next });
        }
        let mut search = Search::new(&frozen.data, sku);
        lines += search.run(history)?;
        items.extend(search.found.into_values());
        next = Some(sku.clone());
    }
    Ok(Page { items, next: None })
}

/// A walk back through the lines of one SKU, in search of what is still owed.
struct Search<'a> {
    data: &'a Data,
    sku: &'a str,
    found: BTreeMap<String, Shortfall>,
    /// Order lines and reservations that were met already, each with all that it is owed: location, and
    /// channel with reference or the reservation's id.
    met: BTreeSet<(String, Option<String>, String)>,
    /// Units that were shipped or cancelled through the API since, by location, channel and reference.
    settled: BTreeMap<(String, Option<String>, Option<String>), i64>,
}

impl<'a> Search<'a> {
    fn new(data: &'a Data, sku: &'a str) -> Self {
        let short = data.stock.get(sku).map(|stock| shortfalls(stock)).unwrap_or_default();
        let found = short.into_iter().map(|(location, units)| {
            let (sku, location, orders) = (sku.to_string(), location.to_string(), Vec::new());
            (location.clone(), Shortfall { sku, location, units, orders, untraced: units })
        });
        let (met, settled) = (BTreeSet::new(), BTreeMap::new());
        Self { data, sku, found: found.collect(), met, settled }
    }

    /// Looks until every missing unit is named, within bounds; how many lines that took.
    fn run(&mut self, history: &History) -> Result<usize, Error> {
        let newest = self.data.stock.get(self.sku).map_or(0, |stock| stock.newest);
        let mut read = 0;
        for line in history.of_sku(self.sku, newest).take(LINES_MAX) {
            if self.found.values().all(|found| found.untraced == 0) {
                break;
            }
            read += 1;
            let (_, movement, _) = line?;
            let waiting = self.waiting(&movement);
            if let (Some(found), Some(mut waiting)) =
                (self.found.get_mut(&movement.location), waiting)
            {
                waiting.missing = waiting.quantity.min(found.untraced);
                found.untraced -= waiting.missing;
                if waiting.missing > 0 {
                    found.orders.push(waiting);
                }
            }
        }
        Ok(read)
    }

    /// Who waits for what a line moved, and for how much.
    fn waiting(&mut self, movement: &Movement) -> Option<Waiting> {
        let Movement { location, channel, reference, cause, .. } = movement;
        let mut waiting = Waiting {
            channel: channel.clone(),
            order: None,
            line: None,
            reservation: None,
            reference: reference.clone(),
            delivery: cause.clone(),
            quantity: 0,
            missing: 0,
            time: rfc3339(movement.time),
        };
        let order = order_line(self.data, movement);
        let place = || (location.clone(), channel.clone(), reference.clone());
        match (movement.kind, order) {
            (Kind::Sale, Some((order, id, line))) => {
                let met = (location.clone(), channel.clone(), reference.clone()?);
                (waiting.order, waiting.line) = (Some(order.into()), Some(id.into()));
                let units = line.moved.net().0 * self.each(line.sku.as_deref(), &line.parts);
                waiting.quantity = if self.met.insert(met) { units } else { 0 };
            }
            (Kind::Sale, None) => {
                let settled = self.settled.entry(place()).or_default();
                let of_it = movement.quantity.min(*settled);
                *settled -= of_it;
                waiting.quantity = movement.quantity - of_it;
            }
            (Kind::Cancellation | Kind::Fulfilment, None) => {
                *self.settled.entry(place()).or_default() += movement.quantity;
            }
            (Kind::Hold, _) => {
                let known = self.data.reservations.get(cause)?;
                let here = known.lines.iter().filter(|line| line.location == *location);
                let units = here.map(|line| line.held * self.each(Some(&line.sku), &line.parts));
                let units = units.sum();
                waiting.reservation = Some(cause.clone());
                let met = (location.clone(), None, cause.clone());
                waiting.quantity = if self.met.insert(met) { units } else { 0 };
            }
            _ => {}
        }
        (waiting.quantity > 0).then_some(waiting)
    }

    /// What one unit of a sold SKU takes of this one.
    fn each(&self, sold: Option<&str>, parts: &Parts) -> i64 {
        if parts.is_empty() {
            return i64::from(sold == Some(self.sku));
        }
        parts.iter().find(|(part, _)| part == self.sku).map_or(0, |(_, units)| *units)
    }
}

/// The order line that a movement was booked for: its reference is the order's id and the line's.
fn order_line<'a>(data: &Data, movement: &'a Movement) -> Option<(&'a str, &'a str, Line)> {
    let (channel, reference) = (movement.channel.as_ref()?, movement.reference.as_deref()?);
    // Either id may have a slash in it.
    reference.match_indices('/').find_map(|(at, slash)| {
        let (order, id) = reference.split_at(at);
        let id = id.strip_prefix(slash)?;
        let mut known = data.orders.get(&(channel.into(), order.into()))?.get();
        Some((order, id, known.lines.remove(id)?))
    })
}
