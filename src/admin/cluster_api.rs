//! `/cluster`: founding, watching and changing the cluster itself.

use axum::extract::State;
use axum::http::StatusCode;
use cluster::{ChangeError, InitError, Member, Role};
use serde::{Deserialize, Serialize};
use state::Command;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Body, Json, Path, Query};
use super::{AGREEMENT, Admin, Problem};
use crate::channel::hex;

/// This node, and the cluster as it sees it.
#[derive(Serialize, ToSchema)]
pub(super) struct Status {
    id: u64,
    region: String,
    /// leader, follower, candidate, learner or uninitialised.
    role: &'static str,
    leader: Option<u64>,
    term: u64,
    last_log: Option<u64>,
    committed: Option<u64>,
    applied: Option<u64>,
    snapshot: Option<u64>,
    members: Vec<MemberView>,
    /// Log index of the last command in this node's state, to which `digest` belongs.
    index: u64,
    /// SHA-256 over the state and the chain of movements: equal on all nodes at one index.
    digest: String,
    /// Deliveries accepted here since this process started.
    accepted: u64,
    /// Deliveries accepted here that the cluster has not agreed on yet.
    backlog: i64,
    /// Deliveries applied by this replica since this process started, whoever accepted them.
    deliveries: u64,
}

/// One member as this node sees it.
#[derive(Serialize, ToSchema)]
pub(super) struct MemberView {
    id: u64,
    region: String,
    voter: bool,
    addresses: Addresses,
    /// Log index that it is known to hold; the leader alone knows.
    #[serde(rename = "match")]
    matched: Option<u64>,
    /// Log entries that it is behind; the leader alone knows.
    lag: Option<u64>,
    reachable: bool,
}

/// Where a member is found.
#[derive(Serialize, ToSchema)]
pub(super) struct Addresses {
    peer: String,
    admin: String,
}

const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Learner => "learner",
        Role::Uninitialised => "uninitialised",
    }
}

/// This node's view of the cluster.
#[utoipa::path(get, path = "/cluster/status", operation_id = "cluster_status",
    tag = "cluster",     responses((status = 200, body = Status)))]
pub(super) async fn status(State(admin): State<Admin>) -> Result<Json<Status>, Problem> {
    let digester = admin.read().digester();
    let look = admin.look(move |frozen, _| Ok((frozen.index, frozen.digest(&digester))));
    let (index, digest) = look.await?;
    let status = admin.raft.status();
    let members = status.members.into_iter().map(|known| MemberView {
        id: known.member.id,
        region: known.member.region,
        voter: known.voter,
        addresses: Addresses { peer: known.member.peer, admin: known.member.admin },
        matched: known.matched,
        lag: known.lag,
        reachable: known.reachable,
    });
    Ok(Json(Status {
        id: status.id,
        region: status.region,
        role: role_name(status.role),
        leader: status.leader,
        term: status.term,
        last_log: status.last_log,
        committed: status.committed,
        applied: status.applied,
        snapshot: status.snapshot,
        members: members.collect(),
        index,
        digest: hex(&digest),
        accepted: admin.measures.accepted.get(),
        backlog: admin.measures.backlog.get(),
        deliveries: admin.measures.applied.get(),
    }))
}

/// Who founds the cluster besides this node.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Founding {
    /// Other nodes that run already and belong to no cluster. All of them vote from the start.
    #[serde(default)]
    members: Vec<MemberSpec>,
}

/// A node to be added.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MemberSpec {
    id: u64,
    region: String,
    /// `host:port` of its peer listener.
    peer: String,
    /// `host:port` of its admin listener.
    admin: String,
}

impl From<MemberSpec> for Member {
    fn from(spec: MemberSpec) -> Self {
        Self { id: spec.id, region: spec.region, peer: spec.peer, admin: spec.admin }
    }
}

/// Done.
#[derive(Serialize, ToSchema)]
pub(super) struct Done {
    ok: bool,
}

const DONE: Json<Done> = Json(Done { ok: true });

/// Founds a cluster: of this node alone, or with the nodes named. Channels and policies of this node's
/// file become the cluster's.
#[utoipa::path(post, path = "/cluster/init", operation_id = "init_cluster",
    tag = "cluster",     request_body(content = Option<Founding>, description = "May be empty"),
    responses((status = 200, body = Done), (status = 409, body = Problem)))]
pub(super) async fn init(State(admin): State<Admin>, body: Body) -> Result<Json<Done>, Problem> {
    let founding: Founding = if body.0.is_empty() { Founding::default() } else { body.json()? };
    let mut members: Vec<Member> = founding.members.into_iter().map(Member::from).collect();
    let this = admin.config.member();
    members.retain(|member| member.id != this.id);
    members.insert(0, this);
    admin.raft.init(members).await.map_err(|error| match error {
        InitError::AlreadyInitialised => Problem::conflict("initialised", error.to_string()),
        InitError::Members(_) => Problem::unprocessable("members", error.to_string()),
        InitError::Stopped(_) => Problem::unavailable(error.to_string()),
    })?;
    wait_for_seed(&admin).await?;
    Ok(DONE)
}

