//! Promise: what a node finds damaged in its inbox or its history it names; it never reads it as less, or as
//! something else. That a record's own checksum is looked at is `cluster`'s promise (`cluster/tests/durable.rs`,
//! `stored.rs`); here records are wrong in spite of it.

use std::path::Path;
use std::sync::Arc;

use cluster::codec;
use cluster::durable::{Batch, Db, Error, Records};
use state::command::Delivery;
use state::ledger::{Kind, Movement};
use state::origin::Lane;
use stockraft::history::{self, History};
use stockraft::inbox::{Bounds, Inbox};
use stockraft::measures::Measures;

fn open(dir: &Path) -> Result<Inbox, Error> {
    let bounds = Bounds { waiting_bytes: 1 << 30, keep_ms: 1 << 40, free_disk: 0 };
    Inbox::open(dir, 1, bounds, Arc::new(Measures::new()))
}

/// The store itself; whoever had it open may take a moment to let go of it.
fn store(dir: &Path) -> Db {
    loop {
        match Db::open(dir, Records::Medium) {
            Ok(db) => return db,
            Err(error) => assert!(matches!(error, Error::Locked(_)), "{error}"),
        }
        std::thread::yield_now();
    }
}

fn put(dir: &Path, key: &[u8], value: &[u8]) {
    let mut batch = Batch::default();
    batch.put(key, value);
    let db = store(dir);
    db.write(batch).unwrap();
    db.make_durable().unwrap();
}

fn key_of(id: u64) -> Vec<u8> {
    [&[1][..], &id.to_be_bytes()].concat()
}

fn delivery(n: u64) -> Delivery {
    Delivery { id: format!("north:{n}"), raw: vec![7; 300], ..Delivery::default() }
}

fn huge(before: &[u8]) -> Vec<u8> {
    let mut bytes = [&[codec::FORMAT][..], before, &[253]].concat();
    bytes.extend_from_slice(&(1_u64 << 50).to_le_bytes());
    bytes
}

// Each segment was answered 200. One that cannot be read is a sale that is lost: skipped, nobody would hear of it;
// and its neighbours would be renumbered over it.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_inbox_does_not_start_and_says_why() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("inbox");
    let inbox = open(&dir).unwrap();
    for n in 0..3 {
        inbox.accept(Lane::Urgent, delivery(n)).await.unwrap();
    }
    drop(inbox);
    let whole: Vec<_> = store(&dir).range(&[0], &[9]).map(Result::unwrap).collect();
    assert_eq!(whole.len(), 3, "a segment each: {whole:?}");
    let (second, bytes) = &whole[1];
    let mut flipped = bytes.clone();
    flipped[0] ^= 0x10;
    let cases: Vec<(&str, &[u8], Vec<u8>)> = vec![
        ("a format of a later release", second, flipped),
        ("a segment cut short", second, bytes[..bytes.len() - 1].to_vec()),
        ("a segment with more behind it", second, [bytes, &b"more"[..]].concat()),
        ("a claim of 2^50 deliveries", second, huge(&[0, 5])),
        ("an empty segment", second, Vec::new()),
        ("a lane that there is not", second, codec::encode(&(9_u32, 1_u64, 0_u64))),
        ("a mark that claims too much", &[2], huge(&[])),
        ("a mark cut short", &[2], codec::encode(&1_u64)),
        ("a mark past all numbers", &[2], codec::encode(&(u64::MAX, 0_u64))),
    ];
    for (what, key, value) in cases {
        let before = store(&dir).get(key).unwrap();
        put(&dir, key, &value);
        let Err(error) = open(&dir) else { panic!("{what}: it started") };
        assert!(matches!(error, Error::Corrupt { .. }), "{what}: {error}");
        assert_eq!(error.to_string().lines().count(), 1, "{what}: {error}");
        let mut batch = Batch::default();
        match before {
            Some(value) => batch.put(key, &value),
            None => batch.remove(key),
        }
        store(&dir).write(batch).unwrap();
    }
    for key in [key_of(u64::MAX), key_of(u64::MAX - 1), vec![1, 7], [key_of(7), vec![0]].concat()] {
        put(&dir, &key, bytes);
        let Err(error) = open(&dir) else { panic!("{key:?}: it started") };
        assert!(matches!(error, Error::Corrupt { .. }), "{key:?}: {error}");
        let mut batch = Batch::default();
        batch.remove(&key);
        store(&dir).write(batch).unwrap();
    }
    // As it was, it is taken up again, whole.
    let inbox = open(&dir).unwrap();
    assert_eq!(inbox.last_written(Lane::Urgent), 3);
}

fn movement(previous: u64) -> Movement {
    Movement {
        time: 1,
        kind: Kind::Receipt,
        sku: "MUG".into(),
        quantity: 1,
        location: "main".into(),
        to_location: None,
        channel: None,
        cause: "a test".into(),
        reference: None,
        reason: None,
        occurred: None,
        on_hand: 1,
        available: 1,
        previous,
        kit: None,
        arrived: 0,
    }
}

// The history is read by walking back from line to line. A line that cannot be read must end the walk with an
// error: shown as the end of it, all that is older would be denied.
#[test]
fn a_damaged_line_of_the_history_is_an_error_and_not_its_end() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("history");
    let mut batch = Batch::default();
    let mut chain = history::Hash::default();
    for index in 1..=3 {
        history::put_movements(&mut batch, &mut chain, index, vec![movement(index - 1)]);
    }
    let history = History::open(&dir).unwrap();
    history.write(batch).unwrap();
    assert_eq!(history.of_sku("MUG", 3).flatten().count(), 3);
    drop(history);
    for bytes in [huge(&[]), vec![codec::FORMAT + 1], Vec::new(), codec::encode(&7_u64)] {
        put(&dir, &key_of(2), &bytes);
        let history = History::open(&dir).unwrap();
        let read: Vec<bool> = history.of_sku("MUG", 3).map(|line| line.is_ok()).collect();
        assert_eq!(read, [true, false]);
        assert!(history.all(9).any(|line| line.is_err()));
        assert!(history.lines(2).is_err());
    }
}
