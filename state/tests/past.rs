//! What was booked can be taken back: stock as it was at any time.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test stops at what it did not expect"
)]

mod common;

use std::collections::BTreeMap;

use common::commands::{self, Taste};
use common::{Node, cases};
use proptest::prelude::*;
use proptest::sample::select;
use state::ledger::{Kind, Level, Movement, Stock};
use state::limits::LEVEL_MAX;

const KINDS: [Kind; 12] = [
    Kind::Sale,
    Kind::Cancellation,
    Kind::Fulfilment,
    Kind::Return,
    Kind::Receipt,
    Kind::Incoming,
    Kind::Transfer,
    Kind::Adjustment,
    Kind::Hold,
    Kind::Release,
    Kind::Grant,
    Kind::Surrender,
];

/// The quantities that count: a place where nothing is or is awaited is as good as none.
fn quantities(stock: &Stock) -> BTreeMap<String, Level> {
    let levels = stock.levels.iter().filter(|(_, level)| !level.is_zero());
    levels.map(|(at, level)| (at.to_string(), Level { counted: 0, ..level.clone() })).collect()
}

/// A movement that may be booked or not: few places and references, so that they meet.
fn movement() -> impl Strategy<Value = Movement> {
    let quantity = prop_oneof![9 => -3..9i64, 1 => select(vec![LEVEL_MAX, -LEVEL_MAX])];
    let location = || select(vec!["main", "outlet", ""]);
    let reference = select(vec![None, Some(""), Some("PO-1"), Some("PO-2")]);
    let parts = (select(KINDS.to_vec()), quantity, location(), location(), reference);
    parts.prop_map(|(kind, quantity, location, to, reference)| Movement {
        time: 0,
        kind,
        sku: "MUG".into(),
        quantity,
        location: location.into(),
        to_location: (kind == Kind::Transfer).then(|| to.into()),
        channel: None,
        cause: String::new(),
        reference: reference.map(Into::into),
        reason: None,
        occurred: None,
        on_hand: 0,
        available: 0,
        previous: 0,
        kit: None,
        arrived: 0,
    })
}

proptest! {
    #![proptest_config(cases(400))]

    // A receipt that takes less than it brings from what is awaited, or a transfer, taken back wrongly
    // shows units in the past that never were; a refused movement must leave nothing to take back.
    #[test]
    fn what_was_booked_is_taken_back(all in proptest::collection::vec(movement(), 1..40)) {
        let mut stock = Stock::default();
        let mut past = Vec::new();
        for mut movement in all {
            let before = stock.clone();
            let (to, reference) = (movement.to_location.as_deref(), movement.reference.as_deref());
            let booked =
                stock.book(movement.kind, movement.quantity, &movement.location, to, reference);
            if let Ok(arrived) = booked {
                movement.arrived = arrived;
                past.push((quantities(&before), movement));
            } else {
                prop_assert_eq!(&stock, &before);
            }
        }
        while let Some((before, movement)) = past.pop() {
            stock.unbook(&movement);
            prop_assert_eq!(quantities(&stock), before, "{:?}", movement);
        }
    }
}

proptest! {
    #![proptest_config(cases(64))]

    // Levels that change without a line in the ledger, or lines that say less than what they did, would
    // make every answer about the past wrong: orders, kits, reservations and counts included.
    #[test]
    fn the_ledger_alone_leads_back_to_the_beginning(
        commands in commands::commands(Taste::Sensible, 80)
    ) {
        let mut node = commands::node();

        let mut past = Vec::new();
        let levels = |node: &Node| {
            let stock = node.state.data().stock.iter();
            let all = stock.map(|(sku, stock)| (sku.to_string(), quantities(stock)));
            all.filter(|(_, levels)| !levels.is_empty()).collect::<BTreeMap<_, _>>()
        };
        for (pause, command) in commands {
            past.push((node.movements.len(), levels(&node)));
            node.now += pause;
            let command = commands::fit(&node, command);
            node.apply(command);
        }
        let mut stock: BTreeMap<String, Stock> =
            node.state.data().stock.iter().map(|(sku, stock)| (sku.to_string(), Stock::clone(stock))).collect();
        let mut lines = node.movements;
        while let Some((length, before)) = past.pop() {
            for movement in lines.drain(length..).rev() {
                stock.get_mut(&movement.sku).unwrap().unbook(&movement);
            }
            let mut found: BTreeMap<_, _> =
                stock.iter().map(|(sku, stock)| (sku.clone(), quantities(stock))).collect();
            found.retain(|_, levels| !levels.is_empty());
            prop_assert_eq!(found, before);
        }
    }
}
