//! What somebody may ask without harm to others: no loss behind a refusal, no panic, no command without end.

use state::limits::WALKED_PER_COMMAND_MAX;
use state::queue::ask::{Answer, Ask, From, LeaseId, Leased, Publish, Published, Refused, What};
use state::queue::settings::{Rate, Settings};
use state::queue::{MessageId, key_hash};
use state::{Command, Reply};

use crate::common::key;
use crate::desk::{Desk, TOPIC, keyed, publish, quick, urgent};

fn many(count: usize) -> Vec<Publish> {
    (0..count).map(|n| publish(&n.to_string())).collect()
}

// A request that is refused, and has pushed out what others published before it, is a loss that nobody is told of.
#[test]
fn what_can_never_fit_drops_nothing() {
    let bounds = Settings { messages_max: 3, bytes_max: 20, drop_oldest: true, ..quick() };
    let mut desk = Desk::new(bounds);
    desk.publish(vec![publish("a"), publish("b")]);
    for too_much in [many(4), vec![publish(&"x".repeat(21))]] {
        let refused = desk.ask(What::Publish(too_much));
        assert_eq!(refused, Answer::Refused(Refused::Full { messages: 2, bytes: 2 }));
    }
    // What is with a worker cannot go, and the one that could would not be room enough.
    assert_eq!(desk.lease("erp", 2).len(), 2);
    desk.publish(vec![publish("c")]);
    let refused = desk.ask(What::Publish(many(2)));
    assert_eq!(refused, Answer::Refused(Refused::Full { messages: 3, bytes: 3 }));
    assert_eq!(desk.texts("erp", 10), ["c"]);
    desk.check();
}

// A message that is only kept to be replayed would stay, and one that nobody has seen would go for it.
#[test]
fn what_everybody_has_seen_goes_first() {
    let mut desk = Desk::new(Settings { messages_max: 2, drop_oldest: true, ..quick() });
    desk.publish(vec![publish("old")]);
    desk.later(1_000);
    desk.publish(vec![urgent("seen")]);
    let leased = desk.lease("erp", 1)[0];
    assert!(desk.ack(&[leased.lease])[0]);
    desk.publish(vec![publish("new")]);
    assert_eq!(desk.texts("erp", 10), ["old", "new"]);
    desk.check();
}

// A worker that asks for a try in a billion years would stop every node; one that explains itself at length
// would fill their memory.
#[test]
fn what_a_failure_says_is_bounded() {
    let mut desk = Desk::new(quick());
    desk.publish(vec![publish("a")]);
    let lease = desk.lease("erp", 1)[0].lease;
    let nack = |delay_ms, reason: &str| What::Nack {
        leases: vec![lease],
        delay_ms,
        reason: reason.into(),
    };
    let refused = desk.ask(nack(Some(u64::MAX), "no"));
    assert!(matches!(refused, Answer::Refused(Refused::Invalid(_))), "{refused:?}");
    desk.ask(What::Put(Settings { attempts: 1, ..quick() }));
    assert_eq!(desk.ask(nack(None, &"ü".repeat(100_000))), Answer::Done(vec![true]));
    let topic = desk.node.state.data().queue.topic(TOPIC).unwrap();
    let (_, dead) = topic.groups["erp"].dead.iter().next().unwrap();
    assert!((1..=256).contains(&dead.reason.len()), "{}", dead.reason.len());
}

// A million old messages, or a large topic that is deleted, would stop every node for seconds.
#[test]
fn one_command_drops_a_bounded_number() {
    let drops = |desk: &mut Desk| {
        desk.node.now = desk.now;
        let (_, effects) = desk.node.apply(Command::Tick);
        effects.dropped.iter().for_each(|place| drop(desk.bodies.remove(place)));
        desk.check();
        effects.dropped.len()
    };
    let settings = Settings { retention_ms: 60_000, replay_ms: 10_000, ..quick() };
    for delete in [false, true] {
        let mut desk = Desk::new(settings.clone());
        desk.publish(many(700));
        desk.publish((0..200).map(|n| urgent(&n.to_string())).collect());
        let delayed = Publish { delay_ms: 600_000, ..publish("later") };
        desk.publish(vec![delayed; 300]);
        if delete {
            assert_eq!(desk.ask(What::Delete), Answer::Count(1_200));
        } else {
            desk.now += 60_000;
        }
        let left = if delete { 0 } else { 300 };
        for _ in 0..10 {
            assert!(drops(&mut desk) <= WALKED_PER_COMMAND_MAX);
        }
        assert_eq!(desk.bodies.len(), left, "and it goes on until all of it is gone");
    }
}

