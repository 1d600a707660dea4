//! `/v1/channels`.

use std::collections::BTreeMap;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use state::Command;
use state::channel::Definition;
use state::limits::{DEDUP_WINDOW_MAX_MS, MINUTE_MS, NAME_LEN_MAX};
use utoipa::ToSchema;

use super::extract::{Json, Path, Query};
use super::view::{Page, Paging};
use super::{Admin, Problem};
use crate::channel::target;
use crate::clock::rfc3339;
use crate::config::{CHANNEL_NAME_RULE, is_channel_name, unknown_kind};
use crate::measures::{Breaker, Window};
use crate::replica::Replica;

/// A channel without its secrets, and how it is doing.
#[derive(Serialize, ToSchema)]
pub(super) struct Channel {
    name: String,
    #[serde(flatten)]
    definition: Defined,
    /// The node that pushes to it.
    owner: Option<u64>,
    /// Listings that wait to be pushed.
    backlog: usize,
    /// Pushes without an answer yet.
    in_flight: usize,
    /// Of the listings that wait, those that a sale made wait.
    urgent: usize,
    /// When the first of them must be shown.
    next_deadline: Option<String>,
    /// Listings for which it takes no push: see `…/failures`.
    failing: usize,
    /// Set while nothing is pushed to it.
    paused: Option<Paused>,
    /// When it took a quantity last; null before the first.
    last_push: Option<String>,
    rate: CallRate,
    /// Calls made today, as far as they were told of.
    calls_today: u64,
    /// `closed`, `half-open` or `open`: whether it is called; null where another node does that.
    breaker: Option<&'static str>,
    /// Quantities that the channel took, since this node started.
    pushed: u64,
    /// From the receipt of a change to its confirmation, since this node started.
    window: Windows,
    /// In 99 of 100 cases it has heard of a change after so long, as its owner measured and all agreed; null before
    /// that. `auto` buffers are computed from it.
    lag_ms: Option<u64>,
    /// Set while it is being removed: listings that it still has.
    listings_left: Option<u64>,
    /// The same by class of change: `sale`, `return`, `adjustment`.
    classes: BTreeMap<&'static str, Windows>,
}

/// Why nothing is pushed to a channel.
#[derive(Serialize, ToSchema)]
pub(super) struct Paused {
    since: String,
    /// When it is tried again by itself; null if somebody must resume it.
    until: Option<String>,
    why: String,
}

/// Calls to a channel's API that set or read quantities.
#[derive(Serialize, ToSchema)]
pub(super) struct CallRate {
    /// In the long run.
    per_second: f64,
    /// At once after a pause.
    burst: u64,
    /// That may be made now, 0 while the channel wants to be left alone; null where another node pushes to it.
    available: Option<f64>,
}

/// Consistency windows, in milliseconds.
#[derive(Serialize, ToSchema)]
pub(super) struct Windows {
    count: u64,
    p50_ms: u64,
    p99_ms: u64,
    max_ms: u64,
    /// The share that was confirmed by its deadline, 0 to 1; null before the first.
    in_time: Option<f64>,
}

/// What a channel is.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a question of its own")]
pub(super) struct Defined {
    kind: String,
    location: String,
    home: Option<u64>,
    /// Whether quantities are pushed to it.
    pushes: bool,
    /// Whether its orders can be fetched.
    #[serde(default)]
    fetches: bool,
    dedup_window_ms: u64,
    /// Thousandths of a call a second.
    rate_milli: u64,
    burst: u64,
    /// Calls a day, from midnight UTC; 0 where there is no such bound.
    #[serde(default)]
    per_day: u64,
    /// Whether it takes a quantity only in place of the one that it is believed to show: follows from its kind.
    #[serde(default)]
    compares: bool,
    /// Whether what would be pushed is only shown: nothing is sent.
    #[serde(default)]
    shadow: bool,
    /// Settings of its kind that are no secrets.
    #[serde(default)]
    settings: BTreeMap<String, String>,
}

impl Defined {
    /// The same rules as a config's.
    fn check(&self) -> Result<(), String> {
        if let Some(why) = unknown_kind(&self.kind) {
            return Err(why);
        }
        if !(1..=NAME_LEN_MAX).contains(&self.location.len()) {
            return Err(format!("location: between 1 and {NAME_LEN_MAX} bytes"));
        }
        for (name, wanted, can) in [
            ("pushes", self.pushes, target::is_pushed(&self.kind)),
            ("fetches", self.fetches, self.kind != "generic"),
        ] {
            if wanted && !can {
                return Err(format!("{name}: kind {:?} has no API for it", self.kind));
            }
        }
        if self.rate_milli == 0 {
            return Err("rate_milli: 1 or more".into());
        }
        if self.burst == 0 {
            return Err("burst: 1 or more".into());
        }
        if !(MINUTE_MS..=DEDUP_WINDOW_MAX_MS).contains(&self.dedup_window_ms) {
            return Err("dedup_window_ms: between a minute and 90 days".into());
        }
        Ok(())
    }
}

impl From<Definition> for Defined {
    fn from(d: Definition) -> Self {
        let Definition {
            kind,
            location,
            home,
            pushes,
            fetches,
            dedup_window_ms,
            rate_milli,
            burst,
            per_day,
            compares,
            shadow,
            settings,
        } = d;
        Self {
            kind,
            location,
            home,
            pushes,
            fetches,
            dedup_window_ms,
            rate_milli,
            burst,
            per_day,
            compares,
            shadow,
            settings,
        }
    }
}

