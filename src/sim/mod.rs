//! The simulator: one seed, one thread, one clock. It runs the product above the consensus library (the
//! inbox, the submitter, the topics, the state, pushes and polls) over simulated disks, networks, clocks, marketplaces
//! and a simulated consensus, breaks all of them, and holds what comes of it against what really happened.
//!
//! ```text
//!  customers, clients, workers ─► world ◄─ market, senders       what really happens
//!                     nemesis, faults                            what fails
//!  inbox · submit · topics · propagate · poll · chores · State   the product's own code
//!  disk · consensus (Store, Agreed) · Shop (Quantities, Orders)  what stands in for the world
//!  feeds                                      what it sets late
//!  truth, book, jobs, check                                      who knows better
//! ```
//!
//! Time is tokio's, paused: it goes on when nothing else can. All chances come from one generator. So the
//! same options give the same run, to the last bit; the digest at its end says so.

mod book;
mod check;
mod clients;
mod consensus;
mod customers;
mod disk;
mod escrow;
mod faults;
mod feeds;
mod follow;
mod heaps;
mod jobs;
mod market;
mod names;
mod nemesis;
mod node;
mod operators;
mod replica;
mod report;
mod senders;
mod shop;
mod shrink;
mod truth;
mod workers;
mod world;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cluster::codec;
use marketplace::random::Random;
use state::Command;
use state::channel::Definition;
use state::command::SkuSettings;
use tokio::time::{sleep, sleep_until};

use crate::config::Config;
use faults::{Kinds, Tally};
use market::Market;
use world::{Broken, NODES, Sim};

pub use report::{Options, run};

const LOCATION: &str = "main";
/// What marketplaces sell, and of it what is shared rather than split.
const SKUS: [&str; 6] = ["CUP", "HAT", "MUG", "PEN", "TEE", "S-BAG"];
/// What is listed: these, and a kit of two of them.
const LISTED: [&str; 7] = ["CUP", "HAT", "MUG", "PEN", "TEE", "S-BAG", "SET"];
/// What only reservations take, and a kit of it.
const RESERVED_SKU: &str = "SEAT";
const RESERVED_KIT: &str = "ROW";
const KITS: [(&str, &[(&str, i64)]); 2] =
    [("SET", &[("CUP", 1), ("HAT", 2)]), (RESERVED_KIT, &[(RESERVED_SKU, 2)])];
const MARKETS: [&str; 3] = ["east", "north", "west"];
/// Of these, the one that sets quantities whatever it shows, by calls of few and by feeds.
const PLAIN: &str = "west";
/// Channels without an API: what a node keeps of the first is promised, of the second what is agreed on.
const TILLS: [&str; 2] = ["till", "desk"];
/// Units of each SKU at the beginning.
const OPENING: i64 = 12;
/// How long everything may take to come to rest once faults have stopped.
const CALM_MAX: Duration = Duration::from_secs(5 * 3_600);
/// How long it rests at least: late calls and webhooks come in.
const CALM_MIN: Duration = Duration::from_secs(1_800);
const LOOK: Duration = Duration::from_secs(60);

/// The nodes' configuration: three marketplaces with an API, each at home on another node, and a till.
const CONFIG: &str = r#"
node = { id = 1, region = "sim", data_dir = "sim" }
channel = [
    { name = "east", kind = "shopify", location = "main", home = 1, api = { base_url = "https://east.invalid", location_id = "gid://shopify/Location/1" } },
    { name = "north", kind = "shopify", location = "main", home = 2, api = { base_url = "https://north.invalid", location_id = "gid://shopify/Location/1" } },
    { name = "west", kind = "shopify", location = "main", home = 3, api = { base_url = "https://west.invalid", location_id = "gid://shopify/Location/1" }, rate = { per_second = 0.4, burst = 4 } },
    { name = "till", kind = "generic", location = "main" },
    { name = "desk", kind = "generic", location = "main" },
]
policy = [
    { sku = "S-*", mode = "shared" },
    { sku = "CUP", mode = "split", buffers = { east = 1, north = 1, west = 1 } },
    { sku = "HAT", mode = "split", buffers = { east = 2, north = 2, west = 2 } },
    { sku = "PEN", mode = "split", weights = "velocity", floor = "10%", buffers = "auto" },
    { sku = "*", mode = "split" },
]
"#;

/// What one unit of a SKU takes out of stock: itself, unless it is a kit.
fn parts(sku: &str) -> Vec<(&str, i64)> {
    let kit = KITS.iter().find(|(kit, _)| *kit == sku);
    kit.map_or_else(|| vec![(sku, 1)], |(_, parts)| parts.to_vec())
}

fn is_plain(channel: &str) -> bool {
    channel == PLAIN
}

fn is_till(channel: &str) -> bool {
    TILLS.contains(&channel)
}

fn is_shared(sku: &str) -> bool {
    sku.starts_with("S-")
}

/// What a run is made of: the same gives the same.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plan {
    seed: u64,
    events: u64,
    hours: u64,
    kinds: Kinds,
    /// Events that are left out.
    without: BTreeSet<u64>,
    /// Whether what happens is written down.
    telling: bool,
}

impl Plan {
    /// When an event happens.
    fn at(&self, event: u64) -> Duration {
        let span = self.hours * 3_600_000;
        let gap = span / self.events.max(1);
        let jitter = Random::new(self.seed ^ !event).below(gap.max(1));
        Duration::from_millis(gap.saturating_mul(event - 1) + jitter)
    }
}

