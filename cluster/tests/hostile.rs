//! Promise: whatever a peer sends, with a certificate that is good or over loopback, a node refuses what cannot
//! be, says so, keeps its memory, its state and its other connections, and goes on.
//!
//! Raft does not protect against a member that lies within the protocol; this is about bytes that no node of any
//! release would send.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use std::sync::{Arc, Mutex, OnceLock};

use cluster::{Member, codec};
use common::impostor::{Answer, Impostor, call};
use common::stranger::{APPEND, Attacked, CONTROL, FORWARD, SNAPSHOT, Stranger, WHO, framed};
use common::{Node, PATIENCE, Root};

type LogId = (u64, u64);
type Vote = (u64, u64, bool);
/// Of an entry that holds nothing.
type Blank = (LogId, u32);
type Append = (Vote, Option<LogId>, Vec<Blank>, Option<LogId>);

/// A term that would depose everybody, were it believed.
const LATE: u64 = 1_000;
const VOTE: Vote = (LATE, WHO, true);

fn blank(term: u64, index: u64) -> Blank {
    ((term, index), 0)
}

fn append(previous: Option<LogId>, entries: &[Blank]) -> Append {
    (VOTE, previous, entries.to_vec(), None)
}

type Members = (Vec<BTreeSet<u64>>, BTreeMap<u64, Member>);
/// What stands before a snapshot: its last entry, the members and where they stand, the agreed time.
type Header = (Option<LogId>, (Option<LogId>, Members), u64);

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
        ("entries without end", append(None, &vec![blank(1, 1); 200_000])),
    ]
}

/// What is said at the level of a warning and above.
fn said() -> Arc<Mutex<Vec<u8>>> {
    static SAID: OnceLock<Arc<Mutex<Vec<u8>>>> = OnceLock::new();
    let said = SAID.get_or_init(|| {
        let said: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (to, level) = (Arc::clone(&said), tracing::Level::WARN);
        let to = move || To(Arc::clone(&to));
        tracing_subscriber::fmt().with_ansi(false).with_max_level(level).with_writer(to).init();
        said
    });
    Arc::clone(said)
}

