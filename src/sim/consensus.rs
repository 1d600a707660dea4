//! A simulated consensus: it gives commands one order and never forgets one, but leaders are lost, proposals
//! are late, overtaken or not answered, and nodes lag.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use cluster::{COMMAND_BYTES_MAX, Member, MemberStatus, ProposeError, Reply, Role, Status, codec};
use state::invariant::Sums;
use state::{Command, Effects, Stamp, State};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::faults::Fault;
use super::replica::{Entry, Frozen, Replica, Snapshot};
use super::truth::Truth;
use super::world::{NODES, SKEW_MAX, Sim, World};
use super::{names, workers};
use crate::agreed::Agreed;
use crate::history::Hash;

/// Replicas are compared as a whole at every so manieth entry.
pub(super) const DIGEST_EVERY: u64 = 256;
/// Entries between two snapshots of a node.
pub(super) const SNAPSHOT_EVERY: u64 = 512;
/// Replicas are compared where snapshots are taken.
const _: () = assert!(SNAPSHOT_EVERY.is_multiple_of(DIGEST_EVERY));
/// Snapshots that nodes share.
const WRITTEN_MAX: usize = 4;
/// Entries kept behind the oldest snapshot that somebody may need.
const KEEP: u64 = 128;

/// What was agreed on, and who leads.
#[derive(Default)]
pub(super) struct Log {
    entries: VecDeque<Entry>,
    /// The last entry that was forgotten.
    purged: u64,
    /// The state after the last entry.
    pub(super) head: Replica,
    pub(super) leader: Option<usize>,
    term: u64,
    /// Somebody may have found a leader.
    routes: Arc<Notify>,
    /// Digests by index, to compare replicas that come there later.
    digests: BTreeMap<u64, Hash>,
    /// Snapshots that somebody wrote, by index: replicas that are the same write the same.
    written: BTreeMap<u64, Snapshot>,
    /// All movements, added up.
    pub(super) sums: Sums,
    pub(super) truth: Truth,
}

impl Log {
    /// The entry that a replica at this index applies next.
    pub(super) fn after(&self, index: u64) -> Option<&Entry> {
        let at = self.entries.partition_point(|entry| entry.index <= index);
        self.entries.get(at)
    }

    /// Index of the last entry.
    pub(super) fn last(&self) -> u64 {
        self.entries.back().map_or(0, |entry| entry.index)
    }

    /// Whether a node that has applied through this index can go on from the log.
    pub(super) fn reaches_back_to(&self, index: u64) -> bool {
        index >= self.purged
    }

    /// Forgets entries that nobody needs any more.
    pub(super) fn purge(&mut self, through: u64) {
        let keep = through.saturating_sub(KEEP);
        while self.entries.front().is_some_and(|entry| entry.index < keep) {
            self.purged = self.entries.pop_front().map_or(self.purged, |entry| entry.index);
        }
        self.digests = self.digests.split_off(&through.saturating_sub(8 * SNAPSHOT_EVERY));
    }

    /// Writes a replica's snapshot, or finds it written by another that was the same.
    pub(super) fn written(&mut self, frozen: &Frozen) -> Snapshot {
        let known = self.written.get(&frozen.index).filter(|known| known.chain == frozen.chain);
        if let Some(known) = known {
            return known.clone();
        }
        let snapshot = frozen.write();
        self.written.insert(snapshot.index, snapshot.clone());
        while self.written.len() > WRITTEN_MAX {
            self.written.pop_first();
        }
        snapshot
    }

    /// Compares a replica with the first that came so far.
    pub(super) fn compare(&self, index: u64, digest: Hash) -> Result<(), String> {
        let known = self.digests.get(&index);
        let same = known.is_none_or(|known| *known == digest);
        if same { Ok(()) } else { Err(format!("another state at index {index}")) }
    }
}

impl World {
    /// Nodes that are up and not cut off.
    pub(super) fn connected(&self) -> Vec<usize> {
        let nodes = self.nodes().iter().enumerate();
        nodes.filter(|(_, node)| node.up && !node.cut).map(|(n, _)| n).collect()
    }

    /// The leader, if a majority can hear it.
    pub(super) fn leader(&self) -> Option<usize> {
        let connected = self.connected();
        let leads = |n: &usize| connected.len() * 2 > NODES && connected.contains(n);
        self.log.leader.filter(leads)
    }

    /// Whom a node would send a proposal to.
    fn route(&self, from: usize) -> Option<usize> {
        let reachable = self.connected().contains(&from);
        self.leader().filter(|_| reachable)
    }

    /// A majority that has no leader finds one.
    pub(super) fn elect(&mut self) {
        let connected = self.connected();
        self.log.routes.notify_waiters();
        if self.leader().is_some() || connected.len() * 2 <= NODES {
            return;
        }
        let n = self.any(connected.len());
        self.lead(connected.get(n).copied());
    }

    fn lead(&mut self, leader: Option<usize>) {
        self.log.leader = leader;
        self.log.term += 1;
        // Raft's own entry.
        self.log.head.index += 1;
        self.nodes().iter().for_each(|node| node.agreed.notify_one());
        self.note(&self.log.term.to_be_bytes());
        self.tally.reach("election");
    }

