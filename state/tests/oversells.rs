//! Oversells as they really happen, counted by what caused them.
//!
//! Marketplaces that compare and set sell one SKU at random, as fast as they can. Orders and pushes take no time, or
//! up to five minutes; orders arrive in any order; pushes are lost, or time out and were applied, or land after they
//! were read back; marketplaces are down; stock comes in and is counted away. Each marketplace keeps its own truth.
//!
//! Let what is *at risk* be what all of them show beyond what is left. A sale never changes it. What does is a raise, or a
//! count that takes stock away; whichever it was is the cause of the oversells that come of it. A raise is not to blame for
//! what was counted away after it was agreed on.
//!
//! * `split`: no raise puts anything at risk, so no oversell is caused by one.
//! * `shared`: what is at risk is never more than the overlap that the state tells of.
//! * the same shares, without counting exposure: raises do cause oversells. So the world is hard enough to show it.
//!
//! `OVERSELL_SEEDS=10000` asks for more seeds of each kind.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a test stops at what it did not expect, and tells what it counted"
)]

mod common;

use common::{definition, delivery, image, intend, movements, policy, request, settle};
use state::allocation::{Mode, Policy};
use state::command::{Command, Delivery, ListingSpec, Settled};
use state::ledger::Kind;
use state::limits::{MINUTE_MS, SECOND_MS};
use state::policy::Each;
use state::reply::Step;
use state::{Millis, Reply, Stamp, State};

const SKU: &str = "MUG";
const NAMES: [&str; 4] = ["amazon", "ebay", "shop", "walmart"];
const STEPS: u32 = 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// In shares, and exposure counts.
    Split,
    /// In shares that somebody computes from what is available, and pushes.
    Naive,
    /// Every marketplace shows all.
    Shared,
}

/// Units oversold, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Oversold {
    by_raise: i64,
    by_count: i64,
    by_overlap: i64,
    sold: i64,
}

struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    fn units(&mut self, most: u64) -> i64 {
        i64::try_from(1 + self.below(most)).unwrap()
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[derive(Clone, Copy, Debug)]
struct Push {
    from: i64,
    to: i64,
    revision: u64,
    lands: Millis,
    /// When somebody hears of it; of one whose answer is lost, when its owner gives up and reads.
    answers: Millis,
    is_answered: bool,
    is_lost: bool,
    took: Option<bool>,
    /// Units counted away until it was agreed on.
    counted: i64,
}

#[derive(Default)]
struct Market {
    shown: i64,
    epoch: u64,
    push: Option<Push>,
    /// What its owner has given up, and may land yet.
    late: Vec<Push>,
    mail: Vec<(Millis, Delivery)>,
    down_until: Millis,
}

struct World {
    state: State,
    index: u64,
    now: Millis,
    dice: Dice,
    lag: Millis,
    kept: Kept,
    markets: Vec<Market>,
    /// What is really left: on hand less all that was sold, heard of or not. Below zero it is oversold.
    left: i64,
    counted: i64,
    serial: u64,
    /// What of what is at risk raises, and counts, are to blame for.
    raised: i64,
    taken: i64,
    oversold: Oversold,
}

impl World {
    fn new(seed: u64, lag: Millis, kept: Kept) -> Self {
        let mut dice = Dice(seed);
        let names = &NAMES[..2 + usize::try_from(dice.below(3)).unwrap()];
        let on_hand = dice.units(30);
        let mut world = Self {
            state: State::default(),
            index: 0,
            now: common::START,
            dice,
            lag,
            kept,
            markets: names.iter().map(|_| Market::default()).collect(),
            left: on_hand,
            counted: 0,
            serial: 0,
            raised: 0,
            taken: 0,
            oversold: Oversold::default(),
        };
        let channels = names.iter().map(|name| ((*name).into(), definition("main"))).collect();
        let mode = if kept == Kept::Split { Mode::Split } else { Mode::Shared };
        let policies = vec![policy(mode, &[], &[])];
        world.apply(Command::Seed { channels, policies, locations: Vec::new() });
        world.apply(movements(vec![request("opening", Kind::Receipt, SKU, on_hand)]));
        for (at, name) in names.iter().enumerate() {
            let listing = ListingSpec { id: format!("{name}/{SKU}"), ..ListingSpec::default() };
            world.apply(Command::List(vec![(SKU.into(), (*name).into(), listing)]));
            world.claim(at);
            world.read(at, 0);
        }
        world.share();
        world
    }

    fn apply(&mut self, command: Command) -> Reply {
        self.index += 1;
        self.state.apply(Stamp { index: self.index, now: self.now }, command).0
    }

    fn claim(&mut self, at: usize) {
        let claim = Command::Claim { channel: NAMES[at].into(), node: 1 };
        let Reply::Claimed { epoch } = self.apply(claim) else { panic!() };
        self.markets[at].epoch = epoch;
    }

    fn settle(&mut self, at: usize, intent: u64, revision: u64, result: Settled) {
        let ids = (self.markets[at].epoch, intent);
        self.apply(settle(NAMES[at], ids, SKU, revision, result));
    }

    fn read(&mut self, at: usize, revision: u64) {
        let (intent, shown) = (self.index, self.markets[at].shown);
        self.settle(at, intent, revision, Settled::Observed(shown));
    }

    /// Shares as somebody would compute them who does not count exposure.
    fn share(&mut self) {
        if self.kept != Kept::Naive {
            return;
        }
        let count = i64::try_from(self.markets.len()).unwrap();
        let available = self.state.data().available(SKU, "main").max(0);
        let share = |n: i64| available / count + i64::from(n < available % count);
        let shares = (0..).zip(&NAMES[..self.markets.len()]);
        let max = Each::Named(shares.map(|(n, name)| ((*name).into(), share(n))).collect());
        let policy = Policy { max, ..policy(Mode::Shared, &[], &[]) };
        if self.state.data().policies.first() != Some(&policy) {
            self.apply(common::put_policies(vec![policy]));
        }
    }

    fn at_risk(&self) -> i64 {
        let shown: i64 = self.markets.iter().map(|market| market.shown).sum();
        (shown - self.left).max(0)
    }

    /// Whoever is to blame for more than is at risk by now is to blame for less.
    fn forgive(&mut self) {
        let over = (self.raised + self.taken - self.at_risk()).max(0);
        let of_raises = over.min(self.raised);
        self.raised -= of_raises;
        self.taken -= over - of_raises;
    }

    fn step(&mut self) -> Result<(), String> {
        self.now += self.dice.below(20) * SECOND_MS;
        if self.dice.one_in(6) {
            self.apply(Command::Tick);
        }
        for at in 0..self.markets.len() {
            self.land(at)?;
            self.answer(at);
            self.sell(at);
            self.hear(at);
            if self.dice.one_in(30) {
                self.markets[at].down_until = self.now + self.dice.below(300) * SECOND_MS;
            }
        }
        self.happen();
        self.share();
        for at in 0..self.markets.len() {
            self.push(at);
        }
        self.check()
    }

    /// What was sent arrives.
    fn land(&mut self, at: usize) -> Result<(), String> {
        let now = self.now;
        let late = std::mem::take(&mut self.markets[at].late);
        for push in late {
            if push.lands <= now {
                self.take(at, push)?;
            } else {
                self.markets[at].late.push(push);
            }
        }
        let arrived = |push: &Push| push.lands <= now && push.took.is_none() && !push.is_lost;
        if let Some(push) = self.markets[at].push.filter(arrived) {
            let took = self.take(at, push)?;
            self.markets[at].push = Some(Push { took: Some(took), ..push });
        }
        Ok(())
    }

    fn take(&mut self, at: usize, push: Push) -> Result<bool, String> {
        if self.markets[at].shown != push.from || self.markets[at].down_until > self.now {
            return Ok(false);
        }
        let before = self.at_risk();
        self.markets[at].shown = push.to;
        let more = self.at_risk() - before;
        if more > 0 {
            // What was counted away since the raise was agreed on is not its fault.
            let by_count = more.min(self.counted - push.counted);
            self.taken += by_count;
            self.raised += more - by_count;
            if self.kept == Kept::Split && more > by_count {
                return Err(format!("the raise {push:?} of {} puts {more} at risk", NAMES[at]));
            }
        }
        self.forgive();
        Ok(true)
    }

    fn answer(&mut self, at: usize) {
        let Some(push) = self.markets[at].push.filter(|push| push.answers <= self.now) else {
            return;
        };
        self.markets[at].push = None;
        match push.took {
            Some(true) if push.is_answered => {
                self.settle(at, push.revision, push.revision, Settled::Confirmed);
            }
            Some(false) if push.is_answered => {
                self.settle(at, push.revision, push.revision, Settled::Refused);
                self.read(at, 0);
            }
            took => {
                if took.is_none() && !push.is_lost {
                    self.markets[at].late.push(push);
                }
                if self.dice.one_in(4) {
                    self.claim(at);
                    self.read(at, 0);
                } else {
                    self.read(at, push.revision);
                }
            }
        }
    }

    fn sell(&mut self, at: usize) {
        let wanted = self.dice.below(4);
        let units = i64::try_from(wanted).unwrap().min(self.markets[at].shown);
        if units < 1 {
            return;
        }
        self.markets[at].shown -= units;
        for _ in 0..units {
            self.left -= 1;
            self.oversold.sold += 1;
            if self.left < 0 {
                match (self.kept, self.raised > 0) {
                    (Kept::Shared, _) => self.oversold.by_overlap += 1,
                    (_, true) => {
                        self.raised -= 1;
                        self.oversold.by_raise += 1;
                    }
                    (_, false) => {
                        self.taken -= 1;
                        self.oversold.by_count += 1;
                    }
                }
            }
        }
        self.serial += 1;
        let order = image(&format!("{}", self.serial), self.now, &[("1", Some(SKU), units)]);
        let delivery = delivery(&format!("d{}", self.serial), NAMES[at], self.now, vec![order]);
        let arrives = self.now + self.dice.below(self.lag + 1);
        self.markets[at].mail.push((arrives, delivery));
    }

    fn hear(&mut self, at: usize) {
        let now = self.now;
        let (due, later) = self.markets[at].mail.drain(..).partition(|(time, _)| *time <= now);
        self.markets[at].mail = later;
        let mut due: Vec<(Millis, Delivery)> = due;
        while !due.is_empty() {
            let which = usize::try_from(self.dice.below(due.len().try_into().unwrap())).unwrap();
            let (_, delivery) = due.swap_remove(which);
            let sequence = self.state.data().origins.last(
                state::origin::Origin { node: 1, incarnation: 1 },
                state::origin::Lane::Urgent,
            );
            let segment = common::segment(1, sequence + 1, vec![delivery]);
            self.apply(Command::Segment(segment));
        }
    }

    /// Stock comes in, or is counted away.
    fn happen(&mut self) {
        let (kind, units) = match self.dice.below(24) {
            0 => (Kind::Receipt, self.dice.units(8)),
            1 => (Kind::Adjustment, -self.dice.units(4)),
            _ => return,
        };
        let before = self.at_risk();
        self.left += units;
        self.counted += (-units).max(0);
        self.taken += (self.at_risk() - before).max(0);
        self.forgive();
        self.serial += 1;
        let request = request(&format!("m{}", self.serial), kind, SKU, units);
        self.apply(movements(vec![request]));
    }

    fn push(&mut self, at: usize) {
        if self.markets[at].push.is_some() {
            return;
        }
        let intend = intend(NAMES[at], self.markets[at].epoch, SKU);
        let Reply::Intended(intended) = self.apply(intend) else { panic!() };
        match intended.into_iter().next().map(|next| next.step) {
            None => {}
            Some(Step::Observe) => self.read(at, 0),
            Some(Step::Push { quantity, from, revision }) => {
                let takes = self.dice.below(self.lag + 1);
                let fate = self.dice.below(8);
                // A caller waits for ten seconds, or a little longer than the usual.
                let patience = if fate == 0 { 10 * SECOND_MS } else { self.lag + SECOND_MS };
                self.markets[at].push = Some(Push {
                    from,
                    to: quantity,
                    revision,
                    lands: self.now + takes,
                    answers: self.now + patience,
                    is_answered: fate > 2,
                    is_lost: fate == 1,
                    took: None,
                    counted: self.counted,
                });
            }
        }
    }

    fn check(&self) -> Result<(), String> {
        let data = self.state.data();
        let short = (-data.available(SKU, "main")).max(0);
        let (at_risk, overlap) = (self.at_risk(), data.overlap(SKU));
        if at_risk > overlap + short {
            return Err(format!("{at_risk} at risk, the overlap is {overlap}, {short} are short"));
        }
        if self.kept == Kept::Split {
            state::invariant::shares_add_up(data)?;
        }
        Ok(())
    }
}

fn run(seeds: u64, lag: Millis, kept: Kept) -> Result<Oversold, String> {
    let mut sum = Oversold::default();
    for seed in 0..seeds {
        let mut world = World::new(seed, lag, kept);
        for step in 0..STEPS {
            let why = |why| format!("{kept:?}, lag {lag} ms, seed {seed}, step {step}: {why}");
            world.step().map_err(why)?;
        }
        let one = world.oversold;
        sum.by_raise += one.by_raise;
        sum.by_count += one.by_count;
        sum.by_overlap += one.by_overlap;
        sum.sold += one.sold;
    }
    Ok(sum)
}

#[test]
fn no_raise_causes_an_oversell_and_without_exposure_they_do() {
    // A promise that the simulation could not break would prove nothing.
    let asked = std::env::var("OVERSELL_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    let seeds = asked.unwrap_or(400);
    let mut naive = 0;
    let kinds = [Kept::Split, Kept::Shared, Kept::Naive];
    let kinds = kinds.into_iter().flat_map(|kept| [0, 5 * MINUTE_MS].map(|lag| (kept, lag)));
    let runs =
        kinds.map(|(kept, lag)| (kept, lag, std::thread::spawn(move || run(seeds, lag, kept))));
    for (kept, lag, found) in runs.collect::<Vec<_>>() {
        let found = found.join().unwrap().unwrap_or_else(|why| panic!("{why}"));
        println!("{kept:?}, lag {} min, {seeds} seeds: {found:?}", lag / MINUTE_MS);
        match kept {
            Kept::Split => assert_eq!(found.by_raise, 0),
            Kept::Naive => naive += found.by_raise,
            Kept::Shared => assert!(lag == 0 || found.by_overlap > 0),
        }
        assert!(found.sold > 0);
    }
    assert!(naive > 0, "the world is not hard enough");
}
