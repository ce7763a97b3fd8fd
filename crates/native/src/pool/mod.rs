//! Which instance, and a connection to it: picking, waiting for room, pooled and new connections.
//!
//! | module | owns |
//! |---|---|
//! | `admission` | places in `limit/requests`, and the queue for them |
//! | `via` | what makes two connections interchangeable |
//! | `connections` | idle connections, pooled by `Via` |
//! | `sharing` | HTTP/2 connections that requests share, pooled by `Via` |
//! | `candidates` | the instances that requests are spread over, as a list |
//! | `turns` | whose turn it is, of units of weight on a circle |
//! | `values` | which values of a `cookie` name which instances |
//! | `view` | a table beside this worker's state for it |
//! | `pick` | which instance |
//! | `connect` | a new connection |
//! | `link` | what a request goes over |
//! | `judge` | what ejects an instance, and what brings it back |
//! | `queue` | turns in the queue while all instances are full |
//! | `checkout` | an instance with a connection to it, for one request |
//! | `dials` | new connections that a request asked for |
//! | `secure` | TLS on a new connection |
//! | `announced` | connections that began with a PROXY header, for one client |
//! | `logins` | connections that are logged in for one client |
//! | `bench` | picking without an engine, for the bench |

pub(crate) mod admission;
pub(crate) mod announced;
pub(crate) mod bench;
pub(crate) mod candidates;
pub(crate) mod checkout;
pub(crate) mod connect;
pub(crate) mod connections;
pub(crate) mod dials;
pub(crate) mod judge;
pub(crate) mod link;
pub(crate) mod logins;
pub(crate) mod pick;
mod queue;
pub(crate) mod secure;
mod sharing;
mod turns;
pub(crate) mod values;
pub(crate) mod via;
pub(crate) mod view;
