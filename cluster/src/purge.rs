//! When entries leave the log.
//!
//! What a snapshot covers may go, but for the newest `keep_log` entries of it. A follower that is sent a
//! snapshot goes on by log from where that snapshot ends; were the log purged meanwhile, it would be sent the
//! next snapshot, and the next, and never catch up. So what follows a snapshot that is on its way is kept
//! until its follower has come as near as others may be, or cannot be reached, or [`HELD_SNAPSHOTS_MAX`]
//! snapshots were made since. openraft would purge without a look at any of this; it is told when to instead.

use std::collections::BTreeMap;
use std::sync::Arc;

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::watch;

use crate::config::Config;
use crate::transport::peers::Peers;
use crate::types::{Core, Metrics};

/// So many times `snapshot_every` entries are kept for a follower at the most. A transfer that takes longer is
/// begun again; a log without bound would fill the disk instead.
const HELD_SNAPSHOTS_MAX: u64 = 16;

/// From where followers go on that are sent a snapshot. Cheap to clone; all clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Holds(watch::Sender<BTreeMap<u64, Held>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    /// The last index that the snapshot covers.
    snapshot: u64,
    /// Whether it is installed.
    sent: bool,
}

/// Keeps the log behind one snapshot while it is on its way.
pub(crate) struct Hold<'h> {
    holds: &'h Holds,
    follower: u64,
}

impl Holds {
    /// Keeps what follows index `snapshot` for `follower`.
    pub(crate) fn hold(&self, follower: u64, snapshot: u64) -> Hold<'_> {
        self.0.send_modify(|held| {
            held.insert(follower, Held { snapshot, sent: false });
        });
        Hold { holds: self, follower }
    }
}

impl Hold<'_> {
    /// The follower has the snapshot, and goes on by log.
    pub(crate) fn sent(&self) {
        self.holds.0.send_if_modified(|held| {
            held.get_mut(&self.follower)
                .is_some_and(|held| !std::mem::replace(&mut held.sent, true))
        });
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.holds.0.send_if_modified(|held| {
            let failed = held.get(&self.follower).is_some_and(|held| !held.sent);
            failed && held.remove(&self.follower).is_some()
        });
    }
}

/// How much of the log stays.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept {
    /// Entries before the newest snapshot that always stay.
    pub(crate) always: u64,
    /// A snapshot is made after so many.
    pub(crate) snapshot_every: u64,
}

/// Has the log purged, until raft ends.
pub(crate) async fn run(core: Core, peers: Arc<Peers>, holds: Holds, kept: Kept) {
    let mut metrics = core.metrics();
    let mut held = holds.0.subscribe();
    loop {
        let due = {
            let metrics = metrics.borrow_and_update();
            release(&holds, &metrics, kept, &peers);
            let from = metrics.snapshot.map(|id| id.index);
            from.and_then(|snapshot| {
                let purged = metrics.purged.map(|id| id.index);
                let held = held.borrow_and_update();
                let needed =
                    held.iter().map(|(id, held)| matched(&metrics, *id).max(held.snapshot));
                kept.due(snapshot, purged, needed.min())
            })
        };
        if let Some(upto) = due
            && core.trigger().purge_log(upto).await.is_err()
        {
            return;
        }
        tokio::select! {
            changed = metrics.changed() => if changed.is_err() { return },
            changed = held.changed() => if changed.is_err() { return },
        }
    }
}

/// Forgets followers that need it no more, or that cannot be helped.
fn release(holds: &Holds, metrics: &Metrics, kept: Kept, peers: &Peers) {
    let snapshot = metrics.snapshot.map_or(0, |id| id.index);
    let near = snapshot.saturating_sub(kept.always);
    holds.0.send_if_modified(|held| {
        let before = held.len();
        held.retain(|id, held| {
            let leads = metrics.state == ServerState::Leader;
            !held.sent || (leads && peers.health(*id).reachable && matched(metrics, *id) < near)
        });
        held.len() < before
    });
}

/// Up to where a follower is known to have the log; 0 if that is not known.
fn matched(metrics: &Metrics, follower: u64) -> u64 {
    let known = metrics.replication.as_ref().and_then(|all| all.get(&follower));
    known.and_then(|id| id.as_ref()).map_or(0, |id| id.index)
}

impl Kept {
    pub(crate) fn of(config: &Config) -> Self {
        Self { always: config.keep_log, snapshot_every: config.snapshot_every }
    }

    /// The index up to which the log may go now, where going is worth the while: a few at a time cost as much as
    /// many.
    fn due(self, snapshot: u64, purged: Option<u64>, needed: Option<u64>) -> Option<u64> {
        let usual = snapshot.checked_sub(self.always)?;
        let most = self.snapshot_every.saturating_mul(HELD_SNAPSHOTS_MAX);
        let needed = needed.unwrap_or(usual).max(usual.saturating_sub(most));
        let upto = usual.min(needed);
        let gone = purged.map_or(0, |purged| purged.saturating_add(1));
        let batch = (self.always / 8).max(1);
        (upto.saturating_add(1) >= gone.saturating_add(batch)).then_some(upto)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Purged too far, and a follower begins anew; not at all, and the disk fills.
    #[test]
    fn what_a_follower_needs_is_kept_and_no_more_than_the_bound() {
        let kept = Kept { always: 80, snapshot_every: 100 };
        assert_eq!(kept.due(70, None, None), None, "there is less than is always kept");
        assert_eq!(kept.due(1_000, None, None), Some(920));
        assert_eq!(kept.due(1_000, Some(915), None), None, "too few to be worth it");
        assert_eq!(kept.due(1_000, Some(910), None), Some(920));
        assert_eq!(kept.due(1_000, Some(100), Some(500)), Some(500), "a follower goes on there");
        assert_eq!(kept.due(1_000, Some(500), Some(500)), None);
        assert_eq!(kept.due(1_000, None, Some(990)), Some(920), "it needs less than is kept");
        assert_eq!(kept.due(9_000, Some(500), Some(500)), Some(7_320), "the bound");
        assert_eq!(kept.due(u64::MAX, Some(u64::MAX), Some(0)), None, "nothing overflows");
    }

    // A hold that is left behind by a transfer that failed would keep the log until the bound, again and again.
    #[test]
    fn a_transfer_that_fails_holds_nothing() {
        let holds = Holds::default();
        drop(holds.hold(2, 10));
        assert!(holds.0.borrow().is_empty());
        let hold = holds.hold(2, 20);
        hold.sent();
        drop(hold);
        assert_eq!(holds.0.borrow().get(&2), Some(&Held { snapshot: 20, sent: true }));
    }
}
