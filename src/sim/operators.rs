//! Operators: they put channels into shadow and bound their days for a while, and take from workers what they have
//! begun: their group begins anew, is disbanded, or its topic is deleted.

use std::collections::BTreeSet;
use std::time::Duration;

use cluster::codec;
use marketplace::random::Random;
use state::channel::Definition;
use state::limits::{DAY_MS, SWEPT_AT_ONCE_MAX};
use state::origin::Lane;
use state::queue::ask::{Answer, Ask, From, LeaseId, Publish, What};
use state::reply::Kept;
use state::{Command, Data, Effects};
use tokio::time::{sleep, timeout};

use super::consensus;
use super::faults::Fault;
use super::heaps::AFTER;
use super::world::{NODES, Sim, World};

const LIMIT: Duration = Duration::from_secs(10);
const MINUTE: u64 = 60_000;
/// A topic that is theirs alone.
const TOPIC: &str = "scratch";
const GROUP: &str = "swept";
const KEYS: [Option<&str>; 3] = [None, Some("oak"), Some("pine")];
/// Messages of it at a time: more than is worked off with one request.
const MESSAGES: usize = SWEPT_AT_ONCE_MAX + 100;
/// Calls that one owner may make of which nobody was told yet.
const UNTOLD_MAX: u64 = 12;

/// What operators know by themselves.
#[derive(Default)]
pub(super) struct Desk {
    /// Where the bodies of their topic lie, by log index and number within it.
    bodies: BTreeSet<(u64, u32)>,
    /// Calls made to a channel beyond its bound: day of agreed time, epoch of the owner, and how many.
    beyond: Vec<(u64, u64, u64)>,
}

impl Desk {
    /// Notes where the bodies of an entry lie, and which are dropped.
    pub(super) fn kept(&mut self, index: u64, effects: &Effects) {
        for body in &effects.bodies {
            if matches!(&body.kept, Kept::Message { body, .. } if body == TOPIC.as_bytes()) {
                self.bodies.insert((index, body.n));
            }
        }
        for place in &effects.dropped {
            self.bodies.remove(place);
        }
    }

    /// Nothing of a topic that was deleted is left.
    pub(super) fn at_rest(&self, data: &Data) -> Result<(), String> {
        let depth = data.queue.topic(TOPIC).map_or(0, state::queue::Topic::depth);
        match self.bodies.len() {
            0 if depth == 0 => Ok(()),
            bodies => {
                Err(format!("{bodies} bodies and {depth} messages of a deleted topic are left"))
            }
        }
    }
}

/// Operates now and then, until faults stop; then everything is put right.
pub(super) async fn run(sim: Sim, seed: u64) {
    let mut dice = Random::new(seed ^ 0x6f70_6572_6174_6f72);
    loop {
        wait(&sim, 10 + dice.below(50)).await;
        if !sim.with(|world| world.faulty) {
            break;
        }
        let m = usize::try_from(dice.below(8)).unwrap_or(0);
        let lasts = 5 + dice.below(60);
        match dice.below(5) {
            0 => {
                define(&sim, m, |definition| definition.shadow = true).await;
                wait(&sim, lasts).await;
                define(&sim, m, |definition| definition.shadow = false).await;
            }
            1 | 2 => {
                let spent = sim.with(|world| spent(world, m));
                let per_day = spent + 1 + dice.below(40);
                define(&sim, m, |definition| definition.per_day = per_day).await;
                wait(&sim, 4 * lasts).await;
                define(&sim, m, |definition| definition.per_day = 0).await;
            }
            _ => work(&sim, &mut dice).await,
        }
    }
    // What was sent before, and is late, comes first.
    sleep(AFTER).await;
    let markets = sim.with(|world| world.markets.len());
    for m in 0..markets {
        let plainly = |definition: &mut Definition| {
            (definition.shadow, definition.per_day) = (false, 0);
        };
        while !define(&sim, m, plainly).await {
            sleep(Duration::from_secs(1)).await;
        }
    }
    while ask(&sim, What::Delete).await.is_none() {
        sleep(Duration::from_secs(1)).await;
    }
}

/// Minutes pass, or faults stop.
async fn wait(sim: &Sim, minutes: u64) {
    for _ in 0..minutes {
        if !sim.with(|world| world.faulty) {
            break;
        }
        sleep(Duration::from_millis(MINUTE)).await;
    }
}

/// Calls of today, as far as was told.
fn spent(world: &mut World, m: usize) -> u64 {
    let name = world.market(m).name.clone();
    let data = world.log.head.state.data();
    data.channels.get(&name).map_or(0, |known| known.spent(data.now))
}

/// Says what a channel is from now on; whether that was answered.
async fn define(sim: &Sim, m: usize, change: impl FnOnce(&mut Definition)) -> bool {
    let proposed = sim.with(|world| {
        let name = world.market(m).name.clone();
        let known = world.log.head.state.data().channels.get(&name)?;
        let mut definition = known.definition.clone();
        change(&mut definition);
        let Definition { shadow, per_day, .. } = definition;
        if world.is_bound(&name) {
            // What could not be mended until now is found about now.
            let now = world.agreed_now();
            for sku in world.market(m).unset.clone() {
                world.log.truth.late_all(&sku, now);
            }
        }
        world.tell(|| format!("{name} is to be in shadow: {shadow}; calls a day: {per_day}"));
        Some((world.any(NODES), codec::encode(&Command::PutChannel { name, definition })))
    });
    let Some((n, command)) = proposed else { return false };
    consensus::propose(sim, n, command, LIMIT).await.is_ok()
}

