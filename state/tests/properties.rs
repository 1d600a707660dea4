//! What holds of any commands in any order.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test stops at what it did not expect"
)]

mod common;

use std::collections::BTreeMap;

use common::commands::{self, Taste};
use common::{
    Node, START, ask, cases, definition, delivery, image, image_of, movements, refund, request,
    segment,
};
use proptest::prelude::*;
use state::command::{Asked, Command, Delivery, Fact, Hold, HoldLine};
use state::dedup::Verdict;
use state::ledger::{Kind, Movement};
use state::limits::{self, DAY_MS, EXPIRED_PER_COMMAND_MAX, HOUR_MS, QUANTITY_MAX};
use state::order::{LineImage, Removal};
use state::origin::{Lane, Origin};
use state::{Reply, State, invariant};

/// Where each channel's orders draw from.
const LOCATIONS: [(&str, &str); 2] = [("ebay", "main"), ("shop", "outlet")];

/// A node with two channels that draw from two locations.
fn shops() -> Node {
    let mut node = Node { now: START, ..Node::default() };
    let channels = LOCATIONS.map(|(name, location)| (name.to_string(), definition(location)));
    let (channels, policies) = (channels.into(), Vec::new());
    node.apply(Command::Seed { channels, policies, locations: Vec::new() });
    node
}

/// Units of a fact: few, or as many as are allowed.
fn units() -> impl Strategy<Value = i64> {
    prop_oneof![8 => 0..6i64, 1 => Just(QUANTITY_MAX)]
}

/// Facts about few orders. What a removal says hangs on its id alone, and a line's SKU on the line
/// alone, though not every payload names it: so channels are. Line 2 names a listing, and what that is may
/// be learned from another payload.
fn facts() -> impl Strategy<Value = Vec<Fact>> {
    let line = (0..3u32, any::<bool>(), units(), 0..3i64, 0..3i64);
    let image = (0..3u32, 0..4u64, any::<bool>(), proptest::collection::vec(line, 1..4)).prop_map(
        |(order, version, whole, lines)| {
            let line = |(line, named, quantity, fulfilled, returned)| LineImage {
                id: format!("{line}"),
                listing: (line == 2).then(|| "listing".to_string()),
                sku: sku_of(order, line, named),
                quantity,
                fulfilled,
                returned,
            };
            let lines = lines.into_iter().map(line).collect();
            image_of(&format!("{order}"), START + version, whole, lines)
        },
    );
    let refund =
        (0..3u32, 0..3u32, any::<bool>(), 0..16u32).prop_map(|(order, line, named, id)| {
            let removal =
                [Removal::Cancelled, Removal::Returned, Removal::NoRestock, Removal::Fulfilled];
            let removal = removal[usize::try_from(id % 4).unwrap()];
            let units = [1, 2, QUANTITY_MAX, 0][usize::try_from(id / 4).unwrap()];
            let sku = sku_of(order, line, named);
            let id = format!("{order} {line} {id}");
            refund(
                &format!("{order}"),
                START,
                (&id, &format!("{line}"), sku.as_deref()),
                units,
                removal,
            )
        });
    let listed = (0..3u64).prop_map(|version| Fact::Listed {
        listing: "listing".into(),
        sku: "SKU-2".into(),
        version: START + version,
    });
    proptest::collection::vec(prop_oneof![8 => image, 8 => refund, 1 => listed], 1..4)
}

/// Line 2 never names a SKU; the others share theirs between orders.
fn sku_of(order: u32, line: u32, named: bool) -> Option<String> {
    (named && line < 2).then(|| format!("SKU-{}", (order + line) % 2))
}

fn deliveries() -> impl Strategy<Value = Vec<Delivery>> {
    let one = (prop_oneof![Just("ebay"), Just("shop")], facts());
    proptest::collection::vec(one, 1..12).prop_map(|all| {
        let made = all.into_iter().enumerate();
        made.map(|(n, (channel, facts))| delivery(&format!("d{n}"), channel, START, facts))
            .collect()
    })
}

