//! A simulated node: the product's inbox, submitter, pushers, pollers and chores over a simulated disk and
//! a simulated consensus. It dies, and is started again from what it had on its disk.

use std::sync::Arc;
use std::time::Duration;

use cluster::Clock;
use state::origin::Origin;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::consensus::{Peer, SNAPSHOT_EVERY};
use super::disk::{Disk, Platter};
use super::follow;
use super::market::Shop;
use super::replica::{Frozen, Replica, Snapshot};
use super::world::{NODES, Sim, World};
use crate::channel::key;
use crate::config::{Ack, Ingest};
use crate::escrow::{self, Escrow};
use crate::inbox::{Bounds, Inbox};
use crate::intake::Intake;
use crate::measures::Measures;
use crate::poll::{self, Poller};
use crate::propagate::{self, Pusher};
use crate::topics::Topics;
use crate::{chores, submit, velocity};

/// Between taking a snapshot and having it on disk.
const SNAPSHOT_MS: u64 = 3_000;
const BOUNDS: Bounds =
    Bounds { waiting_bytes: 1 << 20, keep_ms: 24 * 60 * 60 * 1000, free_disk: 256 << 20 };

/// One node, up or down.
#[derive(Default)]
pub(super) struct Node {
    pub(super) up: bool,
    /// Whether it can reach the others.
    pub(super) cut: bool,
    /// Nothing is applied here before this time.
    pub(super) lags_until: u64,
    /// Grows with each start.
    pub(super) boot: u64,
    /// How far its clock is ahead of the true time, in milliseconds.
    pub(super) clock_ahead: i64,
    pub(super) disk: Platter,
    pub(super) replica: Replica,
    /// On its disk.
    pub(super) snapshot: Option<Snapshot>,
    /// On its way there, and when it began.
    freezing: Option<(Frozen, u64)>,
    /// Where webhooks are taken, while it is up.
    pub(super) door: Option<Door>,
    pub(super) inbox: Option<Inbox<Disk>>,
    /// What it grants by itself, while it is up.
    pub(super) escrow: Option<Escrow<Peer, Disk>>,
    /// Where topics are asked, while it is up.
    pub(super) topics: Option<Topics>,
    /// Something was agreed on.
    pub(super) agreed: Arc<Notify>,
    /// Those who want to know what was applied here.
    pub(super) watched: Vec<watch::Sender<u64>>,
    tasks: Vec<AbortHandle>,
}

/// Where a node takes webhooks.
#[derive(Clone)]
pub(super) struct Door {
    /// What is on its disk is promised.
    pub(super) local: Intake<Disk>,
    /// What is agreed on is.
    pub(super) quorum: Intake<Disk>,
    pub(super) stop: CancellationToken,
}

/// How a node dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// The process alone: what the system holds stays.
    Process,
    /// Its power is gone, and with it what its disk was not told to keep.
    Power,
    /// Its disk is destroyed.
    Disk,
}

impl Node {
    /// What its clock shows.
    pub(super) const fn clock(&self, now: u64) -> u64 {
        now.saturating_add_signed(self.clock_ahead)
    }
}

/// Starts a node, as its process would start.
pub(super) fn start(sim: &Sim, n: usize) {
    let incarnation = sim.with(|world| {
        restore(world, n);
        let incarnation = world.dice.next_u64();
        let node = world.node(n);
        (node.up, node.boot) = (true, node.boot + 1);
        node.watched.clear();
        incarnation
    });
    let id = u64::try_from(n).unwrap_or(0) + 1;
    let origin = Origin { node: id, incarnation };
    let of_clock = sim.clone();
    let clock: Clock = Arc::new(move || {
        of_clock.with(|world| {
            let now = world.now;
            world.node(n).clock(now)
        })
    });
    let measures = Arc::new(Measures::new());
    let disk = Disk { sim: sim.clone(), node: n };
    let opened = Inbox::over(disk, origin, BOUNDS, Arc::clone(&clock), Arc::clone(&measures));
    let (inbox, writer) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            sim.with(|world| world.breaks("I1", format!("node {id} does not start: {error}")));
            return;
        }
    };
    let stop = CancellationToken::new();
    let ingest = &sim.config().ingest;
    let removed = watch::channel(false).1;
    let local = Intake::new(inbox.clone(), ingest, removed.clone());
    let waits = Ingest { ack: Ack::Quorum, ..ingest.clone() };
    let quorum = Intake::new(inbox.clone(), &waits, removed.clone());
    let (of_node, on_time) = (inbox.clone(), Arc::clone(&clock));
    let escrow = Escrow::new(Peer::new(sim, n), of_node, on_time, removed, Arc::clone(&measures));
    let process =
        Process { sim, n, id, clock, measures, intake: local.clone(), stop: stop.clone() };
    let mut tasks = process.run(inbox.clone());
    tasks.push(tokio::spawn(escrow.clone().run(stop.clone())).abort_handle());
    let sizes = escrow::size::run(Peer::new(sim, n), stop.clone());
    tasks.push(tokio::spawn(sizes).abort_handle());
    let topics = Topics::start(Peer::new(sim, n), &TaskTracker::new(), stop.clone());
    let of_writer = sim.clone();
    let written = async move {
        if writer.write_all().await.is_err() {
            // The process ends; somebody starts it again.
            tokio::spawn(fall(of_writer, n, Death::Process, Duration::from_secs(5)));
        }
    };
    tasks.push(tokio::spawn(written).abort_handle());
    sim.with(|world| {
        let node = world.node(n);
        (node.door, node.inbox, node.tasks) =
            (Some(Door { local, quorum, stop }), Some(inbox), tasks);
        node.topics = Some(topics);
        node.escrow = Some(escrow);
        world.elect();
    });
}

