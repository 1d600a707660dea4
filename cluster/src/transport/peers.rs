//! The peers that this node knows, and the lasting connections to them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::dial::Dialer;
use super::message::Purpose;
use super::mux::{Health, Mux, Setup};
use crate::types::Member;

/// One peer. Its connections end when it is forgotten.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: u64,
    pub(crate) address: String,
    pub(crate) control: Mux,
    pub(crate) forward: Mux,
    health: watch::Receiver<Health>,
    stop: CancellationToken,
}

impl Peer {
    pub(crate) fn health(&self) -> Health {
        *self.health.borrow()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) struct Peers {
    pub(crate) dialer: Arc<Dialer>,
    heartbeat: Duration,
    stop: CancellationToken,
    known: Mutex<BTreeMap<u64, Arc<Peer>>>,
    /// Counts changes of reachability, for those who watch the status.
    changes: watch::Sender<u64>,
}

impl Peers {
    pub(crate) fn new(dialer: Arc<Dialer>, heartbeat: Duration, stop: CancellationToken) -> Self {
        let (known, changes) = (Mutex::default(), watch::Sender::new(0));
        Self { dialer, heartbeat, stop, known, changes }
    }

    /// The peer at that address; connections to it are made in the background.
    pub(crate) fn get(&self, member: &Member) -> Arc<Peer> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = known.get(&member.id).filter(|peer| peer.address == member.peer) {
            return Arc::clone(peer);
        }
        let peer = Arc::new(self.connect(member));
        known.insert(member.id, Arc::clone(&peer));
        peer
    }

    /// The peer, if there is one of this id.
    pub(crate) fn known(&self, id: u64) -> Option<Arc<Peer>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&id).map(Arc::clone)
    }

    /// What is known of a peer's health; nothing of one that was never reached.
    pub(crate) fn health(&self, id: u64) -> Health {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&id).map(|peer| peer.health()).unwrap_or_default()
    }

    /// Keeps connections to these members and to no others.
    pub(crate) fn keep(&self, members: &BTreeMap<u64, Member>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|id, _| members.contains_key(id));
        drop(known);
        for member in members.values().filter(|member| member.id != self.dialer.id) {
            self.get(member);
        }
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn connect(&self, member: &Member) -> Peer {
        let stop = self.stop.child_token();
        let (sender, health) = watch::channel(Health::default());
        let mux = |purpose| {
            Mux::spawn(Setup {
                dialer: Arc::clone(&self.dialer),
                to: member.id,
                address: member.peer.clone(),
                purpose,
                heartbeat: self.heartbeat,
                health: sender.clone(),
                stop: stop.clone(),
            })
        };
        let (control, forward) = (mux(Purpose::Control), mux(Purpose::Forward));
        let (mut judged, changes) = (health.clone(), self.changes.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            while judged.changed().await.is_ok() {
                changes.send_modify(|count| *count += 1);
            }
        }));
        Peer { id: member.id, address: member.peer.clone(), control, forward, health, stop }
    }
}
