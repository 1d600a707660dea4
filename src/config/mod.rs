//! One node's config file: what it may say, what it means, and every fault of it with its line.

mod api;
mod channels;
mod faults;
mod policies;
mod queue;
mod secret;
mod sources;
mod values;
mod verify;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use state::limits::{LOCATIONS_MAX, NAME_LEN_MAX};

pub use api::Api;
pub(crate) use channels::{CHANNEL_NAME_RULE, is_channel_name, unknown_kind};
pub use channels::{Channel, Meaning};
pub(crate) use faults::nearest;
pub use faults::{Fault, Faults};
pub use policies::Policy;
pub(crate) use policies::{Part, in_percent};
pub use queue::{Builtin, Endpoint, Queue, Route, Topic};
#[cfg(feature = "planted-bugs")]
pub use secret::planted_bug;
pub use secret::{Secret, log_filter};
pub use sources::{Odoo, Poll, Sns, Sqs};
pub use values::{Bytes, Millis};
pub use verify::Verify;

/// The largest `ingest.max_body`: a segment with one such body must fit into one log entry.
const BODY_BYTES_MAX: u64 = 4 << 20;
#[expect(clippy::as_conversions, reason = "a constant that fits in any integer")]
const _: () = assert!(
    BODY_BYTES_MAX <= cluster::COMMAND_BYTES_MAX as u64 / 2,
    "a segment with the largest body would not fit into a log entry"
);

/// A node's config, as written. `config.default.toml` in the repository explains every setting.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who this node is.
    pub node: Node,
    /// Where it listens.
    #[serde(default)]
    pub listen: Listen,
    /// Certificates for the peer listener; without them peers are on loopback only.
    pub peer_tls: Option<PeerTls>,
    /// Who may use the admin listener.
    #[serde(default)]
    pub admin: Admin,
    /// How webhooks are accepted.
    #[serde(default)]
    pub ingest: Ingest,
    /// How nodes agree.
    #[serde(default)]
    pub raft: Raft,
    /// When this node calls itself ready.
    #[serde(default)]
    pub ready: Ready,
    /// Where stock lies.
    #[serde(default)]
    pub ledger: Ledger,
    /// Sales channels.
    #[serde(default, rename = "channel")]
    pub channels: Vec<Channel>,
    /// How often what is allotted to channels is looked at.
    #[serde(default)]
    pub allocation: Allocation,
    /// Allocation policies, first match wins.
    #[serde(default, rename = "policy")]
    pub policies: Vec<Policy>,
    /// What deliveries publish where no route matches.
    #[serde(default)]
    pub queue: Queue,
    /// What deliveries publish, first match wins.
    #[serde(default, rename = "route")]
    pub routes: Vec<Route>,
    /// Topics that are made where they are not there yet.
    #[serde(default, rename = "topic")]
    pub topics: Vec<Topic>,
    /// Where messages are pushed to.
    #[serde(default, rename = "endpoint")]
    pub endpoints: Vec<Endpoint>,
}

/// How often what is allotted to channels is looked at, by whoever leads.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Allocation {
    /// Between two times that all shares come to their targets; nothing means never.
    #[serde(deserialize_with = "Millis::or_zero")]
    pub rebalance_every: Millis,
    /// How often it is measured how fast listings sell.
    pub measure_every: Millis,
}

impl Default for Allocation {
    fn default() -> Self {
        Self { rebalance_every: Millis(3_600_000), measure_every: Millis(300_000) }
    }
}

/// Where stock lies. Seeds a new cluster, which decides for itself after that.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ledger {
    /// Locations in the order in which they are drawn from where nothing else says which.
    pub locations: Vec<String>,
}

impl Ledger {
    /// The location that counts where nothing says which.
    fn check(&self, fault: &mut impl FnMut(&str, String)) -> String {
        let long = |name: &&String| !(1..=NAME_LEN_MAX).contains(&name.len());
        if self.locations.is_empty() || self.locations.len() > LOCATIONS_MAX {
            fault("locations", format!("ledger.locations: between 1 and {LOCATIONS_MAX}"));
        }
        if let Some(name) = self.locations.iter().find(long) {
            let message = format!("ledger.locations: {name:?} has not 1 to {NAME_LEN_MAX} bytes");
            fault("locations", message);
        }
        self.locations.first().cloned().unwrap_or_default()
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self { locations: vec!["main".into()] }
    }
}

