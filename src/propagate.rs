//! Pushes: for each channel that this node owns, what is due is agreed on, then sent, then settled.
//!
//! Pushing is level-triggered: ten changes of a listing are one push of the newest quantity, computed
//! by the agreed state at the moment of the intent. One push a listing is outstanding at a time, and
//! nothing is sent before its intent is applied; so an older value can never follow a newer one.
//!
//! Two lanes run at once where a channel takes feeds: what is urgent goes call by call, what is many goes by
//! feed, and no listing is in both. Without feeds the one lane takes what is urgent first, and the rest from
//! what that leaves of the rate.

mod due;
mod own;
mod pace;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cluster::{ProposeError, codec};
use state::command::{Outcome, Settled};
use state::limits::MINUTE_MS;
use state::origin::Lane;
use state::reply::{Intended, Step};
use state::{Command, Reply};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::agreed::Agreed;
use crate::channel::{Place, PushError, Quantities, Row, RowOutcome};
use crate::config::Channel;
use crate::measures::{self, Measures};
use crate::planted::{self, Bug};
use due::Tiers;
use own::{Owned, Standing};
use pace::{Pace, Urgency};

/// Why a listing that nobody can address is not pushed to.
const NO_LOCATION: &str =
    "no location: set location_id in the channel's api or in the SKU's listing";
/// How often a push without an answer is sent, where the channel takes it once only.
const SEND_TRIES: u32 = 3;
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a node looks at what nothing tells it of: who the members are.
const LOOK: Duration = Duration::from_secs(5);
/// How long nothing goes by feed after one was refused as a whole.
const FEED_AGAIN: Duration = Duration::from_secs(600);
/// How long a channel rests whose credentials are not accepted, unless somebody resumes it.
const UNAUTHORISED_MS: u64 = 5 * MINUTE_MS;

/// Pushes to one channel until `stop`.
pub async fn run(pusher: Pusher<impl Quantities, impl Agreed>, stop: CancellationToken) {
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = pusher.work() => {}
    }
}

/// What pushes to one channel.
pub struct Pusher<Q, A> {
    channel: Channel,
    client: Q,
    node: u64,
    cluster: A,
    measures: Arc<Measures>,
    pace: Pace,
    tiers: Tiers,
    /// Whether the channel rests because of its credentials, as far as this node has said so.
    rests: AtomicBool,
    /// Nothing goes by feed before this: one was refused for a row that nobody could name.
    feeds_from: Mutex<Instant>,
}

/// The epoch is no longer ours, or nobody knows whether an intent was agreed on.
struct Lost;

/// Rows of one intent, each with the revision of its push.
type Rows = Vec<(Row, u64)>;

impl<Q: Quantities, A: Agreed> Pusher<Q, A> {
    /// What pushes to a channel through its API, from a node by its id; intents and outcomes are proposed to
    /// the cluster.
    pub fn new(
        channel: Channel,
        client: Q,
        node: u64,
        cluster: A,
        measures: Arc<Measures>,
    ) -> Self {
        Self {
            channel,
            client,
            node,
            cluster,
            measures,
            pace: Pace::new(),
            tiers: Tiers::default(),
            rests: AtomicBool::new(false),
            feeds_from: Mutex::new(Instant::now()),
        }
    }

    async fn work(&self) {
        loop {
            let (own, is_new) = self.own().await;
            if is_new {
                self.pace.empty();
            }
            let epoch = own.epoch;
            tracing::info!(channel = self.channel.name, epoch, "this node pushes to the channel");
            // Whatever ends first ends all: what is on its way then is read back under the next epoch.
            tokio::select! {
                biased;
                () = self.keep(&own) => {}
                () = self.lane(&own, Lane::Urgent) => {}
                () = self.lane(&own, Lane::Normal) => {}
            }
            if self.standing(&own) == Standing::Wanted {
                tracing::info!(channel = self.channel.name, "its home pushes to the channel again");
                self.give_back(&own).await;
            }
            self.measures.breaker(&self.channel.name, None);
        }
    }

