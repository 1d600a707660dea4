//! Promise: what Walmart says of orders is understood, in webhooks and answers alike.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod common;
#[path = "common/payloads.rs"]
mod payloads;

use std::collections::BTreeMap;

use channels::walmart::{parse, poll};
use channels::{Parsed, Understood};
use common::{golden, parsed};
use payloads::{assert_dead, assert_sound, facts, sample, sample_json};
use proptest::prelude::*;
use serde_json::{Value, json};
use state::command::Fact;
use state::order::LineImage;

const WEBHOOKS: [&str; 5] = [
    "INTENT_TO_CANCEL.json",
    "INVENTORY_OOS.json",
    "ORDER_UPDATES.json",
    "PO_CREATED.json",
    "PO_LINE_AUTOCANCELLED.json",
];

const NOT_PARSED: [(&str, &str); 5] = [
    ("error.json", "an error of the API, read by whoever called it"),
    ("feed_accepted.json", "an answer to a push"),
    ("feed_status.json", "an answer to a push"),
    ("get_inventories_page.json", "quantities read back after a push, not orders"),
    ("subscribe_request.json", "what we ask for, not what we are told"),
];

fn of(body: &Value) -> Parsed {
    parsed(parse, &[], body.to_string().as_bytes())
}

/// The sample `PO_CREATED` with this done to it.
fn created_with(change: impl Fn(&mut Value)) -> Value {
    let mut told = sample_json("walmart", "PO_CREATED.json");
    change(&mut told);
    told
}

/// The lines of all images among the facts, each with its version.
fn lines(facts: &[Fact]) -> Vec<(u64, LineImage)> {
    let of_fact = |fact: &Fact| match fact {
        Fact::Image { order, version, whole: false, lines } => {
            assert_eq!(order, "4791254512345");
            lines.iter().map(|line| (*version, line.clone())).collect()
        }
        _ => Vec::new(),
    };
    facts.iter().flat_map(of_fact).collect()
}

fn line_of(told: &Value) -> LineImage {
    lines(&facts(of(told).understood)).remove(0).1
}

/// The number of a line, the time of its status, and its parts by status.
type ApiLine<'a> = (&'a str, u64, &'a [(&'a str, i64)]);

/// An order as the API shows it.
fn api_order(lines: &[ApiLine<'_>]) -> Value {
    let quantity = |units: i64| json!({"unitOfMeasurement": "EACH", "amount": units.to_string()});
    let line = |(number, date, parts): &ApiLine<'_>| {
        let statuses = parts
            .iter()
            .map(|(status, units)| json!({"status": status, "statusQuantity": quantity(*units)}));
        json!({
            "lineNumber": number,
            "item": {"productName": "Tee M", "sku": format!("SKU-{number}")},
            "orderLineQuantity": quantity(parts.iter().map(|(_, units)| units).sum()),
            "statusDate": date,
            "orderLineStatuses": {"orderLineStatus": statuses.collect::<Vec<_>>()},
        })
    };
    json!({
        "purchaseOrderId": "4791254512345",
        "orderDate": 1_795_186_740_000_u64,
        "orderLines": {"orderLine": lines.iter().map(line).collect::<Vec<_>>()},
        "shipNode": {"type": "SellerFulfilled"},
    })
}

fn api_page(orders: &[Value]) -> Value {
    json!({"list": {"meta": {"totalCount": orders.len(), "limit": 100},
        "elements": {"order": orders}}})
}

fn api_facts(order: &Value) -> Understood {
    poll::order(json!({"order": order}).to_string().as_bytes()).unwrap().understood
}

// A change of a parser that nobody meant would move other stock than yesterday.
#[test]
fn samples_mean_what_they_meant() {
    for file in WEBHOOKS {
        let parsed = parsed(parse, &[], &sample("walmart", file));
        golden("walmart", file, &format!("{parsed:#?}"));
    }
    payloads::assert_all_named("walmart", &WEBHOOKS, &NOT_PARSED);
}

