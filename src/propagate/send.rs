//! What is sent to a channel and read from it, and what its answers mean for the next call.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use state::command::{Outcome, Settled};
use state::limits::MINUTE_MS;
use state::{Command, State};
use tokio::time::Instant;

use super::own::Owned;
use super::pace::Urgency;
use super::turn::Turn;
use super::{Lost, Pusher, Rows};
use crate::agreed::Agreed;
use crate::channel::{Place, PushError, Quantities, Row, RowOutcome};
use crate::measures;
use crate::planted::{self, Bug};

/// Why a listing that nobody can address is not pushed to.
const NO_LOCATION: &str =
    "no location: set location_id in the channel's api or in the SKU's listing";
/// How often a push without an answer is sent, where the channel takes it once only.
const SEND_TRIES: u32 = 3;
/// How often what became of a push is read in vain before it is left to the next epoch.
const READ_TRIES: u32 = 5;
/// How long nothing goes by feed after one was refused as a whole.
const FEED_AGAIN: Duration = Duration::from_secs(600);
/// How long a channel rests whose credentials are not accepted, unless somebody resumes it.
const UNAUTHORISED_MS: u64 = 5 * MINUTE_MS;

impl<Q: Quantities, A: Agreed> Pusher<Q, A> {
    /// Reads what the channel shows. Listings that it did not answer for are left out; one that spoils
    /// the call for the others is found by halving.
    pub(super) async fn read_back(&self, asked: Vec<Asked>, urgency: Urgency) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let mut by_location: BTreeMap<String, Vec<Asked>> = BTreeMap::new();
        for asked in asked {
            by_location.entry(asked.place.location.clone()).or_default().push(asked);
        }
        let calls = self.client.calls();
        if calls.located {
            let nowhere = by_location.remove("").unwrap_or_default().into_iter();
            outcomes.extend(nowhere.map(|asked| asked.became(Settled::Failed(NO_LOCATION.into()))));
        }
        let chunks = |asked: Vec<Asked>| {
            asked.chunks(calls.reads_max.max(1)).map(<[Asked]>::to_vec).collect::<Vec<_>>()
        };
        let mut parts: Vec<Vec<Asked>> = by_location.into_values().flat_map(chunks).collect();
        while let Some(mut part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let places: Vec<Place> = part.iter().map(|asked| asked.place.clone()).collect();
            self.pace.take(urgency).await;
            match Turn::reading(&self.pace, urgency).take(self.client.read(&places)).await {
                Ok(answered) => {
                    self.answered(answered.wait).await;
                    let shown = part.into_iter().zip(answered.value);
                    outcomes.extend(shown.map(|(asked, shown)| asked.shows(shown)));
                }
                Err(PushError::Suspect(why)) => match part.pop() {
                    Some(asked) if part.is_empty() => {
                        self.count_failure();
                        self.answered(Duration::ZERO).await;
                        outcomes.push(asked.became(Settled::Failed(why)));
                    }
                    last => {
                        self.answered(Duration::ZERO).await;
                        part.extend(last);
                        parts.push(part.split_off(part.len() / 2));
                        parts.push(part);
                    }
                },
                Err(error) => self.note(&error).await,
            }
        }
        outcomes
    }

    /// Reads until everything is known, or none of it is any more: one listing that cannot be read must not hold up
    /// all others.
    pub(super) async fn read_all(&self, mut unread: Vec<Asked>, urgency: Urgency) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let mut in_vain = 0;
        while !unread.is_empty() && in_vain < READ_TRIES {
            let known = self.read_back(unread.clone(), urgency).await;
            in_vain = if known.is_empty() { in_vain + 1 } else { 0 };
            unread.retain(|asked| !known.iter().any(|outcome| outcome.sku == asked.place.sku));
            outcomes.extend(known);
        }
        outcomes
    }

    /// Sends what was agreed on, and reads back what the channel did not expect.
    pub(super) async fn push(
        &self,
        own: &Arc<Owned>,
        rows: Rows,
        urgency: Urgency,
    ) -> Result<Vec<Outcome>, Lost> {
        let (mut outcomes, mut unread) = (Vec::new(), Vec::new());
        let mut parts: Vec<Rows> = vec![rows];
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let (before, mut untouched) = (part.len(), Vec::new());
            let results = self.set(own, &part, urgency).await?;
            for ((row, revision), result) in part.into_iter().zip(results) {
                let asked = Asked::of(&row, revision);
                match result {
                    RowOutcome::Untouched => untouched.push((row, revision)),
                    RowOutcome::Stale => {
                        // This push is over; the reading is one of its own.
                        unread.push(Asked { revision: 0, ..asked.clone() });
                        outcomes.push(asked.became(Settled::Refused));
                    }
                    other => match settled(other) {
                        Some(result) => outcomes.push(asked.became(result)),
                        None => unread.push(asked),
                    },
                }
            }
            // The others go without those at fault; if nobody knows which those are, by halves.
            if untouched.len() == before && before > 1 {
                parts.push(untouched.split_off(before / 2));
            } else if untouched.len() == before {
                let alone = untouched
                    .drain(..)
                    .map(|(row, revision)| Asked::of(&row, revision).became(Settled::Refused));
                outcomes.extend(alone);
            }
            parts.push(untouched);
        }
        outcomes.extend(self.read_all(unread, urgency).await);
        Ok(outcomes)
    }

    /// Sends rows; one outcome each. Rows without an answer are sent again, the same bytes under the
    /// same key, where the channel compares: if they were taken before, it repeats its answer, or refuses. A
    /// channel that does not compare would set them twice, and sell between.
    pub(super) async fn set(
        &self,
        own: &Arc<Owned>,
        rows: &[(Row, u64)],
        urgency: Urgency,
    ) -> Result<Vec<RowOutcome>, Lost> {
        let key = idempotency_key(&self.channel.name, rows);
        let plain: Vec<Row> = rows.iter().map(|(row, _)| row.clone()).collect();
        let all = |outcome: RowOutcome| Ok(vec![outcome; rows.len()]);
        let tries = if self.compares() { SEND_TRIES } else { 1 };
        let mut unknown = false;
        for _ in 0..tries {
            self.pace.take(urgency).await;
            self.hold(own).await?;
            if self.is_paused() {
                return all(if unknown { RowOutcome::Unknown } else { RowOutcome::Refused });
            }
            let turn = Turn::setting(&self.pace, urgency, own);
            match turn.take(self.client.set(&plain, &key)).await {
                Ok(answered) => {
                    self.answered(answered.wait).await;
                    return Ok(answered.value);
                }
                Err(PushError::Suspect(why)) if !unknown => {
                    self.count_failure();
                    self.answered(Duration::ZERO).await;
                    let alone = rows.len() == 1;
                    return all(if alone {
                        RowOutcome::Failed(why)
                    } else {
                        RowOutcome::Untouched
                    });
                }
                Err(error) => {
                    self.note(&error).await;
                    unknown |= matches!(error, PushError::Unknown(_))
                        && !planted::has(Bug::UnknownIsRefused);
                    // After one without an answer, a refusal of the repetition proves nothing.
                    if !unknown {
                        return all(RowOutcome::Refused);
                    }
                }
            }
        }
        all(RowOutcome::Unknown)
    }

    /// Sends many rows as one job; one outcome each.
    pub(super) async fn feed(
        &self,
        own: &Arc<Owned>,
        rows: &[(Row, u64)],
    ) -> Result<Vec<RowOutcome>, Lost> {
        let all = |outcome: RowOutcome| Ok(vec![outcome; rows.len()]);
        self.pace.take(Urgency::Slow).await;
        self.hold(own).await?;
        if self.is_paused() {
            return all(RowOutcome::Refused);
        }
        // While it waited for its turn, sales may have gone ahead of it: an older quantity does not follow theirs.
        let waiting = self.cluster.look(|state| {
            let waits = |of: &(Row, u64)| self.is_in_flight(state, &of.0.place.sku, of.1);
            rows.iter().map(waits).collect::<Vec<bool>>()
        });
        let left: Rows = rows
            .iter()
            .zip(&waiting)
            .filter(|(_, waits)| **waits)
            .map(|(row, _)| row.clone())
            .collect();
        if left.is_empty() {
            return all(RowOutcome::Refused);
        }
        let key = idempotency_key(&self.channel.name, &left);
        let plain: Vec<Row> = left.iter().map(|(row, _)| row.clone()).collect();
        let turn = Turn::setting(&self.pace, Urgency::Slow, own);
        match turn.take(self.client.feed(&plain, &key)).await {
            Ok(answered) if answered.value.len() == left.len() => {
                self.answered(answered.wait).await;
                let mut became = answered.value.into_iter();
                let mut of = |waits: bool| if waits { became.next() } else { None };
                let value =
                    waiting.into_iter().map(|waits| of(waits).unwrap_or(RowOutcome::Refused));
                Ok(value.collect())
            }
            // A row without an outcome is one of which nobody knows.
            Ok(_) => all(RowOutcome::Unknown),
            Err(error) => {
                self.note(&error).await;
                if matches!(error, PushError::Suspect(_)) {
                    // Call by call, in the other lane, it will show which row that is.
                    let mut from = self.feeds_from.lock().unwrap_or_else(PoisonError::into_inner);
                    *from = Instant::now() + FEED_AGAIN;
                }
                match error {
                    PushError::Unknown(_) => all(RowOutcome::Unknown),
                    _ => all(RowOutcome::Refused),
                }
            }
        }
    }

    /// Whether a push was neither settled nor overtaken, as far as this node has heard.
    fn is_in_flight(&self, state: &State, sku: &str, revision: u64) -> bool {
        let stock = state.data().stock.get(sku);
        let listing = stock.and_then(|stock| stock.listings.get(self.channel.name.as_str()));
        let push = listing.and_then(|listing| listing.get().in_flight);
        push.is_some_and(|push| push.revision == revision)
    }

    /// The channel answers: what it wants us to wait counts, and credentials that it accepts are good.
    async fn answered(&self, wait: Duration) {
        self.pace.succeeded(wait);
        let resting = self.cluster.look(|state| {
            let known = state.data().channels.get(&self.channel.name);
            known.and_then(|known| known.paused.as_ref()).is_some_and(|rest| rest.until.is_some())
        });
        if resting || self.rests.swap(false, Ordering::Relaxed) {
            self.say(Command::Resume { channel: self.channel.name.clone(), owner: true }).await;
        }
    }

    async fn note(&self, error: &PushError) {
        tracing::warn!(channel = self.channel.name, %error, "a push needs another try");
        self.count_failure();
        match error {
            PushError::Limited { wait_ms } => self.pace.limited(Duration::from_millis(*wait_ms)),
            PushError::Refused(_) | PushError::Suspect(_) | PushError::Unknown(_) => {
                self.pace.failed();
            }
            PushError::Unauthorised(why) => {
                self.pace.refused(Duration::from_millis(UNAUTHORISED_MS));
                self.rests.store(true, Ordering::Relaxed);
                let channel = self.channel.name.clone();
                let why = format!(
                    "the channel does not accept our credentials: {why}. Put in new ones and restart, or \
                     resume the channel"
                );
                self.say(Command::Pause { channel, why, for_ms: Some(UNAUTHORISED_MS) }).await;
            }
        }
    }

    /// Proposes something that may be said again later.
    async fn say(&self, command: Command) {
        if let Err(error) = self.propose(&command).await {
            tracing::debug!(%error, "that is not agreed on yet");
        }
    }

    fn count_failure(&self) {
        self.measures.push_failures.get_or_create(&measures::of(&self.channel.name)).inc();
    }

    /// Whether the channel refuses a quantity in place of another one than it is believed to show.
    fn compares(&self) -> bool {
        self.cluster.look(|state| {
            let known = state.data().channels.get(&self.channel.name);
            known.is_some_and(|known| known.definition.compares)
        })
    }
}

