//! No older quantity is told after a newer one, whatever is lost on the way and whoever is killed: the node's
//! own pusher against each kind of simulated channel.

use std::sync::atomic::Ordering;

use state::Command;
use tokio_util::sync::CancellationToken;

use super::nodes::{Shop, TAKEN_OVER_MS, founded, push};
use super::*;
use crate::agreed::Agreed as _;

/// Whether these were told in the order in which they were agreed on: some never, and some again.
fn in_order(told: &[i64], intended: &[i64]) -> bool {
    let mut left = intended.iter().peekable();
    told.iter().all(|told| {
        while left.next_if(|next| *next != told).is_some() {}
        left.peek().is_some()
    })
}

async fn no_older_after_a_newer(kind: &str, market: Shop) {
    let config = market.config();
    let mut channel = channel(&format!("rate = {{ per_second = 10000, burst = 10000 }}\n{config}"));
    channel.location = "main".into();
    market.fault();
    let log = founded(&market, &channel, &SKUS);
    let mut stop = CancellationToken::new();
    let mut running = push(&log, &channel, 1, &stop);
    let mut random = marketplace::random::Random::new(7);
    for nth in 1..=60_u64 {
        for sku in SKUS {
            log.adjust(nth, sku, i64::try_from(random.below(99)).unwrap() - 40);
        }
        // It may be waiting for a channel that just failed.
        let _ = tokio::time::timeout(Duration::from_millis(400), market.called()).await;
        if nth % 12 == 0 {
            // It is killed in the middle of whatever it does, and its connections with it.
            stop.cancel();
            running.await.unwrap();
            market.cut().await;
            let node = 3 - log.home.load(Ordering::SeqCst);
            log.home.store(node, Ordering::SeqCst);
            log.ahead.fetch_add(TAKEN_OVER_MS, Ordering::SeqCst);
            log.apply(Command::Tick);
            stop = CancellationToken::new();
            running = push(&log, &channel, node, &stop);
        }
    }
    market.calm();
    let rest = async {
        let mut changed = log.watch();
        while log.settled().as_ref() != Some(&market.shown()) {
            let _ = tokio::time::timeout(Duration::from_secs(1), changed.changed()).await;
        }
    };
    let rested = tokio::time::timeout(Duration::from_secs(60), rest).await;
    assert!(rested.is_ok(), "{kind}: {:?} and not {:?}", market.shown(), log.settled());
    stop.cancel();
    running.await.unwrap();
    let intended = log.world.lock().unwrap().intended.clone();
    for sku in SKUS {
        let told = market.told(sku);
        assert!(told.len() > 2, "{kind} was told next to nothing: {told:?}");
        let intended = &intended[sku];
        assert!(in_order(&told, intended), "{kind} {sku}: {told:?} of {intended:?}");
    }
    let epochs: Vec<u64> = market.calls().into_iter().filter_map(|call| call.epoch).collect();
    assert!(epochs.is_sorted(), "{kind} heard of an owner after the next one: {epochs:?}");
    market.shutdown().await;
}

#[tokio::test]
async fn woocommerce_is_told_nothing_older_after_a_newer() {
    no_older_after_a_newer("woocommerce", Shop::open(Kind::WooCommerce, &SKUS).await).await;
}

#[tokio::test]
async fn ebay_is_told_nothing_older_after_a_newer() {
    no_older_after_a_newer("ebay", Shop::open(Kind::Ebay, &SKUS).await).await;
}

#[tokio::test]
async fn odoo_is_told_nothing_older_after_a_newer() {
    no_older_after_a_newer("odoo", Shop::open(Kind::Odoo, &SKUS).await).await;
}

#[tokio::test]
async fn walmart_is_told_nothing_older_after_a_newer() {
    no_older_after_a_newer("walmart", Shop::open(Kind::Walmart, &SKUS).await).await;
}

#[tokio::test]
async fn amazon_is_told_nothing_older_after_a_newer() {
    no_older_after_a_newer("amazon", Shop::amazon(&SKUS).await).await;
}

#[tokio::test]
async fn shopify_is_told_nothing_older_after_a_newer() {
    no_older_after_a_newer("shopify", Shop::shopify(&SKUS).await).await;
}

/// A check that finds nothing would prove nothing.
#[test]
fn an_older_one_is_found() {
    assert!(in_order(&[1, 1, 3], &[1, 2, 3]));
    assert!(!in_order(&[1, 3, 2], &[1, 2, 3]));
    assert!(!in_order(&[4], &[1, 2, 3]));
}