/// What came of a run.
struct Outcome {
    plan: Plan,
    broken: Option<Broken>,
    tally: Tally,
    /// Equal for equal runs.
    digest: u64,
    virtual_time: Duration,
    /// Time on a processor: others may have worked on it too.
    real_time: Duration,
    entries: u64,
    oversold: Vec<(&'static str, i64)>,
    /// What happened, if the plan asks for that.
    story: Vec<String>,
}

/// Runs a plan, on this thread.
fn simulate(plan: &Plan) -> Result<Outcome, String> {
    let mut config: Config = toml::from_str(CONFIG).map_err(|error| error.to_string())?;
    for channel in &mut config.channels {
        channel.scheme = Some(Arc::new(senders::scheme(&channel.name)?));
    }
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let began = processor_time();
    // What a node warns of is what the run is for.
    let quiet = tracing::subscriber::NoSubscriber::new();
    let mut outcome = tracing::subscriber::with_default(quiet, || {
        runtime.block_on(async { whole(plan, config).await })
    });
    outcome.real_time = processor_time().saturating_sub(began);
    Ok(outcome)
}

/// How long this thread has run, where the system tells; else the time of day.
fn processor_time() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = told.and_then(|told| told.split_whitespace().next()?.parse().ok());
    let of_day = || Duration::from_millis(crate::clock::now_ms());
    nanoseconds.map_or_else(of_day, Duration::from_nanos)
}

async fn whole(plan: &Plan, config: Config) -> Outcome {
    let markets = MARKETS.iter().map(|name| Market::new(name)).collect();
    let sim = Sim::new(plan.seed, plan.kinds.clone(), config, markets);
    sim.with(|world| world.story = plan.telling.then(Vec::new));
    open(&sim).await;
    tokio::spawn(nemesis::run(sim.clone()));
    tokio::spawn(operators::run(sim.clone(), plan.seed));
    tokio::spawn(feeds::mend(sim.clone()));
    workers::start(&sim);
    let began = tokio::time::Instant::now();
    let is_broken = || sim.with(|world| world.broken.is_some());
    for event in (1..=plan.events).filter(|event| !plan.without.contains(event)) {
        sleep_until(began + plan.at(event)).await;
        if is_broken() {
            break;
        }
        customers::act(&sim, plan.seed, event);
        workers::act(&sim, plan.seed, event);
    }
    if !is_broken() {
        sleep_until(began + Duration::from_secs(plan.hours * 3_600)).await;
        sim.with(nemesis::calm);
        come_to_rest(&sim).await;
    }
    sim.with(|world| Outcome {
        plan: plan.clone(),
        broken: world.broken.clone(),
        tally: world.tally.clone(),
        digest: world.trace(),
        virtual_time: world.elapsed(),
        real_time: Duration::ZERO,
        entries: world.log.last(),
        story: world.story.take().unwrap_or_default(),
        oversold: world.log.truth.oversold.iter().map(|(cause, units)| (*cause, *units)).collect(),
    })
}

/// Starts the cluster, and gives it something to sell.
async fn open(sim: &Sim) {
    for n in 0..NODES {
        node::start(sim, n);
    }
    while !sim.with(|world| world.log.head.state.data().seeded) {
        sleep(Duration::from_millis(100)).await;
    }
    sim.with(|world| {
        let mut commands: Vec<Vec<u8>> =
            SKUS.iter().map(|sku| clients::opening(sku, OPENING)).collect();
        commands.push(clients::opening(RESERVED_SKU, OPENING));
        for (kit, parts) in KITS {
            let parts = parts.iter().map(|(part, each)| ((*part).to_string(), *each));
            let settings = SkuSettings { components: Some(parts.collect()), ..Default::default() };
            commands.push(codec::encode(&Command::Map { sku: kit.into(), settings }));
        }
        let rows = LISTED.iter().flat_map(|sku| {
            let spec = move |(m, name): (usize, &&str)| {
                ((*sku).to_string(), (*name).to_string(), shop::spec(m, sku))
            };
            MARKETS.iter().enumerate().map(spec)
        });
        commands.push(codec::encode(&Command::List(rows.collect())));
        commands.push(escrow::opening());
        if let Some(known) = world.log.head.state.data().channels.get(PLAIN) {
            let definition = Definition { compares: false, ..known.definition.clone() };
            let command = Command::PutChannel { name: PLAIN.into(), definition };
            commands.push(codec::encode(&command));
        }
        commands.push(jobs::opening());
        world.book.received = OPENING;
        for command in commands {
            let at_ms = world.now;
            world.commit(at_ms, command);
        }
    });
}

/// Faults have stopped: everything must be settled after a while, and then hold.
async fn come_to_rest(sim: &Sim) {
    sleep(CALM_MIN).await;
    let until = tokio::time::Instant::now() + CALM_MAX;
    loop {
        match sim.with(check::quiet) {
            Ok(()) => break,
            Err(what) if tokio::time::Instant::now() > until => {
                sim.with(|world| world.breaks("I8", format!("it never comes to rest: {what}")));
                return;
            }
            Err(_) => sleep(LOOK).await,
        }
        if sim.with(|world| world.broken.is_some()) {
            return;
        }
    }
    sim.with(check::everything);
}
