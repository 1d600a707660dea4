//! What is measured, by name. Metrics, the dashboard and the demo read it here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram as Buckets, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use state::listing::Class;
use state::notices::shortfalls;
use state::reply::{Body, Kept};
use state::{Effects, State};

use crate::sqs;

/// A channel as a label.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OfChannel {
    channel: String,
}

/// A channel and a class of changes, as labels.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OfClass {
    channel: String,
    class: &'static str,
}

/// What an endpoint made of a message, as labels.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Posted {
    endpoint: String,
    outcome: &'static str,
}

/// A webhook's answer as a label.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Answer {
    channel: String,
    status: u16,
}

/// Counters and histograms of one node since it started.
pub struct Measures {
    registry: Mutex<Registry>,
    /// Webhooks answered, by channel and status.
    pub webhooks: Family<Answer, Counter>,
    /// Deliveries made durable here.
    pub accepted: Counter,
    /// Deliveries in the state, whichever node accepted them.
    pub applied: Counter,
    /// Deliveries that were repetitions of one applied before.
    pub duplicates: Counter,
    /// Lines of the ledger.
    pub movements: Counter,
    /// Dead letters.
    pub dead: Counter,
    /// Pushes confirmed, by channel.
    pub pushed: Family<OfChannel, Counter>,
    /// Pushes that the channel refused or that need another try, by channel.
    pub push_failures: Family<OfChannel, Counter>,
    /// Whether each channel is called by this node: 0 as usual, 1 a call probes, 2 not for a while.
    breakers: Family<OfChannel, Gauge>,
    /// From the receipt of a change to its confirmation, by channel and class.
    push_seconds: Family<OfClass, Buckets>,
    /// Of those, how many were confirmed by their deadline.
    push_in_time: Family<OfClass, Counter>,
    /// Orders fetched by id.
    pub fetched: Family<OfChannel, Counter>,
    /// Polls that came to their end.
    pub polls: Family<OfChannel, Counter>,
    /// Questions to a channel's API that failed.
    pub fetch_failures: Family<OfChannel, Counter>,
    /// Messages of channels' queues.
    queues: Queues,
    /// Messages posted to endpoints.
    posts: Family<Posted, Counter>,
    /// Seconds from a receipt to its 200.
    pub ack_seconds: Buckets,
    /// Deliveries waiting to be agreed on.
    pub backlog: Gauge<i64, AtomicI64>,
    /// Delivery keys dropped before their window was over, because there were too many.
    pub evicted_keys: Gauge<u64, AtomicU64>,
    /// Log index of the last command in this replica.
    pub applied_index: Gauge<u64, AtomicU64>,
    /// What the state holds, as of the newest scrape.
    pub held: Held,
    /// What this node grants from its quotas.
    pub escrow: Escrow,
    windows: Mutex<BTreeMap<(String, Class), Window>>,
    /// The same of the channels that this node pushes to.
    calls: Mutex<BTreeMap<String, Breaker>>,
    allowances: Mutex<BTreeMap<String, Allowance>>,
}

/// Says how many calls a channel allows at this moment.
pub type Allowance = Box<dyn Fn() -> f64 + Send + Sync>;

/// Whether a channel is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaker {
    /// As usual.
    Closed,
    /// One call goes out, and the next ones hang on its answer.
    HalfOpen,
    /// Not for a while: it did not answer.
    Open,
}

impl Breaker {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        }
    }
}

/// What a person watches of the ledger: counted when somebody asks.
#[derive(Default)]
pub struct Held {
    /// SKUs of which more was sold than is there, at some location.
    pub skus_short: Gauge<i64, AtomicI64>,
    /// Units of them that are missing.
    pub units_short: Gauge<i64, AtomicI64>,
    /// Reservations that hold something.
    pub reservations: Gauge<i64, AtomicI64>,
    /// SKUs of which more may be sold as things stand than is there.
    pub skus_overlapping: Gauge<i64, AtomicI64>,
    /// Units of them.
    pub units_overlapping: Gauge<i64, AtomicI64>,
    /// Whether each channel is paused.
    paused: Family<OfChannel, Gauge>,
    /// Listings of each channel that wait to be pushed.
    due: Family<OfChannel, Gauge>,
    /// Listings for which each channel takes no push.
    failing: Family<OfChannel, Gauge>,
    /// Calls made to each channel today that has a daily bound.
    spent: Family<OfChannel, Gauge>,
}

