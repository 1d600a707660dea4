//! A state without a cluster, a shop without a network, and the nodes between them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cluster::{ProposeError, Role, Status, codec};
use state::allocation::Policy;
use state::channel::Definition;
use state::command::{Asked as Request, ListingSpec, MovementRequest, Movements};
use state::ledger::Kind;
use state::{Command, Reply, Stamp, State};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::super::{Pusher, run};
use crate::agreed::{Agreed, status_at_once};
use crate::channel::api::gate;
use crate::channel::pushed::FEED_ROWS_MIN;
use crate::channel::{Answered, Calls, Place, PushError, Quantities, Row, RowOutcome};
use crate::config::Channel;
use crate::measures::Measures;

pub(super) const CHANNEL: &str = "shop";
pub(super) const BEGAN: u64 = 1_900_000_000_000;

/// One state, and who can reach it.
pub(super) struct World {
    pub(super) state: State,
    pub(super) index: u64,
    pub(super) began: Instant,
    pub(super) voters: u64,
    pub(super) cut: BTreeSet<u64>,
}

#[derive(Clone)]
pub(super) struct Node {
    pub(super) id: u64,
    pub(super) world: Arc<Mutex<World>>,
    pub(super) changed: watch::Sender<u64>,
}

impl Node {
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn apply(&self, command: Command) -> (u64, Reply) {
        let mut world = self.world();
        world.index += 1;
        let since = u64::try_from(world.began.elapsed().as_millis()).unwrap();
        let stamp = Stamp { index: world.index, now: BEGAN + since };
        let (reply, _) = world.state.apply(stamp, command);
        self.changed.send_replace(world.index);
        (world.index, reply)
    }

    pub(super) fn moved(&self, kind: Kind, skus: impl Iterator<Item = usize>, quantity: i64) {
        let index = self.world().index;
        let movement = |n: usize| {
            let id = format!("{kind:?} {n} at {index}");
            MovementRequest::new(
                crate::channel::key(id.as_bytes()),
                id,
                kind,
                sku(n),
                quantity,
                "main",
            )
        };
        let movements: Vec<_> = skus.map(movement).collect();
        for some in movements.chunks(1_000) {
            let asked = Request::Movements(Movements { atomic: false, movements: some.to_vec() });
            self.apply(Command::Request { idempotency: None, asked });
        }
    }

    pub(super) fn listing(&self, n: usize) -> state::listing::Listing {
        self.look(|state| state.data().stock.get(sku(n).as_str()).unwrap().listings[CHANNEL].get())
    }

    pub(super) fn channel(&self) -> state::channel::Channel {
        self.look(|state| state.data().channels[CHANNEL].clone())
    }
}

impl Agreed for Node {
    fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.world().state)
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn status(&self) -> Status {
        status_at_once(self.id, Role::Follower, 1..=self.world().voters)
    }

    async fn applied(&self, _: u64) {}

    async fn propose(
        &self,
        command: Vec<u8>,
        timeout: Duration,
    ) -> Result<cluster::Reply, ProposeError> {
        sleep(Duration::from_millis(20)).await;
        if self.world().cut.contains(&self.id) {
            sleep(timeout).await;
            return Err(ProposeError::Unavailable("cut off".into()));
        }
        let (index, reply) = self.apply(codec::decode(&command).unwrap());
        sleep(Duration::from_millis(20)).await;
        Ok(cluster::Reply { index, bytes: codec::encode(&reply) })
    }
}

/// What a node sent: when, which rows, whether as a feed.
pub(super) type Sent = (Instant, u64, Vec<Row>, bool);

#[derive(Clone, Default)]
pub(super) struct Shop(pub(super) Arc<ShopInner>);

#[derive(Default)]
pub(super) struct ShopInner {
    pub(super) calls: Mutex<Option<Calls>>,
    pub(super) shown: Mutex<BTreeMap<String, i64>>,
    pub(super) sent: Mutex<Vec<Sent>>,
    pub(super) reads: AtomicU64,
    /// SKUs that it cannot be read for: whatever a reading is of beside them, it fails.
    pub(super) unreadable: Mutex<BTreeSet<String>>,
    /// When each call came, and whose it was.
    pub(super) arrived: Mutex<Vec<(Instant, u64)>>,
    /// Calls that are made of one set beside the one that sets.
    pub(super) before: AtomicUsize,
    /// How long a node takes between two calls of one set.
    pub(super) pauses: Mutex<BTreeMap<u64, Duration>>,
    /// Answers that the next calls get.
    pub(super) faults: Mutex<Vec<PushError>>,
}

/// A shop as one node calls it.
pub(super) struct Caller {
    pub(super) node: u64,
    pub(super) shop: Shop,
}

impl Shop {
    pub(super) fn with(rows_max: usize, feed_rows_max: usize) -> Self {
        let shop = Self::default();
        let calls = Calls {
            rows_max,
            calls_a_set: 1,
            reads_max: 250,
            feed_rows_max,
            feed_rows_min: FEED_ROWS_MIN,
            located: false,
        };
        *shop.0.calls.lock().unwrap() = Some(calls);
        shop
    }

    pub(super) fn fails(&self, fault: PushError) {
        self.0.faults.lock().unwrap().push(fault);
    }

    pub(super) fn sent(&self) -> Vec<Sent> {
        self.0.sent.lock().unwrap().clone()
    }

