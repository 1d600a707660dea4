//! Promise: what Odoo tells of orders, moves and quants becomes the facts that it means, once.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod support;

use channels::odoo::{self, Settings, poll};
use channels::signature::{Judged, Scheme};
use channels::{Parsed, Understood};
use serde_json::{Value, json};
use state::command::{Fact, Moved};
use state::ledger::Kind;
use state::order::LineImage;
use support::Sent;

/// 2026-11-20 15:00:00 UTC.
const THREE: u64 = 1_795_186_800_000;

macro_rules! sample {
    ($name:literal) => {
        include_str!(concat!("samples/odoo/", $name, ".json"))
    };
}

fn settings() -> Settings {
    let locations = [(8, "main"), (9, "main"), (20, "berlin")];
    Settings {
        locations: locations.map(|(id, name)| (id, name.to_string())).into(),
        customers: [5].into(),
    }
}

fn parse(body: &str) -> Parsed {
    let secret = "a-secret-of-the-path";
    let mut sent = Sent::new(body.as_bytes());
    sent.target = format!("/webhooks/test/{secret}");
    let scheme = Scheme::path_secret(&[secret]).unwrap();
    let Judged::Genuine(verified) = sent.judge(&scheme, None).unwrap() else { panic!("a ping") };
    odoo::parse(&sent.headers, verified, &settings())
}