/// The same deliveries as they may arrive: some twice, in any order, in segments of any length.
fn arrivals(deliveries: Vec<Delivery>) -> impl Strategy<Value = Vec<Vec<Delivery>>> {
    let repeated = proptest::collection::vec(0..deliveries.len(), 0..8);
    let all = repeated.prop_map(move |repeated| {
        let again = repeated.into_iter().map(|n| deliveries[n].clone());
        deliveries.iter().cloned().chain(again).collect::<Vec<_>>()
    });
    (all.prop_shuffle(), proptest::collection::vec(1..5usize, 20)).prop_map(|(mut all, lengths)| {
        let mut segments = Vec::new();
        for length in lengths {
            let rest = all.split_off(length.min(all.len()));
            segments.push(std::mem::replace(&mut all, rest));
        }
        segments
    })
}

/// What must not hang on the order of arrival, in words: levels, and lines of orders.
fn quantities(state: &State) -> BTreeMap<String, String> {
    let data = state.data();
    let mut found = BTreeMap::new();
    for (sku, stock) in data.stock.iter() {
        for (location, level) in &stock.levels {
            // When it was counted is when things arrived.
            let level = state::ledger::Level { counted: 0, ..level.clone() };
            if level != state::ledger::Level::default() {
                found.insert(format!("{sku} at {location}"), format!("{level:?}"));
            }
        }
    }
    for ((channel, order), known) in data.orders.entries().iter() {
        let known = known.get();
        for (id, line) in &known.lines {
            let image = (line.version, line.quantity, line.fulfilled, line.returned);
            let said = (image, known.whole, &line.sku, &line.location, &line.removals);
            let line = format!("{said:?} moved {:?}", line.moved.net());
            found.insert(format!("{channel}/{order}/{id}"), line);
        }
    }
    found
}

/// What a line of an order comes to: its newest image, and each removal once.
#[derive(Default)]
struct Believed<'a> {
    sku: Option<&'a str>,
    listed: bool,
    image: (u64, i64),
    shipped: i64,
    returned: i64,
    removals: BTreeMap<&'a str, (Removal, i64)>,
}

/// Committed and on hand by SKU and channel, from the facts alone, however often and whenever heard.
fn believed(deliveries: &[Delivery]) -> BTreeMap<(String, String), (i64, i64)> {
    let mut lines: BTreeMap<(&str, &str, &str), Believed<'_>> = BTreeMap::new();
    let mut wholes: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut learned: BTreeMap<&str, &str> = BTreeMap::new();
    for Delivery { channel, facts, .. } in deliveries {
        for fact in facts {
            match fact {
                Fact::Image { order, version, whole, lines: images } => {
                    if *whole {
                        let newest = wholes.entry((channel, order)).or_insert(0);
                        *newest = (*newest).max(*version);
                    }
                    for image in images {
                        let line = lines.entry((channel, order, &image.id)).or_default();
                        line.sku = line.sku.or(image.sku.as_deref());
                        line.listed |= image.listing.is_some();
                        line.image = line.image.max((*version, image.quantity));
                        line.shipped = line.shipped.max(image.fulfilled);
                        line.returned = line.returned.max(image.returned);
                    }
                }
                Fact::Removals { order, lines: refunds, .. } => {
                    for refund in refunds {
                        let line = lines.entry((channel, order, &refund.line)).or_default();
                        line.sku = line.sku.or(refund.sku.as_deref());
                        line.removals.insert(&refund.id, (refund.removal, refund.quantity));
                    }
                }
                Fact::Listed { sku, .. } => {
                    learned.insert(channel.as_str(), sku.as_str());
                }
                _ => {}
            }
        }
    }
    let mut levels: BTreeMap<_, (i64, i64)> = BTreeMap::new();
    for ((channel, order, _), line) in &lines {
        let learned = learned.get(channel).copied().filter(|_| line.listed);
        let Some(sku) = line.sku.or(learned).filter(|_| line.image.0 > 0) else { continue };
        let sum = |wanted| {
            let of_kind = line.removals.values().filter(|(removal, _)| *removal == wanted);
            of_kind.map(|(_, units)| units).sum::<i64>()
        };
        let level = levels.entry((sku.to_string(), (*channel).to_string())).or_default();
        // A whole image that is newer than the line's last one took it out.
        let taken_out = wholes.get(&(*channel, *order)).is_some_and(|whole| *whole > line.image.0);
        let ordered = if taken_out { 0 } else { line.image.1 };
        let wanted = ordered - sum(Removal::Cancelled).min(ordered);
        let shipped = sum(Removal::Fulfilled).max(line.shipped);
        let (left, back) = (shipped.min(wanted), (shipped - ordered).max(0));
        level.0 += wanted - left;
        // What was taken out after it was shipped has come back, and was perhaps said to have.
        level.1 += (sum(Removal::Returned).max(line.returned) - back).max(0) - left;
    }
    levels.retain(|_, level| *level != (0, 0));
    levels
}

