//! What a node knows of itself and of the cluster.

use std::sync::Arc;

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::transport::peers::Peers;
use crate::types::{Core, Member, Metrics, MetricsWatch};

/// What a node is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Orders commands.
    Leader,
    /// Votes, and follows a leader or waits for one.
    Follower,
    /// Stands for election.
    Candidate,
    /// Follows without a vote.
    Learner,
    /// Belongs to no cluster yet.
    Uninitialised,
}

/// A node's view, as of its last event. On another node than the leader it may be behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The node's id.
    pub id: u64,
    /// Its region.
    pub region: String,
    /// What it is.
    pub role: Role,
    /// Whom it takes for the leader.
    pub leader: Option<u64>,
    /// The term, which grows with each election.
    pub term: u64,
    /// The last entry in its log.
    pub last_log: Option<u64>,
    /// The last entry that it knows to be agreed on.
    pub committed: Option<u64>,
    /// The last entry that its machine has applied.
    pub applied: Option<u64>,
    /// The last entry in its newest snapshot.
    pub snapshot: Option<u64>,
    /// The last entry that its log no longer holds.
    pub purged: Option<u64>,
    /// Whether this node knows that it was removed. It hears so from its peers within an election timeout, if
    /// it can reach one; a node that is cut off does not take itself for removed.
    pub removed: bool,
    /// All members, in the order of their ids.
    pub members: Vec<MemberStatus>,
}

/// A member, as seen from one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Who.
    pub member: Member,
    /// Whether it votes; else it is a learner.
    pub voter: bool,
    /// The last entry that it is known to have. Known to the leader only.
    pub matched: Option<u64>,
    /// How many entries it lacks. Known to the leader only.
    pub lag: Option<u64>,
    /// Whether it answered of late.
    pub reachable: bool,
}

/// From where a node looks at raft's own account of itself.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) region: String,
    pub(crate) peers: Arc<Peers>,
    pub(crate) removed: watch::Receiver<bool>,
}

impl View {
    pub(crate) fn status(&self, metrics: &Metrics) -> Status {
        let membership = metrics.membership_config.membership();
        let last_log = metrics.last_log_index;
        let members = membership.nodes().map(|(id, member)| {
            let own = *id == metrics.id;
            let matched = match &metrics.replication {
                Some(_) if own => last_log,
                Some(replication) => replication
                    .get(id)
                    .and_then(|matched| matched.as_ref())
                    .map(|matched| matched.index),
                None => None,
            };
            // Indexes begin at 0, so a log that ends at 4 has five entries.
            let length = |last: Option<u64>| last.map_or(0, |last| last + 1);
            let lag = metrics.replication.is_some();
            MemberStatus {
                member: member.clone(),
                voter: membership.voter_ids().any(|voter| voter == *id),
                matched,
                lag: lag.then(|| length(last_log).saturating_sub(length(matched))),
                reachable: own || self.peers.health(*id).reachable,
            }
        });
        let index = |id: &Option<crate::types::LogId>| id.map(|id| id.index);
        Status {
            id: metrics.id,
            region: self.region.clone(),
            role: role(metrics),
            leader: metrics.current_leader,
            term: metrics.current_term,
            last_log,
            committed: index(&metrics.local_committed),
            applied: index(&metrics.last_applied),
            snapshot: index(&metrics.snapshot),
            purged: index(&metrics.purged),
            removed: *self.removed.borrow(),
            members: members.collect(),
        }
    }

    /// Keeps the status, and connections to whoever is a member.
    pub(crate) fn follow(
        mut self,
        core: Core,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> watch::Receiver<Status> {
        let mut metrics = core.metrics();
        drop(core);
        let mut health = self.peers.changes();
        let (sender, receiver) = watch::channel(self.status(&metrics.borrow_watched()));
        tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
            let mut kept = None;
            loop {
                {
                    let metrics = metrics.borrow_and_update();
                    self.removed.mark_unchanged();
                    let now = self.status(&metrics);
                    sender.send_if_modified(|old| {
                        let changed = *old != now;
                        *old = now;
                        changed
                    });
                    let membership = &metrics.membership_config;
                    if kept.as_ref().is_none_or(|kept| !Arc::ptr_eq(kept, membership)) {
                        kept = Some(Arc::clone(membership));
                        let nodes = membership.nodes();
                        let nodes =
                            nodes.map(|(id, node)| (*id, Member { id: *id, ..node.clone() }));
                        self.peers.keep(&nodes.collect());
                    }
                }
                tokio::select! {
                    changed = metrics.changed() => if changed.is_err() { return },
                    changed = health.changed() => if changed.is_err() { return },
                    changed = self.removed.changed() => if changed.is_err() { return },
                }
            }
        }));
        receiver
    }
}

/// Waits until raft's own account of itself says so; `None` if it ends before that.
pub(crate) async fn wait_for(
    metrics: &mut MetricsWatch,
    done: impl Fn(&Metrics) -> bool,
) -> Option<()> {
    loop {
        if done(&metrics.borrow_and_update()) {
            return Some(());
        }
        metrics.changed().await.ok()?;
    }
}

fn role(metrics: &Metrics) -> Role {
    let fresh = metrics.membership_config.membership().nodes().next().is_none();
    match metrics.state {
        _ if fresh => Role::Uninitialised,
        ServerState::Leader => Role::Leader,
        ServerState::Candidate => Role::Candidate,
        ServerState::Learner => Role::Learner,
        ServerState::Follower | ServerState::Shutdown => Role::Follower,
    }
}
