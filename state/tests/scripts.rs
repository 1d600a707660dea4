//! The manual of this room, and proof that it is true.
//!
//! `tests/scripts/*.txt` each tell a story: commands, `----`, and what comes of them, up to an empty
//! line. `UPDATE=1 cargo test -p stockraft-state --test scripts` writes down what comes of them now.
//!
//! A block is one of
//! * movements asked for together, a line each: `receipt MUG 5 @main ref=PO-1 id=r1`; a first line
//!   `atomic` or `idempotent KEY` (or both) says how;
//! * a delivery, `deliver CHANNEL ID`, with a line for each fact: `order 1001 v1 L1=MUG*2 L2=?*1`,
//!   `refund 1001 v2 R1 L1=MUG*1 cancelled`, `unreadable WHY`. `from=NODE.INCARNATION seq=N` says which
//!   inbox it came through, and as which of its segments;
//! * one of `channel`, `policy`, `map`, `claim`, `intend`, `confirm`, `observe`, `refuse`, `fail`,
//!   `wait` and `show`, as the scripts show.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test stops at what it did not expect"
)]

mod common;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use common::{Node, START, definition, delivery, image_of, key, policy, refund, request};
use state::allocation::Mode;
use state::command::{
    Command, Fact, ListingSpec, Moved, MovementRequest, Movements, Segment, Settled,
};
use state::ledger::Kind;
use state::limits::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS};
use state::order::{LineImage, Removal};
use state::origin::{Lane, Origin};
use state::reply::Step;
use state::{Effects, Millis, MovementOutcome, Reply};

#[test]
fn scripts_tell_the_truth() {
    // A manual that nobody runs is wrong within a month.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    let mut wrong = String::new();
    for file in files {
        let written = std::fs::read_to_string(&file).unwrap();
        let found = play(&written);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&file, &found).unwrap();
        } else if found != written {
            let name = file.file_name().unwrap().display();
            writeln!(wrong, "{name}:\n{}", difference(&written, &found)).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}UPDATE=1 writes down what was found");
}

/// The first lines that differ, with some before them.
fn difference(written: &str, found: &str) -> String {
    let (written, found): (Vec<_>, Vec<_>) = (written.lines().collect(), found.lines().collect());
    let same = written.iter().zip(&found).take_while(|(a, b)| a == b).count();
    let tail = |lines: &[&str]| {
        lines.iter().rev().zip(written.iter().rev()).take_while(|(a, b)| a == b).count()
    };
    let tail = tail(&found).min(found.len() - same).min(written.len() - same);
    let lines = |mark: &str, lines: &[&str]| -> String {
        let marked: Vec<String> = lines.iter().map(|line| format!("{mark} {line}\n")).collect();
        marked.concat()
    };
    lines(" ", &written[same.saturating_sub(8)..same])
        + &lines("-", &written[same..written.len() - tail])
        + &lines("+", &found[same..found.len() - tail])
}

/// Plays a script and returns it with what came of it.
fn play(script: &str) -> String {
    let mut player = Player { node: Node { now: START, ..Node::default() }, serial: 0 };
    let mut story = String::new();
    let mut block: Vec<&str> = Vec::new();
    let mut skipping = false;
    for line in script.lines() {
        skipping &= !line.is_empty();
        if skipping {
            continue;
        }
        writeln!(story, "{line}").unwrap();
        if line == "----" {
            let due = player.due();
            let outcome = player.block(&block);
            player.node.check().unwrap();
            story += &outcome;
            for (channel, sku, time) in player.due().difference(&due) {
                let left = time.saturating_sub(player.node.now);
                writeln!(story, "due: {channel} {sku} in {}s", left / SECOND_MS).unwrap();
            }
            block.clear();
            skipping = true;
        } else if !line.is_empty() && !line.starts_with('#') {
            block.push(line);
        }
    }
    assert!(block.is_empty(), "a block without ----: {block:?}");
    story
}

struct Player {
    node: Node,
    serial: u64,
}

impl Player {
    fn due(&self) -> BTreeSet<(String, String, Millis)> {
        let state = &self.node.state;
        let of = |name: &String| {
            let due = state.due().of(name);
            due.map(|(time, sku)| (name.clone(), sku.to_string(), time)).collect::<Vec<_>>()
        };
        state.data().channels.keys().flat_map(of).collect()
    }

