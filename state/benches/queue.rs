//! What a deep queue costs: so many waiting messages of 1 KB each, of which the state keeps a record and not the
//! body.
//!
//! 1. What does it cost in memory?
//! 2. What does it cost to lease and ack one message at a depth of a thousand and at the full one? The slower may
//!    take half as long again, or this ends with an error.
//! 3. What does a snapshot cost: the clone, the first command after it, its size and the time to write it?
//! 4. What does one command cost while a group that holds much is told to begin again, or is deleted?
//!
//! `make bench-scale`; a number as argument is the depth.

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::time::{Duration, Instant};

use state::limits::DAY_MS;
use state::origin::Lane;
use state::queue::ask::{Answer, Ask, From, LeaseId, Leased, Publish, What};
use state::queue::settings::{MESSAGES_MAX, Settings};
use state::{Command, Reply, Stamp, State};

const SIZE: u64 = 100_000;
const SHALLOW: u64 = 1_000;
const BODY_BYTES: usize = 1_024;
/// Leases and acks of one message that are timed together.
const ROUND: u32 = 500;
/// Rounds at each depth, in turn: the quickest counts, since what slows one is the machine.
const ROUNDS: u32 = 40;
const RATIO_MAX: f64 = 1.5;

type Fallible<T> = Result<T, Box<dyn Error>>;

fn main() -> Fallible<()> {
    let size = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(SIZE);
    let mut bench = Bench { state: State::default(), index: 0 };
    println!("{size} messages of {BODY_BYTES} bytes\n\n1. memory");
    bench.make("deep")?;
    bench.make("shallow")?;
    let before = rss()?;
    let began = Instant::now();
    bench.fill("deep", size)?;
    let took = began.elapsed().as_secs_f64();
    let more = rss()?.saturating_sub(before);
    println!("  {} MiB, {} bytes a message; built in {took:.1} s", more >> 20, more / size);
    bench.fill("shallow", SHALLOW)?;

    println!("\n2. a lease and an ack of one message, each a command");
    let (mut shallow, mut deep) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        shallow = shallow.min(bench.round("shallow")?);
        deep = deep.min(bench.round("deep")?);
    }
    let us = |took: Duration| took.as_secs_f64() * 1e6 / f64::from(ROUND);
    let ratio = us(deep) / us(shallow);
    println!(
        "  at {SHALLOW}: {:.2} us; at {size}: {:.2} us; {ratio:.2} times",
        us(shallow),
        us(deep)
    );

    println!("\n3. a snapshot");
    bench.snapshot()?;

    println!("\n4. a group that holds much");
    bench.hold(size)?;
    let settings =
        Settings { key_concurrency: 2, messages_max: MESSAGES_MAX, ..Settings::default() };
    bench.work_off("bounds of keys changed", What::Put(settings))?;
    bench.work_off("begun again", What::Begin { group: "erp".into(), from: From::Earliest })?;
    bench.hold(size)?;
    bench.work_off("deleted", What::Disband("erp".into()))?;
    bench.work_off("its topic deleted", What::Delete)?;
    if ratio <= RATIO_MAX { Ok(()) } else { Err("the depth is felt".into()) }
}

struct Bench {
    state: State,
    index: u64,
}

impl Bench {
    fn ask(&mut self, topic: &str, what: What) -> Fallible<Answer> {
        self.index += 1;
        let stamp = Stamp { index: self.index, now: 1_000 * DAY_MS + self.index / 100 };
        let ask = Ask { idempotency: None, topic: topic.into(), what };
        match self.state.apply(stamp, Command::Queue(vec![ask])).0 {
            Reply::Queue(mut answers) => answers.pop().ok_or_else(|| "no answer".into()),
            other => Err(format!("{other:?}").into()),
        }
    }

    /// Makes a topic with a group that has come to nothing yet.
    fn make(&mut self, topic: &str) -> Fallible<()> {
        let bounds =
            Settings { messages_max: MESSAGES_MAX, bytes_max: 1 << 40, ..Settings::default() };
        self.ask(topic, What::Put(bounds))?;
        self.leased(topic, 1).map(drop)
    }

