//! A toy machine, and nodes that replicate it over loopback.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]
#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod authority;
pub(crate) mod client;
pub(crate) mod disk;
pub(crate) mod impostor;
pub(crate) mod links;
pub(crate) mod stranger;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use cluster::{
    Config, Entry, Halt, Member, PeerTls, Raft, Snapshot, StateMachine, Status, Swap, Timing,
    Transfer, codec,
};

/// Whatever is awaited comes within this, or the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Counts how often each id was applied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counter {
    pub(crate) applied: BTreeMap<u64, u64>,
    pub(crate) at_ms: u64,
    pub(crate) time_went_back: bool,
    /// What lies beside the state, and travels only in the transfer form.
    pub(crate) ballast: usize,
}

impl StateMachine for Counter {
    fn apply(&mut self, entries: &[Entry<'_>]) -> Result<Vec<Vec<u8>>, Halt> {
        let mut replies = Vec::new();
        for entry in entries {
            if entry.command == b"halt" {
                return Err(Halt("asked to halt".to_owned()));
            }
            let (id, ballast): (u64, Vec<u8>) =
                codec::decode(entry.command).map_err(|error| Halt(error.to_string()))?;
            self.time_went_back |= entry.at_ms < self.at_ms;
            self.at_ms = entry.at_ms;
            self.ballast += ballast.len();
            *self.applied.entry(id).or_default() += 1;
            replies.push(codec::encode(&self.applied.len()));
        }
        Ok(replies)
    }

    fn snapshot(&self) -> Box<dyn Snapshot> {
        Box::new(self.clone())
    }

    fn restore(&self, local: &mut dyn Read) -> Result<Swap<Self>, Halt> {
        let state = codec::decode_from(local).map_err(|error| Halt(error.to_string()))?;
        let (applied, at_ms, time_went_back, ballast) = state;
        let restored = Self { applied, at_ms, time_went_back, ballast };
        Ok(Box::new(move |counter: &mut Self| *counter = restored))
    }

    fn transfer(&self) -> Arc<dyn Transfer> {
        Arc::new(Reversed)
    }
}

impl Snapshot for Counter {
    fn write(self: Box<Self>, to: &mut dyn Write) -> Result<(), Halt> {
        let state = (&self.applied, self.at_ms, self.time_went_back, self.ballast);
        codec::encode_into(&state, to).map_err(|error| Halt(error.to_string()))
    }
}

/// The transfer form is the local form with every bit turned over, and as much ballast behind it as
/// the state says: it proves that both translations ran, and makes a transfer as long as wanted.
struct Reversed;

impl Transfer for Reversed {
    fn export(&self, local: &mut dyn Read, to: &mut dyn Write) -> Result<(), Halt> {
        let mut state = Vec::new();
        local.read_to_end(&mut state)?;
        let mut machine = Counter::default();
        (machine.restore(&mut state.as_slice())?)(&mut machine);
        let turned: Vec<u8> = state.iter().map(|byte| !byte).collect();
        codec::encode_into(&turned, to).map_err(|error| Halt(error.to_string()))?;
        for _ in 0..machine.ballast / 1024 {
            to.write_all(&[7; 1024])?;
        }
        Ok(())
    }

    fn import(&self, from: &mut dyn Read, local: &mut dyn Write) -> Result<(), Halt> {
        let turned: Vec<u8> = codec::decode_from(from).map_err(|error| Halt(error.to_string()))?;
        let state: Vec<u8> = turned.iter().map(|byte| !byte).collect();
        let mut machine = Counter::default();
        (machine.restore(&mut state.as_slice())?)(&mut machine);
        let ballast = std::io::copy(from, &mut std::io::sink())?;
        assert_eq!(usize::try_from(ballast).unwrap(), machine.ballast / 1024 * 1024);
        Ok(local.write_all(&state)?)
    }
}

/// The command that counts `id` once.
pub(crate) fn command(id: u64) -> Vec<u8> {
    codec::encode(&(id, Vec::<u8>::new()))
}

/// The same with something to carry.
pub(crate) fn heavy(id: u64, bytes: usize) -> Vec<u8> {
    codec::encode(&(id, vec![1_u8; bytes]))
}

/// What all clocks say when a node starts.
pub(crate) const FIRST_MS: u64 = 1_700_000_000_000;

/// How a node of a test is set up; changed between starts as the test likes.
#[derive(Clone)]
pub(crate) struct Seat {
    pub(crate) member: Member,
    pub(crate) dir: PathBuf,
    pub(crate) tls: Option<PeerTls>,
    pub(crate) routes: BTreeMap<u64, String>,
    pub(crate) timing: Timing,
    pub(crate) snapshot_every: u64,
    pub(crate) keep_log: u64,
    /// What its clock is off by.
    pub(crate) clock_off_ms: Arc<AtomicI64>,
}

pub(crate) struct Node {
    pub(crate) seat: Seat,
    pub(crate) raft: Raft,
    pub(crate) machine: Arc<RwLock<Counter>>,
}

/// Where the nodes of one test live. Removed with it; kept when the test fails, since nodes that still
/// run would end the process if their disk went away.
pub(crate) struct Root(Option<tempfile::TempDir>);

impl Root {
    pub(crate) fn new() -> Self {
        Self(Some(tempfile::tempdir().unwrap()))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.as_ref().unwrap().path()
    }

