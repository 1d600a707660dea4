mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use state::Command;
use state::allocation::{Mode, Policy};
use state::channel::Definition;
use state::command::ListingSpec;
use state::ledger::Kind;
use tokio::time::{Instant, sleep};

use crate::agreed::Agreed;
use crate::channel::api::gate;
use crate::channel::{PushError, Row};
use crate::measures;
use world::{BEGAN, CHANNEL, Shop, at_rest, definition, sku, start, world};

/// When a quantity of a SKU was sent.
fn sent_at(shop: &Shop, n: usize, quantity: i64) -> Option<Instant> {
    let sent = shop.sent();
    let is = |row: &Row| row.place.sku == sku(n) && row.quantity == quantity;
    sent.iter().find(|(_, _, rows, _)| rows.iter().any(is)).map(|(at, ..)| *at)
}

// A receipt of thousands of SKUs takes the channel's rate for many minutes, and a sale in the middle of it would
// wait for the last of them; or the receipt be sent faster than the channel allows.
#[tokio::test(start_paused = true)]
async fn a_receipt_of_thousands_does_not_delay_a_sale() {
    let node = world(definition(), 1, 3_000);
    let shop = Shop::with(10, 0);
    node.moved(Kind::Receipt, 2_990..3_000, 5);
    start(&node, 1, &shop);
    at_rest(&node).await;
    node.moved(Kind::Receipt, 0..3_000, 7);
    let began = Instant::now();
    for n in 0..20 {
        sleep(Duration::from_secs(4)).await;
        node.moved(Kind::Sale, std::iter::once(2_990 + n % 10), 1);
        let asked = Instant::now();
        let left = 12 - i64::try_from(n / 10).unwrap() - 1;
        while shop.shows(2_990 + n % 10) != left {
            sleep(Duration::from_millis(50)).await;
        }
        let took = asked.elapsed();
        assert!(took < Duration::from_secs(5), "the sale {n} took {took:?}");
    }
    assert!(node.look(|state| state.due().count(CHANNEL)) > 500, "the receipt was no load");
    at_rest(&node).await;
    assert_eq!(shop.shows(17), 7);
    let seconds = began.elapsed().as_secs();
    let calls = u64::try_from(shop.sent().iter().filter(|(at, ..)| *at >= began).count()).unwrap();
    assert!(calls <= 2 * seconds + 4, "{calls} calls in {seconds} s");
}

// A feed takes minutes, and the sales of what is not in it would wait for its report.
#[tokio::test(start_paused = true)]
async fn the_many_go_by_feed_and_sales_beside_it() {
    let node = world(definition(), 1, 400);
    let shop = Shop::with(1, 10_000);
    start(&node, 1, &shop);
    at_rest(&node).await;
    node.moved(Kind::Receipt, 0..400, 9);
    let fed = async |feeds: usize| {
        while shop.sent().iter().filter(|(.., feed)| *feed).count() < feeds {
            sleep(Duration::from_millis(50)).await;
        }
    };
    fed(1).await;
    // One that was not in it: it is mapped just now.
    let spec = ListingSpec { id: "late".into(), ..ListingSpec::default() };
    node.apply(Command::List(vec![(sku(400), CHANNEL.into(), spec)]));
    node.moved(Kind::Receipt, std::iter::once(400), 3);
    node.moved(Kind::Sale, std::iter::once(400), 1);
    let asked = Instant::now();
    while shop.shows(400) != 2 {
        sleep(Duration::from_millis(50)).await;
    }
    assert!(asked.elapsed() < Duration::from_secs(5));
    at_rest(&node).await;
    let sent = shop.sent();
    let rows = |feed: bool| {
        let of = sent.iter().filter(move |(.., fed)| *fed == feed);
        of.map(|(_, _, rows, _)| rows.len()).sum::<usize>()
    };
    assert!(rows(true) >= 380 && rows(false) < 30, "{} fed, {} set", rows(true), rows(false));
    assert!((0..400).all(|n| shop.shows(n) == 9));
}