    /// How far a node's clock is ahead of the median of those that can be heard, as it would be judged.
    fn ahead(&self, leader: usize) -> i64 {
        let own = self.nodes().get(leader).map_or(0, |node| node.clock_ahead);
        let mut clocks: Vec<i64> = (self.connected().into_iter())
            .filter_map(|n| Some(self.nodes().get(n)?.clock_ahead - own))
            .collect();
        clocks.sort_unstable();
        let upper = clocks.get(clocks.len() / 2).copied().unwrap_or(0);
        let lower = clocks.get(clocks.len().saturating_sub(1) / 2).copied().unwrap_or(0);
        if upper.abs() < lower.abs() { -upper } else { -lower }
    }

    /// A leader agrees on a command, if it still leads and its clock may stamp.
    pub(super) fn agree(&mut self, leader: usize, command: Vec<u8>) -> Result<Reply, ProposeError> {
        let unavailable = |why: &str| Err(ProposeError::Unavailable(why.into()));
        if self.leader() != Some(leader) {
            return unavailable("another leads");
        }
        if self.ahead(leader).abs() > SKEW_MAX {
            self.tally.reach("a leader's clock may not stamp");
            let nodes = self.connected();
            let best = nodes.into_iter().min_by_key(|n| self.ahead(*n).abs());
            self.lead(best);
            return unavailable("the leader's clock is off");
        }
        let now = self.now;
        let clock = self.node(leader).clock(now);
        let at_ms = clock.max(self.log.head.state.data().now);
        Ok(self.commit(at_ms, command))
    }

    /// Puts a command into the log, and applies it to the head.
    pub(super) fn commit(&mut self, at_ms: u64, command: Vec<u8>) -> Reply {
        let index = self.log.head.index + 1;
        self.note(&command);
        let Ok(meant) = codec::decode::<Command>(&command) else {
            self.breaks("I6", "a command cannot be read");
            return Reply { index, bytes: Vec::new() };
        };
        self.tally.reach(names::of_command(&meant));
        let known = match meant {
            Command::Intend { .. } | Command::Request { .. } | Command::Settle { .. } => {
                Some(meant.clone())
            }
            _ => None,
        };
        let claim = match &meant {
            Command::Claim { channel, node } => Some((channel.clone(), *node)),
            _ => None,
        };
        let asks = if let Command::Queue(asks) = &meant { asks.clone() } else { Vec::new() };
        let (reply, effects) = self.log.head.apply(Stamp { index, now: at_ms }, meant);
        self.tally.reach(names::of_reply(&reply));
        if let Some((channel, node)) =
            claim.filter(|_| matches!(reply, state::Reply::Claimed { .. }))
        {
            let known = self.log.head.state.data().channels.get(&channel);
            if known.is_some_and(|known| known.definition.home != Some(node)) {
                self.tally.reach("another node stood in");
            }
        }
        self.jobs.kept(index, &effects);
        self.desk.kept(index, &effects);
        if let state::Reply::Queue(answers) = &reply {
            let parts = workers::reached(&asks, answers);
            for part in &parts {
                self.tally.reach(part);
            }
        }
        if self.story.is_some()
            && let Ok(command) = codec::decode::<Command>(&command)
        {
            let told = names::in_words(&command, &reply);
            for line in told {
                self.tell(|| format!("agreed {index}: {line}"));
            }
        }
        let bytes = codec::encode(&reply);
        self.note(&bytes);
        self.account(&effects);
        if let Some(command) = known {
            let parts = names::of_parts(&command, &reply);
            for part in parts {
                self.tally.reach(part);
            }
            self.remember(&command, &reply, index);
        }
        let (command, agreed) = (command.into(), self.now);
        let (reply, chain) = (bytes.clone().into(), self.log.head.chain);
        self.log.entries.push_back(Entry { index, at_ms, command, agreed, reply, chain });
        if index.is_multiple_of(DIGEST_EVERY) {
            let digest = self.log.head.digest();
            self.log.digests.insert(index, digest);
            self.note(&digest);
        }
        self.nodes().iter().for_each(|node| node.agreed.notify_one());
        Reply { index, bytes }
    }

    fn account(&mut self, effects: &Effects) {
        for movement in &effects.movements {
            self.log.sums.add(movement);
            self.tally.reach(movement.kind.name());
            if movement.reason.as_deref() == Some("expired") {
                self.tally.reach("hold expired");
            }
            let now = self.log.head.state.data().now;
            self.log.truth.moved(movement, now);
        }
        if !effects.bodies.is_empty() {
            self.tally.reach("dead letter");
        }
        for _ in 0..effects.duplicates {
            self.tally.reach("duplicate");
        }
        for _ in &effects.confirmed {
            self.tally.reach("listing confirmed");
        }
    }
}

/// What may become of a proposal.
enum Fate {
    Fine,
    Lost,
    Discarded,
    Unanswered,
}

