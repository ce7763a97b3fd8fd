//! Clients' certificates: what handshakes ask for by server name, as HAProxy's list of certificates says it, and which
//! services that protects. The rules for requests are in `backend`.
//!
//! HAProxy verifies a certificate for a server name, not for a service, so all services of a name must have the same
//! authorities. It would resume a session at any name, so none resumes where clients are asked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pointsman_table::{Asking, Authorities, Cert, Demand, Service};

use super::frame::path;
use super::render::{DEFAULT_CERT, cert_file};
use super::version::Version;

/// The list of certificates of HTTPS listeners where clients are asked.
pub(crate) const CLIENT_LIST: &str = "clients.list";
/// Most names in a line of it.
const NAMES: usize = 200;
/// A name that nobody asks for (RFC 6761 §6.4): the first line is for all names that no line has.
const NOBODY: &str = "pointsman.invalid";

/// What the handshakes of HTTPS ask for, as files.
pub(crate) struct ClientFiles {
    /// [`CLIENT_LIST`].
    pub(crate) list: String,
    /// The authorities, PEM, by file.
    pub(crate) authorities: BTreeMap<Box<str>, Arc<[u8]>>,
}

/// Why HAProxy cannot protect a service that asks for certificates; `None`: it can.
pub(crate) fn obstacle(service: &Service, asking: &Asking, version: Version) -> Option<&'static str> {
    let (auth, entry) = (service.client_auth()?, service.http()?);
    let by_path = entry.either && !entry.paths.is_empty();
    let shares = |demand: &Arc<Demand>| demand.authorities.len() > 1 && demand.authorities.contains(&auth.authorities);
    if !version.tls {
        Some("this HAProxy was built without TLS")
    } else if entry.hosts.is_empty() || by_path || entry.default {
        Some("HAProxy asks for certificates by server name, and this service is not reached by its domain alone")
    } else if asking.all().into_iter().any(shares) {
        Some("HAProxy verifies for all services of a server name, and another one there has other authorities")
    } else {
        None
    }
}

/// The files; `None`: nobody is asked. `certs`: those in use. `is_strict`: only names that a certificate covers are served.
pub(crate) fn files(asking: &Asking, certs: &[(&str, &Cert)], is_strict: bool) -> Option<ClientFiles> {
    let demands = asking.all();
    if demands.is_empty() {
        return None;
    }
    let each: BTreeSet<&Arc<Authorities>> = demands.iter().flat_map(|demand| &demand.authorities).collect();
    let file = |authorities: &Arc<Authorities>| {
        let number = each.iter().position(|other| *other == authorities).unwrap_or_default();
        format!("clients/{number}.pem").into_boxed_str()
    };
    let rest = certs.iter().find(|(name, _)| *name == DEFAULT_CERT).or(certs.first());
    let mut list = String::new();
    if let Some((name, _)) = rest {
        line(&mut list, name, "", &[NOBODY.to_owned()]);
    }
    for ((name, demand), names) in grouped(asking, certs, rest.filter(|_| !is_strict)) {
        let options = demand.map(|demand| options(demand, &file)).unwrap_or_default();
        names.chunks(NAMES).for_each(|some| line(&mut list, name, &options, some));
    }
    let authorities =
        each.iter().map(|authorities| (file(authorities), pem(authorities).into_bytes().into())).collect();
    Some(ClientFiles { list, authorities })
}

/// The names of each certificate, by what is asked for there. A name has the certificates that are for it exactly, else
/// those with a wildcard, else `rest`.
fn grouped<'a>(
    asking: &'a Asking,
    certs: &[(&'a str, &'a Cert)],
    rest: Option<&(&'a str, &'a Cert)>,
) -> BTreeMap<(&'a str, Option<&'a Arc<Demand>>), Vec<String>> {
    let of_certs = || certs.iter().flat_map(|(_, cert)| &*cert.names);
    let names = of_certs().cloned().chain(asking.names()).filter(|name| is_plain(name));
    let mut lines = BTreeMap::<_, Vec<String>>::new();
    for name in names.collect::<BTreeSet<_>>() {
        let demand = match name.strip_prefix("*.") {
            Some(suffix) => asking.below(suffix),
            None => asking.find(Some(&name)),
        };
        let wildcard = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        let with = |wanted: &str| -> Vec<&'a str> {
            certs
                .iter()
                .filter(|(_, cert)| cert.names.iter().any(|has| **has == *wanted))
                .map(|(name, _)| *name)
                .collect()
        };
        let mut covering = with(&name);
        if let Some(wildcard) = wildcard.filter(|_| covering.is_empty()) {
            covering = with(&wildcard);
        }
        if covering.is_empty() {
            covering.extend(rest.map(|(name, _)| *name));
        }
        covering.into_iter().for_each(|cert| lines.entry((cert, demand)).or_default().push(name.to_string()));
    }
    lines
}

/// Whether it can be a server name, and stands in the list as it is.
fn is_plain(name: &str) -> bool {
    let rest = name.strip_prefix("*.").unwrap_or(name);
    !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn options(demand: &Demand, file: &impl Fn(&Arc<Authorities>) -> Box<str>) -> String {
    let verify = if demand.is_required { "required" } else { "optional" };
    let files = demand.authorities.iter().map(|authorities| path(&file(authorities)));
    files.map(|file| format!(" [ca-file {file} verify {verify}]")).collect()
}

fn line(list: &mut String, cert: &str, options: &str, names: &[String]) {
    list.push_str(&format!("{}{options} {}\n", path(&cert_file(cert)), names.join(" ")));
}

fn pem(authorities: &Authorities) -> String {
    let mut text = String::new();
    for der in authorities.iter() {
        let body = STANDARD.encode(der);
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        for (at, byte) in body.chars().enumerate() {
            let end = if (at + 1) % 64 == 0 { "\n" } else { "" };
            write!(text, "{byte}{end}").expect("a String takes whatever is written");
        }
        text.push_str("\n-----END CERTIFICATE-----\n");
    }
    text.replace("\n\n", "\n")
}
