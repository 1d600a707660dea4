//! Promise: what `make_durable` returned for is there, whole, or the database says that it is not.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use cluster::durable::{Batch, Db, Error, Records};

const KEY: &[u8] = b"k0000001";

fn open(dir: &tempfile::TempDir) -> Db {
    Db::open(&dir.path().join("data"), Records::Small).unwrap()
}

fn put(db: &Db, key: &[u8], value: &[u8]) {
    let mut batch = Batch::default();
    batch.put(key, value);
    db.write(batch).unwrap();
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut seed = 7_u32;
    std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed.to_le_bytes()[3]
    })
    .take(bytes)
    .collect()
}

/// The database behind our back, to damage it, once the `Db` has let go of it.
fn raw(dir: &tempfile::TempDir) -> sled::Db {
    let path = dir.path().join("data");
    let config = sled::Config::new().path(path).segment_size(512 * 1024).flush_every_ms(None);
    loop {
        match config.open() {
            Ok(db) => return db,
            Err(error) => assert!(error.to_string().contains("acquire lock"), "{error}"),
        }
        std::thread::yield_now();
    }
}

// A value at the edge of a chunk could lose its last byte, or gain an empty chunk.
#[test]
fn values_of_every_length_come_back_also_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let room = Records::Small.record_bytes_max() - KEY.len() - 4 - 9;
    let lengths = [0, 1, room - 1, room, room + 1, 2 * room, 2 * room + 1, 300_000];
    for length in lengths {
        let key = format!("k{length:07}");
        put(&db, key.as_bytes(), &noise(length));
        assert_eq!(db.get(key.as_bytes()).unwrap().unwrap(), noise(length));
    }
    db.make_durable().unwrap();
    drop(db);

    let db = open(&dir);
    let read: Vec<_> = db.range(b"k", b"l").map(|entry| entry.unwrap().1.len()).collect();
    assert_eq!(read, lengths);
    assert_eq!(db.last(b"k", b"l").unwrap().unwrap().0, b"k0300000");
    assert_eq!(
        db.last(b"k", b"k0300000").unwrap().unwrap().0,
        format!("k{:07}", 2 * room + 1).as_bytes()
    );
    assert!(db.last(b"l", b"m").unwrap().is_none());
    assert!(db.get(b"k9999999").unwrap().is_none());
}

// A page that becomes a file of its own makes the database unopenable after a power loss.
#[test]
fn the_largest_records_never_become_blobs() {
    for (records, rounds) in [(Records::Small, 60_u32), (Records::Medium, 20)] {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path(), records).unwrap();
        let value = noise(20 * records.record_bytes_max());
        for round in 0..rounds {
            let mut batch = Batch::default();
            batch.put(&round.to_be_bytes(), &value);
            if let Some(old) = round.checked_sub(10) {
                batch.remove(&old.to_be_bytes());
            }
            db.write(batch).unwrap();
            db.make_durable().unwrap();
            assert!(db.blobs_empty(), "{records:?}, round {round}");
        }
    }
}

// A key so long that no value fits beside it would make records above the limit.
#[test]
fn a_key_that_leaves_no_room_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let mut batch = Batch::default();
    batch.put(&[b'x'; 7_489], b"value");
    batch.put(b"beside", b"value");
    assert!(matches!(db.write(batch), Err(Error::KeyTooLong { key_bytes: 7_489, .. })));
    assert!(db.get(b"beside").unwrap().is_none(), "a refused batch wrote half of itself");
}

// Chunks that an overwrite or a removal leaves behind would be joined to the next value.
#[test]
fn overwriting_and_removing_leave_no_chunk() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    put(&db, KEY, &noise(50_000));
    put(&db, KEY, b"short");
    assert_eq!(db.get(KEY).unwrap().unwrap(), b"short");
    put(&db, KEY, &noise(50_000));
    let mut batch = Batch::default();
    batch.put(KEY, &noise(90_000));
    batch.remove(KEY);
    assert_eq!(batch.len(), 1, "of two writes to a key the later counts");
    db.write(batch).unwrap();
    db.make_durable().unwrap();
    drop(db);
    assert_eq!(raw(&dir).len(), 0);
}

type Damage = fn(&sled::Db, &dyn Fn(u32) -> Vec<u8>);

