//! A simulated Amazon seller account: it sends as Amazon sends, and answers as Amazon answers.
//!
//! - buyers **order** what it shows; orders go from `Pending` to `Unshipped`, then to
//!   `PartiallyShipped` and `Shipped`, or to `Canceled`;
//! - every change is **told** by notifications into a queue ([`crate::sqs`]): late, twice, out of
//!   order, as a whole order or item by item, in three kinds of envelope, or not at all;
//! - everything can be **asked**: Login with Amazon hands out access tokens, `searchOrders` and
//!   `getOrder` of the orders API 2026-01-01 answer within their usage plans;
//! - it is **told** quantities by patches of listings and by feeds, shows them some time later, and remembers
//!   them all ([`Account::pushes`]);
//! - [`Account::expected`] is what a correct ledger must hold in the end.
//!
//! [`sns`] makes signed SNS deliveries for tests of their own.
//!
//! `book` and `shelf` decide, `notification`, `api`, `listings` and `feeds` word it, `post` makes it go wrong;
//! none of them reads a clock. `buyers` and `server` wait.

pub mod sns;

mod api;
mod book;
mod buyers;
mod feeds;
mod listings;
mod notification;
mod options;
mod post;
mod server;
mod shelf;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{net::TcpListener, sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    api::Desk,
    book::{Book, Change},
    post::Letter,
};
pub use self::{
    book::{Expected, ExpectedBySku, order_id},
    notification::Kind,
    options::{Faults, Item, Options, Plans, Rate},
};
use crate::{
    Error, Outage,
    clock::{self, Millis},
    door::{Arrivals, Door},
    history::{Arrival, ExpectedByLine, Push},
    random::{Random, name_hash},
    sqs::Queue,
};

/// One notification, sent or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// When it was due.
    pub at_ms: Millis,
    /// Its `NotificationId`.
    pub notification_id: String,
    /// What it tells of.
    pub kind: Kind,
    /// The number of its order, if it is of one.
    pub order: Option<u64>,
    /// How often it was put into the queue; zero if it was dropped.
    pub copies: usize,
}

/// Counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it; those that do not are explained")]
pub struct Stats {
    /// Orders of both kinds of fulfilment.
    pub orders: u64,
    pub amazon_fulfilled: u64,
    /// Orders of random buyers of which something is still to become.
    pub changes_due: u64,
    pub notifications: u64,
    pub dropped: u64,
    pub duplicates: u64,
    pub searches: u64,
    pub reads: u64,
    /// Patches of listings.
    pub pushes: u64,
    pub feeds: u64,
    /// Rows of patches and feeds that were accepted.
    pub rows: u64,
    /// Those that were not, whatever was said of them.
    pub rows_refused: u64,
    pub stock_reads: u64,
    /// Access tokens handed out.
    pub tokens: u64,
    /// Calls over the usage plan.
    pub throttled: u64,
    pub unauthorized: u64,
    /// Calls that met an outage or a fault.
    pub outage_calls: u64,
}

/// A handle on one running account. Cheap to clone; all clones are one account.
///
/// It runs until [`Account::shutdown`], or until its runtime ends: dropping the handles does not stop it.
#[derive(Clone)]
pub struct Account {
    inner: Arc<Inner>,
}

impl Account {
    /// Opens the account, which sends into `queue`, and lets buyers in if there is a rate for them.
    ///
    /// Fails if the options make no sense or the address is taken.
    pub async fn start(options: Options, queue: Queue) -> Result<Self, Error> {
        options.check()?;
        let listen = |source| Error::Listen { address: options.listen, source };
        let listener = TcpListener::bind(options.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let stream = |of| Random::new(options.seed ^ name_hash(&options.seller_id) ^ name_hash(of));
        let state = State {
            book: Book::new(&options),
            desk: Desk::new(&options, Instant::now()),
            told: Vec::new(),
            stats: Stats::default(),
            faults: options.faults.clone(),
            buyers: stream("buyers"),
            mishaps: stream("mishaps"),
            calls: stream("calls"),
        };
        let outage = watch::Sender::new(Outage::None);
        let door = Door {
            address,
            outage: outage.subscribe(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            arrivals: Arrivals::default(),
        };
        let inner = Arc::new(Inner {
            state: Mutex::new(state),
            changed: watch::Sender::new(()),
            outage,
            pace: watch::Sender::new(options.orders_per_second),
            door,
            queue,
            options,
        });
        inner.door.tasks.spawn(server::serve(Arc::clone(&inner), listener));
        inner.door.tasks.spawn(buyers::come(Arc::clone(&inner)));
        Ok(Self { inner })
    }

    /// Where the API listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.inner.door.address
    }

    /// What stands before the paths of the Selling Partner API and of Login with Amazon.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.inner.door.address)
    }

