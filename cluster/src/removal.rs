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
use crate::types::{Core, Metrics};

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

/// Keeps `removed` true while this node knows that it is no member, until raft ends. A leader that is not heard
/// for `silence` is asked after.
pub(crate) async fn run(
    core: Core,
    peers: Arc<Peers>,
    heard: Heard,
    silence: Duration,
    removed: watch::Sender<bool>,
) {
    let metrics = core.metrics();
    let mut heard = heard.0.subscribe();
    loop {
        let last = *heard.borrow_and_update();
        if tokio::time::timeout_at(last + silence, heard.changed()).await.is_ok() {
            // Whoever was added again is spoken to again.
            removed.send_if_modified(std::mem::take);
            continue;
        }
        let known = Known::of(&metrics.borrow_watched());
        if let Some(known) = known
            && known.is_outdated(&peers, silence).await
            && !removed.send_replace(true)
        {
            tracing::error!("this node was removed from the cluster");
        }
        let _ = tokio::time::timeout(silence, heard.changed()).await;
    }
}

/// What the membership of a node that follows nobody is, as far as it knows.
struct Known {
    at: Option<LogId>,
    peers: Vec<u64>,
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

    /// Whether a peer knows of a membership as late as this one or later, without this node.
    async fn is_outdated(&self, peers: &Peers, within: Duration) -> bool {
        let ask = |id| async move {
            let peer = peers.known(id)?;
            match tokio::time::timeout(within, peer.control.call(Ask::Membership)).await {
                Ok(Ok(Reply::Membership { agreed, yours })) => Some((agreed, yours)),
                _ => None,
            }
        };
        let answers = futures::future::join_all(self.peers.iter().map(|id| ask(*id))).await;
        let order = |id: Option<LogId>| id.map(|id| (id.term, id.index));
        answers
            .into_iter()
            .flatten()
            .any(|(agreed, yours)| !yours && order(agreed) >= order(self.at))
    }
}

/// The newest membership, if it is agreed on, and whether `node` is in it.
pub(crate) fn answer(metrics: &Metrics, node: u64) -> Reply {
    let stored = &metrics.membership_config;
    let agreed = stored.log_id().filter(|at| Some(*at) <= metrics.local_committed);
    let yours = stored.nodes().any(|(id, _)| *id == node);
    Reply::Membership { agreed: agreed.map(Into::into), yours }
}
