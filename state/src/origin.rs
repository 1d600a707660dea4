//! Origin sequences: a segment proposed twice applies once, at no cost per delivery.
//!
//! An inbox numbers its segments from 1 within one process start (an *incarnation*, a random number
//! that is never persisted). Only the successor of the last applied number is applied. After a leader
//! change a later segment can be committed before an earlier one; "the highest so far" would then
//! lose the earlier. A gap is refused instead, and the origin proposes again from there.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::{NodeId, limits};

/// Who numbered a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// The node whose inbox it is.
    pub node: NodeId,
    /// Drawn at random at each process start.
    pub incarnation: u64,
}

/// Two lanes with a sequence each. Orders commute, so a faster decrement is never wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Lane {
    /// Decrements: what lowers available somewhere.
    Urgent,
    /// Everything else.
    Normal,
}

/// The last number applied, by lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequences {
    urgent: u64,
    normal: u64,
}

impl Sequences {
    /// The last number applied in a lane; 0 before the first.
    #[must_use]
    pub const fn last(&self, lane: Lane) -> u64 {
        match lane {
            Lane::Urgent => self.urgent,
            Lane::Normal => self.normal,
        }
    }
}

/// What the sequence rule says of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is the next one.
    Next,
    /// It was applied before.
    Past,
    /// One before it is missing; this number comes next.
    Gap(u64),
}

/// The sequences of all nodes, the latest incarnations of each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origins(BTreeMap<NodeId, Vec<(u64, Sequences)>>);

impl Origins {
    /// The last number applied of an origin's lane.
    #[must_use]
    pub fn last(&self, origin: Origin, lane: Lane) -> u64 {
        let incarnations = self.0.get(&origin.node).map_or(&[][..], Vec::as_slice);
        let found = incarnations.iter().find(|(incarnation, _)| *incarnation == origin.incarnation);
        found.map_or(0, |(_, sequences)| sequences.last(lane))
    }

    /// Judges a number and, if it is the next one, takes it.
    pub fn take(&mut self, origin: Origin, lane: Lane, sequence: u64) -> Turn {
        let last = self.last(origin, lane);
        if sequence <= last {
            return Turn::Past;
        }
        if sequence != last + 1 {
            return Turn::Gap(last + 1);
        }
        let incarnations = self.0.entry(origin.node).or_default();
        let position = incarnations.iter().position(|(known, _)| *known == origin.incarnation);
        let sequences = if let Some((_, sequences)) =
            position.and_then(|position| incarnations.get_mut(position))
        {
            sequences
        } else {
            if incarnations.len() >= limits::INCARNATIONS_MAX {
                incarnations.remove(0);
            }
            incarnations.push((origin.incarnation, Sequences::default()));
            let Some((_, sequences)) = incarnations.last_mut() else { return Turn::Past };
            sequences
        };
        match lane {
            Lane::Urgent => sequences.urgent = sequence,
            Lane::Normal => sequences.normal = sequence,
        }
        Turn::Next
    }
}
