//! What is done with any bytes from outside, one function a target: it must not panic. libFuzzer runs them for as long as
//! wanted (`RUSTC_BOOTSTRAP=1 cargo fuzz run request -s none`); the crates' own tests run them for seconds, on mutants of
//! known inputs.
//!
//! | module | the bytes are |
//! |---|---|
//! | `request`, `response`, `body` | HTTP/1 from clients and instances |
//! | `http2` | heads of HTTP/2, decoded |
//! | `proxy` | PROXY headers |
//! | `hello` | TLS ClientHellos |
//! | `keys` | keys and values of the store |
//! | `mutate` | for the tests: mutants of known inputs |
//!
//! What etcd and Docker answer is parsed in private: these targets are in `pointsman_store::fuzz` and
//! `pointsman::agent::docker::fuzz`.

mod body;
mod hello;
mod http2;
mod keys;
mod proxy;
mod request;
mod response;

/// Any bytes as a chunked body.
pub fn body(input: &[u8]) {
    body::run(input);
}

/// Any bytes as a head of HTTP/2.
pub fn http2(input: &[u8]) {
    http2::run(input);
}

/// Any bytes as the first of a connection to a port with TLS server names.
pub fn hello(input: &[u8]) {
    hello::run(input);
}

/// Any bytes as keys.
pub fn keys(input: &[u8]) {
    keys::run(input);
}

/// Any bytes as the first of a connection.
pub fn proxy(input: &[u8]) {
    proxy::run(input);
}

/// Any bytes as a request's head.
pub fn request(input: &[u8]) {
    request::run(input);
}

/// Any bytes as a response's head.
pub fn response(input: &[u8]) {
    response::run(input);
}
