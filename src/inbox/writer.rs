//! The writer: it turns what arrived since its last flush into segments, makes them
//! durable, and only then answers.

use std::sync::Arc;
use std::time::Duration;

use cluster::codec;
use cluster::durable::{self, Batch};
use state::command::{Delivery, Fact};
use state::origin::Lane;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::record::{Stored, segment_key};
use super::{Answer, BOOK, LANES, MARK, Place, Segment, Shared, Store, Waiting, beginnings};
use crate::planted::{self, Bug};

/// Deliveries in one segment at the most.
const SEGMENT_DELIVERIES_MAX: usize = 256;
/// Bytes in one segment at the most, but for its last delivery: together they must fit one proposal.
const SEGMENT_BYTES_MAX: usize = 256 * 1024;
/// What a delivery takes beside its facts, and a line beside its names, in bytes.
const DELIVERY_BYTES: usize = 128;
const LINE_BYTES: usize = 16;
/// Segments whose deliveries stay in memory, so that proposing them reads no disk.
const CACHED_MAX: usize = 64;
/// After how long the mark of what was agreed on is written, and old segments are removed, when nothing
/// else is written.
const IDLE_WRITE: Duration = Duration::from_secs(1);
/// How often it is looked whether old segments may go: nothing tells that time goes by.
const LOOK: Duration = Duration::from_secs(60);

/// Gathers, writes, flushes, answers.
pub(crate) struct Writer<S> {
    shared: Arc<Shared<S>>,
    waiting: mpsc::Receiver<Waiting>,
}

/// Runs a writer on a thread of its own, until every handle of its inbox is gone.
pub(super) fn run<S: Store>(writer: Writer<S>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.unwrap_or_else(|error| durable::halt("cannot start the inbox", &error));
    if let Err(error) = runtime.block_on(writer.write_all()) {
        durable::halt("the inbox cannot be written", &error);
    }
}

impl<S: Store> Writer<S> {
    pub(super) const fn new(shared: Arc<Shared<S>>, waiting: mpsc::Receiver<Waiting>) -> Self {
        Self { shared, waiting }
    }

    /// Writes until every handle is gone. After an error nothing may be answered any more.
    pub(crate) async fn write_all(mut self) -> Result<(), durable::Error> {
        loop {
            let mut gathered = Gathered::default();
            match self.first().await {
                First::Delivery(first) => gathered.add(first),
                First::Time => {}
                First::End => break,
            }
            while gathered.has_room() {
                let Ok(next) = self.waiting.try_recv() else { break };
                gathered.add(next);
            }
            write_once(&self.shared, gathered)?;
        }
        write_once(&self.shared, Gathered::default())
    }

    /// What is written next, if that is not only the time for it.
    async fn first(&mut self) -> First {
        let mut until = Instant::now() + self.rest();
        loop {
            tokio::select! {
                biased;
                first = self.waiting.recv() => return first.map_or(First::End, First::Delivery),
                () = self.shared.marked.notified() => {
                    until = until.min(Instant::now() + IDLE_WRITE);
                }
                () = tokio::time::sleep_until(until) => return First::Time,
            }
        }
    }

    fn rest(&self) -> Duration {
        let now = (self.shared.clock)();
        let queue = self.shared.queue();
        let waits = queue.mark_changed || queue.expired(now, self.shared.bounds.keep_ms).is_some();
        if waits { IDLE_WRITE } else { LOOK }
    }
}

/// What a writer has waited for.
enum First {
    Delivery(Waiting),
    Time,
    /// Every handle of the inbox is gone.
    End,
}

#[derive(Default)]
struct Gathered {
    lanes: [(Vec<Delivery>, Vec<Answer>); 2],
    bytes: usize,
}

impl Gathered {
    fn add(&mut self, waiting: Waiting) {
        self.bytes += size(&waiting.delivery);
        let [urgent, normal] = &mut self.lanes;
        let (deliveries, answers) = match waiting.lane {
            Lane::Urgent => urgent,
            Lane::Normal => normal,
        };
        deliveries.push(waiting.delivery);
        answers.push(waiting.answer);
    }

    fn has_room(&self) -> bool {
        let most = self.lanes.iter().map(|(deliveries, _)| deliveries.len()).max();
        most < Some(SEGMENT_DELIVERIES_MAX) && self.bytes < SEGMENT_BYTES_MAX
    }
}

