//! eBay.

mod orders;
pub mod quantities;

pub use orders::{Ebay, Settings};
