//! What the parts of a node that act see of the cluster: their own replica, and where they propose.

use std::sync::PoisonError;
use std::time::Duration;

use cluster::{ProposeError, Raft, Reply, Status};
use state::State;
use tokio::sync::watch;

use crate::replica::Shared;

/// What is agreed on, as one node sees it. Cheap to clone.
pub trait Agreed: Clone + Send + Sync + 'static {
    /// Looks at this node's replica, which may be behind the leader's. What is looked at stays locked.
    fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T;

    /// Changes whenever something was applied here.
    fn watch(&self) -> watch::Receiver<u64>;

    /// What this node knows of the cluster.
    fn status(&self) -> Status;

    /// Returns once this node has applied the log through an index.
    fn applied(&self, index: u64) -> impl Future<Output = ()> + Send;

    /// Has a command agreed on; see [`Raft::propose`].
    fn propose(
        &self,
        command: Vec<u8>,
        timeout: Duration,
    ) -> impl Future<Output = Result<Reply, ProposeError>> + Send;
}

/// This node's part in the cluster, and its replica.
#[derive(Clone)]
pub struct Member {
    /// Where commands are agreed on.
    pub raft: Raft,
    /// What was agreed on.
    pub replica: Shared,
}

impl Agreed for Member {
    fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(self.replica.read().unwrap_or_else(PoisonError::into_inner).state())
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.replica.read().unwrap_or_else(PoisonError::into_inner).watch()
    }

    fn status(&self) -> Status {
        self.raft.status()
    }

    async fn applied(&self, index: u64) {
        self.raft.applied(index).await;
    }

    async fn propose(&self, command: Vec<u8>, timeout: Duration) -> Result<Reply, ProposeError> {
        self.raft.propose(command, timeout).await
    }
}

/// What a node tells of a cluster whose log applies at once what is proposed: all members answer.
#[cfg(test)]
pub fn status_at_once(id: u64, role: cluster::Role, voters: impl Iterator<Item = u64>) -> Status {
    let member = |id: u64| cluster::MemberStatus {
        member: cluster::Member {
            id,
            region: String::new(),
            peer: String::new(),
            admin: String::new(),
        },
        voter: true,
        matched: None,
        lag: None,
        reachable: true,
    };
    Status {
        id,
        region: String::new(),
        role,
        leader: (role == cluster::Role::Leader).then_some(id),
        term: 1,
        last_log: None,
        committed: None,
        applied: None,
        snapshot: None,
        purged: None,
        removed: false,
        members: voters.map(member).collect(),
    }
}
