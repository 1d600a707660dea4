//! Pushes: for each channel that this node owns, what is due is agreed on, then sent, then settled.
//!
//! Pushing is level-triggered: ten changes of a listing are one push of the newest quantity, computed
//! by the agreed state at the moment of the intent. One push a listing is outstanding at a time, and
//! nothing is sent before its intent is applied; so an older value can never follow a newer one.

mod pace;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cluster::{ProposeError, codec};
use state::command::{Outcome, Settled};
use state::limits::INTENT_SKUS_MAX;
use state::reply::{Intended, Step};
use state::{Command, Reply};
use tokio_util::sync::CancellationToken;

use crate::agreed::Agreed;
use crate::channel::{Place, PushError, Quantities, Row, RowOutcome};
use crate::config::Channel;
use crate::home::home;
use crate::measures::{self, Measures};
use crate::planted::{self, Bug};
use pace::Pace;

/// Why a listing that nobody can address is not pushed to.
const NO_LOCATION: &str =
    "no location: set location_id in the channel's api or in the SKU's listing";
/// How often a push without an answer is sent.
const SEND_TRIES: u32 = 3;
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a node tries to take a channel over that is its work.
const CLAIM_AGAIN: Duration = Duration::from_secs(1);
/// How often a node looks at what nothing tells it of: who the members are.
const LOOK: Duration = Duration::from_secs(5);

/// Pushes to one channel until `stop`.
pub async fn run(pusher: Pusher<impl Quantities, impl Agreed>, stop: CancellationToken) {
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = pusher.work() => {}
    }
}

/// What pushing to one channel needs.
pub struct Pusher<Q, A> {
    /// The channel.
    pub channel: Channel,
    /// Its API.
    pub client: Q,
    /// This node's id.
    pub node: u64,
    /// The agreed state, and where intents and outcomes are proposed.
    pub cluster: A,
    /// What is counted.
    pub measures: Arc<Measures>,
}

/// The epoch is no longer ours, or nobody knows whether an intent was agreed on.
struct Lost;

impl<Q: Quantities, A: Agreed> Pusher<Q, A> {
    async fn work(&self) {
        let mut pace = Pace::new(self.channel.rate.per_second, self.channel.rate.burst);
        loop {
            let epoch = self.own().await;
            tracing::info!(channel = self.channel.name, epoch, "this node pushes to the channel");
            while self.is_home() {
                if self.round(epoch, &mut pace).await.is_err() {
                    break;
                }
            }
        }
    }

    /// Waits until this node is to push to the channel, and takes it over.
    async fn own(&self) -> u64 {
        loop {
            let mut changed = self.cluster.watch();
            if self.is_home() {
                let command =
                    Command::Claim { channel: self.channel.name.clone(), node: self.node };
                match self.propose(&command).await {
                    Ok((_, Reply::Claimed { epoch })) => return epoch,
                    Ok((_, reply)) => tracing::debug!(?reply, "the channel cannot be claimed yet"),
                    Err(error) => tracing::debug!(%error, "the channel was not claimed"),
                }
                tokio::time::sleep(CLAIM_AGAIN).await;
            } else {
                // Either way the next look tells.
                let _ = tokio::time::timeout(LOOK, changed.changed()).await;
            }
        }
    }

    fn is_home(&self) -> bool {
        let wanted = self.cluster.look(|state| {
            let channel = state.data().channels.get(&self.channel.name)?;
            channel.definition.pushes.then_some(channel.definition.home)
        });
        wanted.is_some_and(|wanted| home(&self.cluster.status(), wanted) == Some(self.node))
    }

