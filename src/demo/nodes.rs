//! The demo's nodes: one process a region, started, killed and asked as an operator would.
#![expect(clippy::indexing_slicing, reason = "JSON indexed by name is null where nothing is")]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use hyper::Method;
use marketplace::Store;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::others::Others;
use crate::client::Client;
use crate::simulated::store_config;

const TOKEN: &str = "demo-token-0123456789abcdef";
/// How long a node may take to answer after its start.
const START: Duration = Duration::from_secs(30);

/// Lost webhooks are to be found while somebody watches.
pub(super) const POLL: &str = "poll = { every = \"5s\", overlap = \"10m\" }\n";

/// Where the nodes are and what stands in their configs.
pub(super) struct Plan {
    dir: PathBuf,
    base_port: u16,
    regions: Vec<String>,
    channels: String,
}

impl Plan {
    /// Channels for all stores, each pushed to from its own region.
    pub(super) fn new(
        regions: &[String],
        base_port: u16,
        dir: PathBuf,
        stores: &[Store],
        others: &Others,
    ) -> Self {
        let mut channels = String::new();
        for (home, store) in (1..).zip(stores) {
            // Writing to a String cannot fail.
            let _ = write!(
                channels,
                "\n[[channel]]\n{}home = {home}\nrate = {{ per_second = 20, burst = 40 }}\n{POLL}",
                store_config(store),
            );
        }
        channels.push_str("\n[[policy]]\nsku = \"*\"\nmode = \"split\"\n");
        let pushed: Vec<String> = stores
            .iter()
            .map(|store| store.options().name.clone())
            .chain(others.shown().map(|(name, _)| name))
            .collect();
        // What the channels that are not pushed to may sell, the others hold back between them.
        let shares = i64::try_from(pushed.len()).unwrap_or(1).max(1);
        let buffer = (others.units() + shares - 1) / shares;
        let each = |value: i64| {
            let each = pushed.iter().map(|name| format!("\"{name}\" = {value}"));
            each.collect::<Vec<_>>().join(", ")
        };
        let (weights, buffers) = (each(1), each(buffer));
        let _ = writeln!(channels, "weights = {{ {weights} }}\nbuffers = {{ {buffers} }}");
        Self { dir, base_port, regions: regions.to_vec(), channels }
    }

    fn port(&self, n: usize, offset: u16) -> u16 {
        let n = u16::try_from(n).unwrap_or(0);
        self.base_port.saturating_add(n * 10).saturating_add(offset)
    }

    fn node_dir(&self, n: usize) -> PathBuf {
        let region = self.regions.get(n).map_or("", String::as_str);
        self.dir.join(region)
    }

    fn config(&self, n: usize, others: &Others) -> String {
        let region = self.regions.get(n).map_or("", String::as_str);
        let data_dir = self.node_dir(n).join("data");
        format!(
            "[node]\nid = {}\nregion = \"{region}\"\ndata_dir = \"{}\"\ncluster = \"demo\"\n\n\
             [listen]\npublic = \"127.0.0.1:{}\"\nadmin = \"127.0.0.1:{}\"\n\
             peer = \"127.0.0.1:{}\"\n\n\
             [raft]\nheartbeat = \"200ms\"\nelection = \"800ms\"\nsnapshot_every = 2000\n\
             keep_log = 500\n\n\
             [ingest]\nmin_free_disk = \"64MiB\"\n\n\
             [admin]\ntokens = [{{ name = \"demo\", secret = \"{TOKEN}\", \
             scopes = [\"read\", \"write\", \"admin\"] }}]\n{}",
            n + 1,
            data_dir.display(),
            self.port(n, 0),
            self.port(n, 1),
            self.port(n, 2),
            others.config(
                &format!("http://127.0.0.1:{}/webhooks/", self.port(n, 0)),
                self.regions.len()
            ) + &self.channels,
        )
    }
}

/// The running nodes.
pub(super) struct Nodes {
    plan: Plan,
    children: Vec<Option<Child>>,
    apis: Vec<Client>,
}

impl Nodes {
    /// Starts one process a region and waits until all answer.
    pub(super) async fn start(plan: Plan, others: &Others) -> Result<Self, String> {
        let mut nodes = Self { children: Vec::new(), apis: Vec::new(), plan };
        for n in 0..nodes.plan.regions.len() {
            let dir = nodes.plan.node_dir(n);
            let failed = |error: std::io::Error| format!("{}: {error}", dir.display());
            fs::create_dir_all(&dir).map_err(failed)?;
            write_private(&dir.join("node.toml"), &nodes.plan.config(n, others)).map_err(failed)?;
            let url = format!("http://127.0.0.1:{}", nodes.plan.port(n, 1));
            nodes.apis.push(Client::new(&url, TOKEN).map_err(|error| error.to_string())?);
            let child = nodes.spawn(n)?;
            nodes.children.push(Some(child));
        }
        for n in 0..nodes.count() {
            nodes.answers(n).await?;
        }
        Ok(nodes)
    }

