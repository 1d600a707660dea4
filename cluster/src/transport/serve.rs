//! Listening for peers.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, UPGRADE};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::dial::{DIAL_TIMEOUT, UPGRADE_TO};
use super::message::{Hello, PROTOCOL, Purpose, Welcome};
use super::room::{Place, Room};
use super::session::Services;
use super::tls::{self, Tls};
use super::wire::{self, Io, Wire};

/// Connections of whoever has not said yet who it is.
const STRANGERS_MAX: usize = 256;
/// Connections of peers. A cluster needs four for each member.
const SERVED_MAX: usize = 256;
/// After an error of `accept` (no file handles left, say), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What a peer did wrong is told at the most once in this time.
const TOLD_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct Server {
    id: u64,
    tls: Option<Tls>,
    services: Services,
    stop: CancellationToken,
    tasks: TaskTracker,
    strangers: Room<()>,
    /// The connection that each peer has for each purpose. A new one takes the place of the old, so
    /// that a peer that lost its side cannot pile them up.
    served: Room<(u64, Purpose)>,
    told: Mutex<Option<Instant>>,
}

/// Whoever connects, until it has said who it is. Shared by all that is done for it meanwhile.
type Stranger = Arc<Place<()>>;

impl Server {
    pub(crate) fn new(
        id: u64,
        tls: Option<Tls>,
        services: Services,
        stop: CancellationToken,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        let (strangers, served) = (Room::new(stop.clone()), Room::new(stop.clone()));
        let told = Mutex::default();
        Arc::new(Self { id, tls, services, stop, tasks, strangers, served, told })
    }

    /// Accepts until `stop`.
    pub(crate) fn spawn(self: &Arc<Self>, listener: TcpListener) {
        let server = Arc::clone(self);
        self.tasks.spawn(async move {
            let stop = server.stop.clone();
            stop.run_until_cancelled(server.accept(&listener)).await;
        });
    }

    async fn accept(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            match listener.accept().await {
                Ok((tcp, address)) => {
                    // Whoever has waited longest makes room: a flood of connections that say nothing must not
                    // keep a peer out, who says who it is within a few round trips.
                    let stranger = Arc::new(self.strangers.enter((), STRANGERS_MAX));
                    let (server, gone) = (Arc::clone(self), stranger.gone());
                    self.tasks.spawn(gone.run_until_cancelled_owned(async move {
                        if let Err(error) = server.connection(tcp, stranger).await {
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

    async fn connection(self: Arc<Self>, tcp: TcpStream, stranger: Stranger) -> io::Result<()> {
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
        let certificate = Arc::new(certificate);
        let service = service_fn(move |request| {
            let server = Arc::clone(&self);
            let (certificate, stranger) = (Arc::clone(&certificate), Arc::clone(&stranger));
            async move { Ok::<_, Infallible>(server.request(request, certificate, stranger)) }
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
        stranger: Stranger,
    ) -> Response<Full<Bytes>> {
        let wants = request.headers().get(UPGRADE).is_some_and(|to| to == UPGRADE_TO);
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/healthz") => answer(StatusCode::OK, "ok\n"),
            (&Method::GET, "/peer") if wants => {
                let upgrade = hyper::upgrade::on(&mut request);
                let (tasks, stop) = (self.tasks.clone(), self.stop.clone());
                tasks.spawn(stop.run_until_cancelled_owned(async move {
                    let greeted = self.greeted(upgrade, certificate.as_ref().as_ref());
                    let greeted = stranger.gone().run_until_cancelled_owned(greeted).await;
                    // No stranger any more: it takes no place of theirs.
                    drop(stranger);
                    match greeted {
                        Some(Ok((wire, hello))) => self.serve(wire, &hello).await,
                        Some(Err(error)) => self.tell("a peer was not let in", &error),
                        None => {}
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

    /// Hears who it is that has connected, and answers whether it is served.
    async fn greeted(
        &self,
        upgrade: OnUpgrade,
        certificate: Option<&CertificateDer<'static>>,
    ) -> io::Result<(Wire, Hello)> {
        let io = upgrade.await.map_err(io::Error::other)?;
        let mut wire = wire::greeting(Box::new(TokioIo::new(io)));
        let hello: Hello = wire::receive_within(&mut wire, DIAL_TIMEOUT).await?;
        if let Err(why) = self.check(&hello, certificate) {
            wire::send(&mut wire, &Welcome::No(why.clone())).await?;
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        wire::send(&mut wire, &Welcome::Yes).await?;
        Ok((wire::open(wire), hello))
    }

    async fn serve(&self, wire: Wire, hello: &Hello) {
        let place = self.served.replace((hello.from, hello.purpose), SERVED_MAX);
        let serve = self.services.run(wire, hello.purpose, hello.from);
        if let Some(Err(error)) = place.gone().run_until_cancelled_owned(serve).await {
            self.tell(&format!("node {} was cut off", hello.from), &error);
        }
    }

    /// One line for whoever spoke wrongly. What merely ended is no news.
    fn tell(&self, what: &str, error: &io::Error) {
        if !matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::PermissionDenied) {
            tracing::debug!(%error, "peer connection ended");
            return;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() > TOLD_EVERY) {
            *told = Some(Instant::now());
            tracing::warn!(%error, "{what}");
        }
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