    /// What the account was started with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// How many buyers order in a second from now on.
    pub fn set_orders_per_second(&self, rate: f64) {
        let rate = if rate.is_finite() { rate.max(0.0) } else { 0.0 };
        // Under the lock, so that nobody orders any more once this is done.
        self.inner.act(|_| self.inner.pace.send_replace(rate));
    }

    /// No random buyer orders any more. What is to become of orders still happens.
    pub fn stop_selling(&self) {
        self.set_orders_per_second(0.0);
    }

    /// What the API does to calls from now on. A closed or opened port follows a moment later.
    pub fn set_outage(&self, outage: Outage) {
        self.inner.outage.send_replace(outage);
    }

    /// What goes wrong by itself from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.inner.act(|state| state.faults = faults);
    }

    /// Access tokens that were handed out are good no longer.
    pub fn expire_tokens(&self) {
        self.inner.act(|state| state.desk.expire_tokens());
    }

    /// The seller takes back what he granted the application, or grants it again.
    pub fn set_revoked(&self, revoked: bool) {
        self.inner.act(|state| state.desk.revoked = revoked);
    }

    /// Somebody sets a quantity by hand in Amazon's own screens.
    pub fn set_available(&self, sku: &str, units: i64) -> Result<(), Error> {
        let now = clock::now_ms();
        self.inner.act(|state| {
            let index = state.book.shelf_of_sku(sku);
            let index = index.ok_or_else(|| Error::UnknownSku(sku.to_owned()))?;
            state.book.accept(index, units, now, now);
            Ok(())
        })?;
        self.inner.settle();
        Ok(())
    }

    /// What it shows of every SKU.
    #[must_use]
    pub fn shown(&self) -> std::collections::BTreeMap<String, i64> {
        self.inner.settle();
        self.inner.lock().book.shelves.iter().cloned().collect()
    }

    /// Everything that it was told to show, in the order of arrival. What was set by hand is among it.
    #[must_use]
    pub fn pushes(&self) -> Vec<Push> {
        self.inner.lock().book.pushes.clone()
    }

    /// Calls of its API, whatever became of them: the newest hundred thousand.
    #[must_use]
    pub fn calls(&self) -> Vec<Arrival> {
        self.inner.door.arrivals.all()
    }

    /// What goes wrong by itself now.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.inner.lock().faults.clone()
    }

    /// One buyer orders these; the order is pending. Returns its number, of which [`order_id`] makes
    /// Amazon's id. Fails if too few are left.
    pub fn sell(&self, basket: &[(&str, u32)]) -> Result<u64, Error> {
        self.place(basket, false)
    }

    /// One buyer orders these, and Amazon ships them from its own warehouse: none of the seller's.
    pub fn sell_amazon_fulfilled(&self, basket: &[(&str, u32)]) -> Result<u64, Error> {
        self.place(basket, true)
    }

    fn place(&self, basket: &[(&str, u32)], amazon_fulfilled: bool) -> Result<u64, Error> {
        self.inner.transact(|state, now| {
            let basket: Result<Vec<(usize, u32)>, Error> = basket
                .iter()
                .map(|(sku, quantity)| {
                    let index = state.book.shelf_of_sku(sku);
                    Ok((index.ok_or_else(|| Error::UnknownSku((*sku).to_owned()))?, *quantity))
                })
                .collect();
            state.book.place(&basket?, amazon_fulfilled, now)
        })
    }

    /// The payment of a pending order is through.
    pub fn confirm(&self, order: u64) -> Result<(), Error> {
        self.inner.transact(|state, now| state.book.confirm(order, now)).map(drop)
    }

    /// The buyer asks for a cancellation of an unshipped order, which frees nothing.
    pub fn request_cancel(&self, order: u64) -> Result<(), Error> {
        self.inner.transact(|state, now| state.book.request_cancel(order, now)).map(drop)
    }

    /// Cancels an order of which nothing has shipped, for a reason that leaves its units off sale.
    pub fn cancel(&self, order: u64) -> Result<(), Error> {
        self.inner.transact(|state, now| state.book.cancel(order, false, now)).map(drop)
    }

    /// Ships up to `units` of a confirmed order.
    pub fn ship(&self, order: u64, units: u32) -> Result<(), Error> {
        self.inner.transact(|state, now| state.book.ship(order, units, now)).map(drop)
    }

    /// Tells that a feed was worked through, with its `processingStatus` (`DONE`, `FATAL`, …).
    pub fn tell_feed_finished(&self, feed_id: &str, status: &str) {
        self.inner.tell_feed(feed_id, status);
    }

    /// What is left to sell of a SKU.
    #[must_use]
    pub fn left(&self, sku: &str) -> Option<i64> {
        self.inner.settle();
        let state = self.inner.lock();
        let index = state.book.shelf_of_sku(sku)?;
        state.book.shelves.get(index).map(|(_, left)| *left)
    }

    /// What a correct ledger must hold once it heard of everything: whatever was not told can be asked.
    #[must_use]
    pub fn expected(&self) -> ExpectedBySku {
        self.inner.lock().book.expected()
    }

    /// The same by order line.
    #[must_use]
    pub fn expected_lines(&self) -> ExpectedByLine {
        self.inner.lock().book.expected_lines()
    }

    /// The counters now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.lock().stats
    }

    /// Every notification, oldest first, the dropped ones included.
    #[must_use]
    pub fn history(&self) -> Vec<Told> {
        self.inner.lock().told.clone()
    }

    /// True if no order comes or changes any more by itself. The queue may still hold notifications.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        *self.inner.pace.borrow() <= 0.0 && self.stats().changes_due == 0
    }

    /// Waits until the counters satisfy `condition`.
    pub async fn wait_until(&self, condition: impl Fn(&Stats) -> bool) {
        let mut changed = self.inner.changed.subscribe();
        while !condition(&self.stats()) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Closes the account and cuts its connections; no order changes any more. The queue stays open.
    pub async fn shutdown(&self) {
        self.inner.door.close().await;
    }
}

