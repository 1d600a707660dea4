//! One node: opens what it keeps, listens, and wires the parts together. They meet only here.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use cluster::durable;
use cluster::{Clock, Member, PeerTls, Raft, Role, Timing};
use serde::{Deserialize, Serialize};
use state::packed::Packed;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{self, Admin};
use crate::channel::source::Source;
use crate::channel::{self, Meant, Target};
use crate::config::{self, Channel, Config};
use crate::endpoint::{self, Endpoint};
use crate::escrow::{self, Escrow};
use crate::inbox::{self, Inbox};
use crate::ingest::{self, Ingest};
use crate::intake::Intake;
use crate::issuers::Issuers;
use crate::measures::Measures;
use crate::poll::{self, Poller};
use crate::propagate::{self, Pusher};
use crate::replica::{Replica, Shared};
use crate::route::Router;
use crate::sqs::{self, Consumer, Take, Taken};
use crate::topics::Topics;
use crate::{agreed, audit, chores, clock, history, listen, submit, velocity};

/// How long what is going on may take to end; leadership is handed over in any case.
const STOP: Duration = Duration::from_secs(10);
const _: () = assert!(
    STOP.as_secs() > listen::DRAIN.as_secs(),
    "answers in progress would be cut off without a word"
);
/// How long handing leadership over may take.
const HAND_OVER: Duration = Duration::from_secs(2);
/// The file that says whose a data directory is.
const IDENTITY: &str = "identity.json";
const IDENTITY_NEW: &str = "identity.json.new";