/// One node's part of the consensus.
#[derive(Clone)]
pub(super) struct Peer {
    sim: Sim,
    node: usize,
    applied: watch::Sender<u64>,
}

impl Peer {
    /// A handle of its own for each that waits: who of several is woken first would be left to chance.
    pub(super) fn new(sim: &Sim, node: usize) -> Self {
        let applied = watch::Sender::new(0);
        sim.with(|world| world.node(node).watched.push(applied.clone()));
        Self { sim: sim.clone(), node, applied }
    }
}

impl Agreed for Peer {
    fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.sim.with(|world| look(&world.node(self.node).replica.state))
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    fn status(&self) -> Status {
        self.sim.with(|world| status(world, self.node))
    }

    async fn applied(&self, index: u64) {
        let mut applied = self.applied.subscribe();
        while self.sim.with(|world| world.node(self.node).replica.index) < index {
            if applied.changed().await.is_err() {
                return;
            }
        }
    }

    async fn propose(&self, command: Vec<u8>, limit: Duration) -> Result<Reply, ProposeError> {
        let bytes = command.len();
        if bytes > COMMAND_BYTES_MAX {
            return Err(ProposeError::TooLarge { bytes, bytes_max: COMMAND_BYTES_MAX });
        }
        propose(&self.sim, self.node, command, limit).await
    }
}

/// Proposes at a node.
pub(super) async fn propose(sim: &Sim, n: usize, command: Vec<u8>, limit: Duration) -> Answer {
    let (done, answer) = oneshot::channel();
    let until = Instant::now() + limit;
    // What is under way goes on when the node that sent it dies.
    tokio::spawn(travel(sim.clone(), n, command, until, done));
    match timeout(limit, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) | Err(_) => Err(ProposeError::Unknown("not agreed on in time".into())),
    }
}

type Answer = Result<Reply, ProposeError>;

async fn travel(
    sim: Sim,
    from: usize,
    command: Vec<u8>,
    until: Instant,
    done: oneshot::Sender<Answer>,
) {
    let boot = sim.with(|world| world.node(from).boot);
    let leader = loop {
        if let Some(leader) = sim.with(|world| world.route(from)) {
            break leader;
        }
        let changed = sim.with(|world| Arc::clone(&world.log.routes));
        if timeout_at(until, changed.notified()).await.is_err() {
            let _ = done.send(Err(ProposeError::Unavailable("there is no leader".into())));
            return;
        }
        if sim.with(|world| world.node(from).boot != boot) {
            return;
        }
    };
    let (fate, there, back) = sim.with(|world| fate(world, from == leader));
    sleep(there).await;
    let discarded = || ProposeError::Unknown("the leader was lost".into());
    let answer = match fate {
        Fate::Lost => return,
        Fate::Discarded => Err(discarded()),
        Fate::Fine | Fate::Unanswered => sim.with(|world| world.agree(leader, command)),
    };
    if matches!(fate, Fate::Unanswered) {
        // Nobody answers; the sender finds out at its time limit, or when the connection breaks.
        if sim.with(|world| world.dice.below(2)) == 0 {
            sleep_until(until).await;
        }
        let _ = done.send(Err(ProposeError::Unknown("the connection was lost".into())));
        return;
    }
    sleep(back).await;
    let _ = done.send(answer);
}

fn fate(world: &mut World, local: bool) -> (Fate, Duration, Duration) {
    let mut there = if local { Duration::ZERO } else { world.between(20, 60) };
    // Until a majority has it.
    let mut back = world.between(25, 120);
    if world.happens(Fault::ProposalLate) {
        // Later than others, than its sender waits for, and than the node that sent it lives.
        there += if world.dice.below(4) == 0 {
            world.between(10_000, 120_000)
        } else {
            world.between(200, 9_000)
        };
    }
    if !local {
        back += world.between(20, 60);
    }
    let fate = if world.happens(Fault::ProposalLost) {
        Fate::Lost
    } else if world.happens(Fault::ProposalDiscarded) {
        Fate::Discarded
    } else if world.happens(Fault::ProposalUnanswered) {
        Fate::Unanswered
    } else {
        Fate::Fine
    };
    (fate, there, back)
}

fn status(world: &mut World, own: usize) -> Status {
    let leader = world.route(own);
    let connected = world.connected();
    let id = |n: usize| u64::try_from(n).unwrap_or(0) + 1;
    let members = (0..NODES).map(|n| MemberStatus {
        member: Member {
            id: id(n),
            region: String::new(),
            peer: String::new(),
            admin: String::new(),
        },
        voter: true,
        matched: None,
        lag: None,
        reachable: n == own || (connected.contains(&n) && connected.contains(&own)),
    });
    let applied = world.nodes().get(own).map(|node| node.replica.index);
    Status {
        id: id(own),
        region: String::new(),
        role: if leader == Some(own) { Role::Leader } else { Role::Follower },
        leader: leader.map(id),
        term: world.log.term,
        last_log: applied,
        committed: applied,
        applied,
        snapshot: None,
        purged: None,
        removed: false,
        members: members.collect(),
    }
}