struct Inner {
    options: Options,
    queue: Queue,
    /// A plain lock: no holder of it waits for anything.
    state: Mutex<State>,
    /// Marked after each change of the state, for those who wait for a condition on it.
    changed: watch::Sender<()>,
    outage: watch::Sender<Outage>,
    /// Orders per second.
    pace: watch::Sender<f64>,
    door: Door,
}

struct State {
    book: Book,
    desk: Desk,
    told: Vec<Told>,
    stats: Stats,
    faults: Faults,
    /// What buyers choose, apart from what goes wrong.
    buyers: Random,
    mishaps: Random,
    /// What goes wrong with calls, whose number depends on the caller.
    calls: Random,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn act<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.send_replace(());
        result
    }

    /// Changes an order and tells of it. Returns the order's number.
    fn transact(
        &self,
        change: impl FnOnce(&mut State, Millis) -> Result<Change, Error>,
    ) -> Result<u64, Error> {
        self.settle();
        let (number, letters) = self.act(|state| {
            let now = clock::now_ms();
            let change = change(state, now)?;
            let number = change.order.number;
            if change.order.updated_ms == change.order.created_ms {
                state.stats.orders += 1;
                state.stats.amazon_fulfilled += u64::from(change.order.amazon_fulfilled);
            }
            Ok((number, state.tell(&self.options, &change, now)))
        })?;
        self.post(letters);
        Ok(number)
    }

    /// Shows what was accepted and is due, and tells of that and of feeds that are done.
    fn settle(&self) {
        let letters = {
            let mut state = self.lock();
            let now = clock::now_ms();
            let shown = state.book.settle(now);
            let finished = state.desk.feeds.finished(now);
            let mut letters = state.tell_shown(&self.options, &shown, now);
            for (feed, status) in &finished {
                letters.extend(state.tell_feed(&self.options, feed, status, now));
            }
            letters
        };
        if !letters.is_empty() {
            self.changed.send_replace(());
        }
        self.post(letters);
    }

    fn tell_feed(&self, feed_id: &str, status: &str) {
        let tell =
            |state: &mut State| state.tell_feed(&self.options, feed_id, status, clock::now_ms());
        let letters = self.act(tell);
        self.post(letters);
    }

    /// Now and then a feed is worked through that has nothing to do with any order.
    fn tell_stray_feed(&self, number: u64) {
        let stray = self.act(|state| state.mishaps.chance(state.faults.feed));
        if stray {
            self.tell_feed(&number.to_string(), "DONE");
        }
    }

    fn post(&self, letters: Vec<Letter>) {
        for letter in letters {
            self.queue.send_later(&letter.body, letter.delay);
        }
    }
}
