//! `/v1/channels`.

use std::collections::BTreeMap;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use state::Command;
use state::channel::Definition;
use state::limits::{DEDUP_WINDOW_MAX_MS, MINUTE_MS, NAME_LEN_MAX};
use utoipa::ToSchema;

use super::extract::{Json, Path};
use super::view::Page;
use super::{Admin, Problem};
use crate::config::{CHANNEL_NAME_RULE, is_channel_name, unknown_kind};
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
    /// Quantities that the channel took, since this node started.
    pushed: u64,
    /// From the receipt of a change to its confirmation, since this node started.
    window: Windows,
    /// In 99 of 100 cases it has heard of a change after so long, as its owner measured and all agreed; null before
    /// that. `auto` buffers are computed from it.
    lag_ms: Option<u64>,
    /// Set while it is being removed: listings that it still has.
    listings_left: Option<u64>,
}

/// Consistency windows, in milliseconds.
#[derive(Serialize, ToSchema)]
pub(super) struct Windows {
    p50_ms: u64,
    p99_ms: u64,
    max_ms: u64,
    /// The share that was confirmed by its deadline, 0 to 1; null before the first.
    in_time: Option<f64>,
}

/// What a channel is.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
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
            settings,
        } = d;
        Self { kind, location, home, pushes, fetches, dedup_window_ms, rate_milli, burst, settings }
    }
}

impl From<Defined> for Definition {
    fn from(d: Defined) -> Self {
        let Defined {
            kind,
            location,
            home,
            pushes,
            fetches,
            dedup_window_ms,
            rate_milli,
            burst,
            settings,
        } = d;
        Self { kind, location, home, pushes, fetches, dedup_window_ms, rate_milli, burst, settings }
    }
}

fn view(admin: &Admin, replica: &Replica, name: &str) -> Option<Channel> {
    let channel = replica.state().data().channels.get(name)?;
    let window = admin.measures.window(name);
    let count = window.histogram.len();
    let ratio = |part: u64| {
        let exact = |n: u64| u32::try_from(n).map_or(f64::from(u32::MAX), f64::from);
        exact(part) / exact(count)
    };
    Some(Channel {
        name: name.into(),
        definition: channel.definition.clone().into(),
        owner: channel.owner.map(|owner| owner.node),
        backlog: replica.state().due().count(name),
        in_flight: replica.state().flights().count(name),
        pushed: count,
        window: Windows {
            p50_ms: window.histogram.value_at_quantile(0.5),
            p99_ms: window.histogram.value_at_quantile(0.99),
            max_ms: window.histogram.max(),
            in_time: (count > 0).then(|| ratio(window.in_time)),
        },
        lag_ms: channel.lag.map(|lag| lag.p99_ms),
        listings_left: channel.leaving.map(|leaving| leaving.left),
    })
}

/// All channels.
#[utoipa::path(get, path = "/v1/channels", operation_id = "list_channels",
    tag = "channels",     responses((status = 200, body = Page<Channel>)))]
pub(super) async fn list(State(admin): State<Admin>) -> Json<Page<Channel>> {
    let replica = admin.read();
    let names = replica.state().data().channels.keys();
    let items = names.filter_map(|name| view(&admin, &replica, name)).collect();
    Json(Page { items, next: None })
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