struct To(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for To {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn attack(secure: bool) {
    let said = said();
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
    // Whoever looks after the node is told who it was and what was wrong, not once for each of hundreds.
    let said = String::from_utf8(said.lock().unwrap().clone()).unwrap();
    let told: Vec<_> =
        said.lines().filter(|line| line.contains("node 3 was cut off error=")).collect();
    assert!((1..60).contains(&told.len()), "{} lines: {said}", told.len());
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

/// A snapshot as the toy machine sends it, but for what is wrong with it.
struct Sent {
    vote: Vote,
    header: Header,
    body: Vec<u8>,
    /// Added to what is told at the end: the number of bytes, and their checksum.
    off: (u64, u32),
    ends: bool,
}

impl Sent {
    fn good(node: &Node) -> Self {
        let members = node.raft.status().members;
        let members: BTreeMap<_, _> =
            members.into_iter().map(|known| (known.member.id, known.member)).collect();
        let voters = vec![members.keys().copied().collect()];
        let last = Some((LATE, 1_000_000));
        let header = (last, (Some((1, 0)), (voters, members)), 1);
        Self { vote: VOTE, header, body: Self::state(&[]), off: (0, 0), ends: true }
    }

    /// Turned over, as its transfer form is.
    fn state(local: &[u8]) -> Vec<u8> {
        codec::encode(&local.iter().map(|byte| !byte).collect::<Vec<u8>>())
    }

    async fn send(&self, stranger: &mut Stranger) {
        let Self { vote, header, body, off, ends } = self;
        stranger.raw(&framed(&codec::encode(&(0_u32, vote, header)))).await;
        for piece in body.chunks(100_000) {
            stranger.raw(&framed(&codec::encode(&(1_u32, piece)))).await;
        }
        if *ends {
            let bytes = u64::try_from(body.len()).unwrap() + off.0;
            let crc = crc32fast::hash(body).wrapping_add(off.1);
            stranger.raw(&framed(&codec::encode(&(2_u32, bytes, crc)))).await;
        } else {
            stranger.raw(&[0, 0, 1]).await;
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut stranger.0).await;
        }
    }
}

/// A value that claims to be 2^40 bytes long.
fn huge() -> Vec<u8> {
    let mut bytes = vec![codec::FORMAT, 253];
    bytes.extend_from_slice(&(1_u64 << 40).to_le_bytes());
    bytes
}

fn snapshots(node: &Node) -> Vec<(&'static str, Sent)> {
    let good = || Sent::good(node);
    let (last, at, time) = good().header;
    let (place, (voters, members)) = at;
    let with = |header| Sent { header, ..good() };
    let nobody = (vec![BTreeSet::from([99])], members.clone());
    let agreed = node.raft.status().committed.unwrap();
    // Local form: a map of counts, the time, whether it went back, the ballast.
    let claims = [&[codec::FORMAT, 252][..], &(1_u32 << 31).to_le_bytes()].concat();
    vec![
        ("cut short", Sent { ends: false, ..good() }),
        ("a wrong checksum", Sent { off: (0, 1), ..good() }),
        ("fewer bytes than told", Sent { off: (1, 0), ..good() }),
        ("another node's vote", Sent { vote: (LATE, 1, true), ..good() }),
        ("a vote that nobody won", Sent { vote: (LATE, WHO, false), ..good() }),
        ("later than its vote", Sent { vote: (LATE - 1, WHO, true), ..good() }),
        (
            "beyond all indexes",
            with((Some((1, u64::MAX)), (place, (voters.clone(), members.clone())), 1)),
        ),
        ("members that are none", with((last, (place, nobody), time))),
        (
            "members of later",
            with((last, (Some((LATE, 2_000_000)), (voters.clone(), members.clone())), 1)),
        ),
        (
            "another past than what was agreed on",
            with((Some((LATE, agreed.saturating_sub(1))), (place, (voters, members)), 1)),
        ),
        ("nothing in it", Sent { body: Vec::new(), ..good() }),
        ("noise in it", Sent { body: vec![0x5a; 400_000], ..good() }),
        ("a claim of 2^40 bytes", Sent { body: huge(), ..good() }),
        ("a state that is none", Sent { body: Sent::state(&[0x5a; 300]), ..good() }),
        ("a state that claims 2^31 counts", Sent { body: Sent::state(&claims), ..good() }),
        ("a state of a later release", Sent { body: Sent::state(&[codec::FORMAT + 1]), ..good() }),
    ]
}

// A snapshot replaces all that a node has. One that turns out to be unreadable when the old state is gone, or
// when raft has already counted on it, ends the node, now and at its next start.
#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_snapshot_is_refused_before_anything_is_replaced() {
    let root = Root::new();
    let mut attacked = Attacked::begin(&root, true).await;
    for victim in 0..2 {
        for (name, sent) in snapshots(&attacked.nodes[victim]) {
            let mut stranger = attacked.connect(&attacked.nodes[victim], SNAPSHOT).await;
            sent.send(&mut stranger).await;
            let rest = stranger.rest(PATIENCE).await.expect("it hangs up");
            // `Done` would be 1.
            assert_ne!(rest.get(5), Some(&1), "{name}: it was installed");
        }
        attacked.is_unharmed("hostile snapshots").await;
    }
    for node in &attacked.nodes {
        let left = std::fs::read_dir(node.seat.dir.join("snapshots")).unwrap().count();
        assert_eq!(left, 0, "what was received is still there");
    }
    // What proves that the others were refused for what was wrong with them.
    let machine = codec::encode(&(BTreeMap::<u64, u64>::new(), 1_u64, false, 0_usize));
    let mut good = Sent::good(&attacked.nodes[0]);
    good.body = Sent::state(&machine);
    let mut stranger = attacked.connect(&attacked.nodes[0], SNAPSHOT).await;
    good.send(&mut stranger).await;
    attacked.nodes[0].until("installed", |status| status.snapshot == Some(1_000_000)).await;
    root.end(attacked.nodes).await;
}

// A command that is larger than any may be would come to stand in the log, and fit no frame to any follower ever
// after; and whoever asks for what only peers with an office may ask must get nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_peers_to_ask_is_not_done() {
    let root = Root::new();
    let mut attacked = Attacked::begin(&root, true).await;
    for victim in 0..2 {
        let node = &attacked.nodes[victim];
        let command = vec![7_u8; 12 * 1024 * 1024];
        let mut stranger = attacked.connect(node, FORWARD).await;
        stranger.send(&(1_u64, 5_u32, 0_u32, command, 1_000_u64)).await.unwrap();
        let answer = stranger.frame().await.unwrap();
        // Answer 1, `Led`, and that is an error.
        assert_eq!(answer[..4], [codec::FORMAT, 1, 4, 1], "{answer:?}");
        let mut stranger = attacked.connect(node, CONTROL).await;
        let big = u64::MAX;
        stranger.send(&(1_u64, 1_u32, (big, WHO, false), None::<LogId>, false)).await.unwrap();
        stranger.send(&(2_u64, 2_u32, (LATE, 1_u64, false), None::<LogId>, false)).await.unwrap();
        stranger.send(&(3_u64, 4_u32, (LATE, 1, true), WHO, None::<LogId>)).await.unwrap();
        stranger.send(&(4_u64, 4_u32, (big, WHO, true), WHO, None::<LogId>)).await.unwrap();
        // To lead, on a connection that is not for it.
        stranger.send(&(5_u64, 5_u32, 1_u32, 1_000_u64)).await.unwrap();
        for _ in 0..5 {
            let answer = stranger.frame().await.unwrap();
            // `Failed`.
            assert_eq!(answer[2], 5, "{answer:?}");
        }
    }
    attacked.is_unharmed("asking too much").await;
    root.end(attacked.nodes).await;
}

