//! What only the leader does.

use std::sync::Arc;
use std::time::Duration;

use cluster::{Clock, Role, codec};
use state::{Command, Reply};
use tokio_util::sync::CancellationToken;

use crate::agreed::Agreed;
use crate::config::Config;

/// How often the leader looks whether something is due that no command would bring up.
const CHORES: Duration = Duration::from_millis(500);
const CHORE_TIMEOUT: Duration = Duration::from_secs(5);

/// Seeds the channels of a new cluster, and lets time pass when something is due and nothing else is
/// proposed, until `stop`.
pub(crate) async fn run(
    config: Arc<Config>,
    cluster: impl Agreed,
    clock: Clock,
    stop: CancellationToken,
) {
    let mut every = tokio::time::interval(CHORES);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = every.tick() => {}
        }
        if cluster.status().role != Role::Leader {
            continue;
        }
        let (seeded, wakes_at) = cluster.look(|state| (state.data().seeded, state.wakes_at()));
        let command = if !seeded {
            let policies = config.policies.iter().map(Into::into).collect();
            let locations = config.ledger.locations.clone();
            Command::Seed { channels: config.definitions(), policies, locations }
        } else if wakes_at.is_some_and(|time| time <= clock()) {
            Command::Tick
        } else {
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
    }
}
