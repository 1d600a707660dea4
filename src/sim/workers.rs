//! Producers and workers of a topic, on every node: they publish, lease, finish, fail, take longer, die with
//! leases in hand, and ask again what got no answer.

use std::time::Duration;

use marketplace::random::Random;
use state::Key;
use state::origin::Lane;
use state::queue::MessageId;
use state::queue::ask::{Answer, Ask, LeaseId, Publish, What};
use tokio::time::{sleep, timeout};

use super::faults::Fault;
use super::heaps;
use super::jobs::{GROUPS, Jobs, Said, TOPIC};
use super::world::{NODES, Sim, World};
use crate::channel::key;

/// How long somebody waits for an answer.
const LIMIT: Duration = Duration::from_secs(10);
/// How often somebody asks before giving up, while there are faults.
pub(super) const TRIES: u32 = 6;
const KEYS: [&str; 3] = ["anvil", "bolt", "crate"];

/// How a producer says that what it sends again is the same.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guard {
    Nothing,
    Idempotency,
    Dedup,
}

/// Who asks, and how often at the most.
pub(super) struct Client<'a> {
    pub(super) sim: &'a Sim,
    pub(super) topic: &'a str,
    pub(super) node: usize,
    pub(super) idempotency: Option<(Key, Key)>,
    pub(super) tries: u32,
}

impl Client<'_> {
    /// Asks until there is an answer, the same each time; `unsure` hears of each time that there is none.
    pub(super) async fn ask(
        &self,
        what: &What,
        mut unsure: impl FnMut(&mut World),
    ) -> Option<(Said, Answer)> {
        let mut node = self.node;
        for tried in 0..self.tries {
            let answered = self.once(node, what.clone()).await;
            if let Some((index, answer)) = answered {
                return Some((Said { index, at_once: tried == 0 }, answer));
            }
            let pause = self.sim.with(|world| {
                unsure(world);
                world.between(200, 5_000)
            });
            sleep(pause).await;
            node = self.sim.with(|world| world.any(NODES));
        }
        None
    }

    async fn once(&self, n: usize, what: What) -> Option<(u64, Answer)> {
        let now = |world: &mut World| (world.node(n).topics.clone(), world.node(n).boot);
        let (topics, boot) = self.sim.with(now);
        let ask = Ask { idempotency: self.idempotency, topic: self.topic.into(), what };
        let answered = timeout(LIMIT, topics?.ask(ask)).await;
        // Who died answers nobody.
        let lost =
            self.sim.with(|world| world.node(n).boot != boot || world.happens(Fault::AnswerLost));
        answered.ok()?.ok().filter(|_| !lost)
    }
}

/// Lets workers of each group begin, on every node.
pub(super) fn start(sim: &Sim) {
    for n in 0..NODES {
        for group in 0..GROUPS.len() {
            tokio::spawn(work(sim.clone(), n, group));
        }
    }
}

/// Lets one event happen: mostly somebody publishes something.
pub(super) fn act(sim: &Sim, seed: u64, event: u64) {
    let mut dice = Random::new(!seed ^ event.wrapping_mul(0xd6e8_feb8_6659_fd93));
    let producers = match dice.below(20) {
        0 => 6,
        1..8 => 1,
        8 => {
            let of_task = sim.clone();
            sim.busy(async move { redrive(&of_task).await });
            0
        }
        9 => {
            heaps::act(sim, &mut dice);
            0
        }
        _ => 0,
    };
    // Who asks at the same time at the same node is agreed on together.
    let node = usize::try_from(dice.below(8)).unwrap_or(0);
    for _ in 0..producers {
        publish(sim, node, &mut dice);
    }
}

/// Somebody publishes some messages, and sends them again until that is answered.
fn publish(sim: &Sim, node: usize, dice: &mut Random) {
    let guard = match dice.below(3) {
        0 => Guard::Nothing,
        1 => Guard::Idempotency,
        _ => Guard::Dedup,
    };
    let (mut numbers, mut messages) = (Vec::new(), Vec::new());
    for _ in 0..=dice.below(2) {
        let number = sim.with(|world| world.book.serial());
        let known = usize::try_from(dice.below(5)).ok().and_then(|n| KEYS.get(n));
        let lane = if dice.below(4) == 0 { Lane::Urgent } else { Lane::Normal };
        let delay_ms = if dice.below(5) == 0 { dice.below(600_000) } else { 0 };
        let dedup = (guard == Guard::Dedup).then(|| key(format!("dedup {number}").as_bytes()));
        let (key, body) = (known.map(ToString::to_string), number.to_string().into_bytes());
        messages.push(Publish { lane, key, delay_ms, dedup, body });
        numbers.push(number);
    }
    let again = guard == Guard::Dedup && dice.below(4) == 0;
    let of_task = sim.clone();
    sim.busy(async move {
        let what = What::Publish(messages);
        for _ in 0..=u8::from(again) {
            send(&of_task, node % NODES, &numbers, &what, guard).await;
        }
    });
}