/// What an impostor answers to entries and to heartbeats, and what that would do if it were believed.
fn lies() -> [(&'static str, Answer); 5] {
    fn on_control(frame: &[u8], appended: &impl serde::Serialize) -> Vec<u8> {
        match call(frame) {
            // A ping is answered, so that it counts as reached.
            (id, 0) => framed(&codec::encode(&(id, 0_u32, 1_700_000_000_000_u64))),
            (id, _) => framed(&codec::encode(&(id, 2_u32, appended))),
        }
    }
    [
        ("it has more than was sent", |purpose, frame| {
            let matched = (0_u32, Some((1_u64, 1_u64 << 40)));
            if purpose == 1 {
                framed(&codec::encode(&matched))
            } else {
                on_control(frame, &matched)
            }
        }),
        ("it misses what was never sent", |purpose, frame| {
            let conflict = (1_u32, (7_u64, 7_u64));
            if purpose == 1 {
                framed(&codec::encode(&conflict))
            } else {
                on_control(frame, &conflict)
            }
        }),
        ("it has voted in the last of all terms", |purpose, frame| {
            let higher = (2_u32, (u64::MAX, 2_u64, false));
            if purpose == 1 { framed(&codec::encode(&higher)) } else { on_control(frame, &higher) }
        }),
        ("it answers what nobody asked", |_, _| {
            let answer =
                |id: u64| framed(&codec::encode(&(id, 2_u32, 0_u32, Some((1_u64, 5_u64)))));
            [answer(1 << 50), answer(u64::MAX)].concat()
        }),
        ("it answers noise", |_, _| vec![0xff; 64]),
    ]
}

// A leader counts what followers say that they have. Were one believed that has more than it was sent, what no
// majority has would be agreed on; and raft ends the node over an answer that it takes for impossible.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_answers_wrongly_is_not_believed() {
    let tried = lies().into_iter().map(|(lie, answer)| async move {
        let root = Root::new();
        let mut attacked = Attacked::begin(&root, false).await;
        let mut impostor = Impostor::start(&attacked.seat.member.peer, answer).await;
        for round in 1..=2 {
            attacked.is_unharmed(lie).await;
            impostor.has_answered(round).await;
        }
        impostor.stop().await;
        // Its place is still kept, for the node itself.
        attacked.nodes.push(attacked.seat.start().await);
        attacked.is_unharmed(lie).await;
        root.end(attacked.nodes).await;
    });
    futures::future::join_all(tried).await;
}
