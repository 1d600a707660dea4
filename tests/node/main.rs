//! Promises of a node, tried from outside on real processes, sockets and files: a file names a promise.
//!
//! One program, since each would link the whole node; `cargo test --test node kills::` runs one file of it. What
//! wants the machine for itself, or root, is a program of its own beside this folder.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod asked;
mod clients;
mod config;
mod cut_off;
mod damage;
mod endpoints;
mod files;
mod gap;
mod handshakes;
mod holds;
mod incarnations;
mod kills;
mod large;
mod listings;
mod odd_bodies;
mod queue;
mod reading;
mod refusals;
mod removed;
mod repository;
mod sources;
mod topics;
mod topics_fed;
mod verify;
