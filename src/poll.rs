//! Asking a channel's API: for orders of which it was only said that they changed, and, every now and
//! then, for all that changed. What it answers goes the way of every delivery, so that an order which was
//! heard of before changes nothing, and a webhook that was lost is made good.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use channels::poll::{Page, Told};
use channels::{Parsed, Understood};
use cluster::durable::Db;
use cluster::{Clock, Role};
use sha2::{Digest, Sha256};
use state::command::{Delivery, Fact};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::agreed::Agreed;
use crate::channel::api::ApiError;
use crate::channel::{self, Meant, Orders};
use crate::config::Channel;
use crate::home::home;
use crate::inbox::Store;
use crate::intake::{Intake, Later};
use crate::measures::{self, Measures};
use crate::route::Router;

/// How often this node looks whether an order waits to be fetched, while something changes.
const LOOK: Duration = Duration::from_millis(250);
/// How often it looks at what nothing tells it of: whether this is its work.
const IDLE: Duration = Duration::from_secs(5);
/// Orders fetched in one go.
const ORDERS_MAX: usize = 32;
/// Pages that are asked for in one go; between two goes orders that wait are fetched.
const PAGES_MAX: usize = 50;
/// How far behind the newest change a poll begins at least: some channels know whole seconds only.
const OVERLAP_MS_MIN: u64 = 2_000;
/// How long after an order was fetched, or could not be, it is left alone; doubled with each failure.
const PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE_MAX: Duration = Duration::from_secs(300);
/// After so many refusals an order that cannot be fetched becomes a dead letter.
const REFUSALS_MAX: u32 = 8;

/// What asks one channel's API.
pub struct Poller<O, A, S = Db> {
    /// The channel, with its credentials.
    pub channel: Channel,
    /// Its API.
    pub source: O,
    /// This node.
    pub node: u64,
    /// What waits to be fetched, and which node is the channel's home.
    pub cluster: A,
    /// Where answers go.
    pub intake: Intake<S>,
    /// This node's clock.
    pub clock: Clock,
    /// What is counted.
    pub measures: Arc<Measures>,
}

/// An order that was asked for lately: when it may be asked for again, and how often that failed.
struct Tried {
    next: Instant,
    failures: u32,
    /// Of these, those that the channel meant for good: an outage refuses nothing.
    refusals: u32,
}

/// A poll that is under way. It is kept where it had to stop: one with many pages would never come to its
/// end if it began anew each time that the channel had enough of it.
#[derive(Debug)]
struct Round {
    /// Where the poll before it ended.
    since: u64,
    /// What changed from here on is asked for.
    from: u64,
    began: u64,
    /// Agreed time when it began.
    agreed: u64,
    newest: u64,
    /// The page to ask for; `None` for the first.
    page: Option<String>,
    /// How often in a row the channel put it off, and how long it wants to be left alone.
    delays: u32,
    wait: Duration,
}

impl Round {
    fn new(since: u64, overlap: u64, now: u64) -> Self {
        let from = since.saturating_sub(overlap.max(OVERLAP_MS_MIN));
        Self {
            since,
            from,
            began: now,
            agreed: 0,
            newest: since,
            page: None,
            delays: 0,
            wait: Duration::ZERO,
        }
    }

    /// Takes note of a page that was kept. Whether it was the last.
    fn kept(&mut self, newest_ms: Option<u64>, next: Option<String>) -> bool {
        self.newest = self.newest.max(newest_ms.unwrap_or(0));
        self.page = next;
        (self.delays, self.wait) = (0, Duration::ZERO);
        self.page.is_none()
    }

    /// The channel has enough for now, or does not answer.
    fn put_off(mut self, wait_ms: u64) -> Self {
        self.delays = self.delays.saturating_add(1);
        self.wait = Duration::from_millis(wait_ms);
        self
    }

    /// How long it rests: not at all if there are only pages left over; as long as the channel wants if it
    /// put the poll off, and longer each time, up to the time between two polls.
    fn pause(&self, every: Duration) -> Duration {
        let Some(before) = self.delays.checked_sub(1) else { return Duration::ZERO };
        let patience = PATIENCE.saturating_mul(2_u32.saturating_pow(before));
        patience.min(every).max(self.wait)
    }

