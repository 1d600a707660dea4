use state::Stamp;
use state::origin::Lane;
use state::queue::ask::Publish;

use super::*;

const HOUR: u64 = 3_600_000;

fn apply(state: &mut State, index: u64, now: u64, asks: Vec<Ask>) {
    let (reply, _) = state.apply(Stamp { index, now }, Command::Queue(asks));
    assert!(!format!("{reply:?}").contains("Refused"), "{reply:?}");
}

fn ask(what: What) -> Ask {
    Ask { idempotency: None, topic: "reports".into(), what }
}

fn depth(state: &State) -> u64 {
    state.data().queue.topic("reports").unwrap().depth()
}

fn scheduled(cron: &str, next: u64) -> State {
    let mut state = State::default();
    let body = b"{}".to_vec();
    let message = Publish { lane: Lane::Normal, key: None, delay_ms: 0, dedup: None, body };
    let (name, cron) = ("hourly".into(), cron.into());
    let schedule = What::Schedule { name, cron, next, message };
    apply(&mut state, 1, 1, vec![ask(What::Put(Settings::default())), ask(schedule)]);
    state
}

// Hours without a leader must not come as a flood when one is back; and two leaders that both believe to lead
// must not make two messages of one hour.
#[test]
fn a_schedule_that_was_missed_fires_once_and_goes_on_from_now() {
    let mut state = scheduled("0 * * * *", HOUR);
    let mut unread = BTreeSet::new();
    assert!(due(&state, HOUR - 1).is_empty());
    let now = 5 * HOUR + 60_000;
    let fired = fire(due(&state, now), now, &mut unread);
    let same = fire(due(&state, now), now, &mut unread);
    apply(&mut state, 2, now, fired);
    apply(&mut state, 3, now, same);
    assert_eq!(depth(&state), 1);
    assert!(due(&state, 6 * HOUR - 1).is_empty());
    let fired = fire(due(&state, 6 * HOUR), 6 * HOUR, &mut unread);
    apply(&mut state, 4, 6 * HOUR, fired);
    assert_eq!(depth(&state), 2);
}

// One expression that nobody can read must not keep the others from firing, nor fill the log with complaints.
#[test]
fn a_schedule_that_cannot_be_read_harms_no_other() {
    let state = scheduled("0 * * * * Mars/Base", HOUR);
    let mut both = due(&state, HOUR);
    let good = Due { cron: "0 * * * *".into(), name: "good".into(), topic: "t".into(), at: HOUR };
    both.push(good);
    let mut unread = BTreeSet::new();
    assert_eq!(fire(both, HOUR, &mut unread).len(), 1);
    assert_eq!(unread.len(), 1);
}