fn arrive(segments: Vec<Vec<Delivery>>) -> Result<Node, TestCaseError> {
    let mut node = shops();
    for (n, deliveries) in segments.into_iter().enumerate() {
        let sequence = u64::try_from(n + 1).unwrap();
        node.apply(Command::Segment(segment(1, sequence, deliveries)));
        node.check().map_err(TestCaseError::fail)?;
        invariant::committed_is_orders(node.state.data()).map_err(TestCaseError::fail)?;
    }
    Ok(node)
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn the_order_of_arrival_does_not_matter(
        (all, one, other) in deliveries()
            .prop_flat_map(|all| (Just(all.clone()), arrivals(all.clone()), arrivals(all)))
    ) {
        // A refund before its order, an old image after a new one or a repetition could move stock
        // twice or never, and two regions that heard the same would count differently.
        let (one, other) = (arrive(one)?, arrive(other)?);
        prop_assert_eq!(quantities(&one.state), quantities(&other.state));
        let mut levels = BTreeMap::new();
        for (sku, stock) in one.state.data().stock.iter() {
            for (channel, location) in LOCATIONS {
                let level = stock.levels.get(location);
                let level = level.map_or((0, 0), |level| (level.committed, level.on_hand));
                levels.insert((sku.to_string(), channel.to_string()), level);
            }
        }
        levels.retain(|_, level| *level != (0, 0));
        prop_assert_eq!(levels, believed(&all));
    }

    #[test]
    fn segments_apply_once_each_and_in_order(
        proposals in proptest::collection::vec((0..2usize, 0..2usize, 1..7u64), 0..40)
    ) {
        // A later segment that overtakes could make an earlier one look applied; one proposed again
        // could apply twice. No delivery repeats here, so the keys do not hide it.
        let mut node = shops();
        let mut serial = 0;
        let mut propose = |node: &mut Node, incarnation: usize, lane: usize, sequence: u64| {
            serial += 1;
            let origin = Origin { node: 1, incarnation: u64::try_from(incarnation).unwrap() };
            let name = format!("{incarnation} {lane} {sequence}");
            let fact = image(&format!("{serial}"), START, &[("1", Some(&name), 1)]);
            let delivery = delivery(&format!("{serial}"), "ebay", START, vec![fact]);
            let lane = [Lane::Urgent, Lane::Normal][lane];
            let segment = segment(1, sequence, vec![delivery]);
            node.apply(Command::Segment(state::command::Segment { origin, lane, ..segment })).0
        };
        for (incarnation, lane, sequence) in proposals {
            if let Reply::Gap { expected } = propose(&mut node, incarnation, lane, sequence) {
                prop_assert!(expected < sequence);
                // The origin goes back to there and on.
                for sequence in expected..=sequence {
                    prop_assert_eq!(propose(&mut node, incarnation, lane, sequence), Reply::Applied);
                }
            }
        }
        for (incarnation, lane) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            for sequence in 1..7 {
                propose(&mut node, incarnation, lane, sequence);
            }
            let prefix = format!("{incarnation} {lane} ");
            let applied: Vec<_> =
                node.movements.iter().filter_map(|m| m.sku.strip_prefix(&prefix)).collect();
            prop_assert_eq!(applied, ["1", "2", "3", "4", "5", "6"]);
        }
    }

    #[test]
    fn a_log_gives_one_state(commands in commands::commands(Taste::Sensible, 60), cut in 0..60usize) {
        // What hangs on anything but the log would make replicas differ; what a snapshot leaves out
        // would make a restarted node differ; a write into shared buckets would spoil a snapshot
        // while it is written.
        let mut node = commands::node();
        commands::run(&mut node, commands)?;
        let cut = cut.min(node.log.len());
        let before = commands::replayed(&node.log[..cut]);
        let snapshot = before.data().clone();
        let written = format!("{snapshot:?}");
        let stored = bincode::serde::encode_to_vec(&snapshot, bincode::config::standard()).unwrap();
        let (read, _) =
            bincode::serde::decode_from_slice(&stored, bincode::config::standard()).unwrap();

        let mut straight = before;
        let mut restored = State::new(read);
        for (stamp, command) in &node.log[cut..] {
            let replies = (straight.apply(*stamp, command.clone()), restored.apply(*stamp, command.clone()));
            prop_assert_eq!(replies.0, replies.1);
        }
        prop_assert!(straight.data() == node.state.data(), "two replays differ");
        prop_assert!(restored.data() == node.state.data(), "a snapshot and the rest differ");
        for (due, flights) in [(straight.due(), straight.flights()), (restored.due(), restored.flights())] {
            for channel in commands::CHANNELS {
                prop_assert!(due.of(channel).eq(node.state.due().of(channel)));
                prop_assert!(flights.of(channel).eq(node.state.flights().of(channel)));
            }
        }
        prop_assert_eq!(straight.wakes_at(), restored.wakes_at());
        prop_assert_eq!(format!("{snapshot:?}"), written);
    }

    #[test]
    fn sensible_commands_keep_what_must_hold(commands in commands::commands(Taste::Sensible, 80)) {
        // Levels that are no sums of movements, or incoming that nobody announced, cannot be explained.
        let mut node = commands::node();
        commands::run(&mut node, commands)?;
        let levels = node.state.data().stock.iter().flat_map(|(sku, stock)| {
            stock.levels.iter().map(move |(location, level)| ((sku.to_string(), location.to_string()), level))
        });
        for (place, level) in levels {
            let incoming = incoming(&node.movements, &place);
            let incoming = incoming.into_iter().map(|(id, units)| (id.into(), units)).collect();
            prop_assert_eq!(&level.incoming, &incoming, "{:?}", place);
        }
    }

    #[test]
    fn no_command_panics(commands in commands::commands(Taste::Wild, 40)) {
        // Whatever gets into the log is applied by every node: a panic there stops them all, again
        // after each restart.
        let mut node = commands::node();
        commands::run(&mut node, commands)?;
    }
}

