//! What tests of whole processes share: a cluster of real nodes on loopback, and how to talk to them.
//!
//! Nothing here outlives a test: each node's standard input is a pipe whose other end the test holds,
//! and a node stops when that closes, however the test ends.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::print_stdout,
    reason = "each test binary compiles this file and uses its own part of it"
)]

pub mod book;
pub mod certificates;
pub mod holders;
pub mod http;
pub mod issuer;
pub mod linearizable;
pub mod links;
pub mod orders;
pub mod payloads;
pub mod ports;
pub mod power;
pub mod raw;
pub mod senders;
pub mod wan;

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::time::Instant;

use http::{Answer, Door, Http};
pub use ports::ports;
use wan::Namespace;

/// A token with every scope.
pub const TOKEN: &str = "test-token-with-all-scopes";
/// A token that may look.
pub const READER: &str = "test-token-that-may-look";
/// A token that may change stock.
pub const WRITER: &str = "test-token-that-may-write";
/// The secret of [`CHANNEL`].
pub const SECRET: &str = "hush-this-is-the-secret-of-a-test";
/// The channel that all webhooks go to.
pub const CHANNEL: &str = "north";
/// How long anything may take that is only slow, not wrong.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until there is an answer; panics when there is none in [`PATIENCE`].
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "waited too long: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The same for a condition.
pub async fn until_true(what: &str, mut ask: impl AsyncFnMut() -> bool) {
    until(what, async || ask().await.then_some(())).await;
}

/// The program under test.
pub fn stockraft() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stockraft"));
    // What the machine says of tokens, nodes and logging is not meant for tests.
    for name in ["STOCKRAFT_TOKEN", "STOCKRAFT_NODE", "STOCKRAFT_LOG"] {
        command.env_remove(name);
    }
    command
}

/// The same, allowed to open so many files and no more.
fn limited(files_max: u64) -> Command {
    let program = stockraft();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {files_max} && exec \"$0\" \"$@\"")]);
    command.arg(program.get_program());
    program.get_envs().for_each(|(name, _)| {
        command.env_remove(name);
    });
    command
}

