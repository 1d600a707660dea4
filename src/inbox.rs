//! The inbox: what this node answered 200, on its own disk, until the cluster has agreed on it.
//!
//! One thread writes. What arrived since its last flush becomes one segment a lane, all of them one
//! batch and one flush; only then are the senders answered. Segments are numbered anew at each process
//! start, under an incarnation drawn at random, so that neither an inbox that starts empty nor a disk
//! that went back to an older image can reuse a number that the cluster has seen.

mod record;
mod store;
mod writer;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cluster::durable::{self, Db, Records};
use cluster::{Clock, codec};
use state::Key;
use state::command::{Delivery, Fact};
use state::escrow::told::Told;
use state::origin::{Lane, Origin};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::clock;
use crate::measures::Measures;
use crate::planted::{self, Bug};

use record::{Stored, segment_key};
pub use store::Store;
pub(crate) use writer::Writer;

/// Deliveries between the listener and the writer at the most.
const WAITING_MAX: usize = 4096;
/// Bytes kept after agreement at the most, however young.
const KEPT_BYTES_MAX: u64 = 256 << 20;
/// Old segments removed with one write: removing thousands at once stalls the store.
const REMOVED_PER_WRITE: usize = 4;

const LANES: [Lane; 2] = [Lane::Urgent, Lane::Normal];
const MARK: &[u8] = &[2];
/// What this disk calls its book of quotas, and the newest serial in it.
const BOOK: &[u8] = &[3];

/// Where a delivery stands in the inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its lane.
    pub lane: Lane,
    /// Its segment's number in that lane.
    pub sequence: u64,
}

/// A segment that waits for agreement.
pub struct Written {
    /// When it was made durable, by this node's clock.
    pub durable_ms: u64,
    /// What it holds.
    pub deliveries: Arc<Vec<Delivery>>,
}

/// Nothing can be made durable now.
#[derive(Debug, thiserror::Error)]
pub enum Busy {
    /// The cluster has not agreed on what was accepted before, and there is a bound to it.
    #[error("the inbox is at its bound")]
    Full,
    /// The disk is nearly full.
    #[error("the disk is nearly full")]
    Disk,
    /// The node is stopping.
    #[error("the node is shutting down")]
    Stopping,
}

/// The bounds of an inbox.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes waiting for agreement.
    pub waiting_bytes: u64,
    /// How long segments are kept after agreement.
    pub keep_ms: u64,
    /// Free disk that must be left.
    pub free_disk: u64,
}

/// The handle. Cheap to clone.
#[derive(Clone)]
pub struct Inbox<S = Db> {
    origin: Origin,
    writer: mpsc::Sender<Waiting>,
    shared: Arc<Shared<S>>,
}

struct Waiting {
    lane: Lane,
    delivery: Delivery,
    answer: Answer,
}

/// Where a sender waits to hear that its delivery is durable.
type Answer = oneshot::Sender<Result<Place, Busy>>;

struct Shared<S> {
    db: S,
    bounds: Bounds,
    queue: Mutex<Queue>,
    /// Counts writes and marks, to wake whoever proposes.
    changed: watch::Sender<u64>,
    /// Wakes the writer: there is a new mark.
    marked: Notify,
    clock: Clock,
    measures: Arc<Measures>,
}

/// Segments by lane: those waiting for agreement, and what is known of those before.
#[derive(Default)]
struct Queue {
    lanes: [Segments; 2],
    waiting_bytes: u64,
    /// Agreed on and still kept: id, bytes, when written.
    kept: VecDeque<(u64, u64, u64)>,
    kept_bytes: u64,
    mark_changed: bool,
    next_id: u64,
    told: Recorded,
}

/// What the disk kept of this node's quotas when it was opened.
#[derive(Default)]
struct Recorded {
    /// Drawn at random when the disk was new: one that is destroyed takes what it knew with it.
    book: u64,
    /// The newest serial that was ever written.
    issued: u64,
    /// What was told, as far as it is kept.
    told: Vec<Told>,
}

#[derive(Default)]
struct Segments {
    /// Waiting for agreement, in order; the first has the number `agreed + 1`.
    waiting: VecDeque<Segment>,
    /// The last number that the cluster has agreed on.
    agreed: u64,
    /// The last id that it has agreed on, in any incarnation: what is persisted.
    mark: u64,
}