// A sale of a listing that a feed is about to set would wait for the end of the feed, which takes minutes; and once
// it went ahead, the feed would set the older quantity over it, and nobody know.
#[tokio::test(start_paused = true)]
async fn a_sale_goes_ahead_of_the_feed_that_its_listing_is_in() {
    let node = world(Definition { compares: false, ..definition() }, 1, 100);
    let shop = Shop::with(1, 10_000);
    start(&node, 1, &shop);
    at_rest(&node).await;
    node.moved(Kind::Receipt, 0..100, 9);
    let feeds = || shop.sent().iter().filter(|(.., feed)| *feed).count();
    while feeds() == 0 {
        sleep(Duration::from_millis(50)).await;
    }
    sleep(Duration::from_secs(20)).await;
    node.moved(Kind::Sale, 50..53, 4);
    let asked = Instant::now();
    while (50..53).any(|n| shop.shows(n) != 5) {
        sleep(Duration::from_millis(50)).await;
    }
    assert!(asked.elapsed() < Duration::from_secs(5), "it took {:?}", asked.elapsed());
    // The feed comes to its rows after that, and ends.
    while shop.shows(0) != 9 {
        sleep(Duration::from_millis(50)).await;
    }
    let over = Instant::now();
    assert_eq!(shop.shows(51), 9, "it was not set over, so nothing is shown");
    while (50..53).any(|n| shop.shows(n) != 5) {
        sleep(Duration::from_millis(50)).await;
    }
    assert!(over.elapsed() < Duration::from_secs(5), "it took {:?}", over.elapsed());
    at_rest(&node).await;
    assert_eq!((0..100).filter(|n| shop.shows(*n) == 9).count(), 97);
}

// A feed that is refused for one row of it would be sent again and again, and none of its rows ever be told.
#[tokio::test(start_paused = true)]
async fn a_feed_that_is_refused_goes_call_by_call() {
    let node = world(definition(), 1, 60);
    let shop = Shop::with(10, 10_000);
    start(&node, 1, &shop);
    at_rest(&node).await;
    shop.fails(PushError::Suspect("a row".into()));
    node.moved(Kind::Receipt, 0..60, 9);
    at_rest(&node).await;
    assert!((0..60).all(|n| shop.shows(n) == 9));
    assert_eq!(shop.sent().iter().filter(|(.., feed)| *feed).count(), 1);
}

// A channel that sets plainly would set twice what is sent twice, and sell between: a sale lost for good.
#[tokio::test(start_paused = true)]
async fn what_is_set_plainly_is_sent_once() {
    for (compares, times) in [(true, 2), (false, 1)] {
        let node = world(Definition { compares, ..definition() }, 1, 1);
        let shop = Shop::with(10, 0);
        start(&node, 1, &shop);
        at_rest(&node).await;
        shop.fails(PushError::Unknown("no answer".into()));
        node.moved(Kind::Receipt, 0..1, 9);
        at_rest(&node).await;
        assert_eq!(shop.sent().len(), times, "compares: {compares}");
        assert_eq!(node.listing(0).shown, Some(9));
    }
}

// One listing that the channel has lost its mind about would keep all others from being told, for as long as it does.
#[tokio::test(start_paused = true)]
async fn a_listing_that_cannot_be_read_back_holds_up_no_other() {
    let node = world(definition(), 1, 3);
    let shop = Shop::with(10, 0);
    start(&node, 1, &shop);
    at_rest(&node).await;
    node.moved(Kind::Receipt, 0..3, 9);
    at_rest(&node).await;
    shop.0.unreadable.lock().unwrap().insert(sku(0));
    for _ in 0..3 {
        shop.fails(PushError::Unknown("500".into()));
    }
    node.moved(Kind::Sale, 0..1, 1);
    while !shop.0.faults.lock().unwrap().is_empty() {
        sleep(Duration::from_millis(50)).await;
    }
    node.moved(Kind::Sale, 1..2, 1);
    sleep(Duration::from_secs(300)).await;
    assert_eq!((shop.shows(1), node.listing(1).shown), (8, Some(8)));
    // It is asked for again and again, and told of as soon as it answers.
    assert!(node.listing(0).unsure);
    shop.0.unreadable.lock().unwrap().clear();
    at_rest(&node).await;
    assert_eq!((shop.shows(0), node.listing(0).shown), (8, Some(8)));
}