/// Writes a file that only its owner can read, as one with secrets must be.
pub fn write_private(path: &Path, text: &str) {
    let mut file =
        fs::File::options().create(true).write(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// One node: its place on disk and on the network, and its process while it has one.
pub struct Node {
    pub id: u64,
    /// Where it listens.
    pub address: Ipv4Addr,
    /// Ports of webhooks, the API, and peers.
    pub ports: [u16; 3],
    /// The network that it runs in, where that is not this process's own.
    pub network: Option<Namespace>,
    /// Its config and its log lie here.
    pub dir: PathBuf,
    pub data_dir: PathBuf,
    /// What other nodes dial, where that is not its own port.
    pub advertised: Option<u16>,
    /// Its heartbeat and its election timeout, in milliseconds.
    pub timing_ms: [u64; 2],
    /// Keys added to `[raft]` in its config.
    pub raft: String,
    /// Tables added to its config.
    pub more: String,
    /// Of its process.
    pub env: Vec<(String, String)>,
    /// How many files it may open, where that is not what this process may.
    pub files_max: Option<u64>,
    child: Option<Child>,
    http: Http,
}

impl Node {
    /// A node that has not been started, with everything below `dir`.
    pub fn new(id: u64, dir: PathBuf) -> Self {
        fs::create_dir_all(&dir).unwrap();
        Self {
            id,
            address: Ipv4Addr::LOCALHOST,
            ports: ports(),
            network: None,
            data_dir: dir.join("data"),
            dir,
            advertised: None,
            timing_ms: [150, 600],
            raft: String::new(),
            more: String::new(),
            env: Vec::new(),
            files_max: None,
            child: None,
            http: Http::new(),
        }
    }

    pub fn region(&self) -> String {
        format!("region-{}", self.id)
    }

    /// What stands in its config.
    pub fn config(&self) -> String {
        let [public, admin, peer] = self.ports;
        let [heartbeat, election] = self.timing_ms;
        let address = self.address;
        let advertised = self
            .advertised
            .map_or_else(String::new, |port| format!("peer_advertised = \"127.0.0.1:{port}\"\n"));
        format!(
            "[node]\nid = {}\nregion = \"{}\"\ndata_dir = \"{}\"\ncluster = \"tests\"\n\n\
             [listen]\npublic = \"{address}:{public}\"\nadmin = \"{address}:{admin}\"\n\
             peer = \"{address}:{peer}\"\n{advertised}\n\
             [admin]\ntokens = [\n\
             {{ name = \"all\", secret = \"{TOKEN}\", scopes = [\"read\", \"write\", \"admin\"] }},\n\
             {{ name = \"reader\", secret = \"{READER}\", scopes = [\"read\"] }},\n\
             {{ name = \"writer\", secret = \"{WRITER}\", scopes = [\"write\"] }},\n]\n\n\
             [raft]\nheartbeat = \"{heartbeat}ms\"\nelection = \"{election}ms\"\n{}\n\
             [[channel]]\nname = \"{CHANNEL}\"\nkind = \"shopify\"\nsecrets = [\"{SECRET}\"]\n{}",
            self.id,
            self.region(),
            self.data_dir.display(),
            self.raft,
            self.more,
        )
    }

    /// Starts its process, and does not wait for anything.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let config = self.dir.join("node.toml");
        write_private(&config, &self.config());
        let log = fs::File::options().create(true).append(true).open(self.log_path()).unwrap();
        let mut command = self.files_max.map_or_else(stockraft, limited);
        command.args(["serve", "--stop-with-stdin", "--config"]).arg(config);
        command.envs(self.env.iter().cloned());
        command.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut spawn = || command.spawn().unwrap();
        self.child = Some(match &self.network {
            None => spawn(),
            Some(network) => network.run(spawn),
        });
    }

    /// Whether its process has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        let ended = self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some());
        self.child.take_if(|_| ended).is_some()
    }

    /// Where it takes webhooks.
    pub fn public(&self) -> Door {
        Door((self.address, self.ports[0]).into())
    }

    /// Where its API is.
    pub fn admin(&self) -> Door {
        Door((self.address, self.ports[1]).into())
    }

    /// Starts it, and waits until its API answers; an error with its last words if it ends instead.
    pub async fn try_start(&mut self) -> Result<(), String> {
        self.spawn();
        self.answers().await
    }

    /// The same of one that was spawned.
    pub async fn answers(&mut self) -> Result<(), String> {
        until("a node answers after its start", async || {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                self.child = None;
                return Some(Err(format!("{status}: {}", self.log())));
            }
            let status = self.try_get("/cluster/status").await?;
            (status["id"] == self.id).then_some(Ok(()))
        })
        .await
    }

    pub async fn start(&mut self) {
        self.try_start().await.unwrap();
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("node.log")
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The id of its process.
    pub fn process(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether its process is there.
    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().expect("it runs").id();
        kill_process(Pid::from_raw(i32::try_from(id).unwrap()).unwrap(), signal).unwrap();
    }

    /// SIGKILL: no chance to flush or to say goodbye.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGSTOP: it is there and does nothing.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGTERM, and waits for its end.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let mut child = self.child.take().unwrap();
        // Its standard input must stay open, or it might be that which stops it.
        until("a node ends after SIGTERM", async || child.try_wait().unwrap()).await
    }

    /// A request to its API.
    pub async fn api(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<bytes::Bytes>,
    ) -> Result<Answer, String> {
        self.http.request(self.admin(), method, path, headers, body.into()).await
    }

    /// The JSON at a path; nothing unless the answer was 200.
    pub async fn try_get(&self, path: &str) -> Option<Value> {
        let authorization = format!("Bearer {TOKEN}");
        let answer = self.api("GET", path, &[("authorization", &authorization)], "").await.ok()?;
        (answer.status == 200).then(|| answer.json())
    }

    /// The JSON at a path, which must be there.
    pub async fn get(&self, path: &str) -> Value {
        let authorization = format!("Bearer {TOKEN}");
        let answer = self.api("GET", path, &[("authorization", &authorization)], "").await;
        let answer = answer.unwrap_or_else(|error| panic!("GET {path}: {error}"));
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.text());
        answer.json()
    }

    /// Posts JSON with the token of all scopes.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        let authorization = format!("Bearer {TOKEN}");
        let headers =
            [("authorization", authorization.as_str()), ("content-type", "application/json")];
        self.api("POST", path, &headers, body.to_string()).await.unwrap()
    }

    /// All items of a list, page by page.
    pub async fn list(&self, path: &str, page: usize) -> Vec<Value> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let answer = self.get(&format!("{path}?limit={page}{cursor}")).await;
            items.extend(answer["items"].as_array().unwrap().iter().cloned());
            let Some(next) = answer["next"].as_str() else { return items };
            cursor = format!("&cursor={next}");
        }
    }

    /// How it is named when a cluster is founded, or when it joins one.
    pub fn member(&self) -> Value {
        let peer = self.advertised.unwrap_or(self.ports[2]);
        json!({
            "id": self.id,
            "region": self.region(),
            "peer": format!("{}:{peer}", self.address),
            "admin": format!("{}:{}", self.address, self.ports[1]),
        })
    }

    /// A webhook, sent to this node.
    pub async fn webhook(&self, webhook: &orders::Webhook) -> Result<Answer, String> {
        let headers = webhook.headers();
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let path = format!("/webhooks/{CHANNEL}");
        self.http.request(self.public(), "POST", &path, &headers, webhook.body.clone()).await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(15).collect();
            eprintln!("node {} said last:", self.id);
            for line in tail.iter().rev() {
                eprintln!("  {line}");
            }
        }
    }
}

