//! Feeds of a simulated marketplace: many quantities that are handed in together, worked through one by one minutes
//! later, and told of in a report.
//!
//! It sets what it was handed in whatever has become of it since, each row at a moment that only it knows: a sale, or a
//! newer quantity that was sent by itself, is set over. A feed is cancelled, breaks off half done, or is refused as a
//! whole; its rows are refused one by one, left in the dark, or said to be set and are not. It goes on when whoever
//! handed it in is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cluster::codec;
use state::command::Outcome;
use state::limits::{FEED_KEEP_MS, MINUTE_MS, SECOND_MS};
use state::reply::{Intended, Step};
use state::{Command, Packed};
use tokio::time::sleep;

use super::faults::Fault;
use super::market::{self, Shop};
use super::truth::Intent;
use super::world::{NODES, Sim, World};
use super::{LISTED, PLAIN, consensus, shop};
use crate::channel::api::gate;
use crate::channel::pushed::{Patience, wait_of};
use crate::channel::{PushError, Row, RowOutcome};

/// Rows of a feed at the most.
pub(super) const ROWS_MAX: usize = 5;
/// A feed that was handed in is through after so long, of the time for which it is counted with.
const THROUGH_MS: u64 = FEED_KEEP_MS - 2 * MINUTE_MS;
/// Feeds are allowed this seldom.
const LIMITED_MS: u64 = MINUTE_MS;
/// How often a report is asked for that does not come.
const TRIES: u32 = 4;
const LIMIT: Duration = Duration::from_secs(10);

/// So few rows are worth a feed: in every other run one is, in the others what little there is goes call by call.
pub(super) const fn rows_min(seed: u64) -> usize {
    if seed.is_multiple_of(2) { 1 } else { 3 }
}

/// The feeds of one marketplace.
#[derive(Default)]
pub(super) struct Feeds {
    known: BTreeMap<u64, Status>,
    /// Pushes by feed that a sale did not wait for, by SKU and revision, until the end of the feed is told of.
    ahead: BTreeSet<(String, u64)>,
}

/// What is told of a feed.
#[derive(Clone)]
enum Status {
    Working,
    /// It was cancelled before it began.
    Cancelled,
    /// It was refused as a whole, and no row is named.
    Refused,
    /// It broke off: some rows were set.
    Broken,
    /// It was worked through, and there is a report.
    Done(Vec<RowOutcome>),
}

/// A row as it was handed in.
#[derive(Clone)]
struct Handed {
    row: Row,
    intent: Option<Intent>,
}

impl Shop {
    /// Hands a feed in and waits for its report, as clients of marketplaces with feeds do. An error only where
    /// nothing was done.
    pub(super) async fn run_feed(&self, rows: &[Row]) -> Result<Vec<RowOutcome>, PushError> {
        let m = self.market;
        turn().await?;
        let (handed, through_by) = self.sim.with(|world| {
            world.called(m);
            market::sent(world, m, rows);
            (handed(world, m, rows), world.now + THROUGH_MS)
        });
        // As long as no feed is made of it, a document changes nothing.
        self.call(|_| (), false).await.map_err(|error| match error {
            PushError::Unknown(why) => PushError::Refused(why),
            error => error,
        })?;
        turn().await?;
        let sim = self.sim.clone();
        let make = move |world: &mut World| {
            let id = world.book.serial();
            world.market(m).feeds.known.insert(id, Status::Working);
            world.tally.reach("feed made");
            world.busy += 1;
            tokio::spawn(work_through(sim.clone(), m, (id, through_by), handed.clone()));
            id
        };
        self.sim.with(|world| world.called(m));
        match self.call(make, false).await {
            Ok(id) => self.finished(id, rows.len()).await,
            Err(PushError::Unknown(_)) => {
                self.sim.with(|world| world.tally.reach("feed of which nobody knows"));
                Ok(vec![RowOutcome::Unknown; rows.len()])
            }
            Err(PushError::Limited { wait_ms }) => {
                Err(PushError::Limited { wait_ms: wait_ms.max(LIMITED_MS) })
            }
            Err(error) => Err(error),
        }
    }

