//! What producers and workers know by themselves: what they published, were given and were told. Topics are held
//! against it (I7).

use std::collections::{BTreeMap, BTreeSet};
use std::iter;

use cluster::codec;
use state::origin::Lane;
use state::queue::MessageId;
use state::queue::ask::{Ask, From, LeaseId, Leased, Published, What};
use state::queue::settings::Settings;
use state::reply::Kept;
use state::{Command, Data, Effects};

use super::heaps::Heaps;

pub(super) const TOPIC: &str = "jobs";
pub(super) const GROUPS: [&str; 2] = ["erp", "mail"];

/// How the topic behaves: what fails is soon tried again, and soon given up.
pub(super) fn settings() -> Settings {
    Settings {
        attempts: 4,
        backoff_ms: 2_000,
        backoff_max_ms: 60_000,
        replay_ms: 60_000,
        ..Settings::default()
    }
}

/// The command that makes the topic and its groups.
pub(super) fn opening() -> Vec<u8> {
    let begin = |group: &&str| What::Begin { group: (*group).into(), from: From::Earliest };
    let whats = iter::once(What::Put(settings())).chain(GROUPS.iter().map(begin));
    let asks = whats.map(|what| Ask { idempotency: None, topic: TOPIC.into(), what });
    codec::encode(&Command::Queue(asks.collect()))
}

/// Something that somebody published.
#[derive(Default)]
struct Job {
    /// Its publication was answered.
    promised: bool,
    /// As many messages of it there may be: what is sent again under no id may come twice.
    copies_max: usize,
    /// Those that there are, as far as anybody was told.
    copies: BTreeSet<MessageId>,
}

/// What the workers of one group know of a message.
#[derive(Default)]
struct Told {
    /// By log index of the lease.
    leases: BTreeMap<u64, Lease>,
    finished: Option<Finished>,
    /// An ack has had no answer: it may be finished.
    doubtful: bool,
    /// An operator has let it be tried again: attempts count anew, and it has lost its turn.
    redriven: bool,
}

/// A lease, as its worker was told of it.
struct Lease {
    attempts: u32,
    /// Agreed time.
    until: u64,
    /// The worker has given it back, or tried to.
    released: bool,
}

/// A worker was told that a message is finished.
#[derive(Clone, Copy)]
struct Finished {
    /// Under which lease.
    by: u64,
    said: Said,
}

/// Where the body of a job lies, as a node's history keeps it.
struct Body {
    job: u64,
    /// Log index at which it was dropped.
    dropped: Option<u64>,
}

/// The book of all producers and workers.
#[derive(Default)]
#[expect(clippy::struct_field_names, reason = "it is jobs that it has")]
pub(super) struct Jobs {
    /// By number, which is the body.
    jobs: BTreeMap<u64, Job>,
    /// By log index and number within it.
    bodies: BTreeMap<(u64, u32), Body>,
    /// By group.
    told: BTreeMap<(usize, MessageId), Told>,
    /// Which message of a key had its turn, by group, key, lane, and log index of the lease.
    turns: BTreeMap<(usize, u64, u8), BTreeMap<u64, MessageId>>,
    /// Of other topics, with much in them.
    pub(super) heaps: Heaps,
}

/// How an answer came.
#[derive(Clone, Copy)]
pub(super) struct Said {
    /// Log index at which it was agreed on.
    pub(super) index: u64,
    /// Whether it was asked once: what is asked again may have been done before.
    pub(super) at_once: bool,
}

impl Jobs {
    /// Notes where the bodies of an entry lie, and which are dropped.
    pub(super) fn kept(&mut self, index: u64, effects: &Effects) {
        self.heaps.kept(index, effects);
        for body in &effects.bodies {
            let Kept::Message { body: bytes, .. } = &body.kept else { continue };
            let job = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
            if let Some(job) = job {
                self.bodies.insert((index, body.n), Body { job, dropped: None });
            }
        }
        for place in &effects.dropped {
            if let Some(body) = self.bodies.get_mut(place) {
                body.dropped = Some(index);
            }
        }
    }

    /// Somebody asks to publish a job. If nothing tells that it is the same, each time may count.
    pub(super) fn asked(&mut self, number: u64, has_id: bool) {
        let job = self.jobs.entry(number).or_default();
        job.copies_max = if has_id { 1 } else { job.copies_max + 1 };
    }

    /// The publication of a job is answered.
    pub(super) fn published(&mut self, number: u64, published: Published) -> Result<(), String> {
        self.jobs.entry(number).or_default().promised = true;
        match published {
            // What is delayed has no number yet.
            Published::New(id) | Published::Duplicate(id) if id.place() > 0 => {
                self.copy(number, id)
            }
            _ => Ok(()),
        }
    }

