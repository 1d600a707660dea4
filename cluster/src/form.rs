//! The shapes in which raft's own things are written to disk and sent to peers.
//!
//! They are ours, so that neither the files of a running cluster nor a rolling upgrade depend on how
//! a release of openraft lays out its structs. Fields and variants are appended only.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::types::{self, Blob, Command, Member, Membership, StoredMembership};

/// Where an entry stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct LogId {
    pub(crate) term: u64,
    pub(crate) index: u64,
}

/// Terms and indexes beyond this never come about: at a million a second it takes a hundred thousand years.
/// What is counted on from here does not overflow.
const POSSIBLE_MAX: u64 = 1 << 62;

impl LogId {
    /// Whether a log can have come so far.
    pub(crate) const fn is_possible(self) -> bool {
        self.term <= POSSIBLE_MAX && self.index <= POSSIBLE_MAX
    }
}

impl From<types::LogId> for LogId {
    fn from(id: types::LogId) -> Self {
        Self { term: id.leader_id.term, index: id.index }
    }
}

impl From<LogId> for types::LogId {
    fn from(id: LogId) -> Self {
        Self::new(id.term.into(), id.index)
    }
}

/// Whom a node follows, or would.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Vote {
    pub(crate) term: u64,
    pub(crate) node: u64,
    pub(crate) committed: bool,
}

impl Vote {
    /// Whether elections can have come so far.
    pub(crate) const fn is_possible(self) -> bool {
        self.term <= POSSIBLE_MAX
    }
}

impl From<types::Vote> for Vote {
    fn from(vote: types::Vote) -> Self {
        Self {
            term: vote.leader_id.term,
            node: vote.leader_id.voted_for,
            committed: vote.committed,
        }
    }
}

impl From<Vote> for types::Vote {
    fn from(vote: Vote) -> Self {
        if vote.committed {
            Self::new_committed(vote.term, vote.node)
        } else {
            Self::new(vote.term, vote.node)
        }
    }
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) id: LogId,
    pub(crate) payload: Payload,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Payload {
    Blank,
    Command { at_ms: u64, bytes: Blob },
    Members(Members),
}

impl From<types::Entry> for Entry {
    fn from(entry: types::Entry) -> Self {
        let payload = match entry.payload {
            types::Payload::Blank => Payload::Blank,
            types::Payload::Normal(Command { at_ms, bytes }) => Payload::Command { at_ms, bytes },
            types::Payload::Membership(membership) => Payload::Members(membership.into()),
        };
        Self { id: entry.log_id.into(), payload }
    }
}

impl Entry {
    /// The entry as raft has it. Not a `TryFrom`, which the compiler takes for ambiguous here.
    pub(crate) fn into_raft(self) -> Result<types::Entry, Invalid> {
        let payload = match self.payload {
            Payload::Blank => types::Payload::Blank,
            Payload::Command { at_ms, bytes } => types::Payload::Normal(Command { at_ms, bytes }),
            Payload::Members(members) => types::Payload::Membership(members.try_into()?),
        };
        Ok(types::Entry { log_id: self.id.into(), payload })
    }
}

/// Who belongs to the cluster, and who of them votes: one set, or two while it changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Members {
    pub(crate) voters: Vec<BTreeSet<u64>>,
    pub(crate) members: BTreeMap<u64, Member>,
}

impl From<Membership> for Members {
    fn from(membership: Membership) -> Self {
        Self {
            voters: membership.get_joint_config().clone(),
            members: membership.nodes().map(|(id, member)| (*id, member.clone())).collect(),
        }
    }
}

impl TryFrom<Members> for Membership {
    type Error = Invalid;

    fn try_from(members: Members) -> Result<Self, Invalid> {
        Self::new(members.voters, members.members)
            .map_err(|error| Invalid(format!("an impossible membership: {error}")))
    }
}

/// A membership and the entry that made it so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MembersAt {
    pub(crate) at: Option<LogId>,
    pub(crate) members: Members,
}

impl From<StoredMembership> for MembersAt {
    fn from(stored: StoredMembership) -> Self {
        Self { at: stored.log_id().map(Into::into), members: stored.membership().clone().into() }
    }
}

impl TryFrom<MembersAt> for StoredMembership {
    type Error = Invalid;

    fn try_from(stored: MembersAt) -> Result<Self, Invalid> {
        Ok(Self::new(stored.at.map(Into::into), stored.members.try_into()?))
    }
}

/// What no cluster can have: a voter that is no member, say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Invalid(pub(crate) String);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    fn member(id: u64) -> Member {
        let peer = format!("10.0.0.{id}:7700");
        Member { id, region: "eu".to_owned(), peer, admin: String::new() }
    }

    // What the first release wrote must be read by every later one, byte for byte.
    #[test]
    fn golden_bytes_of_an_entry_do_not_change() {
        let id = LogId { term: 3, index: 300 };
        let payload = Payload::Command { at_ms: 1_000, bytes: b"ab".to_vec().into() };
        let bytes = codec::encode(&Entry { id, payload });
        assert_eq!(bytes, [1, 3, 251, 44, 1, 1, 251, 232, 3, 2, 97, 98]);
        let bytes = codec::encode(&Vote { term: 7, node: 2, committed: true });
        assert_eq!(bytes, [1, 7, 2, 1]);
        let members = Members {
            voters: vec![BTreeSet::from([1])],
            members: BTreeMap::from([(1, member(1))]),
        };
        let bytes = codec::encode(&Entry { id, payload: Payload::Members(members) });
        let mut golden = vec![1, 3, 251, 44, 1, 2, 1, 1, 1, 1, 1, 1, 2];
        golden.extend_from_slice(b"eu");
        golden.push(13);
        golden.extend_from_slice(b"10.0.0.1:7700");
        golden.push(0);
        assert_eq!(bytes, golden);
    }

    // A vote counted among nodes that are no members could never be won, or always.
    #[test]
    fn an_impossible_membership_is_refused() {
        let members = Members { voters: vec![BTreeSet::from([1])], members: BTreeMap::new() };
        assert!(Membership::try_from(members).is_err());
    }

    // A membership that loses a learner or the second of two voter sets on its way through the log
    // would let a minority decide.
    #[test]
    fn a_membership_in_change_survives_the_round_trip() {
        let voters = vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4])];
        let members = Members { voters, members: (1..=5).map(|id| (id, member(id))).collect() };
        let stored = MembersAt { at: Some(LogId { term: 1, index: 9 }), members };
        let through: StoredMembership = stored.clone().try_into().unwrap();
        assert_eq!(MembersAt::from(through), stored);
    }
}
