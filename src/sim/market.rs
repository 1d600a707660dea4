//! A simulated marketplace: it sells what it shows, tells of it, and is told quantities.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use channels::poll::{Page, Told};
use channels::shopify::poll;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::faults::Fault;
use super::feeds::{self, Feeds};
use super::shop::{self, Order};
use super::truth::Intent;
use super::world::{Sim, World};
use super::{LISTED, MARKETS, parts};
use crate::channel::api::ApiError;
use crate::channel::{Answered, Calls, Orders, Place, PushError, Quantities, Row, RowOutcome};

/// Rows of one call.
const MANY: usize = 250;
/// The same where there are feeds: more sales at once than calls can tell in time go by feed too.
const FEW: usize = 2;
/// How long a caller waits for an answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Orders on one page of what changed.
const PAGE: usize = 12;
/// Orders that may still change.
const RECENT: usize = 40;
/// Answers that are repeated to whoever sends the same key again.
const ANSWERS_MAX: usize = 4096;

pub(super) struct Market {
    pub(super) name: String,
    number: usize,
    /// Whether it sets quantities whatever it shows.
    pub(super) plain: bool,
    /// Units by SKU.
    shown: BTreeMap<String, i64>,
    pub(super) orders: BTreeMap<u64, Order>,
    /// The newest orders, by when they were placed.
    pub(super) recent: VecDeque<u64>,
    by_change: BTreeSet<(u64, u64)>,
    answers: BTreeMap<String, Vec<RowOutcome>>,
    keys: VecDeque<String>,
    /// The newest push that somebody sent, by SKU.
    pub(super) sent: BTreeMap<String, u64>,
    pub(super) feeds: Feeds,
    pub(super) down_until: u64,
    /// SKUs that somebody edited by hand, and that nobody has read or set since.
    pub(super) edited: BTreeSet<String>,
    /// The same, though it may have been read: nobody has set it.
    pub(super) unset: BTreeSet<String>,
    newest: u64,
}

impl Market {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            number: shop::number(name),
            plain: super::is_plain(name),
            shown: LISTED.iter().map(|sku| ((*sku).into(), 0)).collect(),
            orders: BTreeMap::new(),
            recent: VecDeque::new(),
            by_change: BTreeSet::new(),
            answers: BTreeMap::new(),
            keys: VecDeque::new(),
            sent: BTreeMap::new(),
            feeds: Feeds::default(),
            down_until: 0,
            edited: BTreeSet::new(),
            unset: BTreeSet::new(),
            newest: 0,
        }
    }

    pub(super) fn shows(&self, sku: &str) -> i64 {
        self.shown.get(sku).copied().unwrap_or(0)
    }

    fn sku(&self, listing: &str) -> Option<&'static str> {
        shop::sku_of(self.number, listing)
    }

    pub(super) fn show(&mut self, sku: &str, quantity: i64) {
        if let Some(shown) = self.shown.get_mut(sku) {
            *shown = quantity;
        }
    }

    /// Somebody edits a listing by hand.
    pub(super) fn edit(&mut self, sku: &str) {
        self.edited.insert(sku.into());
        self.unset.insert(sku.into());
    }

    /// A time of change later than all others.
    pub(super) fn tick(&mut self, now: u64) -> u64 {
        self.newest = now.max(self.newest + 1);
        self.newest
    }

    /// When an order changed last.
    pub(super) fn changed(&self) -> u64 {
        self.by_change.last().map_or(0, |(changed, _)| *changed)
    }

    /// Puts an order in that has just changed.
    pub(super) fn put(&mut self, order: Order) {
        if let Some(before) = self.orders.get(&order.id) {
            self.by_change.remove(&(before.changed, order.id));
        } else {
            self.recent.push_front(order.id);
            self.recent.truncate(RECENT);
        }
        self.by_change.insert((order.changed, order.id));
        self.orders.insert(order.id, order);
    }

    fn order(&self, id: &str) -> Result<Option<Told>, String> {
        let order = id.parse().ok().and_then(|id: u64| self.orders.get(&id));
        poll::order(&shop::one(order.map(|order| order.node(self.number)).as_ref()))
    }

    fn changes(&self, since: u64, page: Option<&str>) -> Result<Page, String> {
        let from = page.and_then(|page| {
            let (changed, id) = page.split_once('/')?;
            Some((changed.parse().ok()?, id.parse().ok()?))
        });
        let first = from.unwrap_or((since, 0));
        let changed = self.by_change.range(first..).filter(|at| Some(**at) != from);
        let found: Vec<_> = changed.take(PAGE).collect();
        let orders = found.iter().filter_map(|(_, id)| self.orders.get(id));
        let orders: Vec<_> = orders.map(|order| order.node(self.number)).collect();
        let last = found.last().filter(|_| found.len() == PAGE);
        let next = last.map(|(changed, id)| format!("{changed}/{id}"));
        poll::orders(&shop::page(&orders, next.as_deref()))
    }
}

