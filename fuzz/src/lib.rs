//! What any bytes may do to a parser, a signature or the agreed state: nothing that is not promised.
//!
//! A target takes any input and panics if a promise does not hold of it. libFuzzer makes the inputs: it
//! sees which code each one reached and what it was compared with, keeps those that reached more, and
//! changes them further, by bytes and by values of JSON ([`mutate`]). Where it begins is committed under
//! `corpus/<target>/`: `seed-*` is made of the samples and vectors of `channels/tests` by
//! `src/bin/seeds.rs` (`make fuzz-corpus`), the others are by hand. What is found goes below the build.
//!
//! `make fuzz SECONDS=5` runs all targets. A target that fails leaves its input in a file that it names;
//! `TARGET=<target> <program> <file>` runs that input alone.

mod agreed;
mod keys;
pub mod mutate;
mod parse;
mod poll;
mod records;
pub mod sent;
mod signature;
mod signing;
mod sns;
mod sound;
mod time;

pub use cluster::{codec, fuzzing};

/// Takes any input; panics if a promise does not hold of it.
pub type Target = fn(&[u8]);

/// The most bytes that a target of so long an input may have in memory at a time, where that is promised: none is
/// allocated because a length in the input says so.
#[must_use]
pub fn memory_max(target: &str, input: usize) -> Option<usize> {
    // Each byte may be a value of hundreds of bytes, of which lists are made for some more at once.
    const SMALL: usize = 16 << 20;
    let reads = ["frame", "history", "inbox", "snapshot", "stored"].contains(&target);
    reads.then(|| codec::LIMIT + SMALL + 1024 * input)
}

/// All targets by name.
pub const TARGETS: [(&str, Target); 24] = [
    ("command", agreed::command),
    ("described", signature::described),
    ("frame", records::frame),
    ("history", records::history),
    ("inbox", records::inbox),
    ("keys", keys::any),
    ("parse_amazon", parse::amazon),
    ("parse_ebay", parse::ebay),
    ("parse_generic", parse::generic),
    ("parse_odoo", parse::odoo),
    ("parse_shopify", parse::shopify),
    ("parse_walmart", parse::walmart),
    ("parse_woocommerce", parse::woocommerce),
    ("poll_amazon", poll::amazon),
    ("poll_ebay", poll::ebay),
    ("poll_odoo", poll::odoo),
    ("poll_shopify", poll::shopify),
    ("poll_walmart", poll::walmart),
    ("poll_woocommerce", poll::woocommerce),
    ("signature", signature::known),
    ("snapshot", records::snapshot),
    ("sns", sns::message),
    ("stored", records::stored),
    ("time", time::any),
];
