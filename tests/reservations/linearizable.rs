//! Whether what clients saw could have happened one thing after the other.
//!
//! The search of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993), with the memory of
//! Lowe's version of it: which operations were placed already says all, as the state follows from them.

use std::collections::HashSet;

/// What one client did, and what it saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Units were held.
    Held(i64),
    /// So many could not be.
    Refused(i64),
    /// Units were let go.
    LetGo(i64),
    /// So many were available.
    Available(i64),
}

/// One operation: it happened somewhere between two moments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) seen: Seen,
}

impl Seen {
    /// What is available after it, if it can have happened with so much before.
    fn after(self, available: i64) -> Option<i64> {
        match self {
            Self::Held(units) if units <= available => Some(available - units),
            Self::Refused(units) if units > available => Some(available),
            Self::LetGo(units) => Some(available + units),
            Self::Available(units) if units == available => Some(available),
            _ => None,
        }
    }
}

/// An order of all operations that respects their times and explains what was seen; `None` if there is
/// none.
pub(crate) fn explain(operations: &[Operation], available: i64) -> Option<Vec<usize>> {
    let mut search =
        Search { operations, placed: vec![false; operations.len()], seen: HashSet::new() };
    let mut order = Vec::new();
    search.place(available, &mut order).then_some(order)
}

struct Search<'a> {
    operations: &'a [Operation],
    placed: Vec<bool>,
    seen: HashSet<Vec<bool>>,
}

impl Search<'_> {
    fn place(&mut self, available: i64, order: &mut Vec<usize>) -> bool {
        if order.len() == self.operations.len() {
            return true;
        }
        if !self.seen.insert(self.placed.clone()) {
            return false;
        }
        let left = |(n, _): &(usize, &Operation)| !self.placed[*n];
        let all = self.operations.iter().enumerate();
        // Whatever begins after another has ended comes after it.
        let first_end = all.clone().filter(left).map(|(_, op)| op.to).min().unwrap_or(u64::MAX);
        let next: Vec<usize> =
            all.filter(left).filter(|(_, op)| op.from <= first_end).map(|(n, _)| n).collect();
        for n in next {
            let Some(after) = self.operations[n].seen.after(available) else { continue };
            self.placed[n] = true;
            order.push(n);
            if self.place(after, order) {
                return true;
            }
            order.pop();
            self.placed[n] = false;
        }
        false
    }
}

// A checker that lets everything pass proves nothing.
#[test]
fn what_cannot_have_happened_is_found() {
    let op = |from, to, seen| Operation { from, to, seen };
    let held_twice = [op(0, 9, Seen::Held(2)), op(0, 9, Seen::Held(2))];
    assert_eq!(explain(&held_twice, 4).map(|order| order.len()), Some(2));
    assert_eq!(explain(&held_twice, 3), None);
    // A reading from before what it must know of.
    let stale = [op(0, 1, Seen::Held(1)), op(2, 3, Seen::Available(1))];
    assert_eq!(explain(&stale, 1), None);
    let at_once = [op(0, 3, Seen::Held(1)), op(2, 3, Seen::Available(1))];
    assert_eq!(explain(&at_once, 1), Some(vec![1, 0]));
    // Refused, though everything had been let go before.
    let refused = [op(0, 1, Seen::LetGo(2)), op(2, 3, Seen::Refused(2))];
    assert_eq!(explain(&refused, 0), None);
}
