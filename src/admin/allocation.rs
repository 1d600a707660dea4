//! `/v1/policies`, `/v1/allocations`, and the removal of a channel: what each channel gets.

use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use state::allocation::{Mode, policy_of};
use state::command::Change;
use state::limits::WALKED_SKUS_MAX;
use state::policy::{Buffer, Policy};
use state::{Command, Data, Reply};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Body, Json, Path, Query};
use super::{Admin, Problem, explain};
use crate::config;

/// Listings that are compared with their buffers for one answer.
const LOOKED_AT_MAX: usize = 100_000;

/// The operations that look.
pub(super) fn reads() -> OpenApiRouter<Admin> {
    OpenApiRouter::new().routes(routes!(policies)).routes(routes!(explain::explain))
}

/// The operations that change something.
pub(super) fn writes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .routes(routes!(put_policies))
        .routes(routes!(rebalance))
        .routes(routes!(remove))
}

/// How SKUs are allocated to channels.
#[derive(Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the contract's name")]
pub(super) struct Policies {
    /// Log index at which they were put; 0 before the first.
    version: u64,
    policies: Vec<config::Policy>,
    /// What may be meant as it is and often is not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// How SKUs shall be allocated. What `GET` answered can be sent back as it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPolicies {
    policies: Vec<config::Policy>,
    /// The version that they replace: 409 if there is another one by now. Without it, whichever there is.
    version: Option<u64>,
    /// Not looked at.
    #[serde(default, rename = "warnings")]
    #[schema(value_type = Option<Vec<String>>)]
    _warnings: serde::de::IgnoredAny,
}

/// Allocation policies, in order.
#[utoipa::path(get, path = "/v1/policies", operation_id = "get_policies",
    tag = "channels", responses((status = 200, body = Policies)))]
pub(super) async fn policies(State(admin): State<Admin>) -> Result<Json<Policies>, Problem> {
    admin.policies().await.map(Json)
}

impl Admin {
    async fn policies(&self) -> Result<Policies, Problem> {
        let look = |data: &Data| Policies {
            version: data.policies_version,
            policies: data.policies.iter().map(Into::into).collect(),
            warnings: warnings(data),
        };
        self.look(move |frozen, _| Ok(look(&frozen.data))).await
    }
}

/// Replaces the allocation policies; quantities are pushed accordingly.
#[utoipa::path(put, path = "/v1/policies", operation_id = "put_policies",
    tag = "channels", request_body = NewPolicies,
    responses((status = 200, body = Policies),
        (status = 409, description = "They were changed meanwhile", body = Problem),
        (status = 422, body = Problem)))]
pub(super) async fn put_policies(
    State(admin): State<Admin>,
    Json(wanted): Json<NewPolicies>,
) -> Result<Json<Policies>, Problem> {
    let NewPolicies { policies, version: replaces, .. } = wanted;
    let policies = policies.iter().map(Into::into).collect();
    let (index, reply) = admin.propose(&Command::PutPolicies { policies, replaces }).await?;
    match reply {
        Reply::Done => admin.caught_up(index).await?,
        Reply::Rejected(why) => return Err(Problem::unprocessable("rejected", why)),
        Reply::Superseded { version } => {
            let why =
                format!("the policies are those of version {version} by now: read them again");
            return Err(Problem::conflict("superseded", why));
        }
        other => return Err(Problem::internal(format!("unexpected reply {other:?}"))),
    }
    admin.policies().await.map(Json)
}

/// What may be meant as it is and often is not.
fn warnings(data: &Data) -> Vec<String> {
    let name = |n: usize| {
        let sku = data.policies.get(n).map_or("", |policy| policy.sku.as_str());
        format!("policies[{n}] ({sku:?})")
    };
    let mut taken = vec![0_u64; data.policies.len()];
    let mut too_large = vec![(0_u64, None); data.policies.len()];
    let mut looked_at = 0;
    for (sku, stock) in data.stock.iter() {
        let Some(n) = data.policies.iter().position(|p| state::allocation::matches(&p.sku, sku))
        else {
            continue;
        };
        if let Some(taken) = taken.get_mut(n) {
            *taken += 1;
        }
        let Some(policy) = data.policies.get(n).filter(|policy| policy.mode == Mode::Split) else {
            continue;
        };
        for (channel, listing) in &stock.listings {
            let Some(Buffer::Units(units)) = policy.buffers.of(channel) else { continue };
            looked_at += 1;
            if looked_at > LOOKED_AT_MAX {
                break;
            }
            let share = listing.get().allocated;
            if let Some((count, example)) = too_large.get_mut(n).filter(|_| units > share) {
                *count += 1;
                example.get_or_insert((channel, sku, units, share));
            }
        }
    }
    let mut warnings = Vec::new();
    for (n, _) in taken.iter().enumerate().filter(|(_, taken)| **taken == 0) {
        let matched = |sku: &str| {
            data.policies.get(n).is_some_and(|policy| state::allocation::matches(&policy.sku, sku))
        };
        let hidden = data.stock.iter().any(|(sku, _)| matched(sku));
        let why = if hidden { "that none before it matches" } else { "that there is" };
        warnings.push(format!("{}: it matches no SKU {why}", name(n)));
    }
    for (n, (count, example)) in too_large.into_iter().enumerate() {
        if let Some((channel, sku, units, share)) = example {
            warnings.push(format!(
                "{}: in {count} listings the buffer is larger than the share, so they show 0: {sku:?} at {channel}, \
                 {units} of {share}",
                name(n)
            ));
        }
    }
    for (n, policy) in data.policies.iter().enumerate() {
        if let Some(channel) = never_shown(data, policy) {
            warnings.push(format!("{}: end_at is not below max, so {channel} shows 0", name(n)));
        }
    }
    warnings
}

