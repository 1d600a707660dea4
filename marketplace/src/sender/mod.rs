//! Sellers' channels that send as the real ones do: `WooCommerce`, eBay, Walmart, Odoo and a shop of
//! one's own.
//!
//! A sender sells what it shows and no more. That is its own to say at first; where its kind's API takes
//! quantities, it shows what it is told. What happens it tells by webhooks, with the headers, signatures,
//! time limits and retries of its kind, and lets its orders be read through its API, as its kind does:
//! for a kind that never retries, the API is the only way to hear of what was lost.
//!
//! | to read | open |
//! | --- | --- |
//! | the truth: orders, moves, totals | `book` |
//! | what it was told of quantities | `told` |
//! | what a kind must say about itself | `dialect` |
//! | how a webhook is sent, again and again | `courier` |
//! | customers, and what comes after a sale | `customers` |
//! | the door of the API | `server` |
//!
//! A new kind is a variant of [`Kind`], an arm in `dialect::of`, and a module with its dialect.

pub(crate) mod book;
pub(crate) mod call;
pub(crate) mod dialect;
pub(crate) mod tokens;

mod allowance;
mod courier;
mod customers;
mod handshake;
mod log;
mod options;
mod server;
mod state;
mod told;
mod totals;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use hyper::Uri;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use book::MoveKind;
pub use log::{Delivery, Stats};
pub use options::{Faults, Item, Kind, Options, Rate, WalmartAuth};
pub use totals::Totals;

use crate::{
    Error, clock,
    door::Arrivals,
    history::{Arrival, ExpectedByLine, Push},
    options::Outage,
    shopify::sign,
    store::courier::client,
};
use state::{Inner, State};

/// A handle on one running sender. Cheap to clone; all clones are one sender.
///
/// It runs until [`Sender::shutdown`], or until its runtime ends: dropping the handles does not stop it.
#[derive(Clone)]
pub struct Sender {
    inner: Arc<Inner>,
}

/// Whether webhooks are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscription {
    /// The target has not proved yet that it belongs to the seller.
    Pending,
    /// Webhooks are sent.
    Active,
    /// Too many failures, or a 410: nothing is sent until [`Sender::enable`].
    Disabled,
}

impl Sender {
    /// Opens the channel: listens, subscribes, and lets customers in if there is a rate for them.
    ///
    /// Fails if the options make no sense or the address is taken.
    pub async fn start(options: Options) -> Result<Self, Error> {
        options.check()?;
        let dialect = dialect::of(&options)?;
        let targets = targets(&options.targets)?;
        let listen = |source| Error::Listen { address: options.listen, source };
        let listener = TcpListener::bind(options.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let inner = Arc::new(Inner {
            address,
            state: State::new(&options, dialect, targets),
            changed: watch::Sender::new(()),
            pace: watch::Sender::new(options.orders_per_second),
            move_pace: watch::Sender::new(options.moves_per_second),
            outage: watch::Sender::new(Outage::None),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            arrivals: Arrivals::default(),
            client: client(),
            permits: Semaphore::new(options.webhooks_in_flight_max.min(Semaphore::MAX_PERMITS)),
            options,
        });
        inner.tasks.spawn(server::serve(Arc::clone(&inner), listener));
        inner.tasks.spawn(handshake::keep(Arc::clone(&inner)));
        inner.tasks.spawn(customers::come(Arc::clone(&inner)));
        inner.tasks.spawn(customers::shift(Arc::clone(&inner)));
        Ok(Self { inner })
    }

    /// Where its API listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.inner.address
    }

