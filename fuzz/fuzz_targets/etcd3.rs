//! Messages of etcd v3.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pointsman_store::fuzz::etcd3(input));
