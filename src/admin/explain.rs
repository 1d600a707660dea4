//! `/v1/explain`: how the number that a channel shows came about.

use axum::extract::State;
use serde::Serialize;
use state::Data;
use state::allocation::{Allocation, Mode, Other, Room};
use state::listing::Listing;
use state::policy::{Buffer, Policy, RISK_DEFAULT_PPM};
use utoipa::ToSchema;

use super::allocation::of_sku;
use super::extract::{Json, Path};
use super::view::{AsOf, Line, Quantities};
use super::{Admin, Problem};
use crate::clock::rfc3339;
use crate::config::{self, in_percent};
use crate::history::History;
use crate::poisson::float;
use crate::replica::Frozen;
use crate::velocity::lag_of;

/// Lines of the ledger that are shown.
const MOVEMENTS: usize = 10;

/// How a number came about.
#[derive(Serialize, ToSchema)]
pub(super) struct Explained {
    channel: String,
    sku: String,
    /// Where the channel draws from.
    location: String,
    /// Step by step, from what is there to what is shown.
    steps: Vec<Step>,
    /// Why it is not raised, if it should be and is not.
    not_raised: Option<String>,
    /// What is there of each SKU that one unit takes.
    parts: Vec<Part>,
    policy: Option<Matched>,
    /// Through which other listings the same stock can be sold.
    others: Vec<Exposed>,
    /// What the channel shows, as far as was heard.
    shown: Option<i64>,
    /// The quantity that was sent last.
    sent: Option<i64>,
    confirmed: Option<At>,
    observed: Option<At>,
    /// What the channel told by itself last, by its own clock.
    told: Option<At>,
    /// The most that may still arrive from it as sales.
    exposure: Option<i64>,
    stale_since: Option<String>,
    deadline: Option<String>,
    fault: Option<String>,
    /// Units that it sells an hour, as measured last.
    velocity_per_hour: f64,
    /// When that was measured; null before the first time.
    measured_at: Option<String>,
    /// Units that it sold, since it was mapped.
    sold: u64,
    /// In 99 of 100 cases the channel has heard of a change after so long.
    lag_ms: u64,
    /// Whether that was measured; before it was, it is what is promised for a sale.
    lag_measured: bool,
    /// The newest lines of the ledger about what it takes out of stock, newest first.
    movements: Vec<Line>,
    as_of: AsOf,
}

/// One step.
#[derive(Serialize, ToSchema)]
pub(super) struct Step {
    what: &'static str,
    units: Option<i64>,
    why: String,
}

/// One SKU that is taken out of stock.
#[derive(Serialize, ToSchema)]
pub(super) struct Part {
    sku: String,
    /// Units of it that one unit takes.
    each: i64,
    #[serde(flatten)]
    quantities: Quantities,
}

/// The policy that counts.
#[derive(Serialize, ToSchema)]
pub(super) struct Matched {
    /// Its place among the policies, from 0.
    place: usize,
    /// Log index at which the policies were put.
    version: u64,
    policy: config::Policy,
}

/// Another listing of the same stock.
#[derive(Serialize, ToSchema)]
pub(super) struct Exposed {
    sku: String,
    channel: String,
    /// Units of the stock that one of it takes.
    each: i64,
    /// Units of it that may still be sold; null while nobody can know.
    exposure: Option<i64>,
}

/// A quantity and when it was so.
#[derive(Serialize, ToSchema)]
pub(super) struct At {
    quantity: i64,
    time: String,
}

/// The sum behind what one channel shows of one SKU: what is there, the share of it, the buffer, what may still be
/// sold elsewhere, and what was sent and confirmed.
#[utoipa::path(get, path = "/v1/explain/{channel}/{sku}", operation_id = "explain",
    tag = "channels", params(("channel" = String, Path), ("sku" = String, Path)),
    responses((status = 200, body = Explained), (status = 404, body = Problem)))]
pub(super) async fn explain(
    State(admin): State<Admin>,
    Path((channel, sku)): Path<(String, String)>,
) -> Result<Json<Explained>, Problem> {
    let explained = admin.look(move |frozen, history| of(frozen, history, &channel, &sku)).await?;
    Ok(Json(explained))
}

