//! How the nodes agree.
#![forbid(unsafe_code)]

pub mod codec;
pub mod durable;
