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
}

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
        Self { world: Arc::default(), changed, home }
    }

    fn apply(&self, command: Command) -> (u64, state::Reply) {
        let mut world = self.world.lock().unwrap();
        world.index += 1;
        let stamp = Stamp { index: world.index, now: clock::now_ms() };
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
        let movement = MovementRequest {
            key: key(id.as_bytes()),
            body: key(id.as_bytes()),
            id,
            kind: state::ledger::Kind::Adjustment,
            sku: sku.into(),
            quantity,
            location: "main".into(),
            to_location: None,
            channel: None,
            reference: None,
            reason: Some("a test".into()),
            occurred_ms: None,
            count: None,
        };
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

/// A log that knows the channel and its listings.
fn founded(sender: &Sender, channel: &Channel) -> Log {
    let log = Log::new();
    log.apply(Command::PutLocations(vec!["main".into()]));
    let definition = channel.definition(0);
    log.apply(Command::PutChannel { name: "shop".into(), definition });
    for sku in SKUS {
        let Place { listing, settings, .. } = place(sender, sku);
        let listings = [("shop".to_owned(), ListingSpec { id: listing, settings })];
        let settings = SkuSettings { listings: Some(listings.into()), ..SkuSettings::default() };
        log.apply(Command::Map { sku: sku.into(), settings });
        log.adjust(0, sku, 1_000);
    }
    log
}

async fn no_older_after_a_newer(kind: Kind) {
    let faults = Faults {
        push_answer_lost: 0.2,
        api_answer_lost: 0.05,
        row_error: 0.05,
        conflict: 0.2,
        ..Faults::default()
    };
    let sender = open(kind, |options| options.faults = faults).await;
    let config = sender_config(&sender, "http://127.0.0.1:1/webhooks/");
    let mut channel = channel(&format!("rate = {{ per_second = 10000, burst = 10000 }}\n{config}"));
    channel.location = "main".into();
    let log = founded(&sender, &channel);
    let mut stop = CancellationToken::new();
    let mut running = push(&log, &channel, 1, &stop);
    let mut random = marketplace::random::Random::new(7);
    for nth in 1..=60_u64 {
        for sku in SKUS {
            log.adjust(nth, sku, i64::try_from(random.below(99)).unwrap() - 40);
        }
        let calls = sender.stats().calls + sender.stats().call_faults;
        let more = |stats: &marketplace::sender::Stats| stats.calls + stats.call_faults > calls;
        // It may be waiting for a channel that just failed.
        let _ = tokio::time::timeout(Duration::from_millis(50), sender.wait_until(more)).await;
        if nth % 12 == 0 {
            // It is killed in the middle of whatever it does, and its connections with it.
            stop.cancel();
            running.await.unwrap();
            sender.set_outage(Outage::Down);
            while TcpStream::connect(sender.address()).await.is_ok() {
                tokio::task::yield_now().await;
            }
            sender.set_outage(Outage::None);
            let node = 3 - log.home.load(Ordering::SeqCst);
            log.home.store(node, Ordering::SeqCst);
            stop = CancellationToken::new();
            running = push(&log, &channel, node, &stop);
        }
    }
    sender.set_faults(Faults::default());
    let rest = async {
        let mut changed = log.watch();
        while log.settled().as_ref() != Some(&sender.shown()) {
            let _ = tokio::time::timeout(Duration::from_secs(1), changed.changed()).await;
        }
    };
    let rested = tokio::time::timeout(Duration::from_secs(60), rest).await;
    assert!(rested.is_ok(), "{kind:?}: {:?} and not {:?}", sender.shown(), log.settled());
    stop.cancel();
    running.await.unwrap();
    let intended = log.world.lock().unwrap().intended.clone();
    for sku in SKUS {
        let told = told(&sender, sku);
        assert!(told.len() > 5, "{kind:?} was told next to nothing: {told:?}");
        let intended = &intended[sku];
        assert!(in_order(&told, intended), "{kind:?} {sku}: {told:?} of {intended:?}");
    }
    sender.shutdown().await;
}

#[tokio::test]
async fn woocommerce_is_told_nothing_older_after_a_newer() {
    no_older_after_a_newer(Kind::WooCommerce).await;
}

#[tokio::test]
async fn ebay_is_told_nothing_older_after_a_newer() {
    no_older_after_a_newer(Kind::Ebay).await;
}

#[tokio::test]
async fn odoo_is_told_nothing_older_after_a_newer() {
    no_older_after_a_newer(Kind::Odoo).await;
}

/// A check that finds nothing would prove nothing.
#[test]
fn an_older_one_is_found() {
    assert!(in_order(&[1, 1, 3], &[1, 2, 3]));
    assert!(!in_order(&[1, 3, 2], &[1, 2, 3]));
    assert!(!in_order(&[4], &[1, 2, 3]));
}
