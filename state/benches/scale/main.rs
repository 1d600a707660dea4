//! How much fits, and how long it takes: a million SKUs in four locations each, a million open orders with
//! one or two lines, the keys of their deliveries, and two listings a SKU.
//!
//! 1. What does each kind cost in memory?
//! 2. What does a snapshot cost those who go on: the clone, the slowest command while it is written, and
//!    the memory that is copied meanwhile?
//! 3. How soon is a state there again after a restart, and how large is it then?
//!
//! `make bench-scale`; a number as argument is the size, so that a small one runs in seconds. All is built by
//! commands, as on a node. What a node adds to it, `benches/node.rs` shows.

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

mod goods;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;
use std::process::Command as Process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use goods::{Goods, LOCATIONS, SHOP, listing, sku};
use state::channel::Definition;
use state::command::{Command, ListingSpec, Outcome, Settled};
use state::limits::{self, DAY_MS};
use state::origin::Lane;
use state::reply::{Intended, Step};
use state::{Data, Reply, Stamp, State};

const SIZE: u64 = 20_000;
const CHANNELS: [&str; 2] = [SHOP, "outlet"];
/// Deliveries in a segment: what an inbox gathers between two flushes.
const SEGMENT: u64 = 50;

type Fallible<T> = Result<T, Box<dyn Error>>;

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--read") {
        return read(Path::new(arguments.get(at + 1).ok_or("--read names no file")?));
    }
    let size = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(SIZE);
    let mut bench = Bench {
        state: State::default(),
        goods: Goods { skus: size },
        index: 0,
        now: 1_000 * DAY_MS,
        segments: 0,
        orders: 0,
    };
    println!("{size} SKUs in {} locations each, {size} orders, {size} keys", LOCATIONS.len());
    println!("\n1. memory, MiB in all and bytes for each");
    let mut before = rss()?;
    bench.seed();
    let builds: [(&str, Build); 3] = [
        ("SKUs", Bench::receive),
        ("orders, and keys of their deliveries", |bench| bench.sell(bench.goods.skus)),
        ("listings, two a SKU", Bench::list),
    ];
    for (what, build) in builds {
        let began = Instant::now();
        build(&mut bench);
        let after = rss()?;
        let each = after.saturating_sub(before) / size;
        let took = began.elapsed().as_secs_f64();
        println!("  {what:<38}{:>8}{each:>9}   built in {took:.1} s", mib(after));
        before = after;
    }
    let file = std::env::temp_dir().join(format!("stockraft-scale-{}", std::process::id()));
    let outcome = bench.snapshot(&file).and_then(|()| {
        println!("\n3. after a restart");
        let child = Process::new(std::env::current_exe()?).arg("--read").arg(&file).status()?;
        if child.success() { Ok(()) } else { Err("what was written cannot be read".into()) }
    });
    std::fs::remove_file(&file)?;
    outcome
}

/// Adds one kind of thing.
type Build = fn(&mut Bench);

/// A state that grows.
struct Bench {
    state: State,
    goods: Goods,
    index: u64,
    now: u64,
    segments: u64,
    orders: u64,
}

impl Bench {
    fn apply(&mut self, command: Command) -> Reply {
        self.index += 1;
        self.state.apply(Stamp { index: self.index, now: self.now }, command).0
    }

    fn seed(&mut self) {
        let definition = Definition::new("shopify", LOCATIONS[0]);
        let channels = CHANNELS.map(|name| (name.to_string(), definition.clone())).into();
        self.apply(Command::Seed { channels, policies: Vec::new(), locations: Vec::new() });
    }

    /// Puts units of every SKU into every location, and lets the ids of these movements be forgotten.
    fn receive(&mut self) {
        for command in self.goods.receipts() {
            self.apply(command);
        }
        self.now += limits::MOVEMENT_ID_KEEP_MS + DAY_MS;
        while !self.state.data().booked.entries().is_empty() {
            self.apply(Command::Tick);
        }
    }

    /// Sells to so many orders, spread over six days.
    fn sell(&mut self, orders: u64) {
        while self.orders < orders {
            self.now += 6 * DAY_MS * SEGMENT / self.goods.skus;
            let segment = self.segment();
            self.apply(segment);
        }
    }

    fn segment(&mut self) -> Command {
        self.segments += 1;
        let segment = self.goods.segment(self.segments, self.orders, SEGMENT, self.now);
        self.orders += SEGMENT;
        segment
    }

