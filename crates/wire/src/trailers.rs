//! Trailer sections: parsed like a head's headers, limited, filtered (RFC 9110 §6.5, RFC 9112 §7.1.2). Never merges
//! them into the headers.

use httparse::Status;

use crate::fields::{Field, classify, folds_into};
use crate::head::{Header, check_line_ends, push_header};
use crate::refusal::BadBody;

/// A parsed trailer section. Reading it skips the fields that must not be trailers (RFC 9110 §6.5.1).
#[derive(Clone, Copy, Debug, Default)]
pub struct Trailers<'b> {
    /// Complete valid lines, including forbidden fields.
    pub(crate) lines: &'b [u8],
}

/// The maximum number of trailer lines.
const MAX_TRAILERS: usize = 64;

impl<'b> Trailers<'b> {
    /// The section and its length, final empty line included; `None` if more bytes are needed.
    pub(crate) fn parse(input: &'b [u8]) -> Result<Option<(Self, usize)>, BadBody> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_TRAILERS];
        let status = httparse::parse_headers(input, &mut headers).map_err(diagnose)?;
        let len = match status {
            Status::Complete((len, _)) => len,
            Status::Partial => input.len(),
        };
        check_line_ends(&input[..len]).map_err(|_| BadBody::Trailers)?;
        let lines = &input[..len.saturating_sub(2)];
        Ok(status.is_complete().then_some((Trailers { lines }, len)))
    }

    /// A section of whole lines, written by [`Trailers::push`].
    pub fn of(lines: &'b [u8]) -> Self {
        Trailers { lines }
    }

    /// Appends a field to a section, from a decoder that ensures that name and value are valid (HTTP/2).
    pub fn push(name: &str, value: &[u8], lines: &mut Vec<u8>) {
        push_header(lines, name, value);
    }

    /// Whether no field may be forwarded.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// The fields that may be forwarded, in order, with names as received.
    pub fn iter(&self) -> impl Iterator<Item = (&'b str, &'b [u8])> + use<'b> {
        let lines = self.lines.split(|&byte| byte == b'\n').filter_map(parse_line);
        lines.map(|line| (line.name, line.value)).filter(|(name, _)| !is_forbidden(name))
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for (name, value) in self.iter() {
            push_header(out, name, value);
        }
    }
}

fn diagnose(error: httparse::Error) -> BadBody {
    match error {
        httparse::Error::TooManyHeaders => BadBody::TooManyTrailers,
        _ => BadBody::Trailers,
    }
}

/// Splits a line that httparse accepted.
fn parse_line(line: &[u8]) -> Option<Header<'_>> {
    let colon = memchr::memchr(b':', line)?;
    let name = str::from_utf8(&line[..colon]).ok()?;
    Some(Header { name, value: line[colon + 1..].trim_ascii() })
}

/// Fields for framing, routing, authentication, or the interpretation of the content or response (RFC 9110 §6.5.1).
const FORBIDDEN: [&str; 30] = [
    "age",
    "authorization",
    "cache-control",
    "clear-site-data",
    "cookie",
    "date",
    "early-data",
    "expires",
    "forwarded",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "range",
    "referer",
    "refresh",
    "retry-after",
    "set-cookie",
    "status",
    "strict-transport-security",
    "trailer",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "x-frame-options",
    "x-http-method-override",
    "x-real-ip",
    "x-request-id",
];

const FORBIDDEN_PREFIXES: [&str; 7] =
    ["accept-", "access-control-", "content-", "if-", "proxy-", "sec-", "x-forwarded-"];

fn is_forbidden(name: &str) -> bool {
    let begins = |prefix: &&str| name.get(..prefix.len()).is_some_and(|start| folds_into(start, prefix));
    classify(name) != Field::Other
        || FORBIDDEN.iter().any(|known| folds_into(name, known))
        || FORBIDDEN_PREFIXES.iter().any(begins)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_fields_pass() {
        let good = ["grpc-status", "Digest", "Server-Timing", "X-Checksum", "ETag"];
        let bad = [
            "Content-Length",
            "content_length",
            "Transfer-Encoding",
            "Host",
            "Connection",
            "Keep-Alive",
            "TE",
            "Trailer",
            "Upgrade",
            "Cookie",
            "Set_Cookie",
            "Authorization",
            "Proxy-Authorization",
            "X-Forwarded-Host",
            "X_Forwarded_For",
            "Content-Type",
            "If-Match",
            "Expect",
        ];
        for (names, forbidden) in [(&good[..], false), (&bad[..], true)] {
            for name in names {
                assert_eq!(is_forbidden(name), forbidden, "{name}");
            }
        }
    }

    #[test]
    fn a_section_without_fields_that_may_pass_is_empty() {
        let (trailers, len) = Trailers::parse(b"Host: a\r\n\r\nGET").unwrap().unwrap();
        assert!(trailers.is_empty());
        assert_eq!(len, 11);
    }
}
