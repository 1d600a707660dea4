//! A listener with bounds: on connections, on what a client may leave unfinished, and on how long
//! stopping takes.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::service::HttpService;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Bytes of request line and headers together; hyper answers 431 beyond it.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Headers of one request.
const HEADERS_MAX: usize = 100;
/// How long an open connection may send nothing, and how long a request's head may take.
const IDLE: Duration = Duration::from_secs(75);
/// How long answers in progress may take when the node stops; then their connections are cut.
pub(crate) const DRAIN: Duration = Duration::from_secs(8);

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
    let connections = Arc::new(Semaphore::new(connections_max));
    let graceful = GracefulShutdown::new();
    let cut = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(what, &listener, &connections) => accepted,
        };
        let Some((stream, permit)) = accepted else { continue };
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service.clone());
        let connection = cut.clone().run_until_cancelled_owned(graceful.watch(connection));
        tokio::spawn(async move {
            if let Some(Err(error)) = connection.await {
                tracing::debug!(%error, "a connection for {what} ended");
            }
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("some connections for {what} were still open");
    }
    cut.cancel();
}

async fn accept(
    what: &'static str,
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            // Answers are small and wait for nothing.
            let _ = stream.set_nodelay(true);
            Some((stream, permit))
        }
        Err(error) => {
            // Out of file descriptors, most often: others must finish first.
            tracing::warn!(%error, "cannot take a connection for {what}");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}
