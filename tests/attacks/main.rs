//! Promise: whoever reaches a port and knows no secret learns nothing, changes nothing, and keeps nobody out.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod floods;
mod guesses;
mod peers;
mod replays;
mod shapes;
