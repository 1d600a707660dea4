//! Three questions about topics, answered by ratios from one run, since machines differ and are noisy:
//!
//! 1. What do a queue's promises cost? Messages a second that are published, and that are leased and finished,
//!    one by one and by hundreds, at one node and at three, against Redis Streams on the same disk with every
//!    write synced (`appendonly yes`, `appendfsync always`). It has one copy, and its `XACK` finishes what
//!    nobody has to have leased.
//! 2. What does it cost to finish messages one by one? Entries of the log for each, under a thousand workers.
//! 3. What does depth cost? Memory of a node with many messages, and how fast they are worked on, next to a
//!    shallow topic of the same node, in turn.
//!
//! `make bench` asks all three, the last one with 200,000 messages; with a number as argument it is asked alone,
//! with so many. Where there is no `redis-server`, it is left out. Each server is a process of its own; the load
//! comes from this one and shares the machine with them.

#![expect(clippy::indexing_slicing, reason = "a bench may end when something is not there")]
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

mod nodes;
#[path = "queue/ours.rs"]
mod ours;
#[path = "queue/redis.rs"]
mod redis;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use hyper::Method;
use nodes::{Fallible, Nodes};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::task::JoinSet;

const CONNECTIONS: usize = 64;
const BODY_BYTES: usize = 1_024;
/// Messages at once, and in a round.
const BATCHES: [(usize, usize); 2] = [(1, 20_000), (100, 100_000)];
/// Workers that finish their messages one by one, and how many each has.
const WORKERS: usize = 1_000;
const EACH: usize = 20;
const DEPTH: usize = 200_000;
const SHALLOW: usize = 1_000;
/// Messages at once, and published and worked on in a round at a depth, which so stays about what it is.
const WORKED: [(usize, usize); 2] = [(1, 1_000), (100, 6_400)];
const ROUNDS: u32 = 5;
/// How often memory is measured on the way to the full depth.
const PARTS: usize = 10;

/// A connection to a queue of one topic.
trait Queue: Send + 'static {
    /// Publishes so many messages together.
    fn publish(&mut self, count: usize) -> impl Future<Output = Fallible<()>> + Send;

    /// Leases up to so many messages, and finishes them; how many.
    fn work(&mut self, most: usize) -> impl Future<Output = Fallible<usize>> + Send;
}

fn main() -> Fallible<()> {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })?;
    let runtime = tokio::runtime::Runtime::new()?;
    let size = std::env::args().find_map(|argument| argument.parse().ok());
    runtime.block_on(async {
        let dir = tempfile::tempdir()?;
        if size.is_none() {
            println!("messages of {BODY_BYTES} bytes, {CONNECTIONS} connections\n");
            rates(dir.path()).await?;
            entries(dir.path()).await?;
        }
        depth(dir.path(), size.unwrap_or(DEPTH)).await
    })
}

/// What a queue does in a second: published, and leased and finished, by the sizes of batches.
type Rates = [[f64; 2]; BATCHES.len()];

/// The first question.
async fn rates(dir: &Path) -> Fallible<()> {
    println!("1. messages a second              one by one              by {}", BATCHES[1].0);
    println!("                            published  finished  published  finished");
    let redis = match redis::Server::start(dir).await? {
        None => {
            println!("  skipped: no redis-server");
            None
        }
        Some(server) => {
            let mut rates = Rates::default();
            for (rates, (batch, count)) in rates.iter_mut().zip(BATCHES) {
                *rates = both(server.connections(CONNECTIONS).await?, batch, count).await?;
            }
            row("Redis Streams, AOF always", &rates, 0);
            Some(rates)
        }
    };
    for (count, name) in [(1, "stockraft, one node"), (3, "stockraft, three nodes")] {
        let nodes = Nodes::start(dir, &format!("rates-{count}"), count, "").await?;
        let mut rates = Rates::default();
        for (rates, (batch, count)) in rates.iter_mut().zip(BATCHES) {
            let topic = format!("by.{batch}");
            let queues = ours::connections(&nodes, &topic, CONNECTIONS).await?;
            *rates = both(queues, batch, count).await?;
        }
        row(name, &rates, 0);
        if let Some(redis) = redis {
            let ratio = |of: usize, what: usize| rates[of][what] / redis[of][what];
            row("  of what Redis does", &[0, 1].map(|of| [0, 1].map(|what| ratio(of, what))), 2);
        }
        nodes.stop()?;
    }
    println!();
    Ok(())
}

fn row(name: &str, rates: &Rates, digits: usize) {
    let [one, many] = rates;
    println!(
        "  {name:<26}{:>9.digits$} {:>9.digits$}  {:>9.digits$} {:>9.digits$}",
        one[0], one[1], many[0], many[1]
    );
}

/// Publishes, and then works on, so many messages; both in messages a second.
async fn both<Q: Queue>(mut queues: Vec<Q>, batch: usize, count: usize) -> Fallible<[f64; 2]> {
    let published = publish(&mut queues, batch, count).await?;
    Ok([published, work(&mut queues, batch, count).await?])
}

async fn publish<Q: Queue>(queues: &mut Vec<Q>, batch: usize, count: usize) -> Fallible<f64> {
    let all = |mut queue: Q, left: Arc<AtomicUsize>| async move {
        while let Some(claimed) = claim(&left, batch) {
            queue.publish(claimed).await?;
        }
        Ok(queue)
    };
    per_second(queues, count, all).await
}

