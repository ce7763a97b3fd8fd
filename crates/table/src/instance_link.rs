//! How connections to a service's instances are set up: `tls_ca`, `tls_server_name`, `tls_cert` and `send_proxy`. Reads
//! these keys; verifies nothing and connects to nothing.

use std::fmt::{Display, Formatter};
use std::sync::Arc;

use crate::cert::Cert;
use crate::http_version::HttpVersion;
use crate::pem;
use crate::reader::Reader;
use crate::value::{self, Parsed};

/// The authorities that a machine trusts.
const SYSTEM: &str = "system";

/// How connections to the instances of a service are set up; TLS is spoken to those that have the option `tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct InstanceLink {
    /// `tls_ca`.
    pub authorities: InstanceAuthorities,
    /// `tls_server_name`: the name sent to instances and expected of them. `None`: the instance's own, else the
    /// request's host.
    pub server_name: Option<Box<str>>,
    /// `tls_cert`: what we show them.
    pub cert: Option<Arc<Cert>>,
    /// `send_proxy`: the PROXY header that connections begin with.
    pub send_proxy: Option<ProxyForm>,
}

/// `tls_ca`: whose certificates instances must show.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum InstanceAuthorities {
    /// Anybody's: they are not verified.
    #[default]
    Any,
    /// Those that this machine trusts.
    System,
    /// These: PEM blocks without anything between them.
    These(Arc<str>),
}

/// `send_proxy`: the PROXY header that connections to instances begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyForm {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

impl ProxyForm {
    /// The key's value: `v1`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }

    fn parse(text: &str, version: HttpVersion) -> Parsed<Self> {
        if version == HttpVersion::Http2 {
            return Err(
                "expected no send_proxy beside protocol=h2: such a connection is for one client, and requests of all \
                        share those of HTTP/2"
                    .into(),
            );
        }
        let found = [Self::V1, Self::V2].into_iter().find(|form| form.as_str() == text);
        found.ok_or_else(|| "expected v1 or v2".into())
    }
}

impl InstanceLink {
    /// The settings; `None` if no key sets any.
    pub(crate) fn read(reader: &mut Reader<'_>, version: HttpVersion) -> Option<Arc<Self>> {
        let read = Self {
            authorities: reader.protecting("tls_ca", InstanceAuthorities::parse).unwrap_or_default(),
            server_name: reader.read("tls_server_name", server_name),
            cert: reader.read("tls_cert", Cert::parse).map(Arc::new),
            send_proxy: reader.read("send_proxy", |text| ProxyForm::parse(text, version)),
        };
        (read != Self::default()).then(|| Arc::new(read))
    }
}

/// As the key has it.
impl Display for InstanceAuthorities {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Any => "",
            Self::System => SYSTEM,
            Self::These(pem) => pem,
        })
    }
}

impl InstanceAuthorities {
    pub(crate) fn parse(text: &str) -> Parsed<Self> {
        match text {
            SYSTEM => Ok(Self::System),
            _ if !text.contains("-----BEGIN ") => {
                Err("expected system, or certificates of authorities, each a block that begins with \
                     -----BEGIN CERTIFICATE-----"
                    .into())
            }
            _ => Ok(Self::These(pem::authorities(text)?.text.into())),
        }
    }
}

/// A host name: it must not be one that no certificate can be for.
fn server_name(text: &str) -> Parsed<Box<str>> {
    let name = value::host_name(value::without_dot(text))?;
    match name.rsplit('.').next() {
        Some(last) if value::is_number(last) => Err("expected a host name, not an address".into()),
        _ => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::tests::check;

    const AUTHORITY: &str = include_str!("../tests/certificates/authority.pem");
    const KEY: &str = include_str!("../tests/certificates/leaf.key");

    #[test]
    fn authorities() {
        check(InstanceAuthorities::parse("system"), "System");
        check(InstanceAuthorities::parse(&format!("Our CA\n{AUTHORITY}{AUTHORITY}")), "These(\"-----BEGIN CERTIFICATE");
        check(InstanceAuthorities::parse("System"), "error: expected system, or certificates");
        check(InstanceAuthorities::parse(KEY), "error: expected certificates of authorities only, but block 1 is a");
        check(InstanceAuthorities::parse(&format!("{AUTHORITY}{KEY}")), "but block 2 is a");
        let broken = AUTHORITY.replacen("MI", "", 1);
        check(InstanceAuthorities::parse(&broken), "error: expected PEM, but block 1");
        let no_certificate = "-----BEGIN CERTIFICATE-----\nMAMAAAA=\n-----END CERTIFICATE-----\n";
        check(InstanceAuthorities::parse(no_certificate), "error: expected PEM, but block 1 is no X.509 certificate");
    }

    #[test]
    fn names_and_forms() {
        check(server_name("Shop.Test."), "\"shop.test\"");
        check(server_name("10.0.0.1"), "error: expected a host name, not an address");
        check(server_name("a b"), "error: expected a host name");
        check(ProxyForm::parse("v2", HttpVersion::Http1), "V2");
        check(ProxyForm::parse("2", HttpVersion::Http1), "error: expected v1 or v2");
        check(ProxyForm::parse("v2", HttpVersion::Http2), "error: expected no send_proxy beside protocol=h2");
    }
}
