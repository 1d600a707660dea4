//! How fast, on this machine: run by hand, `cargo test --release --test rate -- --ignored --no-capture`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]
#![allow(clippy::print_stdout, reason = "a measurement is there to be read")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cluster::Timing;
use common::{PATIENCE, Root, assert_equal, found, heavy, seats};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Carries connections to `to`, every byte late by `delay`.
async fn slow_relay(to: SocketAddr, delay: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(far) = TcpStream::connect(to).await else { return };
                near.set_nodelay(true).and_then(|()| far.set_nodelay(true)).unwrap();
                let ((near_in, near_out), (far_in, far_out)) =
                    (near.into_split(), far.into_split());
                tokio::join!(carry(near_in, far_out, delay), carry(far_in, near_out, delay));
            });
        }
    });
    address
}

async fn carry(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin + Send + 'static,
    delay: Duration,
) {
    let (late, mut due) = mpsc::unbounded_channel::<(tokio::time::Instant, Vec<u8>)>();
    tokio::spawn(async move {
        while let Some((at, bytes)) = due.recv().await {
            tokio::time::sleep_until(at).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        let _ = late.send((tokio::time::Instant::now() + delay, bytes[..read].to_vec()));
    }
}

async fn measure(at_once: u64, bytes: usize, on_leader: bool, delay: Option<Duration>) {
    let root = Root::new();
    let mut seats = seats(3, root.path());
    if let Some(delay) = delay {
        let all: Vec<_> = seats.iter().map(|seat| seat.member.clone()).collect();
        for seat in &mut seats {
            seat.timing =
                Timing { heartbeat_ms: 500, election_ms_min: 3_000, election_ms_max: 6_000 };
            for to in all.iter().filter(|to| to.id != seat.member.id) {
                let address = slow_relay(to.peer.parse().unwrap(), delay).await;
                seat.routes.insert(to.id, address.to_string());
            }
        }
    }
    let nodes = found(&seats).await;
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
        "{at_once} at once, {bytes} bytes, leader {on_leader}, {delay:?}: {}/s, p50 {:?}, p99 {:?}",
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
            measure(at_once, 5_000, on_leader, None).await;
        }
    }
    measure(4, 20_000, true, None).await;
    // 200 ms there and back: one round trip is the least that agreement takes.
    let delay = Some(Duration::from_millis(100));
    for at_once in [1, 256, 2_048] {
        measure(at_once, 5_000, true, delay).await;
    }
}