/// Asks something of the topic; the answer, and the log index at which it was given.
async fn ask(sim: &Sim, what: What) -> Option<(u64, Answer)> {
    let topics = sim.with(|world| {
        let n = world.any(NODES);
        world.node(n).topics.clone()
    });
    let ask = Ask { idempotency: None, topic: TOPIC.into(), what };
    let answered = timeout(LIMIT, topics?.ask(ask)).await.ok()?.ok();
    answered.filter(|_| !sim.with(|world| world.happens(Fault::AnswerLost)))
}

/// Publishes much, begins much of it, and takes that from whoever began it.
async fn work(sim: &Sim, dice: &mut Random) {
    let messages = (0..MESSAGES).map(|_| {
        let key = usize::try_from(dice.below(9)).ok().and_then(|n| *KEYS.get(n)?);
        let lane = if dice.below(4) == 0 { Lane::Urgent } else { Lane::Normal };
        let body = TOPIC.as_bytes().to_vec();
        Publish { lane, key: key.map(ToString::to_string), delay_ms: 0, dedup: None, body }
    });
    ask(sim, What::Publish(messages.collect())).await;
    let begun = lease(sim).await;
    let (failed, finished) = begun.split_at(begun.len() / 4);
    let (few, _) = finished.split_at(finished.len() / 2);
    let reason = String::from("it failed");
    ask(sim, What::Nack { leases: failed.to_vec(), delay_ms: Some(0), reason }).await;
    ask(sim, What::Ack(few.to_vec())).await;
    let rest = lease(sim).await;
    let (what, name) = match dice.below(4) {
        0 => (What::Begin { group: GROUP.into(), from: From::Earliest }, "group begun anew"),
        1 => (What::Disband(GROUP.into()), "group disbanded"),
        2 => (What::Delete, "topic deleted"),
        _ => (What::Begin { group: GROUP.into(), from: From::Latest }, "group begun at the end"),
    };
    let valid = matches!(what, What::Begin { from: From::Latest, .. });
    let Some((taken, Answer::Count(_))) = ask(sim, what).await else { return };
    sim.with(|world| world.tally.reach(name));
    // Its former workers go on, and count no more.
    if let Some((index, Answer::Done(done))) = ask(sim, What::Ack(rest)).await {
        let counted = done.iter().filter(|done| **done).count();
        sim.with(|world| match counted {
            0 => world.tally.reach("lease refused after a sweep"),
            _ if valid => {}
            _ => {
                let how = format!("{name} at {taken}, and {counted} leases counted at {index}");
                world.breaks("I7", how);
            }
        });
    }
}

async fn lease(sim: &Sim) -> Vec<LeaseId> {
    let max = u32::try_from(MESSAGES).unwrap_or(u32::MAX);
    let what = What::Lease { group: GROUP.into(), max, lease_ms: 600_000 };
    match ask(sim, what).await {
        Some((_, Answer::Leased(leased))) => leased.into_iter().map(|got| got.lease).collect(),
        _ => Vec::new(),
    }
}

impl World {
    /// A node calls a channel to push or to read: nobody calls once the bound of the day is used up, but for what
    /// its owner was about to tell of.
    pub(super) fn called(&mut self, m: usize) {
        let name = self.market(m).name.clone();
        let data = self.log.head.state.data();
        let (now, known) = (data.now, data.channels.get(&name));
        let Some(known) = known else { return };
        let (bound, spent) = (known.definition.per_day, known.spent(now));
        let epoch = known.owner.map_or(0, |owner| owner.epoch);
        if bound == 0 {
            return;
        }
        self.tally.reach("call under a day's bound");
        if spent < bound {
            return;
        }
        let day = now / DAY_MS;
        let beyond = &mut self.desk.beyond;
        let at = beyond.iter().position(|of| (of.0, of.1) == (day, epoch));
        let count = if let Some(of) = at.and_then(|at| beyond.get_mut(at)) {
            of.2 += 1;
            of.2
        } else {
            beyond.push((day, epoch, 1));
            1
        };
        self.tally.reach("call beyond a day's bound");
        if count > UNTOLD_MAX {
            let how =
                format!("{name} was called {count} times beyond {bound} a day, {spent} told of");
            self.breaks("I8", how);
        }
    }

    /// Nothing is agreed on to be pushed to a channel in shadow.
    pub(super) fn in_shadow(&mut self, channel: &str, pushes: bool) {
        let known = self.log.head.state.data().channels.get(channel);
        if !known.is_some_and(|known| known.definition.shadow) {
            return;
        }
        self.tally.reach("intent in shadow");
        if pushes {
            self.breaks("I8", format!("{channel} is in shadow, and is to be told a quantity"));
        }
    }
}
