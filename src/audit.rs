//! Audits: at a checkpoint every node looks its whole replica over and reports what it is.
//!
//! A checkpoint is an entry of the log, so all replicas stand at one index when they take it. The reports
//! go through the log too, and whoever asked compares them. Nothing that is remembered from earlier is
//! trusted: digests are made from all of the state, and the chain from the first movement on.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use cluster::{Raft, codec};
use state::command::{Command, Report};
use state::invariant::{self, Sums};
use tokio_util::sync::CancellationToken;

use crate::history::{self, Hash, History};
use crate::replica::{Frozen, Shared};
use crate::{clock, digest};

/// A checkpoint older than this, met when the log is replayed, is nobody's business any more.
const OLD: u64 = 10 * 60 * 1000;
/// How long one try to report may take, and how many there are.
const TIMEOUT: Duration = Duration::from_secs(10);
const TRIES: u32 = 6;

/// Reports on every checkpoint until `stop`.
pub async fn run(node: u64, replica: Shared, raft: Raft, stop: CancellationToken) {
    let mut checkpoints = {
        let replica = replica.read().unwrap_or_else(PoisonError::into_inner);
        replica.checkpoint()
    };
    loop {
        let frozen = checkpoints.borrow_and_update().clone();
        if let Some(frozen) = frozen.filter(|frozen| is_new(frozen, node)) {
            tokio::select! {
                () = report(node, &replica, &raft, frozen) => {}
                () = stop.cancelled() => return,
            }
        }
        tokio::select! {
            changed = checkpoints.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}

fn is_new(frozen: &Frozen, node: u64) -> bool {
    let reports = frozen.data.checkpoints.get(&frozen.index);
    let open = reports.is_some_and(|reports| !reports.contains_key(&node));
    open && clock::now_ms().saturating_sub(frozen.data.now) < OLD
}

async fn report(node: u64, replica: &Shared, raft: &Raft, frozen: Arc<Frozen>) {
    let checkpoint = frozen.index;
    let history = replica.read().unwrap_or_else(PoisonError::into_inner).history();
    let found = tokio::task::spawn_blocking(move || audit(&frozen, &history)).await;
    let Ok(report) = found else { return };
    if let Some(fault) = &report.fault {
        tracing::error!(checkpoint, fault, "this node's replica is damaged");
    }
    let command = codec::encode(&Command::Report { checkpoint, node, report });
    for _ in 0..TRIES {
        match raft.propose(command.clone(), TIMEOUT).await {
            Ok(_) => return,
            Err(error) => tracing::debug!(checkpoint, %error, "a report has to wait"),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Looks a replica over, all of it.
#[must_use]
pub fn audit(frozen: &Frozen, history: &History) -> Report {
    let mut report = Report {
        digests: digest::of_parts(&frozen.data),
        chain: frozen.chain,
        movements: 0,
        fault: None,
    };
    let checked = check(frozen, history, &mut report.movements);
    report.fault = checked.err();
    report
}

fn check(frozen: &Frozen, history: &History, count: &mut u64) -> Result<(), String> {
    let unreadable = |error: history::Error| error.to_string();
    let (mut chain, mut sums) = (Hash::default(), Sums::default());
    let mut place = (0, 0);
    for line in history.all(frozen.index) {
        let (index, movement, hash) = line.map_err(unreadable)?;
        place = if place.0 == index { (index, place.1 + 1) } else { (index, 0) };
        chain = history::link(&chain, &movement);
        if chain != hash {
            let (n, kind) = (place.1, movement.kind.name());
            return Err(format!(
                "the history is broken at log index {index}, line {n}: {kind} {} of {:?} at {:?} is \
                 not what follows the line before it",
                movement.quantity, movement.sku, movement.location
            ));
        }
        sums.add(&movement);
        *count += 1;
    }
    if chain != frozen.chain {
        return Err("the history ends with another line than the state".into());
    }
    let data = &frozen.data;
    invariant::levels_are_sums(data, sums)?;
    invariant::orders_are_settled(data)?;
    invariant::reserved_is_held(data)?;
    invariant::escrow_adds_up(data)
}

#[cfg(test)]
mod tests;
