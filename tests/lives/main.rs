//! Promise: whatever becomes of an order, and whichever way it is heard (late, twice, out of order, by
//! webhook or from the API), the ledger comes to the same quantities, for every kind of channel.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod kinds;
mod life;

use std::collections::BTreeMap;

use channels::poll::Told;
use channels::signature::{self, Judged, Request, Scheme};
use channels::{Parsed, Verified};
use hyper::{HeaderMap, Method};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use state::channel::Definition;
use state::command::{Command, Delivery, ListingSpec, Segment};
use state::ledger::Movement;
use state::origin::{Lane, Origin};
use state::{Stamp, State, invariant};
use stockraft::channel::{Meant, deliver};
use stockraft::route::Router;

use kinds::{KINDS, Kind, Webhook};
use life::{Order, SKUS, START_MS, STEP_MS, Step, truth};

/// What a merchant's customers do: the lines of an order, and what is wanted to become of it.
type Life = (Vec<(usize, i64)>, Vec<Step>);

/// Steps of one life. Shopify's API tells of fewer than five refunds or shipments in one answer.
const STEPS_MAX: usize = 4;

fn lives() -> impl Strategy<Value = Vec<Life>> {
    let line = (0..SKUS.len(), 1..6i64);
    let place = (0..3usize, 1..4i64);
    let step = prop_oneof![
        2 => place.clone().prop_map(|(line, units)| Step::Cancel { line, units }),
        1 => place.clone().prop_map(|(line, units)| Step::Edit { line, units }),
        4 => place.clone().prop_map(|(line, units)| Step::Ship { line, units }),
        3 => (place, any::<bool>())
            .prop_map(|((line, units), restock)| Step::Return { line, units, restock }),
        1 => Just(Step::CancelRest),
    ];
    let lines = proptest::collection::vec(line, 1..4);
    let steps = proptest::collection::vec(step, 0..=STEPS_MAX);
    proptest::collection::vec((lines, steps), 1..3)
}

/// The order after each step that this kind of channel knows.
fn moments(kind: &Kind, id: u64, (lines, steps): &Life) -> Vec<Order> {
    let mut moments = vec![Order::place(id, lines)];
    for step in steps {
        moments.extend(moments[moments.len() - 1].after(*step, kind.manner));
    }
    moments
}

