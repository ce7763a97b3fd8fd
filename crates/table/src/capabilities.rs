//! The keys that an engine honours, and what happens to keys that it does not. Knows no service.

use crate::keys::KNOWN_KEYS;

/// What an engine honours: every key, except those that it lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Keys of services, and `certs` for the whole tree.
    lacks: &'static [&'static str],
    /// It looks up `dns` itself.
    resolves: bool,
    /// It leaves password hashes to crypt(3), and does not compute them itself.
    crypts: bool,
}

impl Capabilities {
    /// The native engine's.
    pub const NATIVE: Self = Self { lacks: &["custom_settings"], resolves: false, crypts: false };
    /// The HAProxy engine's. Of `health_check`, it lacks the value `grpc`, and of `config/acme/challenge` and
    /// `acme` `tls-alpn-01`.
    pub const HAPROXY: Self = Self {
        lacks: &[
            "acme/challenge",
            "acme/on_demand",
            "eject",
            "errors/<status>",
            "forward_auth",
            "header/<Name>",
            "health_check",
            "limit/queue",
            "limit/requests",
            "method",
            "mirror/<service>",
            "panic",
            "query/<name>",
            "rate_limit",
            "timeout/request",
        ],
        resolves: true,
        crypts: true,
    };

    /// Every key, for judging values: some engine reads each of them.
    pub const EVERY: Self = Self { lacks: &[], resolves: true, crypts: true };

    /// Whether it looks up `dns` itself. For others, the instances that it names come with the table.
    pub(crate) fn resolves(self) -> bool {
        self.resolves
    }

    /// Whether it leaves password hashes to crypt(3). Others compute only those that they know.
    pub(crate) fn crypts(self) -> bool {
        self.crypts
    }

    /// Whether it shows authorities that a name is ours in a TLS handshake.
    pub fn answers_by_tls(self) -> bool {
        self.honours("acme/challenge")
    }

    /// Whether its handshakes may have certificates asked for.
    pub fn demands_certs(self) -> bool {
        self.honours("acme/on_demand")
    }

    /// Whether the engine honours this key or tree.
    pub(crate) fn honours(self, key: &str) -> bool {
        debug_assert!(exists(key), "{key} is no key or tree");
        !self.lacks.contains(&key)
    }
}

/// Whether there is such a key or tree.
fn exists(word: &str) -> bool {
    KNOWN_KEYS.iter().any(|key| key.name == word) || word == "certs"
}

/// The native engine's: what every engine can do.
impl Default for Capabilities {
    fn default() -> Self {
        Self::NATIVE
    }
}

/// The consequence of a key that the engine does not honour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consequence {
    /// The service is served as if the key were not set.
    Without,
    /// The service is not served: its operator asked for protection that it would not have.
    HeldBack,
}

/// The engine that honours this key, for advice about another that does not; empty if none does.
pub(crate) fn remedy(key: &str) -> &'static str {
    match (Capabilities::HAPROXY.honours(key), Capabilities::NATIVE.honours(key)) {
        (true, _) => "; --engine haproxy honours it",
        (false, true) => "; --engine native honours it",
        (false, false) => "",
    }
}

impl Consequence {
    /// What an operator is told.
    pub(crate) fn advice(self, key: &str) -> String {
        let what = match self {
            Self::Without => "this engine does not honour it yet; the service is served without it",
            Self::HeldBack => {
                "this engine does not honour it yet; the service is not served, as it would take requests that it must not"
            }
        };
        format!("{what}{}", remedy(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_exists() {
        for word in Capabilities::NATIVE.lacks.iter().chain(Capabilities::HAPROXY.lacks) {
            assert!(exists(word), "{word} is no key");
        }
    }
}
