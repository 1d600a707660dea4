//! What a topic promises its workers, held against a book that knows nothing of how topics work.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod anything;
mod bounds;
#[path = "../common/mod.rs"]
mod common;
mod desk;
mod operator;
mod random;
mod slices;
mod workers;