    /// Publishes so many, every other one with one of a thousand keys.
    fn fill(&mut self, topic: &str, count: u64) -> Fallible<()> {
        let publish = |n: u64| Publish {
            lane: Lane::Normal,
            key: n.is_multiple_of(2).then(|| (n / 2 % 1_000).to_string()),
            delay_ms: 0,
            dedup: None,
            body: vec![b'x'; BODY_BYTES],
        };
        let all: Vec<u64> = (0..count).collect();
        for some in all.chunks(500) {
            let messages = some.iter().map(|n| publish(*n)).collect();
            match self.ask(topic, What::Publish(messages))? {
                Answer::Published(_) => {}
                other => return Err(format!("{other:?}").into()),
            }
        }
        Ok(())
    }

    fn leased(&mut self, topic: &str, max: u32) -> Fallible<Vec<Leased>> {
        match self.ask(topic, lease(max))? {
            Answer::Leased(leased) => Ok(leased),
            other => Err(format!("{other:?}").into()),
        }
    }

    /// Leases and acks one message after the other, and publishes as many, which is not timed.
    fn round(&mut self, topic: &str) -> Fallible<Duration> {
        let began = Instant::now();
        for _ in 0..ROUND {
            let leases: Vec<LeaseId> = self.leased(topic, 1)?.iter().map(|l| l.lease).collect();
            if self.ask(topic, What::Ack(leases))? != Answer::Done(vec![true]) {
                return Err("nothing was leased, or it was not finished".into());
            }
        }
        let took = began.elapsed();
        self.fill(topic, ROUND.into())?;
        Ok(took)
    }

    fn snapshot(&mut self) -> Fallible<()> {
        let began = Instant::now();
        let data = self.state.data().clone();
        let cloned = began.elapsed().as_secs_f64() * 1e3;
        let began = Instant::now();
        self.leased("deep", 1)?;
        let first = began.elapsed().as_secs_f64() * 1e3;
        let path = std::env::temp_dir().join(format!("stockraft-queue-{}", std::process::id()));
        let began = Instant::now();
        let mut to = BufWriter::new(File::create(&path)?);
        bincode::serde::encode_into_std_write(&data, &mut to, bincode::config::standard())?;
        to.flush()?;
        let (bytes, took) = (to.get_ref().metadata()?.len(), began.elapsed().as_secs_f64());
        std::fs::remove_file(&path)?;
        println!("  the clone: {cloned:.2} ms; the first lease after it: {first:.2} ms");
        println!("  {} MiB, written in {took:.1} s", bytes >> 20);
        Ok(())
    }

    /// Lets a group come to as much as it may hold.
    fn hold(&mut self, size: u64) -> Fallible<()> {
        let mut slowest = Duration::ZERO;
        let mut idle = 0;
        while idle < 5 {
            let began = Instant::now();
            let leased = self.leased("deep", 1_000)?;
            slowest = slowest.max(began.elapsed());
            idle = if leased.is_empty() { idle + 1 } else { 0 };
        }
        let topic = self.state.data().queue.topic("deep").ok_or("no topic")?;
        let held = topic.groups.values().map(|group| group.held.len()).sum::<usize>();
        println!("  {held} of {size} are held; the slowest lease of a thousand: {slowest:.2?}");
        Ok(())
    }

    /// Asks, and lets ticks work off what that leaves.
    fn work_off(&mut self, name: &str, what: What) -> Fallible<()> {
        let began = Instant::now();
        self.ask("deep", what)?;
        let mut slowest = began.elapsed();
        let mut commands = 1;
        while self.state.queue().wakes_at() == Some(0) {
            self.index += 1;
            let stamp = Stamp { index: self.index, now: 1_000 * DAY_MS + self.index / 100 };
            let before = Instant::now();
            self.state.apply(stamp, Command::Tick);
            slowest = slowest.max(before.elapsed());
            commands += 1;
        }
        let took = began.elapsed();
        println!("  {name}: {commands} commands, the slowest {slowest:.2?}, all {took:.2?}");
        Ok(())
    }
}

fn lease(max: u32) -> What {
    What::Lease { group: "erp".into(), max, lease_ms: 60_000_000 / 2 }
}

/// Bytes of this process that are in memory.
fn rss() -> Fallible<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm.split(' ').nth(1).ok_or("no resident pages")?.parse()?;
    Ok(pages * 4096)
}
