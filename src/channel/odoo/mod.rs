//! Odoo.

mod orders;
pub mod quantities;

pub use orders::{Odoo, Settings};