/// The cluster is of use once its leader has seeded the channels.
async fn wait_for_seed(admin: &Admin) -> Result<(), Problem> {
    let mut changed = admin.read().watch();
    let seeded = async {
        while !admin.read().state().data().seeded {
            if changed.changed().await.is_err() {
                return;
            }
        }
    };
    let late = |_| Problem::unavailable("the cluster was founded but has no leader yet".into());
    tokio::time::timeout(2 * AGREEMENT, seeded).await.map_err(late)
}

/// Adds a node, which learns the log and does not vote yet.
#[utoipa::path(post, path = "/cluster/members", operation_id = "add_member",
    tag = "cluster", request_body = MemberSpec,
    responses((status = 201, body = Done), (status = 409, body = Problem)))]
pub(super) async fn add(
    State(admin): State<Admin>,
    Json(spec): Json<MemberSpec>,
) -> Result<(StatusCode, Json<Done>), Problem> {
    admin.raft.add_learner(spec.into()).await?;
    Ok((StatusCode::CREATED, DONE))
}

/// Gives a learner its vote.
#[utoipa::path(post, path = "/cluster/members/{id}/promote", operation_id = "promote_member",
    tag = "cluster",     params(("id" = u64, Path)), responses((status = 200, body = Done), (status = 409, body = Problem)))]
pub(super) async fn promote(
    State(admin): State<Admin>,
    Path(id): Path<u64>,
) -> Result<Json<Done>, Problem> {
    admin.raft.promote(id).await?;
    Ok(DONE)
}

/// Takes a voter's vote; it goes on learning.
#[utoipa::path(post, path = "/cluster/members/{id}/demote", operation_id = "demote_member",
    tag = "cluster",     params(("id" = u64, Path)), responses((status = 200, body = Done), (status = 409, body = Problem)))]
pub(super) async fn demote(
    State(admin): State<Admin>,
    Path(id): Path<u64>,
) -> Result<Json<Done>, Problem> {
    admin.raft.demote(id).await?;
    Ok(DONE)
}

/// What an operator knows of a node that is removed.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Removal {
    /// That it is destroyed, with its disk: its quotas are available to all again. Say so of one that runs, and
    /// it may grant them as well. May be said later, of a node that is no member any more.
    #[serde(default)]
    destroyed: bool,
}

/// Removes a node for good; its id is never used again.
#[utoipa::path(delete, path = "/cluster/members/{id}", operation_id = "remove_member",
    tag = "cluster",     params(("id" = u64, Path), Removal),
    responses((status = 200, body = Done), (status = 409, body = Problem),
        (status = 503, body = Problem)))]
pub(super) async fn remove(
    State(admin): State<Admin>,
    Path(id): Path<u64>,
    Query(Removal { destroyed }): Query<Removal>,
) -> Result<Json<Done>, Problem> {
    let members = admin.raft.status().members;
    if !destroyed || members.iter().any(|known| known.member.id == id) {
        admin.raft.remove(id).await?;
    }
    if destroyed {
        admin.change(&Command::Destroyed { node: id, keeping: None }).await?;
    }
    Ok(DONE)
}

/// Says that the disk is destroyed that a node had before the one that it has now: what it held in escrow there
/// is available to all again. Of a node that is gone with its disk, see its removal.
#[utoipa::path(post, path = "/cluster/members/{id}/former-disk-destroyed",
    operation_id = "former_disk_destroyed", tag = "cluster", params(("id" = u64, Path)),
    responses((status = 200, body = Done), (status = 409, body = Problem),
        (status = 503, body = Problem)))]
pub(super) async fn former_disk_destroyed(
    State(admin): State<Admin>,
    Path(id): Path<u64>,
) -> Result<Json<Done>, Problem> {
    admin.barrier().await?;
    let current = admin.read().state().data().escrow.current(id);
    let Some(current) = current else {
        let why = format!("node {id} has no disk that anything was granted to");
        return Err(Problem::conflict("no_escrow", why));
    };
    admin.change(&Command::Destroyed { node: id, keeping: Some(current.book) }).await?;
    Ok(DONE)
}

/// To whom leadership goes.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Transfer {
    to: u64,
}

/// Asks the leader to hand over to a voter.
#[utoipa::path(post, path = "/cluster/transfer-leadership", operation_id = "transfer_leadership",
    tag = "cluster", request_body = Transfer,
    responses((status = 200, body = Done), (status = 409, body = Problem)))]
pub(super) async fn transfer(
    State(admin): State<Admin>,
    Json(transfer): Json<Transfer>,
) -> Result<Json<Done>, Problem> {
    admin.raft.transfer_leadership(transfer.to).await?;
    Ok(DONE)
}

/// Builds a snapshot on this node now.
#[utoipa::path(post, path = "/cluster/snapshot", operation_id = "build_snapshot",
    tag = "cluster",     responses((status = 200, body = Done)))]
pub(super) async fn snapshot(State(admin): State<Admin>) -> Result<Json<Done>, Problem> {
    let built = admin.raft.snapshot().await;
    built.map_err(|error| Problem::internal(error.to_string()))?;
    Ok(DONE)
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Refused(_) => Self::conflict("refused", error.to_string()),
            ChangeError::Unavailable(_) | ChangeError::Unknown(_) => {
                Self::unavailable(error.to_string())
            }
        }
    }
}
