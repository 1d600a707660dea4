//! Anything that may be asked of several topics, in any order and together, of two nodes of which one starts from
//! a snapshot after each command.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::{Index, select};
use state::origin::Lane;
use state::queue::ask::{Answer, Ask, From, LeaseId, Leased, Publish, Refused, What};
use state::queue::settings::{Rate, Settings};
use state::queue::{MessageId, Queue, key_hash};
use state::{Command, Data, Reply, Stamp, State};

use crate::common::{START, cases, key};
use crate::desk::{Desk, quick, written_and_read};

const TOPICS: [&str; 2] = ["a", "b"];
const GROUPS: [&str; 2] = ["erp", "mail"];
/// The most that any of the settings below lets be leased of one key at once.
const KEY_CONCURRENCY: usize = 2;

fn settings() -> Vec<Settings> {
    let rate = |count| Some(Rate { count, per_ms: 1_000 });
    let short = Settings { retention_ms: 5_000, replay_ms: 1_000, ..quick() };
    vec![
        quick(),
        Settings { key_concurrency: 2, key_rate: rate(2), ..quick() },
        Settings { key_concurrency: 2, concurrency: 3, rate: rate(3), ..quick() },
        Settings { messages_max: 4, drop_oldest: true, ..short.clone() },
        Settings { messages_max: 6, bytes_max: 8, replay_ms: 0, ..short },
    ]
}

/// Something asked. A number names one of the leases that there were.
#[derive(Clone, Debug)]
enum Wish {
    Of(What),
    Ack(Vec<Index>),
    Nack(Vec<Index>, Option<u64>),
    Extend(Index),
}

fn publish() -> impl Strategy<Value = Publish> {
    let lane = select(vec![Lane::Urgent, Lane::Normal]);
    let key_of = proptest::option::of(select(vec!["x".to_string(), "y".to_string()]));
    let dedup = proptest::option::weighted(0.2, (0..4u8).prop_map(|n| key(&n.to_string())));
    let delay = prop_oneof![4 => Just(0), 1 => 1..3_000u64];
    (lane, key_of, dedup, delay, 0..4usize).prop_map(|(lane, key, dedup, delay_ms, bytes)| {
        Publish { lane, key, delay_ms, dedup, body: vec![b'x'; bytes] }
    })
}

fn wish() -> impl Strategy<Value = Wish> {
    let group = || select(GROUPS.map(String::from).to_vec());
    let place = (any::<bool>(), 1..20u64).prop_map(|(urgent, place)| {
        MessageId::new(if urgent { Lane::Urgent } else { Lane::Normal }, place)
    });
    let ids = || proptest::collection::vec(place.clone(), 1..12);
    let key = || select(vec![None, Some(key_hash("x")), Some(key_hash("y"))]);
    let from = prop_oneof![
        Just(From::Earliest),
        Just(From::Latest),
        (0..60_000u64).prop_map(|ms| From::Time(START + ms)),
        (0..60u64).prop_map(From::Index),
    ];
    let lease = (group(), 1..6u32, 1_000..20_000u64)
        .prop_map(|(group, max, lease_ms)| What::Lease { group, max, lease_ms });
    let schedule = (0..3_000u64, publish()).prop_map(|(ms, message)| What::Schedule {
        name: "s".into(),
        cron: "* * * * *".into(),
        next: START + ms / 1_000,
        message,
    });
    let fire = (0..3u64, 1..3u64).prop_map(|(at, after)| What::Fire {
        name: "s".into(),
        at: START + at,
        next: START + at + after,
    });
    let worker = prop_oneof![
        6 => proptest::collection::vec(publish(), 1..5).prop_map(What::Publish).prop_map(Wish::Of),
        6 => lease.prop_map(Wish::Of),
        4 => proptest::collection::vec(any::<Index>(), 1..4).prop_map(Wish::Ack),
        3 => (proptest::collection::vec(any::<Index>(), 1..3), proptest::option::of(0..3_000u64))
            .prop_map(|(which, delay)| Wish::Nack(which, delay)),
        1 => any::<Index>().prop_map(Wish::Extend),
    ];
    let operator = prop_oneof![
        3 => select(settings()).prop_map(What::Put),
        2 => (group(), from).prop_map(|(group, from)| What::Begin { group, from }),
        1 => group().prop_map(What::Disband),
        1 => Just(What::Delete),
        2 => key().prop_map(What::Pause),
        2 => key().prop_map(What::Resume),
        2 => (group(), ids()).prop_map(|(group, messages)| What::Redrive { group, messages }),
        1 => (group(), ids()).prop_map(|(group, messages)| What::Forget { group, messages }),
        1 => ids().prop_map(What::Remove),
        1 => schedule,
        2 => fire,
        1 => Just(What::Unschedule("s".into())),
    ];
    prop_oneof![3 => worker, 2 => operator.prop_map(Wish::Of)]
}