// The kind of an update stands in one of two places, and so does the order: read from one only, every
// order of the other half would be lost.
#[test]
fn an_update_is_found_wherever_it_stands() {
    let order = sample_json("walmart", "PO_CREATED.json")["payload"].clone();
    let plain = |payload: Value| {
        created_with(|told| {
            told["source"]["eventType"] = "ORDER_UPDATES".into();
            told["payload"] = payload.clone();
        })
    };
    let mut flat = order.clone();
    flat["subEventType"] = "PO_CREATED".into();
    let expected = facts(of(&created_with(|_| ())).understood);
    for payload in [
        json!({"subEventType": "PO_CREATED", "order": order}),
        json!({"meta": {"subEventType": "PO_CREATED"}, "order": order}),
        flat,
    ] {
        let parsed = of(&plain(payload));
        assert_eq!(parsed.topic, "ORDER_UPDATES/PO_CREATED");
        assert_eq!(facts(parsed.understood), expected);
    }
    // A kind that will be added: an order in it is an order, and anything else is not for us.
    let added = |payload: Value| of(&plain(payload)).understood;
    assert_eq!(facts(added(json!({"subEventType": "PO_MOVED", "order": order}))), expected);
    let ignored = added(json!({"subEventType": "PO_MOVED", "note": 1}));
    assert!(matches!(ignored, Understood::Ignored(_)), "{ignored:?}");
    // But a kind that is known, or none, without an order is a fault.
    assert_dead(&added(json!({"subEventType": "PO_CREATED"})), "unexpected shape");
    assert_dead(&added(json!({"meta": {}})), "unexpected shape");
}

// A request to cancel that freed stock would sell what the seller then ships.
#[test]
fn stock_is_freed_by_a_status_alone() {
    let intent = |status: &str| {
        line_of(&created_with(|told| {
            told["source"]["eventType"] = "ORDER_INTENT_TO_CANCEL".into();
            told["payload"]["orderLines"][0]["status"] = status.into();
        }))
        .quantity
    };
    assert_eq!(intent("ACKNOWLEDGED"), 2);
    assert_eq!(intent("INTENT_TO_CANCEL"), 2);
    assert_eq!(intent("CANCELLED"), 0);
    // The name of the event says cancelled, and no line does: somebody must ask.
    for event in ["PO_LINE_AUTOCANCELLED", "FRAUD_CANCEL"] {
        let told = |status: &str| {
            let told = created_with(|told| {
                told["source"]["eventType"] = event.into();
                told["payload"]["orderLines"][0]["status"] = status.into();
            });
            facts(of(&told).understood)
        };
        let reload = Fact::Reload { order: "4791254512345".into(), version: 1_795_186_800_000 };
        assert_eq!(told("ACKNOWLEDGED").last(), Some(&reload), "{event}");
        assert_eq!(told("CANCELLED").len(), 1, "{event}");
    }
}

// Webhooks shout their statuses and the API does not.
#[test]
fn a_status_is_one_in_any_case() {
    let line = |status: &str| {
        let line = line_of(&created_with(|told| {
            told["payload"]["orderLines"][0]["status"] = status.into();
        }));
        (line.quantity, line.fulfilled)
    };
    for (status, expected) in [
        ("CREATED", (2, 0)),
        ("Acknowledged", (2, 0)),
        ("UNHEARD_OF", (2, 0)),
        ("SHIPPED", (2, 2)),
        ("Delivered", (2, 2)),
        ("Refund", (2, 2)),
        ("CANCELLED", (0, 0)),
        ("Cancelled", (0, 0)),
    ] {
        assert_eq!(line(status), expected, "{status}");
    }
}

