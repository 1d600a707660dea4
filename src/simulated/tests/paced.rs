//! No channel is called more often than it allows, counted where the calls arrive: by each kind, with all the
//! calls that a push takes there, feeds among them, across owners and after an outage.

use std::sync::atomic::Ordering;

use futures::future::join_all;
use state::Command;
use state::ledger::Kind as Moved;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::nodes::{Shop, TAKEN_OVER_MS, founded, push};
use super::*;
use crate::agreed::Agreed as _;
use crate::channel::api::gate;

/// So many that a feed is worth it.
const MANY: [&str; 24] = [
    "A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "K", "L", "M", "N", "O", "P", "Q", "R", "S",
    "T", "U", "V", "W", "X",
];
const PER_SECOND: f64 = 25.0;
const BURST: f64 = 5.0;
/// How much later than another a call may come on a busy machine.
const SLACK: Duration = Duration::from_millis(300);

async fn paced(kind: &str, market: Shop) {
    let config = market.config();
    let rate = format!("rate = {{ per_second = {PER_SECOND}, burst = {BURST} }}\n{config}");
    let mut channel = channel(&rate);
    channel.location = "main".into();
    let log = founded(&market, &channel, &MANY);
    let mut stop = CancellationToken::new();
    let mut running = push(&log, &channel, 1, &stop);
    for nth in 1..=40_u64 {
        for (n, sku) in MANY.iter().enumerate() {
            match (n, nth % 8) {
                (0..4, _) => log.moved(Moved::Sale, nth, sku, 1),
                (_, 0) => log.adjust(nth, sku, 7),
                _ => {}
            }
        }
        match nth {
            15 => {
                stop.cancel();
                running.await.unwrap();
                log.home.store(2, Ordering::SeqCst);
                log.ahead.fetch_add(TAKEN_OVER_MS, Ordering::SeqCst);
                log.apply(Command::Tick);
                stop = CancellationToken::new();
                running = push(&log, &channel, 2, &stop);
            }
            25 => market.set_outage(Outage::ServerError(503)),
            33 => market.set_outage(Outage::None),
            _ => {}
        }
        sleep(Duration::from_millis(100)).await;
    }
    let rest = async {
        let mut changed = log.watch();
        while log.settled().as_ref() != Some(&market.shown()) {
            let _ = tokio::time::timeout(Duration::from_millis(200), changed.changed()).await;
        }
    };
    let rested = tokio::time::timeout(Duration::from_secs(60), rest).await;
    assert!(rested.is_ok(), "{kind}: {:?} and not {:?}", market.shown(), log.settled());
    stop.cancel();
    running.await.unwrap();
    let calls: Vec<Instant> =
        market.calls().into_iter().map(|call| Instant::from_std(call.at)).collect();
    assert!(calls.len() > 30, "{kind} is hardly called: {}", calls.len());
    gate::check(kind, &calls, (PER_SECOND, BURST), SLACK);
    market.shutdown().await;
}

/// A push that counts as one call and makes several uses up what the channel allows before anybody notices.
#[tokio::test]
async fn no_channel_sees_more_calls_than_it_allows() {
    let senders = [
        ("woocommerce", Kind::WooCommerce),
        ("ebay", Kind::Ebay),
        ("odoo", Kind::Odoo),
        ("walmart", Kind::Walmart),
    ];
    let senders = senders.map(|(name, kind)| async move {
        paced(name, Shop::open(kind, &MANY).await).await;
    });
    let amazon = async { paced("amazon", Shop::amazon(&MANY).await).await };
    let shopify = async { paced("shopify", Shop::shopify(&MANY).await).await };
    tokio::join!(join_all(senders), amazon, shopify);
}
