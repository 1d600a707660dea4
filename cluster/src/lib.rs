//! How the nodes agree.
#![forbid(unsafe_code)]

mod clock;
pub mod codec;
mod config;
pub mod durable;
mod error;
mod form;
mod leader;
mod log;
mod machine;
mod raft;
mod route;
mod status;
mod transport;
mod types;

pub use config::{CLOCK_SKEW_MS_MAX, COMMAND_BYTES_MAX, Clock, Config, PeerTls, Timing};
pub use error::{ChangeError, Error, InitError, ProposeError};
pub use machine::{Entry, Halt, Snapshot, StateMachine, Transfer};
pub use raft::{Raft, Reply};
pub use status::{MemberStatus, Role, Status};
pub use types::Member;
