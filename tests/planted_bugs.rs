//! Promise: the tests would notice. Each bug of a list is put into a copy of the source, and the test that
//! claims its invariant must fail.
//!
//! Built only with the feature `planted-bugs`:
//! `cargo test --features planted-bugs --test planted_bugs`.
#![cfg(feature = "planted-bugs")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests fail by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

/// A mistake that somebody could make.
struct Bug {
    /// The invariant that it breaks.
    breaks: &'static str,
    file: &'static str,
    /// Stands there once, in the place of which comes …
    right: &'static str,
    /// … this.
    wrong: &'static str,
    caught_by: Test,
}

/// Package, test file, and the test in it if not all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Test(&'static str, &'static str, &'static str);

const SCRIPTS: Test = Test("stockraft-state", "scripts", "");
const ARRIVAL: Test = Test("stockraft-state", "properties", "the_order_of_arrival_does_not_matter");
const SEGMENTS: Test =
    Test("stockraft-state", "properties", "segments_apply_once_each_and_in_order");
const REPLAY: Test = Test("stockraft-state", "properties", "a_log_gives_one_state");
const SENSIBLE: Test =
    Test("stockraft-state", "properties", "sensible_commands_keep_what_must_hold");
const RULES: Test = Test("stockraft-state", "rules", "");
const EXPOSURE: Test = Test("stockraft-state", "exposure", "");
const OVERSELLS: Test = Test("stockraft-state", "oversells", "");
const QUEUE: Test = Test("stockraft-state", "queue", "");
const SIGNATURES: Test = Test("stockraft-channels", "signatures", "");

