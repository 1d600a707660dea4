//! Samples, what is spoilt in them at random, and what must hold of whatever is understood.
#![allow(dead_code, unreachable_pub, reason = "each test file uses some of it")]

use std::collections::BTreeSet;

use channels::Understood;
use channels::poll::Page;
use proptest::prelude::*;
use serde_json::Value;
use state::command::Fact;
use state::limits::{NAME_LEN_MAX, ORDER_LINES_MAX, QUANTITY_MAX};

fn folder(kind: &str, channel: &str) -> String {
    format!("{}/tests/{kind}/{channel}", env!("CARGO_MANIFEST_DIR"))
}

/// How a property is tried; `PROPTEST_CASES` asks for more. A failure prints what failed, so nothing is
/// written beside the tests.
pub fn cases() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

/// A sample's bytes.
pub fn sample(channel: &str, file: &str) -> Vec<u8> {
    std::fs::read(format!("{}/{file}", folder("samples", channel))).unwrap()
}

/// A sample as JSON.
pub fn sample_json(channel: &str, file: &str) -> Value {
    serde_json::from_slice(&sample(channel, file)).unwrap()
}

/// Asserts that `parsed` and `not_parsed` are all samples of a channel, and that no golden file belongs to
/// none of them.
pub fn assert_all_named(channel: &str, parsed: &[&str], not_parsed: &[(&str, &str)]) {
    let files = |kind: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(folder(kind, channel)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let named = parsed.iter().chain(not_parsed.iter().map(|(file, _)| file));
    assert_eq!(files("samples"), named.map(ToString::to_string).collect());
    assert_eq!(files("golden"), parsed.iter().map(|file| format!("{file}.txt")).collect());
}

/// A page without the bodies, for a golden file.
pub fn shown(page: &Page) -> String {
    let told: Vec<_> = page.told.iter().map(|told| (told.topic, &told.understood)).collect();
    format!("{told:#?}\nnext: {:?}\nnewest_ms: {:?}", page.next, page.newest_ms)
}

/// The facts, or a failed test.
pub fn facts(understood: Understood) -> Vec<Fact> {
    match understood {
        Understood::Facts(facts) => facts,
        other => panic!("{other:?}"),
    }
}

/// Asserts that it is a dead letter whose reason contains this.
pub fn assert_dead(understood: &Understood, reason: &str) {
    match understood {
        Understood::Dead(why) => assert!(why.contains(reason), "{why:?} does not say {reason:?}"),
        other => panic!("{other:?} is not dead for {reason:?}"),
    }
}

/// Any JSON, with the values at which readers of numbers and names break.
pub fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-3_i64..5).prop_map(Value::from),
        "[ -~]{0,12}".prop_map(Value::from),
        "-?[0-9]{1,22}(\\.[0-9]{0,3})?".prop_map(Value::from),
        (250_usize..260).prop_map(|length| Value::from("ü".repeat(length))),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-zA-Z_]{1,12}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// This JSON with up to three of its values replaced, and sometimes one of its lists repeated.
pub fn spoilt(sample: Value) -> impl Strategy<Value = Value> {
    let change = (any::<prop::sample::Index>(), any_json(), any::<bool>());
    prop::collection::vec(change, 0..4).prop_map(move |changes| {
        let mut value = sample.clone();
        for (place, replacement, repeats) in changes {
            let mut places = Vec::new();
            collect_places(&value, String::new(), &mut places);
            let place = value.pointer_mut(&places[place.index(places.len())]).unwrap();
            match place {
                Value::Array(list) if repeats => list.extend(list.clone()),
                _ => *place = replacement,
            }
        }
        value
    })
}

fn collect_places(value: &Value, place: String, places: &mut Vec<String>) {
    match value {
        Value::Array(list) => {
            let inner = list.iter().enumerate();
            inner.for_each(|(n, value)| collect_places(value, format!("{place}/{n}"), places));
        }
        Value::Object(map) => {
            // A name with a slash or a tilde would need escapes.
            let plain = map.iter().filter(|(key, _)| !key.contains(['/', '~']));
            plain.for_each(|(key, value)| collect_places(value, format!("{place}/{key}"), places));
        }
        _ => {}
    }
    places.push(place);
}

/// Asserts what the state takes for granted of whatever is understood.
pub fn assert_sound(understood: &Understood) {
    let facts = match understood {
        Understood::Facts(facts) => facts,
        Understood::Dead(why) => {
            return assert!(!why.is_empty() && why.chars().count() <= NAME_LEN_MAX, "{why:?}");
        }
        _ => return,
    };
    assert!(!facts.is_empty());
    let is_name = |name: &str| !name.is_empty() && name.len() <= NAME_LEN_MAX;
    let is_optional_name = |name: &Option<String>| name.as_deref().is_none_or(is_name);
    let is_quantity = |quantity: i64| (0..=QUANTITY_MAX).contains(&quantity);
    for fact in facts {
        match fact {
            Fact::Image { order, lines, .. } => {
                assert!(is_name(order) && lines.len() <= ORDER_LINES_MAX, "{fact:?}");
                for line in lines {
                    assert!(is_name(&line.id) && is_optional_name(&line.listing), "{fact:?}");
                    assert!(is_optional_name(&line.sku) && is_quantity(line.quantity), "{fact:?}");
                    let in_order = line.returned <= line.fulfilled;
                    assert!(in_order && line.fulfilled <= line.quantity, "{fact:?}");
                    assert!(line.returned >= 0, "{fact:?}");
                }
            }
            Fact::Listed { listing, sku, .. } => {
                assert!(is_name(listing) && is_name(sku), "{fact:?}");
            }
            Fact::Shown { listing, sku, location, quantity, .. } => {
                assert!(is_name(listing) && is_optional_name(sku), "{fact:?}");
                let is_level = (-QUANTITY_MAX..=QUANTITY_MAX).contains(quantity);
                assert!(is_optional_name(location) && is_level, "{fact:?}");
            }
            Fact::Removals { order, lines, .. } => {
                assert!(is_name(order) && !lines.is_empty(), "{fact:?}");
                assert!(lines.len() <= ORDER_LINES_MAX, "{fact:?}");
                for line in lines {
                    assert!(is_name(&line.id) && is_name(&line.line), "{fact:?}");
                    assert!(is_optional_name(&line.listing), "{fact:?}");
                    assert!(is_optional_name(&line.sku) && is_quantity(line.quantity), "{fact:?}");
                }
            }
            Fact::Reload { order, .. } => assert!(is_name(order), "{fact:?}"),
            other => panic!("these channels say no such thing: {other:?}"),
        }
    }
}