impl Segments {
    /// Where a segment stands among those that wait.
    fn position(&self, sequence: u64) -> Option<usize> {
        sequence.checked_sub(self.agreed + 1).and_then(|before| usize::try_from(before).ok())
    }
}

struct Segment {
    id: u64,
    bytes: u64,
    written_ms: u64,
    /// The beginnings of its deliveries' keys, in order, so that whoever looks for one reads no other segment.
    keys: Box<[u64]>,
    cached: Option<Arc<Vec<Delivery>>>,
    /// Those who wait for agreement on it.
    waiters: Vec<oneshot::Sender<()>>,
}

impl Segment {
    /// How many deliveries it holds.
    fn count(&self) -> u64 {
        u64::try_from(self.keys.len()).unwrap_or(0)
    }
}

/// The beginnings of keys, in order.
fn beginnings(deliveries: &[Delivery]) -> Box<[u64]> {
    let mut keys: Box<[u64]> = deliveries.iter().map(|delivery| beginning(&delivery.key)).collect();
    keys.sort_unstable();
    keys
}

fn beginning(key: &Key) -> u64 {
    key.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

impl Inbox {
    /// Opens the inbox in a directory and starts its writer. What the cluster had not agreed on when
    /// the process ended is offered again, under a new incarnation.
    pub fn open(
        dir: &Path,
        node: u64,
        bounds: Bounds,
        measures: Arc<Measures>,
    ) -> Result<Self, durable::Error> {
        let db = Db::open(dir, Records::Medium)?;
        let mut incarnation = [0; 8];
        getrandom::fill(&mut incarnation).unwrap_or_else(|error| {
            durable::halt("cannot draw a random incarnation", &std::io::Error::other(error))
        });
        let origin = Origin { node, incarnation: u64::from_le_bytes(incarnation) };
        let (inbox, writer) = Self::over(db, origin, bounds, Arc::new(clock::now_ms), measures)?;
        std::thread::Builder::new()
            .name("inbox".into())
            .spawn(move || writer::run(writer))
            .unwrap_or_else(|error| durable::halt("cannot start the inbox", &error));
        Ok(inbox)
    }
}

impl<S: Store> Inbox<S> {
    /// An inbox over a store, and its writer, which must run for anything to be accepted.
    pub(crate) fn over(
        db: S,
        origin: Origin,
        bounds: Bounds,
        clock: Clock,
        measures: Arc<Measures>,
    ) -> Result<(Self, Writer<S>), durable::Error> {
        let same = planted::has(Bug::SameIncarnation);
        let origin = if same { Origin { incarnation: 1, ..origin } } else { origin };
        let queue = read_back(&db, origin.incarnation)?;
        let backlog: u64 = queue.lanes.iter().flat_map(|l| &l.waiting).map(Segment::count).sum();
        measures.backlog.set(i64::try_from(backlog).unwrap_or(i64::MAX));
        let (writer, waiting) = mpsc::channel(WAITING_MAX);
        let queue = Mutex::new(queue);
        let changed = watch::Sender::new(0);
        let shared =
            Arc::new(Shared { db, bounds, queue, changed, marked: Notify::new(), clock, measures });
        let of_writer = Writer::new(Arc::clone(&shared), waiting);
        Ok((Self { origin, writer, shared }, of_writer))
    }

    /// Under which name this inbox numbers its segments.
    #[must_use]
    pub const fn origin(&self) -> Origin {
        self.origin
    }

    /// The name of this disk's book of quotas.
    #[must_use]
    pub fn book(&self) -> u64 {
        self.shared.queue().told.book
    }

    /// The newest serial of what was ever told of quotas, and what of it was kept: the first time.
    pub(crate) fn take_told(&self) -> (u64, Vec<Told>) {
        let mut queue = self.shared.queue();
        (queue.told.issued, std::mem::take(&mut queue.told.told))
    }

    /// Makes a delivery durable. When this returns, it survives a power loss.
    pub async fn accept(&self, lane: Lane, delivery: Delivery) -> Result<Place, Busy> {
        self.put(lane, delivery)?.await.unwrap_or(Err(Busy::Stopping))
    }

    /// Has a delivery made durable, after all that were put in before, and says when it is.
    pub(crate) fn put(
        &self,
        lane: Lane,
        delivery: Delivery,
    ) -> Result<oneshot::Receiver<Result<Place, Busy>>, Busy> {
        self.ready()?;
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { lane, delivery, answer };
        self.writer.try_send(waiting).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Busy::Full,
            mpsc::error::TrySendError::Closed(_) => Busy::Stopping,
        })?;
        Ok(answered)
    }

    /// Whether a delivery could be accepted now.
    pub fn ready(&self) -> Result<(), Busy> {
        if self.shared.queue().waiting_bytes >= self.shared.bounds.waiting_bytes {
            return Err(Busy::Full);
        }
        let free = self.shared.db.free_bytes();
        if free < self.shared.bounds.free_disk { Err(Busy::Disk) } else { Ok(()) }
    }

    /// Waits until the cluster has agreed on a segment.
    pub async fn agreed(&self, place: Place) {
        let agreed = {
            let mut queue = self.shared.queue();
            let lane = queue.lane_mut(place.lane);
            let segment = lane.position(place.sequence).and_then(|at| lane.waiting.get_mut(at));
            let Some(segment) = segment else { return };
            let (waiter, agreed) = oneshot::channel();
            segment.waiters.push(waiter);
            agreed
        };
        // It goes with its segment, which goes when it is agreed on.
        let _ = agreed.await;
    }

    /// The last number of a lane that the cluster has agreed on.
    #[must_use]
    pub fn last_agreed(&self, lane: Lane) -> u64 {
        self.shared.queue().lane(lane).agreed
    }

    /// The last number of a lane that was given out.
    #[must_use]
    pub fn last_written(&self, lane: Lane) -> u64 {
        let queue = self.shared.queue();
        let lane = queue.lane(lane);
        lane.agreed + u64::try_from(lane.waiting.len()).unwrap_or(0)
    }

    /// The deliveries of a segment that waits for agreement, and when they were made durable.
    pub fn read(&self, place: Place) -> Result<Option<Written>, durable::Error> {
        let id = {
            let queue = self.shared.queue();
            let lane = queue.lane(place.lane);
            let segment = lane.position(place.sequence).and_then(|at| lane.waiting.get(at));
            let Some(segment) = segment else { return Ok(None) };
            if let Some(cached) = &segment.cached {
                let deliveries = Arc::clone(cached);
                return Ok(Some(Written { durable_ms: segment.written_ms, deliveries }));
            }
            segment.id
        };
        match self.shared.db.get(&segment_key(id))? {
            None => Ok(None),
            Some(bytes) => {
                let stored = decode(&self.shared.db, id, &bytes)?;
                let deliveries = Arc::new(stored.deliveries);
                Ok(Some(Written { durable_ms: stored.written_ms, deliveries }))
            }
        }
    }

    /// When a delivery that waits for agreement was received and made durable. Reads the segment that holds it and no
    /// other, however many wait.
    pub fn find(&self, key: &Key) -> Result<Option<(u64, u64)>, durable::Error> {
        for place in self.places(beginning(key)) {
            let Some(written) = self.read(place)? else { continue };
            let found = written.deliveries.iter().find(|delivery| delivery.key == *key);
            if let Some(found) = found {
                return Ok(Some((found.received_ms, written.durable_ms)));
            }
        }
        Ok(None)
    }

    /// The segments with a key that begins so.
    fn places(&self, beginning: u64) -> Vec<Place> {
        let queue = self.shared.queue();
        let of_lane = |lane| {
            let segments = queue.lane(lane);
            let numbered = (segments.agreed + 1..).zip(&segments.waiting);
            let found = numbered.filter(|(_, one)| one.keys.binary_search(&beginning).is_ok());
            found.map(move |(sequence, _)| Place { lane, sequence })
        };
        LANES.into_iter().flat_map(of_lane).collect()
    }

    /// Notes that the cluster has agreed on all segments of a lane through a number.
    pub fn mark_agreed(&self, place: Place) {
        let mut queue = self.shared.queue();
        let mut done = Vec::new();
        let lane = queue.lane_mut(place.lane);
        while lane.agreed < place.sequence {
            let Some(segment) = lane.waiting.pop_front() else { break };
            lane.agreed += 1;
            lane.mark = segment.id;
            done.push(segment);
        }
        for segment in done {
            queue.waiting_bytes = queue.waiting_bytes.saturating_sub(segment.bytes);
            queue.keep(segment.id, segment.bytes, segment.written_ms);
            queue.mark_changed = true;
            self.shared.measures.backlog.dec_by(i64::try_from(segment.count()).unwrap_or(0));
            for waiter in segment.waiters {
                // Who hung up sends again.
                let _ = waiter.send(());
            }
        }
        drop(queue);
        self.shared.marked.notify_one();
        self.shared.changed.send_modify(|n| *n += 1);
    }

    /// Changes whenever something was written or agreed on.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }
}

