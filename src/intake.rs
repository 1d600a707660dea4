//! Where every delivery ends, whichever way it came: webhook, queue or poll. It is made durable here, and
//! agreed on where the config asks for that.

use std::time::Duration;

use cluster::durable::Db;
use state::command::{Delivery, Fact};
use state::origin::Lane;
use tokio::sync::watch;

use crate::config::{self, Ack};
use crate::inbox::{Busy, Inbox, Store};
use crate::planted::{self, Bug};
use crate::route::Router;

/// Keeps deliveries as the config says. Cheap to clone.
#[derive(Clone)]
pub struct Intake<S = Db> {
    inbox: Inbox<S>,
    ack: Ack,
    quorum_timeout: Duration,
    removed: watch::Receiver<bool>,
    router: Router,
}

/// Why a delivery cannot be promised now: its sender must come back.
#[derive(Debug, thiserror::Error)]
pub enum Later {
    /// It cannot be made durable.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// It is durable here, and the cluster has not agreed on it in time.
    #[error("the cluster did not agree in time")]
    NotAgreed,
    /// Nobody agrees with this node any more.
    #[error("this node was removed from the cluster")]
    Removed,
}

impl<S: Store> Intake<S> {
    /// An intake into this inbox, until this node is `removed`, of deliveries that publish nothing.
    #[must_use]
    pub fn new(inbox: Inbox<S>, ingest: &config::Ingest, removed: watch::Receiver<bool>) -> Self {
        let quorum_timeout = ingest.quorum_timeout.duration();
        Self { inbox, ack: ingest.ack, quorum_timeout, removed, router: Router::default() }
    }

    /// The same, of deliveries that publish what this router says.
    #[must_use]
    pub fn publishing(self, router: Router) -> Self {
        Self { router, ..self }
    }

    /// What deliveries publish.
    #[must_use]
    pub const fn router(&self) -> &Router {
        &self.router
    }

    /// Makes a delivery durable: once this returns, it will be applied once, whatever crashes.
    pub async fn keep(&self, delivery: Delivery) -> Result<(), Later> {
        if *self.removed.borrow() {
            return Err(Later::Removed);
        }
        let place = self.inbox.accept(lane(&delivery), delivery).await?;
        if self.ack == Ack::Quorum && !planted::has(Bug::AnsweredBeforeAgreed) {
            let agreed = tokio::time::timeout(self.quorum_timeout, self.inbox.agreed(place)).await;
            agreed.map_err(|_| Later::NotAgreed)?;
        }
        Ok(())
    }
}

/// Decrements go first. What ends a poll goes with them: it must not overtake what was polled.
fn lane(delivery: &Delivery) -> Lane {
    let is_urgent = |fact: &Fact| {
        matches!(fact, Fact::Image { .. } | Fact::Polled { .. } | Fact::Looked { .. })
    };
    if delivery.facts.iter().any(is_urgent) { Lane::Urgent } else { Lane::Normal }
}
