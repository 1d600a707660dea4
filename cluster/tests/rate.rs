//! How fast, on this machine: run by hand, `cargo test --release --test rate -- --ignored --no-capture`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]
#![allow(clippy::print_stdout, reason = "a measurement is there to be read")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{PATIENCE, Root, assert_equal, found, heavy, seats};

async fn measure(at_once: u64, bytes: usize, on_leader: bool) {
    let root = Root::new();
    let nodes = found(&seats(3, root.path())).await;
    let leader = nodes[0].leader().await;
    let node = nodes.iter().find(|node| (node.id() == leader) == on_leader).unwrap();
    let ids = Arc::new(AtomicU64::new(0));
    let until = Instant::now() + Duration::from_secs(3);
    let clients: Vec<_> = (0..at_once)
        .map(|_| {
            let (raft, ids) = (node.raft.clone(), Arc::clone(&ids));
            tokio::spawn(async move {
                let mut took = Vec::new();
                while Instant::now() < until {
                    let began = Instant::now();
                    let id = ids.fetch_add(1, Ordering::Relaxed);
                    raft.propose(heavy(id, bytes), PATIENCE).await.unwrap();
                    took.push(began.elapsed());
                }
                took
            })
        })
        .collect();
    let mut took = Vec::new();
    for client in clients {
        took.extend(client.await.unwrap());
    }
    took.sort_unstable();
    let at = |percent: usize| took[took.len() * percent / 100];
    println!(
        "{at_once} at once, {bytes} bytes, leader {on_leader}: {}/s, p50 {:?}, p99 {:?}",
        took.len() / 3,
        at(50),
        at(99),
    );
    assert_equal(&nodes).await;
    root.end(nodes).await;
}

// A change that makes agreement slow should be seen before it is felt.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, not a test"]
async fn proposals_a_second() {
    for on_leader in [true, false] {
        for at_once in [1, 16, 256] {
            measure(at_once, 5_000, on_leader).await;
        }
    }
    measure(4, 20_000, true).await;
}
