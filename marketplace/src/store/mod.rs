//! A running store: one handle, and behind it a few tasks that share one locked state.
//!
//! [`customers`] buy, [`courier`] sends what the shop wants told, [`server`] answers pushes. All three
//! act through [`Inner::act`], which never waits while it holds the lock.

pub(crate) mod courier;
pub(crate) mod customers;
mod server;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use courier::Job;
use hyper::{Uri, header::HeaderValue};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Error,
    clock::{self, Millis},
    door::Arrivals,
    history::{
        Arrival, Cause, ExpectedByLine, ExpectedBySku, History, Known, Movement, Stats, Webhook,
    },
    options::{Faults, Options, Outage},
    random::{Random, name_hash},
    shop::Shop,
    shopify::{admin::Desk, payload::Restock, sign},
    warehouse::Warehouse,
};

/// A handle on one running store. Cheap to clone; all clones are one store.
///
/// The store runs until [`Store::shutdown`], or until its runtime ends: dropping the handles does not
/// stop it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

impl Store {
    /// Opens the store: listens, and lets customers in if there is a rate for them.
    ///
    /// Fails if the options make no sense or the address is taken.
    pub async fn start(options: Options, warehouse: Warehouse) -> Result<Self, Error> {
        options.check()?;
        for text in [options.domain(), options.api_version.clone()] {
            HeaderValue::from_str(&text).map_err(|_| Error::Header(text))?;
        }
        let targets = targets(&options.targets)?;
        let listen = |source| Error::Listen { address: options.listen, source };
        let listener = TcpListener::bind(options.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let stream = |of| Random::new(options.seed ^ name_hash(&options.name) ^ name_hash(of));
        let state = State {
            shop: Shop::new(&options, warehouse),
            desk: Desk::new(options.costs.clone(), Instant::now()),
            webhooks: Vec::new(),
            jobs: Vec::new(),
            stats: Stats::default(),
            faults: options.faults.clone(),
            customers: stream("customers"),
            mishaps: stream("mishaps"),
            targets,
            changes_due: 0,
        };
        let inner = Arc::new(Inner {
            address,
            state: Mutex::new(state),
            changed: watch::Sender::new(()),
            outage: watch::Sender::new(Outage::None),
            pace: watch::Sender::new(options.orders_per_second),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            arrivals: Arrivals::default(),
            client: courier::client(),
            permits: Semaphore::new(options.webhooks_in_flight_max.min(Semaphore::MAX_PERMITS)),
            options,
        });
        inner.tasks.spawn(server::serve(Arc::clone(&inner), listener));
        inner.tasks.spawn(customers::come(Arc::clone(&inner)));
        inner.tasks.spawn(courier::dispatch(Arc::clone(&inner)));
        Ok(Self { inner })
    }

    /// Where the Admin API listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.inner.address
    }

    /// The URL that pushes go to.
    #[must_use]
    pub fn admin_url(&self) -> String {
        let Inner { address, options, .. } = &*self.inner;
        format!("http://{address}/admin/api/{}/graphql.json", options.api_version)
    }

    /// What the store was started with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// Subscribes these URLs from now on, the primary first. Webhooks already fired keep their own.
    pub fn set_targets(&self, urls: &[String]) -> Result<(), Error> {
        let targets = targets(urls)?;
        self.inner.act(|state| state.targets = targets);
        Ok(())
    }

    /// How many customers buy in a second from now on.
    pub fn set_orders_per_second(&self, rate: f64) {
        self.inner.pace.send_replace(if rate.is_finite() { rate.max(0.0) } else { 0.0 });
    }

    /// No random customer buys any more. Changes of orders that are due still come.
    pub fn stop_selling(&self) {
        self.set_orders_per_second(0.0);
    }

    /// What the Admin API does to calls from now on. A closed or opened port follows a moment later.
    pub fn set_outage(&self, outage: Outage) {
        self.inner.outage.send_replace(outage);
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

    /// What goes wrong by itself from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.inner.act(|state| state.faults = faults);
    }

    /// One customer buys one SKU. Returns the order's id.
    ///
    /// Fails if the store shows fewer, since a customer cannot buy what is not shown.
    pub fn sell_one(&self, sku: &str, quantity: u32) -> Result<u64, Error> {
        self.sell(&[(sku, quantity)])
    }

    /// One customer buys several SKUs in one order. Returns the order's id.
    pub fn sell(&self, basket: &[(&str, u32)]) -> Result<u64, Error> {
        self.inner.transact(|state, now| {
            let slot = |sku: &str| {
                state.shop.slot_of_sku(sku).ok_or_else(|| Error::UnknownSku(sku.to_owned()))
            };
            let basket: Result<Vec<_>, Error> =
                basket.iter().map(|(sku, quantity)| Ok((slot(sku)?, *quantity))).collect();
            state.shop.place(&basket?, now)
        })
    }

