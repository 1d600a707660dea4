//! What a topic promises its workers, held against a book that knows nothing of how topics work.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Node, START, cases, key};
use proptest::prelude::*;
use proptest::sample::Index;
use state::origin::Lane;
use state::queue::ask::{Answer, Ask, From, LeaseId, Leased, Publish, Published, Refused, What};
use state::queue::lists::Lists;
use state::queue::settings::{Rate, Settings};
use state::queue::{Message, MessageId, Place};
use state::reply::Kept;
use state::{Command, Reply, State};

const TOPIC: &str = "orders.created";
const GROUPS: [&str; 2] = ["erp", "mail"];

fn publish(text: &str) -> Publish {
    Publish { lane: Lane::Normal, key: None, delay_ms: 0, dedup: None, body: text.into() }
}

fn keyed(text: &str, key: &str) -> Publish {
    Publish { key: Some(key.into()), ..publish(text) }
}

fn urgent(text: &str) -> Publish {
    Publish { lane: Lane::Urgent, ..publish(text) }
}

/// A state, the bodies beside it, and what workers were told.
struct Desk {
    node: Node,
    bodies: BTreeMap<(u64, u32), Vec<u8>>,
    now: u64,
}

impl Desk {
    fn new(settings: Settings) -> Self {
        let mut desk = Self { node: Node::default(), bodies: BTreeMap::new(), now: START };
        assert_eq!(desk.ask(What::Put(settings)), Answer::Count(1));
        desk
    }

    fn ask(&mut self, what: What) -> Answer {
        let ask = Ask { idempotency: None, topic: TOPIC.into(), what };
        let Reply::Queue(mut answers) = self.apply(Command::Queue(vec![ask])) else { panic!() };
        answers.pop().unwrap()
    }

    fn apply(&mut self, command: Command) -> Reply {
        self.node.now = self.now;
        let (reply, effects) = self.node.apply(command);
        for body in effects.bodies {
            let Kept::Message { body: bytes, .. } = body.kept else { panic!("{:?}", body.kept) };
            assert!(self.bodies.insert((self.node.index, body.n), bytes).is_none());
        }
        for place in effects.dropped {
            assert!(self.bodies.remove(&place).is_some(), "{place:?} was dropped twice");
        }
        reply
    }

    fn later(&mut self, ms: u64) {
        self.now += ms;
        self.apply(Command::Tick);
    }

    fn publish(&mut self, messages: Vec<Publish>) -> Vec<Published> {
        match self.ask(What::Publish(messages)) {
            Answer::Published(published) => published,
            other => panic!("{other:?}"),
        }
    }

    fn lease(&mut self, group: &str, max: u32) -> Vec<Leased> {
        match self.ask(What::Lease { group: group.into(), max, lease_ms: 30_000 }) {
            Answer::Leased(leased) => leased,
            other => panic!("{other:?}"),
        }
    }

    /// Leases, and says what was in them.
    fn texts(&mut self, group: &str, max: u32) -> Vec<String> {
        let leased = self.lease(group, max);
        leased.iter().map(|leased| self.text(&leased.message)).collect()
    }

    fn text(&self, message: &Message) -> String {
        String::from_utf8(self.bodies[&(message.index, message.n)].clone()).unwrap()
    }

    fn ack(&mut self, leases: &[LeaseId]) -> Vec<bool> {
        self.done(What::Ack(leases.to_vec()))
    }

    fn nack(&mut self, leases: &[LeaseId], delay_ms: Option<u64>) -> Vec<bool> {
        self.done(What::Nack { leases: leases.to_vec(), delay_ms, reason: "no".into() })
    }

    fn done(&mut self, what: What) -> Vec<bool> {
        match self.ask(what) {
            Answer::Done(done) => done,
            other => panic!("{other:?}"),
        }
    }

    fn dead(&self, group: &str) -> Vec<MessageId> {
        let topic = self.node.state.data().queue.topic(TOPIC).unwrap();
        let group = topic.groups.get(group);
        group.into_iter().flat_map(|g| g.dead.iter()).map(|(id, _)| MessageId(id)).collect()
    }

