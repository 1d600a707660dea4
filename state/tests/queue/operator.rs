//! What an operator is promised: bounds, replays, pauses, and what goes when it is old.

use state::origin::Lane;
use state::queue::MessageId;
use state::queue::ask::{Answer, From, Published, Refused, What};
use state::queue::settings::Settings;

use crate::common::START;
use crate::desk::{Desk, keyed, publish, quick};

// A full topic that takes more fills the memory of every node; one that forgets silently loses work.
#[test]
fn a_full_topic_refuses_or_makes_room_as_it_is_told() {
    let mut desk = Desk::new(Settings { messages_max: 3, ..quick() });
    desk.publish((0..3).map(|n| publish(&n.to_string())).collect());
    let full = Answer::Refused(Refused::Full { messages: 3, bytes: 3 });
    assert_eq!(desk.ask(What::Publish(vec![publish("3")])), full);
    // What every group has finished with makes room, though it could still be replayed.
    let leased = desk.lease("erp", 2);
    assert_eq!(desk.ask(What::Publish(vec![publish("3")])), full, "both are held");
    desk.ack(&[leased[0].lease]);
    desk.publish(vec![publish("3")]);
    assert_eq!(desk.ask(What::Publish(vec![publish("4")])), full);
    desk.check();
    desk.ask(What::Put(Settings { messages_max: 3, drop_oldest: true, ..quick() }));
    desk.publish(vec![publish("4")]);
    assert_eq!(desk.texts("erp", 10), ["3", "4"]);
    desk.check();
}

// A group that began too late, or was broken for a day, could never catch up.
#[test]
fn a_group_can_begin_again_where_it_likes() {
    let mut desk = Desk::new(quick());
    desk.publish(vec![publish("a")]);
    desk.later(60_000);
    let (time, index) = (desk.now, desk.node.index + 1);
    desk.publish(vec![publish("b"), publish("c")]);
    let leased = desk.lease("erp", 10);
    desk.ack(&leased.iter().map(|l| l.lease).collect::<Vec<_>>());
    for (from, expected) in [
        (From::Time(time), &["b", "c"][..]),
        (From::Index(index), &["b", "c"]),
        (From::Earliest, &["a", "b", "c"]),
        (From::Latest, &[]),
    ] {
        desk.ask(What::Begin { group: "erp".into(), from });
        assert_eq!(desk.texts("erp", 10), expected, "{from:?}");
        desk.check();
    }
}

// A worker that must not run, runs; or what was held back is forgotten.
#[test]
fn what_is_paused_waits() {
    let mut desk = Desk::new(quick());
    desk.publish(vec![keyed("a1", "a"), keyed("b1", "b"), keyed("a2", "a")]);
    let paused = state::queue::key_hash("a");
    desk.ask(What::Pause(Some(paused)));
    assert_eq!(desk.texts("erp", 10), ["b1"]);
    desk.restart();
    desk.ask(What::Pause(None));
    desk.ask(What::Resume(Some(paused)));
    assert!(desk.texts("erp", 10).is_empty());
    desk.ask(What::Resume(None));
    assert_eq!(desk.texts("erp", 10), ["a1"]);
    desk.check();
}

// Old messages fill the disks for ever; or a group that was away finds nothing, and nobody says so.
#[test]
fn what_is_old_goes_and_what_was_missed_is_named() {
    let settings = Settings { retention_ms: 60_000, replay_ms: 10_000, ..quick() };
    let mut desk = Desk::new(settings);
    desk.publish(vec![publish("a"), publish("b")]);
    desk.ask(What::Begin { group: "mail".into(), from: From::Earliest });
    let leased = desk.lease("erp", 10);
    desk.ack(&[leased[0].lease]);
    desk.later(60_000);
    desk.later(0);
    assert_eq!(desk.dead("mail").len(), 2);
    assert_eq!(desk.bodies.len(), 2, "they are kept for the one who missed them");
    desk.check();
    desk.ask(What::Disband("mail".into()));
    assert_eq!(desk.bodies.len(), 1, "the other one is still leased, or was");
    let again = desk.lease("erp", 1)[0];
    desk.ack(&[again.lease]);
    assert!(desk.bodies.is_empty());
    desk.check();
}

// What is deleted would come back, or its bodies stay on disk.
#[test]
fn a_deleted_topic_is_gone_and_its_name_is_free() {
    let mut desk = Desk::new(quick());
    desk.publish((0..600).map(|n| publish(&n.to_string())).collect());
    desk.lease("erp", 10);
    assert_eq!(desk.ask(What::Delete), Answer::Count(600));
    assert_eq!(desk.ask(What::Ack(vec![])), Answer::Refused(Refused::UnknownTopic));
    desk.check();
    desk.publish(vec![publish("new")]);
    desk.restart();
    (0..5).for_each(|_| desk.later(1_000));
    assert_eq!(desk.bodies.len(), 1);
    assert_eq!(desk.texts("erp", 10), ["new"]);
    desk.check();
}

// A schedule that two nodes fire is published twice; one that nobody fires again stops.
#[test]
fn a_schedule_fires_once_for_each_time() {
    let mut desk = Desk::new(quick());
    let (name, cron) = (String::from("nightly"), String::from("0 3 * * *"));
    let next = START + 1_000;
    desk.ask(What::Schedule { name: name.clone(), cron, next, message: publish("go") });
    let fire = |at, next| What::Fire { name: name.clone(), at, next };
    assert_eq!(
        desk.ask(fire(next, next + 10)),
        Answer::Published(vec![Published::New(MessageId::new(Lane::Normal, 1))])
    );
    assert_eq!(desk.ask(fire(next, next + 10)), Answer::Published(vec![]));
    assert_eq!(desk.ask(fire(next + 10, next)), Answer::Published(vec![]), "it never goes back");
    let unknown = Refused::UnknownSchedule("other".into());
    assert_eq!(desk.ask(What::Unschedule("other".into())), Answer::Refused(unknown));
    desk.check();
}
