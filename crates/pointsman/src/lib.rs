//! Pointsman: an HTTP and TCP load balancer that configures itself from etcd.
//!
//! | module | owns |
//! |---|---|
//! | `program` | from the command line to the exit code |
//! | `settings` | flags, environment, file: parsed once into typed settings |
//! | `commands` | the command line, and one file per command |
//! | `control` | the loop that turns a store's updates into published tables |
//! | `certs`, `acme` | certificates from files and variables; certificates by ACME |
//! | `tickets` | the secrets of TLS session tickets, shared through the store |
//! | `names` | the addresses of instances' host names |
//! | `state` | the state that survives a restart |
//! | `takeover` | one program takes over from another without losing a connection |
//! | `tenure` | from when to when this program is the balancer |
//! | `fleet` | the status of the balancers of one prefix, and waiting for all of them |
//! | `admin` | health, metrics and the table over HTTP, never on the data path |
//! | `stats` | HAProxy's statistics and its socket, for the tools that people have |
//! | `register` | an instance in the store as long as a command runs |
//! | `agent` | registers this machine's containers in the store |
//! | `registrar` | keys kept in the store under a lease |
//! | `logging`, `plain` | the log; escaping what goes to a log or a terminal |
//! | `traces` | spans of requests, sent by OTLP |
//! | `notify` | reports to the service manager |
//! | `sys` | calls to the operating system beyond files and sockets |

mod acme;
pub mod admin;
pub mod agent;
pub mod certs;
pub mod commands;
pub mod control;
pub mod fleet;
pub mod logging;
pub mod names;
pub mod notify;
mod plain;
pub mod program;
pub mod register;
pub mod registrar;
pub mod settings;
pub mod state;
pub mod stats;
pub mod sys;
pub mod takeover;
pub mod tenure;
mod tickets;
pub mod traces;
