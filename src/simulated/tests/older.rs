//! No older quantity is told after a newer one, whatever is lost on the way and whoever is killed: the node's
//! own pusher against each kind of simulated channel.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use cluster::{Member, MemberStatus, ProposeError, Reply, Role, Status, codec};
use state::command::{Asked, ListingSpec, MovementRequest, Movements, SkuSettings};
use state::reply::Step;
use state::{Command, Stamp, State};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use marketplace::amazon::{self, Account};
use marketplace::sqs::{self, Queue};

use super::*;
use crate::agreed::Agreed;
use crate::channel::key;
use crate::clock;
use crate::measures::Measures;
use crate::propagate::{self, Pusher};

/// One log, which applies at once what is proposed, and the node whose turn it is.
#[derive(Clone)]
struct Log {
    world: Arc<Mutex<World>>,
    changed: watch::Sender<u64>,
    home: Arc<AtomicU64>,
    /// How far agreed time is ahead of the clock.
    ahead: Arc<AtomicU64>,
}

/// By then the lease of an owner that died is over, and another node takes the channel.
const TAKEN_OVER_MS: u64 = 60_000;

#[derive(Default)]
struct World {
    state: State,
    index: u64,
    /// What was agreed on to be told of each SKU, in order.
    intended: BTreeMap<String, Vec<i64>>,
}

impl Log {
    fn new() -> Self {
        let (changed, home) = (watch::Sender::new(0), Arc::new(AtomicU64::new(1)));
        Self { world: Arc::default(), changed, home, ahead: Arc::default() }
    }

