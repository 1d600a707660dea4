//! Cutting the power of a disk, for which root and loop devices are needed.
//!
//! A file system of its own in an image is mounted, and told to forget at once everything that was not
//! truly written (the shutdown ioctl, without a flush of its log). Killing a process cannot show the
//! same: what it wrote stays in the page cache.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::ioctl::{Setter, ioctl, opcode};

use super::book::{Book, Traffic};
use super::http::Http;
use super::orders::Webhook;
use super::{CHANNEL, Node, agree, until};

/// `EXT4_IOC_SHUTDOWN` and, with the same number, that of XFS.
const SHUTDOWN: rustix::ioctl::Opcode = opcode::read::<u32>(b'X', 125);
/// Do not flush the journal: the power is gone now.
const NO_LOG_FLUSH: u32 = 2;

/// A disk whose power can be cut. Unmounted and detached when dropped.
pub struct Disk {
    device: String,
    mounted: bool,
    dir: tempfile::TempDir,
}

impl Disk {
    /// A fresh ext4 of this size, mounted; an error says why this machine cannot have one.
    pub fn new(mebibytes: u64) -> Result<Self, String> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let image = dir.path().join("disk.img");
        let file = File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(mebibytes << 20).map_err(|error| error.to_string())?;
        run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), &image])?;
        std::fs::create_dir(dir.path().join("mounted")).map_err(|error| error.to_string())?;
        let device = run("losetup", &["-f".as_ref(), "--show".as_ref(), &image])?;
        let mut disk = Self { device: device.trim().into(), mounted: false, dir };
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("mounted")
    }

    fn mount(&mut self) -> Result<(), String> {
        run("mount", &[self.device.as_ref(), &self.path()])?;
        self.mounted = true;
        Ok(())
    }

    /// From now on nothing reaches the disk any more, and what had not reached it is lost.
    pub fn cut(&self) {
        shutdown(&File::open(self.path()).unwrap());
    }

    /// Leaves so many bytes of it, or a little less.
    pub fn fill(&self, left: u64) {
        let ballast = File::options().append(true).create(true).open(self.ballast()).unwrap();
        let mut piece = 64 << 20;
        while piece >= 4096 {
            let disk = rustix::fs::fstatvfs(&ballast).unwrap();
            let free = disk.f_bfree.saturating_mul(disk.f_frsize);
            let length = ballast.metadata().unwrap().len();
            let fits = free >= left + piece
                && fallocate(&ballast, FallocateFlags::empty(), length, piece).is_ok();
            if !fits {
                piece /= 2;
            }
        }
    }

    /// Gives back what was filled.
    pub fn free(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// The power is back. Nobody may use the disk meanwhile.
    pub fn restore(&mut self) {
        run("umount", &[&self.path()]).unwrap();
        self.mounted = false;
        self.mount().unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, should a process of a failed test still be ending.
        if self.mounted {
            let _ = run("umount", &["-l".as_ref(), &self.path()]);
        }
        let _ = run("losetup", &["-d".as_ref(), self.device.as_ref()]);
    }
}

#[expect(unsafe_code, reason = "no safe wrapper of this ioctl exists")]
fn shutdown(root: &File) {
    // SAFETY: the ioctl takes a pointer to a u32 and reads it, which is what `Setter` passes.
    unsafe { ioctl(root, Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH)) }.unwrap();
}

fn run(program: &str, arguments: &[&Path]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// A disk, or nothing where this machine cannot have one, which is said; in CI it must have one.
pub fn disk(mebibytes: u64) -> Option<Disk> {
    match Disk::new(mebibytes) {
        Ok(disk) => Some(disk),
        Err(why) => {
            skipped(&why);
            None
        }
    }
}

/// Says what this machine cannot do, loudly; CI must be able to do everything.
pub fn skipped(why: &str) {
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!in_ci, "CI must be able to do this: {why}");
    println!("skipped: {why}");
}

/// Makes a node's home on a disk, with room enough for it.
pub fn move_to(node: &mut Node, disk: &Disk) {
    node.data_dir = disk.path().join(format!("deep/down/node-{}", node.id));
    node.more = "[ingest]\nmin_free_disk = \"4MiB\"\n".into();
}

/// Sends webhooks until so many orders were answered 200, cuts the power in the middle of it, and
/// starts the nodes again. Says what was lost, if anything was.
pub async fn lose_power(
    disk: &mut Disk,
    nodes: &mut [Node],
    book: &Book,
    orders: usize,
) -> Result<(), String> {
    let ports: Vec<u16> = nodes.iter().map(|node| node.ports[0]).collect();
    let traffic = Traffic::start(book, &ports, 4);
    let letter = send_the_largest(ports[0]).await?;
    traffic.more(orders).await;
    disk.cut();
    for node in &mut *nodes {
        node.kill();
    }
    traffic.stop().await;
    disk.restore();
    for node in &mut *nodes {
        node.try_start().await.map_err(|why| format!("it does not open: {why}"))?;
    }
    let running: Vec<&Node> = nodes.iter().collect();
    let back = until("the cluster works again", async || {
        // A node whose disk forgot everything waits to be founded, for ever.
        let status = running[0].try_get("/cluster/status").await?;
        let forgot = status["role"] == "uninitialised";
        let ready = running[0].api("GET", "/readyz?leader", &[], "").await.ok()?;
        (forgot || ready.status == 200).then_some(!forgot)
    })
    .await;
    if !back {
        return Err("it opens empty".into());
    }
    agree(&running).await;
    let missing = book.missing(running[0]).await;
    if !missing.is_empty() {
        return Err(format!("{} orders that were answered 200 are lost", missing.len()));
    }
    let letters = running[0].list("/v1/topics/deliveries/dead", 10).await;
    let whole = |kept: &serde_json::Value| {
        kept["delivery"] == format!("{CHANNEL}:{letter}")
            && kept["body"].as_str().is_some_and(|body| body.len() == LARGEST)
    };
    if !letters.iter().any(whole) {
        return Err(format!("the dead letter {letter} is lost"));
    }
    Ok(())
}

/// The largest body that a node takes.
const LARGEST: usize = 1 << 20;

/// An authentic webhook that cannot be understood: its whole body is kept, in the inbox, the log and
/// the history. Nothing that this product writes is larger.
async fn send_the_largest(port: u16) -> Result<String, String> {
    let noise = (0..LARGEST).map(|n| b'a' + u8::try_from(n * n / 7 % 26).unwrap());
    let id = format!("large-{}", super::unique());
    let letter = Webhook::new("orders/create", id, noise.collect::<Vec<u8>>());
    let headers = letter.headers();
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let path = format!("/webhooks/{CHANNEL}");
    let answer = Http::new().request(port, "POST", &path, &headers, letter.body.clone()).await?;
    assert_eq!(answer.status, 202, "{}", answer.text());
    Ok(letter.id)
}

/// Whether all directories for pages that outgrew their database are there and empty: such a page is
/// never synced, and a power loss would leave a database that does not open.
pub fn assert_no_blobs(dir: &Path) {
    let mut seen = 0;
    let mut left = vec![dir.to_path_buf()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.file_name().is_some_and(|name| name == "blobs") {
                let blobs = std::fs::read_dir(&path).unwrap().count();
                assert_eq!(blobs, 0, "{} has blobs", path.display());
                seen += 1;
            } else if path.is_dir() {
                left.push(path);
            }
        }
    }
    assert!(seen >= 3, "inbox, log and history should be there, {seen} databases are");
}
