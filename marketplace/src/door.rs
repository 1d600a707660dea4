//! A listening port, and what goes wrong with the calls on it: shared by every simulated service.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Request, Response, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{history::Arrival, options::Outage, random::Random};

const HEADER_READ_MAX: Duration = Duration::from_secs(30);
const BACKLOG: u32 = 1024;
/// How soon a port that could not be taken is tried again.
const PORT_RETRY: Duration = Duration::from_millis(5);

pub(crate) type Answer = Response<Full<Bytes>>;

/// What goes wrong with one call by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Answered as a broken server answers, and not carried out.
    ServerError,
    /// Refused as too much, and not carried out.
    Throttled,
    /// Carried out, and then the connection drops without an answer.
    AnswerLost,
}

impl Fault {
    /// The first that comes up, each by its own chance.
    pub(crate) fn roll(
        random: &mut Random,
        server_error: f64,
        throttled: f64,
        answer_lost: f64,
    ) -> Option<Self> {
        let faults = [
            (server_error, Self::ServerError),
            (throttled, Self::Throttled),
            (answer_lost, Self::AnswerLost),
        ];
        faults.into_iter().find_map(|(chance, fault)| random.chance(chance).then_some(fault))
    }
}

/// How a call is refused before it is looked at; each service words it in its own shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A 5xx with this status.
    ServerError(u16),
    /// Too many calls; seconds until the next one, if the service says so.
    Throttled { retry_after: u32 },
}

/// Calls whose times are remembered.
const CALLS_MAX: usize = 100_000;

/// When calls came, of whatever kind, and whatever became of them: the newest ones. All clones are one.
#[derive(Clone, Default)]
pub(crate) struct Arrivals(Arc<Mutex<VecDeque<Arrival>>>);

impl Arrivals {
    fn note(&self, headers: &HeaderMap) {
        let epoch = headers.get("stockraft-epoch").and_then(|epoch| epoch.to_str().ok());
        let epoch = epoch.and_then(|epoch| epoch.parse().ok());
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.len() >= CALLS_MAX {
            calls.pop_front();
        }
        calls.push_back(Arrival { at: Instant::now(), epoch });
    }

    /// All that are remembered, in order.
    pub(crate) fn all(&self) -> Vec<Arrival> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

/// One service's port. Cheap to clone; all clones are one door.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) outage: watch::Receiver<Outage>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) arrivals: Arrivals,
}

impl Door {
    /// Accepts connections until the service stops, and closes the port while it is down.
    pub(crate) async fn serve<H, F>(self, listener: TcpListener, handle: H)
    where
        H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Answer, io::Error>> + Send + 'static,
    {
        let handle = Arc::new(handle);
        let mut listener = Some(listener);
        loop {
            let Some(open) = &listener else {
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    opened = self.reopen() => listener = Some(opened),
                }
                continue;
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = self.until(|outage| *outage == Outage::Down) => listener = None,
                accepted = open.accept() => match accepted {
                    Ok((stream, _)) => {
                        let door = self.clone();
                        self.tasks.spawn(door.connection(stream, Arc::clone(&handle)));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a simulated service could not accept a connection");
                        sleep(PORT_RETRY).await;
                    }
                },
            }
        }
    }

    /// Answers one call as the outage and its fault have it; an error drops the connection without an
    /// answer.
    pub(crate) async fn answer(
        &self,
        outage: Outage,
        fault: Option<Fault>,
        refuse: impl Fn(Refusal) -> Answer,
        call: impl Future<Output = Result<Answer, io::Error>>,
    ) -> Result<Answer, io::Error> {
        match &outage {
            Outage::Slow(wait) => sleep(*wait).await,
            Outage::ServerError(status) => return Ok(refuse(Refusal::ServerError(*status))),
            Outage::TooManyRequests { retry_after } => {
                return Ok(refuse(Refusal::Throttled { retry_after: *retry_after }));
            }
            _ => {}
        }
        match fault {
            Some(Fault::ServerError) => return Ok(refuse(Refusal::ServerError(502))),
            Some(Fault::Throttled) => return Ok(refuse(Refusal::Throttled { retry_after: 1 })),
            _ => {}
        }
        let answer = call.await?;
        if fault == Some(Fault::AnswerLost) || outage == Outage::DropAfterApply {
            return Err(lost());
        }
        if outage == Outage::TimeoutAfterApply {
            self.until(|outage| *outage != Outage::TimeoutAfterApply).await;
            return Err(lost());
        }
        Ok(answer)
    }

    /// Cuts the connections and ends the service's tasks.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Keeps the port without listening, so that connections are refused and nobody else takes it;
    /// listens again when the outage is over.
    async fn reopen(&self) -> TcpListener {
        loop {
            match self.reserve() {
                Ok(socket) => {
                    self.until(|outage| *outage != Outage::Down).await;
                    match socket.listen(BACKLOG) {
                        Ok(listener) => return listener,
                        Err(error) => {
                            tracing::warn!(%error, "a simulated service could not listen");
                        }
                    }
                }
                Err(error) => tracing::debug!(%error, "the port is not free yet"),
            }
            sleep(PORT_RETRY).await;
        }
    }

    fn reserve(&self) -> io::Result<TcpSocket> {
        let socket =
            if self.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(self.address)?;
        Ok(socket)
    }

    /// Waits until the outage is such a one.
    async fn until(&self, such: impl Fn(&Outage) -> bool) {
        if self.outage.clone().wait_for(such).await.is_err() {
            // Nobody is left to end or begin an outage.
            self.stop.cancelled().await;
        }
    }

    async fn connection<H, F>(self, stream: TcpStream, handle: Arc<H>)
    where
        H: Fn(Request<Incoming>) -> F,
        F: Future<Output = Result<Answer, io::Error>>,
    {
        // Without it answers wait for the peer's acknowledgement of the header; failing is harmless.
        let _ = stream.set_nodelay(true);
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_READ_MAX)
            .serve_connection(
                TokioIo::new(stream),
                service_fn(|request: Request<Incoming>| {
                    self.arrivals.note(request.headers());
                    handle(request)
                }),
            );
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            () = self.until(|outage| *outage == Outage::Down) => {}
            ended = serving => if let Err(error) = ended {
                tracing::debug!(%error, "a connection of a simulated service ended");
            },
        }
    }
}

/// What drops a connection without an answer.
pub(crate) fn lost() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the answer is lost on order")
}