    fn apply(&self, command: Command) -> (u64, state::Reply) {
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
    fn adjust(&self, nth: u64, sku: &str, quantity: i64) {
        let id = format!("{nth}-{sku}");
        let kind = state::ledger::Kind::Adjustment;
        let movement = MovementRequest::new(key(id.as_bytes()), id, kind, sku, quantity, "main");
        let asked = Asked::Movements(Movements { atomic: false, movements: vec![movement] });
        let (_, reply) = self.apply(Command::Request { idempotency: None, asked });
        assert!(matches!(reply, state::Reply::Answered { .. }), "{reply:?}");
    }

    /// What the channel should show, if it is believed to show just that and nothing is on its way.
    fn settled(&self) -> Option<BTreeMap<String, i64>> {
        let world = self.world.lock().unwrap();
        let shown = SKUS.iter().map(|sku| {
            let desired = world.state.data().allocation("shop", sku)?.desired;
            let stock = world.state.data().stock.get(*sku)?;
            let listing = stock.listings.get("shop")?.get();
            let is_quiet = listing.in_flight.is_none() && !listing.unsure;
            (is_quiet && listing.shown == Some(desired)).then(|| ((*sku).to_owned(), desired))
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
        let (region, peer, admin) = (String::new(), String::new(), String::new());
        let member = Member { id, region: region.clone(), peer, admin };
        let home = MemberStatus { member, voter: true, matched: None, lag: None, reachable: true };
        Status {
            id,
            region,
            role: Role::Leader,
            leader: Some(id),
            term: 1,
            last_log: None,
            committed: None,
            applied: None,
            snapshot: None,
            purged: None,
            removed: false,
            members: vec![home],
        }
    }

    async fn applied(&self, _index: u64) {}

    async fn propose(&self, command: Vec<u8>, _: Duration) -> Result<Reply, ProposeError> {
        let (index, reply) = self.apply(codec::decode(&command).unwrap());
        Ok(Reply { index, bytes: codec::encode(&reply) })
    }
}

/// Whether these were told in the order in which they were agreed on: some never, and some again.
fn in_order(told: &[i64], intended: &[i64]) -> bool {
    let mut left = intended.iter().peekable();
    told.iter().all(|told| {
        while left.next_if(|next| *next != told).is_some() {}
        left.peek().is_some()
    })
}

fn push(log: &Log, channel: &Channel, node: u64, stop: &CancellationToken) -> JoinHandle<()> {
    let client = Target::new(channel).unwrap();
    let measures = Arc::new(Measures::new());
    let pusher = Pusher::new(channel.clone(), client, node, log.clone(), measures);
    tokio::spawn(propagate::run(pusher, stop.clone()))
}

/// What stands for the channel, whatever its kind.
enum Shop {
    Sender(Sender),
    Amazon(Account, Queue),
}

impl Shop {
    async fn open(kind: Kind) -> Self {
        let faults = Faults {
            push_answer_lost: 0.2,
            api_answer_lost: 0.05,
            row_error: 0.05,
            conflict: 0.2,
            ..Faults::default()
        };
        Self::Sender(open(kind, |options| options.faults = faults).await)
    }

    async fn amazon() -> Self {
        let queue = Queue::start(sqs::Options::new("orders")).await.unwrap();
        let items = SKUS.map(|sku| amazon::Item { sku: sku.into(), units: 5 });
        let options = amazon::Options {
            items: items.into(),
            applied_after: Duration::from_millis(2),
            time_scale: 1e6,
            faults: amazon::Faults {
                answer_lost: 0.1,
                server_error: 0.05,
                ..amazon::Faults::default()
            },
            ..amazon::Options::new("A0SELLER")
        };
        let account = Account::start(options, queue.clone()).await.unwrap();
        Self::Amazon(account, queue)
    }

    fn config(&self) -> String {
        match self {
            Self::Sender(sender) => sender_config(sender, "http://127.0.0.1:1/webhooks/"),
            Self::Amazon(account, queue) => account_config("shop", account, queue)
                .replace("marketplaces", "applied_within = \"200ms\", marketplaces"),
        }
    }

    fn place(&self, sku: &str) -> Place {
        match self {
            Self::Sender(sender) => place(sender, sku),
            Self::Amazon(..) => Place { listing: sku.into(), ..Place::default() },
        }
    }

    fn shown(&self) -> BTreeMap<String, i64> {
        match self {
            Self::Sender(sender) => sender.shown(),
            Self::Amazon(account, _) => account.shown(),
        }
    }

    fn told(&self, sku: &str) -> Vec<i64> {
        let pushes = match self {
            Self::Sender(sender) => sender.pushes(),
            Self::Amazon(account, _) => account.pushes(),
        };
        let pushes = pushes.into_iter().filter(|push| push.sku == sku && push.applied);
        pushes.map(|push| push.to).collect()
    }

    /// Waits until it is called.
    async fn called(&self) {
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
        }
    }

    fn set_outage(&self, outage: Outage) {
        match self {
            Self::Sender(sender) => sender.set_outage(outage),
            Self::Amazon(account, _) => account.set_outage(outage),
        }
    }

    /// Cuts all connections.
    async fn cut(&self) {
        let address = match self {
            Self::Sender(sender) => sender.address(),
            Self::Amazon(account, _) => account.address(),
        };
        self.set_outage(Outage::Down);
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        self.set_outage(Outage::None);
    }

    /// Nothing goes wrong any more.
    fn calm(&self) {
        match self {
            Self::Sender(sender) => sender.set_faults(Faults::default()),
            Self::Amazon(account, _) => account.set_faults(amazon::Faults::default()),
        }
    }

    async fn shutdown(&self) {
        match self {
            Self::Sender(sender) => sender.shutdown().await,
            Self::Amazon(account, queue) => {
                account.shutdown().await;
                queue.shutdown().await;
            }
        }
    }
}

/// A log that knows the channel and its listings.
fn founded(shop: &Shop, channel: &Channel) -> Log {
    let log = Log::new();
    log.apply(Command::PutLocations(vec!["main".into()]));
    let definition = channel.definition(0);
    log.apply(Command::PutChannel { name: "shop".into(), definition });
    for sku in SKUS {
        let Place { listing, settings, .. } = shop.place(sku);
        let listings = [("shop".to_owned(), ListingSpec { id: listing, settings })];
        let settings = SkuSettings { listings: Some(listings.into()), ..SkuSettings::default() };
        log.apply(Command::Map { sku: sku.into(), settings });
        log.adjust(0, sku, 1_000);
    }
    log
}

async fn no_older_after_a_newer(kind: &str, market: Shop) {
    let config = market.config();
    let mut channel = channel(&format!("rate = {{ per_second = 10000, burst = 10000 }}\n{config}"));
    channel.location = "main".into();
    let log = founded(&market, &channel);
    let mut stop = CancellationToken::new();
    let mut running = push(&log, &channel, 1, &stop);
    let mut random = marketplace::random::Random::new(7);
    for nth in 1..=60_u64 {
        for sku in SKUS {
            log.adjust(nth, sku, i64::try_from(random.below(99)).unwrap() - 40);
        }
        // It may be waiting for a channel that just failed.
        let _ = tokio::time::timeout(Duration::from_millis(400), market.called()).await;
        if nth % 12 == 0 {
            // It is killed in the middle of whatever it does, and its connections with it.
            stop.cancel();
            running.await.unwrap();
            market.cut().await;
            let node = 3 - log.home.load(Ordering::SeqCst);
            log.home.store(node, Ordering::SeqCst);
            log.ahead.fetch_add(TAKEN_OVER_MS, Ordering::SeqCst);
            log.apply(Command::Tick);
            stop = CancellationToken::new();
            running = push(&log, &channel, node, &stop);
        }
    }
    market.calm();
    let rest = async {
        let mut changed = log.watch();
        while log.settled().as_ref() != Some(&market.shown()) {
            let _ = tokio::time::timeout(Duration::from_secs(1), changed.changed()).await;
        }
    };
    let rested = tokio::time::timeout(Duration::from_secs(60), rest).await;
    assert!(rested.is_ok(), "{kind}: {:?} and not {:?}", market.shown(), log.settled());
    stop.cancel();
    running.await.unwrap();
    let intended = log.world.lock().unwrap().intended.clone();
    for sku in SKUS {
        let told = market.told(sku);
        assert!(told.len() > 2, "{kind} was told next to nothing: {told:?}");
        let intended = &intended[sku];
        assert!(in_order(&told, intended), "{kind} {sku}: {told:?} of {intended:?}");
    }
    market.shutdown().await;
}

#[tokio::test]
async fn woocommerce_is_told_nothing_older_after_a_newer() {
    no_older_after_a_newer("woocommerce", Shop::open(Kind::WooCommerce).await).await;
}

#[tokio::test]
async fn ebay_is_told_nothing_older_after_a_newer() {
    no_older_after_a_newer("ebay", Shop::open(Kind::Ebay).await).await;
}

#[tokio::test]
async fn odoo_is_told_nothing_older_after_a_newer() {
    no_older_after_a_newer("odoo", Shop::open(Kind::Odoo).await).await;
}

#[tokio::test]
async fn walmart_is_told_nothing_older_after_a_newer() {
    no_older_after_a_newer("walmart", Shop::open(Kind::Walmart).await).await;
}

#[tokio::test]
async fn amazon_is_told_nothing_older_after_a_newer() {
    no_older_after_a_newer("amazon", Shop::amazon().await).await;
}

/// A check that finds nothing would prove nothing.
#[test]
fn an_older_one_is_found() {
    assert!(in_order(&[1, 1, 3], &[1, 2, 3]));
    assert!(!in_order(&[1, 3, 2], &[1, 2, 3]));
    assert!(!in_order(&[4], &[1, 2, 3]));
}