impl<S> Shared<S> {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    const fn lane(&self, lane: Lane) -> &Segments {
        let [urgent, normal] = &self.lanes;
        match lane {
            Lane::Urgent => urgent,
            Lane::Normal => normal,
        }
    }

    const fn lane_mut(&mut self, lane: Lane) -> &mut Segments {
        let [urgent, normal] = &mut self.lanes;
        match lane {
            Lane::Urgent => urgent,
            Lane::Normal => normal,
        }
    }

    fn keep(&mut self, id: u64, bytes: u64, written_ms: u64) {
        self.kept.push_back((id, bytes, written_ms));
        self.kept_bytes += bytes;
    }

    /// The oldest segment that is kept, if it may go.
    fn expired(&self, now: u64, keep_ms: u64) -> Option<(u64, u64, u64)> {
        let too_many = self.kept_bytes > KEPT_BYTES_MAX;
        let may_go = |kept: &(u64, u64, u64)| too_many || kept.2.saturating_add(keep_ms) < now;
        self.kept.front().copied().filter(may_go)
    }

    /// Old segments that may go, a few at a time.
    fn take_expired(&mut self, now: u64, keep_ms: u64) -> Vec<u64> {
        let mut expired = Vec::new();
        while expired.len() < REMOVED_PER_WRITE
            && let Some((id, bytes, _)) = self.expired(now, keep_ms)
        {
            self.kept.pop_front();
            self.kept_bytes -= bytes;
            expired.push(id);
        }
        expired
    }
}

