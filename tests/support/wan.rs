//! Regions that are far apart: a network namespace each, and a switch between them that delays, loses and
//! repeats packets, for which root is needed.
//!
//! The namespaces have no names and live as long as something runs in them, so that nothing is left
//! behind however a test ends. All packets of a place go through a TUN device, whose other end is read here.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::ioctl::{Setter, ioctl, opcode};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket};

use super::random;

/// `TUNSETIFF`: makes a TUN device of an open file.
const TUNSETIFF: rustix::ioctl::Opcode = opcode::write::<i32>(b'T', 202);
/// `IFF_TUN | IFF_NO_PI`: packets, with nothing before them.
const TUN_PLAIN: i16 = 0x1001;
const DEVICE: &str = "wan";
const PACKET_MAX: usize = 65_536;
/// How often the switch looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// What `TUNSETIFF` takes: `struct ifreq`.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

/// A network of its own. All clones are one.
#[derive(Clone)]
pub struct Namespace(Arc<File>);

impl Namespace {
    /// Moves this thread into it, for good.
    pub fn enter(&self) {
        let network = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(self.0.as_fd(), network).unwrap();
    }

    /// Does something on a thread inside it. A process that is started there stays there.
    pub fn run<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            self.enter();
            act()
        };
        std::thread::scope(|scope| scope.spawn(inside).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Makes a port of its loopback lead to an address out there, for those who speak without TLS to
    /// nobody else.
    pub fn forward(&self, port: u16, to: SocketAddr) {
        let listener =
            self.run(|| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (listener, network) = (TcpListener::from_std(listener).unwrap(), self.clone());
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let socket = network.run(TcpSocket::new_v4).unwrap();
                tokio::spawn(async move {
                    let mut far = socket.connect(to).await.ok()?;
                    copy_bidirectional(&mut near, &mut far).await.ok()
                });
            }
        });
    }

    /// A runtime whose sockets are all inside it, for whoever is inside.
    pub fn runtime(&self) -> tokio::runtime::Runtime {
        let network = self.clone();
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.enable_all().on_thread_start(move || network.enter()).build().unwrap()
    }
}

/// What becomes of packets from one place to another. Shares are in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    pub delay: Duration,
    /// Up to so much is added to the delay, so that packets overtake each other.
    pub jitter: Duration,
    pub lost: u64,
    pub doubled: u64,
    pub cut: bool,
}

/// What the switch did, in packets.
#[derive(Debug, Default)]
pub struct Counts {
    pub carried: AtomicU64,
    pub lost: AtomicU64,
    pub doubled: AtomicU64,
    pub cut: AtomicU64,
}

type Links = Arc<Mutex<Vec<Vec<Link>>>>;

/// Places that reach each other through one switch, which ends when this is dropped.
pub struct Wan {
    pub places: Vec<Namespace>,
    pub counts: Arc<Counts>,
    links: Links,
    stop: Arc<AtomicBool>,
    switch: Option<JoinHandle<()>>,
}

impl Wan {
    /// So many places with perfect links; an error says why this machine cannot have them.
    pub fn new(places: usize, seed: u64) -> Result<Self, String> {
        let opened: Result<Vec<(Namespace, File)>, String> = (0..places)
            .map(|place| {
                let opened = std::thread::spawn(move || open(place)).join();
                opened.unwrap_or_else(|_| Err("no thread for a namespace".into()))
            })
            .collect();
        let (places, devices): (Vec<_>, Vec<_>) = opened?.into_iter().unzip();
        let links = Arc::new(Mutex::new(vec![vec![Link::default(); places.len()]; places.len()]));
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
        let switch = Switch {
            devices,
            links: Arc::clone(&links),
            counts: Arc::clone(&counts),
            waiting: BinaryHeap::new(),
            serial: 0,
            random: seed,
        };
        let ends = Arc::clone(&stop);
        let switch = Some(std::thread::spawn(move || switch.run(&ends)));
        Ok(Self { places, counts, links, stop, switch })
    }

    /// Where a place is found by all others.
    pub fn address(place: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, u8::try_from(place + 1).unwrap())
    }

    /// Changes the links, each of which is from the first place to the second.
    pub fn change(&self, mut change: impl FnMut((usize, usize), &mut Link)) {
        for (from, row) in self.links.lock().unwrap().iter_mut().enumerate() {
            for (to, link) in row.iter_mut().enumerate().filter(|(to, _)| *to != from) {
                change((from, to), link);
            }
        }
    }
}

impl Drop for Wan {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.switch.take().map(JoinHandle::join);
        if let Some(Err(_)) = ended {
            eprintln!("the switch had ended before");
        }
    }
}

