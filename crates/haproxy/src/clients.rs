//! Clients' certificates: what handshakes ask for by server name, as HAProxy's list of certificates says it, and which
//! services that protects. The rules for requests are in `backend`.
//!
//! HAProxy verifies a certificate for a server name, not for a service, so all services of a name must have the same
//! authorities. It would resume a session at any name, so none resumes where clients are asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pointsman_table::{Asking, Authorities, Cert, ClientAuth, Demand, Service};

use super::model::FOLDER;
use super::names::{DEFAULT_CERT, cert_file};
use super::version::Version;

/// The list of certificates of HTTPS listeners where clients are asked; paths are below [`FOLDER`].
pub(crate) const CLIENT_LIST: &str = "clients.list";
/// The names of that list, with the id of the authorities that a certificate shown there comes from.
pub(crate) const CLIENT_MAP: &str = "clients.map";
/// The id for names where nothing is asked for.
const NONE: &str = "-";
/// Most names in a line of the list: HAProxy takes 64 KiB.
const NAMES: usize = 200;
/// A name that nobody asks for (RFC 6761 §6.4): the first line is for all names that no line has.
const NOBODY: &str = "pointsman.invalid";

/// Why HAProxy cannot protect a service that asks for certificates; `None`: it can.
pub(crate) fn obstacle(service: &Service, asking: &Asking, version: Version) -> Option<&'static str> {
    let (auth, entry) = (service.client_auth()?, service.http()?);
    let by_path = entry.either && !entry.paths.is_empty();
    let shares = |demand: &Arc<Demand>| demand.authorities.len() > 1 && demand.authorities.contains(&auth.authorities);
    if !version.tls {
        Some("this HAProxy was built without TLS")
    } else if !auth.authorities.has_roots() {
        Some("HAProxy trusts an authority only if client_ca has the certificates of its issuers too")
    } else if entry.hosts.is_empty() || by_path || entry.default {
        Some("HAProxy asks for certificates by server name, and this service is not reached by its domain alone")
    } else if asking.all().into_iter().any(shares) {
        Some("HAProxy verifies for all services of a server name, and another one there has other authorities")
    } else {
        None
    }
}

/// Identifies authorities: a certificate counts for a service only where the handshake asked for the same ones.
pub(crate) fn id(authorities: &Authorities) -> String {
    let mut sum = Context::new(&SHA256);
    for der in authorities.iter() {
        sum.update(&(der.len() as u64).to_be_bytes());
        sum.update(der);
    }
    sum.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The file of a service's authorities.
pub(crate) fn file(auth: &ClientAuth) -> Box<str> {
    file_of(&auth.authorities)
}

fn file_of(authorities: &Authorities) -> Box<str> {
    format!("clients/{}.pem", id(authorities)).into()
}

/// The files that say what the handshakes of HTTPS ask for; none: nobody is asked. `certs`: those in use. `is_strict`: only
/// names that a certificate covers are served.
pub(crate) fn files(asking: &Asking, certs: &[(&str, &Cert)], is_strict: bool) -> BTreeMap<Box<str>, Arc<[u8]>> {
    let demands = asking.all();
    if demands.is_empty() {
        return BTreeMap::new();
    }
    let authorities = demands.iter().flat_map(|demand| &demand.authorities);
    let mut files: BTreeMap<Box<str>, Arc<[u8]>> =
        authorities.map(|authorities| (file_of(authorities), pem(authorities).into_bytes().into())).collect();
    let names = ServerNames::new(asking, certs, is_strict);
    files.insert(CLIENT_LIST.into(), names.list().into_bytes().into());
    files.insert(CLIENT_MAP.into(), names.map().into_bytes().into());
    files
}

/// How well a certificate covers a name: exactly, by a wildcard, or not at all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cover {
    Exact,
    Wildcard,
    Rest,
}

/// The names that are told apart: those of certificates, and those that services ask at.
struct ServerNames<'a> {
    asking: &'a Asking,
    all: BTreeSet<Box<str>>,
    certs: &'a [(&'a str, &'a Cert)],
    /// The certificates by each of their names.
    by_name: BTreeMap<&'a str, Vec<&'a str>>,
    /// For all other names.
    rest: Option<&'a str>,
    is_strict: bool,
}

