//! What the API shows of the state, as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use state::Data;
use state::allocation::Exposures;
use state::ledger::{Level, Movement};
use utoipa::{IntoParams, ToSchema};

use super::{PAGE_DEFAULT, PAGE_MAX, Problem};
use crate::channel::hex;
use crate::clock::{now_ms, rfc3339};
use crate::history::Hash;
use crate::poisson::float;

/// One page of a list.
#[derive(Serialize, ToSchema)]
pub(super) struct Page<T> {
    /// The items.
    pub(super) items: Vec<T>,
    /// To be sent as `cursor` for the next page; null at the end.
    pub(super) next: Option<String>,
}

/// Which page of a list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Paging {
    /// Items wanted: 100 if not given, 1000 at the most.
    limit: Option<usize>,
    /// `next` of the page before.
    pub(super) cursor: Option<String>,
}

impl Paging {
    pub(super) fn limit(&self) -> usize {
        limit(self.limit)
    }
}

/// Items of a page for which so many were asked.
pub(super) fn limit(asked: Option<usize>) -> usize {
    asked.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX)
}

/// A log index and a number, as they stand in a cursor or an id.
pub(super) fn place<T: FromStr>(cursor: &str) -> Result<(u64, T), Problem> {
    let parts = cursor.split_once('.');
    let parts = parts.and_then(|(index, n)| Some((index.parse().ok()?, n.parse().ok()?)));
    parts.ok_or_else(|| Problem::bad_request("cursor: send `next` of the page before"))
}

/// The first `limit` places after one, in order, and whether there are more.
pub(super) fn first<'a, T: Ord>(
    places: impl Iterator<Item = &'a T>,
    after: Option<&T>,
    limit: usize,
) -> (Vec<&'a T>, bool) {
    let mut first: BTreeSet<&T> = BTreeSet::new();
    for place in places.filter(|place| after.is_none_or(|after| *place > after)) {
        if first.len() > limit && first.last().is_some_and(|last| place > *last) {
            continue;
        }
        first.insert(place);
        if first.len() > limit + 1 {
            first.pop_last();
        }
    }
    let more = first.len() > limit;
    (first.into_iter().take(limit).collect(), more)
}

/// Quantities of one SKU.
#[derive(Serialize, ToSchema)]
pub(super) struct Stock {
    sku: String,
    #[serde(flatten)]
    total: Quantities,
    /// The same by location.
    locations: BTreeMap<String, Quantities>,
    /// What of `escrowed` each region may still grant by itself, by location and node.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    quotas: BTreeMap<String, BTreeMap<u64, i64>>,
    /// What each channel may show, was told, and shows.
    channels: BTreeMap<String, Listing>,
    /// Units sold that are not there: available below zero, by location, summed.
    shortfall: i64,
    /// Units that may be sold as things stand and are not there: by how much what all channels may still sell is above
    /// what is available. Of a SKU that is shared it is the price of that.
    overlap: i64,
    as_of: AsOf,
}

/// Quantities, in whole units.
#[derive(Default, Serialize, ToSchema)]
pub(super) struct Quantities {
    on_hand: i64,
    committed: i64,
    reserved: i64,
    /// Set apart for regions to grant from by themselves, and not granted yet.
    escrowed: i64,
    incoming: i64,
    available: i64,
}

/// One SKU on one channel.
#[derive(Serialize, ToSchema)]
pub(super) struct Listing {
    allocated: i64,
    buffer: i64,
    available_to_sell: i64,
    desired: i64,
    sent: Option<i64>,
    confirmed: Option<i64>,
    observed: Option<i64>,
    /// What the channel shows, as far as was heard; null until it was observed once.
    shown: Option<i64>,
    /// Since when it shows something else than it should; null while it does not.
    stale_since: Option<String>,
    /// When it must show what it should, if it does not.
    deadline: Option<String>,
    /// The most that may still arrive from it as sales; null until it was observed.
    exposure: Option<i64>,
    /// What its share should be, where the SKU is split.
    target: Option<i64>,
    /// Units that it sells an hour, as measured last.
    velocity_per_hour: f64,
    /// Whether it was taken out of the SKU's listings: it is lowered to 0, and goes once nothing can be sold from it.
    leaves: bool,
    /// Why the channel takes no push, if it does not.
    fault: Option<String>,
    /// What it would have been told last, where the channel is in shadow.
    shadow: Option<i64>,
}

/// What a reading is worth.
#[derive(Serialize, ToSchema)]
pub(super) struct AsOf {
    /// Log index of the last command in this node's replica; of the past, of the newest movement that counts.
    index: u64,
    /// Agreed time of that command; of the past, the time that was asked for.
    time: String,
    /// How old the reading is: this node's clock less that time, in milliseconds, and not below zero. While
    /// nothing happens, nothing is agreed on, and it grows.
    age_ms: u64,
}

impl AsOf {
    pub(super) fn new(index: u64, time: u64) -> Self {
        Self { index, time: rfc3339(time), age_ms: now_ms().saturating_sub(time) }
    }
}

