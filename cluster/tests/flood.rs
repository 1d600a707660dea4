//! Promise: connections that say nothing, or half of something, cost a node little memory and keep no peer out.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod common;

use std::collections::VecDeque;
use std::time::Duration;

use common::authority::Authority;
use common::stranger::{APPEND, Attacked, CONTROL, Stranger};
use common::{PATIENCE, Root, assert_equal, found, seats};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// Bytes of memory that this process has in use.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}

// A length is four bytes and costs nothing to claim; whoever keeps what was claimed, or what was begun, for as
// long as a connection says nothing, runs out of memory or of connections.
#[tokio::test(flavor = "multi_thread")]
async fn half_a_frame_and_silence_cost_little_and_keep_nobody_out() {
    const MEBIBYTE: usize = 1024 * 1024;
    let root = Root::new();
    let mut attacked = Attacked::begin(&root, false).await;
    let (id, address) = (attacked.nodes[0].id(), attacked.nodes[0].seat.member.peer.clone());
    let before = resident();
    // As so many nodes, since each has one connection for each purpose.
    let mut silent = Vec::new();
    for from in 100..300 {
        let stranger = Stranger::connect(&address, id, None).await.unwrap();
        let mut stranger =
            stranger.greet(from, id, if from % 2 == 0 { APPEND } else { CONTROL }).await.unwrap();
        stranger.raw(&[&(16_u32 << 20).to_be_bytes()[..], b"half"].concat()).await;
        silent.push(stranger);
    }
    attacked.is_unharmed("200 half frames").await;
    let grown = resident().saturating_sub(before);
    assert!(grown < 100 * MEBIBYTE, "{} MiB for 200 half frames", grown / MEBIBYTE);

    // Another connection of one of them takes the place of the first.
    let again = Stranger::connect(&address, id, None).await.unwrap();
    let _again = again.greet(100, id, APPEND).await.unwrap();
    assert!(silent[0].is_cut_off().await);

    // Whoever does not even say who it is, is not waited for.
    let mut greeted_by_none = Stranger::connect(&address, id, None).await.unwrap();
    greeted_by_none.raw(&[0, 0]).await;
    let mut tcp = TcpStream::connect(&address).await.unwrap();
    tcp.write_all(b"GET /peer HT").await.unwrap();
    let mut half_a_head = Stranger(Box::new(tcp));
    let (one, other) = tokio::join!(greeted_by_none.is_cut_off(), half_a_head.is_cut_off());
    assert!(one && other, "silence is waited for without end");
    drop(silent);
    root.end(attacked.nodes).await;
}

// The port may be open to more than peers. Connections that say nothing must cost a peer neither the connections
// that it has nor those that it wants to make.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_connections_keeps_no_peer_out() {
    let root = Root::new();
    let authority = Authority::new();
    let mut seats = seats(3, root.path());
    for seat in &mut seats {
        seat.tls = Some(authority.issue(seat.member.id));
    }
    let mut nodes = found(&seats).await;
    assert_equal(&nodes).await;
    let seat = nodes.pop().unwrap().stop().await;
    let address = nodes[0].seat.member.peer.clone();
    let flood = tokio::spawn(async move {
        let mut open = VecDeque::new();
        loop {
            if let Ok(tcp) = TcpStream::connect(&address).await {
                open.push_back(tcp);
            }
            if open.len() > 400 {
                // More than there is room for: whoever came first has had to go.
                let first: TcpStream = open.pop_front().unwrap();
                let gone = tokio::time::timeout(PATIENCE, first.readable()).await;
                assert!(gone.is_ok(), "connections are kept without end");
                assert!(!matches!(first.try_read(&mut [0]), Ok(1..)));
            }
            tokio::task::yield_now().await;
        }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let back = seat.start().await;
    nodes.push(back);
    let met = |status: &cluster::Status| status.members.iter().all(|member| member.reachable);
    for node in &nodes {
        node.until("all are met", met).await;
        node.propose(node.id()).await;
    }
    assert_equal(&nodes).await;
    assert!(!flood.is_finished(), "{:?}", flood.await);
    flood.abort();
    root.end(nodes).await;
}
