//! The world that a run is in: one clock, one stream of chances, and all that is simulated.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use marketplace::random::Random;
use tokio::time::Instant;

use super::book::Book;
use super::consensus::Log;
use super::escrow::Granted;
use super::faults::{Fault, Kinds, Tally};
use super::jobs::Jobs;
use super::market::Market;
use super::node::Node;
use super::operators::Desk;
use crate::config::Config;

/// True time at the beginning, in milliseconds since the Unix epoch.
const BEGIN_MS: u64 = 1_900_000_000_000;
pub(super) const NODES: usize = 3;
/// The median of the voters' clocks, and a leader's, may be so far apart.
pub(super) const SKEW_MAX: i64 = 5_000;

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    /// Which invariant.
    pub(super) invariant: &'static str,
    /// How, in words.
    pub(super) how: String,
    /// Virtual time since the beginning.
    pub(super) at: Duration,
    /// How many events there were until then.
    pub(super) events: u64,
}

/// A handle on the world. Cheap to clone.
#[derive(Clone)]
pub(super) struct Sim(Arc<Inner>);

struct Inner {
    began: Instant,
    world: Mutex<World>,
    config: Arc<Config>,
    seed: u64,
}

/// Everything that is simulated.
pub(super) struct World {
    /// True time.
    pub(super) now: u64,
    pub(super) dice: Random,
    kinds: Kinds,
    /// Whether faults happen: in the first phase of a run.
    pub(super) faulty: bool,
    pub(super) tally: Tally,
    pub(super) log: Log,
    nodes: Vec<Node>,
    pub(super) markets: Vec<Market>,
    pub(super) book: Book,
    pub(super) jobs: Jobs,
    pub(super) desk: Desk,
    /// What clients were granted in escrow.
    pub(super) granted: Granted,
    pub(super) broken: Option<Broken>,
    /// Events so far.
    pub(super) events: u64,
    /// Tasks that a run waits for: webhooks on their way, requests without an answer.
    pub(super) busy: u64,
    /// Grows with all that happens; equal for equal runs.
    trace: u64,
    /// What happened, in words, where somebody wants to read it.
    pub(super) story: Option<Vec<String>>,
}

impl Sim {
    pub(super) fn new(seed: u64, kinds: Kinds, config: Config, markets: Vec<Market>) -> Self {
        let nodes = (0..NODES).map(|_| Node::default()).collect();
        let world = World {
            now: BEGIN_MS,
            dice: Random::new(seed),
            kinds,
            faulty: true,
            tally: Tally::default(),
            log: Log::default(),
            nodes,
            markets,
            book: Book::default(),
            jobs: Jobs::default(),
            desk: Desk::default(),
            granted: Granted::default(),
            broken: None,
            events: 0,
            busy: 0,
            trace: seed,
            story: None,
        };
        let (began, world, config) = (Instant::now(), Mutex::new(world), Arc::new(config));
        Self(Arc::new(Inner { began, world, config, seed }))
    }

    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.0.config)
    }

    pub(super) fn seed(&self) -> u64 {
        self.0.seed
    }

    /// How long the run has gone on.
    pub(super) fn elapsed(&self) -> Duration {
        self.0.began.elapsed()
    }

    /// Looks at the world and changes it, at one moment.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let elapsed = u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut world = self.0.world.lock().unwrap_or_else(PoisonError::into_inner);
        let now = BEGIN_MS + elapsed;
        if world.now != now {
            world.now = now;
            // Chances hang on the time alone, so that what is left out of a history leaves the rest of it
            // as it is.
            world.dice = Random::new(self.0.seed ^ now.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
        change(&mut world)
    }

    /// Does something that a run waits for.
    pub(super) fn busy(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.with(|world| world.busy += 1);
        let sim = self.clone();
        tokio::spawn(async move {
            work.await;
            sim.with(|world| world.busy -= 1);
        });
    }
}

impl World {
    #[expect(clippy::indexing_slicing, reason = "there are as many nodes as numbers for them")]
    pub(super) fn node(&mut self, n: usize) -> &mut Node {
        &mut self.nodes[n % NODES]
    }

    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    #[expect(clippy::indexing_slicing, reason = "markets are numbered, and never go")]
    pub(super) fn market(&mut self, m: usize) -> &mut Market {
        let count = self.markets.len();
        &mut self.markets[m % count]
    }

    /// How long the run has gone on.
    pub(super) const fn elapsed(&self) -> Duration {
        Duration::from_millis(self.now - BEGIN_MS)
    }

    /// Whether a fault happens now. A chance is drawn in any case, so that a kind that is left out changes
    /// as little as possible of the rest.
    pub(super) fn happens(&mut self, fault: Fault) -> bool {
        let drawn = self.dice.below(1000) < fault.per_mille();
        let happens = drawn && self.may(fault);
        if happens {
            self.count(fault);
        }
        happens
    }

    /// Whether a kind of fault may happen now.
    pub(super) fn may(&self, fault: Fault) -> bool {
        self.faulty && self.kinds.has(fault)
    }

    pub(super) fn count(&mut self, fault: Fault) {
        *self.tally.faults.entry(fault).or_default() += 1;
        self.note(fault.name().as_bytes());
        if fault.strikes_topics() && self.is_leased() {
            self.tally.reach(&format!("{} under a lease", fault.name()));
        }
        self.tell(|| format!("fault: {}", fault.name()));
    }

    /// Says what happens, to whoever wants to read it.
    pub(super) fn tell(&mut self, what: impl FnOnce() -> String) {
        let at = self.elapsed().as_secs_f64();
        if let Some(story) = &mut self.story {
            story.push(format!("{at:>10.3}  {}", what()));
        }
    }

    /// A time between two, in milliseconds.
    pub(super) fn between(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.dice.below(most - least + 1))
    }

    pub(super) fn any(&mut self, of: usize) -> usize {
        let of = u64::try_from(of).unwrap_or(1);
        usize::try_from(self.dice.below(of)).unwrap_or(0)
    }

    /// Adds something that happened to the trace.
    pub(super) fn note(&mut self, what: &[u8]) {
        let mut hash = self.trace ^ self.now.rotate_left(32);
        for byte in what {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self.trace = hash.rotate_left(17) ^ (hash >> 31);
    }

    pub(super) const fn trace(&self) -> u64 {
        self.trace
    }

    /// Notes that a promise was not kept; the first counts.
    pub(super) fn breaks(&mut self, invariant: &'static str, how: impl Into<String>) {
        if self.broken.is_none() {
            let (at, events) = (self.elapsed(), self.events);
            self.broken = Some(Broken { invariant, how: how.into(), at, events });
        }
    }

    /// What was promised must hold.
    pub(super) fn holds(&mut self, invariant: &'static str, checked: Result<(), String>) {
        if let Err(how) = checked {
            self.breaks(invariant, how);
        }
    }
}
