//! How nodes speak to each other.
//!
//! A peer is dialled once per purpose, and each connection stays: entries, votes and heartbeats,
//! forwarded calls, snapshots. So a heartbeat never waits behind a megabyte of entries, and a
//! snapshot that takes an hour holds up nothing.
//!
//! ```text
//! TCP · mutual TLS 1.3 · HTTP/1.1 "GET /peer", Upgrade: stockraft-peer · frames: length u32 BE, codec bytes
//! ```
//!
//! The first frame of each side says who it is and what it wants ([`message::Hello`]). With TLS the
//! claim must match the certificate, in both directions; a frame's length is checked before anything
//! is allocated for it. HTTP around it all costs one round trip per connection, and buys a port that
//! proxies and health checks understand.

pub(crate) mod append;
pub(crate) mod dial;
pub(crate) mod message;
pub(crate) mod mux;
pub(crate) mod network;
pub(crate) mod peers;
mod room;
pub(crate) mod serve;
pub(crate) mod session;
pub(crate) mod snapshot;
pub(crate) mod tls;
pub(crate) mod wire;

/// The name that a peer's certificate must carry.
fn dns_name(id: u64) -> String {
    format!("node-{id}.stockraft")
}