    /// Rounds of one lane, until the channel is another node's.
    async fn lane(&self, own: &Owned, lane: Lane) {
        if lane == Lane::Normal && self.client.calls().feed_rows_max == 0 {
            // There is nothing that this channel takes in bulk.
            std::future::pending::<()>().await;
        }
        while self.standing(own) == Standing::Owner {
            let round = match lane {
                Lane::Urgent => self.round(own).await,
                Lane::Normal => self.bulk_round(own).await,
            };
            if round.is_err() {
                return;
            }
            self.measures.breaker(&self.channel.name, Some(self.pace.breaker()));
        }
    }

    /// One intent, what is sent for it, and what came of that.
    async fn round(&self, own: &Owned) -> Result<(), Lost> {
        let Some(urgency) = self.something_is_due(Lane::Urgent).await else { return Ok(()) };
        // The quantities are computed once a call is allowed, so that they do not age while it is not.
        tokio::select! {
            biased;
            () = self.sale_is_due(), if urgency == Urgency::Slow => return Ok(()),
            () = self.pace.ready(urgency) => {}
        }
        let skus = self.due(urgency);
        let Some((intent, intended)) = self.intend(own, Lane::Urgent, skus).await? else {
            return Ok(());
        };
        let unknown = intended.iter().filter(|next| next.step == Step::Observe);
        let unknown = unknown.map(|next| self.ask(&next.sku, 0));
        let mut outcomes = self.read_back(unknown.collect(), urgency).await;
        for rows in self.rows(&intended).chunks(self.client.calls().rows_max.max(1)) {
            outcomes.extend(self.push(own, rows.to_vec(), urgency).await?);
        }
        self.settle(own, Lane::Urgent, intent, outcomes).await
    }

    /// As many rows as one feed takes, which may be those of several intents.
    async fn bulk_round(&self, own: &Owned) -> Result<(), Lost> {
        if self.something_is_due(Lane::Normal).await.is_none() {
            return Ok(());
        }
        self.pace.ready(Urgency::Slow).await;
        let mut intents: Vec<(u64, usize)> = Vec::new();
        let mut rows: Rows = Vec::new();
        loop {
            let most = self.client.calls().feed_rows_max.saturating_sub(rows.len());
            let skus = self.bulk_due(most);
            if skus.is_empty() {
                break;
            }
            let Some((intent, intended)) = self.intend(own, Lane::Normal, skus).await? else {
                break;
            };
            let some = self.rows(&intended);
            if some.is_empty() {
                break;
            }
            intents.push((intent, some.len()));
            rows.extend(some);
        }
        if rows.is_empty() {
            // What is due must be read first, and the other lane does that.
            tokio::time::sleep(LOOK).await;
            return Ok(());
        }
        let results = self.feed(own, &rows).await?;
        let mut became = rows.into_iter().zip(results);
        for (intent, count) in intents {
            let (mut outcomes, mut unread) = (Vec::new(), Vec::new());
            for ((row, revision), result) in became.by_ref().take(count) {
                let asked = Asked::of(&row, revision);
                match settled(result) {
                    Some(result) => outcomes.push(asked.became(result)),
                    None => unread.push(asked),
                }
            }
            outcomes.extend(self.read_all(unread, Urgency::Slow).await);
            self.settle(own, Lane::Normal, intent, outcomes).await?;
        }
        Ok(())
    }

    /// Agrees on what is pushed next; nothing if that cannot be agreed on now.
    async fn intend(
        &self,
        own: &Owned,
        lane: Lane,
        skus: Vec<String>,
    ) -> Result<Option<(u64, Vec<Intended>)>, Lost> {
        if skus.is_empty() {
            return Ok(None);
        }
        let (channel, epoch) = (self.channel.name.clone(), own.epoch);
        let asked = Instant::now();
        match self.propose(&Command::Intend { channel, epoch, lane, skus }).await {
            Ok((index, Reply::Intended(intended))) => {
                own.renew(asked);
                Ok(Some((index, intended)))
            }
            Err(ProposeError::Unknown(_)) if planted::has(Bug::IntentForgotten) => Ok(None),
            Ok((_, Reply::Fenced)) | Err(ProposeError::Unknown(_)) => Err(Lost),
            Ok(_) | Err(_) => {
                // The cluster, not the channel, does not answer; or the channel was paused just now.
                tokio::time::sleep(Duration::from_millis(200)).await;
                Ok(None)
            }
        }
    }

