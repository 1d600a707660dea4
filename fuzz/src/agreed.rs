//! What is stored and replicated: the state is pure and total, whatever the log says.

use state::command::Command;
use state::{Millis, Stamp, State, invariant};

use crate::codec;

/// Commands with their times, decoded as a log's entries are and applied by two nodes, one of which
/// starts anew from a snapshot after each.
pub(crate) fn command(input: &[u8]) {
    let Ok(log) = codec::decode::<Vec<(Millis, Command)>>(input) else { return };
    let bytes = codec::encode(&log);
    let again: Vec<(Millis, Command)> = codec::decode(&bytes).expect("it was encoded here");
    assert_eq!(log, again, "bytes that were written are read as something else");
    let (mut one, mut other) = (State::default(), State::default());
    for (index, (now, command)) in (1..).zip(log) {
        let stamp = Stamp { index, now };
        let (reply, _) = one.apply(stamp, command.clone());
        assert_eq!(reply, other.apply(stamp, command).0, "two nodes answer differently");
        let snapshot = codec::encode(other.data());
        other = State::new(codec::decode(&snapshot).expect("it was encoded here"));
        assert_eq!(one.data(), other.data(), "two nodes differ");
        let sound = invariant::lists_are_derived(&one);
        if let Err(why) = sound.and_then(|()| invariant::queue_is_sound(one.data())) {
            panic!("{why}");
        }
    }
}
