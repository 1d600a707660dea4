//! Which node pushes to a channel: its home while that lives, another one otherwise.
//!
//! A lease runs while the owner has something to do, and each intent and each outcome that is agreed on
//! renews it. It is counted here from before that was proposed, and by the agreed state from after: so whoever
//! is cut off has stopped before anybody else is let in. An owner without work needs no lease, and writes
//! nothing.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use state::limits::{CLAIM_AFTER_MS, LEASE_MS};
use state::{Command, Reply};
use tokio::time::Instant;

use super::{LOOK, Lost, Pusher};
use crate::agreed::Agreed;
use crate::channel::Quantities;
use crate::home::{home, stands_in};

const LEASE: Duration = Duration::from_millis(LEASE_MS);
/// How old a lease is when it is renewed for its own sake.
const RENEW: Duration = Duration::from_millis(LEASE_MS / 2);
/// How long a channel with work must be silent before another node stands in. The next one in line waits
/// so much longer again.
const SILENT: Duration = Duration::from_millis(CLAIM_AFTER_MS);
const IN_LINE: Duration = Duration::from_secs(5);
/// How often a node tries to take a channel over that is its work.
const CLAIM_AGAIN: Duration = Duration::from_secs(1);

/// A channel that is this node's to push to.
pub(super) struct Owned {
    pub(super) epoch: u64,
    /// When the newest command that renewed the lease was about to be proposed.
    renewed: Mutex<Instant>,
}

impl Owned {
    pub(super) fn new(epoch: u64, asked: Instant) -> Self {
        Self { epoch, renewed: Mutex::new(asked) }
    }

    /// Something was agreed on that was proposed after this time.
    pub(super) fn renew(&self, asked: Instant) {
        let mut renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        *renewed = asked.max(*renewed);
    }

    fn age(&self) -> Duration {
        self.renewed.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Whether nobody else may have been let in yet.
    pub(super) fn is_held(&self) -> bool {
        self.age() < LEASE
    }
}

/// Whether this node goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The channel is its own.
    Owner,
    /// The channel's home is back, and wants it.
    Wanted,
    /// Another node has it, or nothing is pushed there any more.
    Gone,
}

/// What a node that may have to stand in has seen of the owner.
struct Silence {
    lease: Option<(u64, u64)>,
    since: Instant,
}

impl<Q: Quantities, A: Agreed> Pusher<Q, A> {
    /// Waits until this node is to push to the channel, and takes it over. Says whether another node had it.
    pub(super) async fn own(&self) -> (Owned, bool) {
        let mut silence = Silence { lease: None, since: Instant::now() };
        loop {
            let mut changed = self.cluster.watch();
            if self.is_to_own(&mut silence) {
                let before = self.cluster.look(|state| {
                    state.data().channels.get(&self.channel.name)?.owner.map(|owner| owner.node)
                });
                let command =
                    Command::Claim { channel: self.channel.name.clone(), node: self.node };
                let asked = Instant::now();
                match self.propose(&command).await {
                    Ok((_, Reply::Claimed { epoch })) => {
                        return (Owned::new(epoch, asked), before != Some(self.node));
                    }
                    Ok((_, reply)) => {
                        tracing::debug!(?reply, "the channel cannot be claimed yet");
                        self.wait_for_owner().await;
                    }
                    Err(error) => {
                        tracing::debug!(%error, "the channel was not claimed");
                        tokio::time::sleep(CLAIM_AGAIN).await;
                    }
                }
            } else if silence.lease.is_some() {
                // Another node has it: there is time.
                tokio::time::sleep(LOOK).await;
            } else {
                // Either way the next look tells.
                let _ = tokio::time::timeout(LOOK, changed.changed()).await;
            }
        }
    }

    /// Waits until the owner, which knows that it is wanted, gives the channel back, or its lease may have run out.
    /// To claim it before would only fill the log.
    async fn wait_for_owner(&self) {
        let mut changed = self.cluster.watch();
        let left = || {
            self.cluster.look(|state| {
                let owner = state.data().channels.get(&self.channel.name)?.owner?;
                let left = owner.lease_until.saturating_sub(state.data().now);
                (owner.wanted_by == Some(self.node)).then_some(Duration::from_millis(left))
            })
        };
        let until = Instant::now() + left().unwrap_or(CLAIM_AGAIN).clamp(CLAIM_AGAIN, SILENT);
        while tokio::time::timeout_at(until, changed.changed()).await.is_ok_and(|told| told.is_ok())
            && left().is_some()
        {}
    }