    /// What must hold of any topics, whatever was asked of them.
    fn check(&self) {
        let queue = &self.node.state.data().queue;
        assert!(*self.node.state.queue() == Lists::of(queue), "a derived list differs");
        state::invariant::queue_is_sound(self.node.state.data()).unwrap();
        let topics = queue.topics.values().chain(queue.leaving.values());
        let bodies = topics.flat_map(|topic| {
            let lanes = topic.urgent.messages.iter().chain(topic.normal.messages.iter());
            let delayed = topic.delayed.iter().map(|(_, delayed)| &delayed.message);
            lanes.map(|(_, m)| m).chain(delayed).map(|m| (m.index, m.n)).collect::<Vec<_>>()
        });
        assert!(bodies.collect::<BTreeSet<_>>().iter().eq(self.bodies.keys()), "bodies differ");
    }

    /// The node loses its memory and starts from a snapshot.
    fn restart(&mut self) {
        let config = bincode::config::standard();
        let written = bincode::serde::encode_to_vec(self.node.state.data(), config).unwrap();
        let (data, _) = bincode::serde::decode_from_slice(&written, config).unwrap();
        self.node.state = State::new(data);
    }
}

fn quick() -> Settings {
    Settings { attempts: 3, backoff_ms: 1_000, backoff_max_ms: 4_000, ..Settings::default() }
}

// A worker that was slow would finish what another one is working on.
#[test]
fn an_old_lease_does_nothing() {
    let mut desk = Desk::new(quick());
    desk.publish(vec![publish("a")]);
    let first = desk.lease("erp", 1)[0];
    assert!(desk.lease("erp", 1).is_empty());
    desk.later(30_001);
    let second = desk.lease("erp", 1)[0];
    assert_eq!((second.attempts, second.lease.message), (2, first.lease.message));
    assert_eq!(desk.ack(&[first.lease]), [false]);
    assert_eq!(desk.nack(&[first.lease], None), [false]);
    assert_eq!(desk.done(What::Extend { leases: vec![first.lease], lease_ms: 60_000 }), [false]);
    assert_eq!(desk.ack(&[second.lease, second.lease]), [true, false]);
    desk.later(60_000);
    assert!(desk.lease("erp", 1).is_empty());
    desk.check();
}

// One message too many times tried is one that keeps a worker from all others; one too few is lost work.
#[test]
fn what_fails_n_times_is_given_up_and_can_be_tried_again() {
    let mut desk = Desk::new(quick());
    desk.publish(vec![publish("a")]);
    let first = desk.lease("erp", 1)[0];
    desk.nack(&[first.lease], Some(0));
    let second = desk.lease("erp", 1)[0];
    desk.nack(&[second.lease], None);
    assert!(desk.lease("erp", 1).is_empty(), "it waits a while");
    desk.later(2_001);
    let third = desk.lease("erp", 1)[0];
    assert_eq!(third.attempts, 3);
    desk.later(30_001);
    let id = third.lease.message;
    assert_eq!(desk.dead("erp"), [id]);
    assert!(desk.lease("erp", 1).is_empty());
    // Another group has nothing to do with it.
    assert_eq!(desk.texts("mail", 1), ["a"]);
    let redrive = |group: &str| What::Redrive { group: group.into(), messages: vec![id] };
    assert_eq!(desk.ask(redrive("erp")), Answer::Count(1));
    assert_eq!(desk.ask(redrive("erp")), Answer::Count(0));
    assert_eq!(
        desk.ask(redrive("nobody")),
        Answer::Refused(Refused::UnknownGroup("nobody".into()))
    );
    let again = desk.lease("erp", 1)[0];
    assert_eq!(again.attempts, 1);
    desk.check();
}

