//! What is too much for one command: it goes on with those after it, on a node that lost its memory meanwhile too, and
//! is in nobody's way.

use state::limits::{
    EXPIRED_PER_COMMAND_MAX, SWEPT_AT_ONCE_MAX, SWEPT_PER_COMMAND_MAX, WALKED_PER_COMMAND_MAX,
};
use state::queue::ask::{Answer, From, LeaseId, What};
use state::queue::settings::{Rate, Settings};
use state::queue::{Topic, key_hash};

use crate::desk::{Desk, TOPIC, keyed, publish, quick, urgent};

const GROUP: &str = "erp";
const MANY: usize = 9_000;

fn begin(from: From) -> What {
    What::Begin { group: GROUP.into(), from }
}

/// A topic of which a group has come to many messages: a few are with a worker, the rest is behind the first of them.
fn begun(settings: Settings) -> (Desk, Vec<LeaseId>) {
    let mut desk = Desk::new(settings);
    desk.publish(vec![urgent("u"), publish("x"), publish("y")]);
    for hundreds in 0..MANY / 1_000 {
        let some = (0..1_000).map(|n| keyed(&(hundreds * 1_000 + n).to_string(), "k"));
        desk.publish(some.collect());
    }
    let mut leases = Vec::new();
    for _ in 0..=MANY / SWEPT_PER_COMMAND_MAX {
        leases.extend(desk.lease(GROUP, 1_000).into_iter().map(|leased| leased.lease));
    }
    assert_eq!((leases.len(), held(&desk)), (4, MANY + 3));
    (desk, leases)
}

fn topics(desk: &Desk) -> impl Iterator<Item = &Topic> {
    let queue = &desk.node.state.data().queue;
    queue.topics.values().chain(queue.leaving.values()).map(AsRef::as_ref)
}

/// What all groups have begun, those that are leaving too.
fn held(desk: &Desk) -> usize {
    topics(desk).flat_map(Topic::everybody).map(|group| group.held.len()).sum()
}

/// How many of a group's messages are ready.
fn ready(desk: &Desk) -> usize {
    let state = &desk.node.state;
    let topic = state.data().queue.topic(TOPIC).unwrap();
    state.queue().held(topic, &topic.groups[GROUP])[0]
}

fn is_ready(desk: &Desk) -> bool {
    let state = &desk.node.state;
    state.queue().is_ready(state.data().queue.topic(TOPIC).unwrap(), GROUP, desk.now)
}

/// Lets commands come until nothing is left to be worked off; what each of them changes of `what` is bounded.
fn work_off(desk: &mut Desk, what: fn(&Desk) -> usize, each: fn(&mut Desk)) {
    let mut commands = 0;
    while desk.node.state.queue().wakes_at() == Some(0) {
        let (before, bodies) = (what(desk), desk.bodies.len());
        desk.later(0);
        let (changed, dropped) = (before.abs_diff(what(desk)), bodies - desk.bodies.len());
        assert!(changed <= SWEPT_PER_COMMAND_MAX, "{changed} with one command");
        let most = WALKED_PER_COMMAND_MAX + EXPIRED_PER_COMMAND_MAX;
        assert!(dropped <= most, "{dropped} bodies with one command");
        desk.check();
        desk.restart();
        each(desk);
        commands += 1;
        assert!(commands < 1_000, "it never ends");
    }
    assert!(commands > 0, "nothing was left to be worked off");
}

// Five million messages that wait behind others of their key would stop every node for seconds, when their group
// is deleted.
#[test]
fn a_group_that_holds_much_is_deleted() {
    let (mut desk, leases) = begun(quick());
    let bodies = desk.bodies.len();
    assert_eq!(desk.ask(What::Disband(GROUP.into())), Answer::Count(1));
    assert!(held(&desk) >= MANY + 3 - SWEPT_AT_ONCE_MAX);
    desk.check();
    // Its leases are gone, and its name is free for another that begins with everything.
    assert_eq!(desk.ack(&leases), [false; 4]);
    assert_eq!(desk.texts(GROUP, 3), ["u", "x", "y"]);
    work_off(&mut desk, held, |_| {});
    assert_eq!(desk.bodies.len(), bodies, "nobody has finished with them");
    assert_eq!(desk.texts(GROUP, 3), ["0"]);
}

// What only the deleted group held would stay for ever, or be dropped in one command of seconds.
#[test]
fn what_only_a_deleted_group_held_goes() {
    let (mut desk, _) = begun(Settings { replay_ms: 0, ..quick() });
    // The topic keeps them only because somebody holds them.
    (0..=MANY / WALKED_PER_COMMAND_MAX).for_each(|_| desk.later(1));
    desk.ask(What::Disband(GROUP.into()));
    work_off(&mut desk, held, |_| {});
    assert_eq!(desk.bodies.len(), 0);
}

