//! What a node with a large state does to those who wait for it:
//!
//! 1. How soon is it ready after a restart, and how large is it then?
//! 2. How long do webhooks and commits wait while it builds a snapshot?
//! 3. How long do they wait while a node that was away catches up by snapshot?
//!
//! `make bench-scale`; a number as argument is how many SKUs in four locations each, and orders, it has. The
//! state is made by commands through the node's own log, so its history is as long as it would be.

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

#[path = "../state/benches/scale/goods.rs"]
mod goods;

use std::error::Error;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cluster::codec;
use goods::{Goods, LOCATIONS, SHOP, listing, sku};
use hyper::Method;
use marketplace::load::{self, Plan, Report};
use marketplace::{Item, Options};
use serde_json::Value;
use stockraft::client::Client;
use stockraft::client::Error::Refused;
use stockraft::clock;
use stockraft::config::Config;
use stockraft::node::Node;
use tokio::sync::watch;
use tokio::time::sleep;

const SIZE: u64 = 20_000;
const SECRET: &str = "hush_bench_0123456789abcdef";
const TOKEN: &str = "bench-token-0123456789abcdef";
/// Orders in a segment while the state is made.
const SEGMENT: u64 = 2_000;
/// Webhooks a second while something is measured: what a machine that does all of this at once can take.
const RATE: u32 = 100;
const PROPOSE: Duration = Duration::from_secs(60);
/// How long a client that is told to come back does so.
const PATIENCE: Duration = Duration::from_secs(60);

type Fallible<T> = Result<T, Box<dyn Error>>;

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let size = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(SIZE);
    let runtime = tokio::runtime::Runtime::new()?;
    if let Some(at) = arguments.iter().position(|argument| argument == "--build") {
        let home = Home::found(Path::new(arguments.get(at + 1).ok_or("--build names no file")?))?;
        return runtime.block_on(build(&home, Goods { skus: size }));
    }
    println!("{size} SKUs in {} locations each, {size} orders, {size} keys", LOCATIONS.len());
    let dir = tempfile::tempdir()?;
    let one = Home::new(dir.path(), 1)?;
    // In a process of its own, so that nothing of it is left in this one.
    let mut builder = Command::new(std::env::current_exe()?);
    let built = builder.arg("--build").arg(&one.config).arg(size.to_string()).status()?;
    if !built.success() {
        return Err("the state was not made".into());
    }
    runtime.block_on(async {
        println!("\n1. a restart");
        let began = Instant::now();
        let first = Running::start(&one).await?;
        let took = began.elapsed().as_secs_f64();
        println!("  ready after {took:.1} s with {} MiB in memory", first.rss()? >> 20);
        println!("\n2. a snapshot under {RATE} webhooks a second");
        let (quiet, ()) = watched(&first, sleep(Duration::from_secs(10))).await?;
        println!("  without it: {quiet}");
        let (busy, took) = watched(&first, snapshot(&first)).await?;
        println!(
            "  meanwhile:  {busy}\n  built in {:.1} s, {} MiB in memory",
            took?,
            first.rss()? >> 20
        );
        println!("\n3. a node catches up by snapshot, under the same webhooks");
        let two = Home::new(dir.path(), 2)?;
        let second = Running::spawn(&two)?;
        let (busy, took) = watched(&first, join(&first, &second, &two)).await?;
        println!("  meanwhile:  {busy}\n  there after {:.1} s", took?);
        second.stop()?;
        first.stop()
    })
}