    /// Stops what still runs; then the directory may go.
    pub(crate) async fn end(self, nodes: Vec<Node>) {
        for node in nodes {
            node.stop().await;
        }
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.0.take().map(tempfile::TempDir::keep);
        }
    }
}

/// A port that was free a moment ago, below those that the system gives to outgoing connections: a
/// node that starts again must find it free.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let next = u64::from(std::process::id()) * 97 + NEXT.fetch_add(1, Ordering::SeqCst);
        let address =
            SocketAddr::from(([127, 0, 0, 1], u16::try_from(10_000 + next % 20_000).unwrap()));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

impl Seat {
    pub(crate) fn new(id: u64, root: &Path) -> Self {
        let member = Member {
            id,
            region: format!("region-{id}"),
            peer: free_address().to_string(),
            admin: String::new(),
        };
        Self {
            member,
            dir: root.join(format!("node-{id}")),
            tls: None,
            routes: BTreeMap::new(),
            timing: Timing { heartbeat_ms: 100, election_ms_min: 300, election_ms_max: 600 },
            snapshot_every: 1_000_000,
            keep_log: 1_000_000,
            clock_off_ms: Arc::default(),
        }
    }

    pub(crate) fn config(&self) -> Config {
        let off = Arc::clone(&self.clock_off_ms);
        let began = std::time::Instant::now();
        let clock = move || {
            let now = i64::try_from(began.elapsed().as_millis()).unwrap();
            FIRST_MS.checked_add_signed(now + off.load(Ordering::SeqCst)).unwrap()
        };
        let listen = self.member.peer.parse().unwrap();
        let mut config =
            Config::new(self.member.clone(), self.dir.clone(), listen, Arc::new(clock));
        config.timing = self.timing;
        config.tls.clone_from(&self.tls);
        config.routes.clone_from(&self.routes);
        config.snapshot_every = self.snapshot_every;
        config.keep_log = self.keep_log;
        config
    }

    pub(crate) async fn start(&self) -> Node {
        self.try_start().await.unwrap()
    }

    pub(crate) async fn try_start(&self) -> Result<Node, cluster::Error> {
        let machine = Arc::new(RwLock::new(Counter::default()));
        let raft = Raft::start(self.config(), Arc::clone(&machine)).await?;
        Ok(Node { seat: self.clone(), raft, machine })
    }
}

impl Node {
    pub(crate) fn id(&self) -> u64 {
        self.seat.member.id
    }

    pub(crate) fn counter(&self) -> Counter {
        self.machine.read().unwrap().clone()
    }

    pub(crate) async fn propose(&self, id: u64) -> cluster::Reply {
        self.raft.propose(command(id), PATIENCE).await.unwrap()
    }

    pub(crate) async fn until(&self, what: &str, done: impl Fn(&Status) -> bool) -> Status {
        let mut status = self.raft.watch();
        let waiting = tokio::time::timeout(PATIENCE, status.wait_for(|status| done(status))).await;
        match waiting {
            Ok(status) => status.unwrap().clone(),
            Err(late) => panic!("node {}: {what}: {late}: {:#?}", self.id(), self.raft.status()),
        }
    }

    pub(crate) async fn leader(&self) -> u64 {
        self.until("a leader", |status| status.leader.is_some()).await.leader.unwrap()
    }

    pub(crate) async fn stop(self) -> Seat {
        tokio::time::timeout(PATIENCE, self.raft.shutdown()).await.unwrap();
        self.seat
    }
}

/// Nodes with these ids, founded by the first of them.
pub(crate) async fn found(seats: &[Seat]) -> Vec<Node> {
    let mut nodes = Vec::new();
    for seat in seats {
        nodes.push(seat.start().await);
    }
    let members = seats.iter().map(|seat| seat.member.clone()).collect();
    nodes[0].raft.init(members).await.unwrap();
    for node in &nodes {
        node.leader().await;
    }
    nodes
}

pub(crate) fn seats(count: u64, root: &Path) -> Vec<Seat> {
    (1..=count).map(|id| Seat::new(id, root)).collect()
}

/// All nodes have applied all that was agreed on, and are equal.
pub(crate) async fn assert_equal(nodes: &[Node]) -> Counter {
    let mut newest = 0;
    for node in nodes {
        newest = newest.max(node.raft.barrier(PATIENCE).await.unwrap());
    }
    for node in nodes {
        tokio::time::timeout(PATIENCE, node.raft.applied(newest)).await.unwrap();
    }
    let first = nodes[0].counter();
    assert!(!first.time_went_back, "agreed time went back");
    for node in nodes {
        assert!(node.counter() == first, "node {} differs from node {}", node.id(), nodes[0].id());
    }
    first
}