// Stock in Walmart's own warehouses is not the seller's to count down.
#[test]
fn stock_of_others_does_not_move() {
    let on_order =
        |kind: &str| of(&created_with(|told| told["payload"]["shipNodeType"] = kind.into()));
    for kind in ["WFSFulfilled", "3PLFulfilled"] {
        let told = on_order(kind).understood;
        assert!(matches!(told, Understood::Ignored(_)), "{kind}: {told:?}");
        let mut order = api_order(&[("1", 5, &[("Created", 2)])]);
        order["shipNode"]["type"] = kind.into();
        assert!(matches!(api_facts(&order), Understood::Ignored(_)));
    }
    facts(on_order("SELLERFULFILLED").understood);
    // The line's own word counts before the order's.
    let mixed = created_with(|told| {
        let mut other = told["payload"]["orderLines"][0].clone();
        other["lineNumber"] = "2".into();
        other["shipNodeType"] = "WFSFulfilled".into();
        told["payload"]["orderLines"].as_array_mut().unwrap().push(other);
    });
    let lines = lines(&facts(of(&mixed).understood));
    assert_eq!(lines.iter().map(|(_, line)| line.id.as_str()).collect::<Vec<_>>(), ["1"]);
}

// Lines change at times of their own: one version for all would let an old line overrule a new one.
#[test]
fn each_line_has_its_own_version() {
    let told = created_with(|told| {
        let mut other = told["payload"]["orderLines"][0].clone();
        other["lineNumber"] = "2".into();
        other["statusDate"] = "2026-11-20T14:00:00.000Z".into();
        let mut third = other.clone();
        third["lineNumber"] = 3.into();
        third.as_object_mut().unwrap().remove("statusDate");
        let lines = told["payload"]["orderLines"].as_array_mut().unwrap();
        lines.extend([other, third]);
    });
    let facts = facts(of(&told).understood);
    assert_eq!(facts.len(), 2, "{facts:?}");
    let (now, before) = (1_795_186_800_000, 1_795_183_200_000);
    let versions: Vec<(u64, String)> =
        lines(&facts).into_iter().map(|(version, line)| (version, line.id)).collect();
    let expected = [(before, "2"), (now, "1"), (now, "3")];
    assert_eq!(versions, expected.map(|(version, id)| (version, id.to_string())));
}

// A line of several statuses is partly cancelled, partly shipped; any one of them alone is wrong.
#[test]
fn a_line_is_the_sum_of_its_parts() {
    let line = |parts: &[(&str, i64)]| {
        let order = api_order(&[("1", 5, parts)]);
        let (version, line) = lines(&facts(api_facts(&order))).remove(0);
        assert_eq!((version, line.sku.as_deref()), (5, Some("SKU-1")));
        (line.quantity, line.fulfilled)
    };
    assert_eq!(line(&[("Created", 3)]), (3, 0));
    assert_eq!(line(&[("Created", 1), ("Cancelled", 2)]), (1, 0));
    assert_eq!(line(&[("Shipped", 1), ("Delivered", 1), ("Acknowledged", 2)]), (4, 2));
    assert_eq!(line(&[("Cancelled", 1), ("Shipped", 2)]), (2, 2));
    assert_eq!(line(&[("Cancelled", 3)]), (0, 0));
    // A webhook has one status an entry, so that a line may stand in several, as old as the newest.
    let parted = created_with(|told| {
        let mut part = told["payload"]["orderLines"][0].clone();
        part["quantity"]["measurementValue"] = "1".into();
        part["status"] = "SHIPPED".into();
        part["statusDate"] = "2026-11-20T15:00:00.500Z".into();
        told["payload"]["orderLines"].as_array_mut().unwrap().push(part);
    });
    let parted = lines(&facts(of(&parted).understood));
    let [(version, line)] = &parted[..] else { panic!("{parted:?}") };
    let counted = (*version, line.quantity, line.fulfilled);
    assert_eq!(counted, (1_795_186_800_500, 3, 1));
    // A status without a count is that of the whole line.
    let mut order = api_order(&[("1", 5, &[("Cancelled", 3)])]);
    let status =
        &mut order["orderLines"]["orderLine"][0]["orderLineStatuses"]["orderLineStatus"][0];
    status.as_object_mut().unwrap().remove("statusQuantity");
    assert_eq!(lines(&facts(api_facts(&order)))[0].1.quantity, 0);
}

