//! Random commands: sensible ones that mostly work, and wild ones that mostly cannot.

use proptest::prelude::*;
use proptest::sample::select;
use state::allocation::{Mode, Policy};
use state::command::{
    Asked, Command, Confirm, Count, Delivery, Fact, Hold, HoldLine, ListingSpec, Moved,
    MovementRequest, Movements, Outcome, Report, Segment, Settled, SkuSettings,
};
use state::escrow::told::{Held, Told, What};
use state::escrow::{Grant, Holder, Size};
use state::ledger::Kind;
use state::limits::{DAY_MS, HOUR_MS, LEVEL_MAX, MINUTE_MS, QUANTITY_MAX, SECOND_MS};
use state::order::Removal;
use state::origin::{Lane, Origin};
use state::policy::{Buffer, Each, Weights};
use state::reservation::Line;
use state::velocity::Measured;
use state::{Millis, Stamp};

use super::{Node, START, definition, key, policy};

pub const CHANNELS: [&str; 3] = ["ebay", "shop", "walmart"];
const SKUS: [&str; 3] = ["CUP", "MUG", "PEN"];
/// The same, and one that may be made of them.
const KITS: [&str; 4] = ["CUP", "MUG", "PEN", "SET"];
const LOCATIONS: [&str; 2] = ["main", "outlet"];

/// Which commands: sensible, or anything that the types allow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Taste {
    Sensible,
    Wild,
}

fn name(taste: Taste, sensible: &'static [&'static str]) -> BoxedStrategy<String> {
    let known = select(sensible).prop_map(String::from);
    match taste {
        Taste::Sensible => known.boxed(),
        Taste::Wild => prop_oneof![6 => known, 1 => Just(String::new()), 1 => ".{0,3}", 1 => Just("ü\0".repeat(999))].boxed(),
    }
}

fn units(taste: Taste) -> BoxedStrategy<i64> {
    let edges = [0, -1, i64::MAX, i64::MIN, QUANTITY_MAX, QUANTITY_MAX + 1, LEVEL_MAX, -LEVEL_MAX];
    match taste {
        Taste::Sensible => (1..9i64).boxed(),
        Taste::Wild => {
            prop_oneof![4 => 1..9i64, 3 => select(edges.to_vec()), 1 => any::<i64>()].boxed()
        }
    }
}

fn number(taste: Taste) -> BoxedStrategy<u64> {
    match taste {
        Taste::Sensible => Just(0).boxed(),
        Taste::Wild => prop_oneof![4 => Just(0), 1 => Just(u64::MAX), 1 => any::<u64>()].boxed(),
    }
}

fn time(taste: Taste) -> BoxedStrategy<Millis> {
    let near = START - DAY_MS..START + DAY_MS;
    match taste {
        Taste::Sensible => near.boxed(),
        Taste::Wild => prop_oneof![4 => near, 1 => Just(u64::MAX), 1 => any::<u64>()].boxed(),
    }
}

/// How much later than the one before a command comes.
fn pause(taste: Taste) -> BoxedStrategy<Millis> {
    let short = select(vec![0, 1, SECOND_MS, MINUTE_MS, HOUR_MS]);
    match taste {
        Taste::Sensible => prop_oneof![9 => short, 1 => Just(3 * DAY_MS)].boxed(),
        Taste::Wild => prop_oneof![9 => short, 1 => any::<u64>(), 1 => Just(u64::MAX)].boxed(),
    }
}

fn fact(taste: Taste) -> BoxedStrategy<Fact> {
    let sku = prop_oneof![5 => name(taste, &SKUS).prop_map(Some), 1 => Just(None)];
    let removal = select(vec![Removal::Cancelled, Removal::Returned, Removal::NoRestock]);
    // A line has one SKU for good: its number says which, unless the payload names none.
    let parts = (
        name(taste, &["1", "2", "3"]),
        name(taste, &["1", "2"]),
        time(taste),
        units(taste),
        sku,
        removal,
        0..11u8,
    );
    parts
        .prop_map(|(order, line, version, quantity, sku, removal, which)| {
            let sku = sku.as_deref();
            match which {
                0 => Fact::Dead { reason: "not understood".into(), body: b"{".to_vec() },
                5..11 => other(which, (order, line), version, quantity, sku),
                1 | 2 => {
                    let id = format!("{line} {quantity} {removal:?}");
                    super::refund(&order, version, (&id, &line, sku), quantity, removal)
                }
                _ => super::image(&order, version, &[(&line, sku, quantity), ("9", sku, 1)]),
            }
        })
        .boxed()
}

