//! The settings for running HAProxy, as the program passes them in. Reads no flag and no key.

use std::path::PathBuf;
use std::time::Duration;

/// How to run HAProxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HaproxySettings {
    /// The program; `None`: the one in `PATH`.
    pub program: Option<PathBuf>,
    /// The operator's own haproxy.cfg.
    pub template: Option<PathBuf>,
    /// Lines for the global section.
    pub global_settings: Option<Box<str>>,
    /// Lines for the defaults section.
    pub custom_settings: Option<Box<str>>,
    /// Cipher suites of TLS 1.2 and earlier: one word.
    pub ciphers: Option<Box<str>>,
    /// How long an old worker may live after a reload.
    pub hard_stop: Duration,
    /// Least time between two reloads.
    pub reload_every: Duration,
}

impl Default for HaproxySettings {
    fn default() -> Self {
        Self {
            program: None,
            template: None,
            global_settings: None,
            custom_settings: None,
            ciphers: None,
            hard_stop: Duration::from_secs(600),
            reload_every: Duration::from_secs(1),
        }
    }
}