// Two workers on one SKU at once, or the later change before the earlier one, and the ERP has the wrong stock.
#[test]
fn a_key_is_worked_on_in_order_and_others_beside_it() {
    let mut desk = Desk::new(quick());
    let texts = ["a1", "a2", "b1", "a3", "b2"];
    desk.publish(texts.map(|text| keyed(text, &text[..1])).to_vec());
    let first = desk.lease("erp", 10);
    assert_eq!(first.iter().map(|l| desk.text(&l.message)).collect::<Vec<_>>(), ["a1", "b1"]);
    // What failed keeps its place.
    desk.nack(&[first[0].lease], Some(5_000));
    desk.ack(&[first[1].lease]);
    assert_eq!(desk.texts("erp", 10), ["b2"]);
    desk.later(5_001);
    let again = desk.lease("erp", 10);
    assert_eq!(desk.text(&again[0].message), "a1");
    desk.restart();
    desk.check();
    desk.ack(&[again[0].lease]);
    assert_eq!(desk.texts("erp", 10), ["a2"]);
    desk.check();
}

// A flood of what is urgent would keep all else waiting for ever.
#[test]
fn eight_urgent_ones_go_before_another() {
    let mut desk = Desk::new(quick());
    desk.publish((0..3).map(|n| publish(&format!("n{n}"))).collect());
    desk.publish((0..20).map(|n| urgent(&format!("u{n}"))).collect());
    let texts: Vec<String> = (0..9).flat_map(|_| desk.texts("erp", 2)).collect();
    let normal: Vec<usize> = (0..18).filter(|n| texts[*n].starts_with('n')).collect();
    assert_eq!(normal, [8, 17]);
}

// A delivery that a sender repeats, or a job that is started twice, would be done twice.
#[test]
fn a_dedup_id_stands_for_one_message() {
    let mut desk = Desk::new(quick());
    let message = Publish { dedup: Some(key("order 1")), ..publish("a") };
    let published = desk.publish(vec![message.clone(), message.clone()]);
    let id = MessageId::new(Lane::Normal, 1);
    assert_eq!(published, [Published::New(id), Published::Duplicate(id)]);
    desk.restart();
    assert_eq!(desk.publish(vec![message]), [Published::Duplicate(id)]);
    assert_eq!(desk.texts("erp", 10), ["a"]);
}

// What comes too early finds nothing to do; what never comes is lost.
#[test]
fn what_is_delayed_comes_in_its_time() {
    let mut desk = Desk::new(quick());
    let delayed = Publish { delay_ms: 10_000, ..publish("later") };
    assert_eq!(desk.publish(vec![delayed, publish("now")])[0], Published::Delayed(1));
    assert_eq!(desk.texts("erp", 10), ["now"]);
    desk.later(9_999);
    assert!(desk.texts("erp", 10).is_empty());
    assert!(desk.node.state.wakes_at().is_some_and(|at| at <= desk.now + 1));
    desk.restart();
    desk.later(1);
    assert_eq!(desk.texts("erp", 10), ["later"]);
    desk.check();
}

// A full topic that takes more fills the memory of every node; one that forgets silently loses work.
#[test]
fn a_full_topic_refuses_or_makes_room_as_it_is_told() {
    let mut desk = Desk::new(Settings { messages_max: 3, ..quick() });
    desk.publish((0..3).map(|n| publish(&n.to_string())).collect());
    let full = Answer::Refused(Refused::Full { messages: 3, bytes: 3 });
    assert_eq!(desk.ask(What::Publish(vec![publish("3")])), full);
    // What every group has finished with makes room, though it could still be replayed.
    let leased = desk.lease("erp", 2);
    assert_eq!(desk.ask(What::Publish(vec![publish("3")])), full, "both are held");
    desk.ack(&[leased[0].lease]);
    desk.publish(vec![publish("3")]);
    assert_eq!(desk.ask(What::Publish(vec![publish("4")])), full);
    desk.check();
    desk.ask(What::Put(Settings { messages_max: 3, drop_oldest: true, ..quick() }));
    desk.publish(vec![publish("4")]);
    assert_eq!(desk.texts("erp", 10), ["3", "4"]);
    desk.check();
}

