//! `GET /cluster/verify`: whether all nodes hold the same, and whether it is what happened.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use state::command::Report;
use state::{Command, NodeId, Reply};
use tokio::sync::Semaphore;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Json, Query};
use super::{Admin, Problem};
use crate::channel::hex;

/// How long the nodes have for their reports if nothing else is said, and at the most, in seconds.
const WAIT_S: u64 = 60;
const WAIT_S_MAX: u64 = 3600;
/// A node reports on the newest checkpoint: another one meanwhile would take the reports away.
static ONE: Semaphore = Semaphore::const_new(1);

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Patience {
    /// Seconds to wait for all nodes: 60 if not given, 3600 at the most.
    wait_s: Option<u64>,
}

/// What the nodes found.
#[derive(Serialize, ToSchema)]
pub(super) struct Verdict {
    /// Whether all nodes reported, found nothing wrong, and hold the same.
    ok: bool,
    /// Log index at which all of them looked.
    checkpoint: u64,
    nodes: Vec<NodeVerdict>,
}

/// What one node found.
#[derive(Serialize, ToSchema)]
pub(super) struct NodeVerdict {
    id: u64,
    region: String,
    /// Whether it reported in time.
    reported: bool,
    /// Movements whose hashes it made again.
    movements: Option<u64>,
    /// Hash of the newest movement: the end of the chain.
    chain: Option<String>,
    /// What is wrong with its replica by itself.
    fault: Option<String>,
    /// Parts of its state that differ from those of most nodes.
    differs: Vec<String>,
}

/// Has every node look its whole replica over at one log index: makes the hash chain of its movements
/// again, adds up the levels from them, and compares what the nodes hold, part by part.
#[utoipa::path(get, path = "/cluster/verify", operation_id = "verify_cluster",
    tag = "cluster", params(Patience),
    responses((status = 200, body = Verdict), (status = 503, body = Problem)))]
pub(super) async fn verify(
    State(admin): State<Admin>,
    Query(patience): Query<Patience>,
) -> Result<Json<Verdict>, Problem> {
    let Ok(_one) = ONE.try_acquire() else {
        let why = "the nodes are being verified already; ask again when that is done";
        return Err(Problem::unavailable(why.into()));
    };
    let reply = admin.propose(&Command::Checkpoint).await?.1;
    let Reply::Checkpoint { index } = reply else {
        return Err(Problem::internal(format!("unexpected reply {reply:?}")));
    };
    let wait = Duration::from_secs(patience.wait_s.unwrap_or(WAIT_S).min(WAIT_S_MAX));
    // What came in until then is told in any case.
    let _ = tokio::time::timeout(wait, all_reported(&admin, index)).await;
    let reports = admin.read().state().data().checkpoints.get(&index).cloned();
    Ok(Json(compare(&admin, index, &reports.unwrap_or_default())))
}

async fn all_reported(admin: &Admin, checkpoint: u64) {
    let mut changed = admin.read().watch();
    loop {
        changed.borrow_and_update();
        let members = admin.raft.status().members;
        let complete = {
            let replica = admin.read();
            let reports = replica.state().data().checkpoints.get(&checkpoint);
            // One that so many followed is forgotten.
            let forgotten = reports.is_none() && replica.index() > checkpoint;
            let reported = |id: &NodeId| reports.is_some_and(|reports| reports.contains_key(id));
            forgotten || members.iter().all(|known| reported(&known.member.id))
        };
        if complete || changed.changed().await.is_err() {
            return;
        }
    }
}

fn compare(admin: &Admin, checkpoint: u64, reports: &BTreeMap<NodeId, Report>) -> Verdict {
    let usual = usual(reports);
    let nodes = admin.raft.status().members.into_iter().map(|known| {
        let report = reports.get(&known.member.id);
        let differs = report
            .into_iter()
            .flat_map(|report| parts(report).filter(|(name, hash)| usual.get(name) != Some(hash)));
        NodeVerdict {
            id: known.member.id,
            region: known.member.region,
            reported: report.is_some(),
            movements: report.map(|report| report.movements),
            chain: report.map(|report| hex(&report.chain)),
            fault: report.and_then(|report| report.fault.clone()),
            differs: differs.map(|(name, _)| name.to_string()).collect(),
        }
    });
    let nodes: Vec<NodeVerdict> = nodes.collect();
    let good =
        |node: &NodeVerdict| node.reported && node.fault.is_none() && node.differs.is_empty();
    Verdict { ok: nodes.iter().all(good), checkpoint, nodes }
}

type Hash = [u8; 32];

fn parts(report: &Report) -> impl Iterator<Item = (&str, Hash)> {
    let digests = report.digests.iter().map(|(name, hash)| (name.as_str(), *hash));
    digests.chain([("movements", report.chain)])
}

/// What most nodes hold of each part; nothing where no two agree and there are several.
fn usual(reports: &BTreeMap<NodeId, Report>) -> BTreeMap<&str, Hash> {
    let mut votes: BTreeMap<&str, BTreeMap<Hash, usize>> = BTreeMap::new();
    for report in reports.values() {
        for (name, hash) in parts(report) {
            *votes.entry(name).or_default().entry(hash).or_default() += 1;
        }
    }
    let most = votes.into_iter().filter_map(|(name, votes)| {
        let (hash, count) = votes.into_iter().max_by_key(|(_, count)| *count)?;
        (count * 2 > reports.len()).then_some((name, hash))
    });
    most.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(stock: u8) -> Report {
        let digests = [("orders", 1), ("stock", stock)].map(|(name, n)| (name.into(), [n; 32]));
        Report { digests: digests.into(), chain: [9; 32], movements: 1, fault: None }
    }

    #[test]
    fn the_one_that_differs_is_named() {
        // Whoever compares with the first node's report alone blames the two that are right.
        let reports: BTreeMap<NodeId, Report> =
            [(1, report(7)), (2, report(2)), (3, report(2))].into();
        let usual = usual(&reports);
        let differs = |id: NodeId| {
            let parts = parts(&reports[&id]).filter(|(name, hash)| usual.get(name) != Some(hash));
            parts.map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!((differs(1), differs(2), differs(3)), (vec!["stock"], vec![], vec![]));
    }

    #[test]
    fn where_no_two_agree_all_are_named() {
        let reports: BTreeMap<NodeId, Report> = [(1, report(7)), (2, report(2))].into();
        assert!(!usual(&reports).contains_key("stock"));
        assert!(usual(&reports).contains_key("orders"));
    }
}
