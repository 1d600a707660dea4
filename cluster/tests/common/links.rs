//! Links between nodes that a test can cut.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::Seat;

const PIECE: usize = 16 * 1024;

/// What becomes of the bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    On,
    /// Nothing arrives and nobody is told, as when packets are dropped.
    Held,
    /// Each piece of up to [`PIECE`] bytes takes so long.
    Slow(Duration),
}

/// All connections that one node dials to another.
pub(crate) struct Link {
    there: watch::Sender<Flow>,
    back: watch::Sender<Flow>,
}

pub(crate) async fn relay(to: SocketAddr) -> (SocketAddr, Link) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (there, back) = (watch::Sender::new(Flow::On), watch::Sender::new(Flow::On));
    let link = Link { there: there.clone(), back: back.clone() };
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let (there, back) = (there.subscribe(), back.subscribe());
            tokio::spawn(async move {
                let Ok(far) = TcpStream::connect(to).await else { return };
                near.set_nodelay(true).and_then(|()| far.set_nodelay(true)).unwrap();
                let ((near_in, near_out), (far_in, far_out)) =
                    (near.into_split(), far.into_split());
                tokio::select! {
                    () = carry(near_in, far_out, there) => {}
                    () = carry(far_in, near_out, back) => {}
                }
            });
        }
    });
    (address, link)
}

async fn carry(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut flow: watch::Receiver<Flow>,
) {
    let mut bytes = vec![0; PIECE];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        let pause = match flow.wait_for(|flow| *flow != Flow::Held).await.as_deref() {
            Ok(Flow::Slow(pause)) => *pause,
            Ok(_) => Duration::ZERO,
            Err(_) => return,
        };
        tokio::time::sleep(pause).await;
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

/// Links of a cluster, by who dials whom.
pub(crate) struct Links(BTreeMap<(u64, u64), Link>);

impl Links {
    pub(crate) async fn lay(seats: &mut [Seat]) -> Self {
        let mut links = BTreeMap::new();
        let all: Vec<_> = seats.iter().map(|seat| seat.member.clone()).collect();
        for seat in seats {
            for to in all.iter().filter(|to| to.id != seat.member.id) {
                let (address, link) = relay(to.peer.parse().unwrap()).await;
                seat.routes.insert(to.id, address.to_string());
                links.insert((seat.member.id, to.id), link);
            }
        }
        Self(links)
    }

    /// What `from` sends no longer reaches `to`, whoever dialled.
    pub(crate) fn hold(&self, from: u64, to: u64) {
        self.0[&(from, to)].there.send_replace(Flow::Held);
        self.0[&(to, from)].back.send_replace(Flow::Held);
    }

    /// What `from` sends reaches `to` at a fixed rate, on each connection by itself.
    pub(crate) fn slow(&self, from: u64, to: u64, pause: Duration) {
        self.0[&(from, to)].there.send_replace(Flow::Slow(pause));
        self.0[&(to, from)].back.send_replace(Flow::Slow(pause));
    }

    pub(crate) fn isolate(&self, id: u64) {
        for &(from, to) in self.0.keys().filter(|(from, to)| *from == id || *to == id) {
            self.hold(from, to);
        }
    }

    pub(crate) fn heal(&self) {
        for link in self.0.values() {
            link.there.send_replace(Flow::On);
            link.back.send_replace(Flow::On);
        }
    }
}