/// One line of the ledger.
#[derive(Serialize, ToSchema)]
pub(super) struct Line {
    index: u64,
    time: String,
    kind: &'static str,
    sku: String,
    quantity: i64,
    location: String,
    to_location: Option<String>,
    channel: Option<String>,
    /// The delivery that caused it, or the id of the request.
    delivery: String,
    reference: Option<String>,
    reason: Option<String>,
    occurred_at: Option<String>,
    /// The kit that was moved, of which this is a component.
    kit: Option<String>,
    /// On hand at the location, after it.
    on_hand: i64,
    /// Available at the location, after it.
    available: i64,
    /// Its place in the chain: SHA-256 over the hash before it and the line.
    hash: String,
}

impl Line {
    pub(super) fn sku(&self) -> &str {
        &self.sku
    }

    pub(super) fn new(index: u64, movement: Movement, hash: &Hash) -> Self {
        Self {
            index,
            time: rfc3339(movement.time),
            kind: movement.kind.name(),
            sku: movement.sku,
            quantity: movement.quantity,
            location: movement.location,
            to_location: movement.to_location,
            channel: movement.channel,
            delivery: movement.cause,
            reference: movement.reference,
            reason: movement.reason,
            occurred_at: movement.occurred.map(rfc3339),
            kit: movement.kit.map(|(sku, _)| sku),
            on_hand: movement.on_hand,
            available: movement.available,
            hash: hex(hash),
        }
    }
}

impl Quantities {
    /// What may still be sold.
    pub(super) const fn available(&self) -> i64 {
        self.available
    }

    /// Units sold that are not there.
    pub(super) fn shortfall(&self) -> i64 {
        (-self.available).max(0)
    }

    pub(super) fn of(level: &Level) -> Self {
        Self {
            on_hand: level.on_hand,
            committed: level.committed,
            reserved: level.reserved,
            escrowed: level.escrowed,
            incoming: level.incoming(),
            available: level.available(),
        }
    }

    const fn add(&mut self, other: &Self) {
        self.on_hand += other.on_hand;
        self.committed += other.committed;
        self.reserved += other.reserved;
        self.escrowed += other.escrowed;
        self.incoming += other.incoming;
        self.available += other.available;
    }
}

/// A SKU as a replica knows it that has come as far as `index`.
pub(super) fn stock(data: &Data, index: u64, sku: &str) -> Option<Stock> {
    let locations = quantities(data, sku)?;
    let mut total = Quantities::default();
    for quantities in locations.values() {
        total.add(quantities);
    }
    let mut exposures = Exposures::default();
    let listings = data.stock.get(sku)?.listings.iter();
    let channels = listings.filter_map(|(channel, known)| {
        let shown = listing(data, (channel, sku), known.get(), &mut exposures)?;
        Some((channel.to_string(), shown))
    });
    let channels = channels.collect();
    let shortfall = locations.values().map(Quantities::shortfall).sum();
    let as_of = AsOf::new(index, data.now);
    let quotas = quotas(data, sku);
    let overlap = data.overlap(sku);
    Some(Stock { sku: sku.into(), total, locations, quotas, channels, shortfall, overlap, as_of })
}

/// What is left of quotas, by location and node.
fn quotas(data: &Data, sku: &str) -> BTreeMap<String, BTreeMap<u64, i64>> {
    let mut found: BTreeMap<String, BTreeMap<u64, i64>> = BTreeMap::new();
    let shares = data.escrow.skus().get(sku);
    for (location, quotas) in shares.into_iter().flat_map(|shares| &shares.quotas) {
        for (holder, quota) in quotas.iter().filter(|(_, quota)| quota.left > 0) {
            let of_node = found.entry(location.to_string()).or_default();
            *of_node.entry(holder.node).or_default() += quota.left;
        }
    }
    found
}

/// Quantities of a SKU by location. A kit lies nowhere, and is available where its components are.
pub(super) fn quantities(data: &Data, sku: &str) -> Option<BTreeMap<String, Quantities>> {
    let own = data.stock.get(sku)?.levels.iter();
    let mut found: BTreeMap<String, Quantities> =
        own.map(|(location, level)| (location.to_string(), Quantities::of(level))).collect();
    if data.kits.components(sku).is_some() {
        for (part, _) in data.kits.parts(sku) {
            let Some(stock) = data.stock.get(part.as_str()) else { continue };
            for location in stock.levels.keys() {
                found.entry(location.to_string()).or_default();
            }
        }
        for (location, quantities) in &mut found {
            quantities.available = data.available(sku, location);
        }
    }
    Some(found)
}

fn listing(
    data: &Data,
    (channel, sku): (&str, &str),
    listing: state::listing::Listing,
    exposures: &mut Exposures,
) -> Option<Listing> {
    let allocation = data.allocation_of(channel, sku, &listing, exposures)?;
    let confirmed = listing.confirmed.map(|(quantity, _)| quantity);
    Some(Listing {
        allocated: allocation.allocated,
        buffer: allocation.buffer,
        available_to_sell: allocation.available_to_sell,
        desired: allocation.desired,
        sent: listing.in_flight.map(|push| push.quantity).or(confirmed),
        confirmed,
        observed: listing.observed.map(|(quantity, _)| quantity),
        shown: listing.shown,
        stale_since: listing.stale.map(|stale| rfc3339(stale.since)),
        deadline: listing.stale.map(|stale| rfc3339(stale.deadline)),
        exposure: listing.exposure(data.now),
        target: data.target(channel, sku),
        velocity_per_hour: float(listing.pace.velocity) / 1e6,
        leaves: listing.leaves,
        fault: listing.fault,
        shadow: listing.shadow.map(|(quantity, _)| quantity),
    })
}