/// Facts that are no image and no removal.
fn other(
    which: u8,
    (order, listing): (String, String),
    version: u64,
    quantity: i64,
    sku: Option<&str>,
) -> Fact {
    let sku = sku.map(String::from);
    match which {
        5 => Fact::Listed { listing, sku: sku.unwrap_or_default(), version },
        6 => Fact::Shown { listing, sku, location: None, quantity, version },
        7 => Fact::Reload { order, version },
        8 => Fact::Fetched { order, asked: version },
        9 => Fact::Polled { cursor: version },
        _ => Fact::Moved(Moved {
            id: format!("{order} {version}"),
            kind: Kind::Receipt,
            listing: Some(listing),
            sku,
            quantity,
            location: None,
            to_location: None,
            reference: None,
            version,
        }),
    }
}

fn delivery(taste: Taste) -> impl Strategy<Value = Delivery> {
    let facts = proptest::collection::vec(fact(taste), 0..3);
    (0..40u32, name(taste, &CHANNELS), time(taste), facts).prop_map(|(id, channel, time, facts)| {
        super::delivery(&format!("d{id}"), &channel, time, facts)
    })
}

fn request(taste: Taste) -> impl Strategy<Value = MovementRequest> {
    let kinds = Kind::NAMES.map(|(_, kind)| kind).to_vec();
    let channel = prop_oneof![3 => Just(None), 1 => name(taste, &CHANNELS).prop_map(Some)];
    let parts = (0..60u32, select(kinds), name(taste, &SKUS), units(taste), channel);
    let places = (name(taste, &LOCATIONS), name(taste, &LOCATIONS), name(taste, &["PO-1", "PO-2"]));
    let count = proptest::option::weighted(0.2, (units(taste), 0..200u64));
    (parts, places, count).prop_map(|(parts, (location, to, reference), count)| {
        let (id, kind, sku, quantity, channel) = parts;
        let (kind, quantity) =
            if count.is_some() { (Kind::Adjustment, 0) } else { (kind, quantity) };
        let request = super::request(&format!("r{id}"), kind, &sku, quantity);
        let to_location = (kind == Kind::Transfer).then_some(to);
        let count = count.map(|(units, index)| Count { units, index });
        let reference = Some(reference);
        MovementRequest { location, to_location, channel, reference, count, ..request }
    })
}

/// What is asked of reservations.
fn reservation(taste: Taste) -> BoxedStrategy<Asked> {
    let id = || (0..9u32).prop_map(|id| format!("hold {id}"));
    let ttl = || match taste {
        Taste::Sensible => select(vec![SECOND_MS, MINUTE_MS, HOUR_MS]).boxed(),
        Taste::Wild => time(taste),
    };
    let line = (name(taste, &KITS), units(taste), proptest::option::of(name(taste, &LOCATIONS)));
    let line = line.prop_map(|(sku, quantity, location)| HoldLine { sku, quantity, location });
    let hold =
        (id(), proptest::collection::vec(line, 0..3), ttl()).prop_map(|(id, lines, ttl_ms)| {
            Asked::Hold(Hold { id, lines, channel: None, ttl_ms, reference: None })
        });
    let part = proptest::collection::vec((name(taste, &KITS), units(taste)), 1..3);
    let confirm = (id(), proptest::option::of(part))
        .prop_map(|(id, lines)| Asked::Confirm(Confirm { id, lines, reference: None }));
    prop_oneof![
        4 => hold,
        2 => confirm,
        1 => id().prop_map(Asked::Release),
        1 => (id(), ttl()).prop_map(|(id, ttl_ms)| Asked::Extend(id, ttl_ms)),
    ]
    .boxed()
}