/// Who this node is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Unique in the cluster, never reused.
    pub id: u64,
    /// A name for where it runs.
    pub region: String,
    /// Where it keeps its data.
    pub data_dir: PathBuf,
    /// The cluster's name: a data directory of another cluster is refused.
    #[serde(default = "default_cluster")]
    pub cluster: String,
}

fn default_cluster() -> String {
    "stockraft".into()
}

/// Where a node listens.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// Webhooks only.
    pub public: SocketAddr,
    /// API and metrics.
    pub admin: SocketAddr,
    /// Raft and forwarding.
    pub peer: SocketAddr,
    /// What other nodes dial to reach `peer`; `peer` itself where this is not set.
    pub peer_advertised: Option<String>,
    /// Where people reach `admin`; `admin` itself where this is not set.
    pub admin_advertised: Option<String>,
}

impl Default for Listen {
    fn default() -> Self {
        let on = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            public: on(8080),
            admin: on(8081),
            peer: on(8082),
            peer_advertised: None,
            admin_advertised: None,
        }
    }
}

/// Certificates for the peer listener, PEM files.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerTls {
    /// The cluster's own authority.
    pub ca: PathBuf,
    /// This node's certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Who may use the admin listener.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Tokens with their scopes.
    pub tokens: Vec<Token>,
}

/// One admin token.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// A name for it.
    pub name: String,
    /// The token itself.
    pub secret: Secret,
    /// What it may do.
    pub scopes: Vec<Scope>,
}

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Look.
    Read,
    /// Change stock and mappings.
    Write,
    /// Change the cluster.
    Admin,
}

/// How webhooks are accepted.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ingest {
    /// When a webhook is answered 200.
    pub ack: Ack,
    /// How long delivery keys are kept, unless a channel says otherwise.
    pub dedup_window: Millis,
    /// The largest body taken.
    pub max_body: Bytes,
    /// Connections at once.
    pub max_connections: usize,
    /// How long a request may take to arrive.
    pub request_timeout: Millis,
    /// How long `ack = "quorum"` waits for the cluster.
    pub quorum_timeout: Millis,
    /// Deliveries waiting to be agreed on, in bytes; beyond it webhooks are answered 503.
    pub inbox_max: Bytes,
    /// How long deliveries are kept after they were agreed on.
    pub inbox_keep: Millis,
    /// Free disk below which webhooks are answered 503.
    pub min_free_disk: Bytes,
}

impl Default for Ingest {
    fn default() -> Self {
        const DAY: u64 = 24 * 60 * 60 * 1000;
        Self {
            ack: Ack::Local,
            dedup_window: Millis(7 * DAY),
            max_body: Bytes(1 << 20),
            max_connections: 4096,
            request_timeout: Millis(10_000),
            quorum_timeout: Millis(4_000),
            inbox_max: Bytes(1 << 30),
            inbox_keep: Millis(DAY),
            min_free_disk: Bytes(256 << 20),
        }
    }
}

/// When a webhook is answered 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ack {
    /// It is on this node's disk.
    Local,
    /// The cluster has agreed on it.
    Quorum,
}

/// How nodes agree.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raft {
    /// Between heartbeats; must exceed the round trip to the farthest node.
    pub heartbeat: Millis,
    /// A follower that hears nothing for this long stands for election; up to twice as long, at random.
    pub election: Millis,
    /// Log entries between snapshots.
    pub snapshot_every: u64,
    /// Log entries kept behind a snapshot, for nodes that are a little behind.
    pub keep_log: u64,
    /// Bytes on their way to one follower; at least bandwidth × round trip.
    pub append_window: Bytes,
    /// Segments of one inbox that may wait for the cluster's agreement at once.
    pub segments_outstanding: usize,
}

impl Default for Raft {
    fn default() -> Self {
        Self {
            heartbeat: Millis(500),
            election: Millis(3000),
            snapshot_every: 50_000,
            keep_log: 10_000,
            append_window: Bytes(8 << 20),
            segments_outstanding: 16,
        }
    }
}

/// When a node calls itself ready.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ready {
    /// Log entries that its replica may be behind.
    pub max_lag: u64,
}

