//! What an engine can honour beyond the core, and what becomes of services that ask for more. The one place for both.

use crate::extras::Extras;

/// Keys and options that the engine honours. The default is today's native engine: none of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// `dns`.
    pub dns: bool,
    /// `cookie`.
    pub cookie: bool,
    /// `basic_auth_secrets`.
    pub basic_auth: bool,
    /// `health_check_uri`, `health_check_port`.
    pub health_checks: bool,
    /// `scheme` other than `http`.
    pub schemes: bool,
    /// `sni`.
    pub sni: bool,
    /// `custom_settings`.
    pub custom_settings: bool,
    /// The option `tls` of an instance.
    pub tls_instances: bool,
    /// `certs/`.
    pub certs: bool,
}

/// What comes of a key that the engine does not honour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consequence {
    /// The service is served as if the key were not there.
    Without,
    /// The service is not served: its operator asked for protection that it would not have.
    HeldBack,
}

/// A key that is set, that the engine does not honour, and what comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unmet {
    pub(crate) key: &'static str,
    pub(crate) consequence: Consequence,
}

impl Unmet {
    /// What an operator is told.
    pub(crate) fn advice(self) -> &'static str {
        match self.consequence {
            Consequence::Without => "this engine does not honour it yet; the service is served without it",
            Consequence::HeldBack => {
                "this engine does not honour it yet; the service is not served, as it would lack the protection asked for"
            }
        }
    }
}

impl Abilities {
    /// What the HAProxy engine honours: everything.
    pub const fn haproxy() -> Self {
        Self {
            dns: true,
            cookie: true,
            basic_auth: true,
            health_checks: true,
            schemes: true,
            sni: true,
            custom_settings: true,
            tls_instances: true,
            certs: true,
        }
    }

    /// What a service asks for and does not get. `is_set` knows the keys that are only read for engines that honour them.
    pub(crate) fn unmet(self, extras: &Extras, is_set: impl Fn(&str) -> bool) -> impl Iterator<Item = Unmet> {
        use Consequence::{HeldBack, Without};
        let redirected = extras.scheme.as_deref() == Some("https");
        let scheme = if redirected { HeldBack } else { Without };
        let rows = [
            ("dns", extras.dns.is_some(), self.dns, Without),
            ("cookie", is_set("cookie"), self.cookie, Without),
            ("basic_auth_secrets", is_set("basic_auth_secrets"), self.basic_auth, HeldBack),
            ("health_check_uri", extras.health_check_uri.is_some(), self.health_checks, Without),
            ("health_check_port", extras.health_check_port.is_some(), self.health_checks, Without),
            ("scheme", extras.scheme.is_some(), self.schemes, scheme),
            ("sni", !extras.sni.is_empty(), self.sni, HeldBack),
            ("custom_settings", is_set("custom_settings"), self.custom_settings, Without),
        ];
        let unmet = rows.into_iter().filter(|&(_, asked, honoured, _)| asked && !honoured);
        unmet.map(|(key, _, _, consequence)| Unmet { key, consequence })
    }
}
