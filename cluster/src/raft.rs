//! The handle: starting a node, and all that the rest of it may ask.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures::FutureExt;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{InitializeError, RaftError};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{COMMAND_BYTES_MAX, Config};
use crate::error::{ChangeError, Error, InitError, ProposeError};
use crate::leader::Leader;
use crate::log::{Closed, Log};
use crate::machine::StateMachine;
use crate::machine::adapter::{Adapter, Progress};
use crate::machine::files::Files;
use crate::machine::shared::Shared;
use crate::purge::{self, Holds, Kept};
use crate::removal::{self, Heard, Standing};
use crate::route::Router;
use crate::status::{Status, View, wait_for};
use crate::transport::dial::Dialer;
use crate::transport::message::{Change, Lead, Led, Refusal};
use crate::transport::network::Factory;
use crate::transport::peers::Peers;
use crate::transport::serve::Server;
use crate::transport::session::Services;
use crate::transport::snapshot::Installer;
use crate::transport::tls::Tls;
use crate::types::{Core, Member};

/// A change of the members takes a few round trips of agreement, and a promotion two of them.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(30);
/// The most that a node waits for its own threads to end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// A node's part in the cluster. Cheap to clone. The node stops when all handles are gone, or with
/// [`Raft::shutdown`].
#[derive(Clone)]
pub struct Raft(Arc<Inner>);

struct Inner {
    core: Core,
    router: Router,
    view: View,
    status: watch::Receiver<Status>,
    progress: watch::Receiver<Progress>,
    listening: std::net::SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
    closed: Mutex<Option<Closed>>,
}

/// What the machine answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Where in the log the command came to stand.
    pub index: u64,
    /// The machine's reply.
    pub bytes: Vec<u8>,
}

impl Raft {
    /// Starts the node: opens its log, brings the machine to where it was, and listens for peers.
    ///
    /// The machine is shared: others read it under its lock, this writes to it, one bounded batch at a
    /// time. It must be empty, as freshly made; what it was comes back from snapshot and log.
    pub async fn start<M: StateMachine>(
        config: Config,
        machine: Arc<RwLock<M>>,
    ) -> Result<Self, Error> {
        config.validate()?;
        let raft_config = Arc::new(config.openraft()?);
        let id = config.member.id;
        let tls = config.tls.as_ref().map(|pem| Tls::new(pem, id)).transpose()?;
        let address = config.listen;
        let listener =
            TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
        let listening = listener.local_addr()?;
        let (log, closed, files) = open(&config.dir, id).await?;

        let (progress, applied) = watch::channel(Progress::default());
        let machine: Arc<dyn Shared> = machine;
        let transfer = machine.transfer().map_err(|halt| Error::Restore(halt.0))?;
        let adapter = Adapter::new(Arc::clone(&machine), Arc::clone(&files), progress);
        let installer = Installer::new(machine, Arc::clone(&transfer), files);
        let stop = CancellationToken::new();
        let peers = Arc::new(peers(&config, tls.clone(), &stop));
        let holds = Holds::default();
        let factory = Factory::new(&config, Arc::clone(&peers), transfer, holds.clone());
        let core = Core::build(id, raft_config, factory, log, adapter)
            .await
            .map_err(|error| Error::Restore(error.to_string()))?;

        let clock = Arc::clone(&config.clock);
        let known = Arc::clone(&peers);
        let leader =
            Arc::new(Leader::new(core.clone(), Arc::clone(&clock), applied.clone(), known));
        let heard = Heard::new();
        let services = Services {
            core: core.clone(),
            leader: Arc::clone(&leader),
            installer,
            clock,
            heard: heard.clone(),
        };
        let tasks = TaskTracker::new();
        Server::new(id, tls, services, stop.clone(), tasks.clone()).spawn(listener);
        let aside = |task| tasks.spawn(stop.clone().run_until_cancelled_owned(task));
        aside(purge::run(core.clone(), Arc::clone(&peers), holds, Kept::of(&config)).boxed());
        let standing = Standing::new();
        let silence = Duration::from_millis(config.timing.election_ms_max);
        let known = Arc::clone(&peers);
        aside(removal::run(core.clone(), known, heard, silence, standing.clone()).boxed());
        let view = View {
            region: config.member.region,
            peers: Arc::clone(&peers),
            removed: standing.removed.subscribe(),
        };
        let status = view.clone().follow(core.clone(), &tasks, &stop);
        core.run();
        let to_leader =
            Router::new(core.clone(), leader, Arc::clone(&peers), standing.leader.subscribe());
        Ok(Self(Arc::new(Inner {
            core,
            router: to_leader,
            view,
            status,
            progress: applied,
            listening,
            stop,
            tasks,
            closed: Mutex::new(Some(closed)),
        })))
    }

