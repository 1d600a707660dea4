//! Promise: the test that cuts the power would notice if a 200 were answered too early.
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