/// What is granted in escrow, and what its holders tell.
fn escrow(taste: Taste) -> BoxedStrategy<Command> {
    let holder = || (1..3u64, 1..3u64).prop_map(|(node, book)| Holder { node, book });
    let id = || (0..9u32).prop_map(|id| format!("hold {id}"));
    let place = || (name(taste, &SKUS), name(taste, &LOCATIONS), units(taste));
    let size = prop_oneof![units(taste).prop_map(Size::Units), any::<u8>().prop_map(Size::Percent)];
    let sized = (name(taste, &SKUS), size).prop_map(|(sku, size)| {
        let settings = SkuSettings { escrow: Some(size), ..SkuSettings::default() };
        Command::Map { sku, settings }
    });
    let grant = (holder(), place()).prop_map(|(holder, (sku, location, units))| {
        Command::Grant(vec![Grant { holder, sku, location, units }])
    });
    let line = place().prop_map(|(sku, location, held)| Line {
        sku,
        location,
        parts: Vec::new(),
        held,
        confirmed: 0,
    });
    let lines = proptest::collection::vec(line, 0..3);
    let held = (id(), lines, time(taste)).prop_map(|(id, lines, ttl_ms)| {
        What::Held(Held { id, lines, channel: None, ttl_ms, reference: None })
    });
    let sold = (id(), proptest::collection::vec(units(taste), 0..3))
        .prop_map(|(id, sold)| What::Confirmed { id, sold, reference: None });
    let what = prop_oneof![
        1 => Just(What::Opened),
        4 => held,
        3 => sold,
        1 => id().prop_map(What::Released),
        2 => id().prop_map(What::Expired),
        1 => (id(), time(taste)).prop_map(|(id, ttl_ms)| What::Extended(id, ttl_ms)),
        2 => place().prop_map(|(sku, location, units)| What::Returned { sku, location, units }),
    ];
    let told = (holder(), what, 0..60u64, time(taste)).prop_map(|(holder, what, serial, at)| {
        let idempotency = Some((key(&format!("i{serial}")), key("told")));
        let id = format!("{holder:?} {serial} {what:?}");
        let told = Told { holder, serial, at, idempotency, what };
        let deliveries = vec![super::delivery(&id, "", at, vec![Fact::Escrow(told)])];
        let origin = Origin { node: holder.node, incarnation: 1 };
        Command::Segment(Segment {
            origin,
            lane: Lane::Urgent,
            sequence: 0,
            durable_ms: 0,
            deliveries,
        })
    });
    let destroyed = (1..3u64, proptest::option::of(1..3u64))
        .prop_map(|(node, keeping)| Command::Destroyed { node, keeping });
    prop_oneof![1 => sized, 3 => grant, 6 => told, 1 => destroyed].boxed()
}

/// What is said of a SKU beside its listings.
fn settings(taste: Taste) -> BoxedStrategy<Command> {
    let components = proptest::collection::vec((name(taste, &KITS), units(taste)), 0..3);
    let wanted = (
        name(taste, &["SET", "PEN"]),
        proptest::option::of(components),
        proptest::option::of(units(taste)),
        proptest::option::of(units(taste)),
    );
    wanted
        .prop_map(|(sku, components, backorder, low_at)| {
            let settings = SkuSettings { components, backorder, low_at, ..SkuSettings::default() };
            Command::Map { sku, settings }
        })
        .boxed()
}

fn report((checkpoint, node): (u64, u64)) -> Command {
    let (digests, chain) = (std::collections::BTreeMap::new(), [0; 32]);
    let report = Report { digests, chain, movements: 0, fault: None };
    Command::Report { checkpoint, node, report }
}

/// What is said of shares, and what was measured.
fn shares(taste: Taste) -> BoxedStrategy<Command> {
    let weights = || prop_oneof![any::<[u32; 3]>(), [0..9u32, 0..9u32, 1..9u32]];
    let mode = || select(vec![Mode::Shared, Mode::Split, Mode::Split]);
    let numbers = (units(taste), units(taste), any::<u32>(), 0..1_100_000_u32);
    let put = (mode(), weights(), numbers, 0..8u8).prop_map(|(mode, w, numbers, which)| {
        let weights = [0, 1, 2].map(|n| (CHANNELS[n], w[n]));
        let (units, bound, part, low) = numbers;
        let policy = policy(mode, &weights, &[("shop", units)]);
        let bounds = Policy { low_share: Some(low), max: Each::All(bound), ..policy.clone() };
        super::put_policies(vec![match which {
            0..3 => policy,
            3 => Policy { weights: Weights::Velocity, floor: Some(part), ..policy },
            4 => Policy { weights: Weights::Velocity, cap: Some(low), ..policy },
            5 => Policy { buffers: Each::All(Buffer::Part(part)), ..bounds },
            6 => Policy { buffers: Each::All(Buffer::Auto), end_at: Each::All(bound), ..policy },
            _ => bounds,
        }])
    });
    let measured = (name(taste, &CHANNELS), name(taste, &SKUS), time(taste), units(taste));
    let measured = (measured, 0..9u64, number(taste)).prop_map(|(of, until, velocity)| {
        let (channel, sku, at, buffer) = of;
        let velocity = velocity.max(until * 1_000_000);
        Command::Measured(vec![Measured { channel, sku, velocity, at, until, buffer }])
    });
    let rebalance = proptest::option::of(proptest::collection::vec(name(taste, &KITS), 0..3));
    let removed = (name(taste, &CHANNELS), any::<bool>())
        .prop_map(|(channel, abandon)| Command::RemoveChannel { channel, abandon });
    let lagged = (name(taste, &CHANNELS), time(taste))
        .prop_map(|(channel, lag)| Command::Lagged { node: 1, lags: [(channel, (lag, 9))].into() });
    prop_oneof![
        8 => put,
        4 => measured,
        4 => rebalance.prop_map(Command::Rebalance),
        1 => removed,
        1 => lagged,
    ]
    .boxed()
}