    /// The base URL of its API, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.inner.address)
    }

    /// What it was started with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// Subscribes these URLs from now on, the primary first; a kind with a handshake asks for it again.
    /// Webhooks already queued keep their own.
    pub fn set_targets(&self, urls: &[String]) -> Result<(), Error> {
        let targets = targets(urls)?;
        self.inner.act(|state| {
            state.targets = targets;
            state.subscribe();
        });
        Ok(())
    }

    /// How many customers buy in a second from now on.
    pub fn set_orders_per_second(&self, rate: f64) {
        self.inner.pace.send_replace(if rate.is_finite() { rate.max(0.0) } else { 0.0 });
    }

    /// No random customer buys any more, and no stock moves by itself. Changes of orders that are due
    /// still come.
    pub fn stop_selling(&self) {
        self.set_orders_per_second(0.0);
        self.inner.move_pace.send_replace(0.0);
    }

    /// What goes wrong by itself from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.inner.act(|state| {
            state.book.told.set_faults(&faults);
            state.faults = faults;
        });
    }

    /// Calls of its API, whatever became of them: the newest hundred thousand.
    #[must_use]
    pub fn calls(&self) -> Vec<Arrival> {
        self.inner.arrivals.all()
    }

    /// What goes wrong by itself now.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.inner.lock().faults.clone()
    }

    /// What the API does to calls from now on. A closed or opened port follows a moment later.
    pub fn set_outage(&self, outage: Outage) {
        self.inner.outage.send_replace(outage);
    }

    /// Access tokens that were handed out are good no longer.
    pub fn expire_tokens(&self) {
        self.inner.act(|state| state.dialect.expire_tokens());
    }

    /// Whether webhooks are sent.
    #[must_use]
    pub fn subscription(&self) -> Subscription {
        self.inner.lock().subscription
    }

    /// Subscribes again after too many failures, as a person does by hand.
    pub fn enable(&self) {
        self.inner.act(State::subscribe);
    }

    /// Waits until webhooks are sent.
    pub async fn subscribed(&self) {
        self.inner.wait_until(|state| state.subscription == Subscription::Active).await;
    }

    /// One customer buys several SKUs in one order. Returns the order's number here;
    /// [`Sender::order_name`] says how payloads write it.
    ///
    /// Fails if fewer are shown, since a customer cannot buy what is not shown.
    pub fn sell(&self, basket: &[(&str, u32)]) -> Result<u64, Error> {
        self.inner.transact(|state, now| {
            let basket: Result<Vec<_>, Error> =
                basket.iter().map(|(sku, units)| Ok((state.book.item_of(sku)?, *units))).collect();
            state.book.place(&basket?, now)
        })
    }

    /// Cancels what is left of an order.
    pub fn cancel(&self, order: u64) -> Result<(), Error> {
        self.inner.transact(|state, now| Ok(((), state.book.cancel(order, now)?)))
    }

    /// Refunds units of an order and, if `restock`, puts them back on the shelf. What a kind tells of it,
    /// and whether it knows such a thing at all, is the kind's.
    pub fn reduce(&self, order: u64, sku: &str, units: u32, restock: bool) -> Result<(), Error> {
        self.inner
            .transact(|state, now| Ok(((), state.book.reduce(order, sku, units, restock, now)?)))
    }

    /// Ships what is left of an order.
    pub fn ship(&self, order: u64) -> Result<(), Error> {
        self.inner.transact(|state, now| Ok(((), state.book.ship(order, now)?)))
    }

    /// Puts a cancelled order into the trash.
    pub fn trash(&self, order: u64) -> Result<(), Error> {
        self.inner.transact(|state, now| Ok(((), state.book.trash(order, now)?)))
    }

    /// Stock moves without a customer: a receipt, or a transfer or scrap of what was received.
    pub fn shift(&self, kind: MoveKind, sku: &str, units: u32) -> Result<(), Error> {
        self.inner.transact(|state, now| Ok(((), state.book.shift(kind, sku, units, now)?)))
    }

    /// An order's id as payloads write it.
    #[must_use]
    pub fn order_name(&self, order: u64) -> Option<String> {
        let state = self.inner.lock();
        state.book.orders.get(&order).map(|order| state.dialect.order_name(order))
    }

    /// What it shows of a SKU.
    #[must_use]
    pub fn available(&self, sku: &str) -> Option<i64> {
        let state = self.inner.lock();
        state.book.items.iter().find(|item| item.sku == sku).map(|item| item.units)
    }

    /// What it shows of every SKU.
    #[must_use]
    pub fn shown(&self) -> BTreeMap<String, i64> {
        let state = self.inner.lock();
        state.book.items.iter().map(|item| (item.sku.clone(), item.units)).collect()
    }

    /// Somebody sets a quantity by hand in the channel's own screens.
    pub fn set_available(&self, sku: &str, units: i64) -> Result<(), Error> {
        self.inner.act(|state| {
            let item = state.book.item_of(sku)?;
            state.book.set(item, units, clock::now_ms());
            Ok(())
        })
    }

    /// Everything that it was told to show, in the order in which that was carried out, each with the time
    /// at which the call arrived. What somebody set by hand is among it.
    #[must_use]
    pub fn pushes(&self) -> Vec<Push> {
        self.inner.lock().book.told.pushes.clone()
    }

    /// The counters now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.lock().stats
    }

    /// What a ledger must hold once it heard of everything, by webhook or by polling, by SKU.
    #[must_use]
    pub fn expected(&self) -> BTreeMap<String, Totals> {
        self.inner.lock().book.totals()
    }

    /// The same by order line.
    #[must_use]
    pub fn expected_lines(&self) -> ExpectedByLine {
        let state = self.inner.lock();
        let mut lines = ExpectedByLine::new();
        for order in state.book.orders.values() {
            let name = state.dialect.order_name(order);
            for (index, line) in order.lines.iter().enumerate() {
                let key = format!("{name}/{}", state.dialect.line_name(index, line));
                lines.insert(key, Totals::of(line).expected());
            }
        }
        lines
    }

    /// The webhooks that are still remembered, oldest first, each with all its attempts.
    #[must_use]
    pub fn webhooks(&self) -> Vec<Delivery> {
        self.inner.lock().log.all()
    }

    /// Waits until the counters satisfy `condition`.
    pub async fn wait_until(&self, condition: impl Fn(&Stats) -> bool) {
        self.inner.wait_until(|state| condition(&state.stats)).await;
    }

    /// True if no webhook is on its way and no change of an order is due: each webhook was then
    /// acknowledged or given up.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.inner.lock().is_idle()
    }

    /// Waits until [`Sender::is_idle`]. While customers still buy this may never come.
    pub async fn drained(&self) {
        self.inner.wait_until(State::is_idle).await;
    }

    /// Closes the channel: cuts its connections and drops webhooks that are still on their way. What it
    /// remembers stays readable.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

fn targets(urls: &[String]) -> Result<Arc<[Uri]>, Error> {
    urls.iter().map(|url| sign::target(url)).collect()
}
