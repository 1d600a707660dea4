use std::sync::{Mutex, PoisonError};

use channels::shopify::poll as shopify;
use cluster::durable::Records;
use cluster::{ProposeError, Reply, Status};
use serde_json::{Value, json};
use state::command::{Command, Segment};
use state::origin::{Lane, Origin};
use state::{Stamp, State};
use tokio::sync::watch;

use super::*;
use crate::config::Config;
use crate::inbox::{Bounds, Inbox, Place};

const UPDATED: &str = "2026-11-20T15:00:00Z";
const NOW: u64 = 1_795_200_000_000;

/// A store with one order, refunded so often that it does not fit on a page of what changed.
struct Store {
    order: Value,
}

fn store() -> Store {
    let connection = |nodes: Value| json!({ "nodes": nodes, "pageInfo": { "hasNextPage": false } });
    let line = json!({
        "id": "gid://shopify/LineItem/1", "sku": "MUG", "quantity": 5, "currentQuantity": 2,
        "isGiftCard": false, "variant": {
            "id": "gid://shopify/ProductVariant/7", "inventoryItem": { "tracked": true },
        },
    });
    let refund = |n: u64| {
        let line = json!({
            "lineItem": { "id": "gid://shopify/LineItem/1" }, "quantity": 1, "restockType": "CANCEL",
        });
        json!({
            "id": format!("gid://shopify/Refund/{n}"), "createdAt": UPDATED,
            "refundLineItems": connection(json!([line])),
        })
    };
    let order = json!({
        "id": "gid://shopify/Order/57", "updatedAt": UPDATED, "test": false,
        "lineItems": connection(json!([line])),
        "refunds": [refund(1), refund(2), refund(3)], "fulfillments": [],
    });
    Store { order }
}

impl Orders for Store {
    async fn order(&self, _: &str) -> Result<Option<Told>, ApiError> {
        let answer = json!({ "data": { "order": self.order } }).to_string();
        shopify::order(answer.as_bytes()).map_err(ApiError::Refused)
    }

    async fn changes(&self, _: u64, _: Option<&str>) -> Result<Page, ApiError> {
        let page = json!({ "nodes": [self.order], "pageInfo": { "hasNextPage": false } });
        let answer = json!({ "data": { "orders": page } }).to_string();
        shopify::orders(answer.as_bytes()).map_err(ApiError::Refused)
    }
}

/// What is agreed on, without anybody to agree with.
#[derive(Clone)]
struct Alone {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

impl Agreed for Alone {
    fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn status(&self) -> Status {
        unreachable!("nobody asks")
    }

    async fn applied(&self, _: u64) {}

    async fn propose(&self, _: Vec<u8>, _: Duration) -> Result<Reply, ProposeError> {
        unreachable!("nobody proposes")
    }
}

/// A poller of that store, whose inbox is agreed on when a test says so.
struct Bench {
    poller: Poller<Store, Alone>,
    inbox: Inbox,
    index: u64,
    _dir: tempfile::TempDir,
}

fn bench() -> Bench {
    let text = "node = { id = 1, region = \"eu\", data_dir = \"data\" }\n\
                channel = [{ name = \"shop\", kind = \"shopify\", location = \"main\" }]\n";
    let config: Config = toml::from_str(text).unwrap();
    let definition = Command::PutChannel {
        name: "shop".into(),
        definition: state::channel::Definition {
            pushes: false,
            ..state::channel::Definition::new("shopify", "main")
        },
    };
    let mut state = State::default();
    state.apply(Stamp { index: 1, now: 1 }, definition);
    let cluster = Alone { state: Arc::new(Mutex::new(state)), changed: watch::Sender::new(0) };
    let dir = tempfile::tempdir().unwrap();
    let bounds = Bounds { waiting_bytes: 1 << 20, keep_ms: 1 << 20, free_disk: 0 };
    let measures = Arc::new(Measures::new());
    let db = Db::open(dir.path(), Records::Medium).unwrap();
    let (origin, clock): (_, Clock) = (Origin { node: 1, incarnation: 1 }, Arc::new(|| NOW));
    let opened = Inbox::over(db, origin, bounds, Arc::clone(&clock), Arc::clone(&measures));
    let (inbox, writer) = opened.unwrap();
    tokio::spawn(writer.write_all());
    let poller = Poller {
        channel: config.channel("shop").unwrap().clone(),
        source: store(),
        node: 1,
        cluster,
        intake: Intake::new(inbox.clone(), &config.ingest, watch::channel(false).1),
        clock,
        measures,
    };
    Bench { poller, inbox, index: 1, _dir: dir }
}

impl Bench {
    /// Agrees on what lies in a lane of the inbox.
    fn agree(&mut self, lane: Lane) {
        let mut state = self.poller.cluster.state.lock().unwrap();
        for sequence in self.inbox.last_agreed(lane) + 1..=self.inbox.last_written(lane) {
            let place = Place { lane, sequence };
            let deliveries = self.inbox.read(place).unwrap().unwrap().deliveries.to_vec();
            let segment =
                Segment { origin: self.inbox.origin(), lane, sequence, durable_ms: 0, deliveries };
            self.index += 1;
            state.apply(Stamp { index: self.index, now: NOW }, Command::Segment(segment));
            self.inbox.mark_agreed(place);
        }
    }

