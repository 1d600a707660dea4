//! `/v1/deliveries/{id}`: the passport of a delivery, from its receipt to the channels that show it.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use serde::Serialize;
use state::listing::Listing;
use state::{Data, Key};
use utoipa::ToSchema;

use super::extract::{Json, Path};
use super::view::Line;
use super::{Admin, Problem};
use crate::channel;
use crate::clock::rfc3339;
use crate::history::{Error, History};
use crate::replica::Frozen;

/// Where a delivery has come to. Times are null until it has.
#[derive(Serialize, ToSchema)]
pub(super) struct Passport {
    id: String,
    /// When it was received, by the clock of the node that did.
    received: String,
    /// When it was on that node's disk, synced, by the same clock.
    durable: String,
    /// When the cluster agreed on it: the time of its log entry.
    committed: Option<String>,
    /// When it took effect: the same agreed time, once this node's replica has come to it.
    applied: Option<String>,
    /// Log index of its entry.
    index: Option<u64>,
    /// Since when at the latest each channel that sells what it changed shows what came of it; null while one does not.
    /// A later push to the same listing moves the time.
    pushed: BTreeMap<String, Option<String>>,
    /// What it changed.
    movements: Vec<Line>,
    /// What of it could not be applied, or waits for a mapping.
    dead: Vec<Letter>,
}

/// A dead letter of a delivery.
#[derive(Serialize, ToSchema)]
pub(super) struct Letter {
    /// Its id among the dead letters.
    id: String,
    reason: String,
}

/// The passport of a delivery, for as long as its key is remembered (`dedup_window`). Until it is agreed on, only
/// the node that accepted it knows it.
#[utoipa::path(get, path = "/v1/deliveries/{id}", operation_id = "get_delivery",
    tag = "deliveries", params(("id" = String, Path)),
    responses((status = 200, body = Passport), (status = 404, body = Problem)))]
pub(super) async fn get(
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<Json<Passport>, Problem> {
    let key = channel::key(id.as_bytes());
    let inbox = admin.inbox.clone();
    let found = admin.look(move |frozen, history| {
        let agreed = agreed(frozen, history, &key, &id).map_err(|error| failed(&error))?;
        if let Some(passport) = agreed {
            return Ok(Some(passport));
        }
        let waits = inbox.find(&key).map_err(|error| failed(&error))?;
        Ok(waits.map(|(received, durable)| Passport {
            id,
            received: rfc3339(received),
            durable: rfc3339(durable),
            committed: None,
            applied: None,
            index: None,
            pushed: BTreeMap::new(),
            movements: Vec::new(),
            dead: Vec::new(),
        }))
    });
    let missing = || Problem::missing("this node knows no such delivery, or no more".into());
    found.await?.map(Json).ok_or_else(missing)
}

fn failed(error: &impl ToString) -> Problem {
    Problem::internal(error.to_string())
}

fn agreed(
    frozen: &Frozen,
    history: &History,
    key: &Key,
    id: &str,
) -> Result<Option<Passport>, Error> {
    let data = &frozen.data;
    let Some(seen) = data.seen.get(key) else { return Ok(None) };
    let arrivals = history.arrivals(seen.index)?;
    let of_entry = arrivals.as_ref().and_then(|arrivals| {
        let (_, received) = arrivals.received.iter().find(|(known, _)| known == key)?;
        Some((*received, arrivals.durable_ms))
    });
    let (received, durable) = of_entry.unwrap_or((seen.time, seen.time));
    let lines = history.lines(seen.index)?.map(|lines| lines.0).unwrap_or_default();
    let lines = lines.into_iter().filter(|(movement, _)| movement.cause == id);
    let movements: Vec<Line> =
        lines.map(|(movement, hash)| Line::new(seen.index, movement, &hash)).collect();
    let letters = data.dead.entries().iter().filter(|(_, letter)| letter.delivery == id);
    let dead = letters.map(|((index, n), letter)| Letter {
        id: format!("{index}.{n}"),
        reason: letter.reason.clone(),
    });
    let committed = Some(rfc3339(seen.time));
    Ok(Some(Passport {
        id: id.into(),
        received: rfc3339(received),
        durable: rfc3339(durable),
        committed: committed.clone(),
        applied: committed,
        index: Some(seen.index),
        pushed: pushed(data, movements.iter().map(Line::sku), seen.time),
        movements,
        dead: dead.collect(),
    }))
}

/// Since when the channels show what changed at a time.
fn pushed<'a>(
    data: &Data,
    skus: impl Iterator<Item = &'a str>,
    changed: u64,
) -> BTreeMap<String, Option<String>> {
    let skus: BTreeSet<&str> = skus.collect();
    let concerned: BTreeSet<String> = skus
        .iter()
        .flat_map(|sku| data.kits.related(sku).into_iter().chain([(*sku).to_string()]))
        .collect();
    let mut all: BTreeMap<String, Option<u64>> = BTreeMap::new();
    for sku in &concerned {
        let listings = data.stock.get(sku.as_str()).map(|stock| &stock.listings);
        for (name, listing) in listings.into_iter().flatten() {
            let pushes = data.channels.get(name.as_str()).is_some_and(|c| {
                let definition = &c.definition;
                definition.pushes && !definition.shadow
            });
            if pushes {
                let since = shown_since(&listing.get(), changed);
                let known = all.entry(name.to_string()).or_insert(Some(changed));
                *known = known.zip(since).map(|(known, since)| known.max(since));
            }
        }
    }
    all.into_iter().map(|(name, since)| (name, since.map(rfc3339))).collect()
}

/// Since when a listing shows what changed at a time. One that was right by itself, as where the sale was, shows it
/// from then on.
fn shown_since(listing: &Listing, changed: u64) -> Option<u64> {
    let owed = listing.stale.or(listing.in_flight.map(|push| push.stale));
    if listing.fault.is_some() || owed.is_some_and(|stale| stale.since <= changed) {
        return None;
    }
    Some(listing.confirmed.map_or(changed, |(_, time)| time.max(changed)))
}
