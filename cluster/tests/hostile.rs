//! Promise: whatever a peer sends, with a certificate that is good or over loopback, a node refuses what cannot
//! be, says so, keeps its memory, its state and its other connections, and goes on.
//!
//! Raft does not protect against a member that lies within the protocol; this is about bytes that no node of any
//! release would send.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cluster::{Member, PeerTls, codec};
use common::authority::Authority;
use common::stranger::{APPEND, CONTROL, FORWARD, SNAPSHOT, Stranger, framed};
use common::{Node, PATIENCE, Root, Seat, assert_equal, found, seats};

type LogId = (u64, u64);
type Vote = (u64, u64, bool);
/// Of an entry that holds nothing.
type Blank = (LogId, u32);
type Append = (Vote, Option<LogId>, Vec<Blank>, Option<LogId>);

/// Who the attacker is: a member whose node does not run.
const WHO: u64 = 3;
/// A term that would depose everybody, were it believed.
const LATE: u64 = 1_000;
const VOTE: Vote = (LATE, WHO, true);

fn blank(term: u64, index: u64) -> Blank {
    ((term, index), 0)
}

fn append(previous: Option<LogId>, entries: &[Blank]) -> Append {
    (VOTE, previous, entries.to_vec(), None)
}

/// Two nodes of three, and what the third would need to speak to them.
struct Attacked {
    nodes: Vec<Node>,
    tls: Option<PeerTls>,
    term: u64,
    next: u64,
}

impl Attacked {
    async fn begin(root: &Root, secure: bool) -> Self {
        let authority = Authority::new();
        let mut seats = seats(3, root.path());
        for seat in seats.iter_mut().filter(|_| secure) {
            seat.tls = Some(authority.issue(seat.member.id));
        }
        let mut nodes = found(&seats).await;
        assert_equal(&nodes).await;
        let tls = nodes.pop().unwrap().stop().await.tls;
        nodes[0].until("another leads", |s| s.leader.is_some_and(|id| id != WHO)).await;
        nodes[0].propose(0).await;
        let term = nodes[0].raft.status().term;
        Self { nodes, tls, term, next: 1 }
    }

    async fn connect(&self, to: &Node, purpose: u32) -> Stranger {
        let (id, address) = (to.id(), &to.seat.member.peer);
        let stranger = Stranger::connect(address, id, self.tls.as_ref()).await.unwrap();
        stranger.greet(WHO, id, purpose).await.unwrap()
    }

    /// Both go on, in the same term, with what was agreed on and nothing else.
    async fn is_unharmed(&mut self, attack: &str) {
        for node in &self.nodes {
            let proposed = node.raft.propose(common::command(self.next), PATIENCE).await;
            proposed.unwrap_or_else(|error| panic!("after {attack}: {error}"));
            self.next += 1;
        }
        for node in &self.nodes {
            let status = node.raft.status();
            assert_eq!(status.term, self.term, "{attack}: it was believed");
            assert_eq!(status.members.len(), 3, "{attack}");
        }
        let counter = assert_equal(&self.nodes).await;
        let right = counter.applied.len() == usize::try_from(self.next).unwrap()
            && counter.applied.values().all(|times| *times == 1);
        assert!(right, "{attack}: {:?}", counter.applied);
    }
}

/// Frames that end a connection wherever they come.
fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let whole = codec::encode(&append(None, &[]));
    let mut newer = whole.clone();
    newer[0] += 1;
    vec![
        ("a frame of 4 GiB", vec![0xff; 4]),
        ("a frame just above the limit", (16_u32 * 1024 * 1024 + 1).to_be_bytes().to_vec()),
        ("an empty frame", framed(&[])),
        ("noise", framed(&[0x5a; 300])),
        ("a format of a later release", framed(&newer)),
        ("a message cut short", framed(&whole[..whole.len() - 1])),
        ("a message with more behind it", framed(&[&whole[..], b"more"].concat())),
        ("a claim of 2^60 entries", {
            let mut bytes = codec::encode(&(VOTE, None::<LogId>));
            bytes.push(253);
            bytes.extend_from_slice(&(1_u64 << 60).to_le_bytes());
            framed(&bytes)
        }),
    ]
}

/// Entries that no leader can have sent.
fn impossible() -> Vec<(&'static str, Append)> {
    let big = u64::MAX;
    vec![
        ("another node's vote", ((LATE, 1, true), None, Vec::new(), None)),
        ("a vote that nobody won", ((LATE, WHO, false), None, Vec::new(), None)),
        ("the last of all terms", ((big, WHO, true), None, Vec::new(), None)),
        ("the last of all indexes before", append(Some((1, big)), &[])),
        ("a gap", append(None, &[blank(1, 0), blank(1, 2)])),
        ("entries that begin late", append(Some((1, 1)), &[blank(1, 3)])),
        ("entries that begin again", append(Some((1, 1)), &[blank(1, 1)])),
        ("terms that fall", append(None, &[blank(2, 0), blank(1, 1)])),
        ("a later term than its vote", append(None, &[blank(LATE + 1, 0)])),
        ("agreed on beyond all", (VOTE, None, Vec::new(), Some((1, big)))),
        ("agreed on in a later term", (VOTE, None, Vec::new(), Some((LATE + 1, 1)))),
        ("entries without end", append(None, &vec![blank(1, 1); 2_000_000])),
    ]
}

async fn attack(secure: bool) {
    let root = Root::new();
    let mut attacked = Attacked::begin(&root, secure).await;
    for victim in 0..2 {
        for purpose in [CONTROL, APPEND, SNAPSHOT, FORWARD] {
            for (name, bytes) in malformed() {
                let mut stranger = attacked.connect(&attacked.nodes[victim], purpose).await;
                stranger.raw(&bytes).await;
                assert!(stranger.is_cut_off().await, "{name}, for {purpose}: it is still served");
            }
        }
        for (name, append) in impossible() {
            let mut stranger = attacked.connect(&attacked.nodes[victim], APPEND).await;
            stranger.raw(&framed(&codec::encode(&append))).await;
            assert!(stranger.is_cut_off().await, "{name}: it is still served");
            // The same as a heartbeat: an answer, and no effect.
            let mut stranger = attacked.connect(&attacked.nodes[victim], CONTROL).await;
            stranger.raw(&framed(&codec::encode(&(1_u64, 3_u32, append)))).await;
            stranger.send(&(2_u64, 0_u32)).await.unwrap_or(());
            let _ = tokio::time::timeout(PATIENCE, stranger.frame()).await.unwrap();
        }
        attacked.is_unharmed("malformed messages").await;
    }
    root.end(attacked.nodes).await;
}

// A panic in raft, a term that nobody reached, an entry out of nothing: each of these is one frame away from
// whoever has a certificate, be it a node with a broken memory.
#[tokio::test(flavor = "multi_thread")]
async fn malformed_messages_harm_nobody_over_tls() {
    attack(true).await;
}

// On loopback anyone can connect.
#[tokio::test(flavor = "multi_thread")]
async fn malformed_messages_harm_nobody_on_loopback() {
    attack(false).await;
}