/// A marketplace's API as one node reaches it.
#[derive(Clone)]
pub(super) struct Shop {
    pub(super) sim: Sim,
    pub(super) market: usize,
}

/// What becomes of a call.
#[derive(Clone, Copy)]
enum Fate {
    Fine,
    Down,
    Lost,
    Unanswered,
    Late(Duration),
    Limited(u64),
    Refused,
}

impl Shop {
    fn fate(&self) -> (Fate, Duration) {
        self.sim.with(|world| {
            let takes = world.between(30, 400);
            let now = world.now;
            let down = world.market(self.market).down_until > now;
            let fate = if down {
                Fate::Down
            } else if world.happens(Fault::CallLimited) {
                Fate::Limited(500 + world.dice.below(5_000))
            } else if world.happens(Fault::CallRefused) {
                Fate::Refused
            } else if world.happens(Fault::CallLost) {
                Fate::Lost
            } else if world.happens(Fault::CallUnanswered) {
                Fate::Unanswered
            } else if world.happens(Fault::CallLate) {
                Fate::Late(world.between(10_000, 600_000))
            } else {
                Fate::Fine
            };
            (fate, takes)
        })
    }

    /// Makes a call. What was sent is carried out even if whoever sent it is gone by then.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        mut carry_out: impl FnMut(&mut World) -> T + Send + 'static,
        mutates: bool,
    ) -> Result<T, PushError> {
        let unknown = || Err(PushError::Unknown("no answer".into()));
        let (fate, takes) = self.fate();
        match fate {
            Fate::Down => {
                sleep(takes).await;
                return Err(PushError::Refused("no connection".into()));
            }
            Fate::Limited(wait_ms) => {
                sleep(takes).await;
                return Err(PushError::Limited { wait_ms });
            }
            Fate::Refused => {
                sleep(takes).await;
                return Err(PushError::Refused("503".into()));
            }
            Fate::Lost => {
                sleep(CALL_TIMEOUT).await;
                return unknown();
            }
            Fate::Fine | Fate::Unanswered | Fate::Late(_) => {}
        }
        let sim = self.sim.clone();
        let (done, answer) = oneshot::channel();
        tokio::spawn(async move {
            let there = if let Fate::Late(wait) = fate { wait } else { takes / 2 };
            sleep(there).await;
            let result = sim.with(&mut carry_out);
            let again = mutates && sim.with(|world| world.happens(Fault::CallRepeated));
            sleep(takes / 2).await;
            let _ = done.send(result);
            if again {
                let later = sim.with(|world| world.between(100, 300_000));
                sleep(later).await;
                sim.with(carry_out);
            }
        });
        if matches!(fate, Fate::Fine) {
            return answer.await.or_else(|_| unknown());
        }
        sleep(CALL_TIMEOUT).await;
        unknown()
    }
}

impl Quantities for Shop {
    fn calls(&self) -> Calls {
        let all = Calls {
            rows_max: MANY,
            calls_a_set: 1,
            reads_max: MANY,
            feed_rows_max: 0,
            feed_rows_min: 0,
            located: true,
        };
        if !MARKETS.get(self.market).is_some_and(|name| super::is_plain(name)) {
            return all;
        }
        let feed_rows_min = feeds::rows_min(self.sim.seed());
        Calls { rows_max: FEW, feed_rows_max: feeds::ROWS_MAX, feed_rows_min, ..all }
    }

    async fn set(&self, rows: &[Row], key: &str) -> Result<Answered<Vec<RowOutcome>>, PushError> {
        let m = self.market;
        self.sim.with(|world| {
            world.called(m);
            sent(world, m, rows);
        });
        let (rows, key) = (rows.to_vec(), key.to_string());
        let value = self.call(move |world| take(world, m, &rows, &key), true).await?;
        Ok(Answered { value, wait: Duration::ZERO })
    }

    async fn feed(&self, rows: &[Row], _key: &str) -> Result<Answered<Vec<RowOutcome>>, PushError> {
        self.run_feed(rows).await.map(Answered::now)
    }

    async fn read(&self, places: &[Place]) -> Result<Answered<Vec<Option<i64>>>, PushError> {
        let m = self.market;
        self.sim.with(|world| world.called(m));
        let listings: Vec<String> = places.iter().map(|place| place.listing.clone()).collect();
        let read = move |world: &mut World| {
            for id in &listings {
                noticed(world, m, id);
            }
            let read = format!("{listings:?} is read");
            world.tell(|| read);
            let market = world.market(m);
            let shown = listings.iter().map(|id| Some(market.shows(market.sku(id)?)));
            shown.collect()
        };
        Ok(Answered { value: self.call(read, false).await?, wait: Duration::ZERO })
    }
}

