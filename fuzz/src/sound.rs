//! What must hold of whatever a parser or a reader gives.

use std::cell::RefCell;

use channels::poll::{Page, Told};
use channels::{Parsed, Understood};
use state::channel::Definition;
use state::command::{Command, Delivery, Fact, Moved, Segment};
use state::ledger;
use state::limits::{NAME_LEN_MAX, ORDER_LINES_MAX, QUANTITY_MAX};
use state::order::{LineImage, RemovalLine};
use state::origin::{Lane, Origin};
use state::{Data, Reply, Stamp, State};

/// What is understood takes at most so many times the bytes that it was read from, and [`BYTES_MORE`].
/// A line may repeat its order's id and its SKU, and a number may be written out.
const TIMES_MAX: usize = 24;

/// What even the smallest body may cost: a topic, a reason.
const BYTES_MORE: usize = 2 * 4 * NAME_LEN_MAX;

/// Asserts what is promised of a delivery that was made of so many bytes.
pub(crate) fn parsed(parsed: &Parsed, of_bytes: usize) {
    assert!(parsed.topic.chars().count() <= NAME_LEN_MAX, "{:?}", parsed.topic);
    if let Some(id) = &parsed.id {
        assert_eq!(channels::plain_id(id).as_ref(), Some(id));
    }
    let essence = parsed.essence.as_ref().map_or(0, Vec::len);
    understood(&parsed.understood, parsed.topic.len() + essence, of_bytes);
}

/// Asserts what is promised of a page that was made of so many bytes.
pub(crate) fn page(page: &Page, of_bytes: usize) {
    let mut size = page.next.as_ref().map_or(0, String::len);
    for told in &page.told {
        assert!(told.topic.len() <= NAME_LEN_MAX);
        serde_json::from_slice::<serde_json::Value>(&told.raw).expect("it is JSON by itself");
        size += told.raw.len() + size_of(&told.understood);
        understood(&told.understood, 0, usize::MAX);
    }
    bounded(size, of_bytes);
}

/// The same of one thing that was told.
pub(crate) fn told(told: &Told, of_bytes: usize) {
    page(&Page { told: vec![told.clone()], ..Page::default() }, of_bytes);
}

/// The same of an order that there may not be.
#[expect(clippy::ref_option, reason = "what was read, as it is")]
pub(crate) fn order(order: &Option<Told>, of_bytes: usize) {
    if let Some(order) = order {
        told(order, of_bytes);
    }
}

fn bounded(size: usize, of_bytes: usize) {
    let most = of_bytes.saturating_mul(TIMES_MAX).saturating_add(BYTES_MORE);
    assert!(size <= most, "{size} bytes were made of {of_bytes}");
}

fn understood(understood: &Understood, beside: usize, of_bytes: usize) {
    bounded(beside + size_of(understood), of_bytes);
    match understood {
        Understood::Facts(facts) => {
            assert!(!facts.is_empty(), "nothing is no fact");
            facts.iter().for_each(fact);
            booked(facts);
        }
        Understood::Dead(why) => {
            assert!(!why.is_empty() && why.chars().count() <= NAME_LEN_MAX, "{why:?}");
        }
        Understood::Ignored(why) => assert!(!why.is_empty() && why.len() <= NAME_LEN_MAX),
        Understood::Confirm(url) => assert!(url.starts_with("https://sns."), "{url:?}"),
    }
}

fn size_of(understood: &Understood) -> usize {
    match understood {
        Understood::Facts(facts) => crate::codec::encode(facts).len(),
        Understood::Ignored(text) | Understood::Dead(text) | Understood::Confirm(text) => {
            text.len()
        }
    }
}

fn name(name: &str) {
    assert!(!name.is_empty() && name.len() <= NAME_LEN_MAX, "{name:?} is no name");
}

fn optional_names<const N: usize>(names: [&Option<String>; N]) {
    names.into_iter().flatten().for_each(|text| name(text));
}

fn units(units: i64) {
    assert!((0..=QUANTITY_MAX).contains(&units), "{units} units");
}

fn fact(fact: &Fact) {
    match fact {
        Fact::Image { order, lines, .. } => {
            name(order);
            assert!(lines.len() <= ORDER_LINES_MAX);
            lines.iter().for_each(line);
        }
        Fact::Removals { order, lines, .. } => {
            name(order);
            assert!(lines.len() <= ORDER_LINES_MAX);
            lines.iter().for_each(removal);
        }
        Fact::Listed { listing, sku, .. } => {
            name(listing);
            name(sku);
        }
        Fact::Shown { listing, sku, location, quantity, .. } => {
            name(listing);
            optional_names([sku, location]);
            units(quantity.saturating_abs());
        }
        Fact::Moved(told) => moved(told),
        Fact::Reload { order, .. } => name(order),
        Fact::Dead { .. }
        | Fact::Fetched { .. }
        | Fact::Polled { .. }
        | Fact::Looked { .. }
        | Fact::Escrow(_) => {
            panic!("a parser says no such thing: {fact:?}")
        }
    }
}

fn line(line: &LineImage) {
    name(&line.id);
    optional_names([&line.listing, &line.sku]);
    [line.quantity, line.fulfilled, line.returned].into_iter().for_each(units);
}

fn removal(line: &RemovalLine) {
    name(&line.id);
    name(&line.line);
    optional_names([&line.listing, &line.sku]);
    units(line.quantity);
}

fn moved(told: &Moved) {
    name(&told.id);
    optional_names([&told.listing, &told.sku, &told.location]);
    optional_names([&told.to_location, &told.reference]);
    assert!(ledger::is_quantity(told.kind, told.quantity), "{told:?}");
}

/// Asserts that the state takes these facts, and that the second time they move nothing.
fn booked(facts: &[Fact]) {
    thread_local! {
        static EMPTY: RefCell<State> = RefCell::new(one_channel());
    }
    let mut state = EMPTY.with_borrow(State::clone);
    deliver(&mut state, 1, facts);
    let levels = levels(state.data());
    deliver(&mut state, 2, facts);
    assert_eq!(levels, self::levels(state.data()), "moved again by {facts:?}");
    if let Err(why) = state::invariant::orders_are_settled(state.data()) {
        panic!("{why}, by {facts:?}");
    }
}

fn one_channel() -> State {
    let definition = Definition::new("generic", "main");
    let mut state = State::default();
    apply(&mut state, 1, Command::PutChannel { name: "shop".into(), definition });
    state
}

fn deliver(state: &mut State, sequence: u64, facts: &[Fact]) {
    let [.., last] = sequence.to_be_bytes();
    let delivery = Delivery {
        key: [last; 16],
        channel: "shop".into(),
        facts: facts.to_vec(),
        ..Delivery::default()
    };
    let segment = Segment {
        origin: Origin { node: 1, incarnation: 1 },
        lane: Lane::Urgent,
        sequence,
        durable_ms: 0,
        deliveries: vec![delivery],
    };
    apply(state, sequence + 1, Command::Segment(segment));
}

/// At the beginning of time: what a channel says of any later day is not too old.
fn apply(state: &mut State, index: u64, command: Command) -> Reply {
    state.apply(Stamp { index, now: index }, command).0
}

fn levels(data: &Data) -> Vec<(String, String, ledger::Level)> {
    let all = data.stock.iter().flat_map(|(sku, stock)| {
        stock
            .levels
            .iter()
            .map(move |(location, level)| (sku.to_string(), location.to_string(), level.clone()))
    });
    all.collect()
}