    /// Cancels what is left of an order of which nothing was shipped.
    pub fn cancel(&self, order_id: u64, restock: Restock) -> Result<(), Error> {
        self.inner.cancel(order_id, restock)
    }

    /// Refunds some units of an order. Returns the refund's id.
    ///
    /// [`Restock::Cancel`] is for units that were not shipped, [`Restock::Return`] for those that were.
    pub fn refund(
        &self,
        order_id: u64,
        sku: &str,
        quantity: u32,
        restock: Restock,
    ) -> Result<u64, Error> {
        self.inner.refund(order_id, sku, quantity, restock)
    }

    /// The merchant adds a line to an order. Fails if the store shows fewer.
    pub fn add_line(&self, order_id: u64, sku: &str, quantity: u32) -> Result<(), Error> {
        self.inner.edit(|shop, now| {
            let slot = shop.slot_of_sku(sku).ok_or_else(|| Error::UnknownSku(sku.to_owned()))?;
            shop.add_line(order_id, slot, quantity, now)
        })
    }

    /// The merchant takes unshipped units out of an order: they are for sale again, and no refund says
    /// so.
    pub fn take_out(&self, order_id: u64, sku: &str, quantity: u32) -> Result<(), Error> {
        self.inner.edit(|shop, now| shop.take_out(order_id, sku, quantity, now))
    }

    /// Ships some units of an order. Returns the fulfilment's id.
    pub fn fulfil(&self, order_id: u64, parts: &[(&str, u32)]) -> Result<u64, Error> {
        self.inner.fulfil(order_id, Some(parts))
    }

    /// Ships all units of an order that are left to ship. Returns the fulfilment's id.
    pub fn fulfil_all(&self, order_id: u64) -> Result<u64, Error> {
        self.inner.fulfil(order_id, None)
    }

    /// Someone sets a quantity by hand in the store's own screens: only `inventory_levels/update` tells
    /// of it.
    pub fn set_available(&self, sku: &str, available: i64) -> Result<(), Error> {
        self.inner.transact(|State { shop, .. }, now| {
            let unknown = || Error::UnknownSku(sku.to_owned());
            let index = shop.slot_of_sku(sku).ok_or_else(unknown)?;
            let shown = shop.slots.get(index).ok_or_else(unknown)?.item.available;
            let mut event = shop.event(now);
            shop.adjust(&mut event, index, available.saturating_sub(shown));
            shop.tell_levels(&event);
            Ok(())
        })
    }

    /// What the store shows of a SKU.
    #[must_use]
    pub fn available(&self, sku: &str) -> Option<i64> {
        let state = self.inner.lock();
        let index = state.shop.slot_of_sku(sku)?;
        state.shop.slots.get(index).map(|slot| slot.item.available)
    }

    /// What the store shows of every SKU.
    #[must_use]
    pub fn shown(&self) -> BTreeMap<String, i64> {
        let state = self.inner.lock();
        state.shop.slots.iter().map(|s| (s.item.sku.clone(), s.item.available)).collect()
    }

    /// The counters now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.lock().stats
    }

    /// A copy of everything that happened. It is as large as the run was long.
    #[must_use]
    pub fn history(&self) -> History {
        let state = self.inner.lock();
        History {
            movements: state.shop.movements.clone(),
            shipments: state.shop.shipments.clone(),
            webhooks: state.webhooks.clone(),
            pushes: state.desk.pushes.clone(),
        }
    }

    /// What a correct ledger must hold after all acknowledged webhooks, whatever their order and
    /// however often each came.
    ///
    /// An order is known as the newest image of it that was answered 2xx shows it (the body of any
    /// `orders/…` topic but `orders/edited`); a refund or a fulfilment is known once any body that carries
    /// it was, and counts for nothing before the order's line is. A ledger that also asks the Admin API
    /// knows more: in the end, [`Store::expected_of_all`].
    #[must_use]
    pub fn expected(&self) -> ExpectedBySku {
        let state = self.inner.lock();
        state.shop.expected(&Known::of(&state.webhooks))
    }

    /// The committed quantity of [`Store::expected`], by SKU.
    #[must_use]
    pub fn expected_committed(&self) -> BTreeMap<String, i64> {
        self.expected().into_iter().map(|(sku, expected)| (sku, expected.committed)).collect()
    }

    /// What a correct ledger must hold once it heard of everything, by webhook or otherwise.
    #[must_use]
    pub fn expected_of_all(&self) -> ExpectedBySku {
        let state = self.inner.lock();
        state.shop.expected(&state.shop.everything())
    }

    /// The same by order line.
    #[must_use]
    pub fn expected_lines(&self) -> ExpectedByLine {
        let state = self.inner.lock();
        let everything = state.shop.everything();
        let lines = state.shop.lines(&everything);
        lines.map(|(order, line, expected)| (format!("{order}/{}", line.id), expected)).collect()
    }

    /// Waits until the counters satisfy `condition`.
    pub async fn wait_until(&self, condition: impl Fn(&Stats) -> bool) {
        self.inner.wait_until(|state| condition(&state.stats)).await;
    }

    /// Waits until no webhook is on its way and no change of an order is due: each webhook was then
    /// acknowledged or given up, if it was not dropped. While customers still buy this may never come.
    pub async fn drained(&self) {
        self.inner
            .wait_until(|state| state.stats.webhooks_pending == 0 && state.changes_due == 0)
            .await;
    }

    /// Closes the store: cuts its connections and drops webhooks that are still on their way. The
    /// history stays readable.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