    /// Waits for a feed.
    async fn finished(&self, id: u64, rows: usize) -> Result<Vec<RowOutcome>, PushError> {
        let (mut pauses, mut wait) = (Patience::FEED.begin(), Duration::ZERO);
        while pauses.pause(wait).await {
            let status = self.status(id).await;
            wait = status.as_ref().map_or_else(wait_of, |_| Duration::ZERO);
            match status {
                Ok(Status::Cancelled) => return Ok(vec![RowOutcome::Refused; rows]),
                Ok(Status::Refused) => {
                    return Err(PushError::Suspect("the feed is refused".into()));
                }
                Ok(Status::Broken) => return Ok(vec![RowOutcome::Unknown; rows]),
                Ok(Status::Done(_)) => return Ok(self.report(id, rows).await),
                Ok(Status::Working) | Err(_) => {}
            }
        }
        self.sim.with(|world| world.tally.reach("feed not waited for"));
        Ok(vec![RowOutcome::Unknown; rows])
    }

    async fn report(&self, id: u64, rows: usize) -> Vec<RowOutcome> {
        let mut pauses = Patience::FEED.begin();
        for _ in 0..TRIES {
            let wait = match self.status(id).await {
                Ok(Status::Done(outcomes)) => return outcomes,
                Ok(_) => Duration::ZERO,
                Err(error) => wait_of(&error),
            };
            pauses.pause(wait).await;
        }
        self.sim.with(|world| world.tally.reach("feed without its report"));
        vec![RowOutcome::Unknown; rows]
    }

    /// Whoever has handed a feed in must learn what becomes of it, whatever is left of the day.
    async fn status(&self, id: u64) -> Result<Status, PushError> {
        turn().await?;
        let m = self.market;
        let told = move |world: &mut World| world.market(m).feeds.known.get(&id).cloned();
        Ok(self.call(told, false).await?.unwrap_or(Status::Working))
    }
}

/// Waits until a call may be made.
async fn turn() -> Result<(), PushError> {
    gate::pass().await.map(drop).map_err(PushError::from)
}

fn handed(world: &World, m: usize, rows: &[Row]) -> Vec<Handed> {
    let name = world.markets.get(m).map_or("", |market| market.name.as_str());
    let truth = &world.log.truth;
    let intent = |row: &Row| truth.intent(name, &row.place.sku, (row.quantity, row.from)).cloned();
    rows.iter().map(|row| Handed { row: row.clone(), intent: intent(row) }).collect()
}

/// A marketplace works a feed through: in its own order, and in its own time.
async fn work_through(sim: Sim, m: usize, (id, through_by): (u64, u64), rows: Vec<Handed>) {
    let (epoch, queued, pause, end) = sim.with(|world| {
        let slow = world.happens(Fault::FeedSlow);
        let end = if world.happens(Fault::FeedCancelled) {
            Status::Cancelled
        } else if world.happens(Fault::FeedRefused) {
            Status::Refused
        } else if world.happens(Fault::FeedBroken) {
            Status::Broken
        } else {
            Status::Done(Vec::new())
        };
        let (least, most) =
            if slow { (8 * MINUTE_MS, 22 * MINUTE_MS) } else { (SECOND_MS, MINUTE_MS) };
        let pause = if slow { 2 * MINUTE_MS } else { 30 * SECOND_MS };
        (epoch(world), world.between(least, most), pause, end)
    });
    let rest = |sim: &Sim, wait: Duration| {
        let left = sim.with(|world| through_by.saturating_sub(world.now));
        wait.min(Duration::from_millis(left))
    };
    sleep(rest(&sim, queued)).await;
    let mut became = vec![RowOutcome::Unknown; rows.len()];
    if matches!(end, Status::Done(_) | Status::Broken) {
        for n in order(&sim, rows.len()) {
            let wait = sim.with(|world| world.between(500, pause));
            sleep(rest(&sim, wait)).await;
            let (Some(handed), Some(became)) = (rows.get(n), became.get_mut(n)) else { continue };
            *became = sim.with(|world| {
                let is_done = !matches!(end, Status::Broken) || world.dice.below(2) == 0;
                if is_done { take(world, m, handed) } else { RowOutcome::Unknown }
            });
        }
        let wait = sim.with(|world| world.between(500, pause));
        sleep(rest(&sim, wait)).await;
    }
    sim.with(|world| {
        let end = if matches!(end, Status::Done(_)) { Status::Done(became) } else { end };
        world.tally.reach(match end {
            Status::Cancelled => "feed cancelled",
            Status::Refused => "feed refused",
            Status::Broken => "feed broken off",
            _ => "feed done",
        });
        if self::epoch(world) != epoch {
            world.tally.reach("feed outlived its owner");
        }
        world.market(m).feeds.known.insert(id, end);
        world.busy -= 1;
    });
}

