//! How the nodes agree.
#![forbid(unsafe_code)]
#![allow(dead_code, reason = "under construction")]

pub mod codec;
mod config;
pub mod durable;
mod error;
mod form;
mod log;
mod machine;
mod types;

pub use config::{CLOCK_SKEW_MS_MAX, COMMAND_BYTES_MAX, Clock, Config, PeerTls, Timing};
pub use error::{ChangeError, Error, InitError, ProposeError};
pub use machine::{Entry, Halt, Snapshot, StateMachine, Transfer};
pub use types::Member;
