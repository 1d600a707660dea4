//! The node's way to the topics: what many workers ask at the same time is agreed on together.
//!
//! A thousand workers that each finish one message must not mean a thousand entries of the log. So what is asked
//! while earlier batches are on their way waits for its turn, and then goes as one.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cluster::{ProposeError, codec};
use state::limits::SWEPT_AT_ONCE_MAX;
use state::origin::Lane;
use state::queue::ask::{Answer, Ask, LeaseId, What};
use state::queue::{MessageId, Topic};
use state::{Command, Reply};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::agreed::Agreed;
use crate::planted::{self, Bug};

/// Batches on their way at once.
const BATCHES: usize = 4;
/// Requests of one batch.
const ASKS_MAX: usize = 512;
/// Messages that the requests of one batch may concern, and bytes of bodies in it, before the last of them.
const MESSAGES_MAX: usize = 4_096;
const BYTES_MAX: usize = 1 << 20;
/// How long the cluster may take to agree.
const AGREEMENT: Duration = Duration::from_secs(5);

/// How often it is noted how many messages went through.
const NOTED: Duration = Duration::from_secs(5);
/// Notes that are kept: those of a minute.
const NOTES: usize = 12;

/// Asks topics. Cheap to clone.
#[derive(Clone)]
pub struct Topics {
    asks: mpsc::Sender<Waiting>,
    notes: Arc<Mutex<Notes>>,
}

/// Messages published and finished by then, by number of the topic; oldest first.
type Notes = VecDeque<(Instant, HashMap<u32, (u64, u64)>)>;

/// Why nobody answered.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unanswered {
    /// It may or may not be done.
    #[error("{0}")]
    Proposal(Arc<ProposeError>),
    /// The node stops.
    #[error("this node is stopping")]
    Stopping,
    /// The cluster said something else.
    #[error("unexpected reply {0}")]
    Unexpected(String),
}

type Answered = Result<(u64, Answer), Unanswered>;

struct Waiting {
    ask: Ask,
    answer: oneshot::Sender<Answered>,
}

impl Topics {
    /// Starts to carry what is asked to the cluster, until `stop`.
    pub fn start(agreed: impl Agreed, tasks: &TaskTracker, stop: CancellationToken) -> Self {
        let (asks, waiting) = mpsc::channel(ASKS_MAX * 2);
        let notes: Arc<Mutex<Notes>> = Arc::default();
        tasks.spawn(note(agreed.clone(), Arc::clone(&notes), stop.clone()));
        tasks.spawn(carry(agreed, waiting, tasks.clone(), stop));
        Self { asks, notes }
    }

    /// Messages a second of a topic that were published and that were finished, during the last minute.
    #[must_use]
    pub fn rates(&self, topic: &Topic) -> (f64, f64) {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((then, by_topic)) = notes.front() else { return (0.0, 0.0) };
        let seconds = then.elapsed().as_secs_f64().max(1.0);
        let (published, finished) = by_topic.get(&topic.number).copied().unwrap_or_default();
        let now = totals(topic);
        let since = |now: u64, then: u64| {
            f64::from(u32::try_from(now.saturating_sub(then)).unwrap_or(u32::MAX)) / seconds
        };
        (since(now.0, published), since(now.1, finished))
    }

    /// Asks; the answer, and the log index at which it was given.
    pub async fn ask(&self, ask: Ask) -> Answered {
        let (answer, answered) = oneshot::channel();
        let early = if planted::has(Bug::AckIsEarly) { done_already(&ask) } else { None };
        let sent = self.asks.send(Waiting { ask, answer }).await;
        sent.map_err(|_| Unanswered::Stopping)?;
        if let Some(early) = early {
            return Ok(early);
        }
        answered.await.unwrap_or(Err(Unanswered::Stopping))
    }
}

/// What would be answered if all leases of an ack counted.
fn done_already(ask: &Ask) -> Option<(u64, Answer)> {
    let What::Ack(leases) = &ask.what else { return None };
    let newest = leases.iter().map(|lease| lease.token).max()?;
    Some((newest, Answer::Done(vec![true; leases.len()])))
}

fn totals(topic: &Topic) -> (u64, u64) {
    let finished = topic.groups.values().map(|group| group.finished).sum();
    (topic.urgent.published + topic.normal.published, finished)
}

async fn note(agreed: impl Agreed, notes: Arc<Mutex<Notes>>, stop: CancellationToken) {
    let mut every = tokio::time::interval(NOTED);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = every.tick() => {}
        }
        let by_topic = agreed.look(|state| {
            let topics = state.data().queue.topics.values();
            topics.map(|topic| (topic.number, totals(topic))).collect()
        });
        let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push_back((Instant::now(), by_topic));
        if notes.len() > NOTES {
            notes.pop_front();
        }
    }
}