// Quantities are numbers in strings; one that is none must not become a zero.
#[test]
fn a_quantity_is_whole_or_dead() {
    let with = |quantity: Value| {
        created_with(|told| {
            told["payload"]["orderLines"][0]["quantity"]["measurementValue"] = quantity.clone();
        })
    };
    for two in [json!("2"), json!("2.0"), json!(" 2 "), json!(2)] {
        assert_eq!(line_of(&with(two)).quantity, 2);
    }
    for bad in [json!("two"), json!("2.5"), json!("-2"), json!(""), json!("9999999999")] {
        assert_dead(&of(&with(bad)).understood, "measurementValue");
    }
}

// Events about offers come by the thousand and must not fill the dead letters; one that nobody knows may
// be about stock and must not vanish.
#[test]
fn an_event_is_known_or_dead() {
    let event = |event: &str| {
        of(&json!({"source": {"eventType": event,
        "eventTime": "2026-11-20T15:00:00.000Z", "eventId": "5"}, "payload": {}}))
    };
    for known in [
        "OFFER_UNPUBLISHED",
        "ITEM_CREATED",
        "BUY_BOX_CHANGED",
        "REPORT_STATUS",
        "SELLER_PERFORMANCE_NOTIFICATIONS",
        "RETURN_CREATED",
    ] {
        assert!(matches!(event(known).understood, Understood::Ignored(_)), "{known}");
    }
    assert_dead(&event("PO_REROUTED").understood, "unknown");
    // The SKU is a guess about its members: without one it must be kept.
    assert_dead(&event("INVENTORY_OOS").understood, "sku");
    assert_dead(&event("PO_CREATED").understood, "unexpected shape");
    assert_eq!(event("PO_CREATED").id.as_deref(), Some("5"));
    assert_dead(&parsed(parse, &[], b"{\"source\":{}}").understood, "unexpected shape");
}

// An error taken for an empty page would move the cursor past orders that nobody has seen.
#[test]
fn an_answer_that_is_no_page_is_an_error() {
    for answer in [&sample("walmart", "error.json")[..], b"<html>", b"[]", b"{}", b""] {
        assert!(poll::orders(answer).is_err());
        assert!(poll::order(answer).is_err());
    }
    let next = "?limit=10&hasMoreElements=true&soIndex=31&poIndex=10";
    let page = |cursor: Value| {
        let page = json!({"list": {"meta": {"nextCursor": cursor}, "elements": null}});
        poll::orders(page.to_string().as_bytes()).unwrap()
    };
    assert_eq!(page(json!(next)).next.as_deref(), Some(next));
    assert_eq!((page(json!("")).next, page(Value::Null).next), (None, None));
}

// One order that is not understood must neither hide its neighbours nor hold the cursor back.
#[test]
fn a_page_survives_a_bad_order() {
    let mut bad = api_order(&[("1", 7, &[("Created", 1)]), ("2", 9, &[("Created", 1)])]);
    bad["orderLines"]["orderLine"][0]["orderLineQuantity"]["amount"] = "1.5".into();
    let good = api_order(&[("1", 5, &[("Created", 2)])]);
    let page = poll::orders(api_page(&[bad, good]).to_string().as_bytes()).unwrap();
    assert_eq!(page.newest_ms, Some(9));
    assert_dead(&page.told[0].understood, "amount");
    assert_eq!(lines(&facts(page.told[1].understood.clone()))[0].1.quantity, 2);
    let many = api_order(&vec![("1", 5, &[("Created", 1)][..]); 1001]);
    assert_dead(&api_facts(&many), "more than 1000 lines");
}

#[derive(Clone, Debug)]
struct Change {
    line: usize,
    units: i64,
    from: usize,
    to: usize,
}

const STATUSES: [&str; 5] = ["Created", "Acknowledged", "Shipped", "Delivered", "Cancelled"];

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = (0_usize..3, 1_i64..4, 0_usize..4, 1_usize..5)
        .prop_map(|(line, units, from, to)| Change { line, units, from, to });
    prop::collection::vec(change, 1..14)
}

/// Units of each line by status, and when the line changed.
type Lines = [([i64; 5], u64); 3];

