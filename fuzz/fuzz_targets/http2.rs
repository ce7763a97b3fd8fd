//! A request's head of HTTP/2.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pointsman_fuzz::http2(input));
