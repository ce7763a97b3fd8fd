//! What a request tells about its own connection and the one that it needs: whether it is secure, the key for its balance, and
//! what a new one is set up with.
//! Connects nothing.

use std::rc::Rc;

use pointsman_table::{Balance, hash_key, host_name};
use pointsman_wire::{RequestHead, Trust};

use crate::net::peer::Peer;
use crate::pool::announced::OpenFor;
use crate::pool::pick::key_of_address;
use crate::pool::view::ServiceLive;

/// Whether a request came over HTTPS: to us, or to a proxy that is trusted and says so.
pub(super) fn is_secure(head: &RequestHead<'_, '_>, peer: &Peer) -> bool {
    // The last line: a proxy may add one behind the client's own.
    let told = || head.headers.iter().rfind(|header| header.name.eq_ignore_ascii_case("x-forwarded-proto"));
    let says_so = || told().is_some_and(|header| header.value.eq_ignore_ascii_case(b"https"));
    peer.is_secure || (peer.trust == Trust::Full && says_so())
}

/// What a new connection to the service is set up with besides the keys. `host`: what it is asked for.
pub(super) fn open_for(live: &ServiceLive, host: &str, peer: &Peer) -> Option<Rc<OpenFor>> {
    let is_proxied = live.service.send_proxy().is_some();
    (is_proxied || live.is_of_hosts).then(|| {
        let host = live.is_of_hosts.then(|| host_name(host).into());
        Rc::new(OpenFor { host, addresses: if is_proxied { peer.addresses() } else { None } })
    })
}

pub(super) fn key(balance: &Balance, head: &RequestHead<'_, '_>, peer: &Peer) -> Option<u64> {
    match balance {
        Balance::Source => Some(key_of_address(peer.client)),
        Balance::Uri => Some(hash_key(path(&head.target).as_bytes())),
        Balance::Header(name) => head.header(name).map(hash_key),
        Balance::UrlParam(name) => url_param(&head.target, name).map(|value| hash_key(value.as_bytes())),
        Balance::Cookie(name) => cookie(head, name).map(hash_key),
        Balance::RoundRobin
        | Balance::StaticRoundRobin
        | Balance::LeastConnections
        | Balance::First
        | Balance::Random
        | Balance::PowerOfTwo => None,
    }
}

pub(crate) fn path(target: &str) -> &str {
    target.split_once('?').map_or(target, |(path, _)| path)
}

pub(super) fn url_param<'t>(target: &'t str, name: &str) -> Option<&'t str> {
    let (_, query) = target.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// The value of a cookie of the request.
pub(super) fn cookie<'h>(head: &RequestHead<'h, '_>, name: &str) -> Option<&'h [u8]> {
    cookie_pairs(head).find_map(|pair| cookie_value(pair, name))
}

/// The pairs of all `Cookie` lines (RFC 6265 §4.2).
pub(super) fn cookie_pairs<'h>(head: &RequestHead<'h, '_>) -> impl Iterator<Item = &'h [u8]> {
    let lines = head.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("cookie"));
    let pairs = lines.flat_map(|line| line.value.split(|byte| *byte == b';'));
    pairs.map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty())
}

/// The value of a pair, if it is of this cookie.
pub(super) fn cookie_value<'p>(pair: &'p [u8], name: &str) -> Option<&'p [u8]> {
    Some(pair.strip_prefix(name.as_bytes())?.trim_ascii_start().strip_prefix(b"=")?.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_params() {
        let check = |target, expected| assert_eq!(url_param(target, "user"), expected, "{target}");
        check("/x?user=7", Some("7"));
        check("/x?a=b&user=7&c=d", Some("7"));
        check("/x?users=7", None);
        check("/user=7", None);
        check("/x?user", None);
    }
}
