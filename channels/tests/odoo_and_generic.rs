//! Promise: samples of Odoo and of the generic format mean what they meant, Odoo says the same on both
//! roads, and no payload of either stops the node.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod common;
#[path = "common/payloads.rs"]
mod payloads;

use channels::{Parsed, Understood, generic, odoo};
use common::{golden, parsed};
use payloads::{facts, sample, sample_json, shown};
use proptest::prelude::*;
use serde_json::{Value, json};
use state::command::Fact;

const WEBHOOKS: [&str; 3] =
    ["webhook_sale.order.json", "webhook_stock.move.json", "webhook_stock.quant.json"];
const MOVES: &str = "json2_stock.move_search_read_response.json";
const QUANTS: &str = "json2_stock.quant_search_read_response.json";
const NOT_PARSED: [(&str, &str); 5] = [
    ("json2_error_401.json", "an error of the API, read by whoever called it"),
    ("json2_sale.order_search_read_response.json", "its lines are another answer: tests/odoo.rs"),
    ("json2_stock.quant_search_read_request.json", "what we ask for, not what we are told"),
    ("jsonrpc_error_http200.json", "an error of an API that is not used here"),
    ("jsonrpc_execute_kw_request.json", "a call of an API that is not used here"),
];

fn settings() -> odoo::Settings {
    let locations = [(8, "main"), (9, "main"), (20, "berlin")];
    odoo::Settings {
        locations: locations.map(|(id, name)| (id, name.to_string())).into(),
        customers: [5].into(),
    }
}

fn of_odoo(body: &[u8]) -> Parsed {
    parsed(|headers, body| odoo::parse(headers, body, &settings()), &[], body)
}

fn of_generic(body: &[u8]) -> Parsed {
    let settings = generic::Settings::default();
    parsed(|headers, body| generic::parse(headers, body, &settings), &[("webhook-id", "w1")], body)
}

// A change of a parser that nobody meant would move other stock than yesterday.
#[test]
fn samples_mean_what_they_meant() {
    for file in WEBHOOKS {
        golden("odoo", file, &format!("{:#?}", of_odoo(&sample("odoo", file))));
    }
    let moves = odoo::poll::moves(&sample("odoo", MOVES), &settings()).unwrap();
    golden("odoo", MOVES, &shown(&moves));
    let quants = odoo::poll::quants(&sample("odoo", QUANTS), &settings()).unwrap();
    golden("odoo", QUANTS, &shown(&quants));
    let parsed = [&WEBHOOKS[..], &[MOVES, QUANTS]].concat();
    payloads::assert_all_named("odoo", &parsed, &NOT_PARSED);

    let file = "standard_webhook.json";
    golden("generic", file, &format!("{:#?}", of_generic(&sample("generic", file))));
    payloads::assert_all_named("generic", &[file], &[]);
}

/// One message of each type of the generic format.
fn any_generic() -> impl Strategy<Value = Value> {
    let line = json!({"id": "1", "line": "1", "sku": "TEE-M", "quantity": 2, "fulfilled": 1,
        "restock": "returned"});
    let order = json!({"order": "7", "version": 3, "lines": [line]});
    let moved = json!({"id": "m", "kind": "transfer", "sku": "A", "quantity": 3,
        "location": "main", "to_location": "berlin", "reference": "T1"});
    let shown = json!({"sku": "A", "location": "main", "available": 17, "revision": 42});
    let bodies = [
        ("stock.changed", &shown),
        ("stock.moved", &moved),
        ("listing.changed", &json!({"listing": 9, "sku": "A"})),
        ("order.created", &order),
        ("order.cancelled", &order),
        ("order.refunded", &order),
        ("order.fulfilled", &order),
    ]
    .map(|(kind, data)| json!({"type": kind, "timestamp": "2026-11-20T15:00:00Z", "data": data}));
    prop::sample::select(bodies.to_vec()).prop_flat_map(payloads::spoilt)
}

fn any_odoo() -> impl Strategy<Value = Value> {
    let bodies = WEBHOOKS.iter().map(|file| sample_json("odoo", file));
    let answers = [MOVES, QUANTS].map(|file| sample_json("odoo", file));
    let bodies: Vec<Value> = bodies.chain(answers).collect();
    prop::sample::select(bodies).prop_flat_map(payloads::spoilt)
}

proptest! {
    #![proptest_config(payloads::cases())]

    // A webhook of Odoo's is sent once, so every move is polled as well: if both said different things of
    // it, stock would move twice.
    #[test]
    fn both_roads_of_odoo_say_the_same(
        (id, product, units) in (1..99_u64, 1..99_u64, 1..9_i64),
        (from, to) in (prop::sample::select(vec![4, 5, 8, 9, 14, 20]), prop::sample::select(vec![4, 5, 8, 9, 14, 20])),
        state in prop::sample::select(vec!["draft", "assigned", "done", "done", "cancel"]),
        origin in prop::option::of("[A-Z]{1,4}"),
    ) {
        let origin = origin.map_or(json!(false), Value::from);
        let record = |one: &dyn Fn(u64, &str) -> Value| json!({
            "id": id, "product_id": one(product, "[TEE] Tee"), "quantity": units, "state": state,
            "location_id": one(from, "WH/Stock"), "location_dest_id": one(to, "WH/Other"),
            "origin": origin, "date": "2026-11-20 15:00:00", "write_date": "2026-11-20 15:00:01",
        });
        let mut webhook = record(&|id, _| json!(id));
        webhook["_model"] = "stock.move".into();
        let answer = json!([record(&|id, name| json!([id, name]))]);
        let pushed = of_odoo(webhook.to_string().as_bytes()).understood;
        let polled = odoo::poll::moves(answer.to_string().as_bytes(), &settings()).unwrap();
        let polled = polled.told[0].understood.clone();
        if let Understood::Facts(pushed) = pushed {
            let mut polled = facts(polled);
            let learned = Fact::Listed {
                listing: product.to_string(),
                sku: "TEE".into(),
                version: 1_795_186_800_000,
            };
            prop_assert_eq!(polled.remove(0), learned);
            prop_assert_eq!(pushed, polled);
            prop_assert!(state == "done" && from != to);
        } else {
            prop_assert_eq!(pushed, polled);
        }
    }

    // Whoever knows the secret can send anything, and no answer may stop the node either.
    #[test]
    fn any_body_is_survived(odoo in any_odoo(), generic in any_generic(), bytes: Vec<u8>) {
        let read_all = |bytes: &[u8]| {
            of_odoo(bytes);
            of_generic(bytes);
            let _ = odoo::poll::moves(bytes, &settings());
            let _ = odoo::poll::quants(bytes, &settings());
            let _ = odoo::poll::sale(bytes, bytes);
        };
        read_all(odoo.to_string().as_bytes());
        read_all(generic.to_string().as_bytes());
        read_all(&bytes);
    }
}