    fn block(&mut self, lines: &[&str]) -> String {
        let words: Vec<&str> = lines[0].split_whitespace().collect();
        let command = match words[..] {
            ["wait", time] => {
                self.node.now += duration(time);
                Command::Tick
            }
            ["show", sku] => return self.show(sku),
            ["channel", name, location, ref more @ ..] => {
                let pushes = !more.contains(&"silent");
                let definition =
                    state::channel::Definition { pushes, fetches: pushes, ..definition(location) };
                Command::PutChannel { name: name.into(), definition }
            }
            ["policy", mode, ref parts @ ..] => Command::PutPolicies(vec![policy_of(mode, parts)]),
            ["map", sku, ref channels @ ..] => common::map(sku, channels),
            ["list", sku, channel, id, ref settings @ ..] => {
                Command::List(vec![(sku.into(), channel.into(), spec(id, settings))])
            }
            ["reloads"] => return self.reloads(),
            ["claim", channel, node] => {
                Command::Claim { channel: channel.into(), node: number(node) }
            }
            ["intend", channel, ref rest @ ..] => {
                let (options, skus): (Vec<&str>, Vec<&str>) =
                    rest.iter().partition(|word| word.contains('='));
                let epoch = option(&options, "epoch").map_or_else(|| self.epoch(channel), number);
                let skus = skus.into_iter().map(String::from).collect();
                Command::Intend { channel: channel.into(), epoch, skus }
            }
            ["confirm" | "observe" | "refuse" | "fail", channel, sku, ref rest @ ..] => {
                self.settle(words[0], channel, sku, rest)
            }
            ["deliver", channel, id, ref options @ ..] => {
                self.deliver((channel, id), options, &lines[1..])
            }
            _ => self.movements(lines),
        };
        let before: BTreeSet<_> = self.letters();
        let (reply, effects) = self.node.apply(command);
        let mut told = told(&reply, &effects);
        for (_, reason) in self.letters().difference(&before) {
            writeln!(told, "dead letter: {reason}").unwrap();
        }
        told
    }

    fn letters(&self) -> BTreeSet<((u64, u32), String)> {
        let letters = self.node.state.data().dead.entries().iter();
        letters.map(|(place, letter)| (*place, letter.reason.clone())).collect()
    }

    fn epoch(&self, channel: &str) -> u64 {
        self.node.state.data().channels[channel].owner.map_or(0, |owner| owner.epoch)
    }

    fn settle(&self, what: &str, channel: &str, sku: &str, rest: &[&str]) -> Command {
        let listing = &self.node.state.data().stock.get(&sku.into()).unwrap().listings[channel];
        let revision = listing.in_flight.map_or(0, |push| push.revision);
        let result = match what {
            "confirm" => Settled::Confirmed,
            "observe" => Settled::Observed(rest[0].parse().unwrap()),
            "refuse" => Settled::Refused,
            _ => Settled::Failed(rest.join(" ")),
        };
        let epoch = option(rest, "epoch").map_or_else(|| self.epoch(channel), number);
        common::settle(channel, epoch, sku, revision, result)
    }

    fn deliver(&self, (channel, id): (&str, &str), options: &[&str], facts: &[&str]) -> Command {
        let facts: Vec<Fact> = facts.iter().map(|line| fact(line)).collect();
        let from = option(options, "from").unwrap_or("1.1");
        let (node, incarnation) = from.split_once('.').unwrap();
        let origin = Origin { node: number(node), incarnation: number(incarnation) };
        let lane = if options.contains(&"normal") { Lane::Normal } else { Lane::Urgent };
        let next = self.node.state.data().origins.last(origin, lane) + 1;
        let sequence = option(options, "seq").map_or(next, number);
        let deliveries = vec![delivery(id, channel, self.node.now, facts)];
        Command::Segment(Segment { origin, lane, sequence, deliveries })
    }

