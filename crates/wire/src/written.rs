//! A request head that [`RequestHead::write`](crate::RequestHead::write) wrote, read back for an instance that speaks
//! HTTP/2. Judges nothing: it was judged before it was written.

use crate::fields::{Field, classify};

/// The nonce of a handshake over HTTP/1 (RFC 6455 §4.1).
const WEBSOCKET_KEY: &str = "sec-websocket-key";

/// A head as it was written for HTTP/1.1, taken apart.
#[derive(Clone, Copy, Debug)]
pub struct WrittenRequest<'b> {
    /// The method.
    pub method: &'b str,
    /// Path and query, or `*`.
    pub target: &'b str,
    /// The host, perhaps with a port; may be empty.
    pub host: &'b str,
    /// The header lines after `Host`.
    lines: &'b [u8],
}

impl<'b> WrittenRequest<'b> {
    /// Takes a head apart. `None`: it is not one that was written here.
    pub fn of(head: &'b [u8]) -> Option<Self> {
        let (request, lines) = next_line(head)?;
        let (host, lines) = next_line(lines)?;
        let mut words = str::from_utf8(request).ok()?.splitn(3, ' ');
        let (method, target) = (words.next()?, words.next()?);
        let host = str::from_utf8(host.strip_prefix(b"Host: ")?).ok()?;
        Some(Self { method, target, host, lines })
    }

    /// The key of a WebSocket, which HTTP/2 does not need (RFC 8441 §5).
    pub fn websocket_key(&self) -> Option<&'b [u8]> {
        self.fields().find(|(name, _)| name.eq_ignore_ascii_case(WEBSOCKET_KEY)).map(|(_, value)| value)
    }

    /// The fields of an extended CONNECT that asks for the same WebSocket (RFC 8441 §5): it has no key, and no length.
    pub fn websocket_fields(&self) -> impl Iterator<Item = (&'b str, &'b [u8])> + use<'b> {
        self.fields().filter(|(name, _)| {
            !name.eq_ignore_ascii_case(WEBSOCKET_KEY) && !matches!(classify(name), Field::ContentLength)
        })
    }

    /// The fields that a message of HTTP/2 may have: none of those about a connection or about framing by chunks (RFC
    /// 9113 §8.2.2). `Content-Length` stays.
    pub fn fields(&self) -> impl Iterator<Item = (&'b str, &'b [u8])> + use<'b> {
        let mut rest = self.lines;
        let lines = std::iter::from_fn(move || {
            let (line, others) = next_line(rest)?;
            rest = others;
            let colon = memchr::memchr(b':', line)?;
            Some((str::from_utf8(&line[..colon]).ok()?, line[colon + 1..].trim_ascii()))
        });
        lines.filter(|(name, _)| {
            !matches!(
                classify(name),
                Field::Connection | Field::Upgrade | Field::TransferEncoding | Field::HopByHop | Field::Host
            )
        })
    }
}

/// A line without its end, and what follows.
fn next_line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memmem::find(text, b"\r\n")?;
    Some((&text[..end], &text[end + 2..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_a_connection_is_left_out() {
        let head = b"POST /a?b=c HTTP/1.1\r\nHost: shop.test:80\r\nAccept: a:b\r\nX-Empty: \r\nX-Latin: caf\xe9\r\n\
            Expect: 100-continue\r\nTransfer-Encoding: chunked\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nA: b\r\n";
        let written = WrittenRequest::of(head).unwrap();
        assert_eq!((written.method, written.target, written.host), ("POST", "/a?b=c", "shop.test:80"));
        let fields: Vec<_> = written.fields().collect();
        let expected: [(&str, &[u8]); 4] =
            [("Accept", b"a:b"), ("X-Empty", b""), ("X-Latin", b"caf\xe9"), ("Expect", b"100-continue")];
        assert_eq!(fields, expected);
    }

    #[test]
    fn a_websocket_leaves_its_key_behind() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\nSEC-WebSocket-Key: k==\r\nSec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\
            Connection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        let written = WrittenRequest::of(head).unwrap();
        assert_eq!(written.websocket_key(), Some(&b"k=="[..]));
        let fields: Vec<_> = written.websocket_fields().collect();
        assert_eq!(fields, [("Sec-WebSocket-Version", &b"13"[..])]);
    }

    #[test]
    fn other_texts_are_no_heads() {
        for text in ["", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nAccept: a\r\n\r\n", "GET\r\nHost: a\r\n\r\n"] {
            assert!(WrittenRequest::of(text.as_bytes()).is_none(), "{text:?}");
        }
    }
}
