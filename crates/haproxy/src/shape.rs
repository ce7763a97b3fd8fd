//! Everything about a HAProxy that does not depend on the keys: listening addresses, files, version. Reads nothing.

use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;

use super::tickets::TicketKeys;
use super::version::Version;

/// One listening address of HTTP services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The address, with its real port.
    pub address: SocketAddr,
    /// The open socket that HAProxy inherits (`bind fd@N`); `None`: HAProxy opens the address itself.
    pub socket: Option<RawFd>,
}

/// Everything about a HAProxy that does not depend on the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Listening addresses for HTTP services.
    pub http: Vec<Listen>,
    /// Listening addresses for HTTP services over TLS.
    pub https: Vec<Listen>,
    /// HAProxy's threads (`nbthread`).
    pub threads: usize,
    /// The folder of `haproxy.cfg`, the maps, error pages and certificates. Paths in the configuration are below it.
    pub folder: PathBuf,
    /// The worker's runtime socket (`stats socket`), a new path for every reload; `None`: no engine will drive it.
    pub socket: Option<PathBuf>,
    /// How long an old worker may live after a reload (`hard-stop-after`).
    pub hard_stop: Duration,
    /// Lines for the global section (`KONTENA_LB_GLOBAL_SETTINGS`).
    pub global_settings: Option<Box<str>>,
    /// Lines for the defaults section (`KONTENA_LB_CUSTOM_SETTINGS`).
    pub custom_settings: Option<Box<str>>,
    /// Cipher suites of TLS 1.2 and earlier, one word (`KONTENA_LB_SSL_CIPHERS`).
    pub ciphers: Option<Box<str>>,
    /// The operator's own haproxy.cfg: a template's source (`--haproxy-template`).
    pub template: Option<Box<str>>,
    /// What this HAProxy can do.
    pub version: Version,
    /// How many spare backends wait for new services.
    pub spares: usize,
    /// The keys of session tickets; `None`: HAProxy makes its own.
    pub tickets: Option<TicketKeys>,
}

impl Shape {
    /// One to test with: HAProxy 2.6, one HTTP address, nothing else.
    #[cfg(test)]
    pub(crate) fn sample() -> Self {
        let address = SocketAddr::from(([0, 0, 0, 0], 80));
        Self {
            http: vec![Listen { address, socket: Some(3) }],
            https: Vec::new(),
            threads: 2,
            folder: PathBuf::from("/run/pointsman"),
            socket: Some(PathBuf::from("/run/pointsman/1.sock")),
            hard_stop: Duration::from_secs(600),
            global_settings: None,
            custom_settings: None,
            ciphers: None,
            template: None,
            version: Version { major: 2, minor: 6, patch: 12, pcre: true, tls: true },
            spares: 0,
            tickets: None,
        }
    }
}
