//! The shortest history that breaks the same promise: fewer events, fewer kinds of fault.

use std::time::{Duration, Instant};

use super::{Outcome, Plan, simulate};

/// Looks for a shorter history that breaks the same promise, for a while.
pub(super) fn shrink(found: Outcome, patience: Duration) -> Plan {
    let until = Instant::now() + patience;
    let mut shortest = found;
    if let Some(broken) = &shortest.broken {
        // What happened after the promise was broken.
        let mut plan = shortest.plan.clone();
        plan.without.extend(broken.events + 1..=plan.events);
        shortest = better(&plan, shortest, until);
    }
    while let Some(half) = half(&shortest.plan) {
        let before = shortest.plan.hours;
        shortest = better(&half, shortest, until);
        if shortest.plan.hours == before {
            break;
        }
    }
    let mut pieces = 2;
    while pieces <= 128 && Instant::now() < until {
        shortest = without_pieces(shortest, pieces, until);
        pieces *= 2;
    }
    shortest.plan
}

/// Half as long, with the events of that half at the times that they had.
fn half(plan: &Plan) -> Option<Plan> {
    let halves = plan.hours.is_multiple_of(2) && plan.events.is_multiple_of(2);
    let (hours, events) = (plan.hours / 2, plan.events / 2);
    let without = plan.without.iter().copied().filter(|event| *event <= events).collect();
    halves.then(|| Plan { events, hours, without, ..plan.clone() })
}

/// Leaves out one piece after another: of the kinds of fault, then of the events.
fn without_pieces(mut shortest: Outcome, pieces: usize, until: Instant) -> Outcome {
    let kinds: Vec<_> = shortest.plan.kinds.iter().collect();
    for piece in kinds.chunks(kinds.len().div_ceil(pieces).max(1)) {
        let mut plan = shortest.plan.clone();
        for kind in piece {
            plan.kinds = plan.kinds.without(*kind);
        }
        shortest = better(&plan, shortest, until);
    }
    let events: Vec<u64> = left(&shortest.plan).collect();
    for piece in events.chunks(events.len().div_ceil(pieces).max(1)) {
        let mut plan = shortest.plan.clone();
        plan.without.extend(piece);
        shortest = better(&plan, shortest, until);
    }
    shortest
}

fn left(plan: &Plan) -> impl Iterator<Item = u64> + '_ {
    (1..=plan.events).filter(|event| !plan.without.contains(event))
}

/// The outcome of a plan if it breaks the same promise, or else the one that there was.
fn better(plan: &Plan, than: Outcome, until: Instant) -> Outcome {
    if *plan == than.plan || Instant::now() >= until {
        return than;
    }
    let invariant = |outcome: &Outcome| outcome.broken.as_ref().map(|broken| broken.invariant);
    match simulate(plan) {
        Ok(outcome) if invariant(&outcome) == invariant(&than) => outcome,
        _ => than,
    }
}

/// Numbers as they are written on the command line: `3,10-20`.
pub(super) fn ranges(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, end)) if *end + 1 == number => *end = number,
            _ => ranges.push((number, number)),
        }
    }
    let written = ranges.into_iter().map(|(first, last)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    });
    written.collect()
}
