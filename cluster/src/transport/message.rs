//! What peers say to each other. Fields and variants are appended only; a release that must change
//! them raises [`PROTOCOL`] and goes on speaking the one before.

use std::fmt;

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderRequest, VoteRequest, VoteResponse,
};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::config::ENTRIES_MAX;
use crate::form::{Entry, Invalid, LogId, Vote};
use crate::machine::files::Header;
use crate::types::{Blob, Member, TypeConfig};

/// The version of everything in this file.
pub(crate) const PROTOCOL: u32 = 1;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Purpose {
    /// Votes, heartbeats, clocks: small and urgent.
    Control,
    /// Entries, in order, many on their way at once.
    Append,
    /// One snapshot.
    Snapshot,
    /// Calls for the leader.
    Forward,
}

/// The first frame of whoever dials.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) protocol: u32,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) purpose: Purpose,
}

/// The first frame of whoever was dialled.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Welcome {
    Yes,
    No(String),
}

/// Entries for a follower.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Append {
    pub(crate) vote: Vote,
    pub(crate) previous: Option<LogId>,
    #[serde(deserialize_with = "few")]
    pub(crate) entries: Vec<Entry>,
    pub(crate) committed: Option<LogId>,
}

/// As many entries as are sent at once. A frame has room for millions that hold nothing.
fn few<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Entry>, D::Error> {
    struct Few;
    impl<'de> Visitor<'de> for Few {
        type Value = Vec<Entry>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "up to {ENTRIES_MAX} entries")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<Entry>, A::Error> {
            let mut entries = Vec::new();
            for place in 0..=ENTRIES_MAX {
                match items.next_element()? {
                    Some(entry) if place < ENTRIES_MAX => entries.push(entry),
                    Some(_) => break,
                    None => return Ok(entries),
                }
            }
            Err(de::Error::invalid_length(entries.len(), &self))
        }
    }
    from.deserialize_seq(Few)
}

/// A follower's answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Appended {
    Matched(Option<LogId>),
    Conflict(LogId),
    HigherVote(Vote),
}

/// A call on a control or forward connection. Answers bear its id and come in any order.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) id: u64,
    pub(crate) ask: Ask,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) id: u64,
    pub(crate) reply: Reply,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ballot {
    pub(crate) vote: Vote,
    pub(crate) last: Option<LogId>,
    pub(crate) transfer: bool,
}

impl Ballot {
    /// Whether node `from` can have sent it, for itself.
    pub(crate) fn is_of(&self, from: u64) -> bool {
        let last = self.last.is_none_or(LogId::is_possible);
        self.vote.node == from && self.vote.is_possible() && last
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    Ping,
    Vote(Ballot),
    PreVote(Ballot),
    Heartbeat(Append),
    TakeOver {
        from: Vote,
        to: u64,
        last: Option<LogId>,
    },
    Lead(Lead),
    /// What whoever asks is to the newest membership.
    Membership,
}

/// What only a leader can do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Lead {
    Propose { command: Blob, timeout_ms: u64 },
    Barrier { timeout_ms: u64 },
    Change { change: Change, timeout_ms: u64 },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Change {
    AddLearner(Member),
    Promote(u64),
    Demote(u64),
    Remove(u64),
    Transfer(u64),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Pong {
        at_ms: u64,
    },
    Voted {
        vote: Vote,
        granted: bool,
        last: Option<LogId>,
    },
    Appended(Appended),
    TakesOver(Result<(), String>),
    Led(Result<Led, Refusal>),
    /// The peer cannot answer; its raft has stopped, say.
    Failed(String),
    /// Where the newest membership stands in the log, if it is agreed on, whether whoever asks is in it, and
    /// who leads.
    Membership {
        agreed: Option<LogId>,
        yours: bool,
        leader: Option<Member>,
    },
}

/// What a leader did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Led {
    Proposed { index: u64, bytes: Blob },
    Barrier { index: u64 },
    Changed,
}

/// Why it did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    /// Certainly not done; another leads, if anyone.
    NotLeader,
    /// Certainly not done.
    Unavailable(String),
    /// Makes no sense.
    Refused(String),
    /// Perhaps done.
    Unknown(String),
}

/// A snapshot on its way.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Piece {
    Begin { vote: Vote, header: Header },
    Bytes(Blob),
    End { bytes: u64, crc: u32 },
}

/// How it goes on the other side.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Install {
    /// Received and being built in; told every now and then, so that silence means loss.
    Working,
    Done {
        vote: Vote,
    },
    Failed(String),
}

impl From<AppendEntriesRequest<TypeConfig>> for Append {
    fn from(request: AppendEntriesRequest<TypeConfig>) -> Self {
        Self {
            vote: request.vote.into(),
            previous: request.prev_log_id.map(Into::into),
            entries: request.entries.into_iter().map(Into::into).collect(),
            committed: request.leader_commit.map(Into::into),
        }
    }
}

impl Append {
    /// Whether a leader can have sent this: its entries follow on each other, and nothing is later than its vote.
    /// Raft takes what is so for granted, and would end the node over the rest.
    fn is_sound(&self) -> bool {
        let term = self.vote.term;
        let possible = |id: &LogId| id.term <= term && id.is_possible();
        let mut before = self.previous;
        let follows = self.entries.iter().all(|entry| {
            let (index, least) = before.map_or((0, 0), |id| (id.index + 1, id.term));
            before = Some(entry.id);
            possible(&entry.id) && entry.id.index == index && entry.id.term >= least
        });
        let ends = [self.previous, self.committed];
        self.vote.committed
            && self.vote.is_possible()
            && ends.iter().flatten().all(possible)
            && follows
    }

