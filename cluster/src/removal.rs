//! How a node learns that it was removed.
//!
//! Nobody replicates to a node that is no member, so it is never told; it is silence to it, like a link that is
//! cut, and must not be taken for the same: whoever is cut off goes on. So a node that hears from no leader asks
//! its peers what they know to be agreed on. A membership that was agreed on no earlier than the one that the
//! node knows, and in which it is not, is proof; that nobody answers proves nothing.

use std::sync::Arc;
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::form::LogId;
use crate::transport::message::{Ask, Reply};
use crate::transport::peers::Peers;
use crate::types::{Core, Member, Metrics};

/// What tells that a leader still speaks to this node.
#[derive(Clone)]
pub(crate) struct Heard(Arc<watch::Sender<Instant>>);

impl Heard {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Instant::now())))
    }

    /// A leader has just been heard.
    pub(crate) fn now(&self) {
        self.0.send_replace(Instant::now());
    }
}

/// What a node knows of itself and the cluster that it was removed from.
#[derive(Clone)]
pub(crate) struct Standing {
    /// Whether it was removed.
    pub(crate) removed: watch::Sender<bool>,
    /// Who leads the others then. What this node has answered for before must still come to be agreed on.
    pub(crate) leader: watch::Sender<Option<Member>>,
}

impl Standing {
    pub(crate) fn new() -> Self {
        Self { removed: watch::Sender::new(false), leader: watch::Sender::new(None) }
    }

    fn is_member(&self) {
        self.removed.send_if_modified(std::mem::take);
        self.leader.send_if_modified(|leader| leader.take().is_some());
    }

    fn is_removed(&self, leader: Option<Member>) {
        self.leader.send_replace(leader);
        if !self.removed.send_replace(true) {
            tracing::error!("this node was removed from the cluster");
        }
    }
}

/// Keeps the standing, until raft ends. A leader that is not heard for `silence` is asked after.
pub(crate) async fn run(
    core: Core,
    peers: Arc<Peers>,
    heard: Heard,
    silence: Duration,
    standing: Standing,
) {
    let metrics = core.metrics();
    let mut heard = heard.0.subscribe();
    loop {
        let last = *heard.borrow_and_update();
        if tokio::time::timeout_at(last + silence, heard.changed()).await.is_ok() {
            // Whoever was added again is spoken to again.
            standing.is_member();
            continue;
        }
        let known = Known::of(&metrics.borrow_watched());
        if let Some(known) = known {
            let answers = known.ask(&peers, silence).await;
            if answers.iter().any(|answer| known.is_without_us(answer)) {
                standing.is_removed(answers.into_iter().find_map(|answer| answer.leader));
            }
        }
        let _ = tokio::time::timeout(silence, heard.changed()).await;
    }
}

/// What the membership of a node that follows nobody is, as far as it knows.
struct Known {
    at: Option<LogId>,
    peers: Vec<u64>,
}

/// What a peer knows.
struct Answer {
    agreed: Option<LogId>,
    yours: bool,
    leader: Option<Member>,
}

impl Known {
    /// `None` of a leader, and of a node that belongs to no cluster yet.
    fn of(metrics: &Metrics) -> Option<Self> {
        let stored = &metrics.membership_config;
        let peers: Vec<_> =
            stored.nodes().map(|(id, _)| *id).filter(|id| *id != metrics.id).collect();
        let asks = metrics.state != ServerState::Leader && !peers.is_empty();
        asks.then(|| Self { at: stored.log_id().as_ref().map(|id| (*id).into()), peers })
    }

    async fn ask(&self, peers: &Peers, within: Duration) -> Vec<Answer> {
        let ask = |id| async move {
            let peer = peers.known(id)?;
            match tokio::time::timeout(within, peer.control.call(Ask::Membership)).await {
                Ok(Ok(Reply::Membership { agreed, yours, leader })) => {
                    Some(Answer { agreed, yours, leader })
                }
                _ => None,
            }
        };
        let answers = futures::future::join_all(self.peers.iter().map(|id| ask(*id))).await;
        answers.into_iter().flatten().collect()
    }

    /// Whether a membership was agreed on that is as late as this one or later, and without this node.
    fn is_without_us(&self, answer: &Answer) -> bool {
        !answer.yours && answer.agreed.is_some() && answer.agreed >= self.at
    }
}

/// What this node knows of the newest membership, for `node`.
pub(crate) fn answer(metrics: &Metrics, node: u64) -> Reply {
    let stored = &metrics.membership_config;
    let agreed = stored.log_id().filter(|at| Some(*at) <= metrics.local_committed);
    let yours = stored.nodes().any(|(id, _)| *id == node);
    let leader = metrics.current_leader;
    let leader = leader.and_then(|id| Some(Member { id, ..stored.get_node(&id)?.clone() }));
    Reply::Membership { agreed: agreed.map(Into::into), yours, leader }
}