fn never_shown<'a>(data: &'a Data, policy: &Policy) -> Option<&'a str> {
    let mut channels = data.channels.keys().map(String::as_str);
    channels.find(|channel| {
        let (end, max) = (policy.end_at.of(channel), policy.max.of(channel));
        end.zip(max).is_some_and(|(end, max)| end >= max)
    })
}

/// Which shares are to come to their targets.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Which {
    /// These SKUs, 1000 at the most; all if not given.
    skus: Option<Vec<String>>,
}

/// Whether all of it is done.
#[derive(Serialize, ToSchema)]
pub(super) struct Rebalanced {
    /// Whether SKUs are still to be looked at: a thousand are with each command.
    pending: bool,
}

/// Brings shares to their targets. Only what must move moves, and nothing that may have been sold. Twice is as good
/// as once.
#[utoipa::path(post, path = "/v1/allocations/rebalance", operation_id = "rebalance",
    tag = "channels", params(("Idempotency-Key" = Option<String>, Header, description = "Yours, up to 256 characters")),
    request_body = Which,
    responses((status = 200, body = Rebalanced), (status = 422, body = Problem)))]
pub(super) async fn rebalance(
    State(admin): State<Admin>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Rebalanced>, Problem> {
    let which: Which = if body.0.is_empty() { Which::default() } else { body.json()? };
    if which.skus.as_ref().is_some_and(|skus| skus.len() > WALKED_SKUS_MAX) {
        let why = format!("skus: at most {WALKED_SKUS_MAX}; without them all are meant");
        return Err(Problem::unprocessable("too_many", why));
    }
    let change = Change::Rebalance(which.skus);
    admin.change_once(&headers, &[b"rebalance", &body.0], change).await?;
    let pending = admin.read().state().data().walk.is_some();
    Ok(Json(Rebalanced { pending }))
}

/// How a channel is removed.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Removal {
    /// At once and whatever it still shows: what is sold from it after that is heard of as an order of an unknown
    /// channel, if at all.
    #[serde(default)]
    abandon: bool,
}

/// How far the removal of a channel is.
#[derive(Serialize, ToSchema)]
pub(super) struct Removed {
    /// Whether it is gone.
    removed: bool,
    /// Listings that it still has: each goes once it is known to show nothing.
    listings_left: u64,
}

/// Removes a channel. Its share goes to the others, its listings are lowered to 0, and it is gone when it is known
/// that nothing can be sold from any of them: until then what it shows goes on counting. `PUT` keeps it after all.
#[utoipa::path(delete, path = "/v1/channels/{channel}", operation_id = "delete_channel",
    tag = "channels", params(("channel" = String, Path), Removal),
    responses((status = 200, body = Removed), (status = 404, body = Problem),
        (status = 409, description = "Nothing is pushed to it, and it may still show something", body = Problem)))]
pub(super) async fn remove(
    State(admin): State<Admin>,
    Path(channel): Path<String>,
    Query(Removal { abandon }): Query<Removal>,
) -> Result<Json<Removed>, Problem> {
    if !admin.read().state().data().channels.contains_key(&channel) {
        return Err(Problem::missing(format!("there is no channel {channel:?}")));
    }
    let command = Command::RemoveChannel { channel: channel.clone(), abandon };
    let (index, reply) = admin.propose(&command).await?;
    match reply {
        Reply::Done => admin.caught_up(index).await?,
        Reply::Rejected(why) => return Err(Problem::conflict("still_shown", why)),
        other => return Err(Problem::internal(format!("unexpected reply {other:?}"))),
    }
    let replica = admin.read();
    let removed = !replica.state().data().channels.contains_key(&channel);
    Ok(Json(Removed { removed, listings_left: replica.state().counts(&channel).listed }))
}

/// The policy of a SKU with its place.
pub(super) fn of_sku<'a>(data: &'a Data, sku: &str) -> Option<(usize, &'a Policy)> {
    let policy = policy_of(&data.policies, sku)?;
    let at = data.policies.iter().position(|known| std::ptr::eq(known, policy))?;
    Some((at, policy))
}
