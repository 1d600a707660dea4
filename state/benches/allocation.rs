//! What it costs to decide how much each channel may show, for 100,000 listings after one bulk receipt: every share is
//! brought to its target, and every raise is judged by what may still be sold elsewhere.
//!
//! `make bench-scale`; a number as argument is the count of listings.

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::error::Error;
use std::time::{Duration, Instant};

use state::channel::Definition;
use state::command::{Asked, Command, ListingSpec, MovementRequest, Movements, Outcome, Settled};
use state::ledger::Kind;
use state::limits::{DAY_MS, INTENT_SKUS_MAX, REQUEST_MOVEMENTS_MAX};
use state::origin::Lane;
use state::policy::{Mode, Policy};
use state::reply::{Intended, Step};
use state::{Reply, Stamp, State};

const LISTINGS: u64 = 100_000;
const CHANNELS: [&str; 4] = ["amazon", "ebay", "shop", "walmart"];

type Fallible<T> = Result<T, Box<dyn Error>>;

fn main() -> Fallible<()> {
    let asked = std::env::args().find_map(|argument| argument.parse().ok());
    let skus = asked.unwrap_or(LISTINGS) / 4;
    let mut bench = Bench { state: State::default(), index: 0, serial: 0 };
    for mode in [Mode::Split, Mode::Shared] {
        bench.seed(mode, skus)?;
        let (all, slowest) = bench.receive(skus, 7);
        let due: usize = CHANNELS.map(|name| bench.state.due().count(name)).iter().sum();
        println!(
            "{mode:?}: {} listings of {skus} SKUs decided in {:.2} s, {:.0} a second; {due} are due; the slowest command \
             (a receipt of {REQUEST_MOVEMENTS_MAX}) took {:.1} ms",
            4 * skus,
            all.as_secs_f64(),
            (4.0 * f64::from(u32::try_from(skus)?)) / all.as_secs_f64(),
            slowest.as_secs_f64() * 1e3,
        );
        let began = Instant::now();
        let mut ticks = 0;
        bench.apply(Command::Rebalance(None));
        while bench.state.data().walk.is_some() {
            bench.apply(Command::Tick);
            ticks += 1;
        }
        println!("  all rebalanced in {:.2} s, with {ticks} ticks", began.elapsed().as_secs_f64());
    }
    Ok(())
}

struct Bench {
    state: State,
    index: u64,
    serial: u64,
}

fn sku(n: u64) -> String {
    format!("SKU-{n:07}")
}

impl Bench {
    fn apply(&mut self, command: Command) -> Reply {
        self.index += 1;
        self.state.apply(Stamp { index: self.index, now: 1_000 * DAY_MS + self.index }, command).0
    }

    /// SKUs that four channels show, and have confirmed.
    fn seed(&mut self, mode: Mode, skus: u64) -> Fallible<()> {
        *self = Self { state: State::default(), index: 0, serial: 0 };
        let definition = Definition::new("generic", "main");
        let channels = CHANNELS.map(|name| (name.to_string(), definition.clone())).into();
        let policies = vec![Policy { sku: "*".into(), mode, ..Policy::default() }];
        self.apply(Command::Seed { channels, policies, locations: Vec::new() });
        self.receive(skus, 100);
        let all: Vec<u64> = (0..skus).collect();
        let epochs = CHANNELS.map(|channel| {
            match self.apply(Command::Claim { channel: channel.into(), node: 1 }) {
                Reply::Claimed { epoch } => (channel, epoch),
                _ => (channel, 0),
            }
        });
        for some in all.chunks(INTENT_SKUS_MAX) {
            let spec = |n: &u64| ListingSpec { id: sku(*n), ..ListingSpec::default() };
            for (channel, _) in epochs {
                let rows = some.iter().map(|n| (sku(*n), channel.to_string(), spec(n)));
                self.apply(Command::List(rows.collect()));
            }
            for (channel, epoch) in [epochs, epochs].concat() {
                let skus = some.iter().map(|n| sku(*n)).collect();
                let (channel, lane) = (channel.to_string(), Lane::Urgent);
                let command = Command::Intend { channel: channel.clone(), epoch, lane, skus };
                let Reply::Intended(intended) = self.apply(command) else {
                    return Err("nothing was intended".into());
                };
                let outcomes = intended.into_iter().map(settled).collect();
                let (intent, calls) = (self.index, 1);
                self.apply(Command::Settle { channel, epoch, lane, intent, calls, outcomes });
            }
        }
        Ok(())
    }

    /// So many units of every SKU come in; how long all of it took, and the slowest command.
    fn receive(&mut self, skus: u64, units: i64) -> (Duration, Duration) {
        let all: Vec<u64> = (0..skus).collect();
        let (mut sum, mut slowest) = (Duration::ZERO, Duration::ZERO);
        for some in all.chunks(REQUEST_MOVEMENTS_MAX) {
            let movements = some.iter().map(|n| self.receipt(*n, units)).collect();
            let asked = Asked::Movements(Movements { atomic: false, movements });
            let began = Instant::now();
            self.apply(Command::Request { idempotency: None, asked });
            let took = began.elapsed();
            sum += took;
            slowest = slowest.max(took);
        }
        (sum, slowest)
    }

    fn receipt(&mut self, n: u64, quantity: i64) -> MovementRequest {
        self.serial += 1;
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.serial.to_be_bytes());
        MovementRequest::new(key, self.serial.to_string(), Kind::Receipt, sku(n), quantity, "main")
    }
}

fn settled(Intended { sku, step }: Intended) -> Outcome {
    let (revision, result) = match step {
        Step::Observe => (0, Settled::Observed(0)),
        Step::Push { revision, .. } => (revision, Settled::Confirmed),
    };
    Outcome { listing: sku.clone(), sku, revision, result }
}