// Somebody counts in the shop, and what was not answered before the count is set once more in the middle of it.
#[tokio::test(start_paused = true)]
async fn what_had_no_answer_is_not_sent_again_to_a_channel_that_is_paused() {
    let node = world(definition(), 1, 1);
    let shop = Shop::with(10, 0);
    start(&node, 1, &shop);
    at_rest(&node).await;
    shop.fails(PushError::Unknown("no answer".into()));
    node.moved(Kind::Receipt, 0..1, 9);
    while shop.sent().is_empty() {
        sleep(Duration::from_millis(10)).await;
    }
    let why = "stocktaking".into();
    node.apply(Command::Pause { channel: CHANNEL.into(), why, for_ms: None });
    sleep(Duration::from_secs(60)).await;
    assert_eq!(shop.sent().len(), 1);
    assert_eq!(node.listing(0).shown, Some(9));
}

// The tail would use the day up in the morning, and in the evening a sale could not be told; and another node
// that takes over would begin the day anew.
#[tokio::test(start_paused = true)]
async fn a_day_is_spent_on_sales_in_the_end() {
    let per_day = 50;
    let node = world(Definition { per_day, ..definition() }, 2, 100);
    let shop = Shop::with(1, 0);
    node.moved(Kind::Receipt, 0..100, 9);
    start(&node, 1, &shop);
    sleep(Duration::from_secs(600)).await;
    let spent = node.channel().spent(BEGAN);
    assert!((39..=42).contains(&spent), "{spent} calls are spent on the tail");
    node.moved(Kind::Sale, 0..100, 1);
    sleep(Duration::from_secs(600)).await;
    let calls = u64::try_from(shop.sent().len()).unwrap() + shop.0.reads.load(Ordering::Relaxed);
    assert!((50..=54).contains(&calls), "{calls} calls of {per_day}");
    let spent = node.channel().spent(BEGAN);
    assert!(spent >= per_day, "{spent} were told of");
    // The next day, whoever pushes then.
    let before = shop.sent().len();
    sleep(Duration::from_secs(86_400)).await;
    assert!(shop.sent().len() > before + 10);
}

// Credentials that are refused would be tried at full rate, nobody would know why nothing is pushed, and new
// ones would not be used.
#[tokio::test(start_paused = true)]
async fn refused_credentials_pause_the_channel_until_they_are_good() {
    let node = world(definition(), 1, 3);
    let shop = Shop::with(10, 0);
    start(&node, 1, &shop);
    at_rest(&node).await;
    for _ in 0..2 {
        shop.fails(PushError::Unauthorised("401".into()));
    }
    node.moved(Kind::Receipt, 0..3, 9);
    sleep(Duration::from_secs(60)).await;
    let paused = node.channel().paused.unwrap();
    assert!(paused.why.contains("does not accept our credentials"), "{paused:?}");
    assert_eq!(shop.sent().len(), 1);
    sleep(Duration::from_secs(400)).await;
    assert_eq!(shop.sent().len(), 2);
    // Somebody put new ones in, and does not want to wait.
    node.apply(Command::Resume { channel: CHANNEL.into(), owner: false });
    sleep(Duration::from_secs(20)).await;
    assert_eq!(shop.shows(2), 9);
    assert_eq!(node.channel().paused, None);
}

// A channel that a person paused would go on being told; one in shadow would be told at all, or what it would
// have been told could not be seen.
#[tokio::test(start_paused = true)]
async fn nothing_is_sent_to_a_channel_that_is_paused_or_in_shadow() {
    let node = world(Definition { shadow: true, ..definition() }, 1, 3);
    let shop = Shop::with(10, 0);
    start(&node, 1, &shop);
    node.moved(Kind::Receipt, 0..3, 9);
    at_rest(&node).await;
    assert_eq!(node.listing(1).shadow.map(|(quantity, _)| quantity), Some(9));
    let why = "stocktaking".into();
    node.apply(Command::Pause { channel: CHANNEL.into(), why, for_ms: None });
    node.apply(Command::PutChannel { name: CHANNEL.into(), definition: definition() });
    sleep(Duration::from_secs(100)).await;
    assert!(shop.sent().is_empty());
    node.apply(Command::Resume { channel: CHANNEL.into(), owner: false });
    at_rest(&node).await;
    assert_eq!(shop.shows(1), 9);
}

