//! The program that libFuzzer drives: one target, named by the variable `TARGET`.
//!
//! One program for all of them is linked once. `../run` builds and runs it.
#![no_main]

use std::cell::OnceCell;

use fuzz::Target;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static TARGET: OnceCell<Target> = const { OnceCell::new() };
}

fuzz_target!(|input: &[u8]| TARGET.with(|target| target.get_or_init(named)(input)));

fn named() -> Target {
    let name = std::env::var("TARGET").unwrap_or_default();
    let known = fuzz::TARGETS.into_iter().find(|(known, _)| *known == name);
    let names = fuzz::TARGETS.map(|(name, _)| name).join(" ");
    known.unwrap_or_else(|| panic!("TARGET={name:?} is none of: {names}")).1
}
