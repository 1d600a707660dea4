//! Reaching a peer, up to the point where frames can be exchanged.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::header::{CONNECTION, HOST, UPGRADE};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use super::message::{Hello, PROTOCOL, Purpose, Welcome};
use super::wire::{self, Io, Wire};
use super::{dns_name, tls::Tls};

/// All of reaching a peer must happen within this: two or three round trips of any link on earth.
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// The protocol that the HTTP connection is upgraded to.
pub(crate) const UPGRADE_TO: &str = "stockraft-peer";

/// Who dials, and how.
pub(crate) struct Dialer {
    pub(crate) id: u64,
    pub(crate) tls: Option<Tls>,
    pub(crate) routes: BTreeMap<u64, String>,
}

impl Dialer {
    /// A connection to node `to`, verified to be that node, for one purpose.
    pub(crate) async fn dial(&self, to: u64, address: &str, purpose: Purpose) -> io::Result<Wire> {
        let address = self.routes.get(&to).map_or(address, String::as_str);
        tokio::time::timeout(DIAL_TIMEOUT, self.try_dial(to, address, purpose))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("dialling {address}")))?
    }

    async fn try_dial(&self, to: u64, address: &str, purpose: Purpose) -> io::Result<Wire> {
        let tcp = self.connect(address).await?;
        tcp.set_nodelay(true)?;
        let io: Box<dyn Io> = match &self.tls {
            None => Box::new(tcp),
            Some(tls) => {
                let name = ServerName::try_from(dns_name(to)).map_err(io::Error::other)?;
                Box::new(tls.connector.connect(name, tcp).await?)
            }
        };
        let mut wire = wire::greeting(upgrade(io).await?);
        let hello = Hello { protocol: PROTOCOL, from: self.id, to, purpose };
        wire::send(&mut wire, &hello).await?;
        match wire::receive(&mut wire).await? {
            Welcome::Yes => Ok(wire::open(wire)),
            Welcome::No(why) => Err(io::Error::new(io::ErrorKind::PermissionDenied, why)),
        }
    }

    async fn connect(&self, address: &str) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{address} has no address"));
        for found in tokio::net::lookup_host(address).await? {
            if self.tls.is_none() && !found.ip().is_loopback() {
                last = refuse(found);
                continue;
            }
            match TcpStream::connect(found).await {
                Ok(tcp) => return Ok(tcp),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn refuse(address: SocketAddr) -> io::Error {
    let why = format!("{address} is not loopback, and there are no certificates");
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

async fn upgrade(io: Box<dyn Io>) -> io::Result<Box<dyn Io>> {
    let (mut client, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(io)).await.map_err(io::Error::other)?;
    // Ends by itself: with the upgrade, or when the client is dropped.
    tokio::spawn(connection.with_upgrades());
    let request = Request::get("/peer")
        .header(HOST, "peer")
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, UPGRADE_TO)
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let response = client.send_request(request).await.map_err(io::Error::other)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(io::Error::other(format!("no upgrade: {}", response.status())));
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(io::Error::other)?;
    Ok(Box::new(TokioIo::new(upgraded)))
}
