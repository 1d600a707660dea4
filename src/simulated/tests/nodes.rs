//! Nodes that push to simulated channels: their log without a cluster, and each kind of channel alike.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use cluster::{ProposeError, Reply, Role, Status, codec};
use marketplace::amazon::{self, Account};
use marketplace::history::Arrival;
use marketplace::sqs::{self, Queue};
use state::command::{Asked, ListingSpec, MovementRequest, Movements, SkuSettings};
use state::ledger::Kind as Moved;
use state::reply::Step;
use state::{Command, Stamp, State};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::agreed::{Agreed, status_at_once};
use crate::channel::key;
use crate::clock;
use crate::measures::Measures;
use crate::propagate::{self, Pusher};

/// One log, which applies at once what is proposed, and the node whose turn it is.
#[derive(Clone)]
pub(super) struct Log {
    pub(super) world: Arc<Mutex<World>>,
    changed: watch::Sender<u64>,
    pub(super) home: Arc<AtomicU64>,
    /// How far agreed time is ahead of the clock.
    pub(super) ahead: Arc<AtomicU64>,
}

/// By then the lease of an owner that died is over, and another node takes the channel.
pub(super) const TAKEN_OVER_MS: u64 = 60_000;

#[derive(Default)]
pub(super) struct World {
    state: State,
    index: u64,
    /// What was agreed on to be told of each SKU, in order.
    pub(super) intended: BTreeMap<String, Vec<i64>>,
}

impl Log {
    pub(super) fn new() -> Self {
        let (changed, home) = (watch::Sender::new(0), Arc::new(AtomicU64::new(1)));
        Self { world: Arc::default(), changed, home, ahead: Arc::default() }
    }

    pub(super) fn apply(&self, command: Command) -> (u64, state::Reply) {
        let mut world = self.world.lock().unwrap();
        world.index += 1;
        let now = clock::now_ms() + self.ahead.load(Ordering::SeqCst);
        let stamp = Stamp { index: world.index, now };
        let (reply, _) = world.state.apply(stamp, command);
        if let state::Reply::Intended(intended) = &reply {
            for next in intended {
                if let Step::Push { quantity, .. } = next.step {
                    world.intended.entry(next.sku.clone()).or_default().push(quantity);
                }
            }
        }
        let index = world.index;
        drop(world);
        self.changed.send_replace(index);
        (index, reply)
    }

    /// Units come, or are found to be missing.
    pub(super) fn adjust(&self, nth: u64, sku: &str, quantity: i64) {
        self.moved(Moved::Adjustment, nth, sku, quantity);
    }

    /// Units move.
    pub(super) fn moved(&self, kind: Moved, nth: u64, sku: &str, quantity: i64) {
        let id = format!("{nth}-{sku}");
        let movement = MovementRequest::new(key(id.as_bytes()), id, kind, sku, quantity, "main");
        let asked = Asked::Movements(Movements { atomic: false, movements: vec![movement] });
        let (_, reply) = self.apply(Command::Request { idempotency: None, asked });
        assert!(matches!(reply, state::Reply::Answered { .. }), "{reply:?}");
    }

    /// What the channel should show, if it is believed to show just that and nothing is on its way.
    pub(super) fn settled(&self) -> Option<BTreeMap<String, i64>> {
        let world = self.world.lock().unwrap();
        let shown = world.state.data().stock.iter().map(|(sku, stock)| {
            let desired = world.state.data().allocation("shop", sku)?.desired;
            let listing = stock.listings.get("shop")?.get();
            let is_quiet = listing.in_flight.is_none() && !listing.unsure;
            (is_quiet && listing.shown == Some(desired)).then(|| (sku.to_string(), desired))
        });
        shown.collect()
    }
}

