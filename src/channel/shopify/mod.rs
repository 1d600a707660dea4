//! Shopify.

pub mod client;
pub mod orders;
