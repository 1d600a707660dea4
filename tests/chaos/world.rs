//! The regions: a network, a disk and a node each, and who of them is a member.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use marketplace::Warehouse;
use tokio::time::Instant;

use crate::shops::Shop;
use crate::support::certificates::certify;
use crate::support::http::{Door, Doors};
use crate::support::power::{Disk, skipped};
use crate::support::wan::Wan;
use crate::support::{Node, TOKEN, found, random, until_true};

/// Members at any time.
const MEMBERS: usize = 3;
/// Regions: the members' and one for whoever joins.
pub(crate) const REGIONS: usize = MEMBERS + 1;
/// Where the clients are.
const CLIENTS: usize = 0;
/// Where somebody is who belongs to no region.
pub(crate) const OUTSIDE: usize = REGIONS + 1;
/// A node's disk, in MiB: sparse.
const DISK: u64 = 512;
/// Log entries behind a snapshot: what is agreed on in the seconds that a snapshot takes on its way, or
/// whoever needs one would need the next one when it has come.
pub(crate) const KEEP_LOG: u64 = 500;
/// A SKU that is there from the beginning.
pub(crate) const OPENED: &str = "CUP-0";
/// What sets a process's clock without touching the machine's, below the directory of some architecture.
const FAKETIME: &str = "faketime/libfaketime.so.1";

pub(crate) struct World {
    pub(crate) wan: Wan,
    /// One a region, whose place in the network is one more.
    pub(crate) nodes: Vec<Node>,
    /// Which of them are members.
    pub(crate) members: Vec<usize>,
    /// Where the members take webhooks, and where their APIs are.
    pub(crate) webhooks: Doors,
    pub(crate) apis: Doors,
    pub(crate) stores: Vec<Shop>,
    pub(crate) warehouse: Warehouse,
    pub(crate) disks: Vec<Disk>,
    /// What sets clocks, if this machine has it.
    pub(crate) faketime: Option<PathBuf>,
    /// Faults that were carried out.
    pub(crate) done: BTreeMap<&'static str, u32>,
    /// Processes that were there after a fault.
    processes: BTreeSet<u32>,
    next_id: u64,
    seed: u64,
    began: Instant,
    dir: tempfile::TempDir,
}

impl World {
    /// All of it, nothing started; an error says what this machine lacks.
    pub(crate) fn new(seed: u64) -> Result<Self, String> {
        let wan = Wan::new(OUTSIDE + 1, seed)?;
        let disks: Result<Vec<_>, _> = (0..REGIONS).map(|_| Disk::new(DISK)).collect();
        let mut world = Self {
            wan,
            nodes: Vec::new(),
            members: (0..MEMBERS).collect(),
            webhooks: Doors::new::<Door>(&[]),
            apis: Doors::new::<Door>(&[]),
            stores: Vec::new(),
            warehouse: Warehouse::default(),
            disks: disks?,
            faketime: faketime(),
            done: BTreeMap::new(),
            processes: BTreeSet::new(),
            next_id: 1,
            seed,
            began: Instant::now(),
            dir: tempfile::tempdir().map_err(|error| error.to_string())?,
        };
        if world.faketime.is_none() {
            skipped("no clock is set, as there is no libfaketime (package faketime)");
        }
        certify(&world.dir.path().join("ca"), &[])?;
        for region in 0..REGIONS {
            let node = world.node(region);
            world.nodes.push(node);
        }
        world.calm();
        Ok(world)
    }

