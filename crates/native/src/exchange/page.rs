//! Bodies of our own answers with an error: the service's page or the configuration's, filled in with what the request
//! says. Chooses no status.

use std::borrow::Cow;
use std::mem::MaybeUninit;

use pointsman_table::{Config, Page, Piece, Placeholder, Service, host_name};
use pointsman_wire::{HeadLimits, HeaderSpace, MAX_HEADERS, RequestHead, parse_request};

use super::reach::{is_secure, path};
use crate::fault::Fault;
use crate::net::peer::Peer;

/// What is known of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Teller<'a> {
    /// `None`: it was malformed.
    pub(super) head: Option<&'a RequestHead<'a, 'a>>,
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
    of(fault, config, Teller { head: head.as_ref(), peer, service: Some(service) })
}

impl Teller<'_> {
    fn fill(&self, page: &Page) -> Box<str> {
        let mut text = String::with_capacity(page.body.len() + 64);
        for piece in page.text.pieces() {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Placeholder(placeholder) if page.is_html() => escape(&self.value(placeholder), &mut text),
                Piece::Placeholder(placeholder) => text.push_str(&self.value(placeholder)),
            }
        }
        text.into()
    }

    fn value(&self, placeholder: &Placeholder) -> Cow<'_, str> {
        let head = self.head;
        let target = head.map_or("", |head| &*head.target);
        match placeholder {
            Placeholder::ClientIp => self.peer.client.to_string().into(),
            Placeholder::ClientPort => self.peer.client_port().to_string().into(),
            Placeholder::Host => host_name(head.map_or("", |head| head.host)).into(),
            Placeholder::Port => self.port().into(),
            Placeholder::Scheme => if self.is_secure() { "https" } else { "http" }.into(),
            Placeholder::Method => head.map_or("", |head| head.method).into(),
            Placeholder::Path => path(target).into(),
            Placeholder::Query => target[path(target).len()..].into(),
            Placeholder::Uri => target.into(),
            Placeholder::Service => self.service.map_or("", |service| service.name.as_str()).into(),
            Placeholder::RequestId => self.header("x-request-id"),
            Placeholder::Header(name) => self.header(name),
            // No instance answered; versions of TLS are not kept; a page has no groups.
            Placeholder::Instance | Placeholder::TlsVersion | Placeholder::Capture(_) => "".into(),
        }
    }

    fn is_secure(&self) -> bool {
        self.head.map_or(self.peer.is_secure, |head| is_secure(head, self.peer))
    }

    /// Of the host, else the scheme's own.
    fn port(&self) -> &str {
        let host = self.head.map_or("", |head| head.host);
        let named = host.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.is_empty() && !port.ends_with(']'));
        named.unwrap_or(if self.is_secure() { "443" } else { "80" })
    }

    fn header(&self, name: &str) -> Cow<'_, str> {
        let mut headers = self.head.map(|head| head.headers).unwrap_or_default().iter();
        let found = headers.find(|header| header.name.eq_ignore_ascii_case(name));
        found.map_or("".into(), |header| String::from_utf8_lossy(header.value))
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