/// One command: asks with their topics and idempotency keys, and how long after the one before it they come.
type Step = (u64, Vec<(usize, Option<u8>, Wish)>);

fn step() -> impl Strategy<Value = Step> {
    let ask = (0..TOPICS.len(), proptest::option::weighted(0.1, 0..4u8), wish());
    let pause = prop_oneof![5 => Just(0), 5 => 0..2_000u64, 1 => Just(31_000u64)];
    (pause, proptest::collection::vec(ask, 0..4))
}

/// A message in a group of a topic.
type Place = (String, String, MessageId);

/// What those who ask know.
#[derive(Default)]
struct Book {
    leases: Vec<(String, String, LeaseId)>,
    /// With their keys, and until when.
    out: BTreeMap<Place, (u64, u64)>,
    /// With somebody when its group was told to begin elsewhere: it may be so still.
    maybe_out: BTreeSet<Place>,
    finished: BTreeSet<Place>,
    answers: BTreeMap<u8, Answer>,
}

impl Book {
    fn what(&self, topic: &str, wish: Wish) -> What {
        let here: Vec<_> = self.leases.iter().filter(|(t, ..)| t == topic).collect();
        let pick = |which: Index| (!here.is_empty()).then(|| which.get(&here).2);
        let all = |which: Vec<Index>| which.into_iter().filter_map(pick).collect();
        match wish {
            Wish::Of(what) => what,
            Wish::Ack(which) => What::Ack(all(which)),
            Wish::Nack(which, delay_ms) => {
                What::Nack { leases: all(which), delay_ms, reason: "no".into() }
            }
            Wish::Extend(which) => What::Extend { leases: all(vec![which]), lease_ms: 9_000 },
        }
    }

    /// Forgets what was of a group, or of all groups of a topic.
    fn forget(&mut self, topic: &str, group: Option<&str>) {
        let other = |(t, g, _): &Place| t != topic || group.is_some_and(|group| g != group);
        self.maybe_out.extend(self.out.keys().filter(|place| !other(place)).cloned());
        self.out.retain(|place, _| other(place));
        self.finished.retain(other);
    }

    fn leased(&mut self, topic: &str, group: &str, leased: &[Leased], now: u64) {
        for Leased { lease, until, message, .. } in leased {
            let place = (topic.to_string(), group.to_string(), lease.message);
            assert!(!self.finished.contains(&place), "{place:?} was finished and came again");
            self.out.retain(|_, (_, until)| *until > now);
            assert!(!self.out.contains_key(&place), "{place:?} is with two workers");
            self.out.insert(place, (message.key, *until));
            let of_key = |((t, g, _), (key, _)): &(&Place, &(u64, u64))| {
                t == topic && g == group && message.key != 0 && *key == message.key
            };
            assert!(self.out.iter().filter(of_key).count() <= KEY_CONCURRENCY, "{:?}", self.out);
            self.leases.push((topic.into(), group.into(), *lease));
        }
    }

    fn place(&self, topic: &str, lease: &LeaseId) -> Place {
        let known = |(t, _, l): &&(String, String, LeaseId)| t == topic && l == lease;
        let (_, group, _) = self.leases.iter().find(known).unwrap();
        (topic.to_string(), group.clone(), lease.message)
    }

    /// Notes what became of something asked.
    fn heard(&mut self, topic: &str, what: &What, answer: &Answer, now: u64) {
        if let (What::Lease { group, .. }, Answer::Leased(leased)) = (what, answer) {
            self.leased(topic, group, leased, now);
        }
        match (what, answer) {
            (What::Begin { group, .. } | What::Disband(group), Answer::Count(_)) => {
                self.forget(topic, Some(group));
            }
            (What::Delete, Answer::Count(_)) => self.forget(topic, None),
            (What::Ack(leases) | What::Nack { leases, .. }, Answer::Done(done)) => {
                for (lease, _) in leases.iter().zip(done).filter(|(_, done)| **done) {
                    let place = self.place(topic, lease);
                    let was = self.out.remove(&place);
                    let was = was.is_some_and(|(_, until)| until > now);
                    assert!(was || self.maybe_out.contains(&place), "{place:?} was not out");
                    if matches!(what, What::Ack(_)) {
                        self.finished.insert(place);
                    }
                }
            }
            (What::Extend { leases, lease_ms }, Answer::Done(done)) => {
                for (lease, _) in leases.iter().zip(done).filter(|(_, done)| **done) {
                    let place = self.place(topic, lease);
                    self.out.entry(place).and_modify(|(_, until)| *until = now + lease_ms);
                }
            }
            _ => {}
        }
    }
}

/// What a node has that starts from a snapshot of a state. What is not of the queue is tried elsewhere.
fn again(state: &State) -> State {
    let queue = written_and_read(&state.data().queue);
    State::new(Data { queue, ..state.data().clone() })
}