impl Held {
    /// Counts what a state holds.
    pub fn count(&self, state: &State) {
        let length = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let stock = state.short().iter().filter_map(|sku| state.data().stock.get(sku));
        self.skus_short.set(length(state.short().len()));
        self.units_short.set(stock.flat_map(|stock| shortfalls(stock).into_values()).sum());
        self.reservations.set(length(state.holds().len() + state.escrowed().len()));
        let overlaps = state.overlaps();
        self.skus_overlapping.set(i64::try_from(overlaps.skus).unwrap_or(i64::MAX));
        self.units_overlapping.set(overlaps.units);
        let now = state.data().now;
        for (name, channel) in &state.data().channels {
            let set = |family: &Family<OfChannel, Gauge>, n: usize| {
                family.get_or_create(&of(name)).set(length(n));
            };
            set(&self.paused, usize::from(channel.is_paused(now)));
            set(&self.due, state.due().count(name));
            set(&self.failing, state.failures().count(name));
            if channel.definition.per_day > 0 {
                set(&self.spent, usize::try_from(channel.spent(now)).unwrap_or(usize::MAX));
            }
        }
    }

    fn register(&self, to: &mut Registry) {
        for (name, help, gauge) in [
            ("skus_short", "SKUs of which more was sold than is there", &self.skus_short),
            ("units_short", "Units that were sold and are not there", &self.units_short),
            ("reservations_held", "Reservations that hold something", &self.reservations),
            (
                "skus_overlapping",
                "SKUs of which more may be sold as things stand than is available",
                &self.skus_overlapping,
            ),
            (
                "units_overlapping",
                "Units that may be sold as things stand beyond what is available",
                &self.units_overlapping,
            ),
        ] {
            to.register(name, help, gauge.clone());
        }
        for (name, help, family) in [
            ("channel_paused", "Whether nothing is pushed to a channel", &self.paused),
            ("listings_due", "Listings that wait to be pushed", &self.due),
            ("listings_failing", "Listings for which a channel takes no push", &self.failing),
            ("channel_calls_today", "Calls to a channel with a daily bound", &self.spent),
        ] {
            to.register(name, help, family.clone());
        }
    }
}

/// What a node grants by itself.
#[derive(Default)]
pub struct Escrow {
    /// Units left of its quotas.
    pub quota: Gauge<i64, AtomicI64>,
    /// Reservations granted from them.
    pub held: Counter,
    /// Reservations for which they were too small.
    pub beyond: Counter,
}

impl Escrow {
    fn register(&self, to: &mut Registry) {
        let quota = "Units left of the quotas of this node";
        to.register("escrow_quota", quota, self.quota.clone());
        let held = "Reservations granted here from quotas";
        to.register("escrow_granted", held, self.held.clone());
        let beyond = "Reservations for which the quotas of this node were too small";
        to.register("escrow_beyond", beyond, self.beyond.clone());
    }
}

/// The counters of [`sqs::Counts`], by channel.
#[derive(Default)]
struct Queues {
    received: Family<OfChannel, Counter>,
    deleted: Family<OfChannel, Counter>,
    busy: Family<OfChannel, Counter>,
    extended: Family<OfChannel, Counter>,
    undeleted: Family<OfChannel, Counter>,
    failures: Family<OfChannel, Counter>,
}

impl Queues {
    fn register(&self, to: &mut Registry) {
        for (name, help, family) in [
            ("queue_received", "Messages received, repetitions included", &self.received),
            ("queue_deleted", "Messages deleted after they were durable", &self.deleted),
            (
                "queue_busy",
                "Messages left in the queue, as nothing could be made durable",
                &self.busy,
            ),
            ("queue_extended", "Times that a message was hidden for longer", &self.extended),
            ("queue_undeleted", "Durable messages that could not be deleted", &self.undeleted),
            ("queue_failures", "Calls to a queue that failed", &self.failures),
        ] {
            to.register(name, help, family.clone());
        }
    }
}

/// How long a channel showed something else than it should: from the receipt of the cause to the
/// confirmation, in milliseconds.
#[derive(Clone, Debug)]
pub struct Window {
    /// All of them.
    pub histogram: Histogram<u64>,
    /// How many were confirmed by their deadline.
    pub in_time: u64,
}