/// As the API shows it, with the statuses of a line beside each other.
fn answered(state: &Lines) -> Value {
    let parts: Vec<Vec<(&str, i64)>> = state
        .iter()
        .map(|(units, _)| STATUSES.into_iter().zip(*units).filter(|(_, n)| *n > 0).collect())
        .collect();
    let lines = ["1", "2", "3"].into_iter().zip(state).zip(&parts);
    let lines: Vec<_> = lines.map(|((n, (_, date)), parts)| (n, *date, &parts[..])).collect();
    api_order(&lines)
}

/// As a webhook shows it: one status an entry, so that the parts of a line are entries of their own.
fn told(state: &Lines) -> Value {
    let mut entries = Vec::new();
    for (n, (units, date)) in (1..).zip(state) {
        let date = jiff::Timestamp::from_millisecond(i64::try_from(*date).unwrap()).unwrap();
        for (status, units) in STATUSES.into_iter().zip(units).filter(|(_, n)| **n > 0) {
            entries.push(json!({"lineNumber": n.to_string(), "sku": format!("SKU-{n}"),
                "quantity": {"unitOfMeasure": "EACH", "measurementValue": units.to_string()},
                "status": status.to_uppercase(), "statusDate": date.to_string()}));
        }
    }
    created_with(|told| {
        told["source"]["eventType"] = "ORDER_UPDATES".into();
        let mut order = told["payload"].clone();
        order["orderLines"] = entries.clone().into();
        told["payload"] = json!({"meta": {"subEventType": "PO_CREATED"}, "order": order});
    })
}

proptest! {
    #![proptest_config(payloads::cases())]

    // The same change heard twice, as a webhook and by polling, must be the same facts, or it would move
    // stock twice; and they must be what is left of each line.
    #[test]
    fn a_webhook_and_an_answer_say_the_same(changes in changes()) {
        let mut now = 1_795_186_800_000;
        let mut state: Lines = [1, 2, 3].map(|ordered| ([ordered, 0, 0, 0, 0], now));
        for change in changes {
            let (units, date) = &mut state[change.line];
            let moved = change.units.min(units[change.from]);
            // What is shipped is not cancelled, and nothing goes back to an earlier status.
            if moved > 0 && change.from < change.to && (change.to < 4 || change.from < 2) {
                now += 1_500;
                *date = now;
                units[change.from] -= moved;
                units[change.to] += moved;
            }
            let webhook = facts(of(&told(&state)).understood);
            let page = api_page(&[answered(&state)]).to_string();
            let page = poll::orders(page.as_bytes()).unwrap();
            prop_assert_eq!(&webhook, &facts(page.told[0].understood.clone()));
            prop_assert_eq!(&webhook, &facts(api_facts(&answered(&state))));
            prop_assert_eq!(page.newest_ms, state.iter().map(|(_, date)| *date).max());
            let said: BTreeMap<String, (u64, i64, i64)> = lines(&webhook)
                .into_iter()
                .map(|(version, line)| (line.id, (version, line.quantity, line.fulfilled)))
                .collect();
            let expected = (1..).zip(&state).map(|(n, (units, date))| {
                let left: i64 = units[..4].iter().sum();
                (n.to_string(), (*date, left, units[2] + units[3]))
            });
            prop_assert_eq!(said, expected.collect());
        }
    }

    // A stranger's bytes must not stop the node, nor put into the log what the state cannot keep.
    #[test]
    fn nothing_panics_over_bytes(body in prop::collection::vec(any::<u8>(), 1..200)) {
        assert_sound(&parsed(parse, &[], &body).understood);
        let _ = poll::orders(&body);
        let _ = poll::order(&body);
    }

    #[test]
    fn nothing_panics_over_json(
        told in (0..WEBHOOKS.len())
            .prop_flat_map(|n| payloads::spoilt(sample_json("walmart", WEBHOOKS[n]))),
        order in payloads::spoilt(api_order(&[
            ("1", 5, &[("Created", 1), ("Cancelled", 2)]),
            ("2", 7, &[("Shipped", 1)]),
        ])),
    ) {
        assert_sound(&of(&told).understood);
        assert_sound(&api_facts(&order));
        if let Ok(page) = poll::orders(api_page(&[order]).to_string().as_bytes()) {
            page.told.iter().for_each(|told| assert_sound(&told.understood));
        }
    }
}
