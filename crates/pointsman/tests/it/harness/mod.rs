//! The shared harness: real processes, real sockets, and waits with deadlines. Knows the program's command line, so
//! tests need not.

mod authority;
mod backend;
mod certificate;
mod chromium;
mod client;
mod dns;
mod engine;
mod etcd;
mod fake_etcd;
mod haproxy;
mod http2_client;
mod http2_server;
mod knot;
mod load;
mod pebble;
mod pointsman;
#[path = "../../support/ports.rs"]
mod ports;
mod process;
mod python;
mod raw;
mod scripted;
mod site;
mod tls_client;
mod tools;
mod turn;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

pub(crate) use authority::Authority;
pub(crate) use backend::{Backend, pattern};
pub(crate) use certificate::{certificate, epoch};
pub(crate) use chromium::in_chromium;
pub(crate) use client::{Connection, Response, get, get_ok, websocket};
pub(crate) use dns::{Lie, NameServer, Zone};
pub(crate) use engine::{ENGINES, Engine, accepted, engine};
pub(crate) use etcd::{Api, Cluster, Etcd, Writer};
pub(crate) use fake_etcd::FakeEtcd;
pub(crate) use haproxy::is_haproxy;
pub(crate) use http2_client::{python_http2, python_http2_running};
pub(crate) use http2_server::Http2Instance;
pub(crate) use knot::Knot;
pub(crate) use load::Load;
pub(crate) use pebble::Pebble;
pub(crate) use pointsman::{
    Launch, Pointsman, demo, demo_under, program_folder, run, run_unread, serving, shell, with_two_workers,
};
pub(crate) use ports::free_port;
pub(crate) use process::{Finished, Process, finish, signal};
pub(crate) use python::python;
pub(crate) use raw::{Raw, Then, echo_tcp, raw_answers};
pub(crate) use scripted::{Scripted, answer, listening, request_head};
pub(crate) use site::Site;
pub(crate) use tls_client::{python_tls, python_tls_running};
pub(crate) use tools::{h2load, nginx, node_client, node_server, python_client, python_server, wrk};
pub(crate) use turn::alone;

/// Deadline for a condition that must come true.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Polls until the probe returns a value; fails the test at the deadline, naming the condition.
#[track_caller]
pub(crate) fn wait_within<T>(what: &str, deadline: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// [`wait_within`] with the usual [`PATIENCE`], for a condition.
#[track_caller]
pub(crate) fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    wait_within(what, PATIENCE, || condition().then_some(()));
}

/// Checks repeatedly, for this long, that a condition holds.
#[track_caller]
pub(crate) fn holds(what: &str, span: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while start.elapsed() < span {
        assert!(condition(), "no longer holds after {:?}: {what}", start.elapsed());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs the step this many times, spread evenly over the span.
pub(crate) fn paced(span: Duration, times: u32, mut step: impl FnMut(u32)) {
    let start = Instant::now();
    for number in 0..times {
        std::thread::sleep((span * number / times).saturating_sub(start.elapsed()));
        step(number);
    }
}

/// Whether the long forms are requested: `POINTSMAN_LONG=1`.
pub(crate) fn long() -> bool {
    std::env::var_os("POINTSMAN_LONG").is_some_and(|value| value == "1")
}

/// The usual span, or the long one if requested.
pub(crate) fn span(usual: u64, long_form: u64) -> Duration {
    Duration::from_secs(if long() { long_form } else { usual })
}

/// Whether reading ended because nothing came for so long, and not because it was over.
pub(crate) fn is_timeout<T>(read: &std::io::Result<T>) -> bool {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    read.as_ref().is_err_and(|error| matches!(error.kind(), TimedOut | WouldBlock))
}

/// A loopback address that nothing listens on.
pub(crate) fn free_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}
