//! What the tests of this room build their commands with.
#![allow(dead_code, unreachable_pub, reason = "each test file uses some of it")]

pub mod commands;
pub mod ops;
pub mod told;
pub mod words;

use std::collections::BTreeMap;

use state::allocation::{Mode, Policy};
use state::channel::Definition;
use state::command::{
    Asked, Command, Delivery, Fact, ListingSpec, MovementRequest, Movements, Outcome, Segment,
    Settled, SkuSettings,
};
use state::ledger::Kind;
use state::limits::DAY_MS;
use state::order::{LineImage, Removal, RemovalLine};
use state::origin::{Lane, Origin};
use state::policy::{Buffer, Each, Weights};
use state::{Effects, Key, Millis, Reply, Stamp, State};

/// How many cases a property is tried with; `PROPTEST_CASES` asks for more. A failure prints what
/// failed, so nothing is written beside the tests.
pub fn cases(few: u32) -> proptest::test_runner::Config {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    proptest::test_runner::Config {
        cases: asked.unwrap_or(few),
        failure_persistence: None,
        ..proptest::test_runner::Config::default()
    }
}

/// Where the tests begin in time: late enough for a version to be too old.
pub const START: Millis = 1_000 * DAY_MS;

/// A hash that is good enough for a test.
pub fn key(text: &str) -> Key {
    let half = |seed: u64| {
        text.bytes().fold(seed, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3).rotate_left(5)
        })
    };
    let mut key = Key::default();
    key[..8].copy_from_slice(&half(0xcbf2_9ce4_8422_2325).to_be_bytes());
    key[8..].copy_from_slice(&half(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key
}

/// A state with the log that made it.
#[derive(Clone, Default)]
pub struct Node {
    pub state: State,
    pub index: u64,
    pub now: Millis,
    pub movements: Vec<state::ledger::Movement>,
    pub log: Vec<(Stamp, Command)>,
}

impl Node {
    pub fn apply(&mut self, command: Command) -> (Reply, Effects) {
        self.index += 1;
        let stamp = Stamp { index: self.index, now: self.now };
        self.log.push((stamp, command.clone()));
        let (reply, effects) = self.state.apply(stamp, command);
        self.movements.extend(effects.movements.iter().cloned());
        (reply, effects)
    }

    /// All that must hold of any state whatever was done to it.
    pub fn check(&self) -> Result<(), String> {
        let sums = self.movements.iter().collect();
        state::invariant::levels_are_sums(self.state.data(), sums)?;
        state::invariant::orders_are_settled(self.state.data())?;
        state::invariant::reserved_is_held(self.state.data())?;
        state::invariant::shares_add_up(self.state.data())?;
        state::invariant::escrow_adds_up(self.state.data())?;
        state::invariant::lists_are_derived(&self.state)
    }
}

pub fn definition(location: &str) -> Definition {
    Definition::new("generic", location)
}

pub fn policy(mode: Mode, weights: &[(&str, u32)], buffers: &[(&str, i64)]) -> Policy {
    Policy {
        sku: "*".into(),
        mode,
        weights: Weights::Fixed(weights.iter().map(|(name, w)| ((*name).into(), *w)).collect()),
        buffers: Each::Named(
            buffers.iter().map(|(name, units)| ((*name).into(), Buffer::Units(*units))).collect(),
        ),
        ..Policy::default()
    }
}

/// Replaces the policies, whichever there are.
pub const fn put_policies(policies: Vec<Policy>) -> Command {
    Command::PutPolicies { policies, replaces: None }
}

pub fn map(sku: &str, channels: &[&str]) -> Command {
    let spec = |name: &&str| ListingSpec { id: format!("{name}/{sku}"), settings: BTreeMap::new() };
    let listings = channels.iter().map(|name| ((*name).to_string(), spec(name))).collect();
    let settings = SkuSettings { listings: Some(listings), ..SkuSettings::default() };
    Command::Map { sku: sku.into(), settings }
}

/// Something asked for without an idempotency key.
pub fn ask(asked: Asked) -> Command {
    Command::Request { idempotency: None, asked }
}

pub fn delivery(id: &str, channel: &str, received_ms: Millis, facts: Vec<Fact>) -> Delivery {
    Delivery {
        key: key(id),
        body: key(&format!("{facts:?}")),
        id: id.into(),
        channel: channel.into(),
        topic: "test".into(),
        received_ms,
        facts,
        raw: Vec::new(),
        publish: Vec::new(),
    }
}

pub fn image(order: &str, version: u64, lines: &[(&str, Option<&str>, i64)]) -> Fact {
    let line = |(id, sku, quantity): &(&str, Option<&str>, i64)| LineImage {
        id: (*id).into(),
        sku: sku.map(Into::into),
        quantity: *quantity,
        ..LineImage::default()
    };
    Fact::Image {
        order: order.into(),
        version,
        whole: false,
        lines: lines.iter().map(line).collect(),
    }
}

/// The same of lines that also have a listing and say what was shipped and what came back.
pub fn image_of(order: &str, version: u64, whole: bool, lines: Vec<LineImage>) -> Fact {
    Fact::Image { order: order.into(), version, whole, lines }
}

pub fn refund(
    order: &str,
    version: u64,
    (id, line, sku): (&str, &str, Option<&str>),
    quantity: i64,
    removal: Removal,
) -> Fact {
    let sku = sku.map(Into::into);
    let (id, line) = (id.into(), line.into());
    let line = RemovalLine { id, line, listing: None, sku, quantity, removal };
    Fact::Removals { order: order.into(), version, lines: vec![line] }
}

pub fn segment(node: u64, sequence: u64, deliveries: Vec<Delivery>) -> Segment {
    Segment {
        origin: Origin { node, incarnation: 1 },
        lane: Lane::Urgent,
        sequence,
        durable_ms: 0,
        deliveries,
    }
}

pub fn request(id: &str, kind: Kind, sku: &str, quantity: i64) -> MovementRequest {
    MovementRequest {
        body: key(&format!("{kind:?} {sku} {quantity}")),
        ..MovementRequest::new(key(id), id, kind, sku, quantity, "main")
    }
}

pub fn movements(movements: Vec<MovementRequest>) -> Command {
    ask(Asked::Movements(Movements { atomic: false, movements }))
}

/// The urgent lane's intent of one SKU.
pub fn intend(channel: &str, epoch: u64, sku: &str) -> Command {
    let skus = vec![sku.into()];
    Command::Intend { channel: channel.into(), epoch, lane: Lane::Urgent, skus }
}

/// What became of one listing, of an intent at this index.
pub fn settle(
    channel: &str,
    (epoch, intent): (u64, u64),
    sku: &str,
    revision: u64,
    result: Settled,
) -> Command {
    let listing = format!("{channel}/{sku}");
    let outcomes = vec![Outcome { sku: sku.into(), listing, revision, result }];
    let lane = Lane::Urgent;
    Command::Settle { channel: channel.into(), epoch, lane, intent, calls: 1, outcomes }
}