fn epoch(world: &World) -> Option<u64> {
    Some(world.log.head.state.data().channels.get(PLAIN)?.owner?.epoch)
}

/// A seeded order of so many rows.
fn order(sim: &Sim, rows: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows).collect();
    sim.with(|world| {
        for n in 1..rows {
            let other = world.any(n + 1);
            order.swap(n, other);
        }
    });
    order
}

/// The marketplace comes to a row.
fn take(world: &mut World, m: usize, handed: &Handed) -> RowOutcome {
    let Handed { row, intent } = handed;
    let sku = row.place.sku.as_str();
    if world.happens(Fault::FeedRowRefused) {
        world.tell(|| format!("a feed's row is refused: {sku} {}", row.quantity));
        return RowOutcome::Failed("the feed's row is refused".into());
    }
    if world.happens(Fault::FeedLies) {
        world.tell(|| format!("a feed says that it has set {sku} to {}", row.quantity));
        // As if somebody had set it back by hand, and nobody told of that.
        let now = world.agreed_now();
        world.market(m).edit(sku);
        world.log.truth.late_all(sku, now);
        return RowOutcome::Confirmed;
    }
    let dark = world.happens(Fault::FeedRowUnknown);
    if dark && world.dice.below(2) == 0 {
        return RowOutcome::Unknown;
    }
    let shown = world.market(m).shows(sku);
    let newest = world.market(m).sent.get(sku).copied();
    let is_old = intent.as_ref().is_some_and(|intent| Some(intent.revision) < newest);
    if is_old {
        world.tally.reach("feed row set over a newer push");
    } else if shown != row.from {
        world.tally.reach("feed row set over what was sold");
    } else {
        world.tally.reach("feed row set");
    }
    world.tell(|| format!("a feed sets {sku} of {shown}: {} -> {}", row.from, row.quantity));
    market::set(world, m, row, intent.as_ref());
    if dark { RowOutcome::Unknown } else { RowOutcome::Confirmed }
}

/// What a channel will take nothing for any more until somebody asks for it.
pub(super) fn faulty(world: &World, channel: &str) -> Vec<&'static str> {
    let data = world.log.head.state.data();
    let fault = |sku: &&str| {
        let stock = data.stock.get(*sku)?;
        stock.listings.get(channel).map(Packed::get)?.fault
    };
    LISTED.into_iter().filter(|sku| fault(sku).is_some()).collect()
}

/// Somebody looks now and then at what the marketplace refused, mends it, and asks for it.
pub(super) async fn mend(sim: Sim) {
    loop {
        let pause = sim.with(|world| world.between(MINUTE_MS, 20 * MINUTE_MS));
        sleep(pause).await;
        for sku in sim.with(|world| faulty(world, PLAIN)) {
            let command = Command::PushNow { channel: PLAIN.into(), sku: Some(sku.into()) };
            let n = sim.with(|world| world.any(NODES));
            if consensus::propose(&sim, n, codec::encode(&command), LIMIT).await.is_ok() {
                sim.with(|world| world.tally.reach("listing pushed anew"));
            }
        }
    }
}

impl World {
    /// Notes which pushes by feed a sale did not wait for.
    pub(super) fn goes_ahead(&mut self, channel: &str, intended: &[Intended]) {
        let m = shop::number(channel);
        for next in intended.iter().filter(|next| next.step == Step::Observe) {
            let stock = self.log.head.state.data().stock.get(next.sku.as_str());
            let listing = stock.and_then(|stock| stock.listings.get(channel)).map(Packed::get);
            let Some(revision) = listing.and_then(|listing| listing.overtaken) else { continue };
            if self.market(m).feeds.ahead.insert((next.sku.clone(), revision)) {
                self.tally.reach("sale went ahead of a feed");
            }
        }
    }

    /// What became of a feed is told of.
    pub(super) fn feed_ended(&mut self, channel: &str, outcomes: &[Outcome]) {
        let m = shop::number(channel);
        for Outcome { sku, revision, .. } in outcomes {
            if self.market(m).feeds.ahead.remove(&(sku.clone(), *revision)) {
                self.tally.reach("end of a feed that was overtaken");
            }
        }
    }
}
