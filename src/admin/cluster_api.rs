//! `/cluster`: founding, watching and changing the cluster itself.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
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
    tag = "cluster", params(("Idempotency-Key" = Option<String>, Header, description = "Yours, up to 256 characters")),
    request_body = MemberSpec,
    responses((status = 201, body = Done), (status = 409, body = Problem)))]
pub(super) async fn add(
    State(admin): State<Admin>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Done>), Problem> {
    let spec: MemberSpec = body.json()?;
    let added = async { Ok(admin.raft.add_learner(spec.into()).await?) };
    admin.done_once(&headers, &[b"add", &body.0], added).await?;
    Ok((StatusCode::CREATED, DONE))
}

/// Gives a learner its vote.
#[utoipa::path(post, path = "/cluster/members/{id}/promote", operation_id = "promote_member",
    tag = "cluster", params(("id" = u64, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Yours, up to 256 characters")),
    responses((status = 200, body = Done), (status = 409, body = Problem)))]
pub(super) async fn promote(
    State(admin): State<Admin>,
    Path(id): Path<u64>,
    headers: HeaderMap,
) -> Result<Json<Done>, Problem> {
    let done = async { Ok(admin.raft.promote(id).await?) };
    admin.done_once(&headers, &[b"promote", &id.to_be_bytes()], done).await?;
    Ok(DONE)
}

/// Takes a voter's vote; it goes on learning.
#[utoipa::path(post, path = "/cluster/members/{id}/demote", operation_id = "demote_member",
    tag = "cluster", params(("id" = u64, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Yours, up to 256 characters")),
    responses((status = 200, body = Done), (status = 409, body = Problem)))]
pub(super) async fn demote(
    State(admin): State<Admin>,
    Path(id): Path<u64>,
    headers: HeaderMap,
) -> Result<Json<Done>, Problem> {
    let done = async { Ok(admin.raft.demote(id).await?) };
    admin.done_once(&headers, &[b"demote", &id.to_be_bytes()], done).await?;
    Ok(DONE)
}

/// What an operator knows of a node that is removed.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
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
    operation_id = "former_disk_destroyed", tag = "cluster", params(("id" = u64, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Yours, up to 256 characters")),
    responses((status = 200, body = Done),
        (status = 409, description = "The cluster has not heard of the new disk yet", body = Problem),
        (status = 503, body = Problem)))]
pub(super) async fn former_disk_destroyed(
    State(admin): State<Admin>,
    Path(id): Path<u64>,
    headers: HeaderMap,
) -> Result<Json<Done>, Problem> {
    let said: &[&[u8]] = &[b"former-disk-destroyed", &id.to_be_bytes()];
    admin.done_once(&headers, said, give_up_former(&admin, id)).await?;
    Ok(DONE)
}

async fn give_up_former(admin: &Admin, id: u64) -> Result<(), Problem> {
    admin.barrier().await?;
    let (current, former) = {
        let replica = admin.read();
        let escrow = &replica.state().data().escrow;
        let current = escrow.current(id);
        let open = escrow.holders().iter().filter(|(of, known)| of.node == id && !known.closed);
        (current, open.filter(|(holder, _)| current != Some(**holder)).count())
    };
    let Some(current) = current else {
        let why = format!("node {id} has no disk that anything was granted to");
        return Err(Problem::conflict("no_escrow", why));
    };
    // The newest that is known must be the one that the node has now, or the wrong one is given up, or none.
    let origin = admin.inbox.origin().node;
    let is_known = if origin == id { admin.inbox.book() == current.book } else { former > 0 };
    if !is_known {
        let why = format!(
            "the cluster knows one disk of node {id} that is not given up, and no newer one: wait until the node runs \
             with its new disk and has reached the others, which it tells them within seconds, then repeat this; \
             the node itself answers 200 once that is so"
        );
        return Err(Problem::conflict("new_disk_unknown", why));
    }
    admin.change(&Command::Destroyed { node: id, keeping: Some(current.book) }).await
}

/// To whom leadership goes.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Transfer {
    to: u64,
}

/// Asks the leader to hand over to a voter.
#[utoipa::path(post, path = "/cluster/transfer-leadership", operation_id = "transfer_leadership",
    tag = "cluster", params(("Idempotency-Key" = Option<String>, Header, description = "Yours, up to 256 characters")),
    request_body = Transfer,
    responses((status = 200, body = Done), (status = 409, body = Problem)))]
pub(super) async fn transfer(
    State(admin): State<Admin>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Done>, Problem> {
    let transfer: Transfer = body.json()?;
    let done = async { Ok(admin.raft.transfer_leadership(transfer.to).await?) };
    admin.done_once(&headers, &[b"transfer", &body.0], done).await?;
    Ok(DONE)
}

/// Builds a snapshot on this node now.
#[utoipa::path(post, path = "/cluster/snapshot", operation_id = "build_snapshot",
    tag = "cluster", params(("Idempotency-Key" = Option<String>, Header, description = "Yours, up to 256 characters")),
    responses((status = 200, body = Done)))]
pub(super) async fn snapshot(
    State(admin): State<Admin>,
    headers: HeaderMap,
) -> Result<Json<Done>, Problem> {
    let built = async {
        let built = admin.raft.snapshot().await;
        built.map(drop).map_err(|error| Problem::internal(error.to_string()))
    };
    let node = admin.config.node.id.to_be_bytes();
    admin.done_once(&headers, &[b"snapshot", &node], built).await?;
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
