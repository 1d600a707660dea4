//! Promise: what a node finds damaged on its disk it names and does not start on; nothing is skipped, repaired by
//! guessing, or believed what it claims.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use cluster::codec;
use common::client::Dice;
use common::{PATIENCE, Root, Seat, found, heavy};

/// The log's database behind the node's back.
fn raw(seat: &Seat) -> sled::Db {
    let config = sled::Config::new()
        .path(seat.dir.join("log"))
        .segment_size(2 * 1024 * 1024)
        .flush_every_ms(None);
    loop {
        match config.open() {
            Ok(db) => return db,
            Err(error) => assert!(error.to_string().contains("acquire lock"), "{error}"),
        }
        std::thread::yield_now();
    }
}

/// A node that has purged, has a snapshot, and entries before and after it; some in several chunks.
async fn used(root: &Root) -> Seat {
    let mut seat = Seat::new(1, root.path());
    (seat.snapshot_every, seat.keep_log) = (30, 10);
    let nodes = found(std::slice::from_ref(&seat)).await;
    for id in 0..75 {
        let bytes = if id % 9 == 0 { 70_000 } else { 10 };
        nodes[0].raft.propose(heavy(id, bytes), PATIENCE).await.unwrap();
    }
    let ready = |s: &cluster::Status| s.purged.is_some() && s.snapshot >= Some(50);
    nodes[0].until("purged", ready).await;
    let purged = nodes[0].raft.status().purged.unwrap();
    for node in nodes {
        node.stop().await;
    }
    // What is purged leaves little by little, and nobody reads it meanwhile.
    let db = raw(&seat);
    let gone = [&b"e"[..], &(purged + 1).to_be_bytes()].concat();
    for row in db.range(&b"e"[..]..&gone[..]).keys() {
        db.remove(row.unwrap()).unwrap();
    }
    seat
}

/// Why it does not start, in one line.
async fn refusal(seat: &Seat, damage: &str) -> String {
    match seat.try_start().await {
        Ok(node) => {
            let counter = node.counter();
            panic!("{damage}: it started, with {} of 75", counter.applied.len())
        }
        Err(error) => {
            let error = error.to_string();
            assert_eq!(error.lines().count(), 1, "{damage}: {error}");
            error
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, to).unwrap();
        }
    }
}

/// Damages a copy of a node, and says why it does not start.
async fn damaged(seat: &Seat, root: &Root, what: &str, damage: impl FnOnce(&Seat)) -> String {
    let mut other = seat.clone();
    other.dir = root.path().join("damaged");
    let _ = fs::remove_dir_all(&other.dir);
    copy(&seat.dir, &other.dir);
    damage(&other);
    refusal(&other, what).await
}

// A bit that flipped in a vote elects two leaders, in an entry it makes replicas differ, in a mark it loses what
// lies behind it. Each row of the log is tried: value, length, and the row as a whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_bit_flipped_in_any_record_of_the_log_is_named() {
    let root = Root::new();
    let seat = used(&root).await;
    let rows: Vec<_> = raw(&seat).iter().map(Result::unwrap).collect();
    assert!(rows.len() > 30, "{} rows", rows.len());
    let mut dice = Dice(77);
    for (key, value) in &rows {
        let at = usize::try_from(dice.roll(u64::try_from(value.len()).unwrap())).unwrap();
        let bit = 1 << dice.roll(8);
        let what = format!("{} byte {at}", String::from_utf8_lossy(key));
        let why = damaged(&seat, &root, &what, |seat| {
            let mut value = value.to_vec();
            value[at] ^= bit;
            raw(seat).insert(key, value).unwrap();
        });
        let why = why.await;
        assert!(why.contains("corrupt"), "{what}: {why}");
    }
}

/// The same value, stored as the database stores it: with a checksum that is right.
fn put(seat: &Seat, key: &[u8], value: &[u8]) {
    use cluster::durable::{Batch, Db, Records};
    let db = Db::open(&seat.dir.join("log"), Records::Medium).unwrap();
    let mut batch = Batch::default();
    batch.put(key, value);
    db.write(batch).unwrap();
    db.make_durable().unwrap();
}

fn entry_key(index: u64) -> Vec<u8> {
    [&b"e"[..], &index.to_be_bytes()].concat()
}