    fn copy(&mut self, number: u64, id: MessageId) -> Result<(), String> {
        let job = self.jobs.entry(number).or_default();
        job.copies.insert(id);
        let (copies, most) = (job.copies.len(), job.copies_max);
        if copies <= most {
            Ok(())
        } else {
            Err(format!("job {number} is {copies} of {most} messages"))
        }
    }

    /// A worker was given a message, for so long.
    pub(super) fn leased(&mut self, group: usize, got: &Leased, ms: u64) -> Result<(), String> {
        let (id, token) = (got.lease.message, got.lease.token);
        let name = name(group, id);
        let body = self.bodies.get(&(got.message.index, got.message.n));
        let body = body.filter(|body| body.dropped.is_none_or(|at| at >= token));
        let job = body.map(|body| body.job).ok_or_else(|| format!("{name} has lost its body"))?;
        self.copy(job, id)?;
        let told = self.told.entry((group, id)).or_default();
        if let Some(Finished { said, .. }) = told.finished
            && token > said.index
        {
            return Err(format!(
                "{name} was finished by {}, and comes again at {token}",
                said.index
            ));
        }
        let before = told.leases.range(..token).next_back();
        let after = told.leases.range(token + 1..).next();
        let began = got.until.saturating_sub(ms);
        if before.is_some_and(|(_, lease)| !lease.released && began < lease.until) {
            return Err(format!("{name} is with two workers at {token}"));
        }
        let grows = before.is_none_or(|(_, lease)| lease.attempts < got.attempts)
            && after.is_none_or(|(_, lease)| lease.attempts > got.attempts);
        if got.attempts > settings().attempts || got.attempts == 0 || !(grows || told.redriven) {
            return Err(format!("{name} is tried for the {}. time at {token}", got.attempts));
        }
        let lease = Lease { attempts: got.attempts, until: got.until, released: false };
        told.leases.insert(token, lease);
        if got.message.key != 0 && !told.redriven {
            let lane = u8::from(id.lane() == Lane::Normal);
            let turns = self.turns.entry((group, got.message.key, lane)).or_default();
            turns.insert(token, id);
        }
        Ok(())
    }

    /// A worker gives a message back, one way or the other: from here on another may have it.
    pub(super) fn releases(&mut self, group: usize, lease: &LeaseId) {
        let told = self.told.entry((group, lease.message)).or_default();
        if let Some(lease) = told.leases.get_mut(&lease.token) {
            lease.released = true;
        }
    }

    /// An ack has had no answer.
    pub(super) fn doubts(&mut self, group: usize, lease: &LeaseId) {
        self.told.entry((group, lease.message)).or_default().doubtful = true;
    }

    /// A worker was told that what it said of its lease counts; `is_ack` if that finishes the message.
    pub(super) fn done(
        &mut self,
        group: usize,
        lease: &LeaseId,
        said: Said,
        is_ack: bool,
    ) -> Result<(), String> {
        let (token, index) = (lease.token, said.index);
        let told = self.told.entry((group, lease.message)).or_default();
        let name = name(group, lease.message);
        let newer = told.leases.range(token + 1..).map(|(newer, _)| *newer).find(|at| *at < index);
        if let Some(newer) = newer.filter(|_| said.at_once) {
            return Err(format!("{name}: lease {token} counted at {index}, {newer} is newer"));
        }
        if let Some(before) = told.finished
            && ((is_ack && before.by != token) || (said.at_once && before.said.index < index))
        {
            let by = before.by;
            return Err(format!("{name} was finished under lease {by}, and {token} counted too"));
        }
        if is_ack {
            told.finished = Some(Finished { by: token, said });
            if let Some((again, _)) = told.leases.range(index + 1..).next() {
                return Err(format!("{name} was finished at {index}, and came again at {again}"));
            }
        }
        Ok(())
    }

    /// A worker was told that its lease has run out, by this agreed time.
    pub(super) fn gone(
        &mut self,
        group: usize,
        lease: &LeaseId,
        said: Said,
        now: u64,
    ) -> Result<(), String> {
        let told = self.told.entry((group, lease.message)).or_default();
        let known = told.leases.get(&lease.token).filter(|known| now < known.until);
        match known.filter(|_| said.at_once) {
            Some(known) => {
                let name = name(group, lease.message);
                let (token, index, until) = (lease.token, said.index, known.until);
                Err(format!("{name}: lease {token} is gone at {index}, before {until}"))
            }
            None => Ok(()),
        }
    }

    /// An operator asks for something to be tried again.
    pub(super) fn redrives(&mut self, group: usize, id: MessageId) {
        self.told.entry((group, id)).or_default().redriven = true;
    }

