//! What all kinds share: what they sell, what goes wrong, and that both can be repeated.

use std::time::Duration;

use marketplace::{
    Error,
    history::Progress,
    sender::{Faults, Kind, Options, Sender},
};

use crate::support::{Receiver, call, distinct, open, options, soon};

/// A channel that sells what it does not show would make every ledger look wrong.
#[tokio::test]
async fn nothing_is_sold_beyond_the_allotment() {
    let sender = Sender::start(Options { orders_per_second: 500.0, ..options(Kind::Generic) });
    let sender = sender.await.unwrap();
    soon(sender.wait_until(|stats| stats.units_sold == 15)).await;
    assert_eq!((sender.available("MUG"), sender.available("TEE")), (Some(0), Some(0)));
    assert!(matches!(sender.sell(&[("MUG", 1)]), Err(Error::OutOfStock { .. })));
    sender.stop_selling();
    let sold: i64 = sender.expected().values().map(|totals| totals.sold).sum();
    assert_eq!(sold, 15);
    sender.shutdown().await;
}

/// A cancelled or reduced order whose units do not come back would leak stock.
#[tokio::test]
async fn what_is_taken_back_is_shown_again() {
    let sender = Sender::start(options(Kind::WooCommerce)).await.unwrap();
    let order = sender.sell(&[("MUG", 4), ("TEE", 2)]).unwrap();
    sender.reduce(order, "MUG", 1, true).unwrap();
    sender.reduce(order, "TEE", 1, false).unwrap();
    assert_eq!((sender.available("MUG"), sender.available("TEE")), (Some(7), Some(3)));
    assert!(sender.reduce(order, "TEE", 2, true).is_err(), "refunded twice");
    sender.ship(order).unwrap();
    sender.reduce(order, "MUG", 3, true).unwrap();
    assert!(sender.cancel(order).is_err(), "it is shipped");
    let mug = sender.expected()["MUG"];
    assert_eq!((mug.sold, mug.cancelled, mug.fulfilled, mug.returned), (4, 1, 3, 3));
    assert_eq!((mug.taken(), mug.open()), (0, 0));
    assert_eq!(sender.available("MUG"), Some(10));
    let other = sender.sell(&[("TEE", 3)]).unwrap();
    sender.cancel(other).unwrap();
    assert_eq!(sender.available("TEE"), Some(3));
    assert!(sender.trash(order).is_err(), "only what is cancelled");
    sender.trash(other).unwrap();
    let lines = sender.expected_lines();
    assert_eq!(lines.len(), 3);
    assert!(lines.values().any(|line| *line == mug.expected()), "{lines:?}");
}

/// A fault that depends on what the network lets happen first cannot be found again by its seed.
#[tokio::test]
async fn the_same_seed_goes_wrong_in_the_same_way() {
    let run = |seed| async move {
        let receiver = Receiver::open(|_, _| 200).await;
        let faults = Faults {
            duplicate: 0.4,
            delay: 0.5,
            delay_max: Duration::from_millis(20),
            answer_lost: 0.3,
            ..Faults::default()
        };
        let sender = open(&receiver, Options { seed, faults, ..options(Kind::Generic) }).await;
        for _ in 0..5 {
            let order = sender.sell(&[("MUG", 1), ("TEE", 1)]).unwrap();
            sender.ship(order).unwrap();
        }
        soon(sender.drained()).await;
        let webhooks = sender.webhooks().into_iter();
        let story: Vec<_> = webhooks
            .map(|w| {
                let duplicates = w.attempts.iter().filter(|attempt| attempt.duplicate).count();
                (w.id, w.topic, w.attempts.len(), duplicates)
            })
            .collect();
        (story, receiver.seen().len(), sender.stats().attempts)
    };
    let (first, seen, attempts) = run(7).await;
    assert_eq!(u64::try_from(seen).unwrap(), attempts);
    assert_eq!(run(7).await.0, first);
    assert_ne!(run(8).await.0, first);
    assert!(first.iter().any(|(.., tries, duplicates)| *tries > 1 && *duplicates == 0));
    assert!(first.iter().any(|(.., duplicates)| *duplicates > 0));
}

