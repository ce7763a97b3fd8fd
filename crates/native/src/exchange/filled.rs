//! Texts with placeholders, filled in for one request. Pure. No control character gets into a result, whatever the client
//! sent.

use pointsman_table::{Piece, Placeholder, Text, host_name};
use pointsman_wire::{HeaderEdits, RequestHead};

use super::reach::path;
use crate::net::peer::Peer;

/// What a text can ask about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filling<'r> {
    /// `None`: it was malformed.
    pub(super) head: Option<&'r RequestHead<'r, 'r>>,
    pub(super) peer: &'r Peer,
    /// It came over HTTPS, to us or to a trusted proxy.
    pub(super) is_secure: bool,
    pub(super) service: &'r str,
    /// What `X-Request-Id` says.
    pub(super) request_id: &'r str,
    /// The groups of an expression, from the first.
    pub(super) groups: &'r [&'r str],
}

impl Filling<'_> {
    /// The value of a header. `{instance}` is left for [`HeaderEdits::for_instance`].
    pub(super) fn header(&self, text: &Text) -> Vec<u8> {
        let mut value = Vec::new();
        for piece in text.pieces() {
            match piece {
                Piece::Literal(text) => value.extend_from_slice(text.as_bytes()),
                Piece::Placeholder(Placeholder::Instance) => value.push(HeaderEdits::INSTANCE),
                Piece::Placeholder(placeholder) => {
                    self.fill(placeholder, |part| match part.iter().any(u8::is_ascii_control) {
                        true => value.extend(part.iter().filter(|byte| !byte.is_ascii_control())),
                        false => value.extend_from_slice(part),
                    });
                }
            }
        }
        value
    }

    /// A part of an address. Of what may be any text, only unreserved characters stay as they are (RFC 3986 §2.3).
    pub(super) fn address(&self, text: &Text) -> String {
        let mut address = String::new();
        for piece in text.pieces() {
            match piece {
                Piece::Literal(text) => address.push_str(text),
                Piece::Placeholder(
                    any
                    @ (Placeholder::Header(_) | Placeholder::Method | Placeholder::Service | Placeholder::RequestId),
                ) => self.fill(any, |part| encode(part, &mut address)),
                // `OPTIONS *` asks about the whole server.
                Piece::Placeholder(Placeholder::Path | Placeholder::Uri) if self.target() == "*" => address.push('/'),
                Piece::Placeholder(placeholder) => self.fill(placeholder, |part| {
                    address.extend(part.iter().filter(|byte| byte.is_ascii_graphic()).map(|byte| char::from(*byte)));
                }),
            }
        }
        address
    }

    /// The request's target; empty if it is not known.
    pub(super) fn target(&self) -> &str {
        self.head.map_or("", |head| &*head.target)
    }

    /// Its host as it was sent; empty if it is not known.
    pub(super) fn host(&self) -> &str {
        self.head.map_or("", |head| head.host)
    }

    /// The port that the client asked for: without one, the usual one of the scheme.
    pub(super) fn port(&self) -> u16 {
        let named = self.host().rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        named.unwrap_or(if self.is_secure { 443 } else { 80 })
    }

    /// `http` or `https`.
    pub(super) fn scheme(&self) -> &'static str {
        if self.is_secure { "https" } else { "http" }
    }

    /// Gives a placeholder's value to `put`.
    pub(super) fn fill(&self, placeholder: &Placeholder, put: impl FnOnce(&[u8])) {
        let (peer, target) = (self.peer, self.target());
        match placeholder {
            Placeholder::ClientIp => put(peer.client.to_string().as_bytes()),
            Placeholder::ClientPort => put(peer.client_port().to_string().as_bytes()),
            Placeholder::Host => put(host_name(self.host()).as_bytes()),
            Placeholder::Port => put(self.port().to_string().as_bytes()),
            Placeholder::Scheme => put(self.scheme().as_bytes()),
            Placeholder::Method => put(self.head.map_or("", |head| head.method).as_bytes()),
            Placeholder::Path => put(path(target).as_bytes()),
            Placeholder::Query => put(&target.as_bytes()[path(target).len()..]),
            Placeholder::Uri => put(target.as_bytes()),
            Placeholder::Service => put(self.service.as_bytes()),
            Placeholder::Instance => {}
            Placeholder::RequestId => put(self.request_id.as_bytes()),
            Placeholder::TlsVersion => put(peer.tls_version.as_bytes()),
            Placeholder::Header(name) => put(self.head.and_then(|head| head.header(name)).unwrap_or_default()),
            Placeholder::Capture(group) => {
                put(self.groups.get(usize::from(*group) - 1).copied().unwrap_or_default().as_bytes());
            }
        }
    }
}

/// Percent-encodes every byte that is not unreserved.
fn encode(part: &[u8], address: &mut String) {
    for byte in part {
        match byte {
            b'-' | b'.' | b'_' | b'~' => address.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => address.push(char::from(*byte)),
            byte => address.push_str(&format!("%{byte:02X}")),
        }
    }
}
