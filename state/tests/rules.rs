//! Single rules that no random command finds often enough.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test stops at what it did not expect"
)]

mod common;

use common::{
    Node, START, definition, delivery, image, key, map, movements, policy, refund, request, segment,
};
use state::allocation::Mode;
use state::channel::Definition;
use state::command::{Asked, Change, Command, Fact, ListingSpec, Outcome, Settled, SkuSettings};
use state::dedup::Expiring;
use state::escrow::told::{Held, Told, What};
use state::escrow::{Grant, Holder, Size};
use state::ledger::Kind;
use state::limits::{
    DAY_MS, LISTING_ROWS_MAX, ORDER_KEEP_MS, ORDER_LINES_MAX, QUANTITY_MAX,
    RETURNED_PER_COMMAND_MAX, WALKED_SKUS_MAX,
};
use state::order::Removal;
use state::origin::Lane;
use state::queue::ask::Answer;
use state::reply::Answered;
use state::reservation::Line;
use state::{Counts, Reply};

fn shop(pushes: bool) -> Node {
    let mut node = Node { now: START, ..Node::default() };
    let definition = Definition { pushes, ..definition("main") };
    node.apply(Command::PutChannel { name: "shop".into(), definition });
    node.apply(common::put_policies(vec![policy(Mode::Split, &[], &[])]));
    node.apply(movements(vec![request("opening", Kind::Receipt, "MUG", 9)]));
    node.apply(map("MUG", &["shop"]));
    node
}

#[test]
fn a_failure_of_another_push_does_not_end_the_one_in_flight() {
    // A late answer would make a raise that may still be taken count for nothing.
    let mut node = shop(true);
    let claim = Command::Claim { channel: "shop".into(), node: 1 };
    let Reply::Claimed { epoch } = node.apply(claim).0 else { panic!() };
    node.apply(common::settle("shop", (epoch, node.index), "MUG", 0, Settled::Observed(2)));
    node.apply(common::intend("shop", epoch, "MUG"));
    node.apply(common::settle(
        "shop",
        (epoch, node.index),
        "MUG",
        1,
        Settled::Failed("gone".into()),
    ));
    let listing = node.state.data().stock.get("MUG").unwrap().listings["shop"].get();
    assert_eq!(listing.in_flight.map(|push| push.quantity), Some(9));
    assert_eq!(listing.exposure(START), Some(9));
}

#[test]
fn a_listing_that_is_addressed_in_another_way_may_still_sell_what_it_did() {
    // A file of listings that adds a setting would make what was sent count for nothing, and others be raised.
    let mut node = shop(true);
    let claim = Command::Claim { channel: "shop".into(), node: 1 };
    let Reply::Claimed { epoch } = node.apply(claim).0 else { panic!() };
    node.apply(common::settle("shop", (epoch, node.index), "MUG", 0, Settled::Observed(2)));
    node.apply(common::intend("shop", epoch, "MUG"));
    let settings = [("location_id".to_string(), "2".to_string())].into();
    let spec = ListingSpec { id: "shop/MUG".into(), settings };
    node.apply(Command::List(vec![("MUG".into(), "shop".into(), spec)]));
    let listing = node.state.data().stock.get("MUG").unwrap().listings["shop"].get();
    assert_eq!((listing.exposure(START), listing.unsure), (Some(9), true));
    assert_eq!(listing.spec.settings["location_id"], "2");
}

#[test]
fn a_reading_of_a_former_listing_says_nothing_of_the_new_one() {
    // A SKU gets another listing while the old one is read: a wrong quantity would count as shown.
    let mut node = shop(true);
    let claim = Command::Claim { channel: "shop".into(), node: 1 };
    let Reply::Claimed { epoch } = node.apply(claim).0 else { panic!() };
    for (listing, shown) in [("shop/a former one", None), ("shop/MUG", Some(2))] {
        let (sku, listing) = ("MUG".into(), listing.into());
        let outcomes = vec![Outcome { sku, listing, revision: 0, result: Settled::Observed(2) }];
        let (lane, channel, intent) = (Lane::Urgent, "shop".into(), node.index);
        node.apply(Command::Settle { channel, epoch, lane, intent, calls: 1, outcomes });
        let stock = node.state.data().stock.get("MUG").unwrap();
        assert_eq!(stock.listings["shop"].get().shown, shown);
    }
}