/// What owners of channels say of pushes.
fn pushes(taste: Taste) -> BoxedStrategy<Command> {
    let channel = || name(taste, &CHANNELS);
    let sku = || name(taste, &SKUS);
    let settled = prop_oneof![
        3 => Just(Settled::Confirmed),
        3 => units(taste).prop_map(Settled::Observed),
        1 => Just(Settled::Refused),
        1 => Just(Settled::Failed("gone".into())),
    ];
    let numbers = || (number(taste), number(taste), number(taste));
    let settle = (channel(), sku(), numbers(), settled).prop_map(
        |(channel, sku, (epoch, intent, revision), result)| {
            let listing = format!("{channel}/{sku}");
            let outcomes = vec![Outcome { sku, listing, revision, result }];
            Command::Settle { channel, epoch, lane: Lane::Urgent, intent, calls: 1, outcomes }
        },
    );
    let lane = || select(vec![Lane::Urgent, Lane::Normal]);
    let intend = (channel(), number(taste), lane(), proptest::collection::vec(sku(), 0..4));
    let intend = intend.prop_map(|(channel, epoch, lane, skus)| Command::Intend {
        channel,
        epoch,
        lane,
        skus,
    });
    let epoch = || (channel(), number(taste));
    let owned = prop_oneof![
        (epoch(), number(taste)).prop_map(|((channel, epoch), calls)| Command::Renew {
            channel,
            epoch,
            calls
        }),
        epoch().prop_map(|(channel, epoch)| Command::Release { channel, epoch }),
        (channel(), proptest::option::of(time(taste))).prop_map(|(channel, for_ms)| {
            Command::Pause { channel, why: "asked".into(), for_ms }
        }),
        (channel(), any::<bool>()).prop_map(|(channel, owner)| Command::Resume { channel, owner }),
        (channel(), proptest::option::of(sku()))
            .prop_map(|(channel, sku)| Command::PushNow { channel, sku }),
    ];
    prop_oneof![8 => intend, 8 => settle, 1 => owned].boxed()
}