static BUGS: &[Bug] = &[
    Bug {
        breaks: "a repeated delivery is applied once",
        file: "state/src/dedup.rs",
        right: "Some(seen) if seen.body == *body => Verdict::Duplicate,",
        wrong: "Some(seen) if seen.body == *body => Verdict::New,",
        caught_by: SCRIPTS,
    },
    Bug {
        breaks: "a segment is applied only behind the one before it",
        file: "state/src/origin.rs",
        right: "if sequence != last + 1 {",
        wrong: "if sequence == 0 {",
        caught_by: SEGMENTS,
    },
    Bug {
        breaks: "of two images of one time the same one counts everywhere",
        file: "state/src/order.rs",
        right: "if (version, image.quantity) > (self.version, self.quantity) {",
        wrong: "if version >= self.version {",
        caught_by: ARRIVAL,
    },
    Bug {
        breaks: "a line that was edited out is not owed",
        file: "state/src/order.rs",
        right: "let sold = if self.version < whole { 0 } else { self.quantity };",
        wrong: "let sold = self.quantity.max(whole.min(0).try_into().unwrap_or(0));",
        caught_by: ARRIVAL,
    },
    Bug {
        breaks: "what is on hand is the sum of its movements",
        file: "state/src/ledger.rs",
        right: "            Kind::Fulfilment => {\n                level.committed -= quantity;\n                level.on_hand -= quantity;",
        wrong: "            Kind::Fulfilment => {\n                level.committed -= quantity;",
        caught_by: SENSIBLE,
    },
    Bug {
        breaks: "a reservation counts against every later request",
        file: "state/src/ledger.rs",
        right: "self.on_hand - self.committed - self.reserved",
        wrong: "self.on_hand - self.committed",
        caught_by: SCRIPTS,
    },
    Bug {
        breaks: "a reservation ends by agreed time",
        file: "state/src/reservation.rs",
        right: "if *time > work.stamp.now {",
        wrong: "if *time > work.stamp.now + 600_000 {",
        caught_by: SCRIPTS,
    },
    Bug {
        breaks: "what a region sold of its quota is sold once, though another sold it too",
        file: "state/src/escrow/told.rs",
        right: "let units = sold.saturating_sub(line.confirmed).min(limits::QUANTITY_MAX);",
        wrong: "let units = (*sold).min(limits::QUANTITY_MAX);",
        caught_by: SCRIPTS,
    },
    Bug {
        breaks: "a restarted node lets go what is held when its time is over",
        file: "state/src/machine.rs",
        right: "(Status::Held, None) => {",
        wrong: "(Status::Expired, None) => {",
        caught_by: REPLAY,
    },
    Bug {
        breaks: "a snapshot forgets nothing",
        file: "state/src/data.rs",
        right: "    pub reloads: BTreeMap<",
        wrong: "    #[serde(skip)]\n    pub reloads: BTreeMap<",
        caught_by: REPLAY,
    },
    Bug {
        breaks: "what a feed sets over a newer quantity is found",
        file: "state/src/listing.rs",
        right: "(self.overtaken, self.read_after, self.unsure) = (None, stamp.index, true);",
        wrong: "(self.overtaken, self.read_after) = (None, stamp.index);",
        caught_by: SCRIPTS,
    },
    Bug {
        breaks: "a request is answered once an idempotency key",
        file: "state/src/request.rs",
        right: "return if known.body == body { known.reply.clone() } else { Reply::KeyReused };",
        wrong: "if known.body != body {\n                return Reply::KeyReused;\n            }",
        caught_by: SCRIPTS,
    },
    Bug {
        breaks: "nobody else pushes to a channel while its owner's lease runs",
        file: "state/src/owners.rs",
        right: "&& now < owner.lease_until",
        wrong: "&& now > limits::TIME_MAX",
        caught_by: SCRIPTS,
    },
    Bug {
        breaks: "what was shown before a plain set may have been sold",
        file: "state/src/listing.rs",
        right: "self.unresolved = (self.unresolved + bound - shown).min(limits::LEVEL_MAX);",
        wrong: "self.unresolved = self.unresolved.min(limits::LEVEL_MAX);",
        caught_by: EXPOSURE,
    },
    Bug {
        breaks: "a push of an unknown outcome may still land",
        file: "state/src/allocation.rs",
        right: "let doubtful = unheard + listing.unresolved(self.now);",
        wrong: "let doubtful = unheard;",
        caught_by: EXPOSURE,
    },
    Bug {
        breaks: "what a kit may still sell counts against its components",
        file: "state/src/allocation.rs",
        right: "core::iter::once(part.into()).chain(self.kits.containing(part))",
        wrong: "core::iter::once(alloc::string::String::from(part))",
        caught_by: EXPOSURE,
    },
    Bug {
        breaks: "a kit and its components together show no more than is there",
        file: "state/src/allocation.rs",
        right: "let over = over.saturating_sub(self.available(part, location).max(0));",
        wrong: "let over = over.min(0);",
        caught_by: SCRIPTS,
    },
    Bug {
        breaks: "a sale comes off the share of its channel, and nobody else's",
        file: "state/src/shares.rs",
        right: "Kind::Sale | Kind::Hold | Kind::Grant => -1,",
        wrong: "Kind::Hold | Kind::Grant => -1,",
        caught_by: SCRIPTS,
    },
    Bug {
        breaks: "a listing that is taken out counts until it shows nothing",
        file: "state/src/leaving.rs",
        right: "} else if leaves && !listing.is_open() {",
        wrong: "} else if leaves && (listing.leaves || !listing.is_open()) {",
        caught_by: SCRIPTS,
    },
    Bug {
        breaks: "a raise waits for what may still be sold elsewhere",
        file: "state/src/allocation.rs",
        right: "room.clamp(shown, wanted)",
        wrong: "wanted",
        caught_by: OVERSELLS,
    },
    Bug {
        breaks: "units missing on a channel may be sales on their way",
        file: "state/src/listing.rs",
        right: "Some(most + self.unheard(now) + self.unresolved(now))",
        wrong: "Some(most + self.unresolved(now))",
        caught_by: EXPOSURE,
    },
    Bug {
        breaks: "who was replaced as the owner of a channel pushes nothing",
        file: "state/src/owners.rs",
        right: "owner.filter(|owner| owner.epoch == epoch)",
        wrong: "owner.filter(|owner| owner.epoch >= epoch)",
        caught_by: SCRIPTS,
    },
    Bug {
        breaks: "a reading from before units were put back does not hide them",
        file: "state/src/listing.rs",
        right: "quantity < bound && self.restocked_at > intent",
        wrong: "false",
        caught_by: SCRIPTS,
    },
    Bug {
        breaks: "time that was agreed on does not go back",
        file: "state/src/machine.rs",
        right: "let now = stamp.now.max(self.data.now).min(limits::TIME_MAX);",
        wrong: "let now = stamp.now.min(limits::TIME_MAX);",
        caught_by: RULES,
    },
    Bug {
        breaks: "an ack with an old lease is refused",
        file: "state/src/queue/lease.rs",
        right: "Place::Leased { token, .. } if token == lease.token)",
        wrong: "Place::Leased { token, .. } if token >= lease.token)",
        caught_by: QUEUE,
    },
    Bug {
        breaks: "a message that is tried again keeps the place of its key",
        file: "state/src/queue/lists.rs",
        right: "        if held.place == Place::Parked {\n            of_key.parked.insert(id);",
        wrong: "        if matches!(held.place, Place::Retry { .. }) {\n            return;\n        }\n        if held.place == Place::Parked {\n            of_key.parked.insert(id);",
        caught_by: QUEUE,
    },
    Bug {
        breaks: "a message is given up after so many attempts",
        file: "state/src/queue/lease.rs",
        right: "if attempts >= self.topic.settings.attempts {",
        wrong: "if attempts > self.topic.settings.attempts {",
        caught_by: QUEUE,
    },
    Bug {
        breaks: "a message stays while a group holds it",
        file: "state/src/queue/desk.rs",
        right: "if !kept && !self.topic.everybody().any(|group| group.pins(id)) {",
        wrong: "if !kept && !self.topic.everybody().all(|group| group.pins(id)) {",
        caught_by: QUEUE,
    },
    Bug {
        breaks: "a signature of another body is refused",
        file: "channels/src/signature/keys.rs",
        right: "accepted |= code.as_slice().ct_eq(claim);",
        wrong: "accepted |= code.len().ct_eq(&claim.len());",
        caught_by: SIGNATURES,
    },
];

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (name, path) = (entry.file_name(), entry.path());
        if name == "target" || name == ".git" {
            continue;
        }
        let target = to.join(name);
        if path.is_dir() {
            copy(&path, &target);
        } else if fs::read(&path).ok() != fs::read(&target).ok() {
            // What did not change keeps its time, and is not built again.
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// The repository, copied to where a lane may change it.
fn workspace(lane: usize) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("planted{lane}"));
    let members = ["state", "channels", "cluster", "marketplace", "src", "tests", "benches"];
    for member in members {
        // What was moved or deleted since the last run must not stand beside what there is.
        let _ = fs::remove_dir_all(to.join(member));
        copy(&root.join(member), &to.join(member));
    }
    for file in ["Cargo.toml", "Cargo.lock"] {
        fs::copy(root.join(file), to.join(file)).unwrap();
    }
    to
}