    /// Founds a cluster of these members, all of them voters. Asked of one node, once; this node must
    /// be among them.
    pub async fn init(&self, members: Vec<Member>) -> Result<(), InitError> {
        let count = members.len();
        let members: BTreeMap<u64, Member> =
            members.into_iter().map(|member| (member.id, member)).collect();
        if members.len() != count || members.contains_key(&0) {
            let why = "every member needs an id of its own, other than 0";
            return Err(InitError::Members(why.to_owned()));
        }
        match self.0.core.initialize(members).await {
            Ok(()) => Ok(()),
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {
                Err(InitError::AlreadyInitialised)
            }
            Err(RaftError::APIError(InitializeError::NotInMembers(_))) => {
                Err(InitError::Members("this node is not among them".to_owned()))
            }
            Err(RaftError::Fatal(error)) => Err(InitError::Stopped(error.to_string())),
        }
    }

    /// Has a command agreed on and applied, wherever the leader is. The reply is that of the machine.
    ///
    /// Within `timeout` there is an answer. [`ProposeError::Unknown`] means that the command may still
    /// come to be applied: callers make sure that it does the same twice as once.
    pub async fn propose(
        &self,
        command: Vec<u8>,
        timeout: Duration,
    ) -> Result<Reply, ProposeError> {
        if command.len() > COMMAND_BYTES_MAX {
            let bytes = command.len();
            return Err(ProposeError::TooLarge { bytes, bytes_max: COMMAND_BYTES_MAX });
        }
        let command = crate::types::Blob::from(command);
        let lead = |timeout_ms| Lead::Propose { command: command.clone(), timeout_ms };
        match self.0.router.lead(lead, timeout).await {
            Ok(Led::Proposed { index, bytes }) => Ok(Reply { index, bytes: bytes.0.into() }),
            Ok(_) => Err(ProposeError::Unknown("the leader answered something else".to_owned())),
            Err(Refusal::Unknown(why)) => Err(ProposeError::Unknown(why)),
            Err(refusal) => Err(ProposeError::Unavailable(why(refusal))),
        }
    }

    /// Returns once this node's machine has applied all that was agreed on before the call, and up to
    /// which index it has. What is read from the machine afterwards is linearizable.
    pub async fn barrier(&self, timeout: Duration) -> Result<u64, ProposeError> {
        let until = tokio::time::Instant::now() + timeout;
        let index =
            match self.0.router.lead(|timeout_ms| Lead::Barrier { timeout_ms }, timeout).await {
                Ok(Led::Barrier { index }) => index,
                Ok(_) => return Err(ProposeError::Unavailable("a wrong answer".to_owned())),
                Err(refusal) => return Err(ProposeError::Unavailable(why(refusal))),
            };
        let mut progress = self.0.progress.clone();
        let applied = progress.wait_for(|progress| progress.index >= Some(index));
        match tokio::time::timeout_at(until, applied).await {
            Ok(Ok(_)) => Ok(index),
            Ok(Err(_)) => Err(ProposeError::Unavailable("the node has stopped".to_owned())),
            Err(_) => Err(ProposeError::Unavailable("this node is too far behind".to_owned())),
        }
    }