    /// Where the next poll goes on, if further than this one. Not behind the time at which this one began:
    /// what changed while it went on may lie on a page that was read before, and a record with a time in
    /// the future would hide all that changes until then.
    fn cursor(&self) -> Option<u64> {
        let cursor = self.newest.min(self.began);
        (cursor > self.since).then_some(cursor)
    }
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
pub async fn run<S: Store>(poller: Poller<impl Orders, impl Agreed, S>, stop: CancellationToken) {
    let asked = poller.ask();
    tokio::pin!(asked);
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = &mut asked => {}
    }
}

impl<O: Orders, A: Agreed, S: Store> Poller<O, A, S> {
    async fn ask(&self) {
        let mut tried = BTreeMap::new();
        let every = self.channel.poll.every.duration();
        let mut poll_at = (!every.is_zero()).then(Instant::now);
        let mut round = None;
        let mut changed = self.cluster.watch();
        let mut mine = false;
        loop {
            let retries = tried.values().map(|tried: &Tried| tried.next);
            let next = retries.chain(poll_at).min().filter(|_| mine);
            let rest = next.map_or(IDLE, |at| at.saturating_duration_since(Instant::now()));
            // Either way the next look tells.
            let _ = tokio::time::timeout(rest.min(IDLE), changed.changed()).await;
            mine = self.is_mine();
            if !mine {
                continue;
            }
            tokio::time::sleep(LOOK).await;
            changed.borrow_and_update();
            self.fetch(&mut tried).await;
            if poll_at.is_some_and(|at| Instant::now() >= at) {
                if let Err(why) = self.poll(&mut round).await {
                    self.failed(&why, "a poll broke off, and is tried again later");
                }
                let wait = round.as_ref().map_or(every, |round| round.pause(every));
                poll_at = Some(Instant::now() + wait);
            }
        }
    }

    /// Whether this node is the channel's home, or leads while the home cannot be reached. Two nodes that
    /// both ask do no harm.
    fn is_mine(&self) -> bool {
        let wanted = self.cluster.look(|state| {
            let known = state.data().channels.get(&self.channel.name)?;
            known.definition.fetches.then_some(known.definition.home)
        });
        let Some(wanted) = wanted else { return false };
        let status = self.cluster.status();
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
        let waits =
            |order: &String| waiting.binary_search_by(|(known, _)| known.cmp(order)).is_ok();
        tried.retain(|order, _| waits(order));
        let now = Instant::now();
        let due = |order: &String| tried.get(order).is_none_or(|tried| tried.next <= now);
        let due: Vec<_> =
            waiting.into_iter().filter(|(order, _)| due(order)).take(ORDERS_MAX).collect();
        for (order, asked) in due {
            let first = Tried { next: now, failures: 0, refusals: 0 };
            let known = tried.entry(order.clone()).or_insert(first);
            let outcome = self.fetch_one(&order, asked, known.refusals).await;
            let patience = PATIENCE * 2_u32.saturating_pow(known.failures.min(8));
            known.next = Instant::now() + patience.min(PATIENCE_MAX);
            let Err(why) = outcome else { continue };
            known.failures += 1;
            known.refusals += u32::from(matches!(why, Pause::Api(ApiError::Refused(_))));
            self.failed(&why, "an order could not be fetched yet");
            if let Pause::Api(ApiError::Limited { wait_ms }) = why {
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                return;
            }
        }
    }

    /// The channel's orders that wait to be fetched, and which asking each answers.
    fn waiting(&self) -> Vec<(String, u64)> {
        let name = &self.channel.name;
        self.cluster.look(|state| {
            let own = state.data().reloads.range((name.clone(), String::new())..);
            let own = own.take_while(|((channel, _), _)| channel == name);
            own.map(|((_, order), reload)| (order.clone(), reload.asked)).collect()
        })
    }

