//! Pushes: for each channel that this node owns, what is due is agreed on, then sent, then settled.
//!
//! Pushing is level-triggered: ten changes of a listing are one push of the newest quantity, computed
//! by the agreed state at the moment of the intent. One push a listing is outstanding at a time, and
//! nothing is sent before its intent is applied; so an older value can never follow a newer one.

mod pace;

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use cluster::{ProposeError, Raft, codec};
use state::command::{Outcome, Settled};
use state::limits::INTENT_SKUS_MAX;
use state::reply::{Intended, Step};
use state::{Command, Reply};
use tokio_util::sync::CancellationToken;

use crate::channel::shopify::client::{Answered, Client, ROWS_MAX};
use crate::channel::{PushError, Row, RowOutcome};
use crate::config::Channel;
use crate::measures::{self, Measures};
use crate::replica::Shared;
use pace::Pace;

/// How often a push without an answer is sent.
const SEND_TRIES: u32 = 3;
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often ownership is looked at again.
const OWNERSHIP_CHECK: Duration = Duration::from_secs(1);

/// Pushes to one channel until `stop`.
pub async fn run(pusher: Pusher, stop: CancellationToken) {
    let name = pusher.channel.name.clone();
    tokio::select! {
        () = stop.cancelled() => {}
        () = pusher.work() => tracing::warn!(channel = name, "nothing is pushed: no API is configured"),
    }
}

/// What pushing to one channel needs.
pub struct Pusher {
    /// The channel, with its secrets.
    pub channel: Channel,
    /// This node's id.
    pub node: u64,
    /// The agreed state.
    pub replica: Shared,
    /// Where intents and outcomes are proposed.
    pub raft: Raft,
    /// What is counted.
    pub measures: Arc<Measures>,
}

/// The epoch is no longer ours, or nobody knows whether an intent was agreed on.
struct Lost;

impl Pusher {
    async fn work(&self) {
        let Some(client) = Client::new(&self.channel) else { return };
        let mut pace = Pace::new(self.channel.rate.per_second, self.channel.rate.burst);
        loop {
            let epoch = self.own().await;
            tracing::info!(channel = self.channel.name, epoch, "this node pushes to the channel");
            while self.is_home() {
                if self.round(&client, epoch, &mut pace).await.is_err() {
                    break;
                }
            }
        }
    }

    /// Waits until this node is to push to the channel, and takes it over.
    async fn own(&self) -> u64 {
        loop {
            if self.is_home() {
                let command =
                    Command::Claim { channel: self.channel.name.clone(), node: self.node };
                match self.propose(&command).await {
                    Ok(Reply::Claimed { epoch }) => return epoch,
                    Ok(reply) => tracing::debug!(?reply, "the channel cannot be claimed yet"),
                    Err(error) => tracing::debug!(%error, "the channel was not claimed"),
                }
            }
            tokio::time::sleep(OWNERSHIP_CHECK).await;
        }
    }

    /// The channel's home is its node, or the voter with the lowest id where that is no member.
    fn is_home(&self) -> bool {
        let status = self.raft.status();
        let voters = || status.members.iter().filter(|member| member.voter);
        let wanted = {
            let replica = self.replica.read().unwrap_or_else(PoisonError::into_inner);
            let channel = replica.state().data().channels.get(&self.channel.name);
            match channel {
                Some(channel) if channel.definition.pushes => channel.definition.home,
                _ => return false,
            }
        };
        let named = wanted.filter(|id| status.members.iter().any(|known| known.member.id == *id));
        let home = named.or_else(|| voters().map(|voter| voter.member.id).min());
        home == Some(self.node)
    }