/// Makes the state, and leaves a snapshot of it.
async fn build(home: &Home, goods: Goods) -> Fallible<()> {
    let began = Instant::now();
    let node = Node::start(Config::load(&home.config)?).await?;
    let raft = node.raft().clone();
    let (stop, mut stopped) = watch::channel(());
    let running = tokio::spawn(node.run(async move {
        let _ = stopped.changed().await;
    }));
    home.api()?.call(Method::POST, "/cluster/init", None).await?;
    for command in goods.receipts() {
        raft.propose(codec::encode(&command), PROPOSE).await?;
    }
    for (sequence, first) in (1..).zip((0..goods.skus).step_by(usize::try_from(SEGMENT)?)) {
        let orders = SEGMENT.min(goods.skus - first);
        let segment = goods.segment(sequence, first, orders, clock::now_ms());
        raft.propose(codec::encode(&segment), PROPOSE).await?;
    }
    raft.snapshot().await?;
    drop(raft);
    stop.send_replace(());
    running.await??;
    println!("  made in {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// Asks for a snapshot, and waits until it is there; the seconds.
async fn snapshot(node: &Running) -> Fallible<f64> {
    let began = Instant::now();
    ask(&node.api, "/cluster/snapshot", None).await?;
    Ok(began.elapsed().as_secs_f64())
}

/// Lets a node without anything join, and waits until it is as far as the other; the seconds.
async fn join(leader: &Running, node: &Running, home: &Home) -> Fallible<f64> {
    node.answers("/healthz").await?;
    let began = Instant::now();
    let member = serde_json::json!({
        "id": home.id, "region": format!("r{}", home.id),
        "peer": format!("127.0.0.1:{}", home.ports[2]),
        "admin": format!("127.0.0.1:{}", home.ports[1]),
    });
    ask(&leader.api, "/cluster/members", Some(&member)).await?;
    node.answers("/readyz").await?;
    Ok(began.elapsed().as_secs_f64())
}

/// Posts, and again where the node says when to come back, as its clients do: what that takes counts.
async fn ask(api: &Client, path: &str, body: Option<&Value>) -> Fallible<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        match api.call(Method::POST, path, body).await {
            Err(Refused { retry_after: Some(pause), .. }) if Instant::now() < until => {
                sleep(pause).await;
            }
            answered => return Ok(answered.map(drop)?),
        }
    }
}

/// What those who waited saw.
struct Waited {
    webhooks: Report,
    commits: Vec<Duration>,
}

impl std::fmt::Display for Waited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |us: u64| u32::try_from(us).map_or(f64::NAN, f64::from) / 1_000.0;
        let latency = &self.webhooks.latency_us;
        let (middle, late, slowest) =
            (latency.value_at_quantile(0.5), latency.value_at_quantile(0.99), latency.max());
        let refused = self.webhooks.by_status.values().sum::<u64>() - self.webhooks.accepted();
        let commit = self.commits.iter().max().copied().unwrap_or_default();
        write!(
            f,
            "answers p50 {:.1} ms, p99 {:.1} ms, the slowest of {} {:.0} ms, refused {refused}; \
             the slowest of {} commits {:.0} ms",
            ms(middle),
            ms(late),
            latency.len(),
            ms(slowest),
            self.commits.len(),
            commit.as_secs_f64() * 1_000.0,
        )
    }
}

/// Sends webhooks and movements to a node for as long as something takes, and a little longer.
async fn watched<T>(node: &Running, work: impl Future<Output = T>) -> Fallible<(Waited, T)> {
    let (done, over) = watch::channel(false);
    let work = async {
        let result = work.await;
        sleep(Duration::from_secs(1)).await;
        done.send_replace(true);
        result
    };
    let (webhooks, commits, result) =
        tokio::join!(webhooks(node, over.clone()), commits(node, over), work);
    Ok((Waited { webhooks: webhooks?, commits: commits? }, result))
}

async fn webhooks(node: &Running, over: watch::Receiver<bool>) -> Fallible<Report> {
    let mut total: Option<Report> = None;
    while !*over.borrow() {
        let options = store();
        let requests = load::prebuild(&options, usize::try_from(RATE)?)?;
        let requests = load::sign_all(&requests, &node.webhooks, SECRET)?;
        let plan = Plan { connections: 16, per_second: Some(RATE) };
        let report = load::send(&node.webhooks, requests, plan).await?;
        match &mut total {
            None => total = Some(report),
            Some(total) => {
                total.latency_us.add(&report.latency_us)?;
                for (status, count) in report.by_status {
                    *total.by_status.entry(status).or_default() += count;
                }
            }
        }
    }
    total.ok_or_else(|| "nothing was sent".into())
}

