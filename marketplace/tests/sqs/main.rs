//! The simulated queue and the simulated seller who sends into it, from outside over real sockets.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "clippy knows the tests themselves, and not the functions that they share"
)]

mod account;
mod faults;
mod listings;
mod messages;
mod orders;
mod signing;
mod sns;
mod support;