/// Nodes that run and, once founded, agree.
pub struct Cluster {
    pub nodes: Vec<Node>,
    _dir: tempfile::TempDir,
}

impl Cluster {
    /// So many nodes that were not started; `adapt` changes them before they are.
    pub fn plan(count: u64, mut adapt: impl FnMut(&mut Node)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let nodes = (1..=count).map(|id| {
            let mut node = Node::new(id, dir.path().join(format!("node-{id}")));
            adapt(&mut node);
            node
        });
        Self { nodes: nodes.collect(), _dir: dir }
    }

    /// Starts all nodes and makes one cluster of them.
    pub async fn found(&mut self) {
        for node in &mut self.nodes {
            node.start().await;
        }
        found(&self.nodes.iter().collect::<Vec<_>>()).await;
    }

    /// So many nodes that agree.
    pub async fn start(count: u64, adapt: impl FnMut(&mut Node)) -> Self {
        let mut cluster = Self::plan(count, adapt);
        cluster.found().await;
        cluster
    }

    /// Which node leads, as those that run see it.
    pub async fn leader(&self) -> usize {
        until("some node leads", async || {
            for (n, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.runs()) {
                let status = node.try_get("/cluster/status").await;
                if status.is_some_and(|status| status["role"] == "leader") {
                    return Some(n);
                }
            }
            None
        })
        .await
    }

    /// Waits until all inboxes are empty, all nodes are at one index, and nothing moves any more; all
    /// digests must be equal there.
    pub async fn settle(&self) {
        agree(&self.nodes.iter().collect::<Vec<_>>()).await;
    }
}

/// Makes one cluster of nodes that run.
pub async fn found(nodes: &[&Node]) {
    let members: Vec<Value> = nodes.iter().map(|node| node.member()).collect();
    let answer = nodes[0].post("/cluster/init", &json!({ "members": members })).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    for node in nodes {
        until_true("a node is ready", async || {
            node.api("GET", "/readyz?leader", &[], "")
                .await
                .is_ok_and(|answer| answer.status == 200)
        })
        .await;
    }
}

/// Waits until nothing is on its way between nodes. Their digests must be equal then.
pub async fn agree(nodes: &[&Node]) {
    let digests = until("all nodes are at one index with empty inboxes", async || {
        let mut statuses = Vec::new();
        for node in nodes {
            statuses.push(node.try_get("/cluster/status").await?);
        }
        let index = &statuses[0]["index"];
        let at_rest = |status: &Value| status["backlog"] == 0 && status["index"] == *index;
        statuses.iter().all(at_rest).then(|| {
            let digests = statuses.iter().map(|status| status["digest"].to_string());
            digests.collect::<Vec<_>>()
        })
    })
    .await;
    let equal = digests.iter().all(|digest| *digest == digests[0]);
    assert!(equal, "replicas differ: {digests:?}; {}", differences(nodes).await);
}

/// What differs between nodes that should be equal, for whoever has to find out why.
async fn differences(nodes: &[&Node]) -> String {
    let mut known: Vec<Vec<Value>> = Vec::new();
    for node in nodes {
        let mut lines = Vec::new();
        for mut stock in node.list("/v1/stock", 100).await {
            let path = format!("/v1/stock/{}/movements", stock["sku"].as_str().unwrap());
            stock.as_object_mut().unwrap().remove("as_of");
            lines.push(stock);
            lines.extend(node.list(&path, 1000).await.into_iter().rev());
        }
        lines.extend(node.list("/v1/topics/deliveries/dead", 100).await);
        lines.push(node.get("/cluster/status").await);
        known.push(lines);
    }
    let mut said = String::new();
    for (n, other) in known.iter().enumerate().skip(1) {
        let counts = (known[0].len(), other.len());
        writeln!(said, "\nfirst node and number {n}: {counts:?} lines").unwrap();
        for (one, other) in known[0].iter().zip(other).filter(|(one, other)| one != other).take(3) {
            writeln!(said, "  {one}\n  {other}").unwrap();
        }
    }
    said
}

/// A number from 0 up to but without `below`: the same ones for the same `state`, which it changes.
pub fn random(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

/// A number that this process has not used before.
pub fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