// A topic of a name that was used before would take a new message for one that is gone with the old topic.
#[test]
fn a_dedup_id_goes_with_its_topic() {
    let mut desk = Desk::new(quick());
    let message = Publish { dedup: Some(key("order 1")), ..publish("a") };
    desk.publish(vec![message.clone()]);
    desk.ask(What::Delete);
    let published = desk.publish(vec![message]);
    assert!(matches!(published[..], [Published::New(_)]), "{published:?}");
    assert_eq!(desk.texts("erp", 1), ["a"]);
}

// A message that was delayed came in an earlier command than those before it: a group that begins at a command
// would miss what came with it.
#[test]
fn a_group_begins_at_a_command_whatever_was_delayed() {
    let mut desk = Desk::new(quick());
    desk.publish(vec![Publish { delay_ms: 1_000, ..publish("delayed") }, publish("before")]);
    desk.publish(vec![publish("there")]);
    let index = desk.node.index;
    desk.later(1_000);
    desk.ask(What::Begin { group: "erp".into(), from: From::Index(index) });
    assert_eq!(desk.texts("erp", 10), ["there", "delayed"]);
}

// A rate that was set too low by mistake would hold the group up for a day after it was put right.
#[test]
fn a_rate_that_is_changed_holds_from_then_on() {
    let daily = Some(Rate { count: 1, per_ms: 86_400_000 });
    for slow in [
        Settings { rate: daily, ..quick() },
        Settings { key_rate: daily, key_concurrency: 5, ..quick() },
    ] {
        let mut desk = Desk::new(slow);
        desk.publish(vec![keyed("a", "k"), keyed("b", "k")]);
        assert_eq!(desk.texts("erp", 10), ["a"]);
        desk.ask(What::Put(Settings { key_concurrency: 5, ..quick() }));
        assert_eq!(desk.texts("erp", 10), ["b"]);
        desk.check();
    }
}

// A key that may have many at once and one a while: what is let go must not be more than what may be leased, or
// each lease would put all the rest back.
#[test]
fn a_rate_of_a_key_makes_one_ready_at_a_time() {
    let key_rate = Some(Rate { count: 10, per_ms: 1_000 });
    let mut desk = Desk::new(Settings { key_rate, key_concurrency: 50, ..quick() });
    desk.publish((0..40).map(|n| keyed(&n.to_string(), "k")).collect());
    let mut came = Vec::new();
    for _ in 0..40 {
        came.extend(desk.texts("erp", 10));
        desk.ask(What::Pause(Some(key_hash("other"))));
        desk.later(100);
        let topic = desk.node.state.data().queue.topic(TOPIC).unwrap();
        let [ready, ..] = desk.node.state.queue().held(topic, &topic.groups["erp"]);
        assert!(ready <= 1, "{ready} are ready");
    }
    let all: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    assert_eq!(came, all);
    desk.check();
}

// Leases of one command have one number: a worker from before a replay could finish what one after it works on.
#[test]
fn a_lease_from_before_a_replay_is_an_old_one() {
    let mut desk = Desk::new(quick());
    desk.publish(vec![publish("a")]);
    let ask = |what| Ask { idempotency: None, topic: TOPIC.into(), what };
    let lease = || ask(What::Lease { group: "erp".into(), max: 1, lease_ms: 30_000 });
    let begin = ask(What::Begin { group: "erp".into(), from: From::Earliest });
    let Reply::Queue(answers) = desk.apply(Command::Queue(vec![lease(), begin, lease()])) else {
        panic!()
    };
    let Answer::Leased(before) = &answers[0] else { panic!("{answers:?}") };
    let after = match &answers[2] {
        Answer::Leased(leased) if !leased.is_empty() => leased.clone(),
        _ => desk.lease("erp", 1),
    };
    let ids = |leased: &[Leased]| -> Vec<LeaseId> { leased.iter().map(|l| l.lease).collect() };
    assert_eq!((before.len(), after.len()), (1, 1));
    assert_eq!(desk.ack(&ids(before)), [false]);
    assert_eq!(desk.ack(&ids(&after)), [true]);
    desk.check();
}

// A schedule that finds no room would miss its time, and nobody could see it.
#[test]
fn a_schedule_that_finds_no_room_is_counted() {
    let mut desk = Desk::new(Settings { messages_max: 1, ..quick() });
    let (name, cron) = (String::from("nightly"), String::from("0 3 * * *"));
    let next = desk.now;
    desk.ask(What::Schedule { name: name.clone(), cron, next, message: publish("go") });
    desk.publish(vec![publish("a")]);
    let refused = desk.ask(What::Fire { name, at: next, next: next + 1 });
    assert_eq!(refused, Answer::Refused(Refused::Full { messages: 1, bytes: 1 }));
    assert_eq!(desk.node.state.data().queue.topic(TOPIC).unwrap().dropped, 1);
    let removed = desk.ask(What::Remove(vec![MessageId(1), MessageId(u64::MAX)]));
    assert_eq!(removed, Answer::Count(0));
}
