//! From the inbox to the log: segments are proposed in order, several at a time, until each is in the
//! state. The state refuses a gap, so whatever happens here, nothing is applied twice or left out.

use std::time::Duration;

use cluster::{ProposeError, codec};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use state::command::Segment;
use state::origin::Lane;
use state::{Command, Reply};
use tokio_util::sync::CancellationToken;

use crate::agreed::Agreed;
use crate::inbox::{Inbox, Place, Store, Written};
use crate::planted::{self, Bug};

/// How long one proposal may take before it is made again.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pauses after failures, doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Urgent segments taken for each normal one, so that neither lane starves.
const URGENT_PER_NORMAL: u32 = 8;

/// Proposes what the inbox holds until `stop`.
pub async fn run<S: Store>(
    inbox: Inbox<S>,
    cluster: impl Agreed,
    outstanding_max: usize,
    stop: CancellationToken,
) {
    let mut submitter = Submitter {
        lanes: [Proposed::after(&inbox, Lane::Urgent), Proposed::after(&inbox, Lane::Normal)],
        urgent_in_a_row: 0,
        pause: PAUSE_MIN,
    };
    let mut changed = inbox.watch();
    let mut outstanding = FuturesUnordered::new();
    loop {
        changed.borrow_and_update();
        while outstanding.len() < outstanding_max.max(1) {
            let Some(place) = submitter.next(&inbox) else { break };
            outstanding.push(propose(inbox.clone(), cluster.clone(), place));
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some((place, outcome)) = outstanding.next(), if !outstanding.is_empty() => {
                submitter.settle(&inbox, place, outcome);
                if let Some(pause) = submitter.pause_before_retry() {
                    tokio::select! {
                        biased;
                        () = tokio::time::sleep(pause) => {}
                        () = stop.cancelled() => return,
                    }
                }
            }
            changed = changed.changed() => if changed.is_err() { return },
        }
    }
}

/// What became of a proposal.
enum Outcome {
    /// The segment is in the state.
    Applied,
    /// One before it is missing there.
    Gap,
    /// Nobody knows, or nobody leads.
    Failed(String),
}

struct Submitter {
    lanes: [Proposed; 2],
    urgent_in_a_row: u32,
    pause: Duration,
}

/// Where one lane stands.
struct Proposed {
    lane: Lane,
    /// The number that is proposed next.
    next: u64,
    outstanding: u32,
    /// After a failure: nothing more is proposed until all outstanding ones are settled, then again
    /// from the first that is not in the state.
    rewind: bool,
}

impl Proposed {
    fn after<S: Store>(inbox: &Inbox<S>, lane: Lane) -> Self {
        Self { lane, next: inbox.last_agreed(lane) + 1, outstanding: 0, rewind: false }
    }

    fn take<S: Store>(&mut self, inbox: &Inbox<S>) -> Option<Place> {
        if self.rewind && self.outstanding == 0 {
            self.rewind = false;
            self.next = inbox.last_agreed(self.lane) + 1;
        }
        if self.rewind || self.next > inbox.last_written(self.lane) {
            return None;
        }
        let place = Place { lane: self.lane, sequence: self.next };
        self.next += 1;
        self.outstanding += 1;
        Some(place)
    }
}

impl Submitter {
    /// The next segment to propose: urgent ones first, but never only those.
    fn next<S: Store>(&mut self, inbox: &Inbox<S>) -> Option<Place> {
        let [urgent, normal] = &mut self.lanes;
        if self.urgent_in_a_row >= URGENT_PER_NORMAL
            && let Some(place) = normal.take(inbox)
        {
            self.urgent_in_a_row = 0;
            return Some(place);
        }
        if let Some(place) = urgent.take(inbox) {
            self.urgent_in_a_row += 1;
            return Some(place);
        }
        self.urgent_in_a_row = 0;
        normal.take(inbox)
    }

    fn settle<S: Store>(&mut self, inbox: &Inbox<S>, place: Place, outcome: Outcome) {
        let [urgent, normal] = &mut self.lanes;
        let lane = if place.lane == Lane::Urgent { urgent } else { normal };
        lane.outstanding -= 1;
        match outcome {
            Outcome::Applied => {
                inbox.mark_agreed(place);
                self.pause = PAUSE_MIN;
            }
            Outcome::Gap => lane.rewind = true,
            Outcome::Failed(why) => {
                lane.rewind = true;
                tracing::debug!(?place, why, "a segment was not agreed on yet");
            }
        }
    }

    /// How long to wait, once all that was outstanding after a failure has failed too.
    fn pause_before_retry(&mut self) -> Option<Duration> {
        let failed = self.lanes.iter().any(|lane| lane.rewind);
        if !failed || self.lanes.iter().any(|lane| lane.outstanding > 0) {
            return None;
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        Some(pause)
    }
}

async fn propose<S: Store>(
    inbox: Inbox<S>,
    cluster: impl Agreed,
    place: Place,
) -> (Place, Outcome) {
    let Written { durable_ms, deliveries } = match inbox.read(place) {
        Ok(Some(read)) => read,
        // Agreed on meanwhile.
        Ok(None) if inbox.last_agreed(place.lane) >= place.sequence => {
            return (place, Outcome::Applied);
        }
        Ok(None) => return (place, Outcome::Gap),
        Err(error) => cluster::durable::halt("the inbox cannot be read", &error),
    };
    let command = Command::Segment(Segment {
        origin: inbox.origin(),
        lane: place.lane,
        sequence: place.sequence,
        durable_ms,
        deliveries: deliveries.to_vec(),
    });
    let outcome = match cluster.propose(codec::encode(&command), PROPOSE_TIMEOUT).await {
        Ok(reply) => match codec::decode(&reply.bytes) {
            Ok(Reply::Applied) => Outcome::Applied,
            Ok(Reply::Gap { .. }) if planted::has(Bug::GapIsApplied) => Outcome::Applied,
            Ok(Reply::Gap { .. }) => Outcome::Gap,
            Ok(other) => Outcome::Failed(format!("unexpected reply {other:?}")),
            Err(error) => Outcome::Failed(error.to_string()),
        },
        Err(error @ ProposeError::TooLarge { .. }) => {
            tracing::error!(?place, %error, "a segment can never be agreed on");
            Outcome::Failed(error.to_string())
        }
        Err(error) => Outcome::Failed(error.to_string()),
    };
    (place, outcome)
}