async fn send(sim: &Sim, node: usize, numbers: &[u64], what: &What, guard: Guard) {
    let asks = |world: &mut World| {
        for n in numbers {
            world.jobs.asked(*n, guard != Guard::Nothing);
        }
    };
    sim.with(asks);
    let id = key(format!("publish {numbers:?}").as_bytes());
    let idempotency = (guard == Guard::Idempotency).then_some((id, id));
    let client = Client { sim, topic: TOPIC, node, idempotency, tries: TRIES };
    let answer = client.ask(what, asks).await;
    sim.with(|world| match answer {
        Some((_, Answer::Published(published))) => {
            for (number, published) in numbers.iter().zip(published) {
                let noted = world.jobs.published(*number, published);
                world.holds("I7", noted);
            }
        }
        Some((_, other)) => world.breaks("I7", format!("a publication was answered {other:?}")),
        None => world.tally.reach("producer gave up"),
    });
}

/// An operator lets what was given up be tried again.
async fn redrive(sim: &Sim) {
    let (n, group, messages) = sim.with(|world| {
        let (n, group) = (world.any(NODES), world.any(GROUPS.len()));
        let topic = world.node(n).replica.state.data().queue.topic(TOPIC);
        let known = topic.and_then(|topic| topic.groups.get(name(group)));
        let dead = known.into_iter().flat_map(|group| group.dead.iter());
        let dead: Vec<MessageId> = dead.map(|(id, _)| MessageId(id)).collect();
        for id in &dead {
            world.jobs.redrives(group, *id);
        }
        (n, group, dead)
    });
    if !messages.is_empty() {
        let what = What::Redrive { group: name(group).into(), messages };
        let client = Client { sim, topic: TOPIC, node: n, idempotency: None, tries: 1 };
        client.ask(&what, |_| {}).await;
    }
}

fn name(group: usize) -> &'static str {
    GROUPS.get(group).copied().unwrap_or_default()
}

/// One worker of a group, at one node.
async fn work(sim: Sim, n: usize, group: usize) {
    loop {
        let pause = sim.with(|world| world.between(1_000, 40_000));
        sleep(pause).await;
        let ready = sim.with(|world| {
            let now = world.now;
            let node = world.node(n);
            let (now, state) = (node.clock(now), &node.replica.state);
            let topic = state.data().queue.topic(TOPIC).filter(|_| node.topics.is_some());
            let ready = topic.is_some_and(|topic| state.queue().is_ready(topic, name(group), now));
            world.busy += u64::from(ready);
            ready
        });
        if ready {
            take(&sim, n, group).await;
            sim.with(|world| world.busy -= 1);
        }
    }
}