/// A sender whose webhooks never overtake each other tests nothing of their order.
#[tokio::test]
async fn delays_change_the_order_of_arrival() {
    let receiver = Receiver::open(|_, _| 200).await;
    let faults = Faults { delay: 0.5, delay_max: Duration::from_millis(100), ..Faults::default() };
    let sender = open(&receiver, Options { faults, ..options(Kind::Generic) }).await;
    for _ in 0..10 {
        sender.sell(&[("MUG", 1)]).unwrap();
    }
    soon(sender.drained()).await;
    let sent: Vec<_> = sender.webhooks().into_iter().map(|w| format!("msg_{}", w.id)).collect();
    let seen = receiver.seen();
    let arrived: Vec<_> = seen.iter().map(|seen| seen.header("webhook-id").to_owned()).collect();
    assert_eq!(distinct(&arrived), distinct(&sent));
    assert_ne!(arrived, sent);
}

/// A retry that goes to the node that is down again would test no failover.
#[tokio::test]
async fn a_retry_goes_to_the_next_target() {
    let (first, second) = (Receiver::open(|_, _| 503).await, Receiver::open(|_, _| 200).await);
    let sender = open(&first, options(Kind::Generic)).await;
    sender.set_targets(&[first.url.clone(), second.url.clone()]).unwrap();
    sender.sell(&[("MUG", 1)]).unwrap();
    soon(sender.drained()).await;
    assert_eq!((first.seen().len(), second.seen().len()), (2, 2));
    assert!(sender.webhooks().iter().all(|w| w.progress == Progress::Acknowledged));
    assert_eq!(sender.stats().retries, 2);
}

/// An answer that is lost after the webhook was taken is what makes a sender repeat itself.
#[tokio::test]
async fn a_lost_answer_makes_a_repetition() {
    let receiver = Receiver::open(|_, _| 200).await;
    let faults = Faults { answer_lost: 1.0, ..Faults::default() };
    let sender = open(&receiver, Options { faults, ..options(Kind::Walmart) }).await;
    sender.sell(&[("MUG", 1)]).unwrap();
    soon(sender.drained()).await;
    let stats = sender.stats();
    assert_eq!((receiver.seen().len(), stats.answers_lost, stats.given_up), (3, 3, 1));
    // The seller was told, whatever the sender believes.
    assert_eq!(sender.webhooks()[0].progress, Progress::Acknowledged);
}

/// An API that never fails would test no poller.
#[tokio::test]
async fn calls_of_the_api_fail_on_order() {
    let broken = Faults { api_error: 1.0, ..Faults::default() };
    let sender = Sender::start(Options { faults: broken, ..options(Kind::WooCommerce) });
    let sender = sender.await.unwrap();
    let refused = call("GET", &sender.url(), &[], "").await.unwrap();
    assert_eq!((refused.status, &refused.headers["retry-after"]), (503, &"1".parse().unwrap()));
    sender.set_faults(Faults { api_answer_lost: 1.0, ..Faults::default() });
    assert!(call("GET", &sender.url(), &[], "").await.is_err());
    sender.set_faults(Faults::default());
    assert_eq!(call("GET", &sender.url(), &[], "").await.unwrap().status, 404);
    assert_eq!(sender.stats().call_faults, 2);
}

/// Memory that grows with every webhook ends a long demo.
#[tokio::test]
async fn the_oldest_webhooks_are_forgotten() {
    let receiver = Receiver::open(|_, _| 200).await;
    let sender = open(&receiver, Options { webhooks_kept_max: 3, ..options(Kind::Generic) }).await;
    let orders: Vec<_> = (0..3).map(|_| sender.sell(&[("MUG", 1)]).unwrap()).collect();
    soon(sender.drained()).await;
    let kept = sender.webhooks();
    assert_eq!(kept.len(), 3);
    assert_eq!(kept[1].reference, orders[2].to_string());
    assert_eq!(sender.stats().acknowledged, 6);
}

/// A setting that makes no sense must be named, not met later as a strange run.
#[tokio::test]
async fn options_that_make_no_sense_are_refused() {
    let generic = || options(Kind::Generic);
    let drops = Faults { drop: 0.1, ..Faults::default() };
    for (wrong, field) in [
        (Options { faults: drops, ..generic() }, "faults.drop"),
        (Options { secret: "plain".into(), ..generic() }, "secret"),
        (Options { time_scale: 0.0, ..generic() }, "time_scale"),
        (Options { moves_per_second: f64::NAN, ..generic() }, "moves_per_second"),
    ] {
        let refused = Sender::start(wrong).await.err().unwrap();
        assert!(matches!(refused, Error::Options { field: f, .. } if f == field), "{refused}");
    }
    let targets = vec!["https://node.example/hooks".to_owned()];
    let refused = Sender::start(Options { targets, ..generic() }).await.err().unwrap();
    assert!(matches!(refused, Error::Target(_)), "{refused}");
}
