//! A segment as it lies on disk.

use cluster::codec;
use serde::{Deserialize, Serialize};
use state::command::Delivery;
use state::origin::Lane;

/// Before the number of a segment, in its key.
pub(crate) const SEGMENT: u8 = 1;
/// No segment has a greater number: at a million a second it takes a hundred thousand years. What is counted on
/// from here does not overflow.
pub(crate) const ID_MAX: u64 = 1 << 62;

/// What arrived in one lane between two flushes.
#[derive(Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) lane: Lane,
    pub(crate) written_ms: u64,
    pub(crate) deliveries: Vec<Delivery>,
}

pub(crate) fn segment_key(id: u64) -> Vec<u8> {
    [&[SEGMENT][..], &id.to_be_bytes()].concat()
}

/// The number that a key stands for; `None` of a key that no segment has.
pub(crate) fn id(key: &[u8]) -> Option<u64> {
    let id = key.strip_prefix(&[SEGMENT])?.try_into().ok().map(u64::from_be_bytes);
    id.filter(|id| *id <= ID_MAX)
}

pub(crate) fn read(bytes: &[u8]) -> Result<Stored, codec::Error> {
    codec::decode(bytes)
}
