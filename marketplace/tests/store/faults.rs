//! Outages on order: each must look to the caller as the real one does, and say the truth in the
//! history.

use std::time::Duration;

use marketplace::{Faults, Options, Outage};
use tokio::time::{Instant, timeout};

use crate::support::{call, input, mutation, open, options, push, row, soon};

/// The worst case of a push: it was carried out, and nobody says so. The same key must find that out.
#[tokio::test]
async fn a_time_out_after_apply_has_applied() {
    let store = open(options()).await;
    store.set_outage(Outage::TimeoutAfterApply);
    let body = mutation("k1", &input(&[row(1, 7, 10)]));
    let unanswered = call(&store, &body);
    let gave_up = async {
        store.wait_until(|stats| stats.pushes == 1).await;
        // It is carried out, so from here on an answer could come; none does.
    };
    tokio::select! {
        biased;
        _ = timeout(Duration::from_secs(30), unanswered) => panic!("answered, or never applied"),
        () = gave_up => {}
    }
    assert_eq!(store.available("MUG"), Some(7));
    store.set_outage(Outage::None);
    let again = call(&store, &body).await.unwrap();
    assert_eq!(again.user_errors(), vec![]);
    assert_eq!((store.stats().pushes, store.stats().replayed), (1, 1));
    assert_eq!(store.history().pushes.len(), 1);
}

/// A caller that stays on the line is cut off when the outage ends, not answered late.
#[tokio::test]
async fn an_unanswered_call_is_cut_when_the_outage_ends() {
    let store = open(options()).await;
    store.set_outage(Outage::TimeoutAfterApply);
    let body = mutation("k1", &input(&[row(1, 7, 10)]));
    let ends = async {
        store.wait_until(|stats| stats.pushes == 1).await;
        store.set_outage(Outage::None);
    };
    let (answer, ()) = soon(async { tokio::join!(call(&store, &body), ends) }).await;
    assert!(answer.is_err());
}

/// A connection that drops after the push was carried out looks like one that dropped before.
#[tokio::test]
async fn a_drop_after_apply_has_applied() {
    let store = open(options()).await;
    store.set_outage(Outage::DropAfterApply);
    let body = mutation("k1", &input(&[row(1, 7, 10)]));
    assert!(call(&store, &body).await.is_err());
    assert_eq!((store.available("MUG"), store.stats().outage_calls), (Some(7), 1));
    store.set_outage(Outage::None);
    store.set_faults(Faults { answer_lost: 1.0, ..Faults::default() });
    assert!(push_fails(&store, "k2", 6).await);
    assert_eq!(store.available("MUG"), Some(6));
}

async fn push_fails(store: &marketplace::Store, key: &str, quantity: i64) -> bool {
    call(store, &mutation(key, &input(&[row(1, quantity, None)]))).await.is_err()
}

/// An error answer that had been carried out all the same would be another fault than the one asked
/// for.
#[tokio::test]
async fn error_answers_carry_nothing_out() {
    let store = open(options()).await;
    store.set_outage(Outage::ServerError(503));
    assert_eq!(push(&store, "k1", &[row(1, 7, 10)]).await.status, 503);
    store.set_outage(Outage::TooManyRequests { retry_after: 3 });
    let answer = push(&store, "k1", &[row(1, 7, 10)]).await;
    assert_eq!((answer.status, &answer.headers["retry-after"]), (429, &"3".parse().unwrap()));
    store.set_outage(Outage::None);
    store.set_faults(Faults { server_error: 1.0, ..Faults::default() });
    assert_eq!(push(&store, "k1", &[row(1, 7, 10)]).await.status, 502);
    assert_eq!((store.available("MUG"), store.stats().outage_calls), (Some(10), 3));
    store.set_faults(Faults::default());
    assert_eq!(push(&store, "k1", &[row(1, 7, 10)]).await.user_errors(), vec![]);
}

/// A slow answer is still an answer.
#[tokio::test]
async fn a_slow_store_answers_late() {
    let store = open(options()).await;
    let wait = Duration::from_millis(50);
    store.set_outage(Outage::Slow(wait));
    let start = Instant::now();
    assert_eq!(push(&store, "k1", &[row(1, 7, 10)]).await.user_errors(), vec![]);
    assert!(start.elapsed() >= wait);
}

/// A store that is down refuses, keeps its port, and comes back with what it knew.
#[tokio::test]
async fn a_store_that_is_down_comes_back_at_the_same_address() {
    let store = open(Options { orders_per_second: 0.0, ..options() }).await;
    assert_eq!(push(&store, "k1", &[row(1, 7, 10)]).await.user_errors(), vec![]);
    for _ in 0..3 {
        store.set_outage(Outage::Down);
        soon(async {
            while tokio::net::TcpStream::connect(store.address()).await.is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let body = mutation("k2", &input(&[row(1, 6, 7)]));
        assert!(call(&store, &body).await.is_err());
        store.set_outage(Outage::None);
        soon(async {
            while tokio::net::TcpStream::connect(store.address()).await.is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let answer = push(&store, "k3", &[row(1, 7, None)]).await;
        assert_eq!(answer.user_errors(), vec![]);
    }
    assert_eq!(store.available("MUG"), Some(7));
    soon(store.shutdown()).await;
    assert!(tokio::net::TcpStream::connect(store.address()).await.is_err());
}
