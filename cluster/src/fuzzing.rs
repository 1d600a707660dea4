//! What lies on disk and what peers send, for whoever tries any bytes as that: they are an error, or a value that
//! stays what it is. Built with the feature `fuzzing` alone.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec;
use crate::durable::chunk::{self, Joiner};
use crate::form::{Entry, LogId, Members, MembersAt, Payload, Vote};
use crate::log::decode_entry;
use crate::machine::files::Header;
use crate::transport::message::{
    Answer, Append, Appended, Ask, Ballot, Call, Change, Hello, Install, Lead, Led, PROTOCOL,
    Piece, Purpose, Refusal, Reply, Welcome,
};
use crate::transport::snapshot;
use crate::types::{Member, StoredMembership};

/// Reads a value, if the bytes are one. Both ways of reading must agree on that, and what is written of it must be
/// read as the same.
///
/// # Panics
/// If they do not.
pub fn read<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let mut rest = bytes;
    let streamed = codec::decode_from::<T>(&mut rest).ok().filter(|_| rest.is_empty());
    let value = codec::decode::<T>(bytes).ok();
    assert_eq!(value.is_some(), streamed.is_some(), "a stream is read as something else");
    let (value, streamed) = value.zip(streamed)?;
    let written = codec::encode(&value);
    assert!(codec::encode(&streamed) == written, "a stream is read as something else");
    let again: T = codec::decode(&written).expect("what was written can be read");
    assert!(codec::encode(&again) == written, "what was written is read as something else");
    Some(value)
}

/// Takes any bytes for a frame, as each kind of connection does, and looks at what it says as far as a node does
/// before raft hears of it.
///
/// # Panics
/// If a node would, or would take for something else what was sent.
pub fn frame(bytes: &[u8]) {
    read::<Hello>(bytes);
    read::<Welcome>(bytes);
    read::<Install>(bytes);
    read::<Answer>(bytes);
    if let Some(append) = read::<Append>(bytes) {
        sound(append);
    }
    if let Some(Call { ask, .. }) = read(bytes) {
        match ask {
            Ask::Heartbeat(append) => sound(append),
            Ask::Vote(ballot) | Ask::PreVote(ballot) => drop(ballot.is_of(ballot.vote.node)),
            _ => {}
        }
    }
    if let Some(appended) = read::<Appended>(bytes) {
        appended.answers(None, Some(LogId { term: 1, index: 1 }));
    }
    if let Some(Piece::Begin { vote, header }) = read(bytes)
        && snapshot::check(vote, &header, vote.node).is_ok()
    {
        members(&header);
    }
}

/// What raft is given of entries is what was sent.
fn sound(append: Append) {
    let sent = codec::encode(&append);
    let last = append.last();
    let Ok(request) = append.into_raft() else { return };
    let again = Append::from(request);
    assert_eq!(again.last(), last, "raft is given other entries");
    // A membership that raft writes in another way is the same one.
    let same = |entry: &Entry| !matches!(entry.payload, Payload::Members(_));
    assert!(!again.entries.iter().all(same) || codec::encode(&again) == sent);
}

fn members(header: &Header) {
    let Ok(meta) = header.meta() else { return };
    let stored: StoredMembership = meta.last_membership;
    let read = StoredMembership::try_from(MembersAt::from(stored.clone()));
    assert_eq!(read.ok(), Some(stored), "a membership is read as another");
}

/// Takes any bytes for a record of the log, the head of a snapshot, and for chunks of a value.
///
/// # Panics
/// If a node would, or would take for something else what was stored.
pub fn stored(bytes: &[u8]) {
    read::<LogId>(bytes);
    read::<Vote>(bytes);
    read::<u64>(bytes);
    if let Some(header) = read::<Header>(bytes) {
        members(&header);
    }
    if let Some(entry) = read::<Entry>(bytes)
        && let Ok(entry) = decode_entry(&codec::encode(&entry))
    {
        let again = codec::encode(&Entry::from(entry.clone()));
        assert_eq!(decode_entry(&again).ok(), Some(entry), "an entry is read as another");
    }
    chunks(bytes);
}

/// The first byte says how large a record may be.
fn chunks(bytes: &[u8]) {
    let Some((size, value)) = bytes.split_first() else { return };
    let mut joiner = Joiner::default();
    for (number, part) in (0..).zip(value.chunks(usize::from(*size).max(1))) {
        if !matches!(joiner.push(number, part), Ok(None)) {
            break;
        }
    }
    let Some(records) = chunk::split(b"key", value, usize::from(*size)) else { return };
    let (mut joiner, mut whole) = (Joiner::default(), None);
    for (row, part) in records {
        assert!(row.len() + part.len() <= usize::from(*size), "a record is too large");
        let (key, number) = chunk::split_row(&row).expect("a row was made here");
        assert!(key == b"key" && whole.is_none());
        whole = joiner.push(number, &part).expect("a chunk was made here");
    }
    assert!(whole.as_deref() == Some(value), "a value is not what it was");
}