    /// One intent, what is sent for it, and what came of that.
    async fn round(&self, client: &Client, epoch: u64, pace: &mut Pace) -> Result<(), Lost> {
        pace.wait().await;
        let skus = self.due(pace.batch().min(ROWS_MAX).min(INTENT_SKUS_MAX)).await;
        if skus.is_empty() {
            return Ok(());
        }
        let channel = self.channel.name.clone();
        let intent = Command::Intend { channel, epoch, skus };
        let intended = match self.propose(&intent).await {
            Ok(Reply::Intended(intended)) => intended,
            Ok(Reply::Fenced) | Err(ProposeError::Unknown(_)) => return Err(Lost),
            Ok(_) | Err(_) => {
                pace.failed();
                return Ok(());
            }
        };
        let mut outcomes = self.observe(client, &intended, pace).await;
        outcomes.extend(self.push(client, &intended, pace).await);
        self.settle(epoch, outcomes).await
    }

    /// What is due, most urgent first; waits for something or for a while.
    async fn due(&self, most: usize) -> Vec<String> {
        let read = || {
            let replica = self.replica.read().unwrap_or_else(PoisonError::into_inner);
            let due = replica.state().due().of(&self.channel.name).take(most);
            let skus: Vec<String> = due.map(|(_, sku)| sku.to_string()).collect();
            (skus, replica.watch())
        };
        let (skus, mut changed) = read();
        if !skus.is_empty() {
            return skus;
        }
        // Either way the next look tells.
        let _ = tokio::time::timeout(OWNERSHIP_CHECK, changed.changed()).await;
        read().0
    }

    /// Reads back what must be known before anything is pushed.
    async fn observe(
        &self,
        client: &Client,
        intended: &[Intended],
        pace: &mut Pace,
    ) -> Vec<Outcome> {
        let wanted = intended.iter().filter(|next| next.step == Step::Observe);
        let unknown: Vec<(String, u64)> = wanted.map(|next| (next.sku.clone(), 0)).collect();
        self.read_back(client, unknown, pace).await
    }

    async fn read_back(
        &self,
        client: &Client,
        skus: Vec<(String, u64)>,
        pace: &mut Pace,
    ) -> Vec<Outcome> {
        if skus.is_empty() {
            return Vec::new();
        }
        let listings: Vec<String> = skus.iter().map(|(sku, _)| self.listing(sku)).collect();
        pace.wait().await;
        match client.read(&listings).await {
            Ok(answered) => {
                pace.succeeded(answered.wait);
                let shown = skus.into_iter().zip(answered.value);
                let outcome = |((sku, revision), shown): ((String, u64), Option<i64>)| Outcome {
                    sku,
                    revision,
                    result: shown.map_or_else(
                        || Settled::Failed("the channel does not know this listing".into()),
                        Settled::Observed,
                    ),
                };
                shown.map(outcome).collect()
            }
            Err(error) => {
                self.note(&error, pace);
                Vec::new()
            }
        }
    }

    /// Sends what was agreed on, and reads back what the channel did not expect.
    async fn push(&self, client: &Client, intended: &[Intended], pace: &mut Pace) -> Vec<Outcome> {
        let mut revisions = Vec::new();
        let mut rows = Vec::new();
        for Intended { sku, step } in intended {
            if let Step::Push { quantity, from, revision } = *step {
                revisions.push(revision);
                rows.push(Row { sku: sku.clone(), listing: self.listing(sku), quantity, from });
            }
        }
        let Some(revision) = revisions.first() else { return Vec::new() };
        let key = idempotency_key(&self.channel.name, *revision, &rows);
        let results = match self.set(client, &rows, &key, pace).await {
            Ok(answered) => {
                pace.succeeded(answered.wait);
                answered.value
            }
            Err(PushError::Unknown(_)) => vec![RowOutcome::Unknown; rows.len()],
            Err(_) => vec![RowOutcome::Untouched; rows.len()],
        };
        let mut outcomes = Vec::new();
        let mut unread = Vec::new();
        for ((row, revision), result) in rows.into_iter().zip(revisions).zip(results) {
            let sku = row.sku;
            let result = match result {
                RowOutcome::Confirmed => Settled::Confirmed,
                RowOutcome::Untouched => Settled::Refused,
                RowOutcome::Failed(why) => Settled::Failed(why),
                RowOutcome::Stale => {
                    // This push is over; the reading is one of its own.
                    unread.push((sku.clone(), 0));
                    Settled::Refused
                }
                RowOutcome::Unknown => {
                    unread.push((sku, revision));
                    continue;
                }
            };
            if result != Settled::Confirmed {
                self.measures.push_failures.get_or_create(&measures::of(&self.channel.name)).inc();
            }
            outcomes.push(Outcome { sku, revision, result });
        }
        self.read_until_known(client, unread, pace, &mut outcomes).await;
        outcomes
    }

