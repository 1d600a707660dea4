//! A queue that speaks as Amazon SQS does, over real HTTP on this machine.
//!
//! It is a standard queue: messages come at least once, in no certain order, and stay until they are
//! deleted with the handle of their newest receive. Calls are those of the AWS JSON protocol 1.0, and
//! each must be signed; `sigv4` computes the signature again by AWS's published steps.
//!
//! What is modelled is what a consumer must get right: long polls, visibility timeouts, handles that
//! grow stale, batches that fail in part, limits, throttling, lost answers and outages. Dead letter
//! queues, FIFO queues, message attributes and policies are not.
//!
//! `messages` decides and reads no clock, `action` translates, `server` waits and answers.

mod action;
mod error;
mod history;
mod md5;
mod messages;
mod options;
mod server;
mod sigv4;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{net::TcpListener, sync::watch, time::sleep_until};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::messages::Messages;
pub use self::{
    history::{Counts, Event, What},
    options::{Credentials, Faults, Options},
};
use crate::{
    Error, Outage,
    clock::Now,
    door::{Arrivals, Door},
    random::{Random, name_hash},
};

/// A handle on one running queue. Cheap to clone; all clones are one queue.
///
/// The queue runs until [`Queue::shutdown`], or until its runtime ends: dropping the handles does not
/// stop it.
#[derive(Clone)]
pub struct Queue {
    inner: Arc<Inner>,
}

impl Queue {
    /// Opens the queue.
    ///
    /// Fails if the options make no sense or the address is taken.
    pub async fn start(options: Options) -> Result<Self, Error> {
        options.check()?;
        let listen = |source| Error::Listen { address: options.listen, source };
        let listener = TcpListener::bind(options.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let stream = |of| Random::new(options.seed ^ name_hash(&options.name) ^ name_hash(of));
        let state = State {
            messages: Messages::new(options.scaled(options.retention), stream("messages")),
            counts: Counts::default(),
            history: Vec::new(),
            faults: options.faults.clone(),
            mishaps: stream("mishaps"),
        };
        let outage = watch::Sender::new(Outage::None);
        let door = Door {
            address,
            outage: outage.subscribe(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            arrivals: Arrivals::default(),
        };
        let inner = Arc::new(Inner {
            state: Mutex::new(state),
            changed: watch::Sender::new(()),
            outage,
            door,
            options,
        });
        inner.door.tasks.spawn(server::serve(Arc::clone(&inner), listener));
        Ok(Self { inner })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.inner.door.address
    }

    /// The queue's URL, which every call names. Calls go to the root of the same host, or to it.
    #[must_use]
    pub fn url(&self) -> String {
        let Options { account, name, .. } = &self.inner.options;
        format!("http://{}/{account}/{name}", self.inner.door.address)
    }

    /// What the queue was started with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// Puts a message into the queue, whatever the outage. Returns its id.
    #[expect(clippy::must_use_candidate, reason = "few follow one message by its id")]
    pub fn send(&self, body: &str) -> String {
        self.send_later(body, Duration::ZERO)
    }

    /// Puts in a message that becomes visible after `delay`, which is not scaled. Returns its id.
    #[expect(clippy::must_use_candidate, reason = "few follow one message by its id")]
    pub fn send_later(&self, body: &str, delay: Duration) -> String {
        self.inner.act(|state| state.put(body, delay, Now::read()).0)
    }

    /// The counters now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.inner.lock().count(Now::read())
    }

    /// A copy of everything that happened, oldest first. It is as large as the run was long.
    #[must_use]
    pub fn history(&self) -> Vec<Event> {
        self.inner.lock().history.clone()
    }

    /// What happens to calls from now on. A closed or opened port follows a moment later.
    pub fn set_outage(&self, outage: Outage) {
        self.inner.outage.send_replace(outage);
    }

    /// What goes wrong by itself from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.inner.act(|state| state.faults = faults);
    }

    /// Waits until the counters satisfy `condition`.
    pub async fn wait_until(&self, condition: impl Fn(&Counts) -> bool) {
        let mut changed = self.inner.changed.subscribe();
        loop {
            let (counts, next) = {
                let mut state = self.inner.lock();
                (state.count(Now::read()), state.messages.next_visible())
            };
            if condition(&counts) {
                return;
            }
            tokio::select! {
                // It fails only when the sender is gone, and the sender lives in `inner`.
                _ = changed.changed() => {}
                () = async {
                    match next {
                        Some(next) => sleep_until(next).await,
                        None => std::future::pending().await,
                    }
                } => {}
            }
        }
    }

    /// Waits until no message is left.
    pub async fn drained(&self) {
        self.wait_until(Counts::is_empty).await;
    }

    /// Closes the queue and cuts its connections. The history stays readable.
    pub async fn shutdown(&self) {
        self.inner.door.close().await;
    }
}

struct Inner {
    options: Options,
    /// A plain lock: no holder of it waits for anything.
    state: Mutex<State>,
    /// Marked after each change of the state, for long polls and those who wait for a condition.
    changed: watch::Sender<()>,
    outage: watch::Sender<Outage>,
    door: Door,
}

struct State {
    messages: Messages,
    /// What only counts up; the rest is asked of the messages.
    counts: Counts,
    history: Vec<Event>,
    faults: Faults,
    mishaps: Random,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn act<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.send_replace(());
        result
    }
}

impl State {
    fn count(&mut self, now: Now) -> Counts {
        self.messages.turn(now.instant);
        Counts {
            visible: self.messages.visible(),
            in_flight: self.messages.in_flight(),
            delayed: self.messages.delayed(),
            expired: self.messages.expired(),
            ..self.counts
        }
    }
}