/// A namespace with a device that all its packets leave by.
fn open(place: usize) -> Result<(Namespace, File), String> {
    let failed = |what: &str, why: &dyn std::fmt::Display| format!("{what}: {why}");
    new_network().map_err(|error| failed("a network namespace", &error))?;
    let namespace = File::open("/proc/thread-self/ns/net");
    let namespace = namespace.map_err(|error| failed("/proc/thread-self/ns/net", &error))?;
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let device = rustix::fs::open("/dev/net/tun", flags, Mode::empty());
    let device = File::from(device.map_err(|error| failed("/dev/net/tun", &error))?);
    name(&device).map_err(|error| failed("a TUN device", &error))?;
    let address = format!("{}/24", Wan::address(place));
    for arguments in [
        vec!["link", "set", "lo", "up"],
        vec!["addr", "add", &address, "dev", DEVICE],
        vec!["link", "set", DEVICE, "up"],
    ] {
        let output = Command::new("ip").args(&arguments).output();
        let output = output.map_err(|error| failed("ip", &error))?;
        if !output.status.success() {
            return Err(failed("ip", &String::from_utf8_lossy(&output.stderr).trim()));
        }
    }
    Ok((Namespace(Arc::new(namespace)), device))
}

#[expect(unsafe_code, reason = "the wrapper covers ways of unsharing that are unsafe")]
fn new_network() -> rustix::io::Result<()> {
    // SAFETY: file descriptors stay shared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
}

#[expect(unsafe_code, reason = "no safe wrapper of this ioctl exists")]
fn name(device: &File) -> rustix::io::Result<()> {
    let mut request = Request { name: [0; 16], flags: TUN_PLAIN, rest: [0; 22] };
    request.name[..DEVICE.len()].copy_from_slice(DEVICE.as_bytes());
    // SAFETY: the ioctl reads a `struct ifreq`, which is what `Setter` passes, and ours is as large.
    unsafe { ioctl(device, Setter::<TUNSETIFF, Request>::new(request)) }
}

/// A packet on its way: when it arrives, a number that keeps equal times in order, where, and what.
type Waiting = Reverse<(Instant, u64, usize, Vec<u8>)>;

struct Switch {
    devices: Vec<File>,
    links: Links,
    counts: Arc<Counts>,
    waiting: BinaryHeap<Waiting>,
    serial: u64,
    random: u64,
}

impl Switch {
    fn run(mut self, stop: &AtomicBool) {
        let mut packet = vec![0; PACKET_MAX];
        while !stop.load(Ordering::Relaxed) {
            self.wait();
            for from in 0..self.devices.len() {
                while let Ok(length @ 1..) = (&self.devices[from]).read(&mut packet) {
                    self.take(from, &packet[..length]);
                }
            }
            self.deliver();
        }
    }

    /// Until a packet comes or is due.
    fn wait(&self) {
        let due = self.waiting.peek().map_or(LOOK, |Reverse((at, ..))| {
            at.saturating_duration_since(Instant::now()).min(LOOK)
        });
        let until = Timespec::try_from(due).unwrap();
        let readable = |device| PollFd::new(device, PollFlags::IN);
        // Woken for nothing, it looks once too often.
        let _ = poll(&mut self.devices.iter().map(readable).collect::<Vec<_>>(), Some(&until));
    }

    fn take(&mut self, from: usize, packet: &[u8]) {
        // IPv4 alone, whose destination's last byte is the place.
        let Some([.., last]) = packet.get(16..20).filter(|_| packet[0] >> 4 == 4) else { return };
        let to = usize::from(last.wrapping_sub(1));
        let link = self.links.lock().unwrap().get(from).and_then(|row| row.get(to)).copied();
        let Some(link) = link else { return };
        if link.cut {
            self.counts.cut.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if random(&mut self.random, 1000) < link.lost {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let doubled = random(&mut self.random, 1000) < link.doubled;
        self.counts.doubled.fetch_add(u64::from(doubled), Ordering::Relaxed);
        for _ in 0..=u8::from(doubled) {
            let jitter = u64::try_from(link.jitter.as_micros()).unwrap();
            let later = Duration::from_micros(random(&mut self.random, jitter + 1));
            self.serial += 1;
            let arrives = Instant::now() + link.delay + later;
            self.waiting.push(Reverse((arrives, self.serial, to, packet.to_vec())));
        }
    }

    fn deliver(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((at, ..))) = self.waiting.peek()
            && *at <= now
            && let Some(Reverse((_, _, to, packet))) = self.waiting.pop()
        {
            // A device that takes no more loses packets, as networks do.
            let written = (&self.devices[to]).write(&packet).is_ok();
            let count = if written { &self.counts.carried } else { &self.counts.lost };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}