impl Orders for Shop {
    async fn order(&self, id: &str) -> Result<Option<Told>, ApiError> {
        let (m, id) = (self.market, id.to_string());
        let told = move |world: &mut World| world.market(m).order(&id);
        self.call(told, false).await.map_err(api_error)?.map_err(ApiError::Refused)
    }

    async fn changes(&self, since_ms: u64, page: Option<&str>) -> Result<Page, ApiError> {
        let (m, page) = (self.market, page.map(ToString::to_string));
        let found = move |world: &mut World| world.market(m).changes(since_ms, page.as_deref());
        self.call(found, false).await.map_err(api_error)?.map_err(ApiError::Refused)
    }
}

fn api_error(error: PushError) -> ApiError {
    match error {
        PushError::Limited { wait_ms } => ApiError::Limited { wait_ms },
        other => ApiError::Unreachable(other.to_string()),
    }
}

/// Somebody sends quantities: each must have been agreed on, and none is older than one sent before (I8).
pub(super) fn sent(world: &mut World, m: usize, rows: &[Row]) {
    let name = world.market(m).name.clone();
    for row in rows {
        let intent = world.log.truth.intent(&name, &row.place.sku, (row.quantity, row.from));
        let Some(revision) = intent.map(|intent| intent.revision) else {
            world.breaks("I8", format!("{name} is sent {row:?}, which was not agreed on"));
            continue;
        };
        let newest = world.market(m).sent.entry(row.place.sku.clone()).or_default();
        let before = *newest;
        *newest = before.max(revision);
        if revision < before {
            let how = format!("{name} is sent {row:?} of {revision} after {before}");
            world.breaks("I8", how);
        }
    }
}

/// A marketplace compares and sets, all or nothing, once for each key.
fn take(world: &mut World, m: usize, rows: &[Row], key: &str) -> Vec<RowOutcome> {
    let market = world.market(m);
    if let Some(answer) = market.answers.get(key) {
        return answer.clone();
    }
    let stale = |row: &Row| !market.plain && market.shows(&row.place.sku) != row.from;
    let outcomes: Vec<RowOutcome> = if rows.iter().any(stale) {
        let of = |row: &Row| if stale(row) { RowOutcome::Stale } else { RowOutcome::Untouched };
        rows.iter().map(of).collect()
    } else {
        rows.iter().map(|_| RowOutcome::Confirmed).collect()
    };
    market.answers.insert(key.into(), outcomes.clone());
    market.keys.push_back(key.into());
    if market.keys.len() > ANSWERS_MAX
        && let Some(oldest) = market.keys.pop_front()
    {
        market.answers.remove(&oldest);
    }
    let name = market.name.clone();
    for (row, outcome) in rows.iter().zip(&outcomes) {
        let Row { place: Place { sku, .. }, from, quantity } = row;
        world.tell(|| format!("{name} is set: {sku} {from} -> {quantity}: {outcome:?}"));
    }
    if outcomes.iter().all(|outcome| *outcome == RowOutcome::Confirmed) {
        for row in rows {
            let intent = world.log.truth.intent(&name, &row.place.sku, (row.quantity, row.from));
            let intent = intent.cloned();
            set(world, m, row, intent.as_ref());
        }
    } else {
        world.tally.reach("push found stale");
    }
    outcomes
}

/// A marketplace sets one quantity, of a push that was agreed on.
pub(super) fn set(world: &mut World, m: usize, row: &Row, intent: Option<&Intent>) {
    noticed(world, m, &row.place.listing);
    world.market(m).unset.remove(&row.place.sku);
    erased(world, m, row);
    world.market(m).show(&row.place.sku, row.quantity);
    world.note(row.place.sku.as_bytes());
    world.note(&row.quantity.to_be_bytes());
    let is_raise = row.quantity > row.from;
    world.tally.reach(if is_raise { "raise taken" } else { "lowering taken" });
    if let Some(intent) = intent.filter(|_| is_raise && !super::is_shared(&row.place.sku)) {
        world.raised(&row.place.sku, intent);
    }
}

/// A lowering that is set plainly adds units where more was sold than anybody knew: nothing keeps it from that, and
/// what it adds is a fact like a count that takes stock away.
fn erased(world: &mut World, m: usize, row: &Row) {
    let shown = world.market(m).shows(&row.place.sku);
    if row.quantity > row.from || row.quantity <= shown {
        return;
    }
    for (part, each) in parts(&row.place.sku) {
        world.log.truth.sku(part).lowered += (row.quantity - shown) * each;
    }
    world.tally.reach("sales erased by a plain set");
}

/// Somebody reads or sets a listing: what was edited by hand is noticed about now.
fn noticed(world: &mut World, m: usize, listing: &str) {
    let now = world.agreed_now();
    let market = world.market(m);
    let Some(sku) = market.sku(listing) else { return };
    if market.edited.remove(sku) {
        world.log.truth.late_all(sku, now);
    }
}
