//! What lies on disk and what peers send: any bytes are an error, or a value that is written as it was read.

use cluster::fuzzing::read;
use state::reply::Kept;
use state::{Data, State};

use product::history;

#[path = "../../src"]
#[allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "the files themselves, without the node around them"
)]
mod product {
    pub(super) mod history;
}

#[path = "../../src/inbox/record.rs"]
#[allow(dead_code, reason = "the file itself, without the node around it")]
mod record;

/// A frame of a peer's.
pub(crate) fn frame(input: &[u8]) {
    cluster::fuzzing::frame(input);
}

/// A record of the log, or the head of a snapshot.
pub(crate) fn stored(input: &[u8]) {
    cluster::fuzzing::stored(input);
}

/// A segment of an inbox, by its key and by its value.
pub(crate) fn inbox(input: &[u8]) {
    if let Some(id) = record::id(input) {
        assert_eq!(record::segment_key(id), input, "a segment is another one");
    }
    assert_eq!(record::read(input).is_ok(), read::<record::Stored>(input).is_some());
}

/// A record of the history: movements, a dead letter's body, arrivals; or one on its way to a peer.
pub(crate) fn history(input: &[u8]) {
    read::<history::Lines>(input);
    read::<history::Arrivals>(input);
    read::<Kept>(input);
    read::<Option<(Vec<u8>, Vec<u8>)>>(input);
}

/// A state as a peer sends it: what is taken in can be looked at, and sent on.
pub(crate) fn snapshot(input: &[u8]) {
    let Some(data) = read::<Data>(input) else { return };
    let state = State::new(data);
    let again = cluster::codec::encode(state.data());
    let again = read::<Data>(&again).map(State::new);
    assert!(again.is_some_and(|again| again.data() == state.data()), "it is another state");
}