fn of(frozen: &Frozen, history: &History, channel: &str, sku: &str) -> Result<Explained, Problem> {
    let data = &frozen.data;
    let stock = data.stock.get(sku);
    let stock = stock.ok_or_else(|| Problem::missing(format!("there is no SKU {sku:?}")))?;
    let known = data.channels.get(channel);
    let known =
        known.ok_or_else(|| Problem::missing(format!("there is no channel {channel:?}")))?;
    let unlisted = || Problem::missing(format!("{sku:?} has no listing at {channel}"));
    let listing = stock.listings.get(channel).ok_or_else(unlisted)?.get();
    let allocation = data.allocation(channel, sku).ok_or_else(unlisted)?;
    let location = known.definition.location.as_str();
    let parts = data.kits.parts(sku);
    let mut others: Vec<Other> = Vec::new();
    for (part, _) in &parts {
        others.extend(data.others(part, location, Some((sku, channel))));
    }
    let about = About { data, channel, sku, location, listing: &listing, allocation };
    let at = |(quantity, time): (i64, u64)| At { quantity, time: rfc3339(time) };
    let (lag_ms, lag_measured) = lag_of(data, channel);
    Ok(Explained {
        steps: about.steps(),
        not_raised: about.not_raised(&others),
        parts: parts.iter().map(|(part, each)| about.part(part, *each)).collect(),
        policy: of_sku(data, sku).map(|(place, policy)| Matched {
            place,
            version: data.policies_version,
            policy: policy.into(),
        }),
        others: others.into_iter().map(Into::into).collect(),
        shown: listing.shown,
        sent: listing.in_flight.map(|push| push.quantity).or(listing.confirmed.map(|c| c.0)),
        confirmed: listing.confirmed.map(at),
        observed: listing.observed.map(at),
        told: listing.told.map(at),
        exposure: listing.exposure(data.now),
        stale_since: listing.stale.map(|stale| rfc3339(stale.since)),
        deadline: listing.stale.map(|stale| rfc3339(stale.deadline)),
        velocity_per_hour: float(listing.pace.velocity) / 1e6,
        measured_at: (listing.pace.at > 0).then(|| rfc3339(listing.pace.at)),
        sold: listing.pace.sold,
        lag_ms,
        lag_measured,
        movements: movements(data, history, parts.iter().map(|(part, _)| part.as_str()))?,
        as_of: AsOf::new(frozen.index, data.now),
        location: location.into(),
        channel: channel.into(),
        sku: sku.into(),
        fault: listing.fault,
    })
}

/// The newest lines about some SKUs.
fn movements<'a>(
    data: &Data,
    history: &History,
    skus: impl Iterator<Item = &'a str>,
) -> Result<Vec<Line>, Problem> {
    let mut found = Vec::new();
    for sku in skus {
        let newest = data.stock.get(sku).map_or(0, |stock| stock.newest);
        for line in history.of_sku(sku, newest).take(MOVEMENTS) {
            found.push(line.map_err(|error| Problem::internal(error.to_string()))?);
        }
    }
    found.sort_by_key(|(index, ..)| std::cmp::Reverse(*index));
    found.truncate(MOVEMENTS);
    Ok(found.into_iter().map(|(index, movement, hash)| Line::new(index, movement, &hash)).collect())
}

impl From<Other> for Exposed {
    fn from(other: Other) -> Self {
        let Other { sku, channel, each, exposure } = other;
        Self { sku: sku.to_string(), channel: channel.to_string(), each, exposure }
    }
}

/// What is explained.
struct About<'a> {
    data: &'a Data,
    channel: &'a str,
    sku: &'a str,
    location: &'a str,
    listing: &'a Listing,
    allocation: Allocation,
}

