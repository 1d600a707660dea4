//! The simulated senders from outside, over real sockets.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "clippy knows the tests themselves, and not the functions that they share"
)]

mod ebay;
mod generic;
mod odoo;
mod sending;
mod support;
mod told;
mod walmart;
mod woocommerce;
