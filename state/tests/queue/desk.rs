//! A topic with workers at it: the state, the bodies beside it, and what must hold of both.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde::de::DeserializeOwned;
use state::origin::Lane;
use state::queue::Message;
use state::queue::MessageId;
use state::queue::ask::{Answer, Ask, LeaseId, Leased, Publish, Published, What};
use state::queue::lists::Lists;
use state::queue::settings::Settings;
use state::reply::Kept;
use state::{Command, Reply, State};

use crate::common::{Node, START, key};

pub(crate) const TOPIC: &str = "orders.created";

pub(crate) fn publish(text: &str) -> Publish {
    Publish { lane: Lane::Normal, key: None, delay_ms: 0, dedup: None, body: text.into() }
}

pub(crate) fn keyed(text: &str, key: &str) -> Publish {
    Publish { key: Some(key.into()), ..publish(text) }
}

pub(crate) fn urgent(text: &str) -> Publish {
    Publish { lane: Lane::Urgent, ..publish(text) }
}

/// A state, the bodies beside it, and what workers were told.
pub(crate) struct Desk {
    pub(crate) node: Node,
    pub(crate) bodies: BTreeMap<(u64, u32), Vec<u8>>,
    pub(crate) now: u64,
}

impl Desk {
    pub(crate) fn new(settings: Settings) -> Self {
        let mut desk = Self::empty();
        assert_eq!(desk.ask(What::Put(settings)), Answer::Count(1));
        desk
    }

    /// Without a topic.
    pub(crate) fn empty() -> Self {
        Self { node: Node::default(), bodies: BTreeMap::new(), now: START }
    }

    pub(crate) fn ask(&mut self, what: What) -> Answer {
        let ask = Ask { idempotency: None, topic: TOPIC.into(), what };
        let Reply::Queue(mut answers) = self.apply(Command::Queue(vec![ask])) else { panic!() };
        answers.pop().unwrap()
    }

    pub(crate) fn apply(&mut self, command: Command) -> Reply {
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

    pub(crate) fn later(&mut self, ms: u64) {
        self.now += ms;
        self.apply(Command::Tick);
    }

    pub(crate) fn publish(&mut self, messages: Vec<Publish>) -> Vec<Published> {
        match self.ask(What::Publish(messages)) {
            Answer::Published(published) => published,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn lease(&mut self, group: &str, max: u32) -> Vec<Leased> {
        match self.ask(What::Lease { group: group.into(), max, lease_ms: 30_000 }) {
            Answer::Leased(leased) => leased,
            other => panic!("{other:?}"),
        }
    }

    /// Leases under an idempotency key.
    pub(crate) fn lease_once(&mut self, id: &str, max: u32) -> Answer {
        let what = What::Lease { group: "erp".into(), max, lease_ms: 30_000 };
        let idempotency = Some((key(id), key(&max.to_string())));
        let ask = Ask { idempotency, topic: TOPIC.into(), what };
        let Reply::Queue(mut answers) = self.apply(Command::Queue(vec![ask])) else { panic!() };
        answers.pop().unwrap()
    }

    /// Leases, and says what was in them.
    pub(crate) fn texts(&mut self, group: &str, max: u32) -> Vec<String> {
        let leased = self.lease(group, max);
        leased.iter().map(|leased| self.text(&leased.message)).collect()
    }

    pub(crate) fn text(&self, message: &Message) -> String {
        String::from_utf8(self.bodies[&(message.index, message.n)].clone()).unwrap()
    }

    pub(crate) fn ack(&mut self, leases: &[LeaseId]) -> Vec<bool> {
        self.done(What::Ack(leases.to_vec()))
    }

    pub(crate) fn nack(&mut self, leases: &[LeaseId], delay_ms: Option<u64>) -> Vec<bool> {
        self.done(What::Nack { leases: leases.to_vec(), delay_ms, reason: "no".into() })
    }

    pub(crate) fn done(&mut self, what: What) -> Vec<bool> {
        match self.ask(what) {
            Answer::Done(done) => done,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn dead(&self, group: &str) -> Vec<MessageId> {
        let topic = self.node.state.data().queue.topic(TOPIC).unwrap();
        let group = topic.groups.get(group);
        group.into_iter().flat_map(|g| g.dead.iter()).map(|(id, _)| MessageId(id)).collect()
    }

    /// What must hold of any topics, whatever was asked of them.
    pub(crate) fn check(&self) {
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
    pub(crate) fn restart(&mut self) {
        self.node.state = State::new(written_and_read(self.node.state.data()));
    }
}

/// What a snapshot makes of something.
pub(crate) fn written_and_read<T: Serialize + DeserializeOwned>(value: &T) -> T {
    let config = bincode::config::standard();
    let written = bincode::serde::encode_to_vec(value, config).unwrap();
    bincode::serde::decode_from_slice(&written, config).unwrap().0
}

pub(crate) fn quick() -> Settings {
    Settings { attempts: 3, backoff_ms: 1_000, backoff_max_ms: 4_000, ..Settings::default() }
}