    fn spawn(&self, n: usize) -> Result<Child, String> {
        let dir = self.plan.node_dir(n);
        let failed = |error: std::io::Error| format!("cannot start a node: {error}");
        let log = fs::File::options().create(true).append(true).open(dir.join("node.log"));
        let log = log.map_err(failed)?;
        Command::new(std::env::current_exe().map_err(failed)?)
            .arg("serve")
            .arg("--config")
            .arg(dir.join("node.toml"))
            // However the demo ends, the pipe closes and the node stops.
            .arg("--stop-with-stdin")
            .stdin(Stdio::piped())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            // A terminal's Ctrl-C is for the demo, which stops its nodes in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)
    }

    /// Waits until a node answers; an error with its last words if it ends instead.
    async fn answers(&mut self, n: usize) -> Result<(), String> {
        let api = self.api(n);
        let began = Instant::now();
        while began.elapsed() < START {
            let child = self.children.get_mut(n).and_then(Option::as_mut);
            // `wait` would close its standard input, at which it stops.
            if !child.is_some_and(|child| matches!(child.try_wait(), Ok(None))) {
                break;
            }
            // Another process may answer on the same port: the node's own region must.
            let status = api.call(Method::GET, "/cluster/status", None).await;
            if status.is_ok_and(|status| status["region"] == self.region(n)) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let text = fs::read_to_string(self.plan.node_dir(n).join("node.log")).unwrap_or_default();
        let last = text.lines().last().unwrap_or("it said nothing");
        Err(format!("{} does not answer: {last}", self.region(n)))
    }

    /// Makes one cluster of all nodes.
    pub(super) async fn found(&self) -> Result<(), String> {
        let members: Vec<Value> = (0..self.count())
            .map(|n| {
                json!({
                    "id": n + 1,
                    "region": self.region(n),
                    "peer": format!("127.0.0.1:{}", self.plan.port(n, 2)),
                    "admin": format!("127.0.0.1:{}", self.plan.port(n, 1)),
                })
            })
            .collect();
        let body = json!({ "members": members });
        let founded = self.api(0).call(Method::POST, "/cluster/init", Some(&body)).await;
        founded.map(|_| ()).map_err(|error| error.to_string())
    }

    pub(super) fn count(&self) -> usize {
        self.apis.len()
    }

    pub(super) fn region(&self, n: usize) -> &str {
        self.plan.regions.get(n).map_or("", String::as_str)
    }

    pub(super) fn api(&self, n: usize) -> Client {
        #[expect(clippy::indexing_slicing, reason = "n counts nodes, and each has a client")]
        self.apis[n].clone()
    }

    pub(super) fn webhook_url(&self, n: usize, channel: &str) -> String {
        format!("http://127.0.0.1:{}/webhooks/{channel}", self.plan.port(n, 0))
    }

    /// A node's view of the cluster, if it answers.
    pub(super) async fn status(&self, n: usize) -> Option<Value> {
        self.children.get(n)?.as_ref()?;
        self.api(n).call(Method::GET, "/cluster/status", None).await.ok()
    }

    /// The node that leads now.
    pub(super) async fn leader(&self) -> Option<usize> {
        for n in 0..self.count() {
            if self.status(n).await.is_some_and(|status| status["role"] == "leader") {
                return Some(n);
            }
        }
        None
    }

    /// SIGKILL: no chance to flush or to say goodbye.
    pub(super) async fn kill(&mut self, n: usize) -> Result<(), String> {
        match self.children.get_mut(n).and_then(Option::take) {
            Some(mut child) => child.kill().await.map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }

    pub(super) fn restart(&mut self, n: usize) -> Result<(), String> {
        let child = self.spawn(n)?;
        if let Some(place) = self.children.get_mut(n) {
            *place = Some(child);
        }
        Ok(())
    }

    /// SIGTERM to all, and patience.
    pub(super) async fn stop(&mut self) {
        for child in self.children.iter_mut().filter_map(Option::as_mut) {
            if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok())
                && let Some(id) = rustix::process::Pid::from_raw(id)
            {
                // It may have ended by itself.
                let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
            }
        }
        for child in self.children.iter_mut().filter_map(Option::take) {
            let mut child = child;
            if tokio::time::timeout(START, child.wait()).await.is_err() {
                let _ = child.kill().await;
            }
        }
    }
}

/// A file that only its owner can read, since it holds secrets.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut file =
        fs::File::options().create(true).write(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
