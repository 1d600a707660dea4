#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use state::command::{
    Asked, Confirm, Delivery, Fact, MovementRequest, Movements, Segment, SkuSettings,
};
use state::escrow::told::Held;
use state::escrow::{Grant, Size};
use state::ledger::Kind;
use state::origin::{Lane, Origin};
use state::reservation::Line;
use state::{Command, Stamp};

use super::*;
use crate::channel::key;

const HOLDER: Holder = Holder { node: 1, book: 7 };
const TTL_MS: u64 = 60_000;

fn apply(state: &mut State, command: Command) {
    let index = state.data().now + 1;
    state.apply(Stamp { index, now: index }, command);
}

fn hear(state: &mut State, told: &Told) {
    let origin = Origin { node: 1, incarnation: 1 };
    let sequence = state.data().origins.last(origin, Lane::Urgent) + 1;
    let key = key(format!("{told:?}").as_bytes());
    let delivery = Delivery { key, facts: vec![Fact::Escrow(told.clone())], ..Delivery::default() };
    let deliveries = vec![delivery];
    apply(
        state,
        Command::Segment(Segment {
            origin,
            lane: Lane::Urgent,
            sequence,
            durable_ms: 0,
            deliveries,
        }),
    );
}

fn told(serial: u64, what: What) -> Told {
    let idempotency = Some((key(&serial.to_be_bytes()), key(b"body")));
    Told { holder: HOLDER, serial, at: 1, idempotency, what }
}

fn held(serial: u64, units: i64) -> Told {
    let line = Line {
        sku: "CUP".into(),
        location: "main".into(),
        parts: Vec::new(),
        held: units,
        confirmed: 0,
    };
    let id = format!("R{serial}");
    let held = Held { id, lines: vec![line], channel: None, ttl_ms: TTL_MS, reference: None };
    told(serial, What::Held(held))
}

/// Ten cups, of which six are granted to the holder, whose first serial opened its book.
fn granted() -> State {
    let mut state = State::default();
    let receipt = MovementRequest::new(key(b"r"), "r", Kind::Receipt, "CUP", 10, "main");
    let asked = Asked::Movements(Movements { atomic: false, movements: vec![receipt] });
    apply(&mut state, Command::Request { idempotency: None, asked });
    let settings = SkuSettings { escrow: Some(Size::Units(6)), ..SkuSettings::default() };
    apply(&mut state, Command::Map { sku: "CUP".into(), settings });
    hear(&mut state, &told(1, What::Opened));
    let (sku, location) = ("CUP".into(), "main".into());
    apply(&mut state, Command::Grant(vec![Grant { holder: HOLDER, sku, location, units: 6 }]));
    assert_eq!(state.data().escrow.left(HOLDER, "CUP", "main"), 6);
    state
}

fn left(book: &mut Book, state: &State) -> Option<i64> {
    let whole = book.settle(state);
    let quota = state.data().escrow.left(HOLDER, "CUP", "main");
    whole.then(|| quota - book.taken("CUP", "main"))
}

// A replica that is behind what the node told shows units that are spent; one that has caught up does not,
// and counting them off once more would lose them. Whatever it is, they are counted off once.
#[test]
fn what_was_told_is_counted_once_wherever_the_replica_is() {
    let now = Instant::now();
    let before = granted();
    let mut after = before.clone();
    let all = [held(2, 2), held(3, 1), held(4, 2)];
    // At the start the inbox has all of it, whether or not others know it: restored late, or early.
    for known in 0..=all.len() {
        let mut book = Book::new(HOLDER, 4, all.to_vec(), now);
        let mut state = before.clone();
        for told in all.iter().take(known) {
            hear(&mut state, told);
        }
        assert_eq!(left(&mut book, &state), Some(1), "{known} known");
        for told in all.iter().skip(known) {
            hear(&mut state, told);
            assert_eq!(left(&mut book, &state), Some(1));
        }
        assert!(!book.has_told() && book.all_taken() == 0);
        assert_eq!(book.next_serial(), 5);
        after = state;
    }
    // A replica that went back shows a quota as it was: nothing may be granted from that.
    let mut book = Book::new(HOLDER, 4, all.to_vec(), now);
    assert_eq!(left(&mut book, &after), Some(1));
    assert_eq!(left(&mut book, &before), None);
}

