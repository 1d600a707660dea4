//! What a worker is promised: who gets which message, and what becomes of it.

use state::limits::{ANSWER_KEEP_MS, GRANTED_RUNS_MAX, HOUR_MS};
use state::origin::Lane;
use state::queue::MessageId;
use state::queue::ask::{Answer, Publish, Published, Refused, What};
use state::queue::settings::{Rate, Settings};

use crate::common::key;
use crate::desk::{Desk, keyed, publish, quick, urgent};

// A worker that was slow would finish what another one is working on.
#[test]
fn an_old_lease_does_nothing() {
    let mut desk = Desk::new(quick());
    desk.publish(vec![publish("a")]);
    let first = desk.lease("erp", 1)[0];
    assert!(desk.lease("erp", 1).is_empty());
    desk.later(30_001);
    let second = desk.lease("erp", 1)[0];
    assert_eq!((second.attempts, second.lease.message), (2, first.lease.message));
    assert_eq!(desk.ack(&[first.lease]), [false]);
    assert_eq!(desk.nack(&[first.lease], None), [false]);
    assert_eq!(desk.done(What::Extend { leases: vec![first.lease], lease_ms: 60_000 }), [false]);
    assert_eq!(desk.ack(&[second.lease, second.lease]), [true, false]);
    desk.later(60_000);
    assert!(desk.lease("erp", 1).is_empty());
    desk.check();
}

// One message too many times tried is one that keeps a worker from all others; one too few is lost work.
#[test]
fn what_fails_n_times_is_given_up_and_can_be_tried_again() {
    let mut desk = Desk::new(quick());
    desk.publish(vec![publish("a")]);
    let first = desk.lease("erp", 1)[0];
    desk.nack(&[first.lease], Some(0));
    let second = desk.lease("erp", 1)[0];
    desk.nack(&[second.lease], None);
    assert!(desk.lease("erp", 1).is_empty(), "it waits a while");
    desk.later(2_001);
    let third = desk.lease("erp", 1)[0];
    assert_eq!(third.attempts, 3);
    desk.later(30_001);
    let id = third.lease.message;
    assert_eq!(desk.dead("erp"), [id]);
    assert!(desk.lease("erp", 1).is_empty());
    // Another group has nothing to do with it.
    assert_eq!(desk.texts("mail", 1), ["a"]);
    let redrive = |group: &str| What::Redrive { group: group.into(), messages: vec![id] };
    assert_eq!(desk.ask(redrive("erp")), Answer::Count(1));
    assert_eq!(desk.ask(redrive("erp")), Answer::Count(0));
    assert_eq!(
        desk.ask(redrive("nobody")),
        Answer::Refused(Refused::UnknownGroup("nobody".into()))
    );
    let again = desk.lease("erp", 1)[0];
    assert_eq!(again.attempts, 1);
    desk.check();
}

// Two workers on one SKU at once, or the later change before the earlier one, and the ERP has the wrong stock.
#[test]
fn a_key_is_worked_on_in_order_and_others_beside_it() {
    let mut desk = Desk::new(quick());
    let texts = ["a1", "a2", "b1", "a3", "b2"];
    desk.publish(texts.map(|text| keyed(text, &text[..1])).to_vec());
    let first = desk.lease("erp", 10);
    assert_eq!(first.iter().map(|l| desk.text(&l.message)).collect::<Vec<_>>(), ["a1", "b1"]);
    // What failed keeps its place.
    desk.nack(&[first[0].lease], Some(5_000));
    desk.ack(&[first[1].lease]);
    assert_eq!(desk.texts("erp", 10), ["b2"]);
    desk.later(5_001);
    let again = desk.lease("erp", 10);
    assert_eq!(desk.text(&again[0].message), "a1");
    desk.restart();
    desk.check();
    desk.ack(&[again[0].lease]);
    assert_eq!(desk.texts("erp", 10), ["a2"]);
    desk.check();
}

// A flood of what is urgent would keep all else waiting for ever.
#[test]
fn eight_urgent_ones_go_before_another() {
    let mut desk = Desk::new(quick());
    desk.publish((0..3).map(|n| publish(&format!("n{n}"))).collect());
    desk.publish((0..20).map(|n| urgent(&format!("u{n}"))).collect());
    let texts: Vec<String> = (0..9).flat_map(|_| desk.texts("erp", 2)).collect();
    let normal: Vec<usize> = (0..18).filter(|n| texts[*n].starts_with('n')).collect();
    assert_eq!(normal, [8, 17]);
}