#[test]
fn a_channel_that_starts_to_push_is_told_what_it_should_show() {
    // Its listings would stay as they are until each of their SKUs moves.
    let mut node = shop(false);
    assert_eq!(node.state.due().count("shop"), 0);
    for (pushes, due) in [(true, 1), (false, 0)] {
        let definition = Definition { pushes, ..definition("main") };
        node.apply(Command::PutChannel { name: "shop".into(), definition });
        assert_eq!(node.state.due().count("shop"), due, "pushes: {pushes}");
        node.check().unwrap();
    }
}

#[test]
fn a_seed_changes_no_channel_that_is_known() {
    // The location of a channel is for good; a seed that comes second could move it.
    let mut node = shop(true);
    let channels = [("shop".to_string(), definition("outlet"))].into();
    node.apply(Command::Seed { channels, policies: Vec::new(), locations: Vec::new() });
    assert_eq!(node.state.data().channels["shop"].definition.location, "main");
}

#[test]
fn an_order_with_too_many_lines_changes_nothing_and_is_kept() {
    // Half an order would be booked as if it were all, or its lines would crowd out the real ones.
    let mut node = shop(true);
    let names: Vec<String> = (0..=ORDER_LINES_MAX).map(|n| n.to_string()).collect();
    let lines: Vec<_> = names.iter().map(|name| (name.as_str(), Some("MUG"), 1)).collect();
    let mut hear = |sequence: u64, lines: &[_]| {
        let fact = image("1", START, lines);
        let delivery = delivery(&format!("d{sequence}"), "shop", START, vec![fact]);
        node.apply(Command::Segment(segment(1, sequence, vec![delivery]))).1
    };
    let effects = hear(1, &lines);
    assert_eq!((effects.movements.len(), effects.bodies.len()), (0, 1));
    let effects = hear(2, &[("other", Some("MUG"), 1)]);
    assert_eq!((effects.movements.len(), effects.bodies.len()), (1, 0));
}

#[test]
fn a_channel_may_say_that_it_shows_anything() {
    // A number out of this world, added to others, would overflow and stop every node.
    let mut node = shop(true);
    let said = [i64::MAX, i64::MIN, -1, i64::MAX, 0, i64::MIN, i64::MIN, i64::MAX, i64::MAX];
    for (n, quantity) in said.into_iter().enumerate() {
        let claim = Command::Claim { channel: "shop".into(), node: 1 };
        let Reply::Claimed { epoch } = node.apply(claim).0 else { panic!() };
        if n % 2 == 0 {
            node.apply(common::intend("shop", epoch, "MUG"));
        }
        let stock = node.state.data().stock.get("MUG").unwrap();
        let revision = stock.listings["shop"].get().in_flight.map_or(0, |push| push.revision);
        node.apply(common::settle(
            "shop",
            (epoch, node.index),
            "MUG",
            revision,
            Settled::Observed(quantity),
        ));
        node.check().unwrap();
        let listing = node.state.data().stock.get("MUG").unwrap().listings["shop"].get();
        assert!(listing.exposure(node.now).unwrap() >= 0);
    }
}

#[test]
fn removals_may_add_up_to_more_than_one_request_may_name() {
    // Heard one by one they are booked; heard before the order they would be stuck for good.
    let mut node = shop(true);
    let returned = |id| refund("1", START, (id, "1", Some("MUG")), QUANTITY_MAX, Removal::Returned);
    let order = image("1", START, &[("1", Some("MUG"), QUANTITY_MAX)]);
    for (n, fact) in (1..).zip([returned("R1"), returned("R2"), order]) {
        let delivery = delivery(&format!("d{n}"), "shop", START, vec![fact]);
        node.apply(Command::Segment(segment(1, n, vec![delivery])));
    }
    node.check().unwrap();
    let level = &node.state.data().stock.get("MUG").unwrap().levels["main"];
    assert_eq!((level.on_hand, level.committed), (9 + 2 * QUANTITY_MAX, QUANTITY_MAX));
}