async fn work<Q: Queue>(queues: &mut Vec<Q>, batch: usize, count: usize) -> Fallible<f64> {
    let all = |mut queue: Q, left: Arc<AtomicUsize>| async move {
        while let Some(claimed) = claim(&left, batch) {
            let done = queue.work(claimed).await?;
            left.fetch_add(claimed - done, Ordering::Relaxed);
        }
        Ok(queue)
    };
    per_second(queues, count, all).await
}

/// How fast all queues together do so many.
async fn per_second<Q: Queue, F: Future<Output = Fallible<Q>> + Send + 'static>(
    queues: &mut Vec<Q>,
    count: usize,
    all: impl Fn(Q, Arc<AtomicUsize>) -> F,
) -> Fallible<f64> {
    let left = Arc::new(AtomicUsize::new(count));
    let began = Instant::now();
    let mut workers = JoinSet::new();
    for queue in queues.drain(..) {
        workers.spawn(all(queue, Arc::clone(&left)));
    }
    while let Some(queue) = workers.join_next().await {
        queues.push(queue??);
    }
    Ok(f64::from(u32::try_from(count)?) / began.elapsed().as_secs_f64())
}

/// Takes up to `batch` of what is left to do; nothing if all is done or on its way.
fn claim(left: &AtomicUsize, batch: usize) -> Option<usize> {
    let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
        (left > 0).then(|| left.saturating_sub(batch))
    });
    taken.ok().map(|left| left.min(batch))
}

/// The second question.
async fn entries(dir: &Path) -> Fallible<()> {
    let nodes = Nodes::start(dir, "entries", 3, "").await?;
    let mut workers = ours::connections(&nodes, "entries", WORKERS).await?;
    publish(&mut workers, EACH, WORKERS * EACH).await?;
    let mut busy = Vec::new();
    for mut worker in workers {
        let leases = worker.lease(EACH).await?;
        busy.push((worker, leases));
    }
    let before = last_log(&nodes).await?;
    let began = Instant::now();
    let mut finishing = JoinSet::new();
    for (mut worker, leases) in busy {
        finishing.spawn(async move {
            let mut done = 0;
            for lease in leases {
                done += worker.ack(vec![lease]).await?;
            }
            Fallible::Ok(done)
        });
    }
    let mut done = 0;
    while let Some(finished) = finishing.join_next().await {
        done += u32::try_from(finished??)?;
    }
    let took = began.elapsed().as_secs_f64();
    let written = u32::try_from(last_log(&nodes).await? - before)?;
    println!("2. {WORKERS} workers finish one message after the other, three nodes");
    println!(
        "  {done} messages at {:.0}/s, {written} entries of the log: {:.4} a message\n",
        f64::from(done) / took,
        f64::from(written) / f64::from(done)
    );
    nodes.stop()
}

async fn last_log(nodes: &Nodes) -> Fallible<u64> {
    let mut last = 0;
    for api in &nodes.apis {
        let status = api.call(Method::GET, "/cluster/status", None).await?;
        last = last.max(status["last_log"].as_u64().ok_or("no last_log")?);
    }
    Ok(last)
}

/// The third question.
async fn depth(dir: &Path, size: usize) -> Fallible<()> {
    println!("3. one node, {SHALLOW} messages against {size}");
    let nodes = Nodes::start(dir, "depth", 1, "").await?;
    let roomy = json!({ "messages_max": 10_000_000, "bytes_max": 1_u64 << 40 });
    nodes.apis[0].call(Method::PUT, "/v1/topics/depth", Some(&roomy)).await?;
    let mut shallow = ours::connections(&nodes, "shallow", CONNECTIONS).await?;
    publish(&mut shallow, SHALLOW, SHALLOW).await?;
    let mut deep = ours::connections(&nodes, "depth", CONNECTIONS).await?;
    println!("  in memory {} MiB at {SHALLOW}", memory(&nodes)?);
    let mut known = 0;
    for part in 1..=PARTS {
        let more = size * part / PARTS - known;
        let rate = publish(&mut deep, 100, more).await?;
        known += more;
        println!(
            "  {} MiB at {known}; {} MiB on disk; published at {rate:.0}/s",
            memory(&nodes)?,
            mebibytes(&dir.join("depth-1"))?
        );
    }
    // Those from before were idle meanwhile, and are closed.
    shallow = ours::connections(&nodes, "shallow", CONNECTIONS).await?;
    for (batch, count) in WORKED {
        let mut seconds = [0.0; 2];
        for _ in 0..ROUNDS {
            for (seconds, queues) in seconds.iter_mut().zip([&mut shallow, &mut deep]) {
                publish(queues, batch, count).await?;
                *seconds += f64::from(u32::try_from(count)?) / work(queues, batch, count).await?;
            }
        }
        let done = f64::from(ROUNDS) * f64::from(u32::try_from(count)?);
        println!(
            "  finished a second by {batch}: {:.0} shallow, {:.0} deep, {:.2} times as long",
            done / seconds[0],
            done / seconds[1],
            seconds[1] / seconds[0]
        );
    }
    println!("  in memory {} MiB after the work", memory(&nodes)?);
    nodes.stop()
}

/// MiB of the first node that are in memory.
fn memory(nodes: &Nodes) -> Fallible<u64> {
    let process = nodes.children[0].0.id();
    let pages = std::fs::read_to_string(format!("/proc/{process}/statm"))?;
    let resident: u64 = pages.split(' ').nth(1).ok_or("no resident pages")?.parse()?;
    Ok((resident * 4096) >> 20)
}

/// MiB of the files below a directory.
fn mebibytes(dir: &Path) -> Fallible<u64> {
    let mut bytes = 0;
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            } else {
                bytes += entry.metadata()?.blocks() * 512;
            }
        }
    }
    Ok(bytes >> 20)
}
