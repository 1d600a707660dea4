//! Ports that nobody else takes.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Three free ports in a row. They lie below those that the system gives to outgoing connections, or a
/// node that was killed might find its port taken when it starts again.
pub fn ports() -> [u16; 3] {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let blocks = 2_000;
    let own = u16::try_from(std::process::id() % u32::from(blocks)).unwrap();
    for _ in 0..blocks {
        let block = (own * 7 + NEXT.fetch_add(1, Ordering::Relaxed)) % blocks;
        let first = 10_000 + block * 10;
        let all = [first, first + 1, first + 2];
        if all.iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()) {
            return all;
        }
    }
    panic!("no free ports");
}
