//! What HAProxy needs for connections to a service's instances beyond their addresses: words of its `server` lines for TLS
//! and PROXY headers, and files for authorities and certificates. Verifies nothing.

use std::sync::Arc;

use pointsman_table::{HttpVersion, Instance, InstanceAuthorities, InstanceLink, Protocol, ProxyForm, Service, Target};

use super::model::FOLDER;
use super::names;
use super::version::Version;

/// The folder of their files: only we and HAProxy may read them.
pub(crate) const FILES: &str = "instances/";

/// The settings of a service that sets none.
const UNVERIFIED: InstanceLink =
    InstanceLink { authorities: InstanceAuthorities::Any, server_name: None, cert: None, send_proxy: None };

/// What a service's files hold.
#[derive(Clone, Copy)]
enum OutboundFile {
    Authorities,
    Certificate,
}

/// The words of an instance's line.
pub(crate) fn words(service: &Service, instance: &Instance) -> Option<String> {
    let mut words = Vec::new();
    words.extend(service.send_proxy().map(|form| match form {
        ProxyForm::V1 => "send-proxy".to_owned(),
        ProxyForm::V2 => "send-proxy-v2".to_owned(),
    }));
    words.extend(instance.tls.then(|| tls(service, instance)));
    (!words.is_empty()).then(|| words.join(" "))
}

/// The files that the lines of a service name, with their content.
pub(crate) fn files(service: &Service) -> Vec<(Box<str>, Arc<[u8]>)> {
    let Some(tls) = service.link.as_ref().filter(|_| service.instances.iter().any(|instance| instance.tls)) else {
        return Vec::new();
    };
    let authorities = match &tls.authorities {
        InstanceAuthorities::These(pem) => Some((OutboundFile::Authorities, pem.trim_end())),
        InstanceAuthorities::Any | InstanceAuthorities::System => None,
    };
    let cert = tls.cert.as_ref().map(|cert| (OutboundFile::Certificate, cert.pem.as_str()));
    let all = authorities.into_iter().chain(cert);
    all.map(|(kind, pem)| (file(service, kind).into(), format!("{pem}\n").into_bytes().into())).collect()
}

/// Whether servers of this service need more than the commands of a running HAProxy can give them.
pub(crate) fn is_rigid(service: &Service) -> bool {
    service.link.is_some()
}

/// Why HAProxy cannot be given this instance, if it cannot.
pub(crate) fn refusal(service: &Service, instance: &Instance, version: Version) -> Option<&'static str> {
    if !instance.tls {
        return None;
    }
    let settings = service.link.as_deref().unwrap_or(&UNVERIFIED);
    match settings.authorities {
        _ if !version.tls => Some("this HAProxy was built without TLS; the instance is left out"),
        InstanceAuthorities::Any => None,
        InstanceAuthorities::System if !version.has_system_authorities() => {
            Some("this HAProxy does not know tls_ca = system, write the certificates; the instance is left out")
        }
        // Without a name it would take any certificate of the authorities.
        _ if service.protocol == Protocol::Tcp && name(service, instance).is_none() => {
            Some("HAProxy verifies names only, so set tls_server_name; the instance is left out")
        }
        InstanceAuthorities::System | InstanceAuthorities::These(_) => None,
    }
}

fn tls(service: &Service, instance: &Instance) -> String {
    let settings = service.link.as_deref().unwrap_or(&UNVERIFIED);
    let mut words = match &settings.authorities {
        InstanceAuthorities::Any => "ssl verify none".to_owned(),
        InstanceAuthorities::System => "ssl verify required ca-file @system-ca".to_owned(),
        InstanceAuthorities::These(_) => {
            format!("ssl verify required ca-file {}", path(service, OutboundFile::Authorities))
        }
    };
    if settings.cert.is_some() {
        words += &format!(" crt {}", path(service, OutboundFile::Certificate));
    }
    match (service.protocol, service.http_version) {
        (Protocol::Http, HttpVersion::Http1) => words += " alpn http/1.1",
        (Protocol::Http, HttpVersion::Http2) => words += " alpn h2",
        (Protocol::Tcp, _) => {}
    }
    match (name(service, instance), service.protocol) {
        (Some(name), _) => {
            words += &format!(" sni str({name}) check-sni {name}");
            if settings.authorities != InstanceAuthorities::Any {
                words += &format!(" verifyhost {name}");
            }
        }
        // HAProxy verifies the name that it sends.
        (None, Protocol::Http) => words += " sni var(txn.host)",
        (None, Protocol::Tcp) => {}
    }
    words
}

/// The server name, if the keys say it.
fn name<'a>(service: &'a Service, instance: &'a Instance) -> Option<&'a str> {
    let own = match &instance.target {
        Target::Name(name, _) => Some(&**name),
        Target::Socket(_) | Target::Unix(_) => None,
    };
    service.link.as_ref().and_then(|tls| tls.server_name.as_deref()).or(own)
}

fn path(service: &Service, kind: OutboundFile) -> String {
    format!("{FOLDER}/{}", file(service, kind))
}

fn file(service: &Service, kind: OutboundFile) -> String {
    let end = match kind {
        OutboundFile::Authorities => "ca",
        OutboundFile::Certificate => "crt",
    };
    format!("{FILES}{}-{}.{end}", service.protocol, names::server(service.name.as_str()))
}