    /// What this node knows now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.0.view.status(&self.0.core.metrics().borrow_watched())
    }

    /// The same, and every change of it.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.0.status.clone()
    }

    /// Whether this node knows that it was removed; see [`Status::removed`].
    #[must_use]
    pub fn removed(&self) -> watch::Receiver<bool> {
        self.0.view.removed.clone()
    }

    /// The index that the machine has applied, seen the moment it has.
    pub async fn applied(&self, index: u64) {
        let mut progress = self.0.progress.clone();
        if progress.wait_for(|progress| progress.index >= Some(index)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Where peers are listened for; tells the port when 0 was asked for.
    #[must_use]
    pub fn listening(&self) -> std::net::SocketAddr {
        self.0.listening
    }

    /// Adds a member without a vote, who then catches up.
    pub async fn add_learner(&self, member: Member) -> Result<(), ChangeError> {
        self.change(Change::AddLearner(member)).await
    }

    /// Gives a learner a vote. Waits a moment for one that was just added; refused while it is far
    /// behind, or was never reached.
    pub async fn promote(&self, id: u64) -> Result<(), ChangeError> {
        self.change(Change::Promote(id)).await
    }

    /// Takes a voter's vote; it stays as a learner.
    pub async fn demote(&self, id: u64) -> Result<(), ChangeError> {
        self.change(Change::Demote(id)).await
    }

    /// Removes a member. Its id is not used again.
    pub async fn remove(&self, id: u64) -> Result<(), ChangeError> {
        self.change(Change::Remove(id)).await
    }

    /// Has another voter lead. Returns once it does.
    pub async fn transfer_leadership(&self, to: u64) -> Result<(), ChangeError> {
        if self.status().leader == Some(to) {
            return Ok(());
        }
        self.change(Change::Transfer(to)).await
    }

    /// Builds a snapshot of what is applied now and returns its last index once it is durable.
    pub async fn snapshot(&self) -> Result<u64, Error> {
        let stopped = |error: &dyn std::fmt::Display| Error::Restore(error.to_string());
        let mut metrics = self.0.core.metrics();
        let Some(applied) = metrics.borrow_watched().last_applied.map(|id| id.index) else {
            return Err(Error::Restore("nothing was applied yet".to_owned()));
        };
        loop {
            // One may be under way that began too early; then another follows it.
            self.0.core.trigger().snapshot().await.map_err(|e| stopped(&e))?;
            let built = metrics.borrow_and_update().snapshot.map(|id| id.index);
            match built {
                Some(built) if built >= applied => return Ok(built),
                _ => metrics.changed().await.map_err(|e| stopped(&e))?,
            }
            if let Err(error) = &metrics.borrow_watched().running_state {
                return Err(stopped(error));
            }
        }
    }

    /// Stops: takes no more calls, ends what is under way, and returns when all that was promised is
    /// durable and the directory can be opened again.
    pub async fn shutdown(self) {
        self.0.stop.cancel();
        let _ = self.0.core.shutdown().await;
        self.0.tasks.close();
        let closed = self.0.closed.lock().unwrap_or_else(PoisonError::into_inner).take();
        let end = async {
            self.0.tasks.wait().await;
            if let Some(closed) = closed {
                closed.wait().await;
            }
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, end).await.is_err() {
            tracing::warn!("the node's tasks did not end in time");
        }
    }

    /// Resolves, with the reason, when raft has died: the machine halted, a file could not be read, or
    /// it was shut down. A node without raft must end.
    pub fn fatal(&self) -> impl Future<Output = String> + Send + use<> {
        let mut metrics = self.0.core.metrics();
        async move {
            wait_for(&mut metrics, |metrics| metrics.running_state.is_err()).await;
            match &metrics.borrow_watched().running_state {
                Err(error) => error.to_string(),
                Ok(()) => "raft stopped".to_owned(),
            }
        }
    }

    async fn change(&self, change: Change) -> Result<(), ChangeError> {
        let lead = |timeout_ms| Lead::Change { change: change.clone(), timeout_ms };
        match self.0.router.lead(lead, CHANGE_TIMEOUT).await {
            Ok(_) => Ok(()),
            Err(Refusal::Refused(why)) => Err(ChangeError::Refused(why)),
            Err(Refusal::Unknown(why)) => Err(ChangeError::Unknown(why)),
            Err(refusal) => Err(ChangeError::Unavailable(why(refusal))),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl std::fmt::Debug for Raft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Raft").field(&self.0.listening).finish()
    }
}

fn why(refusal: Refusal) -> String {
    match refusal {
        Refusal::NotLeader => "there is no leader".to_owned(),
        Refusal::Unavailable(why) | Refusal::Refused(why) | Refusal::Unknown(why) => why,
    }
}

/// Those whom this node speaks to, and how.
fn peers(config: &Config, tls: Option<Tls>, stop: &CancellationToken) -> Peers {
    let heartbeat = Duration::from_millis(config.timing.heartbeat_ms);
    let dialer = Dialer { id: config.member.id, tls, routes: config.routes.clone() };
    Peers::new(Arc::new(dialer), heartbeat, stop.clone())
}

/// Opens log and snapshots, away from the threads that serve the network: it may take a while.
async fn open(dir: &Path, id: u64) -> Result<(Log, Closed, Arc<Files>), Error> {
    let dir = dir.to_owned();
    let opening = tokio::task::spawn_blocking(move || {
        let (log, closed) = Log::open(&dir.join("log"), id)?;
        let files = Arc::new(Files::open(&dir.join("snapshots"))?);
        Ok((log, closed, files))
    });
    opening.await.map_err(|error| Error::Restore(error.to_string()))?
}