impl About<'_> {
    fn part(&self, part: &str, each: i64) -> Part {
        let levels = self.data.stock.get(part).map(|stock| &stock.levels);
        let level = levels.and_then(|levels| levels.get(self.location));
        let quantities = level.map(Quantities::of).unwrap_or_default();
        Part { sku: part.into(), each, quantities }
    }

    fn steps(&self) -> Vec<Step> {
        let Self { data, channel, sku, location, listing, allocation } = self;
        let policy = of_sku(data, sku).map(|(_, policy)| policy);
        let kit = data.kits.components(sku).is_some();
        let mut steps = Vec::new();
        let mut step = |what, units, why: String| steps.push(Step { what, units, why });
        let why = if kit {
            "as often as the scarcest component allows"
        } else {
            "less what is sold, held"
        };
        let available = data.available(sku, location);
        step("available", Some(available), format!("at {location}, {why}"));
        match policy.filter(|policy| policy.mode == Mode::Split) {
            Some(_) => {
                let target = data.target(channel, sku);
                step("target", target, "its part of that by the policy's weights".into());
                let moved = "its share: what it was allotted and has not sold";
                step("allocated", Some(allocation.allocated), moved.into());
            }
            None => step(
                "allocated",
                Some(allocation.allocated),
                "shared: all that is available".into(),
            ),
        }
        let buffer =
            policy.map_or_else(|| "no policy matches".into(), |policy| self.buffer(policy));
        step("buffer", Some(allocation.buffer), buffer);
        let bounds = policy.map(|policy| self.bounds(policy)).unwrap_or_default();
        step("available_to_sell", Some(allocation.available_to_sell), bounds);
        let now = data.now;
        let unheard = "missing on the channel: sales that are on their way";
        step("unheard", Some(listing.unheard(now)), unheard.into());
        let unresolved = "may have been added there by pushes without an answer";
        step("unresolved", Some(listing.unresolved(now)), unresolved.into());
        step("wanted", Some(allocation.wanted), "available to sell, less unheard".into());
        let (room, why) = match allocation.room {
            Room::Open => (None, "no raise is wanted, or nothing stands against it"),
            Room::Unknown => (None, "another listing of the same stock was never read"),
            Room::To(room) => (Some(room), "available, less what may still be sold elsewhere"),
            Room::Left(room) => {
                (Some(room), "what its components' own listings leave of them to kits")
            }
        };
        step("room", room, why.into());
        step("desired", Some(allocation.desired), "what it should show now".into());
        steps
    }

    fn buffer(&self, policy: &Policy) -> String {
        let Self { data, channel, listing, .. } = self;
        match policy.buffers.of(channel) {
            None => "the policy names none".into(),
            Some(Buffer::Units(_)) => "fixed by the policy".into(),
            Some(Buffer::Part(part)) => format!("{} of the share, rounded up", in_percent(part)),
            Some(Buffer::Auto) if listing.pace.at == 0 => {
                "auto: nothing was measured yet, so nothing is held back".into()
            }
            Some(Buffer::Auto) => {
                let (lag, measured) = lag_of(data, channel);
                let how = if measured { "measured" } else { "promised, not measured yet" };
                let risk = in_percent(policy.risk.unwrap_or(RISK_DEFAULT_PPM));
                let whose =
                    if policy.mode == Mode::Split { "it sells" } else { "other channels sell" };
                format!(
                    "auto: the least that {whose} more than with a chance of {risk} at the most, while a change \
                     takes {lag} ms to get there ({how})"
                )
            }
        }
    }

    fn bounds(&self, policy: &Policy) -> String {
        let Self { data, channel, allocation, .. } = self;
        if data.channels.get(*channel).is_some_and(|known| known.leaving.is_some()) {
            return "0, since the channel is being removed".into();
        }
        if self.listing.leaves {
            return "0, since it is no listing of the SKU any more".into();
        }
        let mut why = vec![String::from("allocated, less the buffer")];
        let shown = allocation.available_to_sell;
        if allocation.buffer > allocation.allocated {
            why.push("the buffer is larger than the share".into());
        }
        for (name, bound) in [("at least", &policy.min), ("at the most", &policy.max)] {
            if let Some(bound) = bound.of(channel).filter(|bound| *bound == shown) {
                why.push(format!("{name} {bound}"));
            }
        }
        if let Some(end) = policy.end_at.of(channel).filter(|_| shown == 0) {
            why.push(format!("the listing ends at {end} or less"));
        }
        why.join("; ")
    }

    /// Why the channel does not show what it is wanted to, if that is more.
    fn not_raised(&self, others: &[Other]) -> Option<String> {
        let Self { data, channel, listing, allocation, .. } = self;
        let shown = listing.shown.unwrap_or(0).max(0);
        if allocation.wanted <= shown {
            return None;
        }
        let known = data.channels.get(*channel)?;
        if let Some(fault) = &listing.fault {
            return Some(format!(
                "the channel takes no push until the mapping is set or a push is asked for: {fault}"
            ));
        }
        if !known.definition.pushes {
            return Some("nothing is pushed to this channel".into());
        }
        if known.definition.shadow {
            let desired = allocation.desired;
            return Some(format!(
                "the channel is in shadow: it would be told {desired}, and is not"
            ));
        }
        if let Some(paused) = known.paused.as_ref().filter(|_| known.is_paused(data.now)) {
            return Some(format!("the channel is paused: {}", paused.why));
        }
        let (bound, spent) = (known.definition.per_day, known.spent(data.now));
        if bound > 0 && spent >= bound {
            return Some(format!("the {bound} calls of today are used up"));
        }
        if known.owner.is_none() {
            return Some("no node pushes to it yet".into());
        }
        if listing.shown.is_none() {
            return Some("it was never read, which comes first".into());
        }
        if listing.unsure {
            return Some("what it shows is not certain; it is read back first".into());
        }
        if let Some(push) = listing.in_flight {
            return Some(format!("a push of {} has no answer yet", push.quantity));
        }
        let name = |other: &Other| {
            let Other { sku, channel, .. } = other;
            if sku == self.sku { channel.to_string() } else { format!("{channel} ({sku})") }
        };
        match allocation.room {
            Room::Unknown => {
                let never: Vec<String> =
                    others.iter().filter(|o| o.exposure.is_none()).map(name).collect();
                Some(format!("nobody knows what may be sold at {}: never read", never.join(", ")))
            }
            Room::To(room) if room <= shown => {
                let sold = others.iter().filter(|other| other.exposure.unwrap_or(0) > 0);
                let sold =
                    sold.map(|other| format!("{} at {}", other.exposure.unwrap_or(0), name(other)));
                let sold: Vec<String> = sold.collect();
                Some(format!(
                    "what may still be sold elsewhere leaves room for {} in all: {}; it waits until they show less \
                     and have confirmed it",
                    room.max(0),
                    sold.join(", ")
                ))
            }
            _ => Some("it is due, and waits for its turn".into()),
        }
    }
}
