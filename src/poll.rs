//! Asking a channel's API: for orders of which it was only said that they changed, and, every now and
//! then, for all that changed. What it answers goes the way of every delivery, so that an order which was
//! heard of before changes nothing, and a webhook that was lost is made good.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use channels::poll::{Page, Told};
use channels::{Parsed, Understood};
use cluster::{Raft, Role};
use state::command::{Delivery, Fact};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::channel::api::ApiError;
use crate::channel::source::Source;
use crate::channel::{self, Meant};
use crate::clock;
use crate::config::Channel;
use crate::home::home;
use crate::intake::{Intake, Later};
use crate::measures::{self, Measures};
use crate::replica::Shared;

/// How often this node looks whether an order waits to be fetched.
const LOOK: Duration = Duration::from_millis(250);
/// Orders fetched in one go.
const ORDERS_MAX: usize = 32;
/// Pages of one poll; what lies behind them comes with the next.
const PAGES_MAX: usize = 500;
/// How often a page without an answer is asked for again before the poll breaks off.
const PAGE_RETRIES: u32 = 2;
/// How long after an order was fetched, or could not be, it is left alone; doubled with each failure.
const PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE_MAX: Duration = Duration::from_secs(300);
/// After so many refusals an order that cannot be fetched becomes a dead letter.
const REFUSALS_MAX: u32 = 8;

/// What asks one channel's API.
pub struct Poller {
    /// The channel, with its credentials.
    pub channel: Channel,
    /// Its API.
    pub source: Source,
    /// This node.
    pub node: u64,
    /// Who is asked what waits.
    pub replica: Shared,
    /// Who is asked which node is the channel's home.
    pub raft: Raft,
    /// Where answers go.
    pub intake: Intake,
    /// What is counted.
    pub measures: Arc<Measures>,
}

/// An order that was asked for lately: when it may be asked for again, and how often that failed.
struct Tried {
    next: Instant,
    failures: u32,
}

/// Why asking goes on later.
#[derive(Debug, thiserror::Error)]
enum Pause {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Later(#[from] Later),
}

/// Asks until `stop`, whenever this node is the channel's home.
pub async fn run(poller: Poller, stop: CancellationToken) {
    // Beside each other: a long poll holds back no order that must be fetched.
    let asked = async { tokio::join!(poller.fetch_waiting(), poller.poll_repeatedly()) };
    tokio::pin!(asked);
    tokio::select! {
        _ = &mut asked => {}
        () = stop.cancelled() => {}
    }
}

impl Poller {
    async fn fetch_waiting(&self) {
        let mut tried = BTreeMap::new();
        loop {
            tokio::time::sleep(LOOK).await;
            if self.is_mine() {
                self.fetch(&mut tried).await;
            }
        }
    }

    async fn poll_repeatedly(&self) {
        let every = self.channel.poll.every.duration();
        while !every.is_zero() {
            tokio::time::sleep(LOOK).await;
            if !self.is_mine() {
                continue;
            }
            if let Err(why) = self.poll().await {
                self.failed(&why, "a poll broke off, and is tried again later");
            }
            tokio::time::sleep(every).await;
        }
    }

    /// Whether this node is the channel's home, or leads while the home cannot be reached. Two nodes that
    /// both ask do no harm.
    fn is_mine(&self) -> bool {
        let wanted = {
            let replica = self.replica.read().unwrap_or_else(PoisonError::into_inner);
            match replica.state().data().channels.get(&self.channel.name) {
                Some(known) if known.definition.fetches => known.definition.home,
                _ => return false,
            }
        };
        let status = self.raft.status();
        let home = home(&status, wanted);
        let gone = || {
            let mut members = status.members.iter();
            !members.any(|known| Some(known.member.id) == home && known.reachable)
        };
        home == Some(self.node) || (status.role == Role::Leader && gone())
    }

    /// Fetches orders that wait for it.
    async fn fetch(&self, tried: &mut BTreeMap<String, Tried>) {
        let waiting = self.waiting();
        tried.retain(|order, _| waiting.iter().any(|(waits, _)| waits == order));
        let now = Instant::now();
        let due = |order: &String| tried.get(order).is_none_or(|tried| tried.next <= now);
        let due: Vec<_> =
            waiting.into_iter().filter(|(order, _)| due(order)).take(ORDERS_MAX).collect();
        for (order, asked) in due {
            let known = tried.entry(order.clone()).or_insert(Tried { next: now, failures: 0 });
            let outcome = self.fetch_one(&order, asked, known.failures).await;
            let patience = PATIENCE * 2_u32.saturating_pow(known.failures.min(8));
            known.next = Instant::now() + patience.min(PATIENCE_MAX);
            let Err(why) = outcome else { continue };
            known.failures += 1;
            self.failed(&why, "an order could not be fetched yet");
            if let Pause::Api(ApiError::Limited { wait_ms }) = why {
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                return;
            }
        }
    }