// A lost or damaged chunk must be named, never read as a shorter value or as nothing.
#[test]
fn a_damaged_value_is_named_not_guessed() {
    let chunk = |number: u32| [KEY, &number.to_be_bytes()].concat();
    let damages: [(&str, Damage); 6] = [
        ("first chunk gone", |db, chunk| drop(db.remove(chunk(0)).unwrap())),
        ("middle chunk gone", |db, chunk| drop(db.remove(chunk(1)).unwrap())),
        ("last chunk gone", |db, chunk| drop(db.remove(chunk(2)).unwrap())),
        ("a byte flipped", |db, chunk| {
            let mut bytes = db.get(chunk(1)).unwrap().unwrap().to_vec();
            bytes[100] ^= 1;
            db.insert(chunk(1), bytes).unwrap();
        }),
        ("a chunk emptied", |db, chunk| drop(db.insert(chunk(1), &[]).unwrap())),
        ("an unknown format", |db, chunk| drop(db.insert(chunk(1), &[9, 9]).unwrap())),
    ];
    for (name, damage) in damages {
        let dir = tempfile::tempdir().unwrap();
        let db = open(&dir);
        put(&db, KEY, &noise(20_000));
        db.make_durable().unwrap();
        drop(db);
        let behind = raw(&dir);
        damage(&behind, &chunk);
        drop(behind);

        let db = open(&dir);
        let Err(Error::Corrupt { what, .. }) = db.get(KEY) else { panic!("{name}: not noticed") };
        assert!(what.starts_with("key 6b30303030303031 "), "{name}: {what}");
        assert!(db.range(b"k", b"l").next().unwrap().is_err(), "{name}: not noticed by range");
    }
}

// Half of a batch would be a log entry without its neighbour, or a purge without its mark.
#[test]
fn a_batch_is_seen_whole_by_readers() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let reader = db.clone();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = std::sync::Arc::clone(&stop);
    let watching = std::thread::spawn(move || {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            // Read in the order in which they were written: the second is never behind the first.
            let first = reader.get(b"first").unwrap().map_or(0, |bytes| bytes[0]);
            let second = reader.get(b"other").unwrap().map_or(0, |bytes| bytes[0]);
            assert!(second >= first, "first is {first}, other is {second}");
        }
    });
    for round in 1..=200_u8 {
        let mut batch = Batch::default();
        batch.put(b"first", &[round; 100]);
        batch.put(b"other", &[round; 100]);
        db.write(batch).unwrap();
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    watching.join().unwrap();
}

// One append may carry many megabytes; it must go through, whole.
#[test]
fn a_batch_of_many_segments_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let mut batch = Batch::default();
    for number in 0..32_u32 {
        batch.put(&number.to_be_bytes(), &noise(500_000));
    }
    db.write(batch).unwrap();
    db.make_durable().unwrap();
    drop(db);
    let db = open(&dir);
    assert_eq!(
        db.range(&[0], &[1]).filter(|entry| entry.as_ref().unwrap().1.len() == 500_000).count(),
        32
    );
    assert!(db.blobs_empty());
}

// Two processes in one directory would overwrite each other's pages.
#[test]
fn a_directory_in_use_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let error = Db::open(&dir.path().join("data"), Records::Small).unwrap_err();
    assert!(matches!(error, Error::Locked(_)), "{error}");
    assert!(error.to_string().contains("in use by another process"));
    drop(db);
    open(&dir);
}

// A path that cannot be a directory must be told from a damaged database.
#[test]
fn an_unusable_directory_is_told_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("data"), b"a file").unwrap();
    let error = Db::open(&dir.path().join("data"), Records::Small).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert_eq!(error.to_string().lines().count(), 1);
}

// A full disk is no damage: it must be told apart, and what was there must be readable once there is
// room again. Needs a small file system, mounted on the directory that `FULL_DISK_DIR` names.
#[test]
#[ignore = "needs a small file system"]
fn a_full_disk_is_told_apart_and_survived() {
    let disk = std::path::PathBuf::from(std::env::var("FULL_DISK_DIR").unwrap());
    let (dir, ballast) = (disk.join("data"), disk.join("ballast"));
    std::fs::write(&ballast, vec![1; 3 * 1024 * 1024]).unwrap();
    let db = Db::open(&dir, Records::Small).unwrap();
    let value = noise(100_000);
    let mut durable = 0_u32;
    let error = loop {
        let mut batch = Batch::default();
        batch.put(&durable.to_be_bytes(), &value);
        if let Err(error) = db.write(batch).and_then(|()| db.make_durable()) {
            break error;
        }
        durable += 1;
    };
    assert!(matches!(error, Error::Full(_)), "{error}");
    drop(db);
    std::fs::remove_file(ballast).unwrap();
    let db = Db::open(&dir, Records::Small).unwrap();
    for key in 0..durable {
        assert_eq!(db.get(&key.to_be_bytes()).unwrap().unwrap(), value, "{key} of {durable}");
    }
    put(&db, b"again", &value);
    db.make_durable().unwrap();
}