impl Default for Ready {
    fn default() -> Self {
        Self { max_lag: 100_000 }
    }
}

impl Config {
    /// Reads and checks a file. The faults are all that could be found, each with its line.
    pub fn load(path: &Path) -> Result<Self, Faults> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Faults::of(
                path,
                vec![Fault { line: None, message: format!("cannot read it: {error}") }],
            )
        })?;
        Self::parse(&text, path)
    }

    /// The same for a text; `path` names it in messages, and relative paths in it start there.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Faults> {
        let mut config: Self = faults::deserialize(text).map_err(|f| Faults::of(path, f))?;
        let private = secret::is_private(path);
        let mut faults = Vec::new();
        let mut fault = |at: &str, message: String| {
            faults.push(Fault { line: faults::line_of(text, at), message });
        };
        for token in &mut config.admin.tokens {
            if let Err(why) = token.secret.resolve(path, private) {
                fault(&format!("\"{}\"", token.name), format!("token {:?}: {why}", token.name));
            }
        }
        let main = config.ledger.check(&mut fault);
        for channel in config.channels.iter_mut().filter(|channel| channel.location.is_empty()) {
            channel.location.clone_from(&main);
        }
        channels::check(&mut config.channels, path, private, &mut fault);
        queue::check(&mut config, path, private, &mut fault);
        let known: Vec<&str> = config.channels.iter().map(|c| c.name.as_str()).collect();
        for (at, message) in policies::check(&config.policies, &known) {
            fault(&at, message);
        }
        config.check_node(path, &mut fault);
        if faults.is_empty() { Ok(config) } else { Err(Faults::of(path, faults)) }
    }

    fn check_node(&mut self, path: &Path, fault: &mut impl FnMut(&str, String)) {
        if self.node.id == 0 {
            fault("id", "node.id: 0 is no id, use 1 or more".into());
        }
        if self.peer_tls.is_none() && !self.listen.peer.ip().is_loopback() {
            let message = "listen.peer: peers beyond loopback need [peer_tls]; \
                           `stockraft cert ca` and `stockraft cert node` make the certificates";
            fault("peer", message.into());
        }
        // A body that cannot be understood is kept whole, in one log entry.
        if !(1024..=BODY_BYTES_MAX).contains(&self.ingest.max_body.0) {
            fault("max_body", "ingest.max_body: between 1KiB and 4MiB".into());
        }
        let window = state::limits::MINUTE_MS..=state::limits::DEDUP_WINDOW_MAX_MS;
        if !window.contains(&self.ingest.dedup_window.0) {
            fault("dedup_window", "ingest.dedup_window: between 1m and 90d".into());
        }
        if self.raft.election.0 < 2 * self.raft.heartbeat.0 {
            fault("election", "raft.election: must be at least twice raft.heartbeat".into());
        }
        let base = path.parent().unwrap_or(Path::new("."));
        if let Some(tls) = &mut self.peer_tls {
            for file in [&mut tls.ca, &mut tls.cert, &mut tls.key] {
                *file = base.join(&*file);
                if !file.is_file() {
                    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    fault(&name, format!("peer_tls: there is no file {}", file.display()));
                }
            }
        }
    }

    /// The channels as the cluster knows them: without secrets.
    #[must_use]
    pub fn definitions(&self) -> BTreeMap<String, state::channel::Definition> {
        let define = |channel: &Channel| channel.definition(self.ingest.dedup_window.0);
        self.channels.iter().map(|channel| (channel.name.clone(), define(channel))).collect()
    }

    /// What may be meant as it is and often is not: an API without a location.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut notes = std::collections::BTreeSet::new();
        for channel in &self.channels {
            let places = channel.kind == "shopify";
            if places && channel.api.as_ref().is_some_and(|api| api.location_id.is_none()) {
                let name = &channel.name;
                let cure = "each listing's mapping must name one";
                notes.insert(format!("channel {name:?}: api has no location_id, so {cure}"));
            }
        }
        notes.into_iter().collect()
    }

    /// The channel of a name, with its secrets.
    #[must_use]
    pub fn channel(&self, name: &str) -> Option<&Channel> {
        self.channels.iter().find(|channel| channel.name == name)
    }
}
