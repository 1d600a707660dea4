//! What the tasks of one sender share, and how they change it.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hyper::Uri;
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Faults, Options, Stats, Subscription,
    allowance::Allowance,
    book::{Book, Change},
    courier::{self, Job},
    dialect::Dialect,
    log::Log,
};
use crate::{
    Error,
    clock::{self, Millis},
    door::Arrivals,
    options::Outage,
    random::{Random, name_hash},
    store::courier::HttpClient,
};

pub(super) struct Inner {
    pub(super) address: SocketAddr,
    pub(super) options: Options,
    /// A plain lock: no holder of it waits for anything.
    pub(super) state: Mutex<State>,
    /// Marked after each change of the state, for those who wait for a condition on it.
    pub(super) changed: watch::Sender<()>,
    /// Orders per second.
    pub(super) pace: watch::Sender<f64>,
    /// Receipts, transfers and scraps per second.
    pub(super) move_pace: watch::Sender<f64>,
    /// What the API does to calls.
    pub(super) outage: watch::Sender<Outage>,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) arrivals: Arrivals,
    pub(super) client: HttpClient,
    /// Bounds the webhook requests on the wire.
    pub(super) permits: Semaphore,
}

pub(super) struct State {
    pub(super) book: Book,
    pub(super) dialect: Box<dyn Dialect>,
    pub(super) log: Log,
    pub(super) stats: Stats,
    pub(super) faults: Faults,
    pub(super) subscription: Subscription,
    /// Webhooks failed since the last that was acknowledged.
    pub(super) failures_in_row: u32,
    pub(super) targets: Arc<[Uri]>,
    /// Topic and subject of the webhooks that wait, of a kind that coalesces them.
    pub(super) waiting: BTreeSet<(&'static str, u64)>,
    /// What customers choose.
    pub(super) customers: Random,
    /// What moves by itself.
    pub(super) shifts: Random,
    /// What goes wrong with calls of the API.
    pub(super) mishaps: Random,
    /// How many more calls the API answers now.
    pub(super) allowance: Option<Allowance>,
    /// Decides, with a webhook's key, its id and what goes wrong with it.
    seed: u64,
}

impl State {
    pub(super) fn new(
        options: &Options,
        dialect: Box<dyn Dialect>,
        targets: Arc<[Uri]>,
    ) -> Mutex<Self> {
        let seed = options.seed ^ name_hash(&options.name);
        let stream = |of| Random::new(seed ^ name_hash(of));
        let mut state = Self {
            book: Book::new(options),
            dialect,
            log: Log::new(options.webhooks_kept_max),
            stats: Stats::default(),
            faults: options.faults.clone(),
            subscription: Subscription::Pending,
            failures_in_row: 0,
            targets,
            waiting: BTreeSet::new(),
            customers: stream("customers"),
            shifts: stream("shifts"),
            mishaps: stream("mishaps"),
            allowance: options.rate.map(|rate| Allowance::full(rate, Instant::now())),
            seed,
        };
        state.subscribe();
        Mutex::new(state)
    }

    /// What happens to a webhook is decided by its key alone, so that it does not depend on what the
    /// network lets happen first.
    pub(super) fn fate(&self, key: &str) -> Random {
        Random::new(self.seed ^ name_hash(key))
    }

    /// Asks for the handshake, or is subscribed at once where the kind knows none.
    pub(super) fn subscribe(&mut self) {
        self.failures_in_row = 0;
        let asks = |target: &Uri| self.dialect.handshake(target, "").is_some();
        let pending = self.targets.first().is_none_or(asks);
        self.subscription = if pending { Subscription::Pending } else { Subscription::Active };
    }

    pub(super) fn is_idle(&self) -> bool {
        self.stats.webhooks_pending == 0 && self.stats.changes_due == 0
    }

    /// What the kind tells of a change.
    pub(super) fn tell(&mut self, change: Change) -> Vec<Job> {
        self.tally(change);
        let notices = self.dialect.tell(&self.book, change);
        courier::book(self, notices)
    }

    fn tally(&mut self, change: Change) {
        match change {
            Change::Placed { order } => {
                let lines = self.book.orders.get(&order).map_or(&[][..], |order| &order.lines);
                let units: i64 = lines.iter().map(|line| line.ordered).sum();
                self.stats.orders += 1;
                self.stats.units_sold += u64::try_from(units).unwrap_or(0);
            }
            Change::Cancelled { .. } => self.stats.cancellations += 1,
            Change::Reduced { .. } => self.stats.reductions += 1,
            Change::Shipped { .. } => self.stats.shipments += 1,
            Change::Trashed { .. } => {}
            Change::Moved { .. } => self.stats.moves += 1,
        }
    }
}

impl Inner {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn act<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.send_replace(());
        result
    }

    /// Changes the book and sends what the kind tells of it.
    pub(super) fn transact<T>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut State, Millis) -> Result<(T, Change), Error>,
    ) -> Result<T, Error> {
        let (result, jobs) = self.act(|state| -> Result<(T, Vec<Job>), Error> {
            let (result, change) = change(state, clock::now_ms())?;
            Ok((result, state.tell(change)))
        })?;
        self.send(jobs);
        Ok(result)
    }

    pub(super) fn send(self: &Arc<Self>, jobs: Vec<Job>) {
        for job in jobs {
            self.tasks.spawn(courier::deliver(Arc::clone(self), job));
        }
    }

    pub(super) async fn wait_until(&self, condition: impl Fn(&State) -> bool) {
        let mut changed = self.changed.subscribe();
        while !condition(&self.lock()) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}