/// Whether an answer is the first one repeated; of leases, those of messages that are gone may be missing.
fn is_again(answer: &Answer, first: &Answer) -> bool {
    match (answer, first) {
        (Answer::Leased(again), Answer::Leased(first)) => again.iter().all(|l| first.contains(l)),
        _ => answer == first,
    }
}

/// Two nodes, one of which has lost its memory after each command.
struct Pair {
    desk: Desk,
    other: State,
    book: Book,
}

impl Pair {
    fn step(&mut self, (pause, wishes): Step) {
        self.desk.now += pause;
        let now = self.desk.now;
        let mut keys = Vec::new();
        let asks = wishes.into_iter().map(|(topic, n, wish)| {
            let what = self.book.what(TOPICS[topic], wish);
            keys.push(n);
            let idempotency = n.map(|n| (key(&format!("i{n}")), key(&format!("{topic} {what:?}"))));
            Ask { idempotency, topic: TOPICS[topic].into(), what }
        });
        let asks: Vec<Ask> = asks.collect();
        let Reply::Queue(answers) = self.apply(Command::Queue(asks.clone())) else { panic!() };
        assert_eq!(answers.len(), asks.len());
        for ((ask, answer), n) in asks.iter().zip(&answers).zip(keys) {
            if let Some(n) = n
                && let Some(first) = self.book.answers.get(&n)
            {
                let known = is_again(answer, first);
                assert!(known || *answer == Answer::Refused(Refused::KeyReused), "{answer:?}");
                continue;
            }
            let is_lease = matches!(ask.what, What::Lease { .. });
            let nothing = !matches!(answer, Answer::Leased(leased) if !leased.is_empty());
            // What leased nothing may be asked anew.
            let n = n.filter(|_| !(is_lease && nothing));
            self.book.answers.extend(n.map(|n| (n, answer.clone())));
            self.book.heard(&ask.topic, &ask.what, answer, now);
        }
    }

    fn apply(&mut self, command: Command) -> Reply {
        let reply = self.desk.apply(command.clone());
        let stamp = Stamp { index: self.desk.node.index, now: self.desk.now };
        assert_eq!(self.other.apply(stamp, command).0, reply, "two nodes answer differently");
        assert!(self.other.data().queue == self.desk.node.state.data().queue, "two nodes differ");
        self.other = again(&self.other);
        self.desk.check();
        reply
    }

    /// Lets everything go and sends good workers, until nothing is left to do.
    fn drain(&mut self) {
        let of = |what: What| move |topic: usize| (topic, None, Wish::Of(what.clone()));
        for what in [
            What::Put(quick()),
            What::Resume(None),
            What::Resume(Some(key_hash("x"))),
            What::Resume(Some(key_hash("y"))),
        ] {
            self.step((0, (0..TOPICS.len()).map(of(what)).collect()));
        }
        let is_through = |queue: &Queue| {
            let topics = queue.topics.values();
            topics.flat_map(|t| t.groups.values().map(move |g| (t, g))).all(|(topic, group)| {
                group.held.is_empty() && topic.ahead(group) == 0 && topic.delayed.is_empty()
            })
        };
        for _ in 0..60 {
            self.step((20_000, Vec::new()));
            if is_through(&self.desk.node.state.data().queue) {
                return;
            }
            for (group, topic) in
                GROUPS.iter().flat_map(|g| (0..TOPICS.len()).map(move |t| (*g, t)))
            {
                let known = self.desk.node.state.data().queue.topic(TOPICS[topic]).unwrap();
                let ready = self.desk.node.state.queue().is_ready(known, group, self.desk.now);
                let before = self.book.leases.len();
                let lease = What::Lease { group: group.into(), max: 100, lease_ms: 10_000 };
                self.step((0, vec![(topic, None, Wish::Of(lease))]));
                let ids: Vec<LeaseId> = self.book.leases[before..].iter().map(|l| l.2).collect();
                assert!(
                    ready || ids.is_empty(),
                    "nobody was told that {group} has something to do"
                );
                self.step((0, vec![(topic, None, Wish::Of(What::Ack(ids)))]));
            }
        }
        panic!("not everything was finished: {:?}", self.desk.node.state.data().queue.topics);
    }
}

proptest! {
    #![proptest_config(cases(24))]

    // Nodes that differ for good; a message with two workers, or again after its end; or one that nobody is ever
    // given.
    #[test]
    fn whatever_is_asked_two_nodes_agree_and_workers_get_through(steps in proptest::collection::vec(step(), 1..50)) {
        let mut pair = Pair { desk: Desk::empty(), other: State::default(), book: Book::default() };
        for step in steps {
            pair.step(step);
        }
        pair.drain();
    }
}