/// One frame of each kind.
#[must_use]
pub fn frames() -> Vec<Vec<u8>> {
    let vote = Vote { term: 4, node: 2, committed: true };
    let id = LogId { term: 4, index: 9 };
    let append = || {
        let entries = entries(id).into();
        Append { vote, previous: Some(LogId { term: 3, index: 8 }), entries, committed: Some(id) }
    };
    let ballot = Ballot { vote, last: Some(id), transfer: true };
    let propose = Lead::Propose { command: b"command".to_vec().into(), timeout_ms: 1_000 };
    let change = |change| Lead::Change { change, timeout_ms: 1_000 };
    let asks = [
        Ask::Ping,
        Ask::Vote(ballot.clone()),
        Ask::PreVote(ballot),
        Ask::Heartbeat(append()),
        Ask::TakeOver { from: vote, to: 3, last: Some(id) },
        Ask::Lead(propose),
        Ask::Lead(Lead::Barrier { timeout_ms: 1_000 }),
        Ask::Lead(change(Change::AddLearner(member(3)))),
        Ask::Lead(change(Change::Transfer(3))),
        Ask::Membership,
    ];
    let led = Led::Proposed { index: 9, bytes: b"reply".to_vec().into() };
    let replies = [
        Reply::Pong { at_ms: 1_795_186_800_000 },
        Reply::Voted { vote, granted: true, last: Some(id) },
        Reply::Appended(Appended::Conflict(id)),
        Reply::TakesOver(Err("no".into())),
        Reply::Led(Ok(led)),
        Reply::Led(Err(Refusal::Unknown("lost".into()))),
        Reply::Failed("stopped".into()),
        Reply::Membership { agreed: Some(id), yours: true, leader: Some(member(2)) },
    ];
    let calls = asks.into_iter().map(|ask| codec::encode(&Call { id: 7, ask }));
    let answers = replies.into_iter().map(|reply| codec::encode(&Answer { id: 7, reply }));
    let purpose = Purpose::Append;
    let others = [
        codec::encode(&Hello { protocol: PROTOCOL, from: 2, to: 3, purpose }),
        codec::encode(&Welcome::No("who are you".into())),
        codec::encode(&append()),
        codec::encode(&Appended::Matched(Some(id))),
        codec::encode(&Appended::HigherVote(vote)),
        codec::encode(&Piece::Begin { vote, header: header(id) }),
        codec::encode(&Piece::Bytes(b"piece".to_vec().into())),
        codec::encode(&Piece::End { bytes: 5, crc: 1 }),
        codec::encode(&Install::Done { vote }),
        codec::encode(&Install::Failed("full".into())),
    ];
    calls.chain(answers).chain(others).collect()
}

/// One record of each kind, and a value in chunks.
#[must_use]
pub fn records() -> Vec<Vec<u8>> {
    let id = LogId { term: 4, index: 9 };
    let chunks = chunk::split(b"key", &[b'v'; 90], 50).unwrap_or_default();
    let chunks = chunks.into_iter().flat_map(|(_, part)| part);
    let vote = Vote { term: 4, node: 2, committed: true };
    let others = [
        codec::encode(&id),
        codec::encode(&vote),
        codec::encode(&header(id)),
        std::iter::once(43).chain(chunks).collect(),
    ];
    entries(id).iter().map(codec::encode).chain(others).collect()
}

fn member(id: u64) -> Member {
    let (peer, admin) = (format!("10.0.0.{id}:7700"), format!("https://10.0.0.{id}"));
    Member { id, region: "eu".into(), peer, admin }
}

fn joint() -> Members {
    let voters = vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4])];
    Members { voters, members: (1..=4).map(|id| (id, member(id))).collect::<BTreeMap<_, _>>() }
}

fn entries(first: LogId) -> [Entry; 3] {
    let command = Payload::Command { at_ms: 1_000, bytes: b"command".to_vec().into() };
    let mut index = first.index;
    [Payload::Blank, command, Payload::Members(joint())].map(|payload| {
        let id = LogId { index, ..first };
        index += 1;
        Entry { id, payload }
    })
}

fn header(last: LogId) -> Header {
    let members = MembersAt { at: Some(LogId { term: 1, index: 3 }), members: joint() };
    Header { last: Some(last), members, at_ms: 1_000 }
}
