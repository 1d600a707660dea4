//! Shopify.

pub mod client;