/// What the state is told of a row at once; `None` of one that must be read back.
pub(super) fn settled(result: RowOutcome) -> Option<Settled> {
    match result {
        RowOutcome::Confirmed => Some(Settled::Confirmed),
        RowOutcome::Refused | RowOutcome::Untouched | RowOutcome::Stale => Some(Settled::Refused),
        RowOutcome::Failed(why) => Some(Settled::Failed(why)),
        RowOutcome::Unknown => None,
    }
}

/// What the channel is asked about.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) place: Place,
    /// Of the push; 0 of a reading without one.
    pub(super) revision: u64,
}

impl Asked {
    pub(super) fn of(row: &Row, revision: u64) -> Self {
        Self { place: row.place.clone(), revision }
    }

    pub(super) fn became(self, result: Settled) -> Outcome {
        let Self { place: Place { sku, listing, .. }, revision } = self;
        Outcome { sku, listing, revision, result }
    }

    fn shows(self, shown: Option<i64>) -> Outcome {
        let unknown = || Settled::Failed("the channel does not know this listing".into());
        self.became(shown.map_or_else(unknown, Settled::Observed))
    }
}

/// The same for the same rows of the same intent, so that a repetition is recognised as one.
fn idempotency_key(channel: &str, rows: &[(Row, u64)]) -> String {
    let text = format!("{channel}/{rows:?}");
    uuid::Builder::from_custom_bytes(crate::channel::key(text.as_bytes())).into_uuid().to_string()
}
