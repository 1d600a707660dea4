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
mod send;
#[cfg(test)]
mod tests;
mod turn;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cluster::{ProposeError, codec};
use state::command::Outcome;
use state::origin::Lane;
use state::reply::{Intended, Step};
use state::{Command, Reply};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::agreed::Agreed;
use crate::channel::{Place, Quantities, Row};
use crate::config::Channel;
use crate::measures::Measures;
use crate::planted::{self, Bug};
use due::Tiers;
use own::{Owned, Standing};
use pace::{Pace, Urgency};
use send::{Asked, settled};

const PROPOSE_TIMEOUT: Duration = Duration::from_secs(10);
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

/// What pushes to one channel.
pub struct Pusher<Q, A> {
    channel: Channel,
    client: Q,
    node: u64,
    cluster: A,
    measures: Arc<Measures>,
    pace: Arc<Pace>,
    tiers: Tiers,
    /// Whether the channel rests because of its credentials, as far as this node has said so.
    rests: AtomicBool,
    /// Nothing goes by feed before this: one was refused for a row that nobody could name.
    feeds_from: Mutex<Instant>,
}

/// The epoch is no longer ours, or nobody knows whether an intent was agreed on, or what became of a push: under the
/// next epoch that is found out listing by listing, beside what else is due.
struct Lost;

/// Rows of one intent, each with the revision of its push.
type Rows = Vec<(Row, u64)>;

/// Whether it is known of each row what became of it.
fn are_known(rows: &[(Row, u64)], outcomes: &[Outcome]) -> bool {
    let known: BTreeSet<&str> = outcomes.iter().map(|outcome| outcome.sku.as_str()).collect();
    rows.iter().all(|(row, _)| known.contains(row.place.sku.as_str()))
}

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
            pace: Arc::new(Pace::new()),
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
            let (epoch, own) = (own.epoch, Arc::new(own));
            tracing::info!(channel = self.channel.name, epoch, "this node pushes to the channel");
            let pace = Arc::clone(&self.pace);
            self.measures.allowance(&self.channel.name, Some(Box::new(move || pace.allowed())));
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
            self.measures.allowance(&self.channel.name, None);
        }
    }

    /// Rounds of one lane, until the channel is another node's.
    async fn lane(&self, own: &Arc<Owned>, lane: Lane) {
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
    async fn round(&self, own: &Arc<Owned>) -> Result<(), Lost> {
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
        let rows = self.rows(&intended);
        for rows in rows.chunks(self.client.calls().rows_max.max(1)) {
            outcomes.extend(self.push(own, rows.to_vec(), urgency).await?);
        }
        let known = are_known(&rows, &outcomes);
        self.settle(own, Lane::Urgent, intent, outcomes).await?;
        if known { Ok(()) } else { Err(Lost) }
    }

    /// As many rows as one feed takes, which may be those of several intents.
    async fn bulk_round(&self, own: &Arc<Owned>) -> Result<(), Lost> {
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
        let mut known = true;
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
            let unknown = unread.len();
            let read = self.read_all(unread, Urgency::Slow).await;
            known &= read.len() == unknown;
            outcomes.extend(read);
            self.settle(own, Lane::Normal, intent, outcomes).await?;
        }
        if known { Ok(()) } else { Err(Lost) }
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