// A group that began too late, or was broken for a day, could never catch up.
#[test]
fn a_group_can_begin_again_where_it_likes() {
    let mut desk = Desk::new(quick());
    desk.publish(vec![publish("a")]);
    desk.later(60_000);
    let (time, index) = (desk.now, desk.node.index + 1);
    desk.publish(vec![publish("b"), publish("c")]);
    let leased = desk.lease("erp", 10);
    desk.ack(&leased.iter().map(|l| l.lease).collect::<Vec<_>>());
    for (from, expected) in [
        (From::Time(time), &["b", "c"][..]),
        (From::Index(index), &["b", "c"]),
        (From::Earliest, &["a", "b", "c"]),
        (From::Latest, &[]),
    ] {
        desk.ask(What::Begin { group: "erp".into(), from });
        assert_eq!(desk.texts("erp", 10), expected, "{from:?}");
        desk.check();
    }
}

// A worker that must not run, runs; or what was held back is forgotten.
#[test]
fn what_is_paused_waits() {
    let mut desk = Desk::new(quick());
    desk.publish(vec![keyed("a1", "a"), keyed("b1", "b"), keyed("a2", "a")]);
    let paused = state::queue::key_hash("a");
    desk.ask(What::Pause(Some(paused)));
    assert_eq!(desk.texts("erp", 10), ["b1"]);
    desk.restart();
    desk.ask(What::Pause(None));
    desk.ask(What::Resume(Some(paused)));
    assert!(desk.texts("erp", 10).is_empty());
    desk.ask(What::Resume(None));
    assert_eq!(desk.texts("erp", 10), ["a1"]);
    desk.check();
}

// An API that takes so many calls a second would lock its caller out.
#[test]
fn rates_and_bounds_are_kept() {
    let rate = |count| Some(Rate { count, per_ms: 1_000 });
    let mut desk = Desk::new(Settings { rate: rate(3), concurrency: 4, ..quick() });
    desk.publish((0..20).map(|n| publish(&n.to_string())).collect());
    assert_eq!(desk.lease("erp", 10).len(), 3);
    desk.later(333);
    assert!(desk.lease("erp", 10).is_empty());
    desk.later(1);
    assert_eq!(desk.lease("erp", 10).len(), 1);
    desk.later(5_000);
    assert!(desk.lease("erp", 10).is_empty(), "four at once");
    desk.ask(What::Put(Settings { key_rate: rate(2), ..quick() }));
    desk.publish((0..3).map(|n| keyed(&format!("k{n}"), "k")).collect());
    let mut granted = Vec::new();
    for _ in 0..3 {
        let leased = desk.lease("mail", 40);
        let texts = leased.iter().map(|l| desk.text(&l.message)).filter(|t| t.starts_with('k'));
        granted.push(texts.count());
        desk.ack(&leased.iter().map(|l| l.lease).collect::<Vec<_>>());
        desk.later(499);
        assert!(desk.lease("mail", 1).is_empty());
        desk.later(1);
    }
    assert_eq!(granted, [1, 1, 1]);
    desk.check();
}

// Old messages fill the disks for ever; or a group that was away finds nothing, and nobody says so.
#[test]
fn what_is_old_goes_and_what_was_missed_is_named() {
    let settings = Settings { retention_ms: 60_000, replay_ms: 10_000, ..quick() };
    let mut desk = Desk::new(settings);
    desk.publish(vec![publish("a"), publish("b")]);
    desk.ask(What::Begin { group: "mail".into(), from: From::Earliest });
    let leased = desk.lease("erp", 10);
    desk.ack(&[leased[0].lease]);
    desk.later(60_000);
    desk.later(0);
    assert_eq!(desk.dead("mail").len(), 2);
    assert_eq!(desk.bodies.len(), 2, "they are kept for the one who missed them");
    desk.check();
    desk.ask(What::Disband("mail".into()));
    assert_eq!(desk.bodies.len(), 1, "the other one is still leased, or was");
    let again = desk.lease("erp", 1)[0];
    desk.ack(&[again.lease]);
    assert!(desk.bodies.is_empty());
    desk.check();
}

