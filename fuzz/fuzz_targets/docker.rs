//! What Docker says.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pointsman::agent::docker::fuzz::run(input));