#[test]
fn agreed_time_does_not_go_back() {
    // Under a leader whose clock is behind, what had expired would be held again, and windows would open
    // anew.
    let mut node = Node { now: START, ..Node::default() };
    node.apply(Command::Tick);
    node.now = START - DAY_MS;
    node.apply(movements(vec![request("r1", Kind::Receipt, "MUG", 1)]));
    assert_eq!(node.state.data().now, START);
    assert_eq!(node.movements[0].time, START);
}

#[test]
fn what_does_not_fit_drops_what_came_first() {
    // The answer that is forgotten first would be the newest: the one whose client may still repeat it.
    let mut kept: Expiring<u64, u64> = Expiring::default();
    let dropped: Vec<_> =
        (0..6).filter_map(|n| kept.insert(n, n, START + DAY_MS, 4)).map(|(key, _)| key).collect();
    assert_eq!(dropped, [0, 1]);
    assert_eq!(kept.evicted(), 2);
    // Restored from a snapshot, a node forgets the same ones.
    let standard = bincode::config::standard();
    let bytes = bincode::serde::encode_to_vec(&kept, standard).unwrap();
    let mut restored: Expiring<u64, u64> =
        bincode::serde::decode_from_slice(&bytes, standard).unwrap().0;
    assert_eq!(restored.insert(6, 6, START + DAY_MS, 4), Some((2, 2)));
}

#[test]
fn a_dead_letter_says_how_often_it_was_tried() {
    // Whoever looks at what keeps failing would see the same of a letter that nobody has touched yet.
    let mut node = shop(true);
    let facts = vec![image("7", START, &[("1", Some("MUG"), 1)])];
    let sent = delivery("b-1", "bazaar", START, facts.clone());
    node.apply(Command::Segment(segment(1, 1, vec![sent])));
    let letters = |node: &Node| -> Vec<_> {
        let letters = node.state.data().dead.entries().iter();
        letters.map(|(place, letter)| (*place, letter.attempts)).collect()
    };
    let place = letters(&node)[0].0;
    assert_eq!(letters(&node), [(place, 1)]);
    let asked = Asked::Letters(vec![(place, Some(facts))]);
    let again = Command::Request { idempotency: None, asked };
    let count = |reply: Reply| match reply {
        Reply::Answered { answer: Answered::Queue(Answer::Count(count)), .. } => count,
        other => panic!("{other:?}"),
    };
    assert_eq!(count(node.apply(again.clone()).0), 0);
    assert_eq!(letters(&node), [(place, 2)]);
    node.apply(Command::PutChannel { name: "bazaar".into(), definition: definition("main") });
    let (reply, effects) = node.apply(again);
    assert_eq!((count(reply), letters(&node)), (1, vec![]));
    assert_eq!(effects.dropped, [place]);
}

#[test]
fn what_is_dead_no_more_leaves_nothing_behind() {
    // Bodies of what was mapped meanwhile, or forgotten after half a year, would fill the disk for good.
    let mut node = shop(true);
    let bury = |node: &mut Node, n: u64, channel: &str, sku: Option<&str>| {
        let facts = vec![image(&n.to_string(), node.now, &[("1", sku, 1)])];
        let sent = delivery(&format!("d-{n}"), channel, node.now, facts);
        let (_, effects) = node.apply(Command::Segment(segment(1, n, vec![sent])));
        (node.index, effects)
    };
    let (pending, effects) = bury(&mut node, 1, "shop", None);
    assert_eq!(effects.bodies.len(), 1);
    let named = vec![image("1", START + 1, &[("1", Some("MUG"), 1)])];
    let sent = delivery("d-2", "shop", START, named);
    let (_, effects) = node.apply(Command::Segment(segment(1, 2, vec![sent])));
    assert_eq!(effects.dropped, [(pending, 0)]);
    let (unknown, _) = bury(&mut node, 3, "bazaar", Some("MUG"));
    let mut dropped = Vec::new();
    for _ in 0..4 {
        node.now += ORDER_KEEP_MS / 2;
        dropped.extend(node.apply(Command::Tick).1.dropped);
    }
    assert_eq!(dropped, [(unknown, 0)]);
}