struct Inner {
    address: SocketAddr,
    options: Options,
    /// A plain lock: no holder of it waits for anything.
    state: Mutex<State>,
    /// Marked after each change of the state, for those who wait for a condition on it.
    changed: watch::Sender<()>,
    outage: watch::Sender<Outage>,
    /// Orders per second.
    pace: watch::Sender<f64>,
    stop: CancellationToken,
    tasks: TaskTracker,
    arrivals: Arrivals,
    client: courier::HttpClient,
    /// Bounds the webhook requests on the wire.
    permits: Semaphore,
}

struct State {
    shop: Shop,
    desk: Desk,
    webhooks: Vec<Webhook>,
    /// Booked, and not yet on their way.
    jobs: Vec<Job>,
    stats: Stats,
    faults: Faults,
    /// What customers choose. Apart from the mishaps, whose number depends on the network.
    customers: Random,
    mishaps: Random,
    targets: Arc<[Uri]>,
    /// Changes of orders that are still to come.
    changes_due: u64,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state. What the shop then wants told is handed to the courier.
    fn act<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = {
            let mut state = self.lock();
            let result = change(&mut state);
            courier::book(&mut state);
            result
        };
        self.changed.send_replace(());
        result
    }

    /// Changes the shop, and counts what it sold.
    fn transact<T>(
        &self,
        change: impl FnOnce(&mut State, Millis) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.act(|state| {
            let before = state.shop.movements.len();
            let result = change(state, clock::now_ms());
            state.tally(before);
            result
        })
    }

    fn cancel(&self, order_id: u64, restock: Restock) -> Result<(), Error> {
        self.transact(|state, now| {
            state.shop.cancel(order_id, restock, now)?;
            state.stats.cancellations += 1;
            Ok(())
        })
    }

    fn refund(
        &self,
        order_id: u64,
        sku: &str,
        quantity: u32,
        restock: Restock,
    ) -> Result<u64, Error> {
        self.transact(|state, now| {
            let id = state.shop.refund(order_id, sku, quantity, restock, now)?;
            state.stats.refunds += 1;
            Ok(id)
        })
    }

    fn edit(&self, edit: impl FnOnce(&mut Shop, Millis) -> Result<(), Error>) -> Result<(), Error> {
        self.transact(|state, now| {
            edit(&mut state.shop, now)?;
            state.stats.edits += 1;
            Ok(())
        })
    }

    fn fulfil(&self, order_id: u64, parts: Option<&[(&str, u32)]>) -> Result<u64, Error> {
        self.transact(|state, now| {
            let id = state.shop.fulfil(order_id, parts, now)?;
            state.stats.fulfillments += 1;
            Ok(id)
        })
    }

    async fn wait_until(&self, condition: impl Fn(&State) -> bool) {
        let mut changed = self.changed.subscribe();
        while !condition(&self.lock()) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}

impl State {
    /// Counts the sales among the movements since `before`.
    fn tally(&mut self, before: usize) {
        let fresh = self.shop.movements.get(before..).unwrap_or_default();
        let sales: Vec<&Movement> = fresh.iter().filter(|m| m.cause == Cause::Sold).collect();
        if sales.iter().any(|sale| sale.edit_id.is_none()) {
            self.stats.orders += 1;
        }
        for sale in sales {
            self.stats.units_sold += u64::from(sale.quantity);
            self.stats.units_oversold += sale.oversold;
        }
    }
}

fn targets(urls: &[String]) -> Result<Arc<[Uri]>, Error> {
    urls.iter().map(|url| sign::target(url)).collect()
}
