//! How a node is set up, and the bounds that everything here keeps.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Error;
use crate::types::Member;

/// The largest command that can be proposed.
pub const COMMAND_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The furthest that a leader's clock may be from the median of the voters' clocks.
///
/// Agreed time cannot be turned back: one stamp from a clock that is an hour ahead stops time for an
/// hour. Clocks kept by NTP agree within tens of milliseconds, so seconds mean that something broke;
/// and 5 s is still far below any deadline that is measured in agreed time.
pub const CLOCK_SKEW_MS_MAX: u64 = 5_000;

/// Entries that are sent to a follower at once.
pub(crate) const ENTRIES_MAX: u64 = 4096;

/// A wall clock in milliseconds since 1970. This crate reads no other.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What a node needs to take part.
#[derive(Clone)]
pub struct Config {
    /// Who this node is. Its `peer` is what the others dial.
    pub member: Member,
    /// Where log and snapshots lie. Belongs to this crate and to one node.
    pub dir: PathBuf,
    /// Where peers are listened for. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Mutual TLS. Without it only loopback is listened on and dialled.
    pub tls: Option<PeerTls>,
    /// Heartbeats and elections.
    pub timing: Timing,
    /// A snapshot is built after so many entries.
    pub snapshot_every: u64,
    /// So many entries before the newest snapshot are kept, for followers that lag a little. While a
    /// follower is sent a snapshot, those that come after it are kept too, up to a bound.
    pub keep_log: u64,
    /// Bytes of entries on their way to one follower at once: at least bandwidth × round trip, or the
    /// link is not used; more only fills queues.
    pub append_window_bytes: usize,
    /// The wall clock.
    pub clock: Clock,
    /// Addresses of peers as seen from this node, by id, where they differ from what the members say
    /// (behind a tunnel, say). Usually empty.
    pub routes: BTreeMap<u64, String>,
}

/// PEM files. The certificate must carry the DNS name `node-{id}.stockraft` of its node.
#[derive(Clone)]
pub struct PeerTls {
    /// The cluster's own authority.
    pub ca: Vec<u8>,
    /// This node's certificate, followed by intermediates if there are any.
    pub cert: Vec<u8>,
    /// This node's private key.
    pub key: Vec<u8>,
}

/// How fast a lost leader is noticed. The heartbeat must exceed the longest round trip between two
/// members, and an election must outlast several heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Pause between heartbeats, and also the time in which each must be answered.
    pub heartbeat_ms: u64,
    /// The least silence after which a follower stands for election.
    pub election_ms_min: u64,
    /// The most.
    pub election_ms_max: u64,
}

impl Default for Timing {
    /// For members within 100 ms of each other.
    fn default() -> Self {
        Self { heartbeat_ms: 300, election_ms_min: 1_000, election_ms_max: 2_000 }
    }
}

impl Config {
    /// A configuration with the defaults for everything that has one.
    #[must_use]
    pub fn new(member: Member, dir: PathBuf, listen: SocketAddr, clock: Clock) -> Self {
        Self {
            member,
            dir,
            listen,
            tls: None,
            timing: Timing::default(),
            snapshot_every: 50_000,
            keep_log: 10_000,
            append_window_bytes: 16 * 1024 * 1024,
            clock,
            routes: BTreeMap::new(),
        }
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        let Timing { heartbeat_ms, election_ms_min, election_ms_max } = self.timing;
        let wrong = if heartbeat_ms == 0 {
            "heartbeat_ms must be above 0"
        } else if election_ms_min < 2 * heartbeat_ms {
            "election_ms_min must be at least two heartbeats, or one lost packet elects a leader"
        } else if election_ms_max <= election_ms_min {
            "election_ms_max must be above election_ms_min, or candidates always stand together"
        } else if self.snapshot_every == 0 {
            "snapshot_every must be above 0"
        } else if self.append_window_bytes < 64 * 1024 {
            "append_window_bytes must be at least 65536"
        } else if self.tls.is_none() && !self.listen.ip().is_loopback() {
            return Err(Error::NotLoopback(self.listen.to_string()));
        } else {
            return Ok(());
        };
        Err(Error::Config(wrong.to_owned()))
    }

    pub(crate) fn openraft(&self) -> Result<openraft::Config, Error> {
        let config = openraft::Config {
            cluster_name: "stockraft".to_owned(),
            heartbeat_interval: self.timing.heartbeat_ms,
            election_timeout_min: self.timing.election_ms_min,
            election_timeout_max: self.timing.election_ms_max,
            // The transport notices by itself when a transfer stalls; this only ends one that runs wild.
            install_snapshot_timeout: 24 * 60 * 60 * 1000,
            max_payload_entries: ENTRIES_MAX,
            snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(self.snapshot_every),
            // Never by itself: see `purge`.
            max_in_snapshot_log_to_keep: u64::MAX,
            enable_pre_vote: Some(true),
            // A member that lost its disk is brought up to date. The other choice stops the leader,
            // and then the next one.
            allow_log_reversion: Some(true),
            // A leader replicates while it flushes. One that is killed may lose entries that others hold
            // already; were it to lead on in the same term, it would write others in their places.
            enable_leader_restore: Some(false),
            ..openraft::Config::default()
        };
        config.validate().map_err(|error| Error::Config(error.to_string()))
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("member", &self.member)
            .field("dir", &self.dir)
            .field("listen", &self.listen)
            .field("timing", &self.timing)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PeerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerTls")
    }
}