/// As many SKUs as several commands look at, listed at the shop.
fn many() -> Node {
    let mut node = shop(true);
    let skus: Vec<String> = (0..3 * WALKED_SKUS_MAX).map(|n| format!("S{n}")).collect();
    for some in skus.chunks(LISTING_ROWS_MAX) {
        let listed = |sku: &String| {
            let spec = ListingSpec { id: format!("shop/{sku}"), ..ListingSpec::default() };
            (sku.clone(), "shop".to_string(), spec)
        };
        node.apply(Command::List(some.iter().map(listed).collect()));
    }
    node
}

/// Ticks until nothing is due; how many.
fn ticks(node: &mut Node) -> usize {
    let mut ticks = 0;
    while node.state.wakes_at().is_some_and(|at| at <= node.now) {
        node.apply(Command::Tick);
        ticks += 1;
        assert!(ticks < 10_000, "it never comes to an end");
    }
    ticks
}

#[test]
fn a_push_of_all_that_is_listed_is_no_longer_than_other_commands() {
    // An operator who asks for it would hold up every sale for as long as a million listings take.
    let mut node = many();
    let listed = |node: &Node| {
        let stock = node.state.data().stock.iter();
        stock.filter_map(|(_, stock)| Some(stock.listings.get("shop")?.get())).collect::<Vec<_>>()
    };
    let unsure = |node: &Node| listed(node).iter().filter(|listing| listing.unsure).count();
    assert_eq!(unsure(&node), 0);
    let push = || Command::PushNow { channel: "shop".into(), sku: None };
    assert_eq!(node.apply(push()).0, Reply::Done);
    assert!((1..2 * WALKED_SKUS_MAX).contains(&unsure(&node)), "{} at once", unsure(&node));
    node.check().unwrap();
    ticks(&mut node);
    assert_eq!(unsure(&node), 3 * WALKED_SKUS_MAX + 1);
    // Asked for while it goes on, and of a channel that has nothing.
    node.apply(push());
    node.apply(push());
    let name = "outlet".to_string();
    node.apply(Command::PutChannel { name: name.clone(), definition: definition("outlet") });
    let nothing = node.apply(Command::PushNow { channel: name, sku: None }).0;
    assert!(matches!(nothing, Reply::Rejected(_)), "{nothing:?}");
    assert!(ticks(&mut node) < 10);
}

#[test]
fn a_channel_that_is_removed_knows_how_many_listings_it_has() {
    // Counting them would look at all there are; one that is counted wrongly never goes, or goes too early.
    let mut node = many();
    let counts = |node: &Node| node.state.counts("shop");
    let all = u64::try_from(3 * WALKED_SKUS_MAX + 1).unwrap();
    assert_eq!(counts(&node), Counts { listed: all, open: all });
    let silent = Definition { pushes: false, ..definition("main") };
    node.apply(Command::PutChannel { name: "shop".into(), definition: silent });
    ticks(&mut node);
    let remove = |abandon| Command::RemoveChannel { channel: "shop".into(), abandon };
    let Reply::Rejected(why) = node.apply(remove(false)).0 else { panic!() };
    assert!(why.contains(&all.to_string()), "{why}");
    assert_eq!(node.apply(remove(true)).0, Reply::Done);
    assert!(counts(&node).listed > 0);
    node.check().unwrap();
    ticks(&mut node);
    assert_eq!(counts(&node), Counts::default());
    assert!(!node.state.data().channels.contains_key("shop"));
    node.check().unwrap();
}

