//! Many calls at once over one connection to one peer, which is dialled again whenever it is lost.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::dial::Dialer;
use super::message::{Answer, Ask, Call, Purpose, Reply};
use super::wire::{self, Wire};

/// Calls that wait for the connection. More wait at the caller.
const WAITING_MAX: usize = 1024;
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// It never left this node.
    #[error("cannot be reached: {0}")]
    NotSent(String),
    /// It may have arrived.
    #[error("connection lost: {0}")]
    Lost(String),
}

/// What the calls have shown of a peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) reachable: bool,
    pub(crate) clock: Option<Reading>,
}

/// What a peer's clock said at one moment. The moment is monotonic, so that it stays true when our own
/// clock is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    at: Instant,
    ms: u64,
}

impl Reading {
    /// The peer's clock as it must be now, minus ours.
    pub(crate) fn ahead_ms(&self, now_ms: u64) -> i64 {
        let since = i128::try_from(self.at.elapsed().as_millis()).unwrap_or(i128::MAX);
        let ahead = i128::from(self.ms).saturating_add(since) - i128::from(now_ms);
        i64::try_from(ahead).unwrap_or(if ahead > 0 { i64::MAX } else { i64::MIN })
    }
}

/// The way to one peer for one purpose. The connection is held by a task that ends with `stop`.
#[derive(Debug, Clone)]
pub(crate) struct Mux(mpsc::Sender<Waiting>);

struct Waiting {
    ask: Ask,
    done: oneshot::Sender<Result<Reply, CallError>>,
}

/// Everything that the task needs to know.
pub(crate) struct Setup {
    pub(crate) dialer: Arc<Dialer>,
    pub(crate) to: u64,
    pub(crate) address: String,
    pub(crate) purpose: Purpose,
    pub(crate) heartbeat: Duration,
    pub(crate) health: watch::Sender<Health>,
    pub(crate) stop: CancellationToken,
}

impl Mux {
    pub(crate) fn spawn(setup: Setup) -> Self {
        let (calls, waiting) = mpsc::channel(WAITING_MAX);
        tokio::spawn(async move {
            let stop = setup.stop.clone();
            let run = run(setup, waiting);
            stop.run_until_cancelled(run).await;
        });
        Self(calls)
    }

    /// One call. Bounded by the caller, who may drop it at any time.
    pub(crate) async fn call(&self, ask: Ask) -> Result<Reply, CallError> {
        let (done, reply) = oneshot::channel();
        let stopped = || CallError::NotSent("this node is stopping".to_owned());
        self.0.send(Waiting { ask, done }).await.map_err(|_| stopped())?;
        reply.await.unwrap_or_else(|_| Err(CallError::Lost("this node is stopping".to_owned())))
    }
}

async fn run(setup: Setup, mut waiting: mpsc::Receiver<Waiting>) {
    let mut backoff = BACKOFF_MIN;
    let always = setup.purpose == Purpose::Control;
    loop {
        // A connection for calls is dialled with the first call; that for control at once.
        let first = if always { None } else { waiting.recv().await };
        if !always && first.is_none() {
            return;
        }
        let dialled = setup.dialer.dial(setup.to, &setup.address, setup.purpose).await;
        let error = match dialled {
            Ok(wire) => {
                backoff = BACKOFF_MIN;
                let mut connection = Connection::new(&setup, wire);
                let lost = connection.run(first, &mut waiting).await;
                connection.fail(&lost.to_string());
                lost
            }
            Err(error) => {
                refuse(first, &error);
                error
            }
        };
        if always {
            setup.health.send_if_modified(|health| std::mem::take(&mut health.reachable));
        }
        if waiting.is_closed() {
            return;
        }
        tracing::debug!(peer = setup.to, purpose = ?setup.purpose, %error, "peer not reached");
        let pause = tokio::time::sleep(jittered(backoff));
        backoff = (backoff * 2).min(BACKOFF_MAX);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                call = waiting.recv() => match call {
                    None => return,
                    call => refuse(call, &error),
                },
            }
        }
    }
}

fn refuse(call: Option<Waiting>, error: &io::Error) {
    if let Some(Waiting { done, .. }) = call {
        let _ = done.send(Err(CallError::NotSent(error.to_string())));
    }
}

