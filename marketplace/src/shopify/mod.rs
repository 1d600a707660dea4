//! The outside shapes of a Shopify store: what its webhooks look like, and what its Admin API
//! understands.
//!
//! [`payload`] and [`sign`] are pure and public, so that a test can build one delivery by hand.

pub mod payload;
pub mod sign;

pub(crate) mod admin;
pub(crate) mod bucket;
pub(crate) mod graphql;
pub(crate) mod inventory;
pub(crate) mod orders;
pub(crate) mod schema;
pub(crate) mod search;
pub(crate) mod select;
