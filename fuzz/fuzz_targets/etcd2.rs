//! An answer of etcd v2.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pointsman_store::fuzz::etcd2(input));
