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

/// How many voters stand in for a channel's home before this one does: the lowest id first. `None` for its
/// home, and for a node that does not vote.
#[must_use]
pub fn stands_in(status: &Status, wanted: Option<u64>, node: u64) -> Option<u32> {
    let home = home(status, wanted);
    let voters = status.members.iter().filter(|known| known.voter).map(|known| known.member.id);
    let others: Vec<u64> = voters.filter(|id| Some(*id) != home).collect();
    let before = others.iter().filter(|id| **id < node).count();
    others.contains(&node).then(|| u32::try_from(before).unwrap_or(u32::MAX))
}
