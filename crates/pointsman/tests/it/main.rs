//! Acceptance tests: the real program between real clients, backends and stores. One file per topic, one harness.
//!
//! `POINTSMAN_LONG=1` runs the long forms; `POINTSMAN_TEST_ENGINE` chooses the engine under test (default `native`).

mod admin;
mod broken;
mod burst;
mod certificates;
mod change;
mod commands;
mod control;
mod demo;
mod drain;
mod edits;
mod engines;
mod engines_random;
mod faults;
mod fleet;
mod grpc;
mod haproxy;
mod haproxy_faults;
mod harness;
mod help;
mod http;
mod http2;
mod inspect;
mod instances_http2;
mod kinds;
mod leaving;
mod limits;
mod log;
mod logins;
mod mirror;
mod names;
mod notify;
mod nuances;
mod outage;
mod outbound;
mod patience;
mod proxied;
mod queue;
mod readme;
mod register;
mod requests;
mod responses;
mod restart;
mod retries;
#[path = "../../../wire/vectors/rows.rs"]
mod rows;
mod slow;
mod sni;
mod split;
mod stores;
mod tcp;
mod tidy;
mod tls;
mod walkthrough;
mod websockets;