/// Leases some messages, and does something with them.
async fn take(sim: &Sim, node: usize, group: usize) {
    let (max, lease_ms, idempotency) = sim.with(|world| {
        let max = u32::try_from(world.dice.below(4)).unwrap_or(0) + 1;
        let lease_ms = 1_000 + world.dice.below(60_000);
        let id = key(format!("lease {}", world.book.serial()).as_bytes());
        (max, lease_ms, (world.dice.below(3) == 0).then_some((id, id)))
    });
    let what = What::Lease { group: name(group).into(), max, lease_ms };
    // Who may ask again without taking more does.
    let tries = if idempotency.is_some() { TRIES } else { 1 };
    let client = Client { sim, topic: TOPIC, node, idempotency, tries };
    let Some((_, Answer::Leased(leased))) = client.ask(&what, |_| {}).await else { return };
    let (mut acks, mut nacks, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    let (takes, longer) = sim.with(|world| {
        for got in leased {
            let noted = world.jobs.leased(group, &got, lease_ms);
            world.holds("I7", noted);
            match if world.faulty { world.dice.below(10) } else { 9 } {
                0 => rest.push(got.lease),
                1 | 2 => nacks.push(got.lease),
                _ => acks.push(got.lease),
            }
        }
        // Now and then longer than it may.
        let most = if world.faulty { lease_ms * 5 / 4 } else { lease_ms / 2 };
        (world.dice.below(most), world.dice.below(8) == 0)
    });
    sleep(Duration::from_millis(takes)).await;
    if !rest.is_empty() && sim.with(|world| world.dice.below(2)) == 0 {
        sim.with(|world| world.tally.reach("worker died with leases"));
        return;
    }
    if longer && !acks.is_empty() {
        let what = What::Extend { leases: acks.clone(), lease_ms: lease_ms * 2 };
        tell(sim, (node, group), &what).await;
    }
    if !nacks.is_empty() {
        let delay_ms = match sim.with(|world| world.dice.below(3)) {
            0 => None,
            1 => Some(0),
            _ => Some(30_000),
        };
        let what = What::Nack { leases: nacks, delay_ms, reason: "it failed".into() };
        tell(sim, (node, group), &what).await;
    }
    if !acks.is_empty() {
        tell(sim, (node, group), &What::Ack(acks)).await;
    }
}

/// Says what became of leases, again until that is answered.
async fn tell(sim: &Sim, (node, group): (usize, usize), what: &What) {
    let (What::Ack(leases) | What::Nack { leases, .. } | What::Extend { leases, .. }) = what else {
        return;
    };
    let (is_ack, extends) = (matches!(what, What::Ack(_)), matches!(what, What::Extend { .. }));
    let (idempotency, tries) = sim.with(|world| {
        if !extends {
            for lease in leases {
                world.jobs.releases(group, lease);
            }
        }
        let id = key(format!("tell {}", world.book.serial()).as_bytes());
        let keeps_on = if world.faulty { TRIES } else { u32::MAX };
        ((world.dice.below(2) == 0).then_some((id, id)), keeps_on)
    });
    let unsure = |world: &mut World| {
        leases.iter().filter(|_| is_ack).for_each(|lease| world.jobs.doubts(group, lease));
    };
    let client = Client { sim, topic: TOPIC, node, idempotency, tries };
    let answer = client.ask(what, unsure).await;
    sim.with(|world| match answer {
        Some((said, Answer::Done(done))) => {
            for (lease, done) in leases.iter().zip(done) {
                heard(world, group, (lease, done), said, is_ack);
            }
        }
        Some((_, other)) => world.breaks("I7", format!("a worker was answered {other:?}")),
        None => world.tally.reach("worker gave up"),
    });
}

/// A worker hears what became of one lease.
fn heard(world: &mut World, group: usize, lease: (&LeaseId, bool), said: Said, is_ack: bool) {
    let now = world.agreed_now();
    let noted = match lease {
        (lease, true) => world.jobs.done(group, lease, said, is_ack),
        (lease, false) => world.jobs.gone(group, lease, said, now),
    };
    world.holds("I7", noted);
}

/// Names for what was asked of topics and answered.
pub(super) fn reached(asks: &[Ask], answers: &[Answer]) -> Vec<String> {
    let each = asks.iter().zip(answers).flat_map(|(ask, answer)| {
        let what = match &ask.what {
            What::Publish(_) => "publish",
            What::Lease { .. } => "lease",
            What::Ack(_) => "ack",
            What::Nack { .. } => "nack",
            What::Extend { .. } => "extend",
            What::Redrive { .. } => "redrive",
            _ => "topic",
        };
        match answer {
            Answer::Published(of) => of.iter().map(|of| named(what, published(*of))).collect(),
            Answer::Leased(of) => of
                .iter()
                .map(|of| named(what, if of.attempts > 1 { "again" } else { "first" }))
                .collect(),
            Answer::Done(of) => {
                of.iter().map(|done| named(what, if *done { "done" } else { "gone" })).collect()
            }
            Answer::Count(_) => vec![named(what, "done")],
            Answer::Refused(_) => vec![named(what, "refused")],
        }
    });
    each.chain((asks.len() > 1).then(|| "topic asked by several at once".to_string())).collect()
}

fn named(what: &str, how: &str) -> String {
    format!("{what} {how}")
}

const fn published(published: state::queue::ask::Published) -> &'static str {
    use state::queue::ask::Published::{Delayed, Duplicate, New};
    match published {
        New(_) => "new",
        Duplicate(_) => "duplicate",
        Delayed(_) => "delayed",
    }
}

impl World {
    /// Whether a worker has a lease now, as far as it is agreed on.
    pub(super) fn is_leased(&self) -> bool {
        let state = &self.log.head.state;
        let Some(topic) = state.data().queue.topic(TOPIC) else { return false };
        topic.groups.values().any(|group| {
            let [_, leased, ..] = state.queue().held(topic, group);
            leased > 0
        })
    }

    /// Holds the topic against what workers and producers know, when everything is at rest.
    pub(super) fn hold_topics(&mut self) {
        let data = self.log.head.state.data().clone();
        self.holds("I7", state::invariant::queue_is_sound(&data));
        let kept = self.jobs.at_rest(&data).and_then(|()| self.desk.at_rest(&data));
        self.holds("I7", kept);
        for _ in 0..Jobs::given_up(&data) {
            self.tally.reach("message given up");
        }
    }
}