impl Agreed for Log {
    fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.world.lock().unwrap().state)
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn status(&self) -> Status {
        let id = self.home.load(Ordering::SeqCst);
        status_at_once(id, Role::Leader, std::iter::once(id))
    }

    async fn applied(&self, _index: u64) {}

    async fn propose(&self, command: Vec<u8>, _: Duration) -> Result<Reply, ProposeError> {
        let (index, reply) = self.apply(codec::decode(&command).unwrap());
        Ok(Reply { index, bytes: codec::encode(&reply) })
    }
}

pub(super) fn push(
    log: &Log,
    channel: &Channel,
    node: u64,
    stop: &CancellationToken,
) -> JoinHandle<()> {
    let client = Target::new(channel).unwrap();
    let measures = Arc::new(Measures::new());
    let pusher = Pusher::new(channel.clone(), client, node, log.clone(), measures);
    tokio::spawn(propagate::run(pusher, stop.clone()))
}

/// What stands for the channel, whatever its kind.
pub(super) enum Shop {
    Sender(Sender),
    Amazon(Account, Queue),
    Shopify(Store),
}

impl Shop {
    pub(super) async fn open(kind: Kind, skus: &[&str]) -> Self {
        let items =
            (101..).zip(skus).map(|(listing, sku)| Item { sku: (*sku).into(), listing, units: 5 });
        Self::Sender(open(kind, |options| options.items = items.collect()).await)
    }

    pub(super) async fn amazon(skus: &[&str]) -> Self {
        let queue = Queue::start(sqs::Options::new("orders")).await.unwrap();
        let items = skus.iter().map(|sku| amazon::Item { sku: (*sku).into(), units: 5 });
        let options = amazon::Options {
            items: items.collect(),
            applied_after: Duration::from_millis(2),
            time_scale: 1e6,
            ..amazon::Options::new("A0SELLER")
        };
        let account = Account::start(options, queue.clone()).await.unwrap();
        Self::Amazon(account, queue)
    }

    pub(super) async fn shopify(skus: &[&str]) -> Self {
        let item = |(n, sku): (u64, &&str)| marketplace::Item {
            sku: (*sku).into(),
            variant_id: 1_000 + n,
            inventory_item_id: 2_000 + n,
            available: 5,
        };
        let items = (0..).zip(skus).map(item).collect();
        let options = marketplace::Options { items, ..marketplace::Options::new("shop") };
        Self::Shopify(Store::start(options, Warehouse::default()).await.unwrap())
    }

    /// Goes wrong every now and then.
    pub(super) fn fault(&self) {
        match self {
            Self::Sender(sender) => sender.set_faults(Faults {
                push_answer_lost: 0.2,
                api_answer_lost: 0.05,
                row_error: 0.05,
                conflict: 0.2,
                ..Faults::default()
            }),
            Self::Amazon(account, _) => account.set_faults(amazon::Faults {
                answer_lost: 0.1,
                server_error: 0.05,
                ..amazon::Faults::default()
            }),
            Self::Shopify(store) => store.set_faults(marketplace::Faults {
                answer_lost: 0.2,
                server_error: 0.05,
                ..marketplace::Faults::default()
            }),
        }
    }

    /// How it was called.
    pub(super) fn calls(&self) -> Vec<Arrival> {
        match self {
            Self::Sender(sender) => sender.calls(),
            Self::Amazon(account, _) => account.calls(),
            Self::Shopify(store) => store.calls(),
        }
    }

    pub(super) fn config(&self) -> String {
        match self {
            Self::Sender(sender) => sender_config(sender, "http://127.0.0.1:1/webhooks/"),
            Self::Amazon(account, queue) => account_config("shop", account, queue)
                .replace("marketplaces", "applied_within = \"200ms\", marketplaces"),
            Self::Shopify(store) => store_config(store),
        }
    }

    pub(super) fn place(&self, sku: &str) -> Place {
        match self {
            Self::Sender(sender) => place(sender, sku),
            Self::Amazon(..) => Place { listing: sku.into(), ..Place::default() },
            Self::Shopify(store) => {
                let item = store.options().items.iter().find(|item| item.sku == sku).unwrap();
                let (listing, settings) = store_listing(store, item);
                let own = |(name, value): (&str, String)| (name.to_owned(), value);
                let settings = settings.into_iter().map(own).collect();
                Place { listing, settings, ..Place::default() }
            }
        }
    }

