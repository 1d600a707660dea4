use std::sync::atomic::{AtomicUsize, Ordering};

use cluster::durable::{Batch, Error, KeyValue};

use super::*;
use crate::channel::key;

/// A store that counts how often a record is read.
#[derive(Clone)]
struct Counted {
    db: Db,
    read: Arc<AtomicUsize>,
}

impl Store for Counted {
    fn write(&self, batch: Batch) -> Result<(), Error> {
        self.db.write(batch)
    }

    fn make_durable(&self) -> Result<(), Error> {
        self.db.make_durable()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.read.fetch_add(1, Ordering::Relaxed);
        self.db.get(key)
    }

    fn range(&self, from: &[u8], to: &[u8]) -> impl Iterator<Item = Result<KeyValue, Error>> {
        self.db.range(from, to)
    }

    fn free_bytes(&self) -> u64 {
        u64::MAX
    }

    fn corrupt(&self, what: String) -> Error {
        Store::corrupt(&self.db, what)
    }
}

// Whoever asks for a delivery that nobody knows would have all read that waits: of a region that is cut off, hundreds
// of megabytes with each request.
#[tokio::test]
async fn whoever_looks_for_a_delivery_reads_one_segment() {
    let dir = tempfile::tempdir().unwrap();
    let db = Counted { db: Db::open(dir.path(), Records::Medium).unwrap(), read: Arc::default() };
    let read = Arc::clone(&db.read);
    let bounds = Bounds { waiting_bytes: 1 << 30, keep_ms: 1 << 20, free_disk: 0 };
    let clock: Clock = Arc::new(|| 7);
    let open = |incarnation| {
        let origin = Origin { node: 1, incarnation };
        let measures = Arc::new(Measures::new());
        Inbox::over(db.clone(), origin, bounds, Arc::clone(&clock), measures).unwrap()
    };
    let name = |n: u64| format!("d{n}");
    let (inbox, writer) = open(1);
    let written = tokio::spawn(writer.write_all());
    for n in 0..100 {
        let key = key(name(n).as_bytes());
        let delivery = Delivery { key, id: name(n), received_ms: n, ..Delivery::default() };
        let lane = if n % 3 == 0 { Lane::Normal } else { Lane::Urgent };
        inbox.accept(lane, delivery).await.unwrap();
    }
    let looked = |inbox: &Inbox<Counted>, name: &str| {
        let before = read.load(Ordering::Relaxed);
        let found = inbox.find(&key(name.as_bytes())).unwrap();
        (found, read.load(Ordering::Relaxed) - before)
    };
    // Where some of it is no longer in memory, and where nothing is.
    assert_eq!(looked(&inbox, "unknown"), (None, 0));
    for n in 0..100 {
        let (found, read) = looked(&inbox, &name(n));
        assert!(found == Some((n, 7)) && read <= 1, "{n}: {found:?}, {read} read");
    }
    drop(inbox);
    written.await.unwrap().unwrap();
    let (inbox, _writer) = open(2);
    assert_eq!(looked(&inbox, "unknown"), (None, 0));
    assert_eq!(looked(&inbox, "d99"), (Some((99, 7)), 1));
    inbox.mark_agreed(Place { lane: Lane::Normal, sequence: 1 });
    assert_eq!(looked(&inbox, "d0"), (None, 0));
    assert_eq!(looked(&inbox, "d3"), (Some((3, 7)), 1));
}
