//! Listening for peers.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, UPGRADE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::dial::{DIAL_TIMEOUT, UPGRADE_TO};
use super::message::{Hello, PROTOCOL, Purpose, Welcome};
use super::session::Services;
use super::tls::{self, Tls};
use super::wire::{self, Io};

/// Connections open at once, known peers or not. A cluster needs four for each member.
const CONNECTIONS_MAX: usize = 1024;
/// After an error of `accept` (no file handles left, say), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Server {
    pub(crate) id: u64,
    pub(crate) tls: Option<Tls>,
    pub(crate) services: Services,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    /// The connection that each peer has for each purpose. A new one takes the place of the old, so
    /// that a peer that lost its side cannot pile them up.
    pub(crate) open: Mutex<BTreeMap<(u64, Purpose), CancellationToken>>,
}

impl Server {
    /// Accepts until `stop`.
    pub(crate) fn spawn(self: Arc<Self>, listener: TcpListener) {
        let tasks = self.tasks.clone();
        tasks.spawn(async move {
            let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
            let stop = self.stop.clone();
            stop.run_until_cancelled(self.accept(&listener, &room)).await;
        });
    }

    async fn accept(self: &Arc<Self>, listener: &TcpListener, room: &Arc<Semaphore>) {
        loop {
            let Ok(permit) = Arc::clone(room).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((tcp, address)) => {
                    let server = Arc::clone(self);
                    let stop = self.stop.clone();
                    self.tasks.spawn(stop.run_until_cancelled_owned(async move {
                        if let Err(error) = server.connection(tcp, permit).await {
                            tracing::debug!(%address, %error, "connection ended");
                        }
                    }));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn connection(
        self: Arc<Self>,
        tcp: TcpStream,
        permit: OwnedSemaphorePermit,
    ) -> io::Result<()> {
        tcp.set_nodelay(true)?;
        let (io, certificate): (Box<dyn Io>, _) = match &self.tls {
            None => (Box::new(tcp), None),
            Some(tls) => {
                let accept = tokio::time::timeout(DIAL_TIMEOUT, tls.acceptor.accept(tcp));
                let stream = accept.await.map_err(io::Error::other)??;
                let certificates = stream.get_ref().1.peer_certificates();
                let certificate = certificates.and_then(<[_]>::first).cloned();
                (Box::new(stream), certificate)
            }
        };
        let permit = Arc::new(permit);
        let certificate = Arc::new(certificate);
        let service = service_fn(move |request| {
            let server = Arc::clone(&self);
            let (certificate, permit) = (Arc::clone(&certificate), Arc::clone(&permit));
            async move { Ok::<_, Infallible>(server.request(request, certificate, permit)) }
        });
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(DIAL_TIMEOUT)
            .max_headers(16)
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades()
            .await
            .map_err(io::Error::other)
    }

    fn request(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        certificate: Arc<Option<CertificateDer<'static>>>,
        permit: Arc<OwnedSemaphorePermit>,
    ) -> Response<Full<Bytes>> {
        let wants = request.headers().get(UPGRADE).is_some_and(|to| to == UPGRADE_TO);
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/healthz") => answer(StatusCode::OK, "ok\n"),
            (&Method::GET, "/peer") if wants => {
                let upgrade = hyper::upgrade::on(&mut request);
                let (tasks, stop) = (self.tasks.clone(), self.stop.clone());
                tasks.spawn(stop.run_until_cancelled_owned(async move {
                    let _permit = permit;
                    let served = match upgrade.await {
                        Ok(io) => {
                            self.peer(Box::new(TokioIo::new(io)), certificate.as_ref().as_ref())
                                .await
                        }
                        Err(error) => Err(io::Error::other(error)),
                    };
                    if let Err(error) = served {
                        tracing::debug!(%error, "peer connection ended");
                    }
                }));
                let mut response = answer(StatusCode::SWITCHING_PROTOCOLS, "");
                response.headers_mut().extend([
                    (CONNECTION, hyper::header::HeaderValue::from_static("upgrade")),
                    (UPGRADE, hyper::header::HeaderValue::from_static(UPGRADE_TO)),
                ]);
                response
            }
            (&Method::GET, "/peer") => answer(StatusCode::UPGRADE_REQUIRED, "for peers only\n"),
            _ => answer(StatusCode::NOT_FOUND, "nothing here\n"),
        }
    }

    /// Greets a peer and serves it.
    async fn peer(
        &self,
        io: Box<dyn Io>,
        certificate: Option<&CertificateDer<'static>>,
    ) -> io::Result<()> {
        let mut wire = wire::greeting(io);
        let hello: Hello = wire::receive_within(&mut wire, DIAL_TIMEOUT).await?;
        if let Err(why) = self.check(&hello, certificate) {
            wire::send(&mut wire, &Welcome::No(why.clone())).await?;
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        wire::send(&mut wire, &Welcome::Yes).await?;
        let only = self.only((hello.from, hello.purpose));
        let serve = self.services.run(wire::open(wire), hello.purpose, hello.from);
        let served = only.run_until_cancelled(serve).await;
        served.unwrap_or_else(|| Err(io::Error::other("a newer connection took its place")))
    }

    /// Ends the connection that was in this place, and returns the token of the new one.
    fn only(&self, place: (u64, Purpose)) -> CancellationToken {
        let only = self.stop.child_token();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = open.insert(place, only.clone()) {
            old.cancel();
        }
        only
    }

    /// Whether whoever greets may be served; else what to tell it.
    fn check(&self, hello: &Hello, certificate: Option<&CertificateDer<'_>>) -> Result<(), String> {
        if hello.protocol != PROTOCOL {
            return Err(format!("protocol {} is not spoken here, {PROTOCOL} is", hello.protocol));
        }
        if hello.to != self.id {
            return Err(format!("this is node {}, not node {}", self.id, hello.to));
        }
        if hello.from == self.id {
            return Err(format!("this is node {} already", self.id));
        }
        if self.tls.is_some() && !certificate.is_some_and(|own| tls::is_of(own, hello.from)) {
            return Err(format!("the certificate is not that of node {}", hello.from));
        }
        Ok(())
    }
}

fn answer(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = status;
    response
}
