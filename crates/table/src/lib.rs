//! Keys in, an immutable routing table out. Pure: no clock, files, sockets or async runtime.
//!
//! ```text
//! Change -> KeySet (raw keys at one revision) -> compile(&KeySet, previous, &Limits) -> Compiled { table, problems }
//!                                                                  Table::route(host, target) -> Route -> Service
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `key_set`, `raw` | the raw keys at one revision, grouped by service, shared with the tables compiled from them |
//! | `model`, `extras`, `display` | what a table is made of: services, rules, instances, configuration; and how it reads |
//! | `problem` | what is wrong with a key, and what would be right |
//! | `keys` | which keys there are, and what a key is |
//! | `value`, `instance`, `pattern` | single values: numbers, hosts, prefixes, addresses, expressions |
//! | `cookie`, `userlist`, `words` | values in HAProxy's own language |
//! | `reader`, `settings`, `config` | the keys of a service, of the configuration: all good or reported |
//! | `basis`, `certs`, `pem` | what all services are judged by; certificates |
//! | `abilities` | what an engine honours, and what becomes of services that ask for more |
//! | `form` | one service: its keys, its last good settings, the form in which it is served |
//! | `ports` | who listens where, and which instances would be ourselves |
//! | `routing` | how requests and connections find their service, and services that want the same |
//! | `compile` | from keys to a table and its problems |
//! | `index`, `index_build`, `host`, `host_map`, `prefixes`, `pattern_set`, `literals` | from a request to its service; owns precedence |
//! | `complaint` | problems that only an engine can find, under the key that they come from |
//! | `table` | the finished table and its lookups |
//! | `explain` | why a request goes where it goes |

mod abilities;
mod basis;
mod certs;
mod compile;
mod complaint;
mod config;
mod cookie;
mod display;
mod explain;
mod extras;
mod form;
mod host;
mod host_map;
mod index;
mod index_build;
mod instance;
mod key_set;
mod keys;
mod literals;
mod model;
mod pattern;
mod pattern_set;
mod pem;
mod ports;
mod prefixes;
mod problem;
mod raw;
mod reader;
mod routing;
mod settings;
mod table;
mod userlist;
mod value;
mod words;

pub use abilities::Abilities;
pub use compile::{Compiled, Limits, compile};
pub use explain::{Explanation, Verdict};
pub use key_set::{Change, KeySet};
pub use keys::{BARRIER, KNOWN_KEYS, KnownKey, Tree, distance};
pub use model::*;
pub use problem::{Problem, ProblemKind};
pub use table::{Route, Table};