    /// A new node for a region, with an id that was never used.
    pub(crate) fn node(&mut self, region: usize) -> Node {
        let id = self.next_id;
        self.next_id += 1;
        let mut node = self.plain_node(id, region + 1, "ca");
        node.data_dir = self.disks[region].path().join(format!("node-{id}"));
        let clock = node.dir.join("clock");
        if let Some(library) = &self.faketime {
            std::fs::write(&clock, "+0").unwrap();
            let set = [
                ("LD_PRELOAD", library.display().to_string()),
                ("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()),
                ("FAKETIME_CACHE_DURATION", "1".into()),
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
                ("NO_FAKE_STAT", "1".into()),
            ];
            node.env.extend(set.map(|(name, value)| (name.to_string(), value)));
        }
        node
    }

    /// A node at a place, with a certificate of some authority.
    pub(crate) fn plain_node(&self, id: u64, place: usize, authority: &str) -> Node {
        let certificates = self.dir.path().join(authority);
        certify(&certificates, &[id]).unwrap();
        let mut node = Node::new(id, self.dir.path().join(format!("{authority}-{id}")));
        node.address = Wan::address(place);
        node.ports = [8080, 8081, 8082];
        node.network = Some(self.wan.places[place].clone());
        // Round trips take up to a quarter of a second.
        node.timing_ms = [300, 1200];
        node.raft = format!("snapshot_every = {}\nkeep_log = {KEEP_LOG}\n", KEEP_LOG / 2);
        let path = |file: String| certificates.join(file).display().to_string();
        node.more = format!(
            "[ingest]\nmin_free_disk = \"16MiB\"\ninbox_keep = \"10s\"\n\
             [peer_tls]\nca = \"{}\"\ncert = \"{}\"\nkey = \"{}\"\n",
            path("ca.pem".into()),
            path(format!("node-{id}.pem")),
            path(format!("node-{id}.key")),
        );
        node
    }

    /// Members that agree.
    pub(crate) async fn found(&mut self) {
        for n in self.members.clone() {
            self.nodes[n].start().await;
        }
        self.note_processes();
        found(&self.member_nodes()).await;
        self.announce().await;
    }

    pub(crate) fn member_nodes(&self) -> Vec<&Node> {
        self.members.iter().map(|n| &self.nodes[*n]).collect()
    }

    /// From now on clients and stores go to these members.
    pub(crate) async fn announce_to(&self, members: &[usize]) {
        let nodes = || members.iter().map(|n| &self.nodes[*n]);
        let webhooks: Vec<String> = nodes().map(crate::stores::webhooks).collect();
        self.stores.iter().for_each(|store| store.set_targets(&webhooks));
        self.apis.set(nodes().map(Node::admin).collect()).await;
        self.webhooks.set(nodes().map(Node::public).collect()).await;
    }

    pub(crate) async fn announce(&self) {
        self.announce_to(&self.members).await;
    }

    /// Links as they are between regions of this world when all is well.
    pub(crate) fn calm(&self) {
        let mut state = self.seed;
        let mut delays = BTreeMap::new();
        for one in 0..=OUTSIDE {
            for other in 0..one {
                let one_way = 50 + random(&mut state, 75);
                delays.insert((other, one), if other == CLIENTS { 5 } else { one_way });
            }
        }
        self.wan.change(|(from, to), link| {
            let delay = delays[&(from.min(to), from.max(to))];
            link.delay = Duration::from_millis(delay);
            link.jitter = Duration::from_millis(delay / 10);
            (link.lost, link.doubled, link.cut) = (1, 1, false);
        });
    }

    /// Cuts links between members: those from the first to the second for which `such` holds.
    pub(crate) fn cut(&self, such: impl Fn(usize, usize) -> bool) {
        self.wan.change(|(from, to), link| {
            let regions = 1..=REGIONS;
            let between = regions.contains(&from) && regions.contains(&to);
            link.cut = between && such(from - 1, to - 1);
        });
    }

    /// Sets a node's clock ahead of this machine's, or back.
    pub(crate) fn set_clock(&self, n: usize, seconds: i64) {
        let dir = &self.nodes[n].dir;
        std::fs::write(dir.join("clock.new"), format!("{seconds:+}")).unwrap();
        std::fs::rename(dir.join("clock.new"), dir.join("clock")).unwrap();
    }

    /// Which member leads.
    pub(crate) async fn leader(&self) -> usize {
        let mut leads = None;
        until_true("some member leads", async || {
            for n in &self.members {
                let status = self.nodes[*n].try_get("/cluster/status").await;
                if status.is_some_and(|status| status["role"] == "leader") {
                    leads = Some(*n);
                }
            }
            leads.is_some()
        })
        .await;
        leads.unwrap()
    }

    /// Waits until every member answers with what all have agreed on, so that one leads and is heard.
    pub(crate) async fn recover(&self) {
        let authorization = format!("Bearer {TOKEN}");
        let headers = [("authorization", authorization.as_str())];
        let path = format!("/v1/stock/{OPENED}?consistency=linearizable");
        let knows = self.members.iter().map(|n| {
            until_true("a member knows what is agreed on", async || {
                let answer = self.nodes[*n].api("GET", &path, &headers, "").await;
                answer.is_ok_and(|answer| answer.status == 200)
            })
        });
        futures::future::join_all(knows).await;
    }

    /// Changes the cluster, or what it holds, by whichever member is able to, again until it is done.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: &str) {
        self.ask_of(&self.members, method, path, body).await;
    }

    /// The same by some of them.
    pub(crate) async fn ask_of(&self, which: &[usize], method: &str, path: &str, body: &str) {
        let authorization = format!("Bearer {TOKEN}");
        let headers =
            [("authorization", authorization.as_str()), ("content-type", "application/json")];
        let mut turn = which.iter().cycle();
        until_true(&format!("{method} {path}"), async || {
            let node = &self.nodes[*turn.next().unwrap()];
            let answer = node.api(method, path, &headers, body.to_string()).await;
            answer.is_ok_and(|answer| (200..300).contains(&answer.status))
        })
        .await;
    }

    /// Notes who runs, to clean up behind all of them.
    pub(crate) fn note_processes(&mut self) {
        self.processes.extend(self.nodes.iter().filter_map(Node::process));
    }

    /// Tells what is done, and when.
    pub(crate) fn say(&self, what: &str) {
        println!("{:7.1} s  {what}", self.began.elapsed().as_secs_f64());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.note_processes();
        self.nodes.iter_mut().for_each(Node::kill);
        // A process that was killed could not remove what its clock was shared by.
        for process in &self.processes {
            for name in [format!("faketime_shm_{process}"), format!("sem.faketime_sem_{process}")] {
                let _ = std::fs::remove_file(Path::new("/dev/shm").join(name));
            }
        }
    }
}

fn faketime() -> Option<PathBuf> {
    let places = std::fs::read_dir("/usr/lib").ok()?;
    places.flatten().map(|place| place.path().join(FAKETIME)).find(|library| library.is_file())
}