    pub(crate) fn into_raft(self) -> Result<AppendEntriesRequest<TypeConfig>, Invalid> {
        if !self.is_sound() {
            return Err(Invalid("entries that no leader can have sent".to_owned()));
        }
        let entries = self.entries.into_iter().map(Entry::into_raft).collect::<Result<_, _>>()?;
        Ok(AppendEntriesRequest {
            vote: self.vote.into(),
            prev_log_id: self.previous.map(Into::into),
            entries,
            leader_commit: self.committed.map(Into::into),
        })
    }

    /// The last entry that a follower has once it took these.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.entries.last().map(|entry| entry.id).or(self.previous)
    }
}

impl Appended {
    /// Whether it answers entries between these: a follower has no more than it was sent, and rejects what it was
    /// sent.
    pub(crate) fn answers(&self, previous: Option<LogId>, last: Option<LogId>) -> bool {
        match self {
            Self::Matched(matched) => *matched <= last,
            Self::Conflict(at) => Some(*at) == previous,
            Self::HigherVote(vote) => vote.is_possible(),
        }
    }
}

impl From<StreamAppendResult<TypeConfig>> for Appended {
    fn from(result: StreamAppendResult<TypeConfig>) -> Self {
        match result {
            Ok(matched) => Self::Matched(matched.map(Into::into)),
            Err(StreamAppendError::Conflict(at)) => Self::Conflict(at.into()),
            Err(StreamAppendError::HigherVote(vote)) => Self::HigherVote(vote.into()),
        }
    }
}

impl From<Appended> for StreamAppendResult<TypeConfig> {
    fn from(appended: Appended) -> Self {
        match appended {
            Appended::Matched(matched) => Ok(matched.map(Into::into)),
            Appended::Conflict(at) => Err(StreamAppendError::Conflict(at.into())),
            Appended::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote.into())),
        }
    }
}

impl From<Appended> for AppendEntriesResponse<TypeConfig> {
    fn from(appended: Appended) -> Self {
        match appended {
            Appended::Matched(matched) => Self::PartialSuccess(matched.map(Into::into)),
            Appended::Conflict(_) => Self::Conflict,
            Appended::HigherVote(vote) => Self::HigherVote(vote.into()),
        }
    }
}

impl From<VoteRequest<TypeConfig>> for Ballot {
    fn from(request: VoteRequest<TypeConfig>) -> Self {
        Self {
            vote: request.vote.into(),
            last: request.last_log_id.map(Into::into),
            transfer: request.leadership_transfer,
        }
    }
}

impl From<Ballot> for VoteRequest<TypeConfig> {
    fn from(ballot: Ballot) -> Self {
        let mut request = Self::new(ballot.vote.into(), ballot.last.map(Into::into));
        request.leadership_transfer = ballot.transfer;
        request
    }
}

impl From<VoteResponse<TypeConfig>> for Reply {
    fn from(response: VoteResponse<TypeConfig>) -> Self {
        Self::Voted {
            vote: response.vote.into(),
            granted: response.vote_granted,
            last: response.last_log_id.map(Into::into),
        }
    }
}

impl From<TransferLeaderRequest<TypeConfig>> for Ask {
    fn from(request: TransferLeaderRequest<TypeConfig>) -> Self {
        Self::TakeOver {
            from: (*request.from_leader()).into(),
            to: *request.to_node_id(),
            last: request.last_log_id().copied().map(Into::into),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::encode;
    use crate::form::Payload;

    // During a rolling upgrade releases speak to each other: these bytes were sent by the first.
    #[test]
    fn golden_bytes_between_peers_do_not_change() {
        let hello = Hello { protocol: PROTOCOL, from: 2, to: 3, purpose: Purpose::Forward };
        assert_eq!(encode(&hello), [1, 1, 2, 3, 3]);
        assert_eq!(encode(&Welcome::No("x".to_owned())), [1, 1, 1, b'x']);

        let vote = Vote { term: 4, node: 2, committed: true };
        let id = LogId { term: 4, index: 9 };
        let payload = Payload::Command { at_ms: 5, bytes: b"c".to_vec().into() };
        let entries = vec![Entry { id, payload }];
        let append = Append { vote, previous: None, entries, committed: Some(id) };
        assert_eq!(encode(&append), [1, 4, 2, 1, 0, 1, 4, 9, 1, 5, 1, b'c', 1, 4, 9]);
        assert_eq!(encode(&Appended::Conflict(id)), [1, 1, 4, 9]);

        let ballot = Ballot { vote, last: Some(id), transfer: false };
        assert_eq!(
            encode(&Call { id: 7, ask: Ask::PreVote(ballot) }),
            [1, 7, 2, 4, 2, 1, 1, 4, 9, 0]
        );
        let lead = Lead::Propose { command: b"c".to_vec().into(), timeout_ms: 8 };
        assert_eq!(encode(&Call { id: 7, ask: Ask::Lead(lead) }), [1, 7, 5, 0, 1, b'c', 8]);
        let reply = Reply::Led(Err(Refusal::Unknown(String::new())));
        assert_eq!(encode(&Answer { id: 7, reply }), [1, 7, 4, 1, 3, 0]);
        assert_eq!(encode(&Call { id: 7, ask: Ask::Membership }), [1, 7, 6]);
        let reply = Reply::Membership { agreed: Some(id), yours: true, leader: None };
        assert_eq!(encode(&Answer { id: 7, reply }), [1, 7, 6, 1, 4, 9, 1, 0]);
        assert_eq!(encode(&Piece::End { bytes: 1, crc: 2 }), [1, 2, 1, 2]);
        assert_eq!(encode(&Install::Done { vote }), [1, 1, 4, 2, 1]);
    }
}
