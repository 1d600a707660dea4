//! What the nodes agree on: stock, orders, listings, and what has been seen before.
//!
//! This room decides and cannot act. It reads no clock, no disk, no socket and no random number; a
//! command goes in together with the index and the time that the cluster agreed on, and out come a
//! [`Reply`] and [`Effects`] for others to carry out:
//!
//! ```text
//!  Command + Stamp { index, now }  ─►  State::apply  ─►  Reply      to whoever proposed it
//!                                                    └►  Effects    movements and bodies to keep,
//!                                                                   confirmations to measure
//! ```
//!
//! Promises:
//! * **Pure and total.** The same commands give the same state on every node; no input panics.
//! * **Facts are recorded, requests are judged.** What a channel sold is booked even when it drives
//!   available below zero; what is asked of us may be [rejected](MovementOutcome::Rejected).
//! * **Once.** A segment applies once by its [origin sequence](origin), a delivery once by its
//!   [key](dedup), and a fact about an order once by the [`order`] itself. The marks are made
//!   in the same step as the movement: there is no moment between "seen" and "done".
//! * **No raise causes an oversell** where a SKU is split between channels: see [`listing`].
//! * **Integers only**, and every collection has a bound in [`limits`].
//!
//! A snapshot is cheap: [`State::data`] is maps in shared buckets ([`buckets`]), so a clone of it
//! copies pointers and can be written out by another thread while commands go on.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::float_arithmetic)]

extern crate alloc;

pub mod allocation;
mod booking;
pub mod buckets;
mod bytes;
pub mod channel;
pub mod command;
pub mod data;
pub mod dedup;
mod dues;
pub mod escrow;
mod facts;
pub mod few;
pub mod invariant;
pub mod kits;
mod leaving;
pub mod ledger;
pub mod limits;
pub mod listing;
mod machine;
mod mapping;
pub mod names;
pub mod notices;
pub mod order;
pub mod origin;
mod owners;
pub mod packed;
pub mod policy;
mod pushes;
pub mod queue;
pub mod reply;
mod request;
pub mod reservation;
mod setup;
pub mod shares;
pub mod velocity;

pub use command::Command;
pub use few::Few;
pub use packed::Packed;
/// What something is called: a SKU, a location, a channel, an order. Up to 23 bytes lie in place; a longer one is
/// shared by its clones.
pub use smol_str::SmolStr as Id;

pub use data::{Data, Reload, Visitor};
pub use dues::Counts;
pub use machine::{Stamp, State};
pub use reply::{Effects, MovementOutcome, Reply};

/// Milliseconds since the Unix epoch, as agreed by the cluster.
pub type Millis = u64;
/// The number of a node; unique, never reused.
pub type NodeId = u64;
/// A 128-bit hash made outside this room, which never hashes.
pub type Key = [u8; 16];