/// Reads what a former process left: segments past the mark wait again, those before it are kept. A new disk's
/// book gets the name `new`.
fn read_back<S: Store>(db: &S, new: u64) -> Result<Queue, durable::Error> {
    let mut queue = Queue { next_id: 1, ..Queue::default() };
    let marks: [u64; 2] = match db.get(MARK)? {
        Some(bytes) => {
            codec::decode(&bytes).map_err(|error| db.corrupt(format!("the mark: {error}")))?
        }
        None => [0; 2],
    };
    for (lane, mark) in LANES.into_iter().zip(marks) {
        if mark > record::ID_MAX {
            return Err(db.corrupt(format!("the mark: {mark} is no number of a segment")));
        }
        queue.lane_mut(lane).mark = mark;
        queue.next_id = queue.next_id.max(mark + 1);
    }
    (queue.told.book, queue.told.issued) = match db.get(BOOK)? {
        Some(bytes) => {
            codec::decode(&bytes).map_err(|error| db.corrupt(format!("the book: {error}")))?
        }
        None => (new, 0),
    };
    for found in db.range(&[record::SEGMENT], MARK) {
        let (key, bytes) = found?;
        let no_key = || db.corrupt(format!("{key:02x?} is no number of a segment"));
        let id = record::id(&key).ok_or_else(no_key)?;
        let stored = decode(db, id, &bytes)?;
        queue.next_id = queue.next_id.max(id + 1);
        let length = u64::try_from(bytes.len()).unwrap_or(0);
        queue.told.told.extend(stored.deliveries.iter().flat_map(told).cloned());
        if id <= queue.lane(stored.lane).mark {
            queue.keep(id, length, stored.written_ms);
            continue;
        }
        queue.waiting_bytes += length;
        queue.lane_mut(stored.lane).waiting.push_back(Segment {
            id,
            bytes: length,
            written_ms: stored.written_ms,
            keys: beginnings(&stored.deliveries),
            cached: None,
            waiters: Vec::new(),
        });
    }
    Ok(queue)
}

/// What a delivery tells of quotas.
fn told(delivery: &Delivery) -> impl Iterator<Item = &Told> {
    delivery.facts.iter().filter_map(|fact| match fact {
        Fact::Escrow(told) => Some(told),
        _ => None,
    })
}

fn decode<S: Store>(db: &S, id: u64, bytes: &[u8]) -> Result<Stored, durable::Error> {
    record::read(bytes).map_err(|error| db.corrupt(format!("segment {id}: {error}")))
}

#[cfg(test)]
mod tests;
