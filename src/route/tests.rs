use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use channels::signature::{Request, Scheme, verify};
use channels::{Parsed, Understood};
use hyper::{HeaderMap, Method};
use serde_json::Value;
use state::order::Line;

use super::*;
use crate::channel::{self, Meant};

const NOW: u64 = 1_772_000_000_000;

fn sample(path: &str) -> Vec<u8> {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("channels/tests/samples");
    fs::read(samples.join(path)).unwrap()
}

/// A config with these lines behind the node's.
fn config(more: &str) -> Config {
    let node = "[node]\nid = 1\nregion = \"eu\"\ndata_dir = \"data\"\n";
    Config::parse(&format!("{node}{more}"), Path::new("F")).unwrap()
}

fn router(more: &str) -> Router {
    Router::new(&config(more), |_, _| None)
}

fn configured(kind: &str) -> crate::config::Channel {
    let text = format!(
        "[[channel]]\nname = \"c\"\nkind = \"{kind}\"\nsecrets = [\"file:/dev/null\"]\n\
         odoo = {{ locations = {{ 8 = \"main\" }}, customers = [5] }}\nignore = [\"ping\"]\n"
    );
    let mut channel: crate::config::Channel =
        toml::from_str::<toml::Table>(&text).unwrap()["channel"][0].clone().try_into().unwrap();
    channel.meaning.odoo = channel.odoo.as_ref().unwrap().settings().unwrap();
    channel.meaning.generic.ignore.clone_from(&channel.ignore);
    channel
}

/// What a channel of this kind understands of a body.
fn parsed(kind: &str, topic: &str, raw: &[u8]) -> Parsed {
    let channel = configured(kind);
    let mut headers = HeaderMap::new();
    headers.insert("x-shopify-topic", topic.parse().unwrap());
    headers.insert("x-wc-webhook-topic", topic.parse().unwrap());
    headers.insert("x-secret", "a-secret-of-tests".parse().unwrap());
    if kind == "amazon" {
        return channels::amazon::notification(raw);
    }
    let scheme = Scheme::token("x-secret", "", &["a-secret-of-tests"]).unwrap();
    let (method, headers) = (&Method::POST, &headers);
    let request = Request { method, target: "/", headers, body: raw, now_ms: NOW };
    match verify(&scheme, &request, None).unwrap() {
        channels::signature::Judged::Genuine(body) => channel::parse(&channel, headers, body),
        channels::signature::Judged::Ping => panic!("a ping"),
    }
}

/// What a sample publishes: topic, key, lane, and the body.
fn published(
    router: &Router,
    kind: &str,
    topic: &str,
    raw: &[u8],
) -> Vec<(String, Option<String>, Lane, Value)> {
    match channel::deliver(router, "c", parsed(kind, topic, raw), raw, NOW) {
        Meant::Delivery(delivery, _) => {
            let each = delivery.publish.into_iter();
            let read = |(topic, message): (String, Publish)| {
                let body = serde_json::from_slice(&message.body).unwrap();
                (topic, message.key, message.lane, body)
            };
            each.map(read).collect()
        }
        Meant::Ignored(_) => Vec::new(),
        Meant::Confirm(url) => panic!("{url}"),
    }
}

fn topics(kind: &str, topic: &str, path: &str) -> Vec<String> {
    let told = published(&router(""), kind, topic, &sample(&format!("{kind}/{path}")));
    told.into_iter().map(|(topic, ..)| topic).collect()
}

// A worker of `orders.created` that is never told of a channel's orders, or is told of a stock count as if it
// were one, ships nothing, or the wrong thing.
#[test]
fn each_channels_deliveries_go_where_they_belong() {
    for (kind, topic, path, expected) in [
        ("shopify", "orders/create", "orders_create.json", &["orders.created"][..]),
        ("shopify", "refunds/create", "refunds_create.json", &["refunds.created"]),
        (
            "shopify",
            "inventory_levels/update",
            "inventory_levels_update.json",
            &["inventory.updates"],
        ),
        ("shopify", "products/update", "products_update.json", &["products.updated"]),
        ("shopify", "products/delete", "products_delete.json", &["products.updated"]),
        ("shopify", "shop/redact", "shop_redact.json", &[]),
        ("woocommerce", "order.created", "order.created.json", &["orders.created"]),
        (
            "woocommerce",
            "product.updated",
            "product.updated.json",
            &["inventory.updates", "products.updated"],
        ),
        ("woocommerce", "order.deleted", "order.deleted.json", &[]),
        ("amazon", "", "ORDER_CHANGE.json", &["orders.created"]),
        ("amazon", "", "LISTINGS_ITEM_MFN_QUANTITY_CHANGE.json", &["inventory.updates"]),
        ("amazon", "", "FEED_PROCESSING_FINISHED.json", &[]),
        ("ebay", "", "ORDER_CONFIRMATION.json", &[]),
        ("ebay", "", "ITEM_AVAILABILITY.json", &[]),
        ("walmart", "", "PO_CREATED.json", &["orders.created"]),
        ("walmart", "", "INVENTORY_OOS.json", &["inventory.updates"]),
        ("odoo", "", "webhook_stock.move.json", &["inventory.updates"]),
        ("odoo", "", "webhook_sale.order.json", &[]),
    ] {
        assert_eq!(topics(kind, topic, path), expected, "{kind} {path}");
    }
    let cancelled = topics("amazon", "", "ORDER_CHANGE_canceled.json");
    assert_eq!(cancelled, ["orders.created", "orders.cancelled"]);
    let cancelled = topics("shopify", "orders/cancelled", "orders_cancelled.json");
    assert!(cancelled.contains(&"orders.cancelled".to_string()), "{cancelled:?}");
    // Nothing in it says that units came back: only money did.
    let refunded = topics("woocommerce", "order.updated", "order.updated_partial_refund.json");
    assert_eq!(refunded, ["orders.created"]);
}

