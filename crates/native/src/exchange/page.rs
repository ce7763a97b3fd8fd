//! Bodies of our own answers with an error: the service's page or the configuration's, filled in with what the request
//! says. Chooses no status.

use std::mem::MaybeUninit;

use pointsman_table::{Config, Page, Piece, Service};
use pointsman_wire::{HeadLimits, HeaderSpace, MAX_HEADERS, RequestHead, parse_request};

use super::filled::Filling;
use super::reach::is_secure;
use crate::access::REQUEST_ID;
use crate::fault::Fault;
use crate::net::peer::Peer;

/// What is known of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Teller<'a> {
    /// `None`: it was malformed.
    pub(super) head: Option<&'a RequestHead<'a, 'a>>,
    /// Its id; empty: it has none but what its head says.
    pub(super) id: &'a str,
    pub(super) peer: &'a Peer,
    pub(super) service: Option<&'a Service>,
}

/// The page that a request which met this fault gets, if the keys have one.
#[cold]
pub(super) fn of(fault: Fault, config: &Config, teller: Teller<'_>) -> Option<Box<str>> {
    let status = fault.facts().status?;
    let own = teller.service.and_then(|service| Page::of(service.errors(), status));
    let page = own.or_else(|| Page::of(&config.errors, status))?;
    Some(match page.text.fixed() {
        Some(_) => page.body.clone(),
        None => teller.fill(page),
    })
}

/// The same, of a request that was to go to an instance, of which this was held. Its path is the one that the instance was
/// sent.
#[cold]
pub(super) fn of_held(
    fault: Fault,
    config: &Config,
    (service, held): (&Service, &[u8]),
    peer: &Peer,
) -> Option<Box<str>> {
    let mut space: HeaderSpace<'_> = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let limits = HeadLimits { bytes: held.len() + 1, headers: MAX_HEADERS };
    let head = parse_request(held, limits, &mut space).ok().flatten();
    of(fault, config, Teller { head: head.as_ref(), id: "", peer, service: Some(service) })
}

impl Teller<'_> {
    fn fill(&self, page: &Page) -> Box<str> {
        let Self { head, id, peer, service } = *self;
        let told = || head.and_then(|head| str::from_utf8(head.header(REQUEST_ID)?).ok()).unwrap_or_default();
        let filling = Filling {
            head,
            peer,
            is_secure: head.map_or(peer.is_secure, |head| is_secure(head, peer)),
            service: service.map_or("", |service| service.name.as_str()),
            request_id: if id.is_empty() { told() } else { id },
            groups: &[],
        };
        let mut text = String::with_capacity(page.body.len() + 64);
        for piece in page.text.pieces() {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Placeholder(placeholder) => filling.fill(placeholder, |value| {
                    let value = String::from_utf8_lossy(value);
                    if page.is_html() { escape(&value, &mut text) } else { text.push_str(&value) }
                }),
            }
        }
        text.into()
    }
}

/// Appends a value so that it can begin no element, attribute or entity (HTML Living Standard §13.3).
fn escape(value: &str, out: &mut String) {
    for char in value.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            char => out.push(char),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_become_markup() {
        let mut out = String::new();
        escape("<script>alert('x')</script> & \"y\"", &mut out);
        assert_eq!(out, "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;y&quot;");
    }
}
