//! What only the leader does.

use std::sync::Arc;
use std::time::Duration;

use cluster::{Clock, Role, codec};
use state::{Command, Reply};
use tokio_util::sync::CancellationToken;

use crate::agreed::Agreed;
use crate::config::Config;

/// Between two chores at the least; so often an empty cluster is looked at.
const PAUSE: Duration = Duration::from_millis(500);
/// How often a node looks at what nothing tells it of: whether it leads, and what its clock shows.
const LOOK: Duration = Duration::from_secs(2);
const CHORE_TIMEOUT: Duration = Duration::from_secs(5);

/// Seeds the channels of a new cluster, and lets time pass when something is due and nothing else is
/// proposed, until `stop`.
pub(crate) async fn run(
    config: Arc<Config>,
    cluster: impl Agreed,
    clock: Clock,
    stop: CancellationToken,
) {
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = work(&config, &cluster, &clock) => {}
    }
}

async fn work(config: &Config, cluster: &impl Agreed, clock: &Clock) {
    let mut changed = cluster.watch();
    loop {
        changed.borrow_and_update();
        if cluster.status().role != Role::Leader {
            tokio::time::sleep(LOOK).await;
            continue;
        }
        let (seeded, wakes_at) = cluster.look(|state| (state.data().seeded, state.wakes_at()));
        let rest =
            wakes_at.map_or(LOOK, |time| Duration::from_millis(time.saturating_sub(clock())));
        let command = if !seeded {
            let policies = config.policies.iter().map(Into::into).collect();
            let locations = config.ledger.locations.clone();
            Command::Seed { channels: config.definitions(), policies, locations }
        } else if rest.is_zero() {
            Command::Tick
        } else {
            // Either way the next look tells.
            let _ = tokio::time::timeout(rest.min(LOOK), changed.changed()).await;
            continue;
        };
        match cluster.propose(codec::encode(&command), CHORE_TIMEOUT).await {
            Ok(reply) => {
                if let Ok(Reply::Rejected(why)) = codec::decode(&reply.bytes) {
                    tracing::error!(why, "the channels of this node's file were not taken");
                }
            }
            Err(error) => tracing::debug!(%error, "a chore has to wait"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