/// A running node.
pub struct Node {
    /// Where webhooks are taken.
    pub public: SocketAddr,
    /// Where the API is.
    pub admin: SocketAddr,
    raft: Raft,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Why a node did not start. One line that says what to look at.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen for {what} on {address}: {source}")]
    Listen {
        /// Webhooks or the API.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The data directory cannot be used.
    #[error("data_dir {dir}: {why}")]
    DataDir {
        /// The directory.
        dir: String,
        /// What is wrong with it.
        why: String,
    },
    /// A certificate cannot be read.
    #[error("peer_tls: cannot read {file}: {source}")]
    Certificate {
        /// The file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The inbox cannot be opened.
    #[error("the inbox: {0}")]
    Inbox(#[from] durable::Error),
    /// The history cannot be opened.
    #[error("the history: {0}")]
    History(#[from] history::Error),
    /// The cluster's part does not start.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
}

/// Whose a data directory is.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    node: u64,
    cluster: String,
}

impl Config {
    /// This node as a member of the cluster.
    #[must_use]
    pub fn member(&self) -> Member {
        let listen = &self.listen;
        let or_own = |advertised: &Option<String>, own: SocketAddr| {
            advertised.clone().unwrap_or_else(|| own.to_string())
        };
        Member {
            id: self.node.id,
            region: self.node.region.clone(),
            peer: or_own(&listen.peer_advertised, listen.peer),
            admin: or_own(&listen.admin_advertised, listen.admin),
        }
    }
}

impl Node {
    /// Starts a node. It answers webhooks with 503 until it is part of a cluster.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let dir = &config.node.data_dir;
        own_dir(dir, &config)?;
        let public = listen("webhooks", config.listen.public)?;
        let api = listen("the API", config.listen.admin)?;
        let measures = Arc::new(Measures::new());
        let bounds = bounds(&config.ingest);
        let inbox = Inbox::open(&dir.join("inbox"), config.node.id, bounds, Arc::clone(&measures))?;
        let replica: Shared =
            Arc::new(RwLock::new(Replica::open(&dir.join("state"), Arc::clone(&measures))?));
        let raft = Raft::start(cluster_config(&config)?, Arc::clone(&replica)).await?;
        let node = Self {
            public: public.local_addr().unwrap_or(config.listen.public),
            admin: api.local_addr().unwrap_or(config.listen.admin),
            raft: raft.clone(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        let stop = || node.stop.child_token();
        let outstanding = config.raft.segments_outstanding;
        let member = agreed::Member { raft: raft.clone(), replica: Arc::clone(&replica) };
        let clock: Clock = Arc::new(clock::now_ms);
        node.tasks.spawn(submit::run(inbox.clone(), member.clone(), outstanding, stop()));
        node.tasks.spawn(audit::run(config.node.id, Arc::clone(&replica), raft.clone(), stop()));
        let on_time = Arc::clone(&clock);
        node.tasks.spawn(chores::run(Arc::clone(&config), member.clone(), on_time, stop()));
        let (id, often) = (config.node.id, config.allocation);
        let eyes = (Arc::clone(&clock), Arc::clone(&measures));
        node.tasks.spawn(velocity::run(id, often, member.clone(), eyes, stop()));
        let escrow = node.hold(&member, &inbox, &clock, &measures);
        let intake = Intake::new(inbox.clone(), &config.ingest, raft.removed());
        let intake = intake.publishing(router(&config, &replica));
        let known = replica.read().unwrap_or_else(PoisonError::into_inner).known();
        let sources = Sources {
            node: config.node.id,
            member: &member,
            clock: &clock,
            intake: &intake,
            measures: &measures,
        };
        for channel in &config.channels {
            sources.start(channel, &node.tasks, &stop);
        }
        let topics = Topics::start(member.clone(), &node.tasks, stop());
        for endpoint in &config.endpoints {
            let endpoint = Endpoint {
                config: endpoint.clone(),
                node: config.node.id,
                cluster: member.clone(),
                topics: topics.clone(),
                clock: Arc::clone(&clock),
                measures: Arc::clone(&measures),
            };
            node.tasks.spawn(endpoint::run(endpoint, stop()));
        }
        let webhooks = Ingest {
            config: Arc::clone(&config),
            intake,
            known,
            issuers: Arc::new(Issuers::new(&config.channels, dir)),
            measures: Arc::clone(&measures),
        };
        node.tasks.spawn(ingest::serve(public, Arc::new(webhooks), stop()));
        let looks = Arc::new(tokio::sync::Semaphore::new(admin::LOOKS_MAX));
        let admin = Admin { config, replica, raft, inbox, escrow, measures, topics, looks };
        node.tasks.spawn(admin::serve(api, admin, stop()));
        node.tasks.close();
        Ok(node)
    }

    /// Starts what grants quotas, and what this node grants from its own.
    fn hold(
        &self,
        member: &agreed::Member,
        inbox: &Inbox,
        clock: &Clock,
        measures: &Arc<Measures>,
    ) -> Escrow {
        let (on_time, measures) = (Arc::clone(clock), Arc::clone(measures));
        let removed = self.raft.removed();
        let escrow = Escrow::new(member.clone(), inbox.clone(), on_time, removed, measures);
        self.tasks.spawn(escrow.clone().run(self.stop.child_token()));
        self.tasks.spawn(escrow::size::run(member.clone(), self.stop.child_token()));
        escrow
    }

    /// The node's part in the cluster.
    #[must_use]
    pub const fn raft(&self) -> &Raft {
        &self.raft
    }

    /// Runs until `shutdown`, then stops in order: no new connections, answers in progress finished,
    /// everything durable. An error is why the node could not go on by itself.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), String> {
        let fatal = tokio::select! {
            () = shutdown => None,
            why = self.raft.fatal() => Some(why),
        };
        self.stop.cancel();
        if tokio::time::timeout(STOP, self.tasks.wait()).await.is_err() {
            tracing::warn!("some work was still going on after {} s", STOP.as_secs());
        }
        self.hand_over().await;
        self.raft.shutdown().await;
        fatal.map_or(Ok(()), Err)
    }
}

/// What everything that speaks with a channel needs.
struct Sources<'a> {
    node: u64,
    member: &'a agreed::Member,
    clock: &'a Clock,
    intake: &'a Intake,
    measures: &'a Arc<Measures>,
}

impl Sources<'_> {
    /// Starts what pushes to a channel, asks it and takes from its queue.
    fn start(&self, channel: &Channel, tasks: &TaskTracker, stop: &impl Fn() -> CancellationToken) {
        if channel.pushes() {
            self.push(channel, tasks, stop());
        }
        if let Some(source) = Source::new(channel) {
            let poller = Poller {
                channel: channel.clone(),
                source,
                node: self.node,
                cluster: self.member.clone(),
                intake: self.intake.clone(),
                clock: Arc::clone(self.clock),
                measures: Arc::clone(self.measures),
            };
            tasks.spawn(poll::run(poller, stop()));
        }
        if let Some(sqs) = &channel.sqs {
            let keeper = Keeper { channel: channel.name.clone(), intake: self.intake.clone() };
            let settings = sqs::Settings::of(&channel.name, sqs);
            match Consumer::new(settings, keeper, self.measures.queue(&channel.name)) {
                Ok(consumer) => {
                    let stop = stop();
                    tasks.spawn(async move { consumer.run(&stop).await });
                }
                Err(why) => {
                    tracing::error!(channel = channel.name, why, "its queue cannot be used");
                }
            }
        }
    }
}

impl Sources<'_> {
    fn push(&self, channel: &Channel, tasks: &TaskTracker, stop: CancellationToken) {
        let Some(client) = Target::new(channel) else {
            tracing::warn!(channel = channel.name, "nothing is pushed: its API cannot be asked");
            return;
        };
        let measures = Arc::clone(self.measures);
        let pusher = Pusher::new(channel.clone(), client, self.node, self.member.clone(), measures);
        tasks.spawn(propagate::run(pusher, stop));
    }
}