fn moved(understood: &Understood) -> Moved {
    match understood {
        Understood::Facts(facts) => match facts.last() {
            Some(Fact::Moved(moved)) => moved.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn changed(sample: &str, field: &str, value: Value) -> String {
    let mut record: Value = serde_json::from_str(sample).unwrap();
    record[field] = value;
    record.to_string()
}

fn is_dead(understood: &Understood) -> bool {
    matches!(understood, Understood::Dead(why) if !why.is_empty())
}

// The webhook and the poll of one move must give one movement, or it would move stock twice.
#[test]
fn a_move_is_the_same_by_webhook_and_by_poll() {
    let pushed = parse(sample!("webhook_stock.move"));
    assert_eq!((pushed.topic.as_str(), pushed.id.as_ref()), ("stock.move", None));
    let pushed = moved(&pushed.understood);
    let expected = Moved {
        id: "stock.move/4455".into(),
        kind: Kind::Fulfilment,
        listing: Some("33".into()),
        sku: None,
        quantity: 2,
        location: Some("main".into()),
        to_location: None,
        reference: None,
        version: THREE,
    };
    assert_eq!(pushed, expected);

    let body = sample!("json2_stock.move_search_read_response");
    let page = poll::moves(body.as_bytes(), &settings()).unwrap();
    assert_eq!(page.newest_ms, Some(THREE));
    let Understood::Facts(facts) = &page.told[0].understood else { panic!("no facts") };
    let listed = Fact::Listed { listing: "33".into(), sku: "TEE-M".into(), version: THREE };
    let polled = Moved { reference: Some("S00057".into()), ..expected };
    assert_eq!(facts, &[listed, Fact::Moved(polled)]);
}

// A wrong kind books a receipt where a customer sent something back, or loses what was scrapped.
#[test]
fn the_locations_say_what_kind_of_move_it_is() {
    let of = |from: u64, to: u64| {
        let body = changed(sample!("webhook_stock.move"), "location_id", json!(from));
        parse(&changed(&body, "location_dest_id", json!([to, "somewhere"]))).understood
    };
    let kind = |from, to| {
        let moved = moved(&of(from, to));
        (moved.kind, moved.quantity, moved.location.unwrap(), moved.to_location)
    };
    assert_eq!(kind(4, 8), (Kind::Receipt, 2, "main".into(), None));
    assert_eq!(kind(5, 20), (Kind::Return, 2, "berlin".into(), None));
    assert_eq!(kind(8, 20), (Kind::Receipt, 2, "berlin".into(), None), "see below");
    assert_eq!(kind(20, 5), (Kind::Fulfilment, 2, "berlin".into(), None));
    assert_eq!(kind(9, 14), (Kind::Adjustment, -2, "main".into(), None));
    for (from, to) in [(8, 9), (4, 5)] {
        assert!(matches!(of(from, to), Understood::Ignored(_)), "{from} to {to}");
    }
}

// A transfer of the ledger's is on its way until its receipt; a move of Odoo's that is done has arrived.
// Without the receipt the units would never be on hand again, and one that finds another transfer's units
// would leave its own on their way for good.
#[test]
fn a_move_within_the_ledger_leaves_and_arrives() {
    let mut record: Value = serde_json::from_str(sample!("webhook_stock.move")).unwrap();
    record["location_dest_id"] = json!(20);
    record["origin"] = json!("WH/INT/0001");
    let Understood::Facts(facts) = parse(&record.to_string()).understood else { panic!("none") };
    let [Fact::Moved(left), Fact::Moved(arrived)] = &facts[..] else { panic!("{facts:?}") };
    assert_eq!((left.kind, arrived.kind), (Kind::Transfer, Kind::Receipt));
    assert_eq!((left.quantity, arrived.quantity), (2, 2));
    assert_eq!(left.location.as_deref(), Some("main"));
    assert_eq!((left.to_location.as_deref(), arrived.to_location.as_ref()), (Some("berlin"), None));
    assert_eq!(arrived.location, left.to_location);
    assert_eq!(left.reference.as_deref(), Some("stock.move/4455"));
    assert_eq!(arrived.reference, left.reference);
    assert_ne!(arrived.id, left.id);
}

// A dozen counts as one in the move's own unit, and twelve leave the shelf.
#[test]
fn a_move_in_another_unit_is_not_guessed_at() {
    let with = |product_qty: f64| {
        let body = changed(sample!("webhook_stock.move"), "product_qty", json!(product_qty));
        parse(&body).understood
    };
    assert_eq!(moved(&with(2.0)).quantity, 2);
    assert!(is_dead(&with(24.0)));
}

#[test]
fn a_move_that_is_not_done_or_not_whole_moves_nothing() {
    let of = |field, value| parse(&changed(sample!("webhook_stock.move"), field, value)).understood;
    assert!(matches!(of("state", json!("assigned")), Understood::Ignored(_)));
    assert!(matches!(of("quantity", json!(0.0)), Understood::Ignored(_)));
    for (field, value) in [
        ("quantity", json!(2.5)),
        ("quantity", json!(-2.0)),
        ("quantity", json!(1e300)),
        ("product_id", json!(false)),
        ("product_id", json!([])),
        ("location_id", json!({})),
        ("date", json!(false)),
        ("date", json!("yesterday")),
        ("state", json!(false)),
    ] {
        assert!(is_dead(&of(field, value.clone())), "{field}: {value}");
    }
}

#[test]
fn an_order_is_fetched_and_a_quant_is_not_believed() {
    let reload = |version| {
        let fact = Fact::Reload { order: "57".into(), version };
        Understood::Facts(vec![fact])
    };
    let body = sample!("webhook_sale.order");
    assert_eq!(parse(body).understood, reload(THREE));
    assert_eq!(parse(&changed(body, "write_date", json!(false))).understood, reload(0));
    let quant = parse(sample!("webhook_stock.quant")).understood;
    assert!(matches!(quant, Understood::Ignored(_)));
    for body in [r#"{"_model":"res.partner","id":1}"#, r#"{"id":1}"#, "[]", "2", "{"] {
        assert!(is_dead(&parse(body).understood), "{body}");
    }
}

// Two shelves, or two lots, of one place are one quantity.
#[test]
fn quants_of_one_place_are_added_up() {
    let quant = |location: u64, quantity: f64, reserved: f64, at: &str| {
        json!({ "id": 1, "product_id": [33, "[TEE-M] Tee"], "location_id": [location, "x"],
            "quantity": quantity, "reserved_quantity": reserved, "write_date": at })
    };
    let body = json!([
        quant(8, 19.0, 2.0, "2026-11-20 15:00:00"),
        quant(20, 0.5, 0.0, "2026-11-20 14:00:00"),
        quant(9, 4.0, 0.0, "2026-11-20 14:00:00"),
        quant(5, 100.0, 0.0, "2026-11-20 16:00:00"),
        { "id": 2 },
    ]);
    let page = poll::quants(body.to_string().as_bytes(), &settings()).unwrap();
    assert_eq!(page.newest_ms, Some(THREE + 3_600_000));
    let (shown, dead): (Vec<_>, Vec<_>) =
        page.told.into_iter().map(|told| told.understood).partition(|said| !is_dead(said));
    // Of the quant without a product, and of half a shirt.
    assert_eq!(dead.len(), 2);
    let main = Fact::Shown {
        listing: "33".into(),
        sku: None,
        location: Some("main".into()),
        quantity: 21,
        version: THREE,
    };
    assert_eq!(shown, [Understood::Facts(vec![main])]);
}

fn sale(order: &Value, lines: &Value) -> Understood {
    let (order, lines) = (json!([order]).to_string(), lines.to_string());
    poll::sale(order.as_bytes(), lines.as_bytes()).unwrap().unwrap().understood
}

#[test]
fn an_order_is_a_whole_image_of_its_products() {
    let orders = sample!("json2_sale.order_search_read_response");
    let mut order: Value = serde_json::from_str::<Value>(orders).unwrap()[0].take();
    let lines = json!([
        { "id": 81, "product_id": [33, "[TEE-M] Tee"], "product_uom_qty": 2.0, "order_id": [57, "S00057"] },
        { "id": 82, "product_id": false, "product_uom_qty": 0.0, "order_id": [57, "S00057"] },
    ]);
    // An order confirmed and cancelled within one second is cancelled, whichever image comes last.
    let image = |quantity, within_second| {
        let (id, listing) = ("81".to_string(), Some("33".to_string()));
        let lines = vec![LineImage { id, listing, quantity, ..LineImage::default() }];
        let version = THREE + within_second;
        let fact = Fact::Image { order: "57".into(), version, whole: true, lines };
        Understood::Facts(vec![fact])
    };
    assert_eq!(sale(&order, &lines), image(2, 1));
    // An order without one of its lines would free the units of that line.
    assert!(poll::sale(orders.as_bytes(), json!([lines[0]]).to_string().as_bytes()).is_err());
    assert_eq!(poll::sale(b"[]", b"[]"), Ok(None));
    assert!(poll::sale(sample!("json2_error_401").as_bytes(), b"[]").is_err());

    order["state"] = json!("cancel");
    assert_eq!(sale(&order, &lines), image(0, 2));
    order["state"] = json!("draft");
    assert!(matches!(sale(&order, &lines), Understood::Ignored(_)));
    order["state"] = json!("sale");
    order["client_order_ref"] = json!("SHOP-1001");
    assert!(matches!(sale(&order, &lines), Understood::Ignored(_)));
    order["client_order_ref"] = json!("");
    order["id"] = json!(58);
    assert!(is_dead(&sale(&order, &lines)), "lines of another order");
}

// A quantity that is pushed comes back as a stock move. If it counted, the next push would be of what the last
// one took away, and so on until nothing is left.
#[test]
fn a_pushed_quantity_moves_nothing() {
    let sample = sample!("webhook_stock.move");
    let pushed = changed(sample, "reference", json!(odoo::OWN_ADJUSTMENT));
    assert!(matches!(parse(&pushed).understood, Understood::Ignored(_)));
    let by_hand = changed(sample, "reference", json!("Product Quantity Updated (Administrator)"));
    assert!(matches!(parse(&by_hand).understood, Understood::Facts(_)));
    let mut delivery: Value = serde_json::from_str(&pushed).unwrap();
    delivery["is_inventory"] = json!(false);
    assert!(matches!(parse(&delivery.to_string()).understood, Understood::Facts(_)));
}
