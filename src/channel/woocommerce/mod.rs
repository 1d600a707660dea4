//! `WooCommerce`.

mod orders;
pub mod quantities;

pub use orders::{Orders, Settings};
