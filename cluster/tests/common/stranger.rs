//! Whoever speaks to a node without being one: raw frames, over TLS or not, as a peer's program would send them
//! that is broken or means harm.
//!
//! Messages are spelled as tuples: that is how the format lays out structs, and a variant is its number.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use cluster::{PeerTls, codec};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::authority::Authority;
use super::{Node, PATIENCE, Root, Seat, assert_equal, command, found, seats};

pub(crate) const UPGRADE: &str = "GET /peer HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\n\
                                  upgrade: stockraft-peer\r\n\r\n";

pub(crate) const CONTROL: u32 = 0;
pub(crate) const APPEND: u32 = 1;
pub(crate) const SNAPSHOT: u32 = 2;
pub(crate) const FORWARD: u32 = 3;

/// Who the attacker is: a member whose node does not run.
pub(crate) const WHO: u64 = 3;
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection to a node, upgraded and greeted.
pub(crate) struct Stranger(pub(crate) Box<dyn Io>);

impl Stranger {
    /// Upgraded; nothing said yet.
    pub(crate) async fn connect(address: &str, to: u64, tls: Option<&PeerTls>) -> io::Result<Self> {
        let tcp = TcpStream::connect(address).await?;
        let mut io: Box<dyn Io> = match tls {
            None => Box::new(tcp),
            Some(tls) => {
                let name = ServerName::try_from(format!("node-{to}.stockraft")).unwrap();
                Box::new(connector(tls).connect(name, tcp).await?)
            }
        };
        io.write_all(UPGRADE.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(io.read_u8().await?);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        Ok(Self(io))
    }

    /// Greets as node `from`, for one purpose; must be let in.
    pub(crate) async fn greet(mut self, from: u64, to: u64, purpose: u32) -> io::Result<Self> {
        self.send(&(1_u32, from, to, purpose)).await?;
        let welcome = self.frame().await?;
        assert_eq!(welcome, codec::encode(&0_u32), "it was not let in");
        Ok(self)
    }

    pub(crate) async fn send<T: Serialize>(&mut self, message: &T) -> io::Result<()> {
        self.0.write_all(&framed(&codec::encode(message))).await?;
        self.0.flush().await
    }

    pub(crate) async fn frame(&mut self) -> io::Result<Vec<u8>> {
        let length = self.0.read_u32().await?;
        let mut bytes = vec![0; usize::try_from(length).unwrap()];
        self.0.read_exact(&mut bytes).await?;
        Ok(bytes)
    }

    /// Sends bytes as they are; the node may have hung up in the middle of them.
    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes).await;
        let _ = self.0.flush().await;
    }

    /// All that comes until the node hangs up; `None` if it does not in time.
    pub(crate) async fn rest(&mut self, within: Duration) -> Option<Vec<u8>> {
        let mut rest = Vec::new();
        let read = async {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = self.0.read(&mut bytes).await {
                rest.extend_from_slice(&bytes[..read]);
            }
        };
        tokio::time::timeout(within, read).await.ok()?;
        Some(rest)
    }

    /// Waits for the node to hang up.
    pub(crate) async fn is_cut_off(&mut self) -> bool {
        self.rest(PATIENCE).await.is_some()
    }
}

/// A frame of these bytes.
pub(crate) fn framed(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes()[..], bytes].concat()
}

fn connector(tls: &PeerTls) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for ca in CertificateDer::pem_slice_iter(&tls.ca) {
        roots.add(ca.unwrap()).unwrap();
    }
    let chain = CertificateDer::pem_slice_iter(&tls.cert).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(&tls.key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    Arc::new(config).into()
}

/// Two nodes of three, and what the third would need to speak to them.
pub(crate) struct Attacked {
    pub(crate) nodes: Vec<Node>,
    /// That of the third.
    pub(crate) seat: Seat,
    term: u64,
    next: u64,
}

impl Attacked {
    pub(crate) async fn begin(root: &Root, secure: bool) -> Self {
        let authority = Authority::new();
        let mut seats = seats(3, root.path());
        for seat in seats.iter_mut().filter(|_| secure) {
            seat.tls = Some(authority.issue(seat.member.id));
        }
        let mut nodes = found(&seats).await;
        assert_equal(&nodes).await;
        let seat = nodes.pop().unwrap().stop().await;
        nodes[0].until("another leads", |s| s.leader.is_some_and(|id| id != WHO)).await;
        nodes[0].propose(0).await;
        let term = nodes[0].raft.status().term;
        Self { nodes, seat, term, next: 1 }
    }

    pub(crate) async fn connect(&self, to: &Node, purpose: u32) -> Stranger {
        let (id, address) = (to.id(), &to.seat.member.peer);
        let stranger = Stranger::connect(address, id, self.seat.tls.as_ref()).await.unwrap();
        stranger.greet(WHO, id, purpose).await.unwrap()
    }

    /// Both go on, in the same term, with what was agreed on and nothing else.
    pub(crate) async fn is_unharmed(&mut self, attack: &str) {
        for node in &self.nodes {
            let proposed = node.raft.propose(command(self.next), PATIENCE).await;
            proposed.unwrap_or_else(|error| panic!("after {attack}: {error}"));
            self.next += 1;
        }
        for node in &self.nodes {
            let status = node.raft.status();
            assert_eq!(status.term, self.term, "{attack}: it was believed");
            assert_eq!(status.members.len(), 3, "{attack}");
        }
        let counter = assert_equal(&self.nodes).await;
        let right = counter.applied.len() == usize::try_from(self.next).unwrap()
            && counter.applied.values().all(|times| *times == 1);
        assert!(right, "{attack}: {:?}", counter.applied);
    }
}
