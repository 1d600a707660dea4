//! The simulated store from outside, over real sockets.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "clippy knows the tests themselves, and not the functions that they share"
)]

mod calls;
mod changes;
mod customers;
mod faults;
mod ledger;
mod loads;
mod orders;
mod pushes;
mod support;
mod webhooks;