impl<'a> ServerNames<'a> {
    fn new(asking: &'a Asking, certs: &'a [(&'a str, &'a Cert)], is_strict: bool) -> Self {
        let mut by_name = BTreeMap::<_, Vec<_>>::new();
        for (cert, name) in certs.iter().flat_map(|(cert, it)| it.names.iter().map(move |name| (*cert, &**name))) {
            by_name.entry(name).or_default().push(cert);
        }
        let of_certs = by_name.keys().map(|name| Box::from(*name));
        let all = of_certs.chain(asking.names()).filter(|name| is_plain(name)).collect();
        let rest = certs.iter().find(|(name, _)| *name == DEFAULT_CERT).or(certs.first()).map(|(name, _)| *name);
        Self { asking, all, certs, by_name, rest, is_strict }
    }

    fn demand(&self, name: &str) -> Option<&'a Arc<Demand>> {
        match name.strip_prefix("*.") {
            Some(suffix) => self.asking.below(suffix),
            None => self.asking.find(Some(name)),
        }
    }

    /// The certificates of a name. HAProxy looks for one that the client can verify at the name and at its wildcard
    /// together, and asks for what stands with the one that it takes: so an exact name has all that its wildcard has.
    fn covering(&self, name: &str) -> Vec<(Cover, &'a str)> {
        let with = |cover: Cover, name: &str| {
            self.by_name.get(name).into_iter().flatten().map(move |cert| (cover, *cert)).collect::<Vec<_>>()
        };
        let mut found = with(Cover::Exact, name);
        let wildcard = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        let wildcard = wildcard.filter(|wildcard| !name.starts_with("*.") && self.all.contains(&**wildcard));
        let is_covered = match &wildcard {
            Some(wildcard) => {
                let more = with(Cover::Wildcard, wildcard);
                let is_covered = !more.is_empty();
                found.extend(more);
                is_covered
            }
            None => !found.is_empty(),
        };
        if !is_covered && !self.is_strict {
            found.extend(self.rest.map(|cert| (Cover::Rest, cert)));
        }
        let mut seen = BTreeSet::new();
        found.retain(|(_, cert)| seen.insert(*cert));
        found
    }

    /// The first line is for names that no line has; those that cover a name better come first.
    fn list(&self) -> String {
        let mut lines = BTreeMap::<_, Vec<&str>>::new();
        for name in &self.all {
            for (cover, cert) in self.covering(name) {
                lines.entry((cover, cert, self.demand(name))).or_default().push(name);
            }
        }
        let used: BTreeSet<_> = lines.keys().map(|(_, cert, _)| *cert).collect();
        let unused = self.certs.iter().map(|(cert, _)| *cert).filter(|cert| !used.contains(cert));
        let nobody = self.rest.into_iter().chain(unused.filter(|cert| Some(*cert) != self.rest));
        let mut list: String = nobody.map(|cert| line(cert, "", &[NOBODY])).collect();
        for ((_, cert, demand), names) in &lines {
            let options = demand.map(|demand| options(demand)).unwrap_or_default();
            list.extend(names.chunks(NAMES).map(|some| line(cert, &options, some)));
        }
        list
    }

    fn map(&self) -> String {
        let id = |name: &str| match self.demand(name).map(|demand| &*demand.authorities) {
            Some([only]) => id(only),
            _ => NONE.to_owned(),
        };
        self.all.iter().map(|name| format!("{name} {}\n", id(name))).collect()
    }
}

/// Whether it can be a server name, and stands in the list as it is.
fn is_plain(name: &str) -> bool {
    let rest = name.strip_prefix("*.").unwrap_or(name);
    !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn options(demand: &Demand) -> String {
    let verify = if demand.is_required { "required" } else { "optional" };
    let files = demand.authorities.iter().map(|authorities| format!("{FOLDER}/{}", file_of(authorities)));
    files.map(|file| format!(" [ca-file {file} verify {verify}]")).collect()
}

fn line(cert: &str, options: &str, names: &[&str]) -> String {
    format!("{FOLDER}/{}{options} {}\n", cert_file(cert), names.join(" "))
}

fn pem(authorities: &Authorities) -> String {
    let block = |der: &[u8]| {
        let body = STANDARD.encode(der);
        // Base64 is ASCII.
        let lines = body.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned() + "\n");
        format!("-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n", lines.collect::<String>())
    };
    authorities.iter().map(block).collect()
}