    /// The channel's orders that wait to be fetched, and which asking each answers.
    fn waiting(&self) -> Vec<(String, u64)> {
        let replica = self.replica.read().unwrap_or_else(PoisonError::into_inner);
        let reloads = &replica.state().data().reloads;
        let from = (self.channel.name.clone(), String::new());
        let own =
            reloads.range(from..).take_while(|((channel, _), _)| *channel == self.channel.name);
        own.map(|((_, order), reload)| (order.clone(), reload.asked)).collect()
    }

    async fn fetch_one(&self, order: &str, asked: u64, failures: u32) -> Result<(), Pause> {
        let told = match self.source.order(order).await {
            Ok(Some(told)) => told,
            Ok(None) => missing(format!("the channel does not know order {order:?}")),
            Err(ApiError::Refused(why)) if failures + 1 >= REFUSALS_MAX => {
                missing(format!("order {order:?} cannot be fetched: {why}"))
            }
            Err(error) => return Err(error.into()),
        };
        self.keep_told(told).await?;
        self.measures.fetched.get_or_create(&measures::of(&self.channel.name)).inc();
        let fetched = Fact::Fetched { order: order.into(), asked };
        self.note(format!("fetched:{order}@{asked}"), fetched).await?;
        Ok(())
    }

    /// All that changed since the last poll.
    async fn poll(&self) -> Result<(), Pause> {
        let since = {
            let replica = self.replica.read().unwrap_or_else(PoisonError::into_inner);
            let known = replica.state().data().channels.get(&self.channel.name);
            let cursor = known.and_then(|known| known.cursor.as_ref()?.parse::<u64>().ok());
            cursor.or(known.map(|known| known.since)).unwrap_or(0)
        };
        let from = since.saturating_sub(self.channel.poll.overlap.0);
        let (mut newest, mut page) = (since, None);
        for _ in 0..PAGES_MAX {
            let told = self.page(from, page.as_deref()).await?;
            for told in told.told {
                self.keep_told(told).await?;
            }
            newest = newest.max(told.newest_ms.unwrap_or(0));
            page = told.next;
            if page.is_none() {
                break;
            }
        }
        self.measures.polls.get_or_create(&measures::of(&self.channel.name)).inc();
        // Where pages are left over, the next poll begins where this one did.
        if newest > since && page.is_none() {
            let polled = Fact::Polled { cursor: newest.to_string() };
            self.note(format!("polled:{newest}"), polled).await?;
        }
        Ok(())
    }

    /// One page. What the channel puts off or does not answer is asked for again: a poll that began anew
    /// each time might never come to its end.
    async fn page(&self, from: u64, page: Option<&str>) -> Result<Page, ApiError> {
        let mut failures = 0;
        loop {
            let wait = match self.source.changes(from, page).await {
                Err(ApiError::Limited { wait_ms }) => Duration::from_millis(wait_ms),
                Err(ApiError::Unreachable(_)) if failures < PAGE_RETRIES => {
                    failures += 1;
                    PATIENCE
                }
                told => return told,
            };
            tracing::debug!(channel = self.channel.name, ?wait, "a poll goes on later");
            tokio::time::sleep(wait.max(LOOK)).await;
        }
    }

    /// Keeps what was told, unless the very same was kept before.
    async fn keep_told(&self, told: Told) -> Result<(), Later> {
        let Told { topic, raw, understood } = told;
        let parsed = Parsed::new(topic, understood);
        match channel::deliver(&self.channel.name, parsed, &raw, clock::now_ms()) {
            Meant::Delivery(delivery, _) if !self.is_known(&delivery) => {
                self.intake.keep(*delivery).await
            }
            _ => Ok(()),
        }
    }

    fn is_known(&self, delivery: &Delivery) -> bool {
        let replica = self.replica.read().unwrap_or_else(PoisonError::into_inner);
        replica.state().data().seen.get(&delivery.key).is_some()
    }

    /// Keeps a note for the agreed state, behind what was told before it.
    async fn note(&self, id: String, fact: Fact) -> Result<(), Later> {
        let parsed =
            Parsed { id: Some(id), ..Parsed::new("poll/note", Understood::Facts(vec![fact])) };
        match channel::deliver(&self.channel.name, parsed, &[], clock::now_ms()) {
            Meant::Delivery(delivery, _) => self.intake.keep(*delivery).await,
            _ => Ok(()),
        }
    }

    fn failed(&self, why: &Pause, what: &'static str) {
        tracing::warn!(channel = self.channel.name, %why, "{what}");
        self.measures.fetch_failures.get_or_create(&measures::of(&self.channel.name)).inc();
    }
}

fn missing(reason: String) -> Told {
    let raw = reason.clone().into_bytes();
    Told { topic: "poll/order", raw, understood: Understood::Dead(reason) }
}