// A group that goes back over much would stop every node; one that goes on while half of it is taken back would
// give a message to two workers.
#[test]
fn a_group_that_holds_much_begins_again() {
    let (mut desk, leases) = begun(quick());
    desk.ask(begin(From::Earliest));
    desk.check();
    assert!(!is_ready(&desk), "workers would ask again and again");
    assert_eq!(desk.texts(GROUP, 10), [""; 0]);
    // What is asked meanwhile works off as much as a tick.
    work_off(&mut desk, held, |desk| {
        assert!(held(desk) <= SWEPT_PER_COMMAND_MAX || desk.lease(GROUP, 9).is_empty());
    });
    assert_eq!(desk.ack(&leases), [false; 4]);
    let all = desk.lease(GROUP, 10);
    assert_eq!(all.iter().map(|l| desk.text(&l.message)).collect::<Vec<_>>(), ["u", "x", "y", "0"]);
    assert!(all.iter().all(|leased| leased.attempts == 1));
    assert_eq!(desk.ack(&[all[3].lease]), [true]);
    assert_eq!(desk.texts(GROUP, 10), ["1"], "the order of the key is kept");
}

// What a worker says of a message that is being taken back would finish it before its turn comes again; what runs
// out meanwhile would bring it back beside that.
#[test]
fn what_is_being_taken_back_counts_no_more() {
    let (mut desk, leases) = begun(Settings { attempts: 1, ..quick() });
    let index = desk.node.index;
    desk.ask(begin(From::Time(0)));
    assert_eq!(desk.ack(&leases), [false; 4]);
    assert_eq!(desk.nack(&leases, None), [false; 4]);
    desk.now += 31_000;
    work_off(&mut desk, held, |_| {});
    assert!(desk.dead(GROUP).is_empty(), "nothing of it was given up");
    // To where it was: nothing before comes again.
    desk.ask(begin(From::Index(index)));
    assert_eq!(desk.texts(GROUP, 10), [""; 0]);
    desk.check();
}

// A topic with much in it would stop every node when it is deleted, and leave what was due behind.
#[test]
fn a_topic_that_holds_much_is_deleted() {
    let (mut desk, leases) = begun(quick());
    let message = state::queue::ask::Publish { delay_ms: 1_000, ..publish("later") };
    desk.publish(vec![message; 900]);
    assert_eq!(desk.ask(What::Delete), Answer::Count(u64::try_from(MANY + 903).unwrap()));
    desk.check();
    desk.publish(vec![publish("new")]);
    assert_eq!(desk.texts(GROUP, 5), ["new"], "the name is free");
    // What was delayed, and leases, become due meanwhile.
    work_off(&mut desk, held, |desk| desk.now += 1_000);
    assert_eq!(desk.ack(&leases), [false; 4]);
    assert_eq!(desk.bodies.len(), 1);
}

// A key with a great many messages, or a great many keys, would stop every node when their bound is raised.
#[test]
fn bounds_of_keys_are_changed() {
    let (mut desk, _) = begun(quick());
    let wide = Settings { key_concurrency: 100_000, ..quick() };
    desk.ask(What::Put(wide.clone()));
    assert!(ready(&desk) <= SWEPT_AT_ONCE_MAX);
    work_off(&mut desk, ready, |_| {});
    assert_eq!(ready(&desk), MANY - 1);
    // A key of which much is ready is paused, and resumed.
    desk.ask(What::Pause(Some(key_hash("k"))));
    assert_eq!(desk.texts(GROUP, 10), [""; 0], "it looks at a bounded number");
    desk.check();
    while is_ready(&desk) {
        assert_eq!(desk.texts(GROUP, 10), [""; 0]);
    }
    assert_eq!(ready(&desk), 0);
    desk.ask(What::Resume(Some(key_hash("k"))));
    work_off(&mut desk, ready, |_| {});
    assert_eq!(ready(&desk), MANY - 1);
}

// A rate that was set too low by mistake would hold most keys up for a day after it was put right.
#[test]
fn many_keys_are_opened_again() {
    let key_rate = Some(Rate { count: 1, per_ms: 86_400_000 });
    let mut desk = Desk::new(Settings { key_rate, ..quick() });
    for hundreds in 0..6 {
        let some = |n: usize| keyed("a", &(hundreds * 500 + n / 2).to_string());
        desk.publish((0..1_000).map(some).collect());
    }
    let mut leases = Vec::new();
    for _ in 0..6 {
        leases.extend(desk.lease(GROUP, 1_000).into_iter().map(|leased| leased.lease));
    }
    assert_eq!(leases.len(), 3_000, "one of each key");
    leases.chunks(1_000).for_each(|some| assert!(desk.ack(some).into_iter().all(|done| done)));
    assert!(!is_ready(&desk));
    desk.ask(What::Put(quick()));
    work_off(&mut desk, ready, |_| {});
    assert_eq!(ready(&desk), 3_000);
}

// A topic that somebody deleted would come back with the next leader.
#[test]
fn a_topic_of_a_file_is_made_once() {
    let mut desk = Desk::empty();
    assert_eq!(desk.ask(What::Seed(quick())), Answer::Count(1));
    assert_eq!(desk.ask(What::Seed(Settings::default())), Answer::Count(0));
    assert_eq!(desk.node.state.data().queue.topic(TOPIC).unwrap().settings, quick());
    desk.ask(What::Delete);
    desk.restart();
    assert_eq!(desk.ask(What::Seed(quick())), Answer::Count(0));
    assert!(desk.node.state.data().queue.topic(TOPIC).is_none());
}