// A delivery that a sender repeats, or a job that is started twice, would be done twice.
#[test]
fn a_dedup_id_stands_for_one_message() {
    let mut desk = Desk::new(quick());
    let message = Publish { dedup: Some(key("order 1")), ..publish("a") };
    let published = desk.publish(vec![message.clone(), message.clone()]);
    let id = MessageId::new(Lane::Normal, 1);
    assert_eq!(published, [Published::New(id), Published::Duplicate(id)]);
    desk.restart();
    assert_eq!(desk.publish(vec![message]), [Published::Duplicate(id)]);
    assert_eq!(desk.texts("erp", 10), ["a"]);
}

// What comes too early finds nothing to do; what never comes is lost.
#[test]
fn what_is_delayed_comes_in_its_time() {
    let mut desk = Desk::new(quick());
    let delayed = Publish { delay_ms: 10_000, ..publish("later") };
    assert_eq!(desk.publish(vec![delayed, publish("now")])[0], Published::Delayed(1));
    assert_eq!(desk.texts("erp", 10), ["now"]);
    desk.later(9_999);
    assert!(desk.texts("erp", 10).is_empty());
    assert!(desk.node.state.wakes_at().is_some_and(|at| at <= desk.now + 1));
    desk.restart();
    desk.later(1);
    assert_eq!(desk.texts("erp", 10), ["later"]);
    desk.check();
}

// An API that takes so many calls a second would lock its caller out.
#[test]
fn rates_and_bounds_are_kept() {
    let rate = |count| Some(Rate { count, per_ms: 1_000 });
    let mut desk = Desk::new(Settings { rate: rate(3), concurrency: 4, ..quick() });
    desk.publish((0..20).map(|n| publish(&n.to_string())).collect());
    assert_eq!(desk.lease("erp", 10).len(), 3);
    desk.later(333);
    assert!(desk.lease("erp", 10).is_empty());
    desk.later(1);
    assert_eq!(desk.lease("erp", 10).len(), 1);
    desk.later(5_000);
    assert!(desk.lease("erp", 10).is_empty(), "four at once");
    desk.ask(What::Put(Settings { key_rate: rate(2), ..quick() }));
    desk.publish((0..3).map(|n| keyed(&format!("k{n}"), "k")).collect());
    let mut granted = Vec::new();
    for _ in 0..3 {
        let leased = desk.lease("mail", 40);
        let texts = leased.iter().map(|l| desk.text(&l.message)).filter(|t| t.starts_with('k'));
        granted.push(texts.count());
        desk.ack(&leased.iter().map(|l| l.lease).collect::<Vec<_>>());
        desk.later(499);
        assert!(desk.lease("mail", 1).is_empty());
        desk.later(1);
    }
    assert_eq!(granted, [1, 1, 1]);
    desk.check();
}

// An answer that was lost would leave its messages to nobody until the leases run out; and a fleet that asks under a
// key each time would fill the memory with what it was answered.
#[test]
fn leases_that_are_asked_for_again_are_the_same() {
    let mut desk = Desk::new(quick());
    assert_eq!(desk.lease_once("a", 100), Answer::Leased(vec![]), "nothing that is to be repeated");
    let text = |n: u32| n.to_string();
    let some = |n: u32| if n.is_multiple_of(2) { publish(&text(n)) } else { keyed(&text(n), "k") };
    desk.publish((0..300).map(some).collect());
    let first = desk.lease_once("a", 100);
    let Answer::Leased(granted) = &first else { panic!("{first:?}") };
    // The first of the key, and others around those that wait behind it: two, and then one by one.
    assert_eq!(granted.len(), GRANTED_RUNS_MAX + 2);
    desk.restart();
    desk.later(10_000);
    assert_eq!(desk.lease_once("a", 100), first);
    let other = desk.lease_once("b", 100);
    assert!(matches!(&other, Answer::Leased(more) if !more.is_empty()) && other != first);
    assert_eq!(desk.lease_once("a", 99), Answer::Refused(Refused::KeyReused));
    let leases: Vec<_> = granted.iter().map(|of| of.lease).collect();
    assert!(desk.ack(&leases).iter().all(|done| *done));
    assert_eq!(desk.lease_once("a", 100), first);
    assert!(desk.ack(&leases).iter().all(|done| !*done));
    // Another topic of the name has other messages under the same numbers.
    desk.ask(What::Delete);
    desk.publish((0..300).map(some).collect());
    assert_eq!(desk.lease_once("a", 100), Answer::Leased(vec![]));
    desk.later(ANSWER_KEEP_MS + HOUR_MS);
    assert!(matches!(desk.lease_once("a", 100), Answer::Leased(anew) if !anew.is_empty()));
    desk.check();
}
