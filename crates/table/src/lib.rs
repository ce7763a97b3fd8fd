//! Keys in, an immutable routing table out. Pure: no clock, files, sockets or async runtime.
//!
//! ```text
//! Change -> KeySet (raw keys at one revision) -> compile(&KeySet, previous, &Limits) -> Compiled { table, problems }
//!                                                                  Table::route(host, target) -> Route -> Service
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `key_set`, `key_change`, `raw`, `name_map` | the raw keys at one revision, grouped by service, shared with the tables compiled from them; what changes do to them |
//! | `model`, `names` | what a table is made of: services, rules, configuration |
//! | `problem`, `shown` | problems with keys; escaping text for display |
//! | `keys` | which keys there are, and what a key is |
//! | `value`, `address`, `balance`, `discovery`, `eject`, `http_version`, `instance`, `pattern` | single values, each type with its parser |
//! | `policy`, `acme`, `on_demand`, `retries`, `client_auth`, `cookie`, `xxh64`, `hsts`, `split`, `userlist`, `words` | the policy for a service's requests; values in HAProxy's language |
//! | `forward_auth` | who is asked whether a request may go on |
//! | `cors`, `compress`, `redirect`, `rewrite`, `header_edit`, `text`, `steps` | what the policy changes in requests and answers, and how it is shown |
//! | `reader`, `settings`, `config` | the keys of a service, of the configuration: all good or reported |
//! | `basis`, `certs`, `cert`, `ocsp`, `pem` | what all services are judged by; certificates |
//! | `conditions` | what a service asks of a request besides host and path |
//! | `access`, `rate_limit`, `maintenance`, `page`, `text` | which requests are let in, and the pages for those that are not; texts with placeholders |
//! | `capabilities`, `limits` | the keys that an engine honours; the inputs of compile besides the keys |
//! | `networks` | lists of networks, where instances may be |
//! | `last_good` | the keys that the settings in force come from |
//! | `memory` | what to keep of a table over a restart |
//! | `form` | one service: its keys, its last good settings, the form in which it is served |
//! | `instance_link`, `health_check` | how connections to instances are set up, and how these are checked |
//! | `placing`, `found`, `ports` | where instances may be, and those of `dns`; who listens where, and which addresses are ourselves |
//! | `rendezvous` | where keys of hashing balances go |
//! | `asking` | what handshakes ask clients for, by server name |
//! | `routing`, `targets`, `wishes` | how requests and connections find their service, services that want the same, or get others' requests |
//! | `compile` | from keys to a table and its problems |
//! | `index`, `index_build`, `host`, `host_map`, `leaf`, `prefixes` | from a request to its service; owns precedence |
//! | `pattern_set`, `literals`, `effort` | many expressions at once, and their cost |
//! | `complaint` | problems that only an engine can find, under the key that they come from |
//! | `table` | the finished table and its lookups |
//! | `explain`, `explain_tcp`, `near` | why a request or a connection goes where it goes; what comes close |
//! | `losses` | what keys lost against earlier ones, whether that is too much at once, and how it is served on |
//! | `differences` | which keys changed between two tables, in words |

mod access;
mod acme;
mod address;
mod asking;
mod balance;
mod basis;
mod capabilities;
mod cert;
mod certs;
mod client_auth;
mod compile;
mod complaint;
mod compress;
mod conditions;
mod config;
mod cookie;
mod cors;
mod differences;
mod discovery;
mod effort;
mod eject;
mod explain;
mod explain_tcp;
mod form;
mod forward_auth;
mod found;
mod header_edit;
mod health_check;
mod host;
mod host_map;
mod hsts;
mod http_version;
mod index;
mod index_build;
mod instance;
mod instance_link;
mod key_change;
mod key_set;
mod keys;
mod last_good;
mod leaf;
mod limits;
mod literals;
mod losses;
mod maintenance;
mod memory;
mod model;
mod name_map;
mod names;
mod near;
mod networks;
mod ocsp;
mod on_demand;
mod page;
mod pattern;
mod pattern_set;
mod pem;
mod placing;
mod policy;
mod ports;
mod prefixes;
mod problem;
mod rate_limit;
mod raw;
mod reader;
mod redirect;
mod rendezvous;
mod retries;
mod rewrite;
mod routing;
mod settings;
mod shown;
mod split;
mod steps;
mod table;
mod targets;
mod text;
mod userlist;
mod value;
mod wishes;
mod words;
mod xxh64;

pub use access::Access;
pub use acme::{AcmeTerms, Answers, CHALLENGE_PATH, CertKeyKind, ChallengeCert, ChallengeKind};
pub use address::{Bind, HostPattern};
pub use asking::{Asking, Demand};
pub use balance::Balance;
pub use capabilities::Capabilities;
pub use cert::Cert;
pub use client_auth::{Authorities, ClientAuth};
pub use compile::{Compiled, compile};
pub use compress::Compress;
pub use conditions::{Asked, Conditions, Imagined};
pub use cookie::{Cookie, CookieFlag, CookieMode, default_key, plain_name};
pub use cors::{Cors, Origin, OriginGrant};
pub use differences::{Fate, KeyDiff, TableDiff, differences};
pub use discovery::Dns;
pub use effort::TooLong;
pub use eject::{Eject, Panic, Percent};
pub use explain::{Explanation, Verdict, Withheld};
pub use forward_auth::ForwardAuth;
pub use found::LOOKED_UP;
pub use header_edit::{HeaderLine, HeaderLines, HeaderVerb};
pub use health_check::{CheckKeys, CheckWay, Expect, HealthCheck, HttpCheck};
pub use host::host_name;
pub use hsts::Hsts;
pub use http_version::HttpVersion;
pub use instance::{Instance, Target};
pub use instance_link::{InstanceAuthorities, InstanceLink, ProxyForm};
pub use key_change::KeyChange;
pub use key_set::{Change, KeySet};
pub use keys::{
    BARRIER, KNOWN_KEYS, KnownKey, Tree, counts_when_empty, distance, doubt, is_instance_key, is_secret,
    place_in_writing,
};
pub use last_good::without_revision;
pub use limits::{Limits, Names, OuterCert, Record, Resolved};
pub use losses::{Losses, ServedOn, Shortfall, guard_share, losses, serve_on, served_since};
pub use maintenance::{COME_AGAIN, Maintenance};
pub use memory::{Memory, ServiceMemory};
pub use model::{Config, Entry, HttpEntry, PathRule, Service, ServiceTimeouts, TcpEntry, Timeouts, TlsVersion};
pub use name_map::{NameChange, NameIter, NameMap};
pub use names::{InstanceName, Protocol, ServiceName};
pub use networks::{Area, Networks, Places, is_near};
pub use ocsp::Staple;
pub use on_demand::{Allowance, OnDemand};
pub use page::{Page, Pages};
pub use pattern::{CHECKED_BODY, Pattern};
pub use pem::PemText;
pub use policy::{Policy, Scheme};
pub use problem::{Problem, ProblemKind, write_problem};
pub use rate_limit::{RateBy, RateLimit};
pub use redirect::Redirect;
pub use rendezvous::{Rendezvous, hash_key};
pub use retries::{Bounds, MOST_RETRIES, Retries};
pub use rewrite::{Groups, PathMatch, Paths, Rewrite, RewriteLine};
pub use shown::{Shown, shown, shown_lines};
pub use split::{Split, SplitBy, WHOLE, shown_share};
pub use table::{Route, Table};
pub use text::{Piece, Placeholder, Text, pieces};
pub use userlist::{Group, Password, User, UserList};
pub use wishes::AcmeNames;
