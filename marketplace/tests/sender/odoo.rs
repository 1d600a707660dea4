//! Odoo: one try within a second, and everything else by reading records.

use std::{collections::BTreeMap, time::Duration};

use marketplace::{
    history::{Outcome, Progress},
    odoo::{CUSTOMERS, SCRAP, SHELF, STOCK, SUPPLIERS},
    sender::{Faults, Kind, MoveKind, Options, Sender},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{
    Answered, Receiver, Seen, add, busy, call, open, options, settle, soon, truth,
};

fn odoo() -> Options {
    options(Kind::Odoo)
}

async fn post(sender: &Sender, path: &str, arguments: &Value) -> Answered {
    let key = format!("bearer {}", sender.options().api_secret);
    let url = format!("{}/json/2/{path}", sender.url());
    call("POST", &url, &[("Authorization", &key)], &arguments.to_string()).await.unwrap()
}

async fn search(sender: &Sender, model: &str, arguments: Value) -> Vec<Value> {
    let answer = post(sender, &format!("{model}/search_read"), &arguments).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body.as_array().unwrap().clone()
}

/// A quantity: a float in JSON, with nothing after its point.
fn units(value: &Value) -> i64 {
    value.to_string().strip_suffix(".0").unwrap().parse().unwrap()
}

fn bodies(receiver: &Receiver, model: &str) -> Vec<Value> {
    let bodies = receiver.seen().into_iter().map(|seen| seen.json());
    bodies.filter(|body| body["_model"] == model).collect()
}

/// A reader written against the real shape must find all it needs, in the real types.
#[tokio::test]
async fn records_are_posted_with_sorted_keys_and_bare_ids() {
    let receiver = Receiver::open(|_, _| 200).await;
    let sender = open(&receiver, odoo()).await;
    let order = sender.sell(&[("MUG", 2)]).unwrap();
    sender.ship(order).unwrap();
    let other = sender.sell(&[("TEE", 1)]).unwrap();
    sender.cancel(other).unwrap();
    sender.shift(MoveKind::Receipt, "TEE", 4).unwrap();
    soon(sender.drained()).await;
    for seen in receiver.seen() {
        let text = String::from_utf8(seen.body.to_vec()).unwrap();
        let keys: Vec<_> = seen.json().as_object().unwrap().keys().cloned().collect();
        let places: Vec<_> = keys.iter().map(|key| text.find(&format!("\"{key}\":"))).collect();
        assert!(places.is_sorted() && keys.is_sorted() && keys[0] == "_action", "{text}");
        assert_eq!(seen.header("content-type"), "application/json");
    }
    let states: Vec<_> = bodies(&receiver, "sale.order")
        .into_iter()
        .map(|body| (body["_id"].as_u64().unwrap(), body["state"].as_str().unwrap().to_owned()))
        .collect();
    for wanted in [(order, "sale"), (other, "sale"), (other, "cancel")] {
        assert!(states.contains(&(wanted.0, wanted.1.to_owned())), "{states:?}");
    }
    let moves = bodies(&receiver, "stock.move");
    let to = |place: u64| moves.iter().find(|body| body["location_dest_id"] == place).unwrap();
    let delivery = to(CUSTOMERS);
    assert_eq!((&delivery["product_id"], &delivery["state"]), (&json!(93), &json!("done")));
    assert_eq!((&delivery["quantity"], &delivery["location_id"]), (&json!(2.0), &json!(STOCK)));
    assert_eq!(delivery["origin"], json!(format!("S{order:05}")));
    assert_eq!(to(STOCK)["location_id"], json!(SUPPLIERS));
    assert!(!bodies(&receiver, "stock.quant").is_empty());
}

/// A second try would hide that there is none, and that only polling finds what was lost.
#[tokio::test]
async fn nothing_is_sent_twice_and_nobody_is_waited_for() {
    let receiver = Receiver::open(|_, _| 500).await;
    let sender = open(&receiver, odoo()).await;
    sender.sell(&[("MUG", 1)]).unwrap();
    soon(sender.drained()).await;
    assert_eq!(receiver.seen().len(), 1);
    // It takes connections, and never answers.
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    sender.set_targets(&[format!("http://{}/hooks/x", deaf.local_addr().unwrap())]).unwrap();
    sender.sell(&[("MUG", 1)]).unwrap();
    soon(sender.drained()).await;
    let webhook = sender.webhooks().remove(1);
    assert_eq!((webhook.progress, webhook.attempts.len()), (Progress::GivenUp, 1));
    assert_eq!(webhook.attempts[0].outcome, Outcome::TimedOut);
    assert!(webhook.attempts[0].took < Duration::from_secs(3), "it waits for one second");
}

/// Moves that do not add up to the shelves would be blamed on whoever reads them.
#[tokio::test]
async fn moves_add_up_to_quants() {
    let sender = Sender::start(odoo()).await.unwrap();
    let order = sender.sell(&[("MUG", 3), ("TEE", 1)]).unwrap();
    sender.sell(&[("MUG", 2)]).unwrap();
    sender.ship(order).unwrap();
    sender.shift(MoveKind::Receipt, "MUG", 8).unwrap();
    sender.shift(MoveKind::Transfer, "MUG", 5).unwrap();
    sender.shift(MoveKind::Scrap, "MUG", 2).unwrap();
    assert!(sender.shift(MoveKind::Scrap, "MUG", 2).is_err(), "one that was received is left");
    assert!(sender.shift(MoveKind::Scrap, "TEE", 1).is_err(), "the allotment is for customers");
    let done = json!({"domain": [["state", "=", "done"]]});
    // Before any move, ten mugs and five tees lay on the main shelf.
    let mut shelves = BTreeMap::from([((93, STOCK), 10), ((94, STOCK), 5)]);
    for record in search(&sender, "stock.move", done).await {
        let id = |name: &str| record[name][0].as_u64().unwrap();
        let units = units(&record["quantity"]);
        *shelves.entry((id("product_id"), id("location_id"))).or_default() -= units;
        *shelves.entry((id("product_id"), id("location_dest_id"))).or_default() += units;
    }
    assert_eq!(shelves[&(93, SCRAP)], 2);
    let internal = json!({"domain": [["location_id.usage", "=", "internal"]]});
    let quants = search(&sender, "stock.quant", internal).await;
    assert_eq!(quants.len(), 3);
    for quant in quants {
        let id = |name: &str| quant[name][0].as_u64().unwrap();
        let wanted = shelves[&(id("product_id"), id("location_id"))];
        assert_eq!(units(&quant["quantity"]), wanted, "{quant}");
        let reserved = if id("location_id") == STOCK && id("product_id") == 93 { 2 } else { 0 };
        assert_eq!(units(&quant["reserved_quantity"]), reserved, "{quant}");
    }
    let shelf = json!({"domain": [["location_id", "=", SHELF]], "fields": ["quantity"]});
    assert_eq!(search(&sender, "stock.quant", shelf).await[0]["quantity"], 5.0);
    let mug = sender.expected()["MUG"];
    assert_eq!((mug.received, mug.adjusted, mug.fulfilled), (8, -2, 3));
}

/// What was dropped must be found by polling, or stock is lost.
#[tokio::test]
async fn the_api_adds_up_to_what_is_expected() {
    let receiver = Receiver::open(|_, _| 200).await;
    let sender = open(&receiver, Options { moves_per_second: 200.0, ..busy(Kind::Odoo) }).await;
    soon(sender.wait_until(|stats| stats.moves > 20)).await;
    settle(&sender, false).await;
    let (mut sums, mut last) = (BTreeMap::new(), 0);
    loop {
        let page = json!({"domain": [["id", ">", last]], "order": "id", "limit": 3});
        let page = search(&sender, "sale.order.line", page).await;
        let Some(end) = page.last() else { break };
        last = end["id"].as_u64().unwrap();
        for line in &page {
            let sold = units(&line["product_uom_qty"]);
            let cancelled = if line["state"] == "cancel" { sold } else { 0 };
            let sku = if line["product_id"][0] == 93 { "MUG" } else { "TEE" };
            add(&mut sums, sku, [sold, cancelled, 0, units(&line["qty_delivered"])]);
        }
    }
    assert_eq!(sums, truth(&sender));
    let totals = sender.expected();
    let own =
        json!({"domain": ["|", ["location_id", "=", SUPPLIERS], ["location_dest_id", "=", SCRAP]]});
    let mut others = 0;
    for record in search(&sender, "stock.move", own).await {
        let sign = if record["location_id"][0] == SUPPLIERS { 1 } else { -1 };
        others += sign * units(&record["quantity"]);
    }
    let expected: i64 = totals.values().map(|totals| totals.received + totals.adjusted).sum();
    assert_eq!(others, expected);
}

/// A domain that is read wrongly, or ignored, would be blamed on the poller.
#[tokio::test]
async fn the_api_searches_and_refuses() {
    let sender = Sender::start(odoo()).await.unwrap();
    let first = sender.sell(&[("MUG", 1)]).unwrap();
    let second = sender.sell(&[("TEE", 1)]).unwrap();
    sender.cancel(first).unwrap();
    let found = |domain: Value| {
        let sender = &sender;
        async move {
            let arguments = json!({"domain": domain, "fields": ["id"], "order": "id"});
            let found = search(sender, "sale.order", arguments).await;
            found.into_iter().map(|record| record["id"].as_u64().unwrap()).collect::<Vec<_>>()
        }
    };
    assert_eq!(found(json!([])).await, [first, second]);
    assert_eq!(
        found(json!([["state", "=", "sale"], ["client_order_ref", "=", false]])).await,
        [second]
    );
    assert_eq!(found(json!([["state", "in", ["cancel", "draft"]]])).await, [first]);
    assert_eq!(found(json!(["!", ["id", ">", first]])).await, [first]);
    let either =
        json!(["|", ["id", "=", first], "&", ["id", "=", second], ["state", "!=", "sale"]]);
    assert_eq!(found(either).await, [first]);
    assert_eq!(found(json!([["write_date", ">=", "2999-01-01 00:00:00"]])).await, [0_u64; 0]);
    // The database knows fractions of a second that the answer does not show.
    let newest = json!({"order": "write_date desc", "limit": 1});
    let newest = search(&sender, "sale.order", newest).await.remove(0);
    assert_eq!((&newest["id"], &newest["client_order_ref"]), (&json!(first), &json!(false)));
    assert!(found(json!([["write_date", ">=", newest["write_date"]]])).await.contains(&first));
    let paged = json!({"order": "write_date,id", "offset": 1, "limit": 5, "context": {}});
    assert_eq!(search(&sender, "sale.order", paged).await.len(), 1);
    let tee = json!({"ids": [94], "fields": ["default_code"]});
    let read = post(&sender, "product.product/read", &tee).await;
    assert_eq!(read.body, json!([{"id": 94, "default_code": "TEE"}]));
    let count = post(&sender, "stock.move/search_count", &json!({"domain": []})).await;
    assert_eq!(count.body, 2);
    for (path, arguments, status) in [
        ("sale.order/search_read", json!({"domain": [["x", "=", 1]]}), 422),
        ("sale.order/search_read", json!({"domain": [["id", "~", 1]]}), 422),
        ("sale.order/search_read", json!({"domain": ["|", ["id", "=", 1]]}), 422),
        ("sale.order/search_read", json!({"filter": []}), 422),
        ("sale.order/unlink", json!({"ids": [1]}), 404),
        ("res.partner/search_read", json!({}), 404),
    ] {
        let refused = post(&sender, path, &arguments).await;
        assert_eq!((refused.status, refused.body["name"].is_string()), (status, true), "{path}");
    }
    let url = format!("{}/json/2/sale.order/search_read", sender.url());
    assert_eq!(call("POST", &url, &[], "{}").await.unwrap().status, 401);
    assert_eq!(call("GET", &url, &[], "").await.unwrap().status, 404);
}

/// A closed channel that goes on sending, or that never ends, would hang the demo.
#[tokio::test]
async fn it_shuts_down_while_it_is_busy() {
    let receiver = Receiver::open(|_, _: &Seen| 200).await;
    let faults = Faults { delay: 1.0, delay_max: Duration::from_secs(600), ..Faults::default() };
    let sender = open(&receiver, Options { faults, orders_per_second: 100.0, ..odoo() }).await;
    soon(sender.wait_until(|stats| stats.orders >= 3)).await;
    assert!(!sender.is_idle());
    soon(sender.shutdown()).await;
    let orders = sender.stats().orders;
    let refused = call("GET", &sender.url(), &[], "").await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(sender.stats().orders, orders);
}