impl Measures {
    /// With nothing measured yet.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("stockraft");
        let measures = Self {
            webhooks: Family::default(),
            accepted: Counter::default(),
            applied: Counter::default(),
            duplicates: Counter::default(),
            movements: Counter::default(),
            dead: Counter::default(),
            pushed: Family::default(),
            push_failures: Family::default(),
            breakers: Family::default(),
            push_seconds: Family::new_with_constructor(|| {
                Buckets::new(exponential_buckets(0.01, 2.0, 18))
            }),
            push_in_time: Family::default(),
            fetched: Family::default(),
            polls: Family::default(),
            fetch_failures: Family::default(),
            queues: Queues::default(),
            posts: Family::default(),
            ack_seconds: Buckets::new(exponential_buckets(0.000_25, 2.0, 16)),
            backlog: Gauge::default(),
            evicted_keys: Gauge::default(),
            applied_index: Gauge::default(),
            held: Held::default(),
            escrow: Escrow::default(),
            windows: Mutex::default(),
            calls: Mutex::default(),
            allowances: Mutex::default(),
            registry: Mutex::new(Registry::default()),
        };
        measures.register(&mut registry);
        Self { registry: Mutex::new(registry), ..measures }
    }

    fn register(&self, to: &mut Registry) {
        let webhooks = "Webhooks answered, by channel and status";
        to.register("webhooks", webhooks, self.webhooks.clone());
        to.register("deliveries_accepted", "Deliveries made durable here", self.accepted.clone());
        to.register("deliveries_applied", "Deliveries in the agreed state", self.applied.clone());
        let repeated = "Deliveries that repeated one applied before";
        to.register("deliveries_duplicate", repeated, self.duplicates.clone());
        to.register("movements", "Lines of the ledger", self.movements.clone());
        to.register("dead_letters", "Deliveries that could not be applied", self.dead.clone());
        to.register("pushes_confirmed", "Quantities that channels took", self.pushed.clone());
        let failures = "Pushes that a channel refused or that need another try";
        to.register("push_failures", failures, self.push_failures.clone());
        let breaker = "Whether this node calls a channel: 0 as usual, 1 probing, 2 not for a while";
        to.register("channel_breaker", breaker, self.breakers.clone());
        let window = "From the receipt of a change to the channel's confirmation";
        to.register_with_unit("push_window", window, Unit::Seconds, self.push_seconds.clone());
        let in_time = "Pushes confirmed by their deadline";
        to.register("pushes_in_time", in_time, self.push_in_time.clone());
        to.register("orders_fetched", "Orders fetched by id", self.fetched.clone());
        to.register("polls", "Polls of a channel's API that came to their end", self.polls.clone());
        let failures = "Questions to a channel's API that failed";
        to.register("fetch_failures", failures, self.fetch_failures.clone());
        self.queues.register(to);
        let posts = "Messages posted to endpoints, by what became of it";
        to.register("endpoint_posts", posts, self.posts.clone());
        self.held.register(to);
        self.escrow.register(to);
        let ack = "From the receipt of a webhook to its 200";
        to.register_with_unit("webhook_ack", ack, Unit::Seconds, self.ack_seconds.clone());
        let backlog = "Deliveries accepted here that the cluster has not agreed on yet";
        to.register("inbox_backlog", backlog, self.backlog.clone());
        let evicted = "Delivery keys dropped before their window was over";
        to.register("delivery_keys_evicted", evicted, self.evicted_keys.clone());
        let applied = "Log index of the last command in this replica";
        to.register("applied_index", applied, self.applied_index.clone());
    }

    /// Everything in Prometheus' text format.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }

    /// Counts what a command left behind.
    pub fn applied(&self, effects: &Effects, now: u64) {
        self.applied.inc_by(effects.applied);
        self.duplicates.inc_by(effects.duplicates);
        self.movements.inc_by(u64::try_from(effects.movements.len()).unwrap_or(0));
        let dead = |body: &&Body| matches!(body.kept, Kept::Body(_) | Kept::Facts(_));
        let dead = effects.bodies.iter().filter(dead).count();
        self.dead.inc_by(u64::try_from(dead).unwrap_or(0));
        for confirmed in &effects.confirmed {
            self.pushed.get_or_create(&of(&confirmed.channel)).inc();
            let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
            let place = (confirmed.channel.clone(), confirmed.class);
            let window = windows.entry(place).or_default();
            let took = now.saturating_sub(confirmed.since);
            let in_time = now <= confirmed.deadline;
            window.histogram.saturating_record(took);
            window.in_time += u64::from(in_time);
            let class =
                OfClass { channel: confirmed.channel.clone(), class: name_of(confirmed.class) };
            let seconds = Duration::from_millis(took).as_secs_f64();
            self.push_seconds.get_or_create(&class).observe(seconds);
            self.push_in_time.get_or_create(&class).inc_by(u64::from(in_time));
        }
    }

    /// Whether this node calls a channel; `None` if that is not its work any more.
    pub fn breaker(&self, channel: &str, breaker: Option<Breaker>) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let number = match breaker {
            None | Some(Breaker::Closed) => 0,
            Some(Breaker::HalfOpen) => 1,
            Some(Breaker::Open) => 2,
        };
        self.breakers.get_or_create(&of(channel)).set(number);
        match breaker {
            Some(breaker) => calls.insert(channel.into(), breaker),
            None => calls.remove(channel),
        };
    }

    /// Whether this node calls a channel; `None` if another one does.
    #[must_use]
    pub fn breaker_of(&self, channel: &str) -> Option<Breaker> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).get(channel).copied()
    }

    /// What tells how many calls a channel allows; `None` if another node calls it.
    pub fn allowance(&self, channel: &str, allowance: Option<Allowance>) {
        let mut allowances = self.allowances.lock().unwrap_or_else(PoisonError::into_inner);
        match allowance {
            Some(allowance) => allowances.insert(channel.into(), allowance),
            None => allowances.remove(channel),
        };
    }

    /// Calls that a channel allows now; `None` if another node calls it.
    #[must_use]
    pub fn allowed(&self, channel: &str) -> Option<f64> {
        let allowances = self.allowances.lock().unwrap_or_else(PoisonError::into_inner);
        allowances.get(channel).map(|allowed| allowed())
    }

    /// Counts a webhook's answer.
    pub fn answered(&self, channel: &str, status: u16) {
        self.webhooks.get_or_create(&Answer { channel: channel.into(), status }).inc();
    }

    /// Counts a message that was posted to an endpoint.
    pub fn posted(&self, endpoint: &str, taken: bool) {
        let outcome = if taken { "taken" } else { "failed" };
        self.posts.get_or_create(&Posted { endpoint: endpoint.into(), outcome }).inc();
    }

    /// What the consumer of a channel's queue counts.
    #[must_use]
    pub fn queue(&self, channel: &str) -> sqs::Counts {
        let of = |family: &Family<OfChannel, Counter>| family.get_or_create_owned(&of(channel));
        sqs::Counts {
            received: of(&self.queues.received),
            deleted: of(&self.queues.deleted),
            busy: of(&self.queues.busy),
            extended: of(&self.queues.extended),
            undeleted: of(&self.queues.undeleted),
            failures: of(&self.queues.failures),
        }
    }

    /// The windows of a channel since this node started, of each class that there were any of.
    #[must_use]
    pub fn windows(&self, channel: &str) -> BTreeMap<&'static str, Window> {
        let windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let of_class =
            |(class, name)| Some((name, windows.get(&(channel.to_string(), class)).cloned()?));
        Class::ALL.into_iter().filter_map(of_class).collect()
    }

    /// The same of all classes together.
    #[must_use]
    pub fn window(&self, channel: &str) -> Window {
        let mut all = Window::default();
        for window in self.windows(channel).into_values() {
            // Their bounds are the same.
            let _ = all.histogram.add(&window.histogram);
            all.in_time += window.in_time;
        }
        all
    }
}

impl Default for Measures {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for Window {
    fn default() -> Self {
        // A day at most, three significant digits; the bounds are constants that the library takes.
        let histogram = Histogram::new_with_bounds(1, 86_400_000, 3);
        Self { histogram: histogram.expect("valid bounds"), in_time: 0 }
    }
}

fn name_of(class: Class) -> &'static str {
    Class::ALL.iter().find(|(known, _)| *known == class).map_or("", |(_, name)| name)
}

/// A channel's label.
#[must_use]
pub fn of(channel: &str) -> OfChannel {
    OfChannel { channel: channel.into() }
}
