//! Clients that remember what they were told, and the dice that a plan is drawn with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cluster::ProposeError;

use super::{Node, PATIENCE, command};

/// xorshift64*: enough to draw a plan from a seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % sides
    }
}

/// What clients were told, by id. No id is proposed twice.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) ok: Vec<u64>,
    pub(crate) unavailable: Vec<u64>,
    pub(crate) unknown: Vec<u64>,
}

impl Told {
    pub(crate) fn add(&mut self, more: Self) {
        self.ok.extend(more.ok);
        self.unavailable.extend(more.unavailable);
        self.unknown.extend(more.unknown);
    }

    pub(crate) fn check(&self, applied: &BTreeMap<u64, u64>, plan: &str) {
        for id in &self.ok {
            assert_eq!(applied.get(id), Some(&1), "{id} was answered and not applied once; {plan}");
        }
        for id in &self.unavailable {
            assert_eq!(applied.get(id), None, "{id} was refused and applied; {plan}");
        }
        assert!(applied.values().all(|times| *times == 1), "something was applied twice; {plan}");
        let told = self.ok.len() + self.unavailable.len() + self.unknown.len();
        assert!(applied.len() <= told, "something was applied that nobody proposed; {plan}");
    }
}

/// A client of one node that proposes until told to stop.
pub(crate) fn client(
    node: &Node,
    ids: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> tokio::task::JoinHandle<Told> {
    let raft = node.raft.clone();
    tokio::spawn(async move {
        let mut told = Told::default();
        while !stop.load(Ordering::SeqCst) {
            let id = ids.fetch_add(1, Ordering::SeqCst);
            match raft.propose(command(id), Duration::from_millis(700)).await {
                Ok(_) => told.ok.push(id),
                Err(ProposeError::Unavailable(_)) => told.unavailable.push(id),
                Err(ProposeError::Unknown(_)) => told.unknown.push(id),
                Err(error @ ProposeError::TooLarge { .. }) => panic!("{error}"),
            }
        }
        told
    })
}

pub(crate) async fn collect(clients: Vec<tokio::task::JoinHandle<Told>>) -> Told {
    let mut all = Told::default();
    for client in clients {
        all.add(tokio::time::timeout(PATIENCE, client).await.unwrap().unwrap());
    }
    all
}
