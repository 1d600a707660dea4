//! Topics with more in them than one command takes back: they are filled and worked on, and then deleted, begun
//! elsewhere or let grow old, in parts and with whatever fails in between.
//!
//! One operator at a time has a topic, so that what comes after is known: no lease from before counts, whoever begins
//! again begins where it was told, a new topic of the same name knows nothing of the old one. And of bodies there
//! are in the end those of the messages that are kept.

use std::collections::BTreeSet;
use std::time::Duration;

use marketplace::random::Random;
use state::limits::DAY_MS;
use state::origin::Lane;
use state::queue::MessageId;
use state::queue::ask::{Answer, From, LeaseId, Leased, Publish, Refused, What};
use state::queue::settings::Settings;
use state::reply::Kept;
use state::{Data, Effects};
use tokio::time::sleep;

use super::workers::{Client, TRIES};
use super::world::{NODES, Sim, World};
use crate::channel::key;

const TOPICS: [&str; 2] = ["heap.a", "heap.b"];
const GROUP: &str = "crew";
/// More than one command sweeps, and drops.
const MANY: u64 = 700;
/// How many a worker takes at once.
const LEASED: u32 = 150;
const LEASE_MS: u64 = 300_000;
/// Longer than a request may be on its way: what got no answer may still come to the topic.
pub(super) const AFTER: Duration = Duration::from_secs(600);
/// How a message of a heap begins.
const MARK: &[u8] = b"heap";

/// What is known of all heaps.
#[derive(Default)]
pub(super) struct Heaps {
    /// Topics that somebody has to do with.
    taken: BTreeSet<&'static str>,
    /// Where bodies of messages lie.
    bodies: BTreeSet<(u64, u32)>,
    /// Where some have lain.
    gone: BTreeSet<(u64, u32)>,
    /// What must not be.
    wrong: Option<String>,
}

impl Heaps {
    /// Notes the bodies of an entry, and which are dropped.
    pub(super) fn kept(&mut self, index: u64, effects: &Effects) {
        for body in &effects.bodies {
            if let Kept::Message { body: bytes, .. } = &body.kept
                && bytes.starts_with(MARK)
            {
                self.bodies.insert((index, body.n));
            }
        }
        for place in &effects.dropped {
            if self.bodies.remove(place) {
                self.gone.insert(*place);
            } else if self.gone.contains(place) {
                self.wrong = Some(format!("body {place:?} was dropped again at {index}"));
            }
        }
    }

    /// Everything is at rest: nothing is left to be worked off, and there are the bodies of what is kept.
    pub(super) fn at_rest(&self, data: &Data) -> Result<(), String> {
        if let Some(wrong) = &self.wrong {
            return Err(wrong.clone());
        }
        let queue = &data.queue;
        if let Some(left) = queue.leaving.values().next() {
            return Err(format!("{} messages of a deleted topic are left", left.depth()));
        }
        let mut places = BTreeSet::new();
        for topic in TOPICS.iter().filter_map(|name| queue.topic(name)) {
            if !topic.leaving.is_empty() {
                return Err(format!("a deleted group of topic {} is left", topic.number));
            }
            let lanes = topic.urgent.messages.iter().chain(topic.normal.messages.iter());
            places.extend(lanes.map(|(_, message)| (message.index, message.n)));
        }
        if places == self.bodies {
            return Ok(());
        }
        let (kept, bodies) = (places.len(), self.bodies.len());
        Err(format!("of heaps {kept} messages are kept, and {bodies} bodies"))
    }
}

/// Somebody makes a heap, unless all are taken.
pub(super) fn act(sim: &Sim, dice: &mut Random) {
    let n = usize::try_from(dice.below(2)).unwrap_or(0);
    let Some(topic) = TOPICS.get(n).copied() else { return };
    let (node, how, seed) =
        (usize::try_from(dice.below(3)).unwrap_or(0), dice.below(5), dice.below(1 << 40));
    if !sim.with(|world| world.jobs.heaps.taken.insert(topic)) {
        return;
    }
    let of_task = sim.clone();
    sim.busy(async move {
        let operator = Operator { sim: &of_task, topic, node: node % NODES, seed };
        let told = operator.heap(how).await;
        let pause = of_task.with(|world| match told {
            Ok(Some(done)) => {
                world.tally.reach(done);
                Duration::ZERO
            }
            Ok(None) => {
                world.tally.reach("heap given up");
                AFTER
            }
            Err(how) => {
                world.breaks("I7", how);
                AFTER
            }
        });
        let of_task = of_task.clone();
        tokio::spawn(async move {
            sleep(pause).await;
            of_task.with(|world| world.jobs.heaps.taken.remove(topic));
        });
    });
}

/// Who has to do with one topic.
struct Operator<'a> {
    sim: &'a Sim,
    topic: &'static str,
    node: usize,
    seed: u64,
}

/// Nothing if somebody had no answer; the error is a promise that was not kept.
type Told<T> = Result<Option<T>, String>;