/// About as many bytes as a delivery takes in its segment, and never far fewer.
fn size(delivery: &Delivery) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let fact = |fact: &Fact| -> usize {
        match fact {
            Fact::Dead { reason, body } => reason.len() + body.len(),
            Fact::Image { lines, .. } => lines
                .iter()
                .map(|line| line.id.len() + text(&line.listing) + text(&line.sku) + LINE_BYTES)
                .sum(),
            Fact::Removals { lines, .. } => {
                let names = lines.iter().map(|line| {
                    line.id.len() + line.line.len() + text(&line.listing) + text(&line.sku)
                });
                names.map(|bytes| bytes + LINE_BYTES).sum()
            }
            Fact::Listed { listing, sku, .. } => listing.len() + sku.len() + LINE_BYTES,
            Fact::Shown { listing, sku, location, .. } => {
                listing.len() + text(sku) + text(location) + LINE_BYTES
            }
            Fact::Moved(moved) => {
                let names = [&moved.listing, &moved.sku, &moved.location, &moved.to_location];
                let names: usize = names.into_iter().map(text).sum();
                moved.id.len() + names + text(&moved.reference) + LINE_BYTES
            }
            Fact::Reload { order, .. } | Fact::Fetched { order, .. } => order.len() + LINE_BYTES,
            Fact::Polled { .. } | Fact::Looked { .. } => LINE_BYTES,
            Fact::Escrow(told) => told.what.len(),
        }
    };
    let facts: usize = delivery.facts.iter().map(fact).sum();
    DELIVERY_BYTES + delivery.raw.len() + facts
}

fn write_once<S: Store>(shared: &Shared<S>, gathered: Gathered) -> Result<(), durable::Error> {
    let now = (shared.clock)();
    // Encoded before the queue is locked: every webhook looks into it.
    let filled = LANES.into_iter().zip(gathered.lanes).filter(|(_, (d, _))| !d.is_empty());
    let encoded: Vec<_> = filled
        .map(|(lane, (deliveries, answers))| {
            let stored = Stored { lane, written_ms: now, deliveries };
            (codec::encode(&stored), stored, answers)
        })
        .collect();
    let mut batch = Batch::default();
    let told = encoded.iter().flat_map(|(_, stored, _)| &stored.deliveries).flat_map(super::told);
    if let Some(told) = told.max_by_key(|told| told.serial) {
        batch.put(BOOK, &codec::encode(&(told.holder.book, told.serial)));
    }
    let mut written = Vec::new();
    {
        let mut queue = shared.queue();
        for (bytes, Stored { lane, deliveries, .. }, answers) in encoded {
            let id = queue.next_id;
            queue.next_id += 1;
            batch.put(&segment_key(id), &bytes);
            let segment = Segment {
                id,
                bytes: u64::try_from(bytes.len()).unwrap_or(0),
                written_ms: now,
                keys: beginnings(&deliveries),
                cached: Some(Arc::new(deliveries)),
                waiters: Vec::new(),
            };
            written.push((lane, segment, answers));
        }
        if std::mem::take(&mut queue.mark_changed) {
            let marks = LANES.map(|lane| queue.lane(lane).mark);
            batch.put(MARK, &codec::encode(&marks));
        }
        for id in queue.take_expired(now, shared.bounds.keep_ms) {
            batch.remove(&segment_key(id));
        }
    }
    if batch.is_empty() {
        return Ok(());
    }
    shared.db.write(batch)?;
    if !planted::has(Bug::SkipFlush) {
        shared.db.make_durable()?;
    }
    publish(shared, written);
    Ok(())
}

type Written = (Lane, Segment, Vec<Answer>);

/// What is durable now may be answered, and proposed.
fn publish<S>(shared: &Shared<S>, written: Vec<Written>) {
    for (lane, mut segment, answers) in written {
        shared.measures.accepted.inc_by(segment.count());
        shared.measures.backlog.inc_by(i64::try_from(segment.count()).unwrap_or(0));
        let mut queue = shared.queue();
        queue.waiting_bytes += segment.bytes;
        let segments = queue.lane_mut(lane);
        if segments.waiting.len() >= CACHED_MAX {
            segment.cached = None;
        }
        segments.waiting.push_back(segment);
        let sequence = segments.agreed + u64::try_from(segments.waiting.len()).unwrap_or(0);
        drop(queue);
        for answer in answers {
            // Whoever hung up sends again; the delivery's key absorbs it.
            let _ = answer.send(Ok(Place { lane, sequence }));
        }
    }
    shared.changed.send_modify(|n| *n += 1);
}
