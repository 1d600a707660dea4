//! Anything that workers and operators may do, in any order, and a node that restarts meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::Index;
use state::origin::Lane;
use state::queue::ask::{Answer, LeaseId, Leased, Publish, Refused, What};
use state::queue::{MessageId, Place};

use crate::common::{self, cases};
use crate::desk::{Desk, TOPIC, quick};

const GROUPS: [&str; 2] = ["erp", "mail"];

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
    /// One of the leases that there ever were.
    fn pick(&self, which: Index) -> Option<(usize, Leased)> {
        (!self.leases.is_empty()).then(|| self.leases[which.index(self.leases.len())])
    }

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

    /// What an operator does.
    fn operate(&mut self, book: &mut Book, step: Step) {
        let hash = |key: u8| state::queue::key_hash(&key.to_string());
        match step {
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
                let Some((_, leased)) = book.pick(which) else { return };
                self.ask(What::Remove(vec![leased.lease.message]));
                book.removed.insert(leased.lease.message);
            }
            other => unreachable!("{other:?} is what a worker does"),
        }
    }

    fn step(&mut self, book: &mut Book, step: Step) {
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
                let chosen: Vec<_> = which.into_iter().filter_map(|w| book.pick(w)).collect();
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
                let Some((_, leased)) = book.pick(which) else { return };
                self.later(0);
                let live = self.is_live(&leased.lease);
                assert_eq!(self.nack(&[leased.lease], delay), [live]);
            }
            Step::Extend(which) => {
                let Some((_, leased)) = book.pick(which) else { return };
                self.later(0);
                let live = self.is_live(&leased.lease);
                let what = What::Extend { leases: vec![leased.lease], lease_ms: 45_000 };
                assert_eq!(self.done(what), [live]);
                // Its end is later than the book knows, which only makes the book look less closely.
            }
            Step::Later(ms) => self.later(ms),
            Step::Restart => self.restart(),
            other => self.operate(book, other),
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
            for (group, name) in GROUPS.iter().enumerate() {
                let leased = desk.lease(name, 100);
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
