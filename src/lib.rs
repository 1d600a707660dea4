//! The node: it listens, verifies, stores, submits, pushes and shows. It acts and does not decide.
//!
//! ```text
//!  propagate ◄═ what is due in the replica      admin ◄─ reads it all     node wires them together
//! ```
//!
//! The parts that work side by side (ingest, submit, propagate, admin) do not know each other: they
//! meet in [`node`].
#![forbid(unsafe_code)]

pub mod admin;
pub mod agreed;
pub mod audit;
pub mod channel;
mod chores;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
mod cron;
pub mod demo;
pub mod digest;
mod endpoint;
pub mod escrow;
pub mod history;
pub mod home;
pub mod inbox;
pub mod ingest;
pub mod intake;
pub mod issuers;
pub mod keyring;
mod listen;
pub mod measures;
pub mod node;
mod notice;
mod planted;
mod poisson;
pub mod poll;
pub mod propagate;
pub mod replica;
pub mod route;
pub mod sim;
pub mod simulated;
pub mod sqs;
pub mod submit;
pub mod topics;
mod velocity;