/// What is on its way to a place, from the movements alone.
fn incoming(movements: &[Movement], (sku, location): &(String, String)) -> BTreeMap<String, i64> {
    let mut incoming: BTreeMap<String, i64> = BTreeMap::new();
    for movement in movements.iter().filter(|movement| movement.sku == *sku) {
        let expected = incoming.entry(movement.reference.clone().unwrap_or_default()).or_default();
        match movement.kind {
            Kind::Incoming if movement.location == *location => *expected += movement.quantity,
            Kind::Transfer if movement.to_location.as_ref() == Some(location) => {
                *expected += movement.quantity;
            }
            Kind::Receipt if movement.location == *location => {
                *expected = (*expected - movement.quantity).max(0);
            }
            _ => {}
        }
    }
    incoming.retain(|_, units| *units != 0);
    incoming
}

#[test]
fn keys_go_after_their_window_a_few_at_a_time() {
    // A key dropped early lets a sender's repetition count twice; one never dropped fills the memory;
    // all dropped at once stop every node for as long as that takes.
    let mut node = shops();
    let count = 3 * EXPIRED_PER_COMMAND_MAX;
    let deliveries: Vec<Delivery> =
        (0..count).map(|n| delivery(&format!("d{n}"), "ebay", START, vec![])).collect();
    node.apply(Command::Segment(segment(1, 1, deliveries.clone())));
    let window = limits::DEDUP_WINDOW_DEFAULT_MS;

    node.now = START + window;
    node.apply(Command::Tick);
    let seen = &node.state.data().seen;
    assert_eq!(seen.entries().len(), count);
    assert!(deliveries.iter().all(|d| seen.verdict(&d.key, &d.body) == Verdict::Duplicate));
    assert_eq!(seen.verdict(&deliveries[0].key, &common::key("other")), Verdict::Conflict);

    node.now = START + window + HOUR_MS;
    for left in [2, 1, 0, 0] {
        node.apply(Command::Tick);
        let seen = &node.state.data().seen;
        assert_eq!(seen.entries().len(), left * EXPIRED_PER_COMMAND_MAX);
        assert_eq!(seen.due().values().map(|slot| slot.len()).sum::<usize>(), seen.entries().len());
    }
    assert!(node.state.data().seen.due().is_empty());
    assert_eq!(node.state.data().seen.evicted(), 0);
}