// A checksum tells that bytes are what was written; not that they were written well, nor by this release. And a
// length that is not believed before it is checked costs nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_is_named_whatever_its_checksum_says() {
    let root = Root::new();
    let seat = used(&root).await;
    let huge = {
        let mut bytes = vec![codec::FORMAT, 1, 70, 1, 5, 253];
        bytes.extend_from_slice(&(1_u64 << 50).to_le_bytes());
        bytes
    };
    let blank = |term: u64, index: u64| codec::encode(&((term, index), 0_u32));
    let cases: Vec<(&str, Vec<u8>, Vec<u8>)> = vec![
        ("an entry that claims 2^50 bytes", entry_key(70), huge.clone()),
        ("an entry of a later release", entry_key(70), vec![codec::FORMAT + 1, 0]),
        ("an entry in another's place", entry_key(70), blank(1, 71)),
        ("an entry of an earlier term", entry_key(70), blank(0, 70)),
        ("an entry that is empty", entry_key(70), Vec::new()),
        ("a vote that claims too much", b"mv".to_vec(), huge.clone()),
        ("a vote with more behind it", b"mv".to_vec(), codec::encode(&(1_u64, 1_u64, true, 9_u64))),
        (
            "a vote in the last of all terms",
            b"mv".to_vec(),
            codec::encode(&(u64::MAX, 1_u64, true)),
        ),
        ("a purge mark behind all logs", b"mp".to_vec(), codec::encode(&(1_u64, u64::MAX))),
        ("a purge mark that is none", b"mp".to_vec(), huge.clone()),
        ("a mark of what is agreed on", b"mc".to_vec(), huge),
        ("a node's id that is none", b"mn".to_vec(), vec![codec::FORMAT]),
    ];
    for (what, key, value) in cases {
        let why = damaged(&seat, &root, what, |seat| put(seat, &key, &value)).await;
        assert!(why.contains("damaged"), "{what}: {why}");
    }
    // Entries that are simply not there: kept before the snapshot, and after it.
    let first = raw(&seat).range(&b"e"[..]..&b"f"[..]).next().unwrap().unwrap().0;
    let first = u64::from_be_bytes(first[1..9].try_into().unwrap());
    for index in [first, first + 3, 70] {
        let what = format!("entry {index} is gone");
        let why = damaged(&seat, &root, &what, |seat| {
            let db = raw(seat);
            for row in db.scan_prefix(entry_key(index)).keys() {
                db.remove(row.unwrap()).unwrap();
            }
        });
        let why = why.await;
        assert!(why.contains(&format!("entry {index} is missing")), "{what}: {why}");
    }
}

fn snapshot_of(seat: &Seat) -> PathBuf {
    let mut files = fs::read_dir(seat.dir.join("snapshots")).unwrap();
    files.next().unwrap().unwrap().path()
}

// A snapshot stands for all that was purged before it: one that is damaged, or gone, is not a node with less.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_damaged_or_gone_is_named() {
    let root = Root::new();
    let seat = used(&root).await;
    let whole = fs::read(snapshot_of(&seat)).unwrap();
    let header =
        12 + usize::try_from(u32::from_le_bytes(whole[8..12].try_into().unwrap())).unwrap();
    // With a checksum that is right, so that what is inside is looked at.
    let summed = |mut bytes: Vec<u8>| {
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    };
    let mut body = whole[..header].to_vec();
    body.extend_from_slice(&[codec::FORMAT, 253]);
    body.extend_from_slice(&(1_u64 << 50).to_le_bytes());
    let mut of_header = whole.clone();
    of_header[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut flipped = whole.clone();
    flipped[header + 20] ^= 4;
    let cases = [
        ("a flipped bit", flipped),
        ("cut short", whole[..header + 3].to_vec()),
        ("a header that claims 4 GiB", of_header),
        ("a header that is none", summed([&whole[..12], &[0x5a; 40]].concat())),
        ("a state that claims 2^50 counts", summed(body)),
        ("a state that is none", summed([&whole[..header], &[0x5a; 99]].concat())),
    ];
    for (what, bytes) in cases {
        let why = damaged(&seat, &root, what, |seat| fs::write(snapshot_of(seat), &bytes).unwrap());
        let why = why.await;
        assert!(why.contains("snapshot") || why.contains("restored"), "{what}: {why}");
    }
    let why = damaged(&seat, &root, "it is gone", |seat| {
        fs::remove_file(snapshot_of(seat)).unwrap();
    });
    let why = why.await;
    assert!(why.contains("purged"), "{why}");
    // Nothing was wrong with what all of these were copied from.
    let node = seat.start().await;
    assert_eq!(node.counter().applied.len(), 75);
    node.stop().await;
}