    fn rows(&self, intended: &[Intended]) -> Rows {
        let row = |next: &Intended| match next.step {
            Step::Push { quantity, from, revision } => {
                let Asked { place, revision } = self.ask(&next.sku, revision);
                Some((Row { place, quantity, from }, revision))
            }
            Step::Observe => None,
        };
        intended.iter().filter_map(row).collect()
    }

    /// Reads what the channel shows. Listings that it did not answer for are left out; one that spoils
    /// the call for the others is found by halving.
    async fn read_back(&self, asked: Vec<Asked>, urgency: Urgency) -> Vec<Outcome> {
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
            match self.client.read(&places).await {
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

    /// Reads until everything is known.
    async fn read_all(&self, mut unread: Vec<Asked>, urgency: Urgency) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        while !unread.is_empty() {
            let known = self.read_back(unread.clone(), urgency).await;
            unread.retain(|asked| !known.iter().any(|outcome| outcome.sku == asked.place.sku));
            outcomes.extend(known);
        }
        outcomes
    }

    /// Sends what was agreed on, and reads back what the channel did not expect.
    async fn push(&self, own: &Owned, rows: Rows, urgency: Urgency) -> Result<Vec<Outcome>, Lost> {
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
    async fn set(
        &self,
        own: &Owned,
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
            if self.is_paused() && !unknown {
                return all(RowOutcome::Refused);
            }
            match self.client.set(&plain, &key).await {
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
    async fn feed(&self, own: &Owned, rows: &[(Row, u64)]) -> Result<Vec<RowOutcome>, Lost> {
        let key = idempotency_key(&self.channel.name, rows);
        let plain: Vec<Row> = rows.iter().map(|(row, _)| row.clone()).collect();
        let all = |outcome: RowOutcome| Ok(vec![outcome; rows.len()]);
        self.pace.take(Urgency::Slow).await;
        self.hold(own).await?;
        if self.is_paused() {
            return all(RowOutcome::Refused);
        }
        match self.client.feed(&plain, &key).await {
            Ok(answered) if answered.value.len() == rows.len() => {
                self.answered(answered.wait).await;
                Ok(answered.value)
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

    async fn settle(
        &self,
        own: &Owned,
        lane: Lane,
        intent: u64,
        outcomes: Vec<Outcome>,
    ) -> Result<(), Lost> {
        if outcomes.is_empty() {
            return Ok(());
        }
        let (channel, epoch, calls) = (self.channel.name.clone(), own.epoch, self.pace.told());
        let command = Command::Settle { channel, epoch, lane, intent, calls, outcomes };
        loop {
            let asked = Instant::now();
            match self.propose(&command).await {
                Ok((_, Reply::Done)) => {
                    own.renew(asked);
                    return Ok(());
                }
                Ok(_) | Err(ProposeError::TooLarge { .. }) => return Err(Lost),
                // The state takes what became of an intent once.
                Err(error) => tracing::debug!(%error, "a push is not settled yet"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
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

    fn is_paused(&self) -> bool {
        self.cluster.look(|state| {
            let known = state.data().channels.get(&self.channel.name);
            known.is_some_and(|known| known.is_paused(state.data().now))
        })
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

/// What the state is told of a row at once; `None` of one that must be read back.
fn settled(result: RowOutcome) -> Option<Settled> {
    match result {
        RowOutcome::Confirmed => Some(Settled::Confirmed),
        RowOutcome::Refused | RowOutcome::Untouched | RowOutcome::Stale => Some(Settled::Refused),
        RowOutcome::Failed(why) => Some(Settled::Failed(why)),
        RowOutcome::Unknown => None,
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