#[test]
fn an_order_lives_as_long_as_it_is_heard_of() {
    // An order forgotten while facts still arrive would book its next image as a new sale.
    let mut node = shops();
    let mut sequence = 0;
    let mut hear = |node: &mut Node, fact: Fact| {
        sequence += 1;
        let delivery = delivery(&format!("d{sequence}"), "ebay", node.now, vec![fact]);
        node.apply(Command::Segment(segment(1, sequence, vec![delivery])));
    };
    hear(&mut node, image("1", START, &[("1", Some("MUG"), 2)]));
    for _ in 0..3 {
        node.now += limits::ORDER_KEEP_MS - DAY_MS;
        let now = node.now;
        hear(&mut node, image("1", now, &[("1", Some("MUG"), 2)]));
        let level = &node.state.data().stock.get("MUG").unwrap().levels["main"];
        assert_eq!(level.committed, 2);
    }
    let late = node.now;
    node.now += limits::ORDER_KEEP_MS + HOUR_MS;
    node.apply(Command::Tick);
    assert!(node.state.data().orders.entries().is_empty());

    // A fact as old as what was forgotten is not applied, and not lost either.
    hear(&mut node, image("1", late, &[("1", Some("MUG"), 2)]));
    let data = node.state.data();
    assert_eq!(data.stock.get("MUG").unwrap().levels["main"].committed, 2);
    let reasons: Vec<_> = data.dead.entries().iter().map(|(_, letter)| &letter.reason).collect();
    assert_eq!(reasons, ["too_old: the order may have been forgotten already"]);
}

#[test]
fn a_forgotten_order_waits_for_nothing() {
    // Lines that nobody ever maps would fill the list of what waits, and newer ones would find no room.
    let mut node = shops();
    let line = LineImage {
        id: "1".into(),
        listing: Some("33".into()),
        quantity: 1,
        ..LineImage::default()
    };
    let fact = Fact::Image { order: "1".into(), version: START, whole: true, lines: vec![line] };
    let delivery = delivery("d1", "ebay", START, vec![fact]);
    node.apply(Command::Segment(segment(1, 1, vec![delivery])));
    let place = ("ebay".into(), "33".into());
    assert!(node.state.data().names.waiting().get(&place).is_some());
    node.now += limits::ORDER_KEEP_MS + HOUR_MS;
    node.apply(Command::Tick);
    assert!(node.state.data().names.waiting().get(&place).is_none());
}

#[test]
fn what_is_held_is_let_go_however_late() {
    // A cluster that was down for longer than ended reservations are known must not forget those that
    // still hold something: their units would stay reserved for nobody.
    let mut node = shops();
    node.apply(movements(vec![request("opening", Kind::Receipt, "MUG", 1_000)]));
    for n in 0..2 * EXPIRED_PER_COMMAND_MAX + 88 {
        let line = HoldLine { sku: "MUG".into(), quantity: 1, location: None };
        let id = format!("hold {n}");
        let lines = vec![line];
        let hold = Hold { id, lines, channel: None, ttl_ms: HOUR_MS, reference: None };
        node.apply(ask(Asked::Hold(hold)));
    }
    node.now += 3 * DAY_MS;
    for _ in 0..10 {
        node.apply(Command::Tick);
        node.check().unwrap();
    }
    let stock = node.state.data().stock.get("MUG").unwrap();
    assert_eq!((stock.levels["main"].reserved, stock.available()), (0, 1_000));
    assert!(node.state.holds().is_empty());
}