    /// One intent, what is sent for it, and what came of that.
    async fn round(&self, epoch: u64, pace: &mut Pace) -> Result<(), Lost> {
        if !self.something_is_due().await {
            return Ok(());
        }
        // The quantities are computed once a call is allowed, so that they do not age while it is not.
        pace.ready().await;
        let channel = self.channel.name.clone();
        let skus = self.due(self.client.calls().rows_max.min(INTENT_SKUS_MAX));
        let (intent, intended) = match self.propose(&Command::Intend { channel, epoch, skus }).await
        {
            Ok((index, Reply::Intended(intended))) => (index, intended),
            Err(ProposeError::Unknown(_)) if planted::has(Bug::IntentForgotten) => return Ok(()),
            Ok((_, Reply::Fenced)) | Err(ProposeError::Unknown(_)) => return Err(Lost),
            Ok(_) | Err(_) => {
                pace.failed();
                return Ok(());
            }
        };
        let unknown = intended.iter().filter(|next| next.step == Step::Observe);
        let unknown = unknown.map(|next| self.ask(&next.sku, 0));
        let mut outcomes = self.read_back(unknown.collect(), pace).await;
        outcomes.extend(self.push(&intended, pace).await);
        self.settle(epoch, intent, outcomes).await
    }

    /// Waits until something is due, for a while.
    async fn something_is_due(&self) -> bool {
        let mut changed = self.cluster.watch();
        if !self.due(1).is_empty() {
            return true;
        }
        // Either way the next look tells.
        let _ = tokio::time::timeout(LOOK, changed.changed()).await;
        !self.due(1).is_empty()
    }

    /// What is due, most urgent first.
    fn due(&self, most: usize) -> Vec<String> {
        self.cluster.look(|state| {
            let due = state.due().of(&self.channel.name).take(most);
            due.map(|(_, sku)| sku.to_string()).collect()
        })
    }