    /// Lists every SKU on every channel, and lets the channels show what they should.
    fn list(&mut self) {
        let epochs = CHANNELS.map(|channel| {
            let claim = Command::Claim { channel: channel.into(), node: 1 };
            match self.apply(claim) {
                Reply::Claimed { epoch } => (channel, epoch),
                _ => (channel, 0),
            }
        });
        let most = u64::try_from(limits::INTENT_SKUS_MAX).unwrap_or(1);
        for first in (0..self.goods.skus).step_by(limits::INTENT_SKUS_MAX) {
            let numbers = first..(first + most).min(self.goods.skus);
            for (channel, epoch) in epochs {
                let spec = |n| ListingSpec { id: listing(n), settings: BTreeMap::new() };
                let rows = numbers.clone().map(|n| (sku(n), channel.to_string(), spec(n)));
                self.apply(Command::List(rows.collect()));
                // Once to be read, once to be pushed.
                for _ in 0..2 {
                    let (channel, skus) = (channel.to_string(), numbers.clone().map(sku).collect());
                    let lane = Lane::Urgent;
                    let asks = Command::Intend { channel: channel.clone(), epoch, lane, skus };
                    let reply = self.apply(asks);
                    let Reply::Intended(intended) = reply else { return };
                    let outcomes = intended.into_iter().map(settled).collect();
                    let intent = self.index;
                    let calls = 1;
                    self.apply(Command::Settle { channel, epoch, lane, intent, calls, outcomes });
                }
            }
        }
    }

    /// Writes the state while orders go on, and compares with what they take when nothing is written.
    fn snapshot(&mut self, file: &Path) -> Fallible<()> {
        println!("\n2. a snapshot, and segments of {SEGMENT} orders applied meanwhile");
        let quiet = self.paced(|_, elapsed| elapsed > Duration::from_secs(3));
        println!("  without it: {}", shown(&quiet));
        let before = rss()?;
        let began = Instant::now();
        let data = self.state.data().clone();
        println!("  the clone: {:.2} ms", began.elapsed().as_secs_f64() * 1_000.0);
        let (done, path) = (Arc::new(AtomicBool::new(false)), file.to_path_buf());
        let writer = std::thread::spawn({
            let done = Arc::clone(&done);
            move || {
                let began = Instant::now();
                let written = write(&data, &path);
                let took = began.elapsed();
                drop(data);
                done.store(true, Ordering::Release);
                written.map(|bytes| (bytes, took)).map_err(|error| error.to_string())
            }
        });
        let mut most = before;
        let busy = self.paced(|n, _| {
            if n % 16 == 0 {
                most = most.max(rss().unwrap_or(0));
            }
            done.load(Ordering::Acquire)
        });
        let (bytes, took) = writer.join().map_err(|_| "the writer ended early")??;
        println!("  while it is written: {}", shown(&busy));
        let took = took.as_secs_f64();
        println!(
            "  written in {took:.1} s: {} MiB; copied meanwhile: {} MiB",
            mib(bytes),
            mib(most - before)
        );
        Ok(())
    }

    /// Applies segments, one a millisecond, until enough was seen; how long each took, and of it how long
    /// the thread was on a processor: the rest is the machine's, not ours.
    fn paced(
        &mut self,
        mut enough: impl FnMut(usize, Duration) -> bool,
    ) -> Vec<(Duration, Duration)> {
        let (began, mut took) = (Instant::now(), Vec::new());
        while !enough(took.len(), began.elapsed()) {
            let segment = self.segment();
            let (start, ran) = (Instant::now(), on_processor());
            self.apply(segment);
            took.push((start.elapsed(), on_processor().saturating_sub(ran)));
            std::thread::sleep(Duration::from_millis(1));
        }
        took
    }
}

/// How long this thread has run.
fn on_processor() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

fn settled(Intended { sku, step }: Intended) -> Outcome {
    let number = sku.get(4..).and_then(|n| n.parse().ok()).unwrap_or_default();
    let (revision, result) = match step {
        Step::Observe => (0, Settled::Observed(0)),
        Step::Push { revision, .. } => (revision, Settled::Confirmed),
    };
    Outcome { sku, listing: listing(number), revision, result }
}

fn shown(took: &[(Duration, Duration)]) -> String {
    let mut sorted = took.to_vec();
    sorted.sort_unstable();
    let ms = |took: Duration| took.as_secs_f64() * 1_000.0;
    let (middle, _) = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    let (slowest, ran) = sorted.last().copied().unwrap_or_default();
    format!(
        "{} segments, the middle one {:.2} ms, the slowest {:.1} ms, of which it ran for {:.1} ms",
        sorted.len(),
        ms(middle),
        ms(slowest),
        ms(ran)
    )
}

/// The encoding that a node's snapshots have.
fn write(data: &Data, file: &Path) -> Fallible<u64> {
    let mut to = BufWriter::new(File::create(file)?);
    bincode::serde::encode_into_std_write(data, &mut to, bincode::config::standard())?;
    to.flush()?;
    Ok(to.get_ref().metadata()?.len())
}

fn read(file: &Path) -> Fallible<()> {
    let began = Instant::now();
    let mut from = BufReader::new(File::open(file)?);
    let data: Data = bincode::serde::decode_from_std_read(&mut from, bincode::config::standard())?;
    let read = began.elapsed().as_secs_f64();
    let state = State::new(data);
    let ready = began.elapsed().as_secs_f64();
    println!("  read in {read:.1} s, ready after {ready:.1} s: {} MiB", mib(rss()?));
    if state.data().stock.is_empty() { Err("nothing was read".into()) } else { Ok(()) }
}

/// Bytes of this process that are in memory.
fn rss() -> Fallible<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm.split(' ').nth(1).ok_or("no resident pages")?.parse()?;
    Ok(pages * 4096)
}

fn mib(bytes: u64) -> u64 {
    bytes >> 20
}
