//! Leases that were asked for under an `Idempotency-Key`: whoever asks again gets the same ones.
//!
//! An answer is kept for a day, and may be of a thousand messages. Messages leased together mostly stand one behind
//! the other, so what is kept is where they stand; the rest is looked up again. An answer that would be of too many
//! runs ends before: `max` is only the most that somebody wants.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::ask::{Answer, LeaseId, Leased, Refused};
use super::{MessageId, Topic};
use crate::data::Answer as Known;
use crate::limits::{ANSWER_KEEP_MS, ANSWERS_MAX, GRANTED_RUNS_MAX};
use crate::machine::{State, Work};
use crate::reply::{Answered, Reply};
use crate::{Key, Millis};

/// What was leased by one request. The log index of the answer is the token of the leases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// Number of the topic: another one of its name has other messages.
    topic: u32,
    /// Number of the group.
    group: u32,
    until: Millis,
    runs: Vec<Run>,
}

/// Messages one behind the other that were leased as often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    first: MessageId,
    count: u32,
    attempts: u32,
}

/// Counts the runs of what is leased.
#[derive(Default)]
pub(super) struct Runs(Vec<Run>);

impl Runs {
    /// Whether one more message fits.
    pub(super) fn fits(&self, id: MessageId, attempts: u32) -> bool {
        self.0.len() < GRANTED_RUNS_MAX
            || self.0.last().is_some_and(|run| run.goes_on(id, attempts))
    }

    pub(super) fn push(&mut self, id: MessageId, attempts: u32) {
        match self.0.last_mut() {
            Some(run) if run.goes_on(id, attempts) => run.count += 1,
            _ => self.0.push(Run { first: id, count: 1, attempts }),
        }
    }
}

impl Run {
    fn goes_on(&self, id: MessageId, attempts: u32) -> bool {
        self.first.0 + u64::from(self.count) == id.0 && self.attempts == attempts
    }
}

impl State {
    /// Leases messages, once per idempotency key. An answer that leases nothing is not kept: nothing was done, and
    /// whoever waits asks again.
    pub(super) fn lease_once(
        &mut self,
        work: &mut Work,
        (key, body): (Key, Key),
        name: &str,
        (group, max, lease_ms): (&str, u32, Millis),
    ) -> Answer {
        if let Some(known) = self.data.answers.get(&key) {
            return match &known.reply {
                Reply::Answered { index, answer: Answered::Granted(granted) }
                    if known.body == body =>
                {
                    let topic = self.data.queue.topic(name);
                    Answer::Leased(
                        topic.map_or_else(Vec::new, |topic| granted.again(topic, *index)),
                    )
                }
                _ => Answer::Refused(Refused::KeyReused),
            };
        }
        let desk = self.desk(work, name).ok_or(Refused::UnknownTopic);
        let leased = match desk.and_then(|mut desk| desk.lease(group, max, lease_ms, true)) {
            Ok(leased) => leased,
            Err(refused) => return Answer::Refused(refused),
        };
        if let Some(topic) = self.data.queue.topic(name)
            && let Some(granted) = Granted::of(topic, &leased)
        {
            let (index, time) = (work.stamp.index, work.stamp.now);
            let reply = Reply::Answered { index, answer: Answered::Granted(granted) };
            let known = Known { body, reply, time };
            self.data.answers.insert(key, known, time + ANSWER_KEEP_MS, ANSWERS_MAX);
        }
        Answer::Leased(leased)
    }
}

impl Granted {
    fn of(topic: &Topic, leased: &[Leased]) -> Option<Self> {
        let first = leased.first()?;
        let mut runs = Runs::default();
        for of in leased {
            runs.push(of.lease.message, of.attempts);
        }
        let (topic, group, until) = (topic.number, first.lease.group, first.until);
        Some(Self { topic, group, until, runs: runs.0 })
    }

    /// The same leases. Messages that are gone since then are left out: so are their bodies.
    fn again(&self, topic: &Topic, token: u64) -> Vec<Leased> {
        let runs = self.runs.iter().filter(|_| topic.number == self.topic);
        let messages = runs.flat_map(|run| {
            (0..u64::from(run.count)).map(|n| (MessageId(run.first.0 + n), run.attempts))
        });
        let leased = messages.filter_map(|(id, attempts)| {
            let message = *topic.message(id)?;
            let lease = LeaseId { group: self.group, message: id, token };
            Some(Leased { lease, attempts, until: self.until, message })
        });
        leased.collect()
    }
}