    pub(super) fn shown(&self) -> BTreeMap<String, i64> {
        match self {
            Self::Sender(sender) => sender.shown(),
            Self::Amazon(account, _) => account.shown(),
            Self::Shopify(store) => store.shown(),
        }
    }

    pub(super) fn told(&self, sku: &str) -> Vec<i64> {
        let pushes = match self {
            Self::Sender(sender) => sender.pushes(),
            Self::Amazon(account, _) => account.pushes(),
            Self::Shopify(store) => store.history().pushes,
        };
        let pushes = pushes.into_iter().filter(|push| push.sku == sku && push.applied);
        pushes.map(|push| push.to).collect()
    }

    /// Waits until it is called.
    pub(super) async fn called(&self) {
        match self {
            Self::Sender(sender) => {
                let calls = sender.stats().calls + sender.stats().call_faults;
                sender.wait_until(|stats| stats.calls + stats.call_faults > calls).await;
            }
            Self::Amazon(account, _) => {
                let calls =
                    |stats: &amazon::Stats| stats.pushes + stats.stock_reads + stats.outage_calls;
                let before = calls(&account.stats());
                account.wait_until(|stats| calls(stats) > before).await;
            }
            Self::Shopify(store) => {
                let calls = |stats: &marketplace::history::Stats| {
                    stats.pushes + stats.reads + stats.outage_calls
                };
                let before = calls(&store.stats());
                store.wait_until(|stats| calls(stats) > before).await;
            }
        }
    }

    pub(super) fn set_outage(&self, outage: Outage) {
        match self {
            Self::Sender(sender) => sender.set_outage(outage),
            Self::Amazon(account, _) => account.set_outage(outage),
            Self::Shopify(store) => store.set_outage(outage),
        }
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Self::Sender(sender) => sender.address(),
            Self::Amazon(account, _) => account.address(),
            Self::Shopify(store) => store.address(),
        }
    }

    /// What proves to it who calls.
    pub(super) fn secret(&self) -> String {
        match self {
            Self::Sender(sender) => sender.options().api_secret.clone(),
            Self::Amazon(account, _) => account.options().client_secret.clone(),
            Self::Shopify(store) => store.options().access_token.clone(),
        }
    }

    /// Cuts all connections.
    pub(super) async fn cut(&self) {
        let address = self.address();
        self.set_outage(Outage::Down);
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        self.set_outage(Outage::None);
    }

    /// Nothing goes wrong any more.
    pub(super) fn calm(&self) {
        match self {
            Self::Sender(sender) => sender.set_faults(Faults::default()),
            Self::Amazon(account, _) => account.set_faults(amazon::Faults::default()),
            Self::Shopify(store) => store.set_faults(marketplace::Faults::default()),
        }
    }

    pub(super) async fn shutdown(&self) {
        match self {
            Self::Sender(sender) => sender.shutdown().await,
            Self::Amazon(account, queue) => {
                account.shutdown().await;
                queue.shutdown().await;
            }
            Self::Shopify(store) => store.shutdown().await,
        }
    }
}

/// A log that knows the channel and its listings.
pub(super) fn founded(shop: &Shop, channel: &Channel, skus: &[&str]) -> Log {
    let log = Log::new();
    log.apply(Command::PutLocations(vec!["main".into()]));
    let definition = channel.definition(0);
    log.apply(Command::PutChannel { name: "shop".into(), definition });
    for sku in skus {
        let Place { listing, settings, .. } = shop.place(sku);
        let listings = [("shop".to_owned(), ListingSpec { id: listing, settings })];
        let settings = SkuSettings { listings: Some(listings.into()), ..SkuSettings::default() };
        log.apply(Command::Map { sku: (*sku).into(), settings });
        log.adjust(0, sku, 1_000);
    }
    log
}
