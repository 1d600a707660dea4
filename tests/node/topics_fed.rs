//! Promise: what a channel tells becomes one message of a topic, in the step in which it is booked, whichever road
//! it came by and however often.

use std::path::Path;

use channels::{Parsed, Understood};
use serde_json::Value;
use state::command::{Delivery, Fact, Segment};
use state::ledger::Kind;
use state::limits::DAY_MS;
use state::order::{LineImage, Order};
use state::origin::{Lane, Origin};
use state::queue::ask::{Ask, What};
use state::queue::settings::Settings;
use state::reply::Kept;
use state::{Command, Effects, Stamp, State};
use stockraft::channel::{self, Meant};
use stockraft::config::Config;
use stockraft::route::Router;

const CHANNEL: &str = "north";
const CONFIG: &str = "[node]\nid = 1\nregion = \"eu\"\ndata_dir = \"data\"\n\
                      [[channel]]\nname = \"north\"\nkind = \"shopify\"\nsecrets = [\"env:PATH\"]\n";

/// One node's state, and what it is fed with.
struct Fed {
    state: State,
    index: u64,
    now: u64,
}

impl Fed {
    fn new() -> Self {
        let config = Config::parse(CONFIG, Path::new("F")).unwrap();
        let mut fed = Self { state: State::default(), index: 0, now: 1_772_000_000_000 };
        let channels = config.definitions();
        fed.apply(Command::Seed { channels, policies: vec![], locations: vec!["main".into()] });
        fed
    }

    fn apply(&mut self, command: Command) -> Effects {
        (self.index, self.now) = (self.index + 1, self.now + 1);
        self.state.apply(Stamp { index: self.index, now: self.now }, command).1
    }

    fn known(&self, order: &str) -> Option<Order> {
        let place = (CHANNEL.into(), order.into());
        self.state.data().orders.get(&place).map(state::packed::Packed::get)
    }

    /// A delivery as a node takes it in that knows of its order what this state did at that time.
    fn take_in(&self, topic: &str, id: &str, understood: Understood) -> Meant {
        let config = Config::parse(CONFIG, Path::new("F")).unwrap();
        let known = self.known("7");
        let router = Router::new(&config, move |_, _| known.clone());
        let parsed = Parsed { id: Some(id.into()), ..Parsed::new(topic, understood) };
        channel::deliver(&router, CHANNEL, parsed, br#"{"id":7}"#, self.now)
    }

    fn segment(&mut self, deliveries: Vec<Delivery>) -> Effects {
        let origin = Origin { node: 1, incarnation: 1 };
        let sequence = self.state.data().origins.last(origin, Lane::Urgent) + 1;
        self.apply(Command::Segment(Segment {
            origin,
            lane: Lane::Urgent,
            sequence,
            durable_ms: 0,
            deliveries,
        }))
    }

    fn depth(&self, topic: &str) -> u64 {
        self.state.data().queue.topic(topic).map_or(0, state::queue::Topic::depth)
    }
}

fn delivery(meant: Meant) -> Delivery {
    match meant {
        Meant::Delivery(delivery, None) => *delivery,
        other => panic!("{other:?}"),
    }
}

fn image(version: u64, quantity: i64) -> Understood {
    let sku = Some("MUG".into());
    let line = LineImage { id: "1".into(), sku, quantity, ..LineImage::default() };
    let order = "7".into();
    Understood::Facts(vec![Fact::Image { order, version, whole: true, lines: vec![line] }])
}

// A parcel that is packed twice, because the poll told of the order as well, or a week later its edit.
#[test]
fn an_order_is_one_message_on_every_road() {
    let mut fed = Fed::new();
    let at = fed.now;
    // Two nodes take the same order in before either has heard of it.
    let webhook = delivery(fed.take_in("orders/create", "w1", image(at, 2)));
    let polled = delivery(fed.take_in("poll/order", "p1", image(at, 2)));
    let effects = fed.segment(vec![webhook.clone(), webhook.clone()]);
    assert_eq!((effects.movements.len(), effects.bodies.len()), (1, 1), "both, or neither");
    let body = match &effects.bodies[0].kept {
        Kept::Message { key, body } => {
            assert_eq!(key.as_deref(), Some("7"));
            serde_json::from_slice::<Value>(body).unwrap()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!((&body["type"], &body["order"]), (&"orders.created".into(), &"7".into()));
    assert_eq!(body["lines"][0]["quantity"], 2);
    fed.segment(vec![polled]);
    assert_eq!(fed.depth("orders.created"), 1);
    // The dedup id is forgotten by now; the order is not.
    fed.now += 3 * DAY_MS;
    let edit = delivery(fed.take_in("orders/updated", "w2", image(fed.now, 3)));
    assert_eq!(edit.publish, []);
    fed.segment(vec![edit]);
    assert_eq!(fed.depth("orders.created"), 1);
    let cancelled = delivery(fed.take_in("orders/updated", "w3", image(fed.now, 0)));
    fed.segment(vec![cancelled]);
    assert_eq!((fed.depth("orders.created"), fed.depth("orders.cancelled")), (1, 1));
}

// What changes no stock was answered and forgotten; a shop that mirrors products would never hear of them.
#[test]
fn what_moves_no_stock_is_published_and_harms_nothing() {
    let mut fed = Fed::new();
    let said = Understood::Ignored("a product without SKUs".into());
    let product = delivery(fed.take_in("products/update", "w1", said.clone()));
    assert!(product.facts.is_empty());
    let effects = fed.segment(vec![product]);
    assert_eq!((effects.movements.len(), effects.applied), (0, 1));
    assert_eq!(fed.depth("products.updated"), 1);
    assert_eq!(fed.state.data().dead.entries().iter().count(), 0);
    assert!(matches!(fed.take_in("shop/redact", "w2", said), Meant::Ignored(_)));
}

// A topic that refuses for want of room must not hold a sale back, nor be one that nobody notices.
#[test]
fn a_full_topic_never_stops_a_sale() {
    let mut fed = Fed::new();
    let what = What::Put(Settings { messages_max: 1, ..Settings::default() });
    fed.apply(Command::Queue(vec![Ask {
        idempotency: None,
        topic: "orders.created".into(),
        what,
    }]));
    for order in 1..=3 {
        let Understood::Facts(mut facts) = image(fed.now, 1) else { panic!("they are facts") };
        let Fact::Image { order: id, .. } = &mut facts[0] else { panic!("it is an image") };
        *id = order.to_string();
        let sale = fed.take_in("orders/create", &id.clone(), Understood::Facts(facts));
        let effects = fed.segment(vec![delivery(sale)]);
        assert_eq!(effects.movements.iter().filter(|m| m.kind == Kind::Sale).count(), 1);
    }
    let topic = fed.state.data().queue.topic("orders.created").unwrap();
    assert_eq!((topic.depth(), topic.dropped), (1, 2));
}