impl Operator<'_> {
    /// Fills the topic, works on it, takes it away, and looks what is there.
    async fn heap(&self, how: u64) -> Told<&'static str> {
        if !self.fill(MANY).await {
            return Ok(None);
        }
        let Some(first) = self.lease().await else { return Ok(None) };
        let Some(second) = self.lease().await else { return Ok(None) };
        // As long as the first one's leases run.
        let both = |of: &&Leased| {
            let before = first.iter().find(|before| before.lease.message == of.lease.message);
            before.is_some_and(|before| of.until < before.until + LEASE_MS)
        };
        if second.iter().any(|of| both(&of)) {
            return Err(format!("two workers have one message of {}", self.topic));
        }
        let leases: Vec<LeaseId> = first.iter().map(|leased| leased.lease).collect();
        let (finished, rest) = leases.split_at(leases.len() / 2);
        if self.surely(What::Ack(finished.to_vec())).await.is_none() {
            return Ok(None);
        }
        let group = GROUP.to_string();
        let (what, done) = match how {
            0 => (What::Delete, "heap deleted"),
            1 => (What::Disband(group), "heap without its group"),
            2 => (What::Begin { group, from: From::Earliest }, "heap begun again"),
            3 => (What::Begin { group, from: From::Latest }, "heap left behind"),
            _ => {
                let old = Settings { retention_ms: 1_000, replay_ms: 0, ..Settings::default() };
                (What::Put(old), "heap grown old")
            }
        };
        let is_delete = matches!(what, What::Delete);
        // What a group has begun stays its own where only what lies beyond is left behind, or grows old.
        let stays = matches!(what, What::Put(_) | What::Begin { from: From::Latest, .. });
        if self.surely(what).await.is_none() {
            return Ok(None);
        }
        let late: Vec<LeaseId> =
            rest.iter().copied().chain(second.iter().map(|l| l.lease)).collect();
        let Some(answer) = self.surely(What::Ack(late.clone())).await else { return Ok(None) };
        if stays {
            return Ok(Some(done));
        }
        if let Answer::Done(counted) = answer {
            let counted = late.iter().zip(counted).filter(|(_, counted)| *counted);
            // What is kept only because it was begun stays so where a group begins again.
            let wrong = counted.filter(|(lease, _)| how < 2 || self.comes_again(lease.message));
            if let Some((LeaseId { message, token, .. }, _)) = wrong.into_iter().next() {
                let name = crate::topics::message_id(*message);
                let topic = self.topic;
                return Err(format!("{done}: lease {token} of {name} of {topic} counted after it"));
            }
        }
        self.begun_anew(is_delete).await.map(|seen| seen.map(|()| done))
    }

    /// What a worker finds after that.
    async fn begun_anew(&self, is_delete: bool) -> Told<()> {
        if is_delete && !self.fill(3).await {
            return Ok(None);
        }
        for _ in 0..TRIES {
            self.pause().await;
            let Some(leased) = self.lease().await else { return Ok(None) };
            let Some(first) = leased.first() else { continue };
            let name = crate::topics::message_id(first.lease.message);
            let again = |of: &Leased| of.attempts > 1 && self.comes_again(of.lease.message);
            if leased.iter().any(again) {
                return Err(format!("{name} of {} is tried again, and was begun anew", self.topic));
            }
            if is_delete && (name != "n1" || leased.len() > 3) {
                return Err(format!("{name} of {} comes from before it was deleted", self.topic));
            }
            let got = leased.iter().map(|leased| leased.lease).collect();
            return Ok(self.surely(What::Ack(got)).await.map(|_| ()));
        }
        Ok(Some(()))
    }

    /// Whether a message is kept for whoever begins with the earliest.
    fn comes_again(&self, id: MessageId) -> bool {
        self.sim.with(|world| {
            let topic = world.log.head.state.data().queue.topic(self.topic);
            topic.is_some_and(|topic| topic.lane(id.lane()).floor < id.place())
        })
    }

    async fn fill(&self, count: u64) -> bool {
        // What everybody has come to goes before the run ends; the rest does not.
        let roomy =
            Settings { replay_ms: 600_000, retention_ms: 60 * DAY_MS, ..Settings::default() };
        if self.surely(What::Put(roomy)).await.is_none() {
            return false;
        }
        let message = |n: u64| {
            let lane = if n % 7 == 6 && count > 9 { Lane::Urgent } else { Lane::Normal };
            // Some wait behind others of their key.
            let key = (n % 3 == 2 && count > 9).then(|| "k".to_string());
            let body = [MARK, n.to_string().as_bytes()].concat();
            Publish { lane, key, delay_ms: 0, dedup: None, body }
        };
        let what = What::Publish((0..count).map(message).collect());
        matches!(self.surely(what).await, Some(Answer::Published(_)))
    }

    async fn lease(&self) -> Option<Vec<Leased>> {
        let what = What::Lease { group: GROUP.into(), max: LEASED, lease_ms: LEASE_MS };
        match self.surely(what).await? {
            Answer::Leased(leased) => Some(leased),
            Answer::Refused(Refused::UnknownTopic) => Some(Vec::new()),
            _ => None,
        }
    }

    /// Asks until there is an answer, under one id.
    async fn surely(&self, what: What) -> Option<Answer> {
        self.pause().await;
        let Self { sim, topic, node, .. } = *self;
        let serial = sim.with(|world| world.book.serial());
        let id = key(format!("heap {} {serial}", self.seed).as_bytes());
        let client = Client { sim, topic, node, idempotency: Some((id, id)), tries: TRIES };
        client.ask(&what, |_| {}).await.map(|(_, answer)| answer)
    }

    async fn pause(&self) {
        let pause = self.sim.with(|world: &mut World| world.between(50, 8_000));
        sleep(pause).await;
    }
}
