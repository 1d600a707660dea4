//! The program that libFuzzer drives: one target, named by the variable `TARGET`.
//!
//! One program for all of them is linked once. `../run` builds and runs it.
#![no_main]

use std::alloc::System;
use std::cell::OnceCell;

use cap::Cap;
use fuzz::{Target, memory_max};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

/// What is beyond its limit is refused, which ends the process.
#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

thread_local! {
    static TARGET: OnceCell<(&'static str, Target)> = const { OnceCell::new() };
}

fuzz_target!(|input: &[u8]| TARGET.with(|target| {
    let (name, target) = target.get_or_init(named);
    let most = memory_max(name, input.len()).map(|most| MEMORY.allocated() + most);
    MEMORY.set_limit(most.unwrap_or(usize::MAX)).expect("it is more than there is");
    target(input);
    MEMORY.set_limit(usize::MAX).expect("nothing is more");
}));

// One change in four is of bytes, which also spoils what is no JSON.
fuzz_mutator!(|input: &mut [u8], size: usize, len_max: usize, seed: u32| {
    let changed = input.get(..size).filter(|_| !seed.is_multiple_of(4));
    match changed.and_then(|input| fuzz::mutate::json(input, seed, len_max)) {
        Some(changed) => {
            input[..changed.len()].copy_from_slice(&changed);
            changed.len()
        }
        None => fuzzer_mutate(input, size, len_max),
    }
});

fn named() -> (&'static str, Target) {
    let name = std::env::var("TARGET").unwrap_or_default();
    let known = fuzz::TARGETS.into_iter().find(|(known, _)| *known == name);
    let names = fuzz::TARGETS.map(|(name, _)| name).join(" ");
    known.unwrap_or_else(|| panic!("TARGET={name:?} is none of: {names}"))
}