fn command(taste: Taste) -> BoxedStrategy<Command> {
    let channel = || name(taste, &CHANNELS);
    let sku = || name(taste, &SKUS);
    let lane = select(vec![Lane::Urgent, Lane::Normal]);
    let deliveries = proptest::collection::vec(delivery(taste), 0..4);
    let segment = (1..3u64, 1..11u64, lane, number(taste), deliveries).prop_map(
        |(node, incarnation, lane, sequence, deliveries)| {
            let origin = Origin { node, incarnation };
            Command::Segment(Segment { origin, lane, sequence, durable_ms: 0, deliveries })
        },
    );
    let asked = proptest::collection::vec(request(taste), 0..5);
    let movements = (any::<bool>(), proptest::option::of(0..9u32), asked).prop_map(
        |(atomic, idempotency, movements)| {
            let idempotency =
                idempotency.map(|n| (key(&format!("i{n}")), key(&format!("{}", n % 3))));
            let asked = Asked::Movements(Movements { atomic, movements });
            Command::Request { idempotency, asked }
        },
    );
    let put_channel =
        (channel(), number(taste), any::<[bool; 3]>()).prop_map(|(name, window, is)| {
            let definition = definition("main");
            let dedup_window_ms = definition.dedup_window_ms.saturating_add(window);
            let [pushes, compares, shadow] = is;
            let definition = state::channel::Definition {
                dedup_window_ms,
                pushes,
                compares,
                shadow,
                ..definition
            };
            Command::PutChannel { name, definition }
        });
    let map = (sku(), 0..8usize).prop_map(|(sku, which)| {
        let named: Vec<&str> =
            (0..3).filter(|n| which >> n & 1 == 1).map(|n| CHANNELS[n]).collect();
        super::map(&sku, &named)
    });
    let list = (sku(), channel(), name(taste, &["1", "2", "3"])).prop_map(|(sku, channel, id)| {
        Command::List(vec![(sku, channel, ListingSpec { id, ..ListingSpec::default() })])
    });
    prop_oneof![
        6 => segment,
        4 => movements,
        1 => put_channel,
        2 => shares(taste),
        2 => map,
        1 => list,
        1 => (channel(), 1..3u64).prop_map(|(channel, node)| Command::Claim { channel, node }),
        8 => pushes(taste),
        1 => Just(Command::Tick),
        4 => reservation(taste).prop_map(super::ask),
        1 => settings(taste),
        5 => escrow(taste),
        1 => proptest::collection::vec(name(taste, &LOCATIONS), 0..3).prop_map(Command::PutLocations),
        1 => prop_oneof![Just(Command::Checkpoint), (0..200u64, 1..4u64).prop_map(report)],
    ]
    .boxed()
}

/// Commands with the pauses before them.
pub fn commands(taste: Taste, most: usize) -> impl Strategy<Value = Vec<(Millis, Command)>> {
    proptest::collection::vec((pause(taste), command(taste)), 1..most)
}

/// A node with channels, ready for random commands.
pub fn node() -> Node {
    let mut node = Node { now: START, ..Node::default() };
    let channels = CHANNELS.iter().map(|name| ((*name).into(), definition("main"))).collect();
    node.apply(Command::Seed {
        channels,
        policies: vec![policy(Mode::Split, &[], &[])],
        locations: Vec::new(),
    });
    for channel in CHANNELS {
        node.apply(Command::Claim { channel: channel.into(), node: 1 });
    }
    node.apply(super::map("MUG", &CHANNELS));
    node
}

/// Numbers that a command leaves at 0 become those that fit: the next sequence, the owner's epoch, the
/// push in flight, the newest intent.
pub fn fit(node: &Node, mut command: Command) -> Command {
    let data = node.state.data();
    let epoch_of = |channel: &str| {
        data.channels.get(channel).and_then(|channel| channel.owner).map_or(0, |owner| owner.epoch)
    };
    match &mut command {
        Command::Segment(segment) if segment.sequence == 0 => {
            segment.sequence = data.origins.last(segment.origin, segment.lane) + 1;
        }
        Command::Intend { channel, epoch, .. }
        | Command::Renew { channel, epoch, .. }
        | Command::Release { channel, epoch }
            if *epoch == 0 =>
        {
            *epoch = epoch_of(channel);
        }
        Command::Settle { channel, epoch, intent, outcomes, .. } => {
            if *epoch == 0 {
                *epoch = epoch_of(channel);
            }
            if *intent == 0 {
                *intent = node.index;
            }
            for outcome in outcomes.iter_mut().filter(|outcome| outcome.revision == 0) {
                let stock = data.stock.get(outcome.sku.as_str());
                let listing = stock.and_then(|stock| stock.listings.get(channel.as_str()));
                let push = listing.and_then(|listing| listing.get().in_flight);
                outcome.revision = push.map_or(0, |push| push.revision);
            }
        }
        _ => {}
    }
    command
}

/// Applies commands to a node, each made to fit, and checks after each what must hold of any state.
pub fn run(node: &mut Node, commands: Vec<(Millis, Command)>) -> Result<(), TestCaseError> {
    for (n, (pause, command)) in commands.into_iter().enumerate() {
        node.now = node.now.saturating_add(pause);
        let command = fit(node, command);
        node.apply(command);
        if n % 8 == 0 {
            node.check().map_err(TestCaseError::fail)?;
        }
    }
    node.check().map_err(TestCaseError::fail)
}

/// A state made from a log alone.
pub fn replayed(log: &[(Stamp, Command)]) -> state::State {
    let mut state = state::State::default();
    for (stamp, command) in log {
        state.apply(*stamp, command.clone());
    }
    state
}