// What is deleted would come back, or its bodies stay on disk.
#[test]
fn a_deleted_topic_is_gone_and_its_name_is_free() {
    let mut desk = Desk::new(quick());
    desk.publish((0..600).map(|n| publish(&n.to_string())).collect());
    desk.lease("erp", 10);
    assert_eq!(desk.ask(What::Delete), Answer::Count(600));
    assert_eq!(desk.ask(What::Ack(vec![])), Answer::Refused(Refused::UnknownTopic));
    desk.check();
    desk.publish(vec![publish("new")]);
    desk.restart();
    (0..5).for_each(|_| desk.later(1_000));
    assert_eq!(desk.bodies.len(), 1);
    assert_eq!(desk.texts("erp", 10), ["new"]);
    desk.check();
}

// A schedule that two nodes fire is published twice; one that nobody fires again stops.
#[test]
fn a_schedule_fires_once_for_each_time() {
    let mut desk = Desk::new(quick());
    let (name, cron) = (String::from("nightly"), String::from("0 3 * * *"));
    let next = START + 1_000;
    desk.ask(What::Schedule { name: name.clone(), cron, next, message: publish("go") });
    let fire = |at, next| What::Fire { name: name.clone(), at, next };
    assert_eq!(
        desk.ask(fire(next, next + 10)),
        Answer::Published(vec![Published::New(MessageId::new(Lane::Normal, 1))])
    );
    assert_eq!(desk.ask(fire(next, next + 10)), Answer::Published(vec![]));
    assert_eq!(desk.ask(fire(next + 10, next)), Answer::Published(vec![]), "it never goes back");
    let unknown = Refused::UnknownSchedule("other".into());
    assert_eq!(desk.ask(What::Unschedule("other".into())), Answer::Refused(unknown));
    desk.check();
}

#[derive(Clone, Debug)]
enum Step {
    Publish { urgent: bool, key: Option<u8>, delay: bool, dedup: Option<u8> },
    Lease { group: usize, max: u32 },
    Ack(Vec<Index>),
    Nack { which: Index, delay: Option<u64> },
    Extend(Index),
    Later(u64),
    Redrive(usize),
    Forget(usize, Index),
    Pause(Option<u8>),
    Resume(Option<u8>),
    Remove(Index),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || proptest::option::of(0u8..3);
    prop_oneof![
        6 => (any::<bool>(), key(), prop::bool::weighted(0.2), proptest::option::weighted(0.2, 0u8..5))
            .prop_map(|(urgent, key, delay, dedup)| Step::Publish { urgent, key, delay, dedup }),
        6 => (0..2usize, 1..4u32).prop_map(|(group, max)| Step::Lease { group, max }),
        4 => proptest::collection::vec(any::<Index>(), 1..3).prop_map(Step::Ack),
        3 => (any::<Index>(), proptest::option::of(0..3_000u64))
            .prop_map(|(which, delay)| Step::Nack { which, delay }),
        1 => any::<Index>().prop_map(Step::Extend),
        3 => prop_oneof![0..2_000u64, Just(31_000u64)].prop_map(Step::Later),
        1 => (0..2usize).prop_map(Step::Redrive),
        1 => (0..2usize, any::<Index>()).prop_map(|(group, which)| Step::Forget(group, which)),
        1 => key().prop_map(Step::Pause),
        2 => key().prop_map(Step::Resume),
        1 => any::<Index>().prop_map(Step::Remove),
        2 => Just(Step::Restart),
    ]
}

