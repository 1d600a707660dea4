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
//! * one of `channel`, `remove`, `policy`, `rebalance`, `measured`, `map`, `claim`, `intend`, `confirm`, `observe`, `refuse`, `fail`,
//!   `wait`, `show`, `reloads` and `cursor`; `renew`, `give-back`, `pause`, `resume`, `push` and `looked`; `kit`, `limits` and `locations`; `reserve`, `sell`, `release` and `extend`, as the
//!   scripts show;
//! * `escrow`, `grant`, `destroyed`, `due`, `idle`, `judge`, and `at HOLDER` with what that holder tells.

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

use common::told::{noticed, told};
use common::words::{
    defined, duration, fact, holder, lane_of, mapping, movement, number, option, place_of,
    policy_of, reservation, size, spec, units_of, what,
};
use common::{Node, START, delivery, key};
use state::Millis;
use state::command::{Asked, Command, Fact, Movements, Segment, Settled, SkuSettings};
use state::escrow::Grant;
use state::escrow::told::Told;
use state::limits::SECOND_MS;
use state::origin::{Lane, Origin};
use state::velocity::Measured;

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

fn kit(sku: &str, parts: &[&str]) -> Command {
    let parts = parts.iter().map(|part| units_of(part)).collect();
    let settings = SkuSettings { components: Some(parts), ..SkuSettings::default() };
    Command::Map { sku: sku.into(), settings }
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
        if let Some(shown) = self.shown(&words) {
            return shown;
        }
        let command = match words[..] {
            ["wait", time] => {
                self.node.now += duration(time);
                Command::Tick
            }
            ["channel", name, location, ref more @ ..] => {
                let definition = defined(location, more);
                Command::PutChannel { name: name.into(), definition }
            }
            ["policy" | "rebalance" | "remove" | "measured", ..] => self.of_shares(&words),
            ["renew" | "give-back" | "pause" | "resume" | "push", ref rest @ ..] => {
                self.operate(words[0], rest)
            }
            ["looked", channel, ago] => self.looked(channel, duration(ago)),
            ["map", sku, ref listings @ ..] => mapping(sku, listings),
            ["locations", ref names @ ..] => {
                Command::PutLocations(names.iter().map(ToString::to_string).collect())
            }
            ["kit", sku, ref parts @ ..] => kit(sku, parts),
            ["limits", sku, ref options @ ..] => {
                let backorder = option(options, "backorder").map(|units| units.parse().unwrap());
                let low = option(options, "low").map(|units| units.parse().unwrap());
                let settings = SkuSettings { backorder, low_at: low, ..SkuSettings::default() };
                Command::Map { sku: sku.into(), settings }
            }
            ["escrow" | "grant" | "destroyed" | "at", ..] => self.escrow(&words),
            ["reserve" | "sell" | "release" | "extend", ref rest @ ..] => {
                common::ask(reservation(words[0], rest))
            }
            ["list", sku, channel, id, ref settings @ ..] => {
                Command::List(vec![(sku.into(), channel.into(), spec(id, settings))])
            }
            ["claim", channel, node] => {
                Command::Claim { channel: channel.into(), node: number(node) }
            }
            ["intend", channel, ref rest @ ..] => {
                let (options, skus): (Vec<&str>, Vec<&str>) =
                    rest.iter().partition(|word| word.contains('='));
                let epoch = option(&options, "epoch").map_or_else(|| self.epoch(channel), number);
                let skus = skus.into_iter().map(String::from).collect();
                let lane = lane_of(&options);
                Command::Intend { channel: channel.into(), epoch, lane, skus }
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
        for ((index, _), notice) in self.node.state.data().notices.entries().iter() {
            if *index == self.node.index {
                told += &noticed(notice);
            }
        }
        for (_, reason) in self.letters().difference(&before) {
            writeln!(told, "dead letter: {reason}").unwrap();
        }
        told
    }

    fn letters(&self) -> BTreeSet<((u64, u32), String)> {
        let letters = self.node.state.data().dead.entries().iter();
        letters.map(|(place, letter)| (*place, letter.reason.clone())).collect()
    }

    /// All that a channel listed so long ago was told.
    fn looked(&self, channel: &str, ago: Millis) -> Command {
        let fact = Fact::Looked { began: self.node.now - ago };
        let origin = Origin { node: 9, incarnation: 1 };
        let sequence = self.node.state.data().origins.last(origin, Lane::Urgent) + 1;
        let id = format!("looked {}", self.node.index);
        let deliveries = vec![delivery(&id, channel, self.node.now, vec![fact])];
        Command::Segment(Segment {
            origin,
            lane: Lane::Urgent,
            sequence,
            durable_ms: 0,
            deliveries,
        })
    }

    fn operate(&self, what: &str, rest: &[&str]) -> Command {
        let channel: String = rest[0].into();
        let epoch = option(rest, "epoch").map_or_else(|| self.epoch(&channel), number);
        let words: Vec<&str> = rest[1..].iter().copied().filter(|w| !w.contains('=')).collect();
        match what {
            "renew" => {
                let calls = option(rest, "calls").map_or(0, number);
                Command::Renew { channel, epoch, calls }
            }
            "give-back" => Command::Release { channel, epoch },
            "pause" => {
                let for_ms = option(rest, "for").map(duration);
                Command::Pause { channel, why: words.join(" "), for_ms }
            }
            "resume" => Command::Resume { channel, owner: words == ["owner"] },
            _ => Command::PushNow { channel, sku: words.first().map(|sku| (*sku).into()) },
        }
    }

    fn epoch(&self, channel: &str) -> u64 {
        let known = self.node.state.data().channels.get(channel);
        known.and_then(|known| known.owner).map_or(0, |owner| owner.epoch)
    }

    fn settle(&self, what: &str, channel: &str, sku: &str, rest: &[&str]) -> Command {
        let listing = self.node.state.data().stock.get(sku).unwrap().listings[channel].get();
        let in_flight = listing.in_flight.map_or(0, |push| push.revision);
        let revision = option(rest, "revision").map_or(in_flight, number);
        let result = match what {
            "confirm" => Settled::Confirmed,
            "observe" => Settled::Observed(rest[0].parse().unwrap()),
            "refuse" => Settled::Refused,
            _ => Settled::Failed(rest.join(" ")),
        };
        let epoch = option(rest, "epoch").map_or_else(|| self.epoch(channel), number);
        let intent = option(rest, "intent").map_or(self.node.index, number);
        let settle = common::settle(channel, (epoch, intent), sku, revision, result);
        let Command::Settle { channel, epoch, intent, calls, outcomes, .. } = settle else {
            panic!("{settle:?}")
        };
        Command::Settle { channel, epoch, lane: lane_of(rest), intent, calls, outcomes }
    }

    fn of_shares(&self, words: &[&str]) -> Command {
        match *words {
            ["policy", mode, ref parts @ ..] => common::put_policies(vec![policy_of(mode, parts)]),
            ["rebalance"] => Command::Rebalance(None),
            ["rebalance", ref skus @ ..] => {
                Command::Rebalance(Some(skus.iter().map(ToString::to_string).collect()))
            }
            ["remove", channel, ref how @ ..] => {
                let abandon = how.contains(&"abandon");
                Command::RemoveChannel { channel: channel.into(), abandon }
            }
            ["measured", channel, sku, velocity, buffer] => {
                self.measured((channel, sku), number(velocity), buffer.parse().unwrap())
            }
            _ => panic!("{words:?}"),
        }
    }

    /// So many units an hour, and the buffer that follows.
    fn measured(&self, (channel, sku): (&str, &str), velocity: u64, buffer: i64) -> Command {
        let stock = self.node.state.data().stock.get(sku).unwrap();
        let until = stock.listings[channel].get().pace.sold;
        Command::Measured(vec![Measured {
            channel: channel.into(),
            sku: sku.into(),
            velocity: velocity * 1_000_000,
            at: self.node.now,
            until,
            buffer,
        }])
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
        Command::Segment(Segment { origin, lane, sequence, durable_ms: 0, deliveries })
    }

    /// What is only looked at.
    fn shown(&self, words: &[&str]) -> Option<String> {
        match *words {
            ["show", sku] => Some(self.show(sku)),
            ["reloads"] => Some(self.reloads()),
            ["cursor", channel] => Some(self.cursor(channel)),
            ["due", ref nodes @ ..] => Some(self.due_to(nodes)),
            ["idle", of, ref nodes @ ..] => Some(self.idle(of, nodes)),
            ["judge", of, ref rest @ ..] => Some(self.judge(of, rest)),
            _ => None,
        }
    }

    fn escrow(&self, words: &[&str]) -> Command {
        match *words {
            ["escrow", sku, ref options @ ..] => {
                let escrow = Some(size(options));
                let settings = SkuSettings { escrow, ..SkuSettings::default() };
                Command::Map { sku: sku.into(), settings }
            }
            ["grant", of, units] => {
                let (sku, location, units) = place_of(units);
                Command::Grant(vec![Grant { holder: holder(of), sku, location, units }])
            }
            ["destroyed", node, ref rest @ ..] => {
                let keeping = option(rest, "keeping").map(number);
                Command::Destroyed { node: number(node), keeping }
            }
            ["at", of, ref rest @ ..] => self.told(of, rest),
            _ => panic!("{words:?}"),
        }
    }

    /// What a holder tells, through an inbox of its node.
    fn told(&self, of: &str, rest: &[&str]) -> Command {
        let holder = holder(of);
        let known = self.node.state.data().escrow.holders().get(&holder);
        let next = known.map_or(0, |known| known.serial) + 1;
        let serial = option(rest, "serial").map_or(next, number);
        let idempotency = option(rest, "key").map(|name| (key(name), key("body")));
        let told = Told { holder, serial, at: self.node.now, idempotency, what: what(rest) };
        let origin = Origin { node: holder.node, incarnation: 1 };
        let sequence = self.node.state.data().origins.last(origin, Lane::Urgent) + 1;
        let id = format!("escrow {of} {serial} {}", rest.join(" "));
        let deliveries = vec![delivery(&id, "", self.node.now, vec![Fact::Escrow(told)])];
        Command::Segment(Segment {
            origin,
            lane: Lane::Urgent,
            sequence,
            durable_ms: 0,
            deliveries,
        })
    }

    fn due_to(&self, nodes: &[&str]) -> String {
        let nodes: Vec<u64> = nodes.iter().map(|node| number(node)).collect();
        let due = self.node.state.data().grants_due(&nodes).into_iter().map(|grant| {
            let Grant { holder, sku, location, units } = grant;
            format!("grant {}.{} {sku}*{units}@{location}\n", holder.node, holder.book)
        });
        due.collect()
    }

    fn idle(&self, of: &str, nodes: &[&str]) -> String {
        let nodes: Vec<u64> = nodes.iter().map(|node| number(node)).collect();
        let idle = self.node.state.data().idle(holder(of), &nodes, |_, _| 0).into_iter();
        let idle = idle.map(|(sku, location, units)| format!("idle {sku}*{units}@{location}\n"));
        idle.collect::<Vec<_>>().concat()
    }

    /// What a holder says by itself that spent nothing yet that the cluster does not know.
    fn judge(&self, of: &str, rest: &[&str]) -> String {
        let Asked::Hold(asked) = reservation("reserve", rest) else { unreachable!() };
        format!("{:?}\n", self.node.state.judge_in_escrow(holder(of), &asked, |_, _| 0))
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
        let asked = Asked::Movements(Movements { atomic, movements });
        Command::Request { idempotency, asked }
    }

    fn cursor(&self, channel: &str) -> String {
        let cursor = self.node.state.data().channels[channel].cursor;
        cursor.map_or("never polled\n".into(), |at| format!("polled through v{}\n", at - START))
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
        let Some(stock) = data.stock.get(sku) else { return format!("no {sku}\n") };
        let mut shown = String::new();
        if data.kits.components(sku).is_some() {
            let places: BTreeSet<_> =
                data.stock.iter().flat_map(|(_, stock)| stock.levels.keys()).collect();
            for location in places {
                writeln!(shown, "{location}: {} available", data.available(sku, location)).unwrap();
            }
        }
        for (location, level) in &stock.levels {
            let state::ledger::Level { on_hand, committed, reserved, escrowed, .. } = level;
            let available = level.available();
            let reserved = match reserved {
                0 => String::new(),
                units => format!("{units} reserved, "),
            };
            let escrowed = match escrowed {
                0 => String::new(),
                units => format!("{units} in escrow, "),
            };
            write!(
                shown,
                "{location}: {on_hand} on hand, {committed} committed, {reserved}{escrowed}{available} available"
            )
            .unwrap();
            let shares = data.escrow.skus().get(sku);
            let quotas = shares.and_then(|shares| shares.quotas.get(location));
            for (holder, quota) in quotas.into_iter().flatten() {
                write!(shown, ", {} left to {}.{}", quota.left, holder.node, holder.book).unwrap();
            }
            for (reference, units) in &level.incoming {
                write!(shown, ", {units} coming by {reference}").unwrap();
            }
            shown.push('\n');
        }
        for (channel, listing) in &stock.listings {
            let listing = listing.get();
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
            if let Some((quantity, _)) = listing.shadow {
                write!(shown, ", would be told {quantity}").unwrap();
            }
            if let Some(fault) = &listing.fault {
                write!(shown, ", fault: {fault}").unwrap();
            }
            shown.push('\n');
        }
        shown
    }
}
