//! Standard Webhooks: what is signed, and how often it is tried.

use base64::{Engine, engine::general_purpose::STANDARD};
use marketplace::{
    history::Progress,
    sender::{Kind, MoveKind, Options, Subscription},
};
use serde_json::json;

use crate::support::{Receiver, Seen, distinct, hmac_sha256, open, options, soon};

fn verify(seen: &Seen, secret: &str) {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let (id, timestamp) = (seen.header("webhook-id"), seen.header("webhook-timestamp"));
    let signed = [format!("{id}.{timestamp}.").as_bytes(), &seen.body].concat();
    let expected = format!("v1,{}", STANDARD.encode(hmac_sha256(&key, &signed)));
    assert_eq!(seen.header("webhook-signature"), expected);
}

/// A signature over anything else is refused by every receiver.
#[tokio::test]
async fn every_webhook_is_signed_with_its_id_and_time() {
    let receiver = Receiver::open(|_, _| 200).await;
    let sender = open(&receiver, options(Kind::Generic)).await;
    let order = sender.sell(&[("MUG", 2)]).unwrap();
    sender.reduce(order, "MUG", 1, true).unwrap();
    sender.ship(order).unwrap();
    sender.shift(MoveKind::Receipt, "TEE", 7).unwrap();
    soon(sender.drained()).await;
    let seen = receiver.seen();
    assert_eq!(seen.len(), 6);
    for seen in &seen {
        verify(seen, &sender.options().secret);
        assert!(!seen.header("webhook-id").contains('.'));
    }
    assert_eq!(distinct(seen.iter().map(|seen| seen.header("webhook-id"))), 6);
    let of_type = |wanted: &str| {
        let bodies = seen.iter().map(Seen::json);
        bodies.filter(|body| body["type"] == wanted).map(|body| body["data"].clone()).next()
    };
    let shipped = of_type("order.fulfilled").unwrap();
    assert_eq!((&shipped["order"], &shipped["whole"]), (&json!(order.to_string()), &json!(true)));
    assert_eq!(shipped["lines"][0]["quantity"], 1);
    assert_eq!(shipped["lines"][0]["fulfilled"], 1);
    let created = of_type("order.created").unwrap();
    assert_eq!(created["lines"][0]["quantity"], 2);
    assert!(created["version"].as_i64() < shipped["version"].as_i64());
    let moved = of_type("stock.moved").unwrap();
    assert_eq!((&moved["kind"], &moved["quantity"]), (&json!("receipt"), &json!(7)));
    let changed = of_type("stock.changed").unwrap();
    assert_eq!((&changed["sku"], changed["revision"].is_u64()), (&json!("MUG"), true));
    assert_eq!(sender.expected()["TEE"].received, 7);
}

/// A new id at each try would make every retry another sale.
#[tokio::test]
async fn tries_of_one_webhook_share_its_id() {
    let receiver = Receiver::open(|_, _| 500).await;
    let sender = open(&receiver, options(Kind::Generic)).await;
    sender.shift(MoveKind::Receipt, "MUG", 1).unwrap();
    soon(sender.drained()).await;
    let seen = receiver.seen();
    assert_eq!(seen.len(), 10, "the first try and nine more");
    assert_eq!(distinct(seen.iter().map(|seen| seen.header("webhook-id"))), 1);
    for seen in &seen {
        verify(seen, &sender.options().secret);
    }
    assert_eq!(sender.webhooks()[0].progress, Progress::GivenUp);
}

/// Retries that all come at once would test no schedule.
#[tokio::test]
async fn waits_grow_as_documented() {
    let receiver = Receiver::open(|nth, _| if nth < 4 { 500 } else { 200 }).await;
    // Five seconds, five minutes, half an hour and two hours become 1, 60, 360 and 1440 ms.
    let sender = open(&receiver, Options { time_scale: 5000.0, ..options(Kind::Generic) }).await;
    sender.shift(MoveKind::Receipt, "MUG", 1).unwrap();
    soon(sender.drained()).await;
    let seen = receiver.seen();
    let waits: Vec<_> = seen.windows(2).map(|two| (two[1].at - two[0].at).as_millis()).collect();
    assert_eq!(waits.len(), 4);
    for (wait, least) in waits.iter().zip([1, 60, 360, 1440]) {
        assert!(*wait >= least, "{waits:?}");
    }
    let timestamps = seen.iter().map(|seen| seen.header("webhook-timestamp"));
    assert!(distinct(timestamps) > 1, "each try says when it was sent");
}

/// A receiver that says 410 is gone: more requests would be refused for ever.
#[tokio::test]
async fn gone_ends_the_subscription() {
    let receiver = Receiver::open(|_, _| 410).await;
    let sender = open(&receiver, options(Kind::Generic)).await;
    sender.shift(MoveKind::Receipt, "MUG", 1).unwrap();
    soon(sender.drained()).await;
    assert_eq!(sender.subscription(), Subscription::Disabled);
    sender.sell(&[("MUG", 1)]).unwrap();
    assert_eq!((receiver.seen().len(), sender.stats().unsubscribed), (1, 2));
    sender.enable();
    assert_eq!(sender.subscription(), Subscription::Active);
}