#[test]
fn what_a_destroyed_node_had_comes_back_piece_by_piece() {
    // Said of a node with many quotas and holds it would be one command as long as a thousand others.
    let mut node = Node { now: START, ..Node::default() };
    let holder = Holder { node: 1, book: 7 };
    let mut serial = 0;
    let mut tell = |node: &mut Node, what: What| {
        serial += 1;
        let told = Told { holder, serial, at: START, idempotency: None, what };
        let of = format!("told {serial}");
        let deliveries = vec![delivery(&of, "", START, vec![Fact::Escrow(told)])];
        node.apply(Command::Segment(segment(1, serial, deliveries)));
    };
    tell(&mut node, What::Opened);
    let skus: Vec<String> = (0..3 * RETURNED_PER_COMMAND_MAX).map(|n| format!("S{n}")).collect();
    for sku in &skus {
        node.apply(movements(vec![request(sku, Kind::Receipt, sku, 9)]));
        let escrow = Some(Size::Units(9));
        let settings = SkuSettings { escrow, ..SkuSettings::default() };
        node.apply(Command::Map { sku: sku.clone(), settings });
    }
    let grant =
        |sku: &String| Grant { holder, sku: sku.clone(), location: "main".into(), units: 9 };
    node.apply(Command::Grant(skus.iter().map(grant).collect()));
    for (n, sku) in skus.iter().enumerate() {
        let (sku, location) = (sku.clone(), "main".to_string());
        let lines = vec![Line { sku, location, parts: Vec::new(), held: 2, confirmed: 0 }];
        let (channel, reference) = (None, None);
        let id = format!("R{n}");
        tell(&mut node, What::Held(Held { id, lines, channel, ttl_ms: DAY_MS, reference }));
    }
    node.check().unwrap();
    let before = node.movements.len();
    node.apply(Command::Destroyed { node: 1, keeping: None });
    let adopted = |node: &Node| node.state.holds().len();
    let at_once = |node: &Node| adopted(node) + node.movements.len() - before;
    assert!((1..=2 * RETURNED_PER_COMMAND_MAX).contains(&at_once(&node)), "{}", at_once(&node));
    // What comes late from a disk that nobody has any more is for the cluster to end.
    let late = "S0".to_string();
    let lines =
        vec![Line { sku: late, location: "main".into(), parts: Vec::new(), held: 1, confirmed: 0 }];
    let (channel, reference) = (None, None);
    let late = Held { id: "late".into(), lines, channel, ttl_ms: DAY_MS, reference };
    tell(&mut node, What::Held(late));
    node.check().unwrap();
    ticks(&mut node);
    node.check().unwrap();
    assert_eq!((adopted(&node), node.state.escrowed().len()), (skus.len() + 1, 0));
    let left =
        |sku: &String| node.state.data().stock.get(sku.as_str()).unwrap().levels["main"].escrowed;
    assert_eq!(skus.iter().map(left).sum::<i64>(), 0);
}

#[test]
fn a_change_is_made_once_under_a_key() {
    // An answer that is lost would be asked for again: an operator who resumes meanwhile would find it paused anew.
    let mut node = shop(true);
    let ask = |node: &mut Node, name: &str, change: Change| {
        let idempotency = Some((key(name), key(&format!("{change:?}"))));
        node.apply(Command::Request { idempotency, asked: Asked::Change(change) }).0
    };
    let changed = |reply: Reply| match reply {
        Reply::Answered { answer: Answered::Changed(done), .. } => done,
        other => panic!("{other:?}"),
    };
    let pause = || Change::Pause { channel: "shop".into(), why: "stock take".into() };
    assert_eq!(changed(ask(&mut node, "a", pause())), Ok(()));
    assert_eq!(changed(ask(&mut node, "b", Change::Resume("shop".into()))), Ok(()));
    assert_eq!(changed(ask(&mut node, "a", pause())), Ok(()));
    assert!(!node.state.data().channels["shop"].is_paused(node.now));
    assert_eq!(ask(&mut node, "b", pause()), Reply::KeyReused);
    // What was refused stays so, and every change is the command of its name.
    let nowhere = || Change::Push { channel: "nowhere".into(), sku: None };
    let refused = changed(ask(&mut node, "c", nowhere())).unwrap_err();
    assert!(refused.contains("nowhere"), "{refused}");
    assert_eq!(changed(ask(&mut node, "c", nowhere())), Err(refused));
    let spec = ListingSpec { id: "s".into(), ..ListingSpec::default() };
    let listed = vec![("PEN".to_string(), "shop".to_string(), spec)];
    let push = Change::Push { channel: "shop".into(), sku: Some("PEN".into()) };
    let rebalance = Change::Rebalance(Some(vec!["PEN".into()]));
    for (n, change) in
        [Change::List(listed), push, rebalance, Change::Noted].into_iter().enumerate()
    {
        assert_eq!(changed(ask(&mut node, &format!("d{n}"), change)), Ok(()));
    }
    node.check().unwrap();
}
