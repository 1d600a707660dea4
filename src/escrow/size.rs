//! What the leader does of escrow: it grants quotas ahead of need, by each node's share of what was spent.

use std::time::Duration;

use cluster::{Role, codec};
use state::{Command, NodeId};
use tokio_util::sync::CancellationToken;

use crate::agreed::Agreed;

/// Between two looks at the least.
const PAUSE: Duration = Duration::from_secs(1);
const GRANT_TIMEOUT: Duration = Duration::from_secs(5);

/// Grants what is due, while this node leads, until `stop`.
pub async fn run(cluster: impl Agreed, stop: CancellationToken) {
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = work(&cluster) => {}
    }
}

async fn work(cluster: &impl Agreed) {
    let mut changed = cluster.watch();
    loop {
        changed.borrow_and_update();
        let status = cluster.status();
        if status.role == Role::Leader {
            let nodes: Vec<NodeId> = status.members.iter().map(|known| known.member.id).collect();
            let due = cluster.look(|state| state.data().grants_due(&nodes));
            if !due.is_empty() {
                let command = codec::encode(&Command::Grant(due));
                // What is not granted now stays due.
                if let Err(error) = cluster.propose(command, GRANT_TIMEOUT).await {
                    tracing::debug!(%error, "quotas have to wait");
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
        if changed.changed().await.is_err() {
            return;
        }
    }
}