/// Builds a test, and runs it, with fewer cases where some are enough; whether it passed, and what it said.
fn run(workspace: &Path, Test(package, file, name): Test, some: bool) -> (bool, String) {
    let cargo = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO"));
        let target = workspace.with_extension("target");
        command.current_dir(workspace).env("CARGO_TARGET_DIR", target).env_remove("RUSTFLAGS");
        // Each lane has a core; what is built so often is built with as little as possible.
        command.env("CARGO_BUILD_JOBS", "1").env("CARGO_PROFILE_DEV_DEBUG", "0");
        // That it fails is enough; the shortest way to it is not asked for.
        command.env("PROPTEST_MAX_SHRINK_ITERS", "0");
        if some {
            command.env("PROPTEST_CASES", "20").env("OVERSELL_SEEDS", "100");
        }
        command.args(["test", "--locked", "-p", package, "--test", file]).args(more);
        command.output().unwrap()
    };
    let built = cargo(&["--no-run"]);
    let said = String::from_utf8_lossy(&built.stderr).into_owned();
    assert!(built.status.success(), "it does not build:\n{said}");
    let done = cargo(&["--", name]);
    (done.status.success(), String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Plants some of the bugs, one after the other; those that nobody noticed.
fn missed(lane: usize, bugs: &[&Bug]) -> Vec<&'static str> {
    let workspace = workspace(lane);
    for test in bugs.iter().map(|bug| bug.caught_by).collect::<BTreeSet<_>>() {
        let (passed, said) = run(&workspace, test, true);
        assert!(passed, "{test:?} fails without any bug:\n{said}");
    }
    let mut missed = Vec::new();
    for Bug { breaks, file, right, wrong, caught_by } in bugs {
        let path = workspace.join(file);
        let source = fs::read_to_string(&path).unwrap();
        assert_eq!(source.matches(right).count(), 1, "{file} has changed: {right}");
        fs::write(&path, source.replace(right, wrong)).unwrap();
        let (passed, _) = run(&workspace, *caught_by, false);
        fs::write(&path, source).unwrap();
        println!("{}: {breaks} ({caught_by:?})", if passed { "MISSED" } else { "caught" });
        missed.extend(passed.then_some(*breaks));
    }
    missed
}

// A test that has never failed proves nothing: it may look away, or never reach what it is about.
#[test]
fn every_planted_bug_is_caught() {
    let lanes = thread::available_parallelism().map_or(1, usize::from).min(BUGS.len());
    let missed: Vec<_> = thread::scope(|scope| {
        let lane = |lane| {
            let bugs: Vec<&Bug> = BUGS.iter().skip(lane).step_by(lanes).collect();
            scope.spawn(move || missed(lane, &bugs))
        };
        let running: Vec<_> = (0..lanes).map(lane).collect();
        running.into_iter().flat_map(|lane| lane.join().unwrap()).collect()
    });
    assert!(missed.is_empty(), "not caught: {missed:#?}");
}
