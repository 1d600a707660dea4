//! What openraft is told about us: the types of a command, a reply and a member.

use std::fmt;

use bytes::Bytes;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use openraft::impls::leader_id_std;

/// One member of the cluster, as all members know it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Never used twice, not even for a machine that took another's place.
    pub id: u64,
    /// The region that the node runs in. A name for people; this crate does nothing with it.
    pub region: String,
    /// `host:port` at which its peers reach it.
    pub peer: String,
    /// Where its operators reach it. This crate passes it on and does nothing with it.
    pub admin: String,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} ({}, {})", self.id, self.region, self.peer)
    }
}

/// Bytes that are cheap to clone, and encoded as bytes rather than one by one.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Blob(pub(crate) Bytes);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Take;
        impl Visitor<'_> for Take {
            type Value = Blob;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(Bytes::copy_from_slice(bytes)))
            }
            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(bytes.into()))
            }
        }
        deserializer.deserialize_byte_buf(Take)
    }
}

/// What is proposed: the caller's bytes and the leader's stamp on them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Command {
    pub(crate) at_ms: u64,
    pub(crate) bytes: Blob,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {} ms", self.bytes, self.at_ms)
    }
}

openraft::declare_raft_types!(
    pub(crate) TypeConfig:
        D = Command,
        R = Blob,
        NodeId = u64,
        Node = Member,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = openraft::TokioRuntime,
);

/// openraft, with our log and our machine.
pub(crate) type Core = openraft::Raft<TypeConfig, crate::machine::adapter::Adapter>;
/// What raft tells of itself.
pub(crate) type Metrics = openraft::RaftMetrics<TypeConfig>;
/// That, as it changes.
pub(crate) type MetricsWatch = openraft::alias::WatchReceiverOf<TypeConfig, Metrics>;
pub(crate) type LogId = openraft::alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = openraft::alias::VoteOf<TypeConfig>;
pub(crate) type Entry = openraft::alias::EntryOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, Member>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
pub(crate) type Payload = openraft::alias::PayloadOf<TypeConfig>;

#[cfg(test)]
mod tests {
    use super::*;

    // A run of bytes that claims to be long would be allocated before anything of it has come.
    #[test]
    fn a_claimed_length_is_not_believed() {
        let mut bytes = vec![crate::codec::FORMAT, 253];
        bytes.extend_from_slice(&(1u64 << 60).to_le_bytes());
        bytes.extend_from_slice(&[b'x'; 100]);
        assert!(crate::codec::decode_from::<Blob>(&mut bytes.as_slice()).is_err());
    }
}