    pub(super) fn shows(&self, n: usize) -> i64 {
        self.0.shown.lock().unwrap().get(&sku(n)).copied().unwrap_or(0)
    }
}

impl Caller {
    /// A call goes out, as soon as it may.
    async fn call(&self) -> Result<(), PushError> {
        gate::pass().await?;
        self.shop.0.arrived.lock().unwrap().push((Instant::now(), self.node));
        Ok(())
    }

    pub(super) async fn take(&self, rows: &[Row], feed: bool) -> Answer {
        for _ in 0..self.shop.0.before.load(Ordering::Relaxed) {
            self.call().await?;
            let pause = self.shop.0.pauses.lock().unwrap().get(&self.node).copied();
            sleep(pause.unwrap_or(Duration::from_millis(20))).await;
        }
        self.call().await?;
        let sent = (Instant::now(), self.node, rows.to_vec(), feed);
        self.shop.0.sent.lock().unwrap().push(sent);
        sleep(if feed { Duration::from_secs(120) } else { Duration::from_millis(100) }).await;
        let fault = self.shop.0.faults.lock().unwrap().pop();
        // An answer that is lost is one of a call that was carried out.
        if let Some(fault) = fault.clone().filter(|fault| !matches!(fault, PushError::Unknown(_))) {
            return Err(fault);
        }
        let mut shown = self.shop.0.shown.lock().unwrap();
        shown.extend(rows.iter().map(|row| (row.place.sku.clone(), row.quantity)));
        if let Some(fault) = fault {
            return Err(fault);
        }
        let value = vec![RowOutcome::Confirmed; rows.len()];
        Ok(Answered { value, wait: Duration::ZERO })
    }
}

pub(super) type Answer = Result<Answered<Vec<RowOutcome>>, PushError>;

impl Quantities for Caller {
    fn calls(&self) -> Calls {
        self.shop.0.calls.lock().unwrap().unwrap()
    }

    async fn set(&self, rows: &[Row], _: &str) -> Answer {
        self.take(rows, false).await
    }

    async fn feed(&self, rows: &[Row], _: &str) -> Answer {
        self.take(rows, true).await
    }

    async fn read(&self, places: &[Place]) -> Result<Answered<Vec<Option<i64>>>, PushError> {
        self.call().await?;
        self.shop.0.reads.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(100)).await;
        let unreadable = self.shop.0.unreadable.lock().unwrap();
        if places.iter().any(|place| unreadable.contains(&place.sku)) {
            return Err(PushError::Unknown("500".into()));
        }
        let shown = self.shop.0.shown.lock().unwrap();
        let value = places.iter().map(|place| Some(shown.get(&place.sku).copied().unwrap_or(0)));
        Ok(Answered { value: value.collect(), wait: Duration::ZERO })
    }
}

pub(super) fn sku(n: usize) -> String {
    format!("SKU-{n:05}")
}

pub(super) fn definition() -> Definition {
    Definition { home: Some(1), burst: 4, ..Definition::new("shopify", "main") }
}

/// A cluster of so many voters with so many SKUs, of which the shop shows nothing yet.
pub(super) fn world(definition: Definition, voters: u64, skus: usize) -> Node {
    let world = World {
        state: State::default(),
        index: 0,
        began: Instant::now(),
        voters,
        cut: BTreeSet::new(),
    };
    let node = Node { id: 1, world: Arc::new(Mutex::new(world)), changed: watch::Sender::new(0) };
    node.apply(Command::PutChannel { name: CHANNEL.into(), definition });
    let policy = Policy { sku: "*".into(), ..Policy::default() };
    node.apply(Command::PutPolicies { policies: vec![policy], replaces: None });
    let spec = |n: usize| ListingSpec { id: format!("id-{n}"), ..ListingSpec::default() };
    let rows: Vec<_> = (0..skus).map(|n| (sku(n), CHANNEL.to_string(), spec(n))).collect();
    for some in rows.chunks(1_000) {
        node.apply(Command::List(some.to_vec()));
    }
    tokio::spawn(tick(node.clone()));
    node
}

/// Time goes on where something waits for it, as the leader sees to.
pub(super) async fn tick(node: Node) {
    loop {
        sleep(Duration::from_secs(1)).await;
        let due = {
            let world = node.world();
            let now = BEGAN + u64::try_from(world.began.elapsed().as_millis()).unwrap();
            world.state.wakes_at().is_some_and(|at| at <= now)
        };
        if due {
            node.apply(Command::Tick);
        }
    }
}

pub(super) fn start(node: &Node, id: u64, shop: &Shop) -> Arc<Measures> {
    let channel: Channel = toml::from_str("name = \"shop\"\nkind = \"shopify\"").unwrap();
    let measures = Arc::new(Measures::new());
    let caller = Caller { node: id, shop: shop.clone() };
    let node = Node { id, ..node.clone() };
    let pusher = Pusher::new(channel, caller, id, node, Arc::clone(&measures));
    tokio::spawn(run(pusher, CancellationToken::new()));
    measures
}

pub(super) async fn at_rest(node: &Node) {
    let mut changed = node.watch();
    while node.look(|state| state.due().count(CHANNEL) + state.flights().count(CHANNEL)) > 0 {
        changed.changed().await.unwrap();
    }
}