    /// What the topic still has to do; `Ok` if it has nothing.
    pub(super) fn quiet(data: &Data) -> Result<(), String> {
        let Some(topic) = data.queue.topic(TOPIC) else { return Ok(()) };
        let waits = |group| topic.ahead(group) + group.held.len();
        match topic.delayed.len() + topic.groups.values().map(waits).sum::<usize>() {
            0 => Ok(()),
            waiting => Err(format!("{waiting} messages wait for their workers")),
        }
    }

    /// Everything is at rest: what was promised is finished, or was given up after as many attempts as there
    /// may be; and nothing else is left.
    pub(super) fn at_rest(&mut self, data: &Data) -> Result<(), String> {
        self.heaps.at_rest(data)?;
        let topic = data.queue.topic(TOPIC).ok_or("there is no topic")?;
        let mut dead = BTreeSet::new();
        for (n, group) in GROUPS.iter().enumerate() {
            let known = topic.groups.get(*group).ok_or("there is no group")?;
            for (id, given_up) in known.dead.iter() {
                let id = MessageId(id);
                dead.insert((n, id));
                if given_up.attempts != settings().attempts {
                    let attempts = given_up.attempts;
                    return Err(format!("{} was given up after {attempts}", name(n, id)));
                }
                let message = topic.message(id).ok_or("what is dead is gone")?;
                let body = self.bodies.get(&(message.index, message.n));
                let body = body.filter(|body| body.dropped.is_none());
                let job = body.ok_or_else(|| format!("{} has no body", name(n, id)))?.job;
                self.copy(job, id)?;
            }
            let of_group = || self.told.iter().filter(|((group, _), _)| *group == n);
            let finished = count(of_group().filter(|(_, told)| told.finished.is_some()));
            let most =
                count(of_group().filter(|(_, told)| told.finished.is_some() || told.doubtful));
            if !(finished..=most).contains(&known.finished) {
                let counted = known.finished;
                return Err(format!("{group} finished {finished} to {most}, not {counted}"));
            }
        }
        self.kept_its_promises(&dead)?;
        self.in_turn()?;
        let left: BTreeSet<MessageId> = dead.iter().map(|(_, id)| *id).collect();
        let bodies = count(self.bodies.values().filter(|body| body.dropped.is_none()));
        if (topic.depth(), bodies) == (count(left.iter()), count(left.iter())) {
            return Ok(());
        }
        let (left, depth) = (left.len(), topic.depth());
        Err(format!("{left} messages are left, {depth} are kept, and {bodies} bodies"))
    }

    fn kept_its_promises(&self, dead: &BTreeSet<(usize, MessageId)>) -> Result<(), String> {
        for (number, job) in self.jobs.iter().filter(|(_, job)| job.promised) {
            if job.copies.is_empty() {
                return Err(format!("job {number} was published, and never came"));
            }
        }
        let copies = self.jobs.values().flat_map(|job| &job.copies);
        for id in copies {
            for n in 0..GROUPS.len() {
                let told = self.told.get(&(n, *id));
                let finished = told.is_some_and(|told| told.finished.is_some());
                let doubtful = told.is_some_and(|told| told.doubtful);
                match (finished, dead.contains(&(n, *id))) {
                    (true, true) => {
                        return Err(format!("{} was finished, and given up", name(n, *id)));
                    }
                    (false, false) if !doubtful => {
                        return Err(format!("{} was never finished", name(n, *id)));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// The messages of a key had their turns in their order, each once the one before it was done with.
    fn in_turn(&self) -> Result<(), String> {
        for ((group, ..), turns) in &self.turns {
            for ((_, first), (token, second)) in turns.iter().zip(turns.iter().skip(1)) {
                let told = self.told.get(&(*group, *first)).filter(|told| !told.redriven);
                let finished = told.and_then(|told| told.finished);
                let late = finished.is_some_and(|f| f.said.at_once && f.said.index > *token);
                if first > second || (first < second && late) {
                    let (first, second) = (name(*group, *first), name(*group, *second));
                    return Err(format!(
                        "{second} of the same key was leased before {first} was done"
                    ));
                }
            }
        }
        Ok(())
    }

    /// How many messages were given up, as far as a state tells.
    pub(super) fn given_up(data: &Data) -> usize {
        let groups = data.queue.topic(TOPIC).into_iter().flat_map(|topic| topic.groups.values());
        groups.map(|group| group.dead.len()).sum()
    }
}

fn name(group: usize, id: MessageId) -> String {
    let group = GROUPS.get(group).copied().unwrap_or_default();
    format!("message {} of {group}", crate::topics::message_id(id))
}

fn count(of: impl Iterator) -> u64 {
    u64::try_from(of.count()).unwrap_or(u64::MAX)
}