// Two nodes that push at once would overtake each other; a channel whose home is gone would never be told
// anything again; and the home that comes back would wait for ever, or cut the other off in the middle.
#[tokio::test(start_paused = true)]
async fn another_node_stands_in_while_the_home_is_cut_off() {
    let node = world(definition(), 3, 50);
    let shop = Shop::with(1, 0);
    start(&node, 1, &shop);
    start(&node, 2, &shop);
    start(&node, 3, &shop);
    at_rest(&node).await;
    let by = |from: Instant| -> BTreeSet<u64> {
        shop.sent().iter().filter(|(at, ..)| *at >= from).map(|(_, node, ..)| *node).collect()
    };
    assert_eq!(node.channel().owner.map(|owner| owner.node), Some(1));
    // Nothing is written while there is nothing to do.
    let index = node.world().index;
    sleep(Duration::from_secs(600)).await;
    assert_eq!(node.world().index, index);
    node.moved(Kind::Receipt, 0..50, 9);
    sleep(Duration::from_secs(5)).await;
    let cut = Instant::now();
    node.world().cut.insert(1);
    node.moved(Kind::Sale, 0..50, 1);
    sleep(Duration::from_secs(90)).await;
    let last = shop.sent().iter().filter(|(_, node, ..)| *node == 1).map(|(at, ..)| *at).max();
    assert!(last.unwrap() < cut + Duration::from_secs(10), "it sends without a lease");
    let first = shop.sent().iter().filter(|(_, node, ..)| *node == 2).map(|(at, ..)| *at).min();
    assert!(first.unwrap() > cut + Duration::from_secs(20), "two nodes send at once");
    assert!(!by(cut).contains(&3), "the next one in line did not wait");
    at_rest(&node).await;
    assert!((0..50).all(|n| shop.shows(n) == 8));
    // The home is back, and gets the channel though there is always something to do.
    node.world().cut.clear();
    let back = Instant::now();
    for _ in 0..20 {
        node.moved(Kind::Receipt, 0..50, 1);
        sleep(Duration::from_secs(3)).await;
        if node.channel().owner.map(|owner| owner.node) == Some(1) {
            break;
        }
    }
    assert!(back.elapsed() < Duration::from_secs(20), "it took {:?}", back.elapsed());
    at_rest(&node).await;
    let owners: Vec<u64> =
        shop.sent().iter().filter(|(at, ..)| *at > back).map(|(_, node, ..)| *node).collect();
    assert!(owners.is_sorted_by(|a, b| a >= b), "they take turns: {owners:?}");
}

// What a feed is for is agreed on part by part, and it waits for its turn. One that carries all the same what was pushed
// by itself meanwhile sets the older quantity over the newer one, and sells what is gone.
#[tokio::test(start_paused = true)]
async fn a_feed_does_not_carry_what_a_sale_went_ahead_of() {
    let node = world(Definition { rate_milli: 1_000_000, burst: 1_000, ..definition() }, 1, 3_000);
    let shop = Shop::with(20, 10_000);
    start(&node, 1, &shop);
    at_rest(&node).await;
    node.moved(Kind::Receipt, 0..3_000, 9);
    while node.look(|state| state.flights().count(CHANNEL)) == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    node.moved(Kind::Sale, 0..20, 1);
    at_rest(&node).await;
    assert!((0..3_000).all(|n| shop.shows(n) == if n < 20 { 8 } else { 9 }));
    let mut newest = BTreeMap::new();
    for (_, _, rows, feed) in shop.sent() {
        assert!(!feed || rows.len() == 2_980, "{} rows went by feed", rows.len());
        for row in rows {
            let before = newest.insert(row.place.sku.clone(), row.quantity);
            assert!(before != Some(8) || row.quantity == 8, "{row:?} is sent after 8");
        }
    }
}

// Where shares are kept apart, what a channel that does not compare was last heard to show is no ground to raise it by
// after a quarter of an hour. The lane of feeds, which reads nothing, would leave that to the other lane, and that one
// to the feeds: what was received is never told.
#[tokio::test(start_paused = true)]
async fn what_must_be_read_before_it_goes_by_feed_is_read() {
    let node = world(Definition { compares: false, ..definition() }, 1, 100);
    let policy = Policy { sku: "*".into(), mode: Mode::Split, ..Policy::default() };
    node.apply(Command::PutPolicies { policies: vec![policy], replaces: None });
    let shop = Shop::with(1, 10_000);
    start(&node, 1, &shop);
    at_rest(&node).await;
    sleep(Duration::from_secs(3_600)).await;
    node.moved(Kind::Receipt, 0..100, 9);
    sleep(Duration::from_secs(900)).await;
    assert_eq!((0..100).filter(|n| shop.shows(*n) == 9).count(), 100);
    assert!(shop.sent().iter().any(|(.., feed)| *feed), "nothing went by feed");
}

