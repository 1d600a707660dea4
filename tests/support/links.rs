//! The network between nodes, which a test can cut.
//!
//! Every node is dialled through a relay of its own. Who dials is found by asking the system which
//! process holds the other end, so that all links of one node can be cut and no others.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{Cluster, Node};

/// What is cut. Bytes on a cut link arrive when it is healed, as packets do that are sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Nothing,
    /// All links from and to one node.
    Around(u64),
    Everything,
}

impl Cut {
    fn blocks(self, one: u64, other: u64) -> bool {
        match self {
            Self::Nothing => false,
            Self::Around(node) => node == one || node == other,
            Self::Everything => true,
        }
    }
}

type Processes = Arc<Mutex<BTreeMap<u64, u32>>>;

/// Relays in front of all nodes of a cluster.
pub struct Links {
    cut: watch::Sender<Cut>,
    processes: Processes,
}

impl Links {
    /// Puts a relay in front of each node that was not started yet.
    pub async fn before(cluster: &mut Cluster) -> Self {
        let links = Self { cut: watch::Sender::new(Cut::Nothing), processes: Processes::default() };
        for node in &mut cluster.nodes {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            node.advertised = Some(listener.local_addr().unwrap().port());
            let relay = Relay {
                node: node.id,
                port: node.ports[2],
                cut: links.cut.subscribe(),
                processes: Arc::clone(&links.processes),
            };
            tokio::spawn(relay.run(listener));
        }
        links
    }

    /// Notes the processes of nodes that run, whenever any was started.
    pub fn know(&self, nodes: &[Node]) {
        let ids = nodes.iter().filter_map(|node| Some((node.id, node.process()?)));
        *self.processes.lock().unwrap() = ids.collect();
    }

    pub fn set(&self, cut: Cut) {
        self.cut.send_replace(cut);
    }
}

#[derive(Clone)]
struct Relay {
    node: u64,
    port: u16,
    cut: watch::Receiver<Cut>,
    processes: Processes,
}

impl Relay {
    async fn run(self, listener: TcpListener) {
        while let Ok((dialled, from)) = listener.accept().await {
            tokio::spawn(self.clone().carry(dialled, from));
        }
    }

    async fn carry(self, dialled: TcpStream, from: SocketAddr) -> Option<()> {
        let to = (Ipv4Addr::LOCALHOST, self.port);
        let by = self.node_at(from.port())?;
        self.passable(by).await?;
        let reached = TcpStream::connect(to).await.ok()?;
        let ((from, back), (answers, there)) = (dialled.into_split(), reached.into_split());
        tokio::join!(self.copy(by, from, there), self.copy(by, answers, back));
        Some(())
    }

    async fn copy(&self, by: u64, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut bytes = vec![0; 16 * 1024];
        while let Ok(count) = from.read(&mut bytes).await {
            let passable = self.passable(by).await.is_some();
            if count == 0 || !passable || to.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    }

    async fn passable(&self, by: u64) -> Option<()> {
        let mut cut = self.cut.clone();
        cut.wait_for(|cut| !cut.blocks(by, self.node)).await.ok().map(|_| ())
    }

    /// The node whose process holds the local end of a connection.
    fn node_at(&self, port: u16) -> Option<u64> {
        let socket = format!("socket:[{}]", inode_of(port)?);
        let processes = self.processes.lock().unwrap().clone();
        let holds = |process: u32| {
            let files = fs::read_dir(format!("/proc/{process}/fd")).ok()?;
            let links = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
            links.into_iter().find(|link| link.as_os_str() == socket.as_str())
        };
        processes.into_iter().find(|(_, process)| holds(*process).is_some()).map(|(node, _)| node)
    }
}

/// The system's number of the socket that is bound to a local port and is not a listener.
fn inode_of(port: u16) -> Option<String> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let bound = fields.get(1)?.rsplit(':').next()?;
        let is_it = u16::from_str_radix(bound, 16) == Ok(port) && *fields.get(3)? == "01";
        is_it.then(|| fields.get(9).map(ToString::to_string)).flatten()
    })
}