/// Makes durable what lies in a channel's queue: Amazon's notifications.
struct Keeper {
    channel: String,
    intake: Intake,
}

impl Take for Keeper {
    async fn take(&self, body: &str) -> Taken {
        let raw = body.as_bytes();
        let parsed = channels::amazon::notification(raw);
        let router = self.intake.router();
        match channel::deliver(router, &self.channel, parsed, raw, clock::now_ms()) {
            Meant::Ignored(_) | Meant::Confirm(_) => Taken::Durable,
            Meant::Delivery(delivery, _) => match self.intake.keep(*delivery).await {
                Ok(()) => Taken::Durable,
                Err(later) => {
                    tracing::warn!(channel = self.channel, %later, "a message stays in its queue");
                    Taken::Busy
                }
            },
        }
    }
}

impl Node {
    /// A leader that stops asks another voter to lead, so that nobody waits for an election.
    async fn hand_over(&self) {
        let status = self.raft.status();
        let others = status.members.iter().filter(|known| known.voter && known.reachable);
        let heir = others.filter(|known| known.member.id != status.id).max_by_key(|k| k.matched);
        if let Some(heir) = heir.filter(|_| status.role == Role::Leader) {
            let handed = self.raft.transfer_leadership(heir.member.id);
            if !matches!(tokio::time::timeout(HAND_OVER, handed).await, Ok(Ok(()))) {
                tracing::info!("the others will elect a leader by themselves");
            }
        }
    }
}

/// What the inbox may take of the disk.
const fn bounds(ingest: &config::Ingest) -> inbox::Bounds {
    inbox::Bounds {
        waiting_bytes: ingest.inbox_max.0,
        keep_ms: ingest.inbox_keep.0,
        free_disk: ingest.min_free_disk.0,
    }
}

/// What decides which messages deliveries become: it asks this node's replica what it knows of an order.
fn router(config: &Config, replica: &Shared) -> Router {
    let replica = Arc::clone(replica);
    Router::new(config, move |channel, order| {
        let replica = replica.read().unwrap_or_else(PoisonError::into_inner);
        let place = (channel.into(), order.into());
        replica.state().data().orders.get(&place).map(Packed::get)
    })
}

fn listen(what: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    listen::on(address).map_err(|source| StartError::Listen { what, address, source })
}

/// Makes the data directory this node's, or refuses it.
fn own_dir(dir: &Path, config: &Config) -> Result<(), StartError> {
    let failed = |why: String| StartError::DataDir { dir: dir.display().to_string(), why };
    let io = |what: &str, error: std::io::Error| failed(format!("{what}: {error}"));
    durable::create_dir(dir).map_err(|error| io("cannot create it", error))?;
    let path = dir.join(IDENTITY);
    let this = Identity { node: config.node.id, cluster: config.node.cluster.clone() };
    match std::fs::read(&path) {
        Ok(bytes) => {
            let found: Identity = serde_json::from_slice(&bytes)
                .map_err(|error| failed(format!("{IDENTITY} cannot be read: {error}")))?;
            if found == this {
                return Ok(());
            }
            Err(failed(format!(
                "it belongs to node {} of cluster {:?}, this is node {} of cluster {:?}",
                found.node, found.cluster, this.node, this.cluster
            )))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let text = serde_json::to_vec(&this).map_err(|error| failed(error.to_string()))?;
            // Whole or not at all: a start that is cut short must not leave an empty one behind.
            let new = dir.join(IDENTITY_NEW);
            let written = std::fs::write(&new, text)
                .and_then(|()| std::fs::File::open(&new)?.sync_all())
                .and_then(|()| std::fs::rename(&new, &path))
                .and_then(|()| durable::sync_dir(dir));
            written.map_err(|error| io("cannot write it", error))
        }
        Err(error) => Err(io("cannot read it", error)),
    }
}

fn cluster_config(config: &Config) -> Result<cluster::Config, StartError> {
    let tls = match &config.peer_tls {
        None => None,
        Some(files) => {
            let read = |path: &Path| {
                let file = path.display().to_string();
                std::fs::read(path).map_err(|source| StartError::Certificate { file, source })
            };
            let (ca, cert, key) = (read(&files.ca)?, read(&files.cert)?, read(&files.key)?);
            Some(PeerTls { ca, cert, key })
        }
    };
    let raft = &config.raft;
    Ok(cluster::Config {
        tls,
        timing: Timing {
            heartbeat_ms: raft.heartbeat.0,
            election_ms_min: raft.election.0,
            election_ms_max: raft.election.0.saturating_mul(2),
        },
        snapshot_every: raft.snapshot_every,
        keep_log: raft.keep_log,
        append_window_bytes: raft.append_window.as_len(),
        ..cluster::Config::new(
            config.member(),
            config.node.data_dir.join("raft"),
            config.listen.peer,
            Arc::new(clock::now_ms),
        )
    })
}