// During an outage every change would be kept, and sent in turn after it; or all at once.
#[tokio::test(start_paused = true)]
async fn after_an_outage_only_the_newest_quantities_go() {
    let node = world(definition(), 1, 20);
    let shop = Shop::with(1, 0);
    let measures = start(&node, 1, &shop);
    at_rest(&node).await;
    for _ in 0..30 {
        shop.fails(PushError::Refused("no connection".into()));
    }
    for _ in 0..10 {
        node.moved(Kind::Receipt, 0..20, 1);
        sleep(Duration::from_secs(20)).await;
    }
    assert_eq!(measures.breaker_of(CHANNEL), Some(measures::Breaker::Open));
    let tried = shop.sent().len();
    assert!(tried < 20, "{tried} calls in 200 s of outage");
    at_rest(&node).await;
    assert!((0..20).all(|n| shop.shows(n) == 10));
    assert_eq!(shop.sent().len(), 30 + 20);
    assert!(sent_at(&shop, 19, 9).is_none());
    assert_eq!(measures.breaker_of(CHANNEL), Some(measures::Breaker::Closed));
}

// A push of several calls that counts as one is throttled, or the seller's account is limited for it; and so would
// be a new owner that begins with a burst, and the rush after an outage.
#[tokio::test(start_paused = true)]
async fn no_more_calls_are_made_than_are_allowed() {
    for feed_rows in [0, 10_000] {
        let node = world(definition(), 2, 120);
        let shop = Shop::with(10, feed_rows);
        shop.0.before.store(4, Ordering::Relaxed);
        start(&node, 1, &shop);
        start(&node, 2, &shop);
        at_rest(&node).await;
        node.moved(Kind::Receipt, 0..120, 9);
        sleep(Duration::from_secs(20)).await;
        node.world().cut.insert(1);
        node.moved(Kind::Sale, 0..40, 1);
        sleep(Duration::from_secs(90)).await;
        node.world().cut.clear();
        for _ in 0..10 {
            shop.fails(PushError::Refused("no connection".into()));
        }
        for _ in 0..4 {
            node.moved(Kind::Receipt, 0..120, 1);
            sleep(Duration::from_secs(20)).await;
        }
        at_rest(&node).await;
        assert!((0..120).all(|n| shop.shows(n) == if n < 40 { 12 } else { 13 }));
        let arrived = shop.0.arrived.lock().unwrap().clone();
        let nodes: BTreeSet<u64> = arrived.iter().map(|(_, node)| *node).collect();
        assert_eq!((nodes, arrived.len() > 100), ([1, 2].into(), true));
        let times: Vec<Instant> = arrived.into_iter().map(|(at, _)| at).collect();
        gate::check("the shop", &times, (2.0, 4.0), Duration::ZERO);
    }
}

// Whoever is paused between the calls of one push, or waits there for its turn, would set an old quantity over
// what another node has set since.
#[tokio::test(start_paused = true)]
async fn a_push_does_not_outlive_the_lease_that_it_was_begun_under() {
    for feed_rows in [0, 10_000] {
        let node = world(Definition { compares: false, ..definition() }, 2, 30);
        let shop = Shop::with(10, feed_rows);
        shop.0.before.store(1, Ordering::Relaxed);
        start(&node, 1, &shop);
        start(&node, 2, &shop);
        at_rest(&node).await;
        node.moved(Kind::Receipt, 0..30, 9);
        at_rest(&node).await;
        shop.0.pauses.lock().unwrap().insert(1, Duration::from_secs(300));
        let calls = shop.0.arrived.lock().unwrap().len();
        node.moved(Kind::Receipt, 0..30, 1);
        while shop.0.arrived.lock().unwrap().len() == calls {
            sleep(Duration::from_millis(50)).await;
        }
        let cut = Instant::now();
        node.world().cut.insert(1);
        node.moved(Kind::Sale, 0..30, 5);
        at_rest(&node).await;
        assert!((0..30).all(|n| shop.shows(n) == 5), "nobody stood in");
        sleep(Duration::from_secs(600)).await;
        let late = shop.sent().into_iter().filter(|(at, by, ..)| *by == 1 && *at > cut).count();
        assert_eq!(late, 0, "something was set without a lease");
        assert!((0..30).all(|n| shop.shows(n) == 5));
    }
}
