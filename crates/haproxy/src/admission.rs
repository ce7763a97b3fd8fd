//! A service's rules about who is let in: `allow`, `deny`, `max_body` and `maintenance`, as lines of its backend. Serves
//! nothing.

use std::fmt::Write as _;

use pointsman_table::{COME_AGAIN, Config, Protocol, Service};

use super::forwarded::{self, CLIENT};
use super::names::PAGES;
use super::words::quote;

/// The body of 413, for which HAProxy has no page.
const TOO_LARGE: &str = "The request is too large.";

/// The lines of `allow` and `deny`, each with its key.
pub(crate) fn access(service: &Service, config: &Config) -> Vec<(&'static str, String)> {
    let Some(access) = service.policy.as_ref().and_then(|policy| policy.access.as_ref()) else { return Vec::new() };
    let (sample, verdict) = match service.protocol {
        Protocol::Http => (client(config), format!("http-request return status 403 errorfiles {PAGES}")),
        Protocol::Tcp => ("src".to_owned(), "tcp-request content reject".to_owned()),
    };
    let rules = [("deny", "denied", "if", &access.deny), ("allow", "allowed", "unless", &access.allow)];
    let set = rules.into_iter().filter(|(.., networks)| !networks.is_empty());
    set.map(|(key, name, word, networks)| {
        let acl = forwarded::acl(name, &sample, networks);
        (key, format!("{acl}    {verdict} {word} {name}\n"))
    })
    .collect()
}

/// The line of `max_body`. A length that is not told is not known before the body has come.
pub(crate) fn max_body(service: &Service) -> Option<String> {
    let most = service.max_body()?.min(i64::MAX.unsigned_abs());
    Some(format!(
        "    http-request return status 413 content-type \"text/plain; charset=utf-8\" string \"{TOO_LARGE}\\n\" if {{ req.body_size gt {most} }}\n"
    ))
}

/// The lines of `maintenance`.
pub(crate) fn maintenance(service: &Service, config: &Config) -> Option<String> {
    let closed = service.policy.as_ref()?.maintenance.as_ref()?;
    let mut text = forwarded::acl("excepted", &client(config), &closed.networks);
    for (name, value) in &closed.headers {
        let value = quote(value);
        writeln!(text, "    acl excepted req.fhdr({name}) -m str -- {value}").expect("a string takes all");
    }
    let unless = if text.is_empty() { "" } else { " unless excepted" };
    write!(
        text,
        "    http-request set-var(txn.closed) bool(true){unless}
    http-request return status 503 errorfiles {PAGES} if {{ var(txn.closed) -m found }}
    http-after-response set-header Retry-After {COME_AGAIN} if {{ var(txn.closed) -m found }}\n"
    )
    .expect("a string takes all");
    Some(text)
}

/// The request's own address.
fn client(config: &Config) -> String {
    match config.trusted_proxies.is_empty() {
        true => "src".to_owned(),
        false => format!("var({CLIENT})"),
    }
}
