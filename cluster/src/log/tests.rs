//! What openraft's suite does not ask: reopening, pieces, and purging little by little.

use std::path::Path;

use futures::StreamExt;
use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt};

use super::{Closed, Log, READ_BYTES_MAX};
use crate::types::{Command, Entry, LogId, Payload, Vote};

fn id(term: u64, index: u64) -> LogId {
    LogId::new(term.into(), index)
}

fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    let command = Command { at_ms: index, bytes: vec![7; bytes].into() };
    Entry { log_id: id(term, index), payload: Payload::Normal(command) }
}

async fn reopen(dir: &Path, open: Option<(Log, Closed)>) -> (Log, Closed) {
    if let Some((log, closed)) = open {
        drop(log);
        closed.wait().await;
    }
    Log::open(dir, 1).unwrap()
}

async fn indexes(log: &mut Log, from: u64, to: u64) -> Vec<(u64, u64)> {
    let entries = log.try_get_log_entries(from..to).await.unwrap();
    entries.iter().map(|entry| (entry.log_id.leader_id.term, entry.log_id.index)).collect()
}

// A restart must find exactly what was there: the vote above all, and no truncated entry.
#[tokio::test]
async fn a_restart_finds_vote_marks_and_entries() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, closed) = reopen(dir.path(), None).await;
    log.save_vote(&Vote::new_committed(3, 2)).await.unwrap();
    log.blocking_append((1..=300).map(|index| entry(1, index, 100))).await.unwrap();
    log.truncate_after(Some(id(1, 290))).await.unwrap();
    log.blocking_append((291..=295).map(|index| entry(2, index, 40_000))).await.unwrap();
    log.save_committed(Some(id(1, 280))).await.unwrap();
    log.purge(id(1, 250)).await.unwrap();

    let (mut log, closed) = reopen(dir.path(), Some((log, closed))).await;
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new_committed(3, 2)));
    assert_eq!(log.read_committed().await.unwrap(), Some(id(1, 280)));
    let state = log.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(id(1, 250)), Some(id(2, 295))));
    assert_eq!(indexes(&mut log, 0, 253).await, [(1, 251), (1, 252)]);
    assert_eq!(indexes(&mut log, 290, 999).await.first(), Some(&(1, 290)));
    assert_eq!(indexes(&mut log, 291, 999).await.len(), 5);
    assert!(log.0.db.blobs_empty());

    // From disk and memory at once.
    log.blocking_append([entry(2, 296, 1)]).await.unwrap();
    assert_eq!(indexes(&mut log, 294, 999).await, [(2, 294), (2, 295), (2, 296)]);

    // What a snapshot brought lies beyond the end; nothing of the old log may show through.
    log.purge(id(4, 1_000)).await.unwrap();
    log.blocking_append([entry(4, 1_001, 1)]).await.unwrap();
    let (mut log, _closed) = reopen(dir.path(), Some((log, closed))).await;
    assert_eq!(indexes(&mut log, 0, 9_999).await, [(4, 1_001)]);
}

// A follower far behind, or a node that starts, must not be handed the whole log at once.
#[tokio::test]
async fn reads_come_in_pieces_from_disk_and_from_memory() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, closed) = reopen(dir.path(), None).await;
    let large = READ_BYTES_MAX / 4;
    log.blocking_append((0..=20).map(|index| entry(1, index, large))).await.unwrap();
    let mut open = (log, closed);
    for round in 0..2 {
        let piece = open.0.limited_get_log_entries(2, 21).await.unwrap();
        assert!((1..=4).contains(&piece.len()), "{} entries in round {round}", piece.len());
        let all: Vec<_> = open.0.entries_stream(0..21).await.collect().await;
        let all: Vec<_> = all.into_iter().map(|entry| entry.unwrap().log_id.index).collect();
        assert_eq!(all, (0..=20).collect::<Vec<_>>(), "round {round}");
        open = reopen(dir.path(), Some(open)).await;
    }
    let (mut log, _closed) = open;
    log.purge(id(1, 10)).await.unwrap();
    assert!(log.limited_get_log_entries(5, 21).await.unwrap().is_empty(), "a hole, sent as a log");
    let missing: Vec<_> = log.entries_stream(5..21).await.collect().await;
    assert!(missing.first().unwrap().is_err(), "a hole, applied as a log");
}

// Entries that a purge left for later must go in the end, also across a restart, or disks fill.
#[tokio::test]
async fn purged_entries_leave_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, closed) = reopen(dir.path(), None).await;
    log.blocking_append((0..2_000).map(|index| entry(1, index, 10))).await.unwrap();
    log.purge(id(1, 1_989)).await.unwrap();
    let (log, _closed) = reopen(dir.path(), Some((log, closed))).await;
    let gone = async {
        while super::first_index(&log.0.db).unwrap() != Some(1_990) {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), gone).await.unwrap();
}