    async fn fetch_one(&self, order: &str, asked: u64, refusals: u32) -> Result<(), Pause> {
        let told = match self.source.order(order).await {
            Ok(Some(told)) => told,
            Ok(None) => missing(format!("the channel does not know order {order:?}")),
            Err(ApiError::Refused(why)) if refusals + 1 >= REFUSALS_MAX => {
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

    /// What changed since the last poll, page by page. What is left over stays in `left`.
    async fn poll(&self, left: &mut Option<Round>) -> Result<(), Pause> {
        let mut round = left.take().unwrap_or_else(|| self.begin());
        for _ in 0..PAGES_MAX {
            let page = self.source.changes(round.from, round.page.as_deref()).await;
            let Page { told, next, newest_ms } = match page {
                Ok(page) => page,
                Err(error) => {
                    let wait_ms = match &error {
                        ApiError::Limited { wait_ms } => Some(*wait_ms),
                        ApiError::Unreachable(_) => Some(0),
                        // It would most likely be the same again: the next poll begins anew.
                        _ => None,
                    };
                    *left = wait_ms.map(|wait_ms| round.put_off(wait_ms));
                    return Err(error.into());
                }
            };
            for told in told {
                self.keep_told(told).await?;
            }
            if round.kept(newest_ms, next) {
                self.measures.polls.get_or_create(&measures::of(&self.channel.name)).inc();
                self.looked(&round).await?;
                let Some(cursor) = round.cursor() else { return Ok(()) };
                let polled = Fact::Polled { cursor };
                return Ok(self.note(format!("polled:{cursor}"), polled).await?);
            }
        }
        *left = Some(round);
        Ok(())
    }

    fn begin(&self) -> Round {
        let since = self.cluster.look(|state| {
            let known = state.data().channels.get(&self.channel.name);
            known.map_or(0, |known| known.cursor.unwrap_or(known.since))
        });
        let agreed = self.cluster.look(|state| state.data().now);
        Round { agreed, ..Round::new(since, self.channel.poll.overlap.0, (self.clock)()) }
    }

    /// Tells that all is in that the channel listed when the poll began, where somebody waits for that: a
    /// quantity that was set plainly may have erased sales until then.
    async fn looked(&self, round: &Round) -> Result<(), Later> {
        let name = self.channel.name.as_str();
        let waits = self.cluster.look(|state| {
            let known = state.data().channels.get(name);
            known.is_some_and(|known| !known.definition.compares) && state.has_doubts(name)
        });
        if !waits {
            return Ok(());
        }
        let began = round.agreed;
        self.note(format!("looked:{began}@{}", round.began), Fact::Looked { began }).await
    }

    /// Keeps what was told, unless the very same was kept before.
    async fn keep_told(&self, told: Told) -> Result<(), Later> {
        let Told { topic, raw, understood } = told;
        // Fetched by itself, an order may be told in the same words as on the page that only named it.
        let id =
            is_named(&understood).then(|| format!("named:{}", channel::hex(&Sha256::digest(&raw))));
        let parsed = Parsed { id, ..Parsed::new(topic, understood) };
        let router = self.intake.router();
        match channel::deliver(router, &self.channel.name, parsed, &raw, (self.clock)()) {
            Meant::Delivery(delivery, _) if !self.is_known(&delivery) => {
                self.intake.keep_in_order(*delivery).await
            }
            _ => Ok(()),
        }
    }

    fn is_known(&self, delivery: &Delivery) -> bool {
        self.cluster.look(|state| state.data().seen.get(&delivery.key).is_some())
    }

    /// Keeps a note for the agreed state, behind what was told before it.
    async fn note(&self, id: String, fact: Fact) -> Result<(), Later> {
        let parsed =
            Parsed { id: Some(id), ..Parsed::new("poll/note", Understood::Facts(vec![fact])) };
        // It is about this node's own work, and nobody's message.
        let router = Router::default();
        match channel::deliver(&router, &self.channel.name, parsed, &[], (self.clock)()) {
            Meant::Delivery(delivery, _) => self.intake.keep_in_order(*delivery).await,
            _ => Ok(()),
        }
    }

    fn failed(&self, why: &Pause, what: &'static str) {
        tracing::warn!(channel = self.channel.name, %why, "{what}");
        self.measures.fetch_failures.get_or_create(&measures::of(&self.channel.name)).inc();
    }
}

/// Whether it only says that orders changed.
fn is_named(understood: &Understood) -> bool {
    let is_named = |fact: &Fact| matches!(fact, Fact::Reload { .. });
    matches!(understood, Understood::Facts(facts) if facts.iter().any(is_named))
}

fn missing(reason: String) -> Told {
    let raw = reason.clone().into_bytes();
    Told { topic: "poll/order", raw, understood: Understood::Dead(reason) }
}

#[cfg(test)]
mod tests;
