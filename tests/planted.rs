//! Promise: the test that cuts the power, and the simulator, would notice what they are there to notice.
//!
//! Built only with the feature `planted-bugs`:
//! `cargo test --features planted-bugs --test planted`.
#![cfg(feature = "planted-bugs")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod support;

use support::book::Book;
use support::power::{disk, lose_power, move_to};
use support::{Node, found};

/// A lie about durability must be found within so many cuts.
const CUTS_MAX: usize = 10;

// A checker that has never failed has not been tested: with the sync taken out, either an answered
// delivery is lost or the database does not open.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_sync_is_caught() {
    let Some(mut disk) = disk(256) else { return };
    let home = tempfile::tempdir().unwrap();
    let mut node = Node::new(1, home.path().join("node"));
    move_to(&mut node, &disk);
    node.env.push(("STOCKRAFT_PLANTED_BUG".into(), "skip-fdatasync".into()));
    node.start().await;
    found(&[&node]).await;
    let mut nodes = [node];
    let book = Book::default();
    for cut in 1..=CUTS_MAX {
        if let Err(how) = lose_power(&mut disk, &mut nodes, &book, 60).await {
            println!("caught at cut {cut}: {how}");
            drop(nodes);
            return;
        }
    }
    panic!("{CUTS_MAX} power losses without a loss: this test would not notice one");
}

/// What the simulator says of a node with this bug.
fn simulated(bug: &str, options: &str) -> String {
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_stockraft"))
        .arg("sim")
        .args(options.split_whitespace())
        .env("STOCKRAFT_PLANTED_BUG", bug)
        .output()
        .unwrap();
    assert_eq!(run.status.code(), Some(1), "{bug} was not caught: {}", said(&run.stdout));
    said(&run.stdout)
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

// Each of these is one line in the product, looks harmless, and loses, sells or does twice what nobody
// would ever trace.
#[test]
fn the_simulator_names_the_invariant_that_a_bug_breaks() {
    for (bug, invariant, options) in [
        ("skip-flush", "I1", "--seed 3 --hours 1 --events 300"),
        ("same-incarnation", "I1", "--seed 2 --hours 1 --events 300"),
        ("gap-is-applied", "I1", "--seed 2 --hours 1 --events 300"),
        ("answered-before-agreed", "I1", "--seed 2 --hours 1 --events 300"),
        ("unknown-is-refused", "I4", "--seed 17 --hours 1 --events 300"),
        ("intent-forgotten", "I8", "--seed 2 --hours 1 --events 300"),
        ("ack-is-early", "I7", "--seed 2 --hours 1 --events 300"),
        ("spent-is-left", "I3", "--seed 2 --hours 1 --events 300"),
        ("unread-is-fed", "I8", "--seed 8 --hours 1 --events 300"),
    ] {
        let said = simulated(bug, &format!("--as-is {options}"));
        assert!(said.contains(&format!("{invariant} BROKEN")), "{bug}: {said}");
    }
}

// A history of hundreds of events is read by nobody. One that was shortened, and does not fail when it is
// run again, or fails in another way, leads whoever reads it astray.
#[test]
fn a_shortened_history_fails_again_and_is_much_shorter() {
    let bug = "gap-is-applied";
    let found = simulated(bug, "--seed 2 --hours 1 --events 300 --patience 20");
    let size = found.lines().find_map(|line| line.split_once(": shortened to ")).unwrap();
    let events = |size: &str| size.split(' ').next().unwrap().parse::<u64>().unwrap();
    assert!(events(size.1) * 5 < events(size.0), "{} to {}", size.0, size.1);
    let replay =
        found.lines().find_map(|line| line.strip_prefix("replay: stockraft sim ")).unwrap();
    let again = simulated(bug, &format!("--as-is {replay}"));
    let broken = |said: &str| {
        let line = said.lines().find(|line| line.contains(" BROKEN "));
        line.unwrap().split(' ').next().unwrap().to_string()
    };
    assert_eq!(broken(&again), broken(&found));
    // What is printed is the end of the shortened history itself.
    assert_eq!(again.lines().last(), found.lines().last());
}