    fn movements(&mut self, lines: &[&str]) -> Command {
        let (mut atomic, mut idempotency, mut movements) = (false, None, Vec::new());
        for line in lines {
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["atomic"] => atomic = true,
                ["idempotent", name] => idempotency = Some((key(name), key(&lines.join("\n")))),
                [kind, sku, quantity, ref options @ ..] => {
                    self.serial += 1;
                    movements.push(movement((kind, sku, quantity), options, self.serial));
                }
                _ => panic!("{line}"),
            }
        }
        Command::Movements(Movements { idempotency, atomic, movements })
    }

    fn reloads(&self) -> String {
        let reloads = self.node.state.data().reloads.iter();
        let told = reloads.map(|((channel, order), reload)| {
            format!("{channel} must fetch {order}, asked at {}\n", reload.asked)
        });
        told.collect()
    }

    fn show(&self, sku: &str) -> String {
        let data = self.node.state.data();
        let Some(stock) = data.stock.get(&sku.into()) else { return format!("no {sku}\n") };
        let mut shown = String::new();
        for (location, level) in &stock.levels {
            let state::ledger::Level { on_hand, committed, .. } = level;
            let available = level.available();
            write!(
                shown,
                "{location}: {on_hand} on hand, {committed} committed, {available} available"
            )
            .unwrap();
            for (reference, units) in &level.incoming {
                write!(shown, ", {units} coming by {reference}").unwrap();
            }
            shown.push('\n');
        }
        for (channel, listing) in &stock.listings {
            let allocation = data.allocation(channel, sku).unwrap();
            let units =
                |units: Option<i64>| units.map_or("?".to_string(), |units| units.to_string());
            write!(
                shown,
                "{channel}: allocated {} less {}, desired {}, shows {}, exposure {}",
                allocation.allocated,
                allocation.buffer,
                allocation.desired,
                units(listing.shown),
                units(listing.exposure(data.now)),
            )
            .unwrap();
            if let Some(push) = listing.in_flight {
                write!(shown, ", {} on its way", push.quantity).unwrap();
            }
            if let Some(fault) = &listing.fault {
                write!(shown, ", fault: {fault}").unwrap();
            }
            shown.push('\n');
        }
        shown
    }
}

/// A reply and its effects, in words.
fn told(reply: &Reply, effects: &Effects) -> String {
    let mut told = String::new();
    match reply {
        Reply::Done if effects.confirmed.is_empty() => told += "done\n",
        Reply::Done => {}
        Reply::Applied if effects.duplicates > 0 => told += "seen before\n",
        Reply::Applied if effects.applied == 0 && effects.bodies.is_empty() => {
            told += "already applied\n";
        }
        Reply::Applied => told += "applied\n",
        Reply::Gap { expected } => writeln!(told, "a gap: propose again from {expected}").unwrap(),
        Reply::Movements(outcomes) => {
            for outcome in outcomes {
                match outcome {
                    MovementOutcome::Rejected(why) => writeln!(told, "rejected: {why}").unwrap(),
                    outcome => writeln!(told, "{}", format!("{outcome:?}").to_lowercase()).unwrap(),
                }
            }
        }
        Reply::KeyReused => told += "the idempotency key was used with another request\n",
        Reply::Claimed { epoch } => writeln!(told, "claimed, epoch {epoch}").unwrap(),
        Reply::Fenced => told += "fenced: another owner has taken over\n",
        Reply::Intended(intended) if intended.is_empty() => told += "nothing to push\n",
        Reply::Intended(intended) => {
            for next in intended {
                match next.step {
                    Step::Push { quantity, from, .. } => {
                        writeln!(told, "push {}: from {from} to {quantity}", next.sku).unwrap();
                    }
                    Step::Observe => writeln!(told, "read {} first", next.sku).unwrap(),
                }
            }
        }
        Reply::Rejected(why) => writeln!(told, "rejected: {why}").unwrap(),
    }
    for m in &effects.movements {
        let kind = m.kind.name();
        writeln!(
            told,
            "{kind} {} {} @{}: {} on hand, {} available",
            m.sku, m.quantity, m.location, m.on_hand, m.available
        )
        .unwrap();
    }
    for confirmed in &effects.confirmed {
        writeln!(told, "confirmed: {} shows {}", confirmed.channel, confirmed.sku).unwrap();
    }
    told
}

fn option<'a>(options: &[&'a str], name: &str) -> Option<&'a str> {
    options.iter().find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
}

fn number(word: &str) -> u64 {
    word.parse().unwrap()
}

fn duration(word: &str) -> Millis {
    let (count, unit) = word.split_at(word.len() - 1);
    let unit = match unit {
        "s" => SECOND_MS,
        "m" => MINUTE_MS,
        "h" => HOUR_MS,
        _ => DAY_MS,
    };
    number(count) * unit
}

/// `ebay=20-2` is a weight of 20 and a buffer of 2.
fn policy_of(mode: &str, parts: &[&str]) -> state::allocation::Policy {
    let mode = if mode == "split" { Mode::Split } else { Mode::Shared };
    let (mut weights, mut buffers) = (Vec::new(), Vec::new());
    for part in parts {
        let (name, numbers) = part.split_once('=').unwrap();
        let (weight, buffer) = numbers.split_once('-').unwrap_or((numbers, "0"));
        weights.push((name, weight.parse().unwrap()));
        buffers.push((name, buffer.parse().unwrap()));
    }
    policy(mode, &weights, &buffers)
}

