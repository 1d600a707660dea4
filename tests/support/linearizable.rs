//! Whether what clients saw could have happened one thing after the other.
//!
//! The search of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993), with the memory of
//! Lowe's version of it: which operations were placed already says all, as the state follows from them.

use std::collections::HashSet;

/// What one client did, and what it saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
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
pub struct Operation {
    pub from: u64,
    pub to: u64,
    pub seen: Seen,
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
pub fn explain(operations: &[Operation], available: i64) -> Option<Vec<usize>> {
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