impl From<Defined> for Definition {
    fn from(d: Defined) -> Self {
        let compares = target::compares(&d.kind);
        let Defined {
            kind,
            location,
            home,
            pushes,
            fetches,
            dedup_window_ms,
            rate_milli,
            burst,
            per_day,
            compares: _,
            shadow,
            settings,
        } = d;
        Self {
            kind,
            location,
            home,
            pushes,
            fetches,
            dedup_window_ms,
            rate_milli,
            burst,
            per_day,
            compares,
            shadow,
            settings,
        }
    }
}

pub(super) fn view(admin: &Admin, replica: &Replica, name: &str) -> Option<Channel> {
    let channel = replica.state().data().channels.get(name)?;
    let window = Windows::of(&admin.measures.window(name));
    let classes = admin.measures.windows(name).into_iter();
    let state = replica.state();
    let now = state.data().now;
    let paused = channel.paused.as_ref().filter(|_| channel.is_paused(now));
    let next = state.due().of(name).next().map(|(deadline, _)| deadline);
    Some(Channel {
        name: name.into(),
        definition: channel.definition.clone().into(),
        owner: channel.owner.map(|owner| owner.node),
        backlog: state.due().count(name),
        in_flight: state.flights().count(name),
        urgent: state.urgent().count(name),
        next_deadline: next.map(rfc3339),
        failing: state.failures().count(name),
        paused: paused.map(|paused| Paused {
            since: rfc3339(paused.since),
            until: paused.until.map(rfc3339),
            why: paused.why.clone(),
        }),
        last_push: channel.pushed.map(rfc3339),
        rate: CallRate::of(&channel.definition, admin.measures.allowed(name)),
        calls_today: channel.spent(now),
        breaker: admin.measures.breaker_of(name).map(Breaker::name),
        pushed: window.count,
        window,
        lag_ms: channel.lag.map(|lag| lag.p99_ms),
        listings_left: channel.leaving.map(|_| state.counts(name).listed),
        classes: classes.map(|(class, window)| (class, Windows::of(&window))).collect(),
    })
}

impl CallRate {
    /// The part of a call that is there says nothing beyond its thousandths.
    fn of(definition: &Definition, available: Option<f64>) -> Self {
        Self {
            per_second: exact(definition.rate_milli) / 1_000.0,
            burst: definition.burst,
            available: available.map(|calls| (calls * 1_000.0).floor() / 1_000.0),
        }
    }
}

/// A count as a float, which holds all that are told here.
fn exact(n: u64) -> f64 {
    u32::try_from(n).map_or(f64::from(u32::MAX), f64::from)
}

impl Windows {
    fn of(window: &Window) -> Self {
        let count = window.histogram.len();
        Self {
            count,
            p50_ms: window.histogram.value_at_quantile(0.5),
            p99_ms: window.histogram.value_at_quantile(0.99),
            max_ms: window.histogram.max(),
            in_time: (count > 0).then(|| exact(window.in_time) / exact(count)),
        }
    }
}

/// All channels, by name.
#[utoipa::path(get, path = "/v1/channels", operation_id = "list_channels",
    tag = "channels", params(Paging), responses((status = 200, body = Page<Channel>)))]
pub(super) async fn list(
    State(admin): State<Admin>,
    Query(paging): Query<Paging>,
) -> Json<Page<Channel>> {
    let (limit, after) = (paging.limit(), paging.cursor.unwrap_or_default());
    let replica = admin.read();
    let names = replica.state().data().channels.keys();
    let mut names = names.filter(|name| **name > after).peekable();
    let items: Vec<Channel> =
        names.by_ref().take(limit).filter_map(|name| view(&admin, &replica, name)).collect();
    let next = names.peek().and_then(|_| items.last()).map(|last| last.name.clone());
    Json(Page { items, next })
}

/// One channel.
#[utoipa::path(get, path = "/v1/channels/{channel}", operation_id = "get_channel",
    tag = "channels",     params(("channel" = String, Path)),
    responses((status = 200, body = Channel), (status = 404, body = Problem)))]
pub(super) async fn get(
    State(admin): State<Admin>,
    Path(name): Path<String>,
) -> Result<Json<Channel>, Problem> {
    let channel = view(&admin, &admin.read(), &name);
    channel.map(Json).ok_or_else(|| Problem::missing(format!("there is no channel {name:?}")))
}

/// Adds or changes a channel. Its secrets stay in the nodes' own files.
#[utoipa::path(put, path = "/v1/channels/{channel}", operation_id = "put_channel",
    tag = "channels",     params(("channel" = String, Path)), request_body = Defined,
    responses((status = 200, body = Defined), (status = 422, body = Problem)))]
pub(super) async fn put(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    Json(defined): Json<Defined>,
) -> Result<Json<Defined>, Problem> {
    if !is_channel_name(&name) {
        return Err(Problem::unprocessable("name", CHANNEL_NAME_RULE));
    }
    defined.check().map_err(|why| Problem::unprocessable("definition", why))?;
    let definition: Definition = defined.into();
    let command = Command::PutChannel { name, definition: definition.clone() };
    admin.change(&command).await?;
    Ok(Json(definition.into()))
}
