//! What only the leader does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cluster::{Clock, Role, codec};
use state::queue::ask::{Ask, What};
use state::queue::settings::Settings;
use state::{Command, Reply, State, notices};
use tokio_util::sync::CancellationToken;

use crate::agreed::Agreed;
use crate::config::Config;
use crate::cron;

/// Between two chores at the least; so often an empty cluster is looked at.
const PAUSE: Duration = Duration::from_millis(500);
/// The same while something is left that was too much for one command.
const BACKLOG_PAUSE: Duration = Duration::from_millis(50);
/// How often a node looks at what nothing tells it of: whether it leads, and what its clock shows.
const LOOK: Duration = Duration::from_secs(2);
const CHORE_TIMEOUT: Duration = Duration::from_secs(5);
/// Schedules that fire with one command.
const FIRED_MAX: usize = 100;

/// Makes the topics and seeds the channels of a new cluster, fires schedules, and lets time pass when
/// something is due and nothing else is proposed, until `stop`.
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
    let mut topics = Topics::of(config);
    let mut unread = BTreeSet::new();
    loop {
        changed.borrow_and_update();
        if cluster.status().role != Role::Leader {
            tokio::time::sleep(LOOK).await;
            continue;
        }
        let now = clock();
        let (seeded, wakes_at, agreed, missing, due) = cluster.look(|state| {
            let data = state.data();
            (data.seeded, state.wakes_at(), data.now, topics.missing(state), due(state, now))
        });
        if missing.is_empty() {
            topics.wanted.clear();
        }
        let fired = fire(due, now, &mut unread);
        let rest = wakes_at.map_or(LOOK, |time| Duration::from_millis(time.saturating_sub(now)));
        // Before the channels: the first webhook would make a topic that behaves otherwise.
        let command = if !missing.is_empty() {
            Command::Queue(missing)
        } else if !seeded {
            let policies = config.policies.iter().map(Into::into).collect();
            let locations = config.ledger.locations.clone();
            Command::Seed { channels: config.definitions(), policies, locations }
        } else if !fired.is_empty() {
            Command::Queue(fired)
        } else if rest.is_zero() {
            Command::Tick
        } else {
            // Either way the next look tells.
            let _ = tokio::time::timeout(rest.min(LOOK), changed.changed()).await;
            continue;
        };
        match cluster.propose(codec::encode(&command), CHORE_TIMEOUT).await {
            Ok(reply) => {
                if !topics.wanted.is_empty() {
                    // They are there now, or were refused for good. Nobody waits for the channels meanwhile.
                    topics.wanted.clear();
                    continue;
                }
                if let Ok(Reply::Rejected(why)) = codec::decode(&reply.bytes) {
                    tracing::error!(why, "the channels of this node's file were not taken");
                }
            }
            Err(error) => tracing::debug!(%error, "a chore has to wait"),
        }
        let backlog = wakes_at.is_some_and(|time| time <= agreed);
        tokio::time::sleep(if backlog { BACKLOG_PAUSE } else { PAUSE }).await;
    }
}

/// Topics of the file that were not asked for yet. The cluster makes each once: whoever deletes one through the
/// API does not want to see it again.
struct Topics {
    wanted: Vec<(String, Settings)>,
}

impl Topics {
    fn of(config: &Config) -> Self {
        let mut wanted: Vec<_> =
            config.topics.iter().map(|topic| (topic.name.clone(), topic.settings())).collect();
        if !wanted.iter().any(|(name, _)| name == notices::TOPIC) {
            let settings = Settings { drop_oldest: true, ..Settings::default() };
            wanted.push((notices::TOPIC.into(), settings));
        }
        Self { wanted }
    }

    fn missing(&self, state: &State) -> Vec<Ask> {
        let queue = &state.data().queue;
        let missing = self.wanted.iter().filter(|(name, _)| !queue.seeded.contains(name.as_str()));
        let ask = |(topic, settings): &(String, Settings)| Ask {
            idempotency: None,
            topic: topic.clone(),
            what: What::Seed(settings.clone()),
        };
        missing.map(ask).collect()
    }
}

/// A schedule that is due.
struct Due {
    topic: String,
    name: String,
    cron: String,
    at: u64,
}

fn due(state: &State, now: u64) -> Vec<Due> {
    let topics = state.data().queue.topics.iter();
    let schedules = topics.flat_map(|(topic, known)| {
        known.schedules.iter().map(move |(name, schedule)| (topic, name, schedule))
    });
    let due =
        schedules.filter(|(.., schedule)| schedule.next <= now).map(|(topic, name, known)| Due {
            topic: topic.to_string(),
            name: name.clone(),
            cron: known.cron.clone(),
            at: known.next,
        });
    due.take(FIRED_MAX).collect()
}

/// Fires each once, however many times were missed, and goes on from now. `unread` are those of which it was
/// said already that their expressions mean nothing here: one may name a time zone that this machine lacks.
fn fire(due: Vec<Due>, now: u64, unread: &mut BTreeSet<(String, String)>) -> Vec<Ask> {
    let fired = due.into_iter().filter_map(|Due { topic, name, cron, at }| {
        match cron::next(&cron, now.max(at)) {
            Ok(next) => {
                let what = What::Fire { name, at, next };
                Some(Ask { idempotency: None, topic, what })
            }
            Err(why) => {
                if unread.insert((topic.clone(), name.clone())) {
                    tracing::error!(topic, name, why, "a schedule cannot fire");
                }
                None
            }
        }
    });
    fired.collect()
}

#[cfg(test)]
mod tests;
