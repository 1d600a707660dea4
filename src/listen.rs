//! A listener with bounds: on connections, on what a client may leave unfinished, and on how long
//! stopping takes.
//!
//! Whoever connects is a stranger until he has proved who he is, by a signature or a token. When there is no
//! room, the stranger who came first gives way, so that those who connect and say nothing, or say it byte by
//! byte, keep nobody out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::Request;
use hyper::body::{Body, Incoming};
use hyper::http::Extensions;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Bytes of request line and headers together; hyper answers 431 beyond it.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Headers of one request.
const HEADERS_MAX: usize = 100;
/// How long an open connection may send nothing, and how long a request's head may take.
const IDLE: Duration = Duration::from_secs(75);
/// How long a stranger has to prove who he is before he must give way to others.
const STRANGE: Duration = Duration::from_secs(1);
/// Connections that wait to be taken; those beyond it try again after a second.
const WAITING: u32 = 1024;
/// How long answers in progress may take when the node stops; then their connections are cut.
pub(crate) const DRAIN: Duration = Duration::from_secs(8);

/// Listens there.
pub(crate) fn on(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Or a node that starts again would wait for its old connections to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(WAITING)
}

/// How many connections `what` takes: as many as wanted, but no more than this part of the files that the
/// process may open. The rest is left to stores and peers, which must not fail because somebody connects.
pub(crate) fn room(what: &str, wanted: usize, part: u64) -> usize {
    let most = usize::try_from(files_max() / part).unwrap_or(usize::MAX).max(1);
    if wanted > most {
        tracing::warn!(
            wanted,
            most,
            "too few open files are allowed for all connections of {what}"
        );
    }
    wanted.min(most)
}

/// The files that this process may open, after it asked for as many as it can have.
fn files_max() -> u64 {
    let own = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: own.maximum, maximum: own.maximum };
    let got = if setrlimit(Resource::Nofile, raised).is_ok() { raised } else { own };
    got.current.unwrap_or(u64::MAX)
}

/// Connections of those who have not proved who they are.
#[derive(Default)]
struct Strangers(Mutex<Book>);

#[derive(Default)]
struct Book {
    /// How many came so far.
    came: u64,
    /// Those who are there, in the order in which they came: when, and what is cancelled when one must go.
    there: BTreeMap<u64, (Instant, CancellationToken)>,
}

impl Strangers {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another one; what is cancelled when he must give way.
    fn add(self: &Arc<Self>) -> (Trust, CancellationToken) {
        let mut book = self.book();
        book.came += 1;
        let (number, gone) = (book.came, CancellationToken::new());
        book.there.insert(number, (Instant::now(), gone.clone()));
        (Trust { strangers: Arc::clone(self), number }, gone)
    }

    /// Sends away whoever came first, once he had his time. Waits while there is nobody.
    async fn send_one_away(&self) {
        loop {
            let first =
                self.book().there.first_key_value().map(|(number, (came, _))| (*number, *came));
            let Some((number, came)) = first else {
                tokio::time::sleep(STRANGE).await;
                continue;
            };
            tokio::time::sleep_until(came + STRANGE).await;
            if let Some((_, gone)) = self.book().there.remove(&number) {
                gone.cancel();
                return;
            }
        }
    }
}

/// What makes a stranger one who is known: an extension of each request.
#[derive(Clone)]
pub(crate) struct Trust {
    strangers: Arc<Strangers>,
    number: u64,
}

impl Trust {
    /// Whoever sent the request has proved who he is: his connection stays.
    pub(crate) fn prove(of_request: &Extensions) {
        if let Some(trust) = of_request.get::<Self>() {
            trust.end();
        }
    }

    fn end(&self) {
        self.strangers.book().there.remove(&self.number);
    }
}

/// Serves HTTP until `stop`, then finishes what is in progress. `what` names it in the log.
pub(crate) async fn serve<S, B>(
    what: &'static str,
    listener: TcpListener,
    connections_max: usize,
    service: S,
    stop: CancellationToken,
) where
    S: HttpService<Incoming, ResBody = B> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let room = Arc::new(Semaphore::new(connections_max));
    let strangers = Arc::new(Strangers::default());
    let graceful = GracefulShutdown::new();
    let cut = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(what, &listener, &room, &strangers) => accepted,
        };
        let Some((stream, permit)) = accepted else { continue };
        let (trust, gone) = strangers.add();
        let (own, service) = (trust.clone(), service.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(own.clone());
            service.clone().call(request)
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        let connection = gone.run_until_cancelled_owned(graceful.watch(connection));
        let connection = cut.clone().run_until_cancelled_owned(connection);
        tokio::spawn(async move {
            match connection.await {
                Some(Some(Err(error))) => tracing::debug!(%error, "a connection for {what} ended"),
                Some(None) => tracing::debug!("a connection for {what} gave way to another"),
                _ => {}
            }
            trust.end();
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("some connections for {what} were still open");
    }
    cut.cancel();
}

/// The next connection, once there is room for it.
async fn accept(
    what: &'static str,
    listener: &TcpListener,
    room: &Arc<Semaphore>,
    strangers: &Strangers,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    match listener.accept().await {
        Ok((stream, _)) => {
            // Answers are small and wait for nothing.
            let _ = stream.set_nodelay(true);
            let next = || Arc::clone(room).acquire_owned();
            let permit = tokio::select! {
                biased;
                permit = next() => permit,
                () = strangers.send_one_away() => next().await,
            };
            Some((stream, permit.ok()?))
        }
        Err(error) => {
            // Out of file descriptors, most often: others must finish first.
            tracing::warn!(%error, "cannot take a connection for {what}");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}