    /// Reads what the channel shows. Listings that it did not answer for are left out; one that spoils
    /// the call for the others is found by halving.
    async fn read_back(&self, asked: Vec<Asked>, pace: &mut Pace) -> Vec<Outcome> {
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
            pace.take().await;
            match self.client.read(&places).await {
                Ok(answered) => {
                    pace.succeeded(answered.wait);
                    let shown = part.into_iter().zip(answered.value);
                    outcomes.extend(shown.map(|(asked, shown)| asked.shows(shown)));
                }
                Err(PushError::Suspect(why)) => match part.pop() {
                    Some(asked) if part.is_empty() => {
                        self.count_failure();
                        outcomes.push(asked.became(Settled::Failed(why)));
                    }
                    last => {
                        part.extend(last);
                        parts.push(part.split_off(part.len() / 2));
                        parts.push(part);
                    }
                },
                Err(error) => self.note(&error, pace),
            }
        }
        outcomes
    }

    /// Sends what was agreed on, and reads back what the channel did not expect.
    async fn push(&self, intended: &[Intended], pace: &mut Pace) -> Vec<Outcome> {
        let rows = intended.iter().filter_map(|Intended { sku, step }| match *step {
            Step::Push { quantity, from, revision } => {
                let Asked { place, revision } = self.ask(sku, revision);
                Some((Row { place, quantity, from }, revision))
            }
            Step::Observe => None,
        });
        let (mut outcomes, mut unread) = (Vec::new(), Vec::new());
        let mut parts: Vec<Vec<(Row, u64)>> = vec![rows.collect()];
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let (before, mut untouched) = (part.len(), Vec::new());
            let results = self.set(&part, pace).await;
            for ((row, revision), result) in part.into_iter().zip(results) {
                let asked = Asked::of(&row, revision);
                let result = match result {
                    RowOutcome::Confirmed => Settled::Confirmed,
                    RowOutcome::Refused => Settled::Refused,
                    RowOutcome::Failed(why) => Settled::Failed(why),
                    RowOutcome::Untouched => {
                        untouched.push((row, revision));
                        continue;
                    }
                    RowOutcome::Stale => {
                        // This push is over; the reading is one of its own.
                        unread.push(Asked { revision: 0, ..asked.clone() });
                        Settled::Refused
                    }
                    RowOutcome::Unknown => {
                        unread.push(asked);
                        continue;
                    }
                };
                outcomes.push(asked.became(result));
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
        while !unread.is_empty() {
            let known = self.read_back(unread.clone(), pace).await;
            unread.retain(|asked| !known.iter().any(|outcome| outcome.sku == asked.place.sku));
            outcomes.extend(known);
        }
        outcomes
    }

    /// Sends rows; one outcome each. Rows without an answer are sent again, the same bytes under the
    /// same key: if they were taken before, the channel repeats its answer.
    async fn set(&self, rows: &[(Row, u64)], pace: &mut Pace) -> Vec<RowOutcome> {
        let key = idempotency_key(&self.channel.name, rows);
        let plain: Vec<Row> = rows.iter().map(|(row, _)| row.clone()).collect();
        let all = |outcome: RowOutcome| vec![outcome; rows.len()];
        let mut unknown = false;
        for _ in 0..SEND_TRIES {
            pace.take().await;
            match self.client.set(&plain, &key).await {
                Ok(answered) => {
                    pace.succeeded(answered.wait);
                    return answered.value;
                }
                Err(PushError::Suspect(why)) if !unknown => {
                    self.count_failure();
                    let alone = rows.len() == 1;
                    return all(if alone {
                        RowOutcome::Failed(why)
                    } else {
                        RowOutcome::Untouched
                    });
                }
                Err(error) => {
                    self.note(&error, pace);
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

    async fn settle(&self, epoch: u64, intent: u64, outcomes: Vec<Outcome>) -> Result<(), Lost> {
        if outcomes.is_empty() {
            return Ok(());
        }
        let channel = self.channel.name.clone();
        let command = Command::Settle { channel, epoch, intent, outcomes };
        loop {
            match self.propose(&command).await {
                Ok((_, Reply::Done)) => return Ok(()),
                Ok(_) | Err(ProposeError::TooLarge { .. }) => return Err(Lost),
                // The state takes what became of an intent once.
                Err(error) => tracing::debug!(%error, "a push is not settled yet"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn note(&self, error: &PushError, pace: &mut Pace) {
        tracing::warn!(channel = self.channel.name, %error, "a push needs another try");
        self.count_failure();
        match error {
            PushError::Limited { wait_ms } => pace.limited(Duration::from_millis(*wait_ms)),
            PushError::Refused(_)
            | PushError::Suspect(_)
            | PushError::Unknown(_)
            | PushError::Unauthorised(_) => pace.failed(),
        }
    }

    fn count_failure(&self) {
        self.measures.push_failures.get_or_create(&measures::of(&self.channel.name)).inc();
    }

    /// How a SKU is addressed there: its listing, at the location that the listing names, or else the
    /// channel's own.
    fn ask(&self, sku: &str, revision: u64) -> Asked {
        let spec = self.cluster.look(|state| {
            let stock = state.data().stock.get(sku)?;
            Some(stock.listings.get(self.channel.name.as_str())?.get().spec)
        });
        let spec = spec.unwrap_or_default();
        let own = || self.channel.api.as_ref().and_then(|api| api.location_id.clone());
        let location = spec.settings.get("location_id").cloned().or_else(own);
        let place = Place {
            sku: sku.into(),
            listing: spec.id,
            location: location.unwrap_or_default(),
            settings: spec.settings,
        };
        Asked { place, revision }
    }

    /// The log index and the reply of a command that was agreed on.
    async fn propose(&self, command: &Command) -> Result<(u64, Reply), ProposeError> {
        let reply = self.cluster.propose(codec::encode(command), PROPOSE_TIMEOUT).await?;
        // What is due is read from this node's own replica. While that lags behind, what was agreed on
        // already would be due there still, and be proposed again for nothing.
        self.cluster.applied(reply.index).await;
        let decoded = codec::decode(&reply.bytes);
        let decoded = decoded.map_err(|error| ProposeError::Unknown(error.to_string()))?;
        Ok((reply.index, decoded))
    }
}

/// What the channel is asked about.
#[derive(Clone)]
struct Asked {
    place: Place,
    /// Of the push; 0 of a reading without one.
    revision: u64,
}

impl Asked {
    fn of(row: &Row, revision: u64) -> Self {
        Self { place: row.place.clone(), revision }
    }

    fn became(self, result: Settled) -> Outcome {
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
