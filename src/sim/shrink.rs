//! The shortest history that breaks the same promise: fewer events, fewer kinds of fault.

use std::time::{Duration, Instant};

use super::{Outcome, Plan, simulate};

/// How long looking for a shorter history may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Looks for a shorter history, for a while.
pub(super) fn shrink(found: Outcome) -> Outcome {
    let until = Instant::now() + PATIENCE;
    let mut shortest = found;
    shortest = events_after(shortest);
    for fault in shortest.plan.kinds.clone().iter() {
        let kinds = shortest.plan.kinds.without(fault);
        shortest = better(&Plan { kinds, ..shortest.plan.clone() }, shortest, until);
    }
    let mut pieces = 2;
    while pieces <= 64 && Instant::now() < until {
        let left: Vec<u64> = left(&shortest.plan).collect();
        for piece in left.chunks(left.len().div_ceil(pieces).max(1)) {
            let mut plan = shortest.plan.clone();
            plan.without.extend(piece);
            shortest = better(&plan, shortest, until);
        }
        pieces *= 2;
    }
    shortest
}

fn left(plan: &Plan) -> impl Iterator<Item = u64> + '_ {
    (1..=plan.events).filter(|event| !plan.without.contains(event))
}

/// Without what happened after the promise was broken.
fn events_after(found: Outcome) -> Outcome {
    let Some(broken) = &found.broken else { return found };
    let mut plan = found.plan.clone();
    plan.without.extend(broken.events + 1..=plan.events);
    better(&plan, found, Instant::now() + PATIENCE)
}

/// The outcome of a plan if it breaks the same promise, or else the one that there was.
fn better(plan: &Plan, than: Outcome, until: Instant) -> Outcome {
    if Instant::now() >= until {
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
