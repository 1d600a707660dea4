//! What comes of commands, in words.

use std::fmt::Write as _;

use state::notices::{Event, Notice};
use state::reply::{Answered, Refused, Step};
use state::reservation::Line;
use state::{Effects, MovementOutcome, Reply};

/// A reply and its effects, in words.
pub fn told(reply: &Reply, effects: &Effects) -> String {
    let mut told = String::new();
    match reply {
        Reply::Done if effects.confirmed.is_empty() => told += "done\n",
        Reply::Done => {}
        Reply::Applied if effects.duplicates > 0 => told += "seen before\n",
        Reply::Applied if effects.applied == 0 && effects.bodies.is_empty() => {
            told += "already applied\n";
        }
        Reply::Applied => told += "applied\n",
        Reply::Gap { expected } => writeln!(told, "a gap: propose again from {expected}").unwrap(),
        Reply::Answered { answer, .. } => told += &answered(answer),
        Reply::Checkpoint { .. } => told += "every node reports\n",
        Reply::KeyReused => told += "the idempotency key was used with another request\n",
        Reply::Claimed { epoch } => writeln!(told, "claimed, epoch {epoch}").unwrap(),
        Reply::Fenced => told += "fenced: another owner has taken over\n",
        Reply::Intended(intended) if intended.is_empty() => told += "nothing to push\n",
        Reply::Intended(intended) => {
            for next in intended {
                match next.step {
                    Step::Push { quantity, from, .. } => {
                        writeln!(told, "push {}: from {from} to {quantity}", next.sku).unwrap();
                    }
                    Step::Observe => writeln!(told, "read {} first", next.sku).unwrap(),
                }
            }
        }
        Reply::Rejected(why) => writeln!(told, "rejected: {why}").unwrap(),
        Reply::Superseded { version } => writeln!(told, "changed meanwhile, at {version}").unwrap(),
        Reply::Queue(answers) => writeln!(told, "{answers:?}").unwrap(),
    }
    for m in &effects.movements {
        let kind = m.kind.name();
        writeln!(
            told,
            "{kind} {} {} @{}: {} on hand, {} available",
            m.sku, m.quantity, m.location, m.on_hand, m.available
        )
        .unwrap();
    }
    for confirmed in &effects.confirmed {
        writeln!(told, "confirmed: {} shows {}", confirmed.channel, confirmed.sku).unwrap();
    }
    told
}

/// The answer to a request, in words.
fn answered(answer: &Answered) -> String {
    let mut told = String::new();
    match answer {
        Answered::Movements(outcomes) => {
            for outcome in outcomes {
                match outcome {
                    MovementOutcome::Rejected(why) => writeln!(told, "rejected: {why}").unwrap(),
                    outcome => writeln!(told, "{}", format!("{outcome:?}").to_lowercase()).unwrap(),
                }
            }
        }
        Answered::Reservation(id, known) => {
            let lines = known.lines.iter().map(|line| {
                let Line { sku, location, held, confirmed, .. } = line;
                format!(" {sku} {held} held and {confirmed} sold @{location}")
            });
            let lines: Vec<String> = lines.collect();
            writeln!(told, "{id} {}:{}", known.status.name(), lines.join(",")).unwrap();
        }
        Answered::Refused(Refused::Insufficient(lacking)) => {
            for lack in lacking {
                let place = lack.location.as_deref().unwrap_or("nowhere");
                let (sku, wanted, left) = (&lack.sku, lack.requested, lack.available);
                writeln!(told, "insufficient: {sku} {wanted} wanted, {left} left @{place}")
                    .unwrap();
            }
        }
        Answered::Refused(refused) => writeln!(told, "refused: {refused:?}").unwrap(),
        Answered::Queue(answer) => writeln!(told, "{answer:?}").unwrap(),
        Answered::Granted(granted) => writeln!(told, "{granted:?}").unwrap(),
        Answered::Changed(Ok(())) => told += "done\n",
        Answered::Changed(Err(why)) => writeln!(told, "rejected: {why}").unwrap(),
    }
    told
}

/// A notice, in words.
pub fn noticed(notice: &Notice) -> String {
    let sku = &notice.sku;
    match &notice.event {
        Event::Shortfall { location, units } => {
            format!("notice: {units} {sku} short @{location}\n")
        }
        Event::Covered { location } => format!("notice: {sku} no longer short @{location}\n"),
        Event::Low { available, low_at } => {
            format!("notice: {available} {sku} available, the mark is {low_at}\n")
        }
    }
}