/// `L1=MUG*2`: the line, the SKU or `?`, the units.
fn line(word: &str) -> (&str, Option<&str>, i64) {
    let (line, rest) = word.split_once('=').unwrap();
    let (sku, quantity) = rest.split_once('*').unwrap();
    (line, Some(sku).filter(|sku| *sku != "?"), quantity.parse().unwrap())
}

/// `L1=?variant-1*2+shipped:1+returned:1`: a line of an image; after `?` the listing that it names instead
/// of a SKU.
fn image_line(word: &str) -> LineImage {
    let mut parts = word.split('+');
    let (id, sku, quantity) = line(parts.next().unwrap());
    let listing = sku.and_then(|sku| sku.strip_prefix('?')).map(String::from);
    let sku = sku.filter(|sku| !sku.starts_with('?')).map(String::from);
    let mut line = LineImage { id: id.into(), listing, sku, quantity, ..LineImage::default() };
    for part in parts {
        let (what, units) = part.split_once(':').unwrap();
        let place = if what == "shipped" { &mut line.fulfilled } else { &mut line.returned };
        *place = units.parse().unwrap();
    }
    line
}

/// A listing with its settings: `variant_id=v-1`.
fn spec(id: &str, settings: &[&str]) -> ListingSpec {
    let setting = |word: &&str| word.split_once('=').map(|(key, value)| (key.into(), value.into()));
    ListingSpec { id: id.into(), settings: settings.iter().filter_map(setting).collect() }
}

fn fact(text: &str) -> Fact {
    let version = |word: &str| START + number(word.trim_start_matches('v'));
    match text.split_whitespace().collect::<Vec<_>>()[..] {
        ["order", order, v, ref lines @ ..] => {
            let lines = lines.iter().map(|word| image_line(word)).collect();
            image_of(order, version(v), false, lines)
        }
        ["whole", order, v, ref lines @ ..] => {
            let lines = lines.iter().map(|word| image_line(word)).collect();
            image_of(order, version(v), true, lines)
        }
        ["refund", order, v, id, part, how] => {
            let removal = match how {
                "cancelled" => Removal::Cancelled,
                "returned" => Removal::Returned,
                "shipped" => Removal::Fulfilled,
                _ => Removal::NoRestock,
            };
            let (line, sku, quantity) = line(part);
            refund(order, version(v), (id, line, sku), quantity, removal)
        }
        ["listed", listing, sku, v] => {
            Fact::Listed { listing: listing.into(), sku: sku.into(), version: version(v) }
        }
        ["shown", listing, quantity, v, ref location @ ..] => Fact::Shown {
            listing: listing.into(),
            sku: None,
            location: location.first().map(|place| place.trim_start_matches('@').into()),
            quantity: quantity.parse().unwrap(),
            version: version(v),
        },
        ["moved", id, kind, listing, quantity, v] => Fact::Moved(Moved {
            id: id.into(),
            kind: Kind::NAMES.iter().find(|(name, _)| *name == kind).unwrap().1,
            listing: Some(listing.into()),
            sku: None,
            quantity: quantity.parse().unwrap(),
            location: None,
            to_location: None,
            reference: None,
            version: version(v),
        }),
        ["reload", order, v] => Fact::Reload { order: order.into(), version: version(v) },
        ["fetched", order, asked] => Fact::Fetched { order: order.into(), asked: number(asked) },
        ["unreadable", ref why @ ..] => Fact::Dead { reason: why.join(" "), body: b"{".to_vec() },
        _ => panic!("{text}"),
    }
}

fn movement(
    (kind, sku, quantity): (&str, &str, &str),
    options: &[&str],
    serial: u64,
) -> MovementRequest {
    let (_, kind): (_, Kind) = *Kind::NAMES.iter().find(|(name, _)| *name == kind).unwrap();
    let id = option(options, "id").map_or_else(|| format!("movement {serial}"), String::from);
    let place = options.iter().find_map(|option| option.strip_prefix('@')).unwrap_or("main");
    MovementRequest {
        location: place.into(),
        to_location: option(options, "to").map(Into::into),
        channel: option(options, "channel").map(Into::into),
        reference: option(options, "ref").map(Into::into),
        ..request(&id, kind, sku, quantity.parse().unwrap())
    }
}
