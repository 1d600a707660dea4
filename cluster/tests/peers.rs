//! Promise: only members speak to members. Whoever cannot prove which node it is, neither joins nor
//! appends; whatever else arrives on the port is answered or dropped, and costs little.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod common;

use std::time::Duration;

use cluster::{Error, PeerTls, Raft};
use common::authority::Authority;
use common::{PATIENCE, Root, Seat, assert_equal, command, found, seats};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn secured(count: u64, root: &Root, authority: &Authority) -> Vec<Seat> {
    let mut seats = seats(count, root.path());
    for seat in &mut seats {
        seat.tls = Some(authority.issue(seat.member.id));
    }
    seats
}

/// Adds `seat` as a learner and says whether it was ever reached.
async fn joins(cluster: &Raft, seat: &Seat) -> bool {
    let node = seat.start().await;
    cluster.add_learner(seat.member.clone()).await.unwrap();
    let mut status = node.raft.watch();
    let met = status.wait_for(|status| !status.members.is_empty());
    let joined = tokio::time::timeout(Duration::from_secs(2), met).await.is_ok();
    node.stop().await;
    joined
}

// The same cluster must work when everything is encrypted, forwarding and snapshots too.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_over_tls_replicates_and_transfers_snapshots() {
    let root = Root::new();
    let authority = Authority::new();
    let mut seats = secured(3, &root, &authority);
    for seat in &mut seats {
        (seat.snapshot_every, seat.keep_log) = (20, 5);
    }
    let mut nodes = found(&seats).await;
    for id in 0..60 {
        nodes[usize::try_from(id % 3).unwrap()].propose(id).await;
    }
    for node in &nodes {
        node.until("purged", |status| status.purged >= Some(20)).await;
    }
    let mut fourth = Seat::new(4, root.path());
    fourth.tls = Some(authority.issue(4));
    let fourth = fourth.start().await;
    nodes[1].raft.add_learner(fourth.seat.member.clone()).await.unwrap();
    nodes.push(fourth);
    assert_eq!(assert_equal(&nodes).await.applied.len(), 60);
    root.end(nodes).await;
}

// A stolen address, a certificate of another authority or of another node must not be enough.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_who_it_says_stays_outside() {
    let root = Root::new();
    let authority = Authority::new();
    let nodes = found(&secured(1, &root, &authority)).await;
    nodes[0].propose(1).await;

    let mut of_another = Seat::new(5, root.path());
    of_another.tls =
        Some(PeerTls { ca: authority.pem.clone().into_bytes(), ..Authority::new().issue(5) });
    assert!(!joins(&nodes[0].raft, &of_another).await, "a certificate of another authority");
    let mut plain = Seat::new(6, root.path());
    plain.tls = None;
    assert!(!joins(&nodes[0].raft, &plain).await, "no certificate at all");
    let mut member = Seat::new(7, root.path());
    member.tls = Some(authority.issue(7));
    assert!(joins(&nodes[0].raft, &member).await, "this one should have been let in");

    // Its certificate is good, but it is that of node 7 and not of node 8.
    let mut impostor = Seat::new(8, root.path());
    impostor.tls = Some(authority.issue(7));
    let Err(error) = impostor.try_start().await else { panic!("it started") };
    assert!(error.to_string().contains("node-8.stockraft"), "{error}");

    nodes[0].propose(2).await;
    root.end(nodes).await;
}

// A member listed under the address of another must be refused, not fed the other's entries.
#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_node_at_an_address_is_refused() {
    let root = Root::new();
    let nodes = found(&seats(1, root.path())).await;
    let stranger = Seat::new(2, root.path()).start().await;
    let mut wrong = Seat::new(3, root.path()).member;
    wrong.peer.clone_from(&stranger.seat.member.peer);
    nodes[0].raft.add_learner(wrong).await.unwrap();
    nodes[0].propose(1).await;
    // By the time that one who was added later has everything, the other was tried.
    let rightful = Seat::new(4, root.path()).start().await;
    nodes[0].raft.add_learner(rightful.seat.member.clone()).await.unwrap();
    rightful.until("its entries", |status| !status.members.is_empty()).await;
    assert!(stranger.raft.status().members.is_empty(), "node 2 took what was meant for node 3");
    stranger.stop().await;
    rightful.stop().await;
    root.end(nodes).await;
}

// Without certificates anyone who reaches the port could append; so it is loopback or nothing.
#[tokio::test(flavor = "multi_thread")]
async fn without_certificates_only_loopback_is_spoken_to() {
    let root = Root::new();
    let mut seat = Seat::new(1, root.path());
    seat.member.peer = "0.0.0.0:0".to_owned();
    let Err(error) = seat.try_start().await else { panic!("it listens on all addresses") };
    assert!(matches!(error, Error::NotLoopback(_)), "{error}");

    let mut seat = Seat::new(1, root.path());
    seat.tls = Some(PeerTls { ca: b"no pem".to_vec(), cert: Vec::new(), key: Vec::new() });
    let Err(error) = seat.try_start().await else { panic!("it starts with an empty authority") };
    assert!(matches!(error, Error::Tls(_)), "{error}");
}

// What an operator most often gets wrong must be said in one line.
#[tokio::test(flavor = "multi_thread")]
async fn mistakes_of_the_operator_are_named() {
    let root = Root::new();
    let seat = Seat::new(1, root.path());
    let node = seat.start().await;

    let Err(error) = seat.try_start().await else { panic!("two nodes on one port") };
    assert!(matches!(error, Error::Listen { .. }), "{error}");
    let mut other = Seat::new(1, root.path());
    other.dir.clone_from(&seat.dir);
    let Err(error) = other.try_start().await else { panic!("two nodes in one directory") };
    assert!(error.to_string().contains("in use by another process"), "{error}");
    node.stop().await;
    let mut other = Seat::new(2, root.path());
    other.dir.clone_from(&seat.dir);
    let Err(error) = other.try_start().await else { panic!("node 2 started as node 1") };
    assert!(matches!(error, Error::OtherNode { found: 1, wanted: 2, .. }), "{error}");
}

async fn say(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, tcp.read_to_end(&mut answer)).await.unwrap();
    answer
}

// The port is reachable by more than peers: health checks, scanners, and worse.
#[tokio::test(flavor = "multi_thread")]
async fn the_port_answers_health_checks_and_survives_noise() {
    const UPGRADE: &str = "GET /peer HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\n\
                           upgrade: stockraft-peer\r\n\r\n";
    let root = Root::new();
    let nodes = found(&seats(1, root.path())).await;
    let address = nodes[0].seat.member.peer.clone();

    let healthy =
        say(&address, b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(healthy.starts_with(b"HTTP/1.1 200 OK"));
    let plain = say(&address, b"GET /peer HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(plain.starts_with(b"HTTP/1.1 426"));
    say(&address, &[0xff; 4096]).await;
    // A frame that claims 4 GiB, one of garbage, and a greeting by nobody to nobody.
    for frame in [vec![0xff; 4], vec![0, 0, 0, 3, 9, 9, 9], vec![0, 0, 0, 5, 1, 1, 0, 0, 0]] {
        let answer = say(&address, &[UPGRADE.as_bytes(), &frame].concat()).await;
        assert!(answer.starts_with(b"HTTP/1.1 101"));
        assert!(answer.len() < 1024, "it was served: {} bytes", answer.len());
    }
    nodes[0].propose(1).await;
    let reply = nodes[0].raft.propose(command(2), PATIENCE).await.unwrap();
    assert!(reply.index > 0);
    root.end(nodes).await;
}
