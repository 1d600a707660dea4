//! Finding the leader, wherever it is, and asking it until there is an answer or no more time.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::leader::Leader;
use crate::status::wait_for;
use crate::transport::message::{Ask, Lead, Led, Refusal, Reply};
use crate::transport::mux::CallError;
use crate::transport::peers::Peers;
use crate::types::{Core, Member};

/// Between two attempts, while the leader cannot be reached or is being elected.
const RETRY_PAUSE: Duration = Duration::from_millis(25);

pub(crate) struct Router {
    core: Core,
    leader: Arc<Leader>,
    peers: Arc<Peers>,
    /// Who leads those by whom this node was removed.
    of_others: watch::Receiver<Option<Member>>,
}

impl Router {
    pub(crate) fn new(
        core: Core,
        leader: Arc<Leader>,
        peers: Arc<Peers>,
        of_others: watch::Receiver<Option<Member>>,
    ) -> Self {
        Self { core, leader, peers, of_others }
    }

    /// Asks the leader, which may be this node. `ask` is told how many milliseconds are left.
    ///
    /// It tries again only as long as the last attempt certainly did nothing; the first one that may
    /// have done something is the last.
    pub(crate) async fn lead(
        &self,
        ask: impl Fn(u64) -> Lead,
        timeout: Duration,
    ) -> Result<Led, Refusal> {
        let until = Instant::now() + timeout;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let lead = ask(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
            let refusal = match self.attempt(lead, until).await {
                Err(refusal @ (Refusal::NotLeader | Refusal::Unavailable(_))) => refusal,
                done => return done,
            };
            if Instant::now() + RETRY_PAUSE >= until {
                return Err(refusal);
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn attempt(&self, lead: Lead, until: Instant) -> Result<Led, Refusal> {
        let of_others = self.of_others.borrow().clone();
        if let Some(leader) = of_others {
            return self.ask(&leader, lead, until).await;
        }
        let mut metrics = self.core.metrics();
        let known = wait_for(&mut metrics, |metrics| {
            metrics.current_leader.is_some() || metrics.running_state.is_err()
        });
        if timeout_at(until, known).await.is_err() {
            return Err(Refusal::NotLeader);
        }
        let (own, leader, member) = {
            let metrics = metrics.borrow_watched();
            if let Err(error) = &metrics.running_state {
                return Err(Refusal::Unavailable(error.to_string()));
            }
            let Some(leader) = metrics.current_leader else { return Err(Refusal::NotLeader) };
            let member = metrics.membership_config.get_node(&leader).cloned();
            (metrics.id, leader, member)
        };
        if own == leader {
            return self.leader.lead(lead).await;
        }
        let Some(member) = member else { return Err(Refusal::NotLeader) };
        let member = Member { id: leader, ..member };
        // A change of members may remove the very leader that carries it out, and is answered by it.
        let is_change = matches!(lead, Lead::Change { .. });
        let moved = wait_for(&mut metrics, |metrics| {
            metrics.current_leader.is_some_and(|now| now != leader)
        });
        tokio::select! {
            answer = self.ask(&member, lead, until) => answer,
            // The old one may be gone without a word, and take the rest of the time to be missed.
            _ = moved, if !is_change => Err(Refusal::Unknown("another node leads now".to_owned())),
        }
    }

    async fn ask(&self, leader: &Member, lead: Lead, until: Instant) -> Result<Led, Refusal> {
        let peer = self.peers.get(leader);
        match timeout_at(until, peer.forward.call(Ask::Lead(lead))).await {
            Ok(Ok(Reply::Led(answer))) => answer,
            Ok(Ok(Reply::Failed(why)) | Err(CallError::NotSent(why))) => {
                Err(Refusal::Unavailable(why))
            }
            Ok(Err(CallError::Lost(why))) => Err(Refusal::Unknown(why)),
            Ok(Ok(_)) => Err(Refusal::Unknown("an answer to another question".to_owned())),
            Err(_) => Err(Refusal::Unknown("no answer in time".to_owned())),
        }
    }
}