/// Half to all of it, so that nodes that lost each other do not dial in step.
fn jittered(pause: Duration) -> Duration {
    let half = pause / 2;
    let spread = u32::try_from(half.as_millis()).unwrap_or(u32::MAX).max(1);
    half + Duration::from_millis(u64::from(getrandom::u32().unwrap_or_default() % spread))
}

struct Connection<'a> {
    setup: &'a Setup,
    wire: Wire,
    next: u64,
    pending: BTreeMap<u64, oneshot::Sender<Result<Reply, CallError>>>,
    /// The ping on its way, and when it left.
    ping: Option<(u64, Instant)>,
    heard: Instant,
}

impl<'a> Connection<'a> {
    fn new(setup: &'a Setup, wire: Wire) -> Self {
        let pending = BTreeMap::new();
        Self { setup, wire, next: 0, pending, ping: None, heard: Instant::now() }
    }

    /// Runs until the connection is lost, and says why.
    async fn run(
        &mut self,
        first: Option<Waiting>,
        waiting: &mut mpsc::Receiver<Waiting>,
    ) -> io::Error {
        match self.try_run(first, waiting).await {
            Ok(()) => io::Error::other("this node is stopping"),
            Err(error) => error,
        }
    }

    async fn try_run(
        &mut self,
        first: Option<Waiting>,
        waiting: &mut mpsc::Receiver<Waiting>,
    ) -> io::Result<()> {
        let mut tick = interval(self.setup.heartbeat);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if let Some(call) = first {
            self.send(call).await?;
        }
        loop {
            tokio::select! {
                call = waiting.recv() => match call {
                    None => return Ok(()),
                    Some(call) => self.send(call).await?,
                },
                frame = self.wire.next() => {
                    let frame = frame.ok_or(io::ErrorKind::UnexpectedEof)??;
                    self.heard(wire::read(&frame)?);
                }
                _ = tick.tick() => self.tick().await?,
            }
        }
    }

    async fn send(&mut self, call: Waiting) -> io::Result<()> {
        self.next += 1;
        let frame = wire::frame(&Call { id: self.next, ask: call.ask });
        self.pending.insert(self.next, call.done);
        self.write(frame).await
    }

    /// A peer that takes nothing for as long as one that says nothing is as lost.
    async fn write(&mut self, frame: bytes::Bytes) -> io::Result<()> {
        let write = tokio::time::timeout(self.silence_max(), self.wire.send(frame));
        write.await.map_err(io::Error::other)?
    }

    fn heard(&mut self, answer: Answer) {
        self.heard = Instant::now();
        if let Some((id, sent)) = self.ping.filter(|(id, _)| *id == answer.id) {
            debug_assert!(!self.pending.contains_key(&id), "a ping has an id of its own");
            self.ping = None;
            if let Reply::Pong { at_ms } = answer.reply {
                self.pong(sent, at_ms);
            }
        } else if let Some(done) = self.pending.remove(&answer.id) {
            let _ = done.send(Ok(answer.reply));
        }
    }

    /// The peer read its clock half a round trip ago, as well as we can know.
    fn pong(&self, sent: Instant, at_ms: u64) {
        if self.setup.purpose == Purpose::Control {
            let reading = Reading { at: sent + sent.elapsed() / 2, ms: at_ms };
            let health = Health { reachable: true, clock: Some(reading) };
            self.setup.health.send_if_modified(|old| {
                let changed = old.reachable != health.reachable;
                *old = health;
                changed
            });
        }
    }

    /// Pings when there is someone to wait for, and gives up on a peer that does not answer.
    async fn tick(&mut self) -> io::Result<()> {
        self.pending.retain(|_, done| !done.is_closed());
        if let Some((_, sent)) = self.ping {
            if sent.elapsed() > self.silence_max() && self.heard < sent {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the peer has gone silent"));
            }
            return Ok(());
        }
        if self.setup.purpose == Purpose::Control || !self.pending.is_empty() {
            self.next += 1;
            self.ping = Some((self.next, Instant::now()));
            self.write(wire::frame(&Call { id: self.next, ask: Ask::Ping })).await?;
        }
        Ok(())
    }

    fn silence_max(&self) -> Duration {
        (self.setup.heartbeat * 4).max(Duration::from_secs(1))
    }

    fn fail(&mut self, why: &str) {
        for done in std::mem::take(&mut self.pending).into_values() {
            let _ = done.send(Err(CallError::Lost(why.to_owned())));
        }
    }
}