fn verified(webhook: &Webhook, parse: impl Fn(&HeaderMap, Verified<'_>) -> Parsed) -> Parsed {
    const SECRET: &str = "a-secret-of-some-length";
    let mut headers = HeaderMap::new();
    for (name, value) in &webhook.headers {
        headers.insert(*name, value.parse().unwrap());
    }
    let (target, body) = (format!("/{SECRET}"), webhook.body.to_string());
    let (method, body) = (&Method::POST, body.as_bytes());
    let request = Request { method, target: &target, headers: &headers, body, now_ms: 0 };
    // Which scheme let it through does not matter to a parser.
    let scheme = Scheme::path_secret(&[SECRET]).unwrap();
    match signature::verify(&scheme, &request, None).unwrap() {
        Judged::Genuine(verified) => parse(&headers, verified),
        Judged::Ping => panic!("a ping has no body to parse"),
    }
}

/// What the ledger gets to hear of: nothing of what changes nothing, and never a dead letter.
fn heard(kind: &Kind, parsed: Parsed, raw: &[u8]) -> Option<Delivery> {
    match deliver(&Router::default(), kind.name, parsed, raw, START_MS) {
        Meant::Delivery(delivery, None) => Some(*delivery),
        Meant::Delivery(_, Some(why)) => {
            panic!("{}: {why}: {}", kind.name, String::from_utf8_lossy(raw))
        }
        Meant::Ignored(_) => None,
        Meant::Confirm(url) => panic!("{url}"),
    }
}

/// Choices that a failure can repeat.
struct Choices(u64);

impl Choices {
    fn below(&mut self, below: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % below
    }
}

/// What arrives of these moments: some told by webhook, some by the API, some by both, and some not at all
/// where a later answer of the API makes it good.
fn arrivals(kind: &Kind, moments: &[Order], choices: &mut Choices) -> Vec<Delivery> {
    let webhooks = |order: &Order| -> Vec<Delivery> {
        let all = (kind.webhooks)(order);
        let read = |webhook: &Webhook| {
            heard(kind, verified(webhook, kind.parse), webhook.body.to_string().as_bytes())
        };
        all.iter().filter_map(read).collect()
    };
    let polled = |order: &Order| -> Vec<Delivery> {
        let told = kind.polled.map(|polled| polled(order)).unwrap_or_default();
        let read = |Told { topic, raw, understood }: Told| {
            heard(kind, Parsed::new(topic, understood), &raw)
        };
        told.into_iter().filter_map(read).collect()
    };
    let mut all = Vec::new();
    let lossy = kind.polled.is_some() && choices.below(3) == 0;
    for (n, order) in moments.iter().enumerate() {
        let last = n + 1 == moments.len();
        let way = if kind.polled.is_none() { 0 } else { choices.below(4) };
        if way != 1 {
            let mut told = webhooks(order);
            told.retain(|_| !lossy || choices.below(2) == 0);
            all.extend(told);
        }
        if way == 1 || way == 2 || !(kind.tells)(order) || lossy && last {
            all.extend(polled(order));
        }
    }
    // Some come twice, and all in any order.
    for _ in 0..choices.below(all.len() + 1) {
        all.push(all[choices.below(all.len())].clone());
    }
    for n in (1..all.len()).rev() {
        all.swap(n, choices.below(n + 1));
    }
    all
}

#[derive(Default)]
struct Ledger {
    state: State,
    index: u64,
    movements: Vec<Movement>,
}

impl Ledger {
    fn of(kind: &Kind) -> Self {
        let mut ledger = Self::default();
        let definition = Definition { pushes: false, ..Definition::new(kind.name, "main") };
        ledger.apply(Command::PutChannel { name: kind.name.into(), definition });
        ledger
    }

    fn apply(&mut self, command: Command) {
        self.index += 1;
        let now = START_MS + 100 * STEP_MS + self.index;
        let (_, effects) = self.state.apply(Stamp { index: self.index, now }, command);
        self.movements.extend(effects.movements);
    }

    /// Committed and on hand by SKU.
    fn levels(&self) -> BTreeMap<String, (i64, i64)> {
        let stock = self.state.data().stock.iter();
        let levels = stock.filter_map(|(sku, stock)| {
            let level = stock.levels.get("main")?;
            Some((sku.to_string(), (level.committed, level.on_hand)))
        });
        levels.filter(|(_, level)| *level != (0, 0)).collect()
    }
}

fn check(kind: &Kind, lives: &[Life], seed: u64) -> Result<(), TestCaseError> {
    let mut choices = Choices(seed);
    let mut ledger = Ledger::of(kind);
    let mut expected = Vec::new();
    let mut all = Vec::new();
    for (id, life) in (1..).zip(lives) {
        let moments = moments(kind, 5_000 + id, life);
        all.extend(arrivals(kind, &moments, &mut choices));
        expected.extend(moments.last().cloned());
    }
    // The orders of a channel arrive among each other, and a person maps its listings whenever he likes.
    for n in (1..all.len()).rev() {
        all.swap(n, choices.below(n + 1));
    }
    let mapped_at = choices.below(all.len() + 1);
    let rows = SKUS.iter().enumerate().map(|(item, sku)| {
        let spec = ListingSpec { id: (kind.listing)(item), settings: BTreeMap::new() };
        ((*sku).to_string(), kind.name.to_string(), spec)
    });
    let mapping = Command::List(rows.collect());
    for (n, delivery) in all.iter().enumerate() {
        if n == mapped_at {
            ledger.apply(mapping.clone());
        }
        let sequence = u64::try_from(n).unwrap() + 1;
        let origin = Origin { node: 1, incarnation: 1 };
        let deliveries = vec![delivery.clone()];
        ledger.apply(Command::Segment(Segment {
            origin,
            lane: Lane::Urgent,
            sequence,
            durable_ms: 0,
            deliveries,
        }));
    }
    if mapped_at == all.len() {
        ledger.apply(mapping);
    }
    let data = ledger.state.data();
    let dead: Vec<_> = data.dead.entries().iter().map(|(_, letter)| &letter.reason).collect();
    prop_assert_eq!(dead, Vec::<&String>::new(), "{}: {:#?}", kind.name, all);
    prop_assert_eq!(ledger.levels(), truth(&expected), "{}: {:#?}", kind.name, all);
    let sums = invariant::levels_are_sums(data, ledger.movements.iter().collect());
    prop_assert_eq!(
        sums.and_then(|()| invariant::orders_are_settled(data)),
        Ok(()),
        "{}",
        kind.name
    );
    Ok(())
}

/// `PROPTEST_CASES` asks for more. A failure prints what failed, so nothing is written beside the tests.
fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

// Two readings of one order that differ, a version that is compared with another clock's, or a part that is
// counted by each road on its own: each of them sells a unit twice, or hides one for good.
#[test]
fn an_orders_life_comes_to_the_same_however_it_is_heard() {
    let failure = |kind: &Kind| {
        let mut runner = TestRunner::new(config());
        let outcome =
            runner.run(&(lives(), any::<u64>()), |(lives, seed)| check(kind, &lives, seed));
        outcome.err().map(|error| format!("{}: {error}", kind.name))
    };
    let failures: Vec<String> = KINDS.iter().filter_map(failure).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

// A property over lives in which nothing happens proves nothing.
#[test]
fn lives_have_everything_in_them() {
    for kind in &KINDS {
        let place = |line| (line, 3);
        let life = (
            vec![place(0), place(1), place(2)],
            vec![
                Step::Cancel { line: 0, units: 1 },
                Step::Edit { line: 1, units: 1 },
                Step::Ship { line: 2, units: 2 },
                Step::Return { line: 2, units: 1, restock: true },
                Step::CancelRest,
            ],
        );
        let moments = moments(kind, 1, &life);
        let manner = kind.manner;
        let steps = [
            true,
            manner.edits,
            manner.returns != life::Returns::Never,
            manner.late_cancel,
            manner.cancel != life::Part::Nothing,
        ];
        let known = steps.iter().filter(|known| **known).count();
        assert_eq!(moments.len(), 1 + known, "{}: {moments:#?}", kind.name);
        assert_ne!(truth(moments.last()), truth(moments.first()), "{}", kind.name);
    }
}