/// Asks for one movement after the other, and how long each took until it was applied.
async fn commits(node: &Running, over: watch::Receiver<bool>) -> Fallible<Vec<Duration>> {
    let mut took = Vec::new();
    while !*over.borrow() {
        let movement = serde_json::json!({ "movements": [{
            "id": format!("{}", clock::now_ms()), "kind": "adjustment", "sku": sku(1),
            "location": LOCATIONS[1], "quantity": 1,
        }] });
        let began = Instant::now();
        ask(&node.api, "/v1/movements", Some(&movement)).await?;
        took.push(began.elapsed());
        sleep(Duration::from_millis(5)).await;
    }
    Ok(took)
}

fn store() -> Options {
    let item = |n: u64| Item {
        sku: sku(n),
        variant_id: listing(n).parse().unwrap_or_default(),
        inventory_item_id: 9_007_199_254_741_000 + n,
        available: 0,
    };
    let items = (0..SIZE.min(100)).map(item).collect();
    Options { secret: SECRET.into(), seed: clock::now_ms(), items, ..Options::new(SHOP) }
}

/// Where a node keeps what it keeps.
struct Home {
    id: u64,
    ports: [u16; 3],
    config: PathBuf,
}

impl Home {
    fn new(dir: &Path, id: u64) -> Fallible<Self> {
        let ports = free_ports()?;
        let config = dir.join(format!("{id}.toml"));
        let mut file =
            std::fs::File::options().create_new(true).write(true).mode(0o600).open(&config)?;
        write!(
            file,
            "[node]\nid = {id}\nregion = \"r{id}\"\ndata_dir = \"{}\"\n\
             [listen]\npublic = \"127.0.0.1:{}\"\nadmin = \"127.0.0.1:{}\"\npeer = \"127.0.0.1:{}\"\n\
             [raft]\nkeep_log = 8\n[ready]\nmax_lag = 20\n\
             [admin]\ntokens = [{{ name = \"b\", secret = \"{TOKEN}\", scopes = [\"read\", \"write\", \"admin\"] }}]\n\
             [[channel]]\nname = \"{SHOP}\"\nkind = \"shopify\"\nsecrets = [\"{SECRET}\"]\nlocation = \"{}\"\n",
            dir.join(format!("{id}")).display(),
            ports[0],
            ports[1],
            ports[2],
            LOCATIONS[0],
        )?;
        Ok(Self { id, ports, config })
    }

    /// The one that a file describes.
    fn found(config: &Path) -> Fallible<Self> {
        let known = Config::load(config)?;
        let listen = &known.listen;
        let ports = [listen.public, listen.admin, listen.peer].map(|address| address.port());
        Ok(Self { id: known.node.id, ports, config: config.to_path_buf() })
    }

    fn api(&self) -> Fallible<Client> {
        Ok(Client::new(&format!("http://127.0.0.1:{}", self.ports[1]), TOKEN)?)
    }
}

/// The real binary.
struct Running {
    child: Child,
    api: Client,
    webhooks: String,
}

impl Running {
    fn spawn(home: &Home) -> Fallible<Self> {
        let child = Command::new(env!("CARGO_BIN_EXE_stockraft"))
            .args(["serve", "--stop-with-stdin", "--config"])
            .arg(&home.config)
            .stdin(Stdio::piped())
            .env("STOCKRAFT_LOG", "error")
            .spawn()?;
        let webhooks = format!("http://127.0.0.1:{}/webhooks/{SHOP}", home.ports[0]);
        Ok(Self { child, api: home.api()?, webhooks })
    }

    async fn start(home: &Home) -> Fallible<Self> {
        let node = Self::spawn(home)?;
        node.answers("/readyz").await?;
        Ok(node)
    }

    async fn answers(&self, path: &str) -> Fallible<()> {
        let deadline = Instant::now() + Duration::from_secs(120);
        while let Err(error) = self.api.call(Method::GET, path, None).await {
            if Instant::now() > deadline {
                return Err(error.into());
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Bytes of it that are in memory.
    fn rss(&self) -> Fallible<u64> {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id()))?;
        let pages: u64 = statm.split(' ').nth(1).ok_or("no resident pages")?.parse()?;
        Ok(pages * 4096)
    }

    fn stop(mut self) -> Fallible<()> {
        drop(self.child.stdin.take());
        self.child.wait()?;
        Ok(())
    }
}

fn free_ports() -> Fallible<[u16; 3]> {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0"));
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(listeners) {
        *port = listener?.local_addr()?.port();
    }
    Ok(ports)
}