/// What the parts of one process share.
struct Process<'a> {
    sim: &'a Sim,
    n: usize,
    id: u64,
    clock: Clock,
    measures: Arc<Measures>,
    intake: Intake<Disk>,
    stop: CancellationToken,
}

impl Process<'_> {
    /// Starts all that runs beside the inbox.
    fn run(&self, inbox: Inbox<Disk>) -> Vec<AbortHandle> {
        let (sim, n, config) = (self.sim, self.n, self.sim.config());
        let (peer, stop) = (|| Peer::new(sim, n), || self.stop.clone());
        let outstanding = config.raft.segments_outstanding;
        let chores = chores::run(Arc::clone(&config), peer(), Arc::clone(&self.clock), stop());
        let eyes = (Arc::clone(&self.clock), Arc::clone(&self.measures));
        let measuring = velocity::run(self.id, config.allocation, peer(), eyes, stop());
        let mut tasks = vec![
            tokio::spawn(measuring).abort_handle(),
            tokio::spawn(submit::run(inbox, peer(), outstanding, stop())).abort_handle(),
            tokio::spawn(chores).abort_handle(),
            tokio::spawn(follow::follow(sim.clone(), n)).abort_handle(),
        ];
        let with_api = config.channels.iter().filter(|channel| channel.api.is_some());
        for (market, channel) in with_api.enumerate() {
            let client = Shop { sim: sim.clone(), market };
            let poller = Poller {
                channel: channel.clone(),
                source: client.clone(),
                node: self.id,
                cluster: peer(),
                intake: self.intake.clone(),
                clock: Arc::clone(&self.clock),
                measures: Arc::clone(&self.measures),
            };
            tasks.push(tokio::spawn(poll::run(poller, stop())).abort_handle());
            let measures = Arc::clone(&self.measures);
            let pusher = Pusher::new(channel.clone(), client, self.id, peer(), measures);
            tasks.push(tokio::spawn(propagate::run(pusher, stop())).abort_handle());
        }
        tasks
    }
}

/// What a node knows at its start: its newest snapshot; the log follows.
fn restore(world: &mut World, n: usize) {
    let Some(snapshot) = world.node(n).snapshot.clone() else {
        world.node(n).replica = Replica::default();
        return;
    };
    match Replica::restore(&snapshot) {
        Ok(replica) => {
            // It is held against the others' at the next entry at which they are.
            world.node(n).replica = replica;
            world.tally.reach("snapshot restored");
        }
        Err(how) => world.breaks("I11", format!("a snapshot cannot be read: {how}")),
    }
}

/// A node dies, and comes back after a while.
pub(super) async fn fall(sim: Sim, n: usize, death: Death, down: Duration) {
    let fell = sim.with(|world| {
        if !world.node(n).up {
            return false;
        }
        let pending = world.node(n).disk.pending();
        let survive = if death == Death::Process { pending } else { world.any(pending + 1) };
        let node = world.node(n);
        node.disk.crash(survive);
        if death == Death::Disk {
            (node.disk, node.snapshot) = (Platter::default(), None);
            let seen = &world.log.head.state.data().seen;
            world.book.disk_lost(n, |id| seen.get(&key(id.as_bytes())).is_some());
            world.granted.disk_lost(n, world.log.head.state.data());
        }
        let node = world.node(n);
        for task in node.tasks.drain(..) {
            task.abort();
        }
        if let Some(door) = node.door.take() {
            door.stop.cancel();
        }
        (node.up, node.cut, node.inbox, node.freezing) = (false, false, None, None);
        (node.topics, node.escrow) = (None, None);
        node.boot += 1;
        node.watched.clear();
        world.tally.reach("node down");
        true
    });
    if fell {
        elect_soon(&sim);
        sleep(down).await;
        start(&sim, n);
        if death == Death::Disk {
            super::escrow::say_destroyed(&sim, n);
        }
    }
}

/// A majority without a leader finds one after a while.
pub(super) fn elect_soon(sim: &Sim) {
    let sim = sim.clone();
    tokio::spawn(async move {
        let after = sim.with(|world| world.between(1_000, 4_000));
        sleep(after).await;
        sim.with(World::elect);
    });
}

/// A node applied an entry, or got a snapshot: it tells those who wait, and writes down where it is.
pub(super) fn applied(world: &mut World, n: usize) {
    let now = world.now;
    let node = world.node(n);
    let index = node.replica.index;
    for watched in &node.watched {
        watched.send_replace(index);
    }
    let ready = |(_, began): &(Frozen, u64)| now >= began + SNAPSHOT_MS;
    if node.freezing.as_ref().is_some_and(ready)
        && let Some((frozen, _)) = node.freezing.take()
    {
        let snapshot = world.log.written(&frozen);
        world.node(n).snapshot = Some(snapshot);
        let oldest = (0..NODES).map(|n| world.node(n).snapshot.as_ref().map_or(0, |s| s.index));
        // One node may be left behind by the others' logs.
        let mut snapshots: Vec<u64> = oldest.collect();
        snapshots.sort_unstable();
        let through = snapshots.get(1).copied().unwrap_or(0);
        world.log.purge(through);
    }
    let node = world.node(n);
    if index.is_multiple_of(SNAPSHOT_EVERY) {
        node.freezing = Some((node.replica.freeze(), now));
    }
}