// Workers are written against this shape; and an order must not name people to whoever did not ask for it.
#[test]
fn a_body_says_what_the_manual_says() {
    let raw = sample("shopify/orders_create.json");
    let told = published(&router(""), "shopify", "orders/create", &raw);
    let [(_, key, queued, body)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((key.as_deref(), queued), (body["order"].as_str(), &Lane::Urgent));
    assert_eq!(body["type"], "orders.created");
    assert_eq!((&body["channel"], &body["topic"]), (&"c".into(), &"orders/create".into()));
    assert!(body["delivery"].as_str().unwrap().starts_with("c:"), "{body}");
    assert_eq!(body["received_at"], crate::clock::rfc3339(NOW));
    let line = &body["lines"][0];
    assert!(line["id"].is_string() && line["quantity"].as_i64() > Some(0), "{line}");
    assert!(body.get("payload").is_none(), "{body}");
    let with = router("[[route]]\ntopic = \"orders/*\"\nto = \"mine\"\npayload = true\n");
    let told = published(&with, "shopify", "orders/create", &raw);
    let [(topic, .., body)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(topic, "mine");
    assert_eq!(body["payload"], serde_json::from_slice::<Value>(&raw).unwrap());
}

// A body larger than a message may be would be refused by the state, and nobody would ever hear of it.
#[test]
fn what_does_not_fit_is_left_out_and_said() {
    let router = router("[[route]]\ntopic = \"*\"\nto = \"mine\"\npayload = true\n");
    let mut order: Value = serde_json::from_slice(&sample("shopify/orders_create.json")).unwrap();
    order["note"] = "n".repeat(state::limits::MESSAGE_BYTES_MAX).into();
    let told = published(&router, "shopify", "orders/create", order.to_string().as_bytes());
    let [(.., body)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(body["truncated"], true);
    assert!(body.get("payload").is_none() && body["lines"][0].is_object(), "{body}");
    let line = order["line_items"][0].clone();
    let long = |n: u64| {
        let mut line = line.clone();
        line["id"] = n.into();
        line["sku"] = "s".repeat(250).into();
        line
    };
    order["line_items"] = (1..=1_000).map(long).collect();
    let told = published(&router, "shopify", "orders/create", order.to_string().as_bytes());
    let bodies: Vec<usize> = told.iter().map(|(.., body)| body.to_string().len()).collect();
    assert!(bodies.iter().all(|len| *len <= state::limits::MESSAGE_BYTES_MAX), "{bodies:?}");
}

/// An order as the ledger knows it, with this line in it.
fn known(line: &str, quantity: i64) -> Order {
    let line_known = Line { version: 1, quantity, ..Line::default() };
    Order { lines: BTreeMap::from([(line.into(), line_known)]), ..Order::default() }
}

fn image(line: &str, quantity: i64) -> Fact {
    let lines = vec![LineImage { id: line.into(), quantity, ..LineImage::default() }];
    Fact::Image { order: "7".into(), version: 5, whole: false, lines }
}

fn events(known: Option<Order>, topic: &str, fact: Fact, raw: &str) -> Vec<String> {
    let router = Router::new(&config(""), move |_, _| known.clone());
    let parsed = Parsed::new(topic, Understood::Facts(vec![fact]));
    match channel::deliver(&router, "c", parsed, raw.as_bytes(), NOW) {
        Meant::Delivery(delivery, _) => {
            delivery.publish.into_iter().map(|(topic, _)| topic).collect()
        }
        other => panic!("{other:?}"),
    }
}

// A week after an order was told as new, an edit of it must not tell it as new again: the dedup id is forgotten
// by then. And one line cancelled of two is no cancelled order.
#[test]
fn what_the_ledger_knows_is_not_told_again() {
    assert_eq!(events(None, "poll/order", image("1", 2), ""), ["orders.created"]);
    assert_eq!(events(Some(known("1", 3)), "poll/order", image("1", 2), ""), [""; 0]);
    // A refund that came first is no image.
    let refunded = Order { lines: [("1".into(), Line::default())].into(), ..Order::default() };
    assert_eq!(events(Some(refunded), "o", image("1", 2), ""), ["orders.created"]);
    assert_eq!(events(Some(known("1", 3)), "o", image("1", 0), ""), ["orders.cancelled"]);
    assert_eq!(events(Some(known("1", 0)), "o", image("1", 0), ""), [""; 0]);
    assert_eq!(events(Some(known("2", 3)), "o", image("1", 0), ""), [""; 0]);
    // Where the order itself counts what came back.
    let line = LineImage { id: "1".into(), quantity: 2, returned: 1, ..LineImage::default() };
    let back = Fact::Image { order: "7".into(), version: 5, whole: false, lines: vec![line] };
    assert_eq!(events(Some(known("1", 2)), "o", back.clone(), ""), ["refunds.created"]);
    let mut told = known("1", 2);
    told.lines.values_mut().for_each(|line| line.returned = 1);
    assert_eq!(events(Some(told), "o", back, ""), [""; 0]);
    let unpaid = r#"{"status":"pending"}"#;
    assert_eq!(events(None, "order.created", image("1", 0), unpaid), ["orders.created"]);
}

fn refund(id: &str) -> Fact {
    let lines = vec![RemovalLine {
        id: id.into(),
        line: "1".into(),
        listing: None,
        sku: None,
        quantity: 1,
        removal: Removal::Returned,
    }];
    Fact::Removals { order: "7".into(), version: 6, lines }
}

// A refund that is told by its own webhook, by the order's next image and by a poll must be paid out once.
#[test]
fn webhook_and_poll_of_one_change_are_one_message() {
    let router = router("");
    let dedup = |topic: &str, id: &str, facts: Vec<Fact>| {
        let parsed = Parsed { id: Some(id.into()), ..Parsed::new(topic, Understood::Facts(facts)) };
        match channel::deliver(&router, "c", parsed, b"{}", NOW) {
            Meant::Delivery(delivery, _) => {
                let each = delivery.publish.into_iter();
                each.map(|(topic, message)| (topic, message.dedup.unwrap())).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        }
    };
    let created = dedup("orders/create", "1", vec![image("1", 2)]);
    let polled = dedup("poll/order", "2", vec![image("1", 1), refund("r1"), refund("r2")]);
    assert_eq!(created, polled[..1]);
    assert_eq!(dedup("refunds/create", "3", vec![refund("r1")]), polled[1..2]);
    assert_eq!(dedup("refunds/create", "4", vec![refund("r2")]), polled[2..]);
    assert_ne!(polled[1].1, polled[2].1);
    // Another channel's order of the same id is another order.
    let parsed = Parsed::new("o", Understood::Facts(vec![image("1", 2)]));
    let Meant::Delivery(other, _) = channel::deliver(&router, "d", parsed, b"{}", NOW) else {
        panic!("it is a delivery")
    };
    assert_ne!(other.publish[0].1.dedup.unwrap(), created[0].1);
}

// The first route counts; a route for one channel must not take another's deliveries; and whoever switched the
// built-in routes off pays for no messages.
#[test]
fn routes_of_the_file_come_first() {
    let more = "[queue]\nroutes = \"none\"\n\
                [[route]]\nchannel = \"other*\"\ntopic = \"*\"\nto = \"others\"\n\
                [[route]]\ntopic = \"shop/*\"\nto = \"gdpr\"\npayload = true\n\
                [[route]]\ntopic = \"orders/*\"\nto = \"first\"\n\
                [[route]]\ntopic = \"*/create\"\nto = \"second\"\n";
    let router = router(more);
    let to = |topic: &str, path: &str| {
        let told = published(&router, "shopify", topic, &sample(&format!("shopify/{path}")));
        told.into_iter().map(|(topic, .., body)| (topic, body["type"].clone())).collect::<Vec<_>>()
    };
    let went = |topic: &str, event: &str| vec![(topic.to_string(), Value::from(event))];
    assert_eq!(to("orders/create", "orders_create.json"), went("first", "orders.created"));
    assert_eq!(to("refunds/create", "refunds_create.json"), went("second", "refunds.created"));
    // It changes no stock, and was ignored before there was a route.
    assert_eq!(to("shop/redact", "shop_redact.json"), went("gdpr", "delivery"));
    assert_eq!(to("products/update", "products_update.json"), []);
}

// A dead letter that a newer release, or a setting put right, would understand stays dead, though its body is there.
#[test]
fn a_kept_body_is_read_as_it_is_understood_now() {
    for (kind, topic, path) in [
        ("shopify", "orders/create", "orders_create.json"),
        ("woocommerce", "order.created", "order.created.json"),
        ("amazon", "", "ORDER_CHANGE.json"),
    ] {
        let raw = sample(&format!("{kind}/{path}"));
        let channels::Understood::Facts(facts) = parsed(kind, topic, &raw).understood else {
            panic!("{kind}")
        };
        assert_eq!(channel::parse_again(&configured(kind), topic, &raw), Some(facts), "{kind}");
    }
    for (topic, raw) in [("orders/create", "{"), ("orders/create\n", "{}"), ("shop/redact", "{}")] {
        assert_eq!(channel::parse_again(&configured("shopify"), topic, raw.as_bytes()), None);
    }
}