async fn carry(
    agreed: impl Agreed,
    mut waiting: mpsc::Receiver<Waiting>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(BATCHES));
    loop {
        // First the permit, so that whoever asks until there is one comes along.
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let first = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            first = waiting.recv() => first,
        };
        let Some(first) = first else { return };
        let (mut messages, mut bytes) = size(&first.ask.what);
        let mut batch = vec![first];
        while batch.len() < ASKS_MAX && messages < MESSAGES_MAX && bytes < BYTES_MAX {
            let Ok(next) = waiting.try_recv() else { break };
            let more = size(&next.ask.what);
            (messages, bytes) = (messages + more.0, bytes + more.1);
            batch.push(next);
        }
        tasks.spawn(propose(agreed.clone(), batch, permit));
    }
}

/// Messages that a request concerns, and bytes of their bodies.
fn size(what: &What) -> (usize, usize) {
    match what {
        What::Publish(messages) => {
            (messages.len(), messages.iter().map(|message| message.body.len()).sum())
        }
        What::Lease { max, .. } => (usize::try_from(*max).unwrap_or(usize::MAX), 0),
        What::Ack(leases) | What::Nack { leases, .. } | What::Extend { leases, .. } => {
            (leases.len(), 0)
        }
        What::Redrive { messages, .. } | What::Forget { messages, .. } | What::Remove(messages) => {
            (messages.len(), 0)
        }
        // What these leave to be worked off costs as much at once.
        What::Put(_) | What::Begin { .. } | What::Disband(_) | What::Resume(_) => {
            (SWEPT_AT_ONCE_MAX, 0)
        }
        _ => (1, 0),
    }
}

async fn propose(agreed: impl Agreed, batch: Vec<Waiting>, permit: OwnedSemaphorePermit) {
    let (asks, answers): (Vec<Ask>, Vec<_>) =
        batch.into_iter().map(|waiting| (waiting.ask, waiting.answer)).unzip();
    let proposed = agreed.propose(codec::encode(&Command::Queue(asks)), AGREEMENT).await;
    drop(permit);
    let replied = proposed.map_err(|error| Unanswered::Proposal(Arc::new(error)));
    let replied = replied.and_then(|reply| match codec::decode(&reply.bytes) {
        Ok(Reply::Queue(said)) if said.len() == answers.len() => Ok((reply.index, said)),
        other => Err(Unanswered::Unexpected(format!("{other:?}"))),
    });
    match replied {
        // Whoever has left does not wait for an answer.
        Ok((index, said)) => {
            for (answer, said) in answers.into_iter().zip(said) {
                let _ = answer.send(Ok((index, said)));
            }
        }
        Err(error) => {
            for answer in answers {
                let _ = answer.send(Err(error.clone()));
            }
        }
    }
}

/// A message's number as programs outside see it: `u7` is the seventh urgent one, `n7` of the others.
#[must_use]
pub fn message_id(id: MessageId) -> String {
    let lane = if id.lane() == Lane::Urgent { 'u' } else { 'n' };
    format!("{lane}{}", id.place())
}

/// The same the other way.
#[must_use]
pub fn parse_message_id(text: &str) -> Option<MessageId> {
    let (lane, place) = text.split_at_checked(1)?;
    let lane = match lane {
        "u" => Lane::Urgent,
        "n" => Lane::Normal,
        _ => return None,
    };
    let place = place.parse().ok().filter(|place| *place < 1 << 63)?;
    Some(MessageId::new(lane, place))
}

/// A lease as workers name it: topic, group, message and token, so that no lease of another topic fits.
#[must_use]
pub fn lease_id(topic: u32, lease: &LeaseId) -> String {
    let mut text = format!("{topic}.{}.{}.", lease.group, message_id(lease.message));
    // Writing to a String cannot fail.
    let _ = write!(text, "{}", lease.token);
    text
}

/// The same the other way, if it is one of this topic.
#[must_use]
pub fn parse_lease_id(topic: u32, text: &str) -> Option<LeaseId> {
    let mut parts = text.split('.');
    let of_topic: u32 = parts.next()?.parse().ok()?;
    let group = parts.next()?.parse().ok()?;
    let message = parse_message_id(parts.next()?)?;
    let token = parts.next()?.parse().ok()?;
    (parts.next().is_none() && of_topic == topic).then_some(LeaseId { group, message, token })
}

#[cfg(test)]
mod tests {
    use super::*;

    // A lease that fits another topic, or another message, finishes what nobody worked on.
    #[test]
    fn ids_name_one_thing() {
        for (lane, text) in [(Lane::Urgent, "u7"), (Lane::Normal, "n7")] {
            let message = MessageId::new(lane, 7);
            assert_eq!(message_id(message), text);
            assert_eq!(parse_message_id(text), Some(message));
            let lease = LeaseId { group: 2, message, token: 99 };
            let written = lease_id(3, &lease);
            assert_eq!(parse_lease_id(3, &written), Some(lease));
            assert_eq!(parse_lease_id(4, &written), None);
        }
        for wrong in ["", "7", "x7", "n", "n-1", "n9223372036854775808", "ü7"] {
            assert_eq!(parse_message_id(wrong), None, "{wrong:?}");
        }
        for wrong in ["", "3.2.n7", "3.2.n7.99.1", "3.2.7.99", "a.2.n7.9"] {
            assert_eq!(parse_lease_id(3, wrong), None, "{wrong:?}");
        }
    }
}