    /// Sends rows. Rows without an answer are sent again, the same bytes under the same key: if they
    /// were taken before, the channel repeats its answer.
    async fn set(
        &self,
        client: &Client,
        rows: &[Row],
        key: &str,
        pace: &mut Pace,
    ) -> Result<Answered<Vec<RowOutcome>>, PushError> {
        let mut unknown = None;
        for _ in 0..SEND_TRIES {
            pace.wait().await;
            match client.set(rows, key).await {
                Ok(answered) => return Ok(answered),
                Err(error) => {
                    self.note(&error, pace);
                    if matches!(error, PushError::Unknown(_)) {
                        unknown = Some(error);
                    } else if unknown.is_none() {
                        return Err(error);
                    }
                    // After one without an answer, a refusal of the repetition proves nothing.
                }
            }
        }
        Err(unknown.unwrap_or_else(|| PushError::Unknown("no answer".into())))
    }

    /// A push without a known outcome blocks its listing; it is read back for as long as that takes.
    async fn read_until_known(
        &self,
        client: &Client,
        unread: Vec<(String, u64)>,
        pace: &mut Pace,
        outcomes: &mut Vec<Outcome>,
    ) {
        while !unread.is_empty() {
            let mut known = self.read_back(client, unread.clone(), pace).await;
            if !known.is_empty() {
                outcomes.append(&mut known);
                return;
            }
        }
    }

    async fn settle(&self, epoch: u64, outcomes: Vec<Outcome>) -> Result<(), Lost> {
        if outcomes.is_empty() {
            return Ok(());
        }
        let command = Command::Settle { channel: self.channel.name.clone(), epoch, outcomes };
        loop {
            match self.propose(&command).await {
                Ok(Reply::Done) => return Ok(()),
                Ok(_) | Err(ProposeError::TooLarge { .. }) => return Err(Lost),
                // Settling twice is as good as once.
                Err(error) => tracing::debug!(%error, "a push is not settled yet"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn note(&self, error: &PushError, pace: &mut Pace) {
        tracing::warn!(channel = self.channel.name, %error, "a push needs another try");
        self.measures.push_failures.get_or_create(&measures::of(&self.channel.name)).inc();
        match error {
            PushError::Limited { wait_ms } => pace.limited(Duration::from_millis(*wait_ms)),
            PushError::Suspect(_) => pace.suspect(),
            PushError::Refused(_) | PushError::Unknown(_) | PushError::Unauthorised(_) => {
                pace.failed();
            }
        }
    }

    fn listing(&self, sku: &str) -> String {
        let replica = self.replica.read().unwrap_or_else(PoisonError::into_inner);
        let stock = replica.state().data().stock.get(&sku.to_string());
        let listing = stock.and_then(|stock| stock.listings.get(&self.channel.name));
        listing.map(|listing| listing.spec.id.clone()).unwrap_or_default()
    }

    async fn propose(&self, command: &Command) -> Result<Reply, ProposeError> {
        let reply = self.raft.propose(codec::encode(command), PROPOSE_TIMEOUT).await?;
        codec::decode(&reply.bytes).map_err(|error| ProposeError::Unknown(error.to_string()))
    }
}

/// The same for the same rows of the same intent, so that a repetition is recognised as one.
fn idempotency_key(channel: &str, revision: u64, rows: &[Row]) -> String {
    let text = format!("{channel}/{revision}/{rows:?}");
    uuid::Builder::from_custom_bytes(crate::channel::key(text.as_bytes())).into_uuid().to_string()
}