    async fn fetch(&self) {
        self.poller.fetch(&mut BTreeMap::new()).await;
    }

    fn waits(&self) -> bool {
        self.poller.cluster.look(|state| !state.data().reloads.is_empty())
    }

    fn polled(&self) -> bool {
        self.poller.cluster.look(|state| state.data().channels["shop"].cursor.is_some())
    }

    fn committed(&self) -> i64 {
        self.poller.cluster.look(|state| {
            let stock = state.data().stock.get("MUG");
            stock.map_or(0, |stock| stock.levels.values().map(|level| level.committed).sum())
        })
    }
}

// A disk that is destroyed takes with it what was not agreed on yet. If what a poll told were agreed on behind
// the note that it was polled, or an order behind the note that it was fetched, nobody would ask again.
#[tokio::test]
async fn a_note_is_agreed_on_behind_what_it_is_about() {
    for lanes in [[Lane::Urgent, Lane::Normal], [Lane::Normal, Lane::Urgent]] {
        let mut bench = bench();
        bench.poller.poll(&mut None).await.unwrap();
        bench.agree(lanes[0]);
        assert!(!bench.polled() || bench.waits(), "polled, and the order is not known");
        bench.agree(lanes[1]);
        assert!(bench.polled() && bench.waits());
        bench.fetch().await;
        bench.agree(lanes[0]);
        assert!(bench.waits() || bench.committed() == 2, "fetched, and the order is not known");
    }
}

// An order that does not fit on a page is named there and fetched by itself. The answer may be the very same
// text: taken for something that was told before, it would be dropped, and the order be lost.
#[tokio::test]
async fn an_order_told_in_the_words_that_named_it_is_taken_in() {
    let mut bench = bench();
    bench.poller.poll(&mut None).await.unwrap();
    bench.agree(Lane::Normal);
    bench.agree(Lane::Urgent);
    assert!(bench.waits());
    bench.fetch().await;
    bench.agree(Lane::Normal);
    bench.agree(Lane::Urgent);
    assert!(!bench.waits());
    assert_eq!(bench.committed(), 2);
}

// Where the cursor runs ahead of what was read, an order is never asked for again: one that changed on
// a page already read, or all orders until the time that a wrong clock gave to one of them.
#[test]
fn a_cursor_is_not_ahead_of_its_poll() {
    let mut round = Round::new(10_000, 6_000, 20_000);
    assert_eq!((round.from, round.cursor()), (4_000, None));
    assert!(!round.kept(Some(15_000), Some("2".into())));
    assert!(round.kept(None, None));
    assert_eq!(round.cursor(), Some(15_000));
    round.kept(Some(90_000), None);
    assert_eq!(round.cursor(), Some(20_000));
    assert_eq!(Round::new(100, 600, 20_000).from, 0);
    assert_eq!(Round::new(10_000, 0, 20_000).from, 8_000);
}

// A channel with a thousand changed orders and a limit of some pages at once would be asked for the
// first of them for ever, or be asked in vain without end.
#[test]
fn a_poll_goes_on_where_the_channel_had_enough() {
    let (second, every) = (Duration::from_secs(1), Duration::from_secs(300));
    let mut round = Round::new(0, 0, 1);
    round.kept(None, Some("2".into()));
    assert_eq!(round.pause(every), Duration::ZERO);
    let mut pauses = Vec::new();
    for _ in 0..10 {
        round = round.put_off(3_000);
        pauses.push(round.pause(every));
    }
    assert_eq!(round.page.as_deref(), Some("2"));
    assert_eq!(pauses.first_chunk(), Some(&[3 * second, 4 * second, 8 * second]));
    assert_eq!(pauses.last(), Some(&every));
    round.kept(None, Some("3".into()));
    assert_eq!(round.pause(every), Duration::ZERO);
}