// The inbox keeps what is agreed on for a day. A replica restored from before that shows units that are spent,
// and nothing here says so: nobody may be granted them until it has caught up.
#[test]
fn a_book_with_a_gap_grants_nothing() {
    let now = Instant::now();
    let mut state = granted();
    let mut book = Book::new(HOLDER, 3, vec![held(3, 1)], now);
    assert_eq!(left(&mut book, &state), None);
    hear(&mut state, &held(2, 2));
    assert_eq!(left(&mut book, &state), Some(3));
    // The same where nothing of it is left but the number.
    let mut book = Book::new(HOLDER, 3, Vec::new(), now);
    assert_eq!(left(&mut book, &state), None);
    hear(&mut state, &held(3, 1));
    assert_eq!(left(&mut book, &state), Some(3));
    // What others told before, from another disk, is not this book's.
    let other = Told { holder: Holder { book: 8, ..HOLDER }, ..held(2, 2) };
    assert!(!Book::new(HOLDER, 0, vec![other], now).has_told());
}

// A client that lost its answer asks again, perhaps after a restart; one that is told "granted" before that is
// on the disk is told so for nothing if the power fails.
#[test]
fn a_key_is_answered_again_and_not_before_it_is_durable() {
    let (now, state) = (Instant::now(), granted());
    let mut book = Book::new(HOLDER, 1, Vec::new(), now);
    assert!(book.settle(&state));
    let (first, key) = (held(2, 2), key(&2_u64.to_be_bytes()));
    let What::Held(of_first) = &first.what else { unreachable!() };
    book.push(first.clone());
    book.note("R2", Reservation::of(HOLDER, of_first, 1), now);
    let mut again = book.before(&state, &key, now).unwrap();
    assert!(again.durable.try_recv().is_err() && again.id == "R2");
    book.written(2, true);
    assert_eq!(again.durable.try_recv(), Ok(()));
    // After a restart, with a sale of it behind it.
    let sold = What::Confirmed { id: "R2".into(), sold: vec![2], reference: None };
    let mut book = Book::new(HOLDER, 3, vec![told(3, sold), first], now);
    assert!(book.settle(&state));
    let mut again = book.before(&state, &key, now).unwrap();
    assert_eq!(again.durable.try_recv(), Ok(()));
    assert_eq!(book.known(&state, "R2", now).map(|known| known.status), Some(Status::Confirmed));
}

// A hold that ends here while somebody else has sold it would be granted once more; one that starts its time
// again and again would never end.
#[test]
fn a_hold_ends_once_by_this_clock_unless_the_cluster_has_taken_it_over() {
    let (now, mut state) = (Instant::now(), granted());
    let over = now + Duration::from_millis(TTL_MS);
    for serial in [2, 3] {
        hear(&mut state, &held(serial, 1));
    }
    // A process that knows of them from its replica alone.
    let mut book = Book::new(HOLDER, 3, Vec::new(), now);
    assert!(book.settle(&state));
    book.look(&state, now);
    book.look(&state, now + Duration::from_millis(TTL_MS / 2));
    assert!(book.over(&state, over.checked_sub(Duration::from_millis(1)).unwrap()).is_empty());
    assert_eq!(book.next_end(), Some(over));
    let asked = Asked::Confirm(Confirm { id: "R2".into(), lines: None, reference: None });
    apply(&mut state, Command::Request { idempotency: None, asked });
    assert_eq!(book.over(&state, over), ["R3"]);
    assert_eq!(book.known(&state, "R2", over), None);
    let ended = told(4, What::Expired("R3".into()));
    book.push(ended.clone());
    let mut known = book.held("R3").unwrap().clone();
    known.tell(&ended.what, 1);
    book.note("R3", known, over);
    assert!(book.over(&state, over).is_empty() && book.next_end().is_none());
    // It is left to this node again only when all know it, and then forgotten here.
    assert_eq!(left(&mut book, &state), Some(4));
    hear(&mut state, &ended);
    assert_eq!(left(&mut book, &state), Some(5));
    assert!(book.held("R3").is_none());
}