/// What workers know: nothing of how a topic works, only what they asked and were told.
#[derive(Default)]
struct Book {
    /// All leases ever, newest last.
    leases: Vec<(usize, Leased)>,
    published: BTreeSet<MessageId>,
    removed: BTreeSet<MessageId>,
    /// By group and message.
    acked: BTreeSet<(usize, MessageId)>,
    forgotten: BTreeSet<(usize, MessageId)>,
    tries: BTreeMap<(usize, MessageId), u32>,
    /// What was given up and comes again, after those that came meanwhile.
    redriven: BTreeSet<(usize, MessageId)>,
    /// Places from which a key may go on, by group, key and lane.
    begun: BTreeMap<(usize, u64, Lane), u64>,
}

impl Book {
    fn leased(&mut self, desk: &Desk, group: usize, leased: &[Leased]) {
        for lease in leased {
            let id = lease.lease.message;
            assert!(!self.acked.contains(&(group, id)), "{id:?} was acked and came again");
            assert!(!self.removed.contains(&id), "{id:?} was removed and came again");
            let live = self.leases.iter().filter(|(g, known)| {
                *g == group && known.until > desk.now && desk.is_live(&known.lease)
            });
            for (_, other) in live {
                assert!(other.lease.message != id, "{id:?} is with two workers");
                let same_key = other.message.key != 0 && other.message.key == lease.message.key;
                assert!(
                    !same_key,
                    "two workers have {id:?} and {:?} of one key",
                    other.lease.message
                );
            }
            let tries = self.tries.entry((group, id)).or_default();
            *tries += 1;
            assert_eq!(*tries, lease.attempts, "{id:?}");
            assert!(*tries <= quick().attempts, "{id:?} was tried too often");
            let again = self.redriven.contains(&(group, id));
            if *tries == 1 && lease.message.key != 0 && !again {
                let begun = self.begun.entry((group, lease.message.key, id.lane())).or_default();
                assert!(id.place() > *begun, "{id:?} came after place {begun} of its key");
                *begun = id.place();
            }
            self.leases.push((group, *lease));
        }
    }
}

impl Desk {
    /// Whether a lease is the one that counts.
    fn is_live(&self, lease: &LeaseId) -> bool {
        let topic = self.node.state.data().queue.topic(TOPIC).unwrap();
        let group = topic.groups.values().find(|group| group.number == lease.group).unwrap();
        let held = group.held.get(lease.message.0);
        held.is_some_and(
            |held| matches!(held.place, Place::Leased { token, .. } if token == lease.token),
        )
    }