    /// Whether this node is the channel's home, or is to stand in for it by now: as there is work that nobody
    /// does.
    fn is_to_own(&self, silence: &mut Silence) -> bool {
        let (wanted, lease, waits) = self.cluster.look(|state| {
            let known = state.data().channels.get(&self.channel.name);
            let known = known.filter(|known| known.definition.pushes);
            let lease = known.and_then(|known| known.owner);
            let waits = known.is_some_and(|known| !known.is_paused(state.data().now))
                && has_work(state, &self.channel.name);
            let lease = lease.map(|owner| (owner.epoch, owner.lease_until));
            (known.map(|known| known.definition.home), lease, waits)
        });
        let Some(wanted) = wanted else { return false };
        let status = self.cluster.status();
        if home(&status, wanted) == Some(self.node) {
            return true;
        }
        if silence.lease != lease || !waits {
            *silence = Silence { lease, since: Instant::now() };
        }
        let Some(before) = stands_in(&status, wanted, self.node) else { return false };
        silence.since.elapsed() >= SILENT + IN_LINE * before
    }

    /// Whether the channel is this node's still, as far as it has heard.
    pub(super) fn standing(&self, own: &Owned) -> Standing {
        let (wanted, owner) = self.cluster.look(|state| {
            let known = state.data().channels.get(&self.channel.name);
            let known = known.filter(|known| known.definition.pushes);
            (known.map(|known| known.definition.home), known.and_then(|known| known.owner))
        });
        let Some(wanted) = wanted else { return Standing::Gone };
        match owner {
            Some(owner) if owner.epoch > own.epoch => Standing::Gone,
            Some(owner) if owner.epoch == own.epoch && owner.wanted_by.is_some() => {
                let at_home = home(&self.cluster.status(), wanted) == Some(self.node);
                if at_home { Standing::Owner } else { Standing::Wanted }
            }
            _ => Standing::Owner,
        }
    }

    /// Makes sure that nobody else was let in. Asked right before each call that sets something.
    pub(super) async fn hold(&self, own: &Owned) -> Result<(), Lost> {
        while !own.is_held() {
            self.renew(own).await?;
        }
        Ok(())
    }

    /// Says that this node lives, and how many calls it made.
    async fn renew(&self, own: &Owned) -> Result<(), Lost> {
        let (channel, epoch, calls) = (self.channel.name.clone(), own.epoch, self.pace.told());
        let asked = Instant::now();
        match self.propose(&Command::Renew { channel, epoch, calls }).await {
            Ok((_, Reply::Done)) => {
                own.renew(asked);
                return Ok(());
            }
            Ok(_) => return Err(Lost),
            Err(error) => tracing::debug!(%error, "a lease is not renewed yet"),
        }
        self.pace.untold(calls);
        tokio::time::sleep(CLAIM_AGAIN).await;
        Ok(())
    }

    /// Keeps the lease while there is work, returns once it is lost. What both lanes wait for may take long.
    pub(super) async fn keep(&self, own: &Owned) {
        loop {
            tokio::time::sleep(RENEW / 2).await;
            let (works, paused) = self.cluster.look(|state| {
                let known = state.data().channels.get(&self.channel.name);
                let paused = known.is_some_and(|known| known.is_paused(state.data().now));
                (has_work(state, &self.channel.name), paused)
            });
            if !paused {
                self.pace.accepted();
            }
            let tells = self.pace.untold_calls() > 0;
            if (works && !paused || tells) && own.age() > RENEW && self.renew(own).await.is_err() {
                return;
            }
        }
    }

    /// Gives the channel to its home, which waits for it.
    pub(super) async fn give_back(&self, own: &Owned) {
        let command = Command::Release { channel: self.channel.name.clone(), epoch: own.epoch };
        if let Err(error) = self.propose(&command).await {
            tracing::debug!(%error, "the channel was not given back; its lease runs out");
        }
    }
}

fn has_work(state: &state::State, channel: &str) -> bool {
    state.due().count(channel) > 0 || state.flights().count(channel) > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    // An owner that counts its lease from when it heard of it sends for as long again as its proposal took.
    #[tokio::test(start_paused = true)]
    async fn a_lease_is_counted_from_before_it_was_asked_for() {
        let asked = Instant::now();
        tokio::time::sleep(Duration::from_secs(4)).await;
        let own = Owned::new(1, asked);
        assert!(own.is_held());
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert!(!own.is_held());
        let asked = Instant::now();
        own.renew(asked);
        assert!(own.is_held());
        // An answer that comes late does not make it older.
        own.renew(asked - Duration::from_secs(5));
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert!(own.is_held());
    }
}
