//! A node in a process of its own, on a disk that fails when a test says so.
//!
//! The process is this very test program, told by its environment to be a node; `bad_disk.c` is preloaded
//! into it and stands between it and the system's own calls. So what fails is what would fail: a `pwrite` of
//! the database's, an `fdatasync`, half of a write. Nothing of it is in the product.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cluster::{Member, Timing};

use super::{PATIENCE, Seat};

const SEAT: &str = "NODE_ON_A_BAD_DISK";

/// What goes wrong. In the order of `struct plan` in `bad_disk.c`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) calls: u32,
    pub(crate) how: u32,
    pub(crate) skip: u32,
    pub(crate) times: u32,
    pub(crate) delay_ms: u32,
    pub(crate) path: &'static str,
}

pub(crate) const WRITE: u32 = 1;
pub(crate) const SYNC: u32 = 2;
pub(crate) const FAIL: u32 = 1;
pub(crate) const TEAR: u32 = 2;
pub(crate) const LOSE: u32 = 4;
const HITS_AT: u64 = 20;
const PLAN_BYTES: usize = 6 * 4 + 128;

/// One node on such a disk.
pub(crate) struct OnBadDisk {
    child: Child,
    plan: File,
    said: PathBuf,
}

/// How its process ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) said: String,
}

impl OnBadDisk {
    /// Starts the node; its disk does as `plan` says from the first call on.
    pub(crate) fn start(seat: &Seat, root: &Path, plan: Plan) -> Self {
        let (library, said) = (build(root), root.join("said"));
        let path = root.join("plan");
        fs::write(&path, [0; PLAN_BYTES]).unwrap();
        let file = File::options().write(true).read(true).open(&path).unwrap();
        set(&file, plan);
        let Member { id, region, peer, .. } = &seat.member;
        let timing = seat.timing;
        let dir = seat.dir.display();
        let words = format!(
            "{id}\n{region}\n{peer}\n{dir}\n{}\n{}\n{}\n{}\n{}",
            seat.snapshot_every,
            seat.keep_log,
            timing.heartbeat_ms,
            timing.election_ms_min,
            timing.election_ms_max
        );
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "node_on_a_bad_disk", "--ignored", "--nocapture"])
            .env(SEAT, words)
            .env("LD_PRELOAD", library)
            .env("BAD_DISK", path)
            .stdin(Stdio::null())
            .stdout(File::create(root.join("output")).unwrap())
            .stderr(File::create(&said).unwrap())
            .spawn()
            .unwrap();
        Self { child, plan: file, said }
    }

    /// Changes what goes wrong from now on.
    pub(crate) fn set(&self, plan: Plan) {
        set(&self.plan, plan);
    }

    /// How many calls have failed.
    pub(crate) fn hits(&self) -> u32 {
        let mut hits = [0; 4];
        self.plan.read_exact_at(&mut hits, HITS_AT).unwrap();
        u32::from_ne_bytes(hits)
    }

    /// Waits for the process to end by itself; `None` when it goes on.
    pub(crate) async fn ended(&mut self, within: Duration) -> Option<Ended> {
        let waiting = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status.code();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let code = tokio::time::timeout(within, waiting).await.ok()?;
        Some(Ended { code, said: fs::read_to_string(&self.said).unwrap() })
    }

    /// What it has said on standard error.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap()
    }

    /// Kills it, so that its directory can be opened again.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for OnBadDisk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// No fault.
pub(crate) const GOOD: Plan = Plan { calls: 0, how: 0, skip: 0, times: 0, delay_ms: 0, path: "/" };

fn set(file: &File, plan: Plan) {
    let Plan { calls, how, skip, times, delay_ms, path } = plan;
    let mut bytes = Vec::new();
    // What is called for comes last: until it is there nothing of the plan counts.
    for word in [how, skip, times, delay_ms, 0] {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    bytes.extend_from_slice(path.as_bytes());
    bytes.push(0);
    file.write_all_at(&0_u32.to_ne_bytes(), 0).unwrap();
    file.write_all_at(&bytes, 4).unwrap();
    file.write_all_at(&calls.to_ne_bytes(), 0).unwrap();
}

/// Compiles what is preloaded.
fn build(root: &Path) -> PathBuf {
    let library = root.join("bad_disk.so");
    if !library.exists() {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/bad_disk.c");
        let mut cc = Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".to_owned()));
        let built = cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
        assert!(built.expect("a C compiler is needed, as it is by ring").success());
    }
    library
}

/// Is the node, when this process was started as one; ends with it.
pub(crate) async fn be_the_node() {
    let Ok(words) = std::env::var(SEAT) else { return };
    let mut words = words.lines();
    let mut word = || words.next().unwrap();
    let mut seat = Seat::new(word().parse().unwrap(), Path::new("/"));
    word().clone_into(&mut seat.member.region);
    word().clone_into(&mut seat.member.peer);
    seat.dir = PathBuf::from(word());
    let mut number = || word().parse().unwrap();
    (seat.snapshot_every, seat.keep_log) = (number(), number());
    seat.timing =
        Timing { heartbeat_ms: number(), election_ms_min: number(), election_ms_max: number() };
    let why = match seat.try_start().await {
        Ok(node) => node.raft.fatal().await,
        Err(error) => error.to_string(),
    };
    // As the product does: a node without raft ends.
    let _ = writeln!(std::io::stderr(), "stockraft stops: {why}");
    std::process::exit(1)
}

/// The line with which it ended.
pub(crate) fn last_words(ended: &Ended) -> &str {
    let mut lines = ended.said.lines().filter(|line| line.starts_with("stockraft stops: "));
    let line = lines.next().unwrap_or_else(|| panic!("it did not say why: {}", ended.said));
    assert!(lines.next().is_none(), "more than one line: {}", ended.said);
    line
}

/// As long as a node may take to notice.
pub(crate) const SOON: Duration = PATIENCE;