    fn step(&mut self, book: &mut Book, step: Step) {
        let hash = |key: u8| state::queue::key_hash(&key.to_string());
        let pick = |book: &Book, which: Index| {
            (!book.leases.is_empty()).then(|| book.leases[which.index(book.leases.len())])
        };
        match step {
            Step::Publish { urgent, key, delay, dedup } => {
                let lane = if urgent { Lane::Urgent } else { Lane::Normal };
                let dedup = dedup.map(|n| common::key(&n.to_string()));
                let (key, delay_ms) = (key.map(|key| key.to_string()), u64::from(delay) * 1_500);
                let message = Publish { lane, key, delay_ms, dedup, body: b"x".to_vec() };
                self.publish(vec![message]);
            }
            Step::Lease { group, max } => {
                let leased = self.lease(GROUPS[group], max);
                book.leased(self, group, &leased);
            }
            Step::Ack(which) => {
                let chosen: Vec<_> = which.into_iter().filter_map(|w| pick(book, w)).collect();
                let ids: Vec<LeaseId> = chosen.iter().map(|(_, leased)| leased.lease).collect();
                // What has run out by now runs out before it is asked for.
                self.later(0);
                let live: Vec<bool> = ids.iter().map(|id| self.is_live(id)).collect();
                let done = self.ack(&ids);
                for (n, (group, leased)) in chosen.iter().enumerate() {
                    let repeated = ids[..n].contains(&ids[n]);
                    assert_eq!(done[n], live[n] && !repeated);
                    if done[n] {
                        assert!(book.acked.insert((*group, leased.lease.message)));
                    }
                }
            }
            Step::Nack { which, delay } => {
                let Some((_, leased)) = pick(book, which) else { return };
                self.later(0);
                let live = self.is_live(&leased.lease);
                assert_eq!(self.nack(&[leased.lease], delay), [live]);
            }
            Step::Extend(which) => {
                let Some((_, leased)) = pick(book, which) else { return };
                self.later(0);
                let live = self.is_live(&leased.lease);
                let what = What::Extend { leases: vec![leased.lease], lease_ms: 45_000 };
                assert_eq!(self.done(what), [live]);
                // Its end is later than the book knows, which only makes the book look less closely.
            }
            Step::Later(ms) => self.later(ms),
            Step::Redrive(group) => {
                let dead = self.dead(GROUPS[group]);
                for id in &dead {
                    book.tries.remove(&(group, *id));
                    book.redriven.insert((group, *id));
                }
                let count = u64::try_from(dead.len()).unwrap();
                let what = What::Redrive { group: GROUPS[group].into(), messages: dead };
                match self.ask(what) {
                    Answer::Count(done) => assert_eq!(done, count),
                    Answer::Refused(Refused::UnknownGroup(_)) => assert_eq!(count, 0),
                    other => panic!("{other:?}"),
                }
            }
            Step::Forget(group, which) => {
                let dead = self.dead(GROUPS[group]);
                if dead.is_empty() {
                    return;
                }
                let id = dead[which.index(dead.len())];
                let what = What::Forget { group: GROUPS[group].into(), messages: vec![id] };
                assert_eq!(self.ask(what), Answer::Count(1));
                book.forgotten.insert((group, id));
            }
            Step::Pause(key) => drop(self.ask(What::Pause(key.map(hash)))),
            Step::Resume(key) => drop(self.ask(What::Resume(key.map(hash)))),
            Step::Remove(which) => {
                let Some((_, leased)) = pick(book, which) else { return };
                self.ask(What::Remove(vec![leased.lease.message]));
                book.removed.insert(leased.lease.message);
            }
            Step::Restart => self.restart(),
        }
        let topic = self.node.state.data().queue.topic(TOPIC).unwrap();
        let lanes = topic.urgent.messages.iter().chain(topic.normal.messages.iter());
        book.published.extend(lanes.map(|(id, _)| MessageId(id)));
    }
}

proptest! {
    #![proptest_config(cases(256))]

    // A message that is lost is an order that nobody ships; one that comes again after its ack is shipped
    // twice.
    #[test]
    fn every_message_comes_until_it_is_finished(steps in proptest::collection::vec(step(), 1..120)) {
        let (mut desk, mut book) = (Desk::new(quick()), Book::default());
        for step in steps {
            desk.step(&mut book, step);
            desk.check();
        }
        // Then everything is let go, and two good workers come.
        desk.step(&mut book, Step::Resume(None));
        (0..3).for_each(|key| desk.step(&mut book, Step::Resume(Some(key))));
        for _ in 0..400 {
            desk.step(&mut book, Step::Later(20_000));
            for group in 0..GROUPS.len() {
                let leased = desk.lease(GROUPS[group], 100);
                book.leased(&desk, group, &leased);
                let ids: Vec<LeaseId> = leased.iter().map(|leased| leased.lease).collect();
                prop_assert!(desk.ack(&ids).into_iter().all(|done| done));
                book.acked.extend(ids.iter().map(|id| (group, id.message)));
            }
            if desk.node.state.data().queue.topic(TOPIC).unwrap().groups.values().all(|g| g.held.is_empty()) {
                break;
            }
        }
        desk.check();
        for (group, name) in GROUPS.iter().enumerate() {
            let dead: BTreeSet<MessageId> = desk.dead(name).into_iter().collect();
            for id in book.published.difference(&book.removed) {
                let known = (group, *id);
                let ends = [book.acked.contains(&known), dead.contains(id), book.forgotten.contains(&known)];
                prop_assert!(ends.iter().any(|end| *end), "{name} never finished {id:?}");
                prop_assert!(!(ends[0] && ends[1]), "{name} finished {id:?} and gave it up");
            }
        }
    }
}
