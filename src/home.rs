//! Which node does a channel's work: pushing to it, and asking its API.

use cluster::Status;

/// A channel's home is the node that its definition names, or the voter with the lowest id where that
/// is no member.
#[must_use]
pub fn home(status: &Status, wanted: Option<u64>) -> Option<u64> {
    let named = wanted.filter(|id| status.members.iter().any(|known| known.member.id == *id));
    let voters = status.members.iter().filter(|member| member.voter);
    named.or_else(|| voters.map(|voter| voter.member.id).min())
}
