//! Local replies: error pages and the like, with their bodies. Does not choose the status.

use std::borrow::Cow;

use crate::edits::HeaderEdits;
use crate::head::{BodyLength, push_digits, push_framing, push_header};

/// A complete local reply: 204, or a status that has a body (not 1xx or 304).
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The status; 405 gets an `Allow` header.
    pub status: u16,
    /// The body: HTML if it begins with `<`, else plain text. `None`: a short page that names the status.
    pub body: Option<&'a str>,
    /// Where to look instead: the `Location` of a redirect.
    pub location: Option<&'a str>,
    /// After how many seconds the client may come again: `Retry-After` (RFC 9110 §10.2.3).
    pub retry_after: Option<u32>,
    /// Further headers.
    pub more: &'a [(&'static str, Box<str>)],
    /// Whether the client's connection stays open afterwards.
    pub keep_alive: bool,
    /// Whether it answers a HEAD request: the same headers as for GET, no body.
    pub head_request: bool,
    /// What the service changes in its headers.
    pub edits: Option<&'a HeaderEdits>,
}

/// The page around the status, its reason phrase and its explanation.
const PAGE: [&str; 4] = ["<!doctype html>\n<title>", "</title>\n<h1>", "</h1>\n<p>", "</p>\n"];

/// CONNECT is the only method refused, so all others are allowed (RFC 9110 §10.2.1 requires the header with 405).
const ALLOW: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

impl Answer<'_> {
    /// Appends the head and the body.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.write_head(out);
        self.write_body(out);
    }

    /// Appends the body, if the request asked for one.
    pub fn write_body(&self, out: &mut Vec<u8>) {
        match self.body {
            _ if self.head_request || self.is_bodiless() => {}
            Some(body) => out.extend_from_slice(body.as_bytes()),
            None => self.page(|text| out.extend_from_slice(text.as_bytes())),
        }
    }

    /// The headers, framing and connection headers aside.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, Cow<'_, str>)> {
        let kind = (!self.is_bodiless()).then(|| ("Content-Type", self.content_type().into()));
        let known = [("Cache-Control", "no-cache".into())];
        let allow = (self.status == 405).then_some(("Allow", ALLOW.into()));
        let location = self.location.map(|location| ("Location", location.into()));
        let retry_after = self.retry_after.map(|seconds| ("Retry-After", seconds.to_string().into()));
        let more = self.more.iter().map(|(name, value)| (*name, (&**value).into()));
        kind.into_iter().chain(known).chain(allow).chain(location).chain(retry_after).chain(more)
    }

    /// Length of the body, bytes; `None`: it has none, whatever the request (RFC 9110 §8.6).
    pub fn length(&self) -> Option<u64> {
        (!self.is_bodiless()).then(|| self.body_length() as u64)
    }

    fn is_bodiless(&self) -> bool {
        self.status == 204
    }

    fn write_head(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 ");
        push_digits(out, self.status.into(), 10);
        out.push(b' ');
        out.extend_from_slice(reason(self.status).as_bytes());
        out.extend_from_slice(b"\r\n");
        let stays = |name: &str| self.edits.is_none_or(|edits| !edits.leaves_out_name(name.as_bytes()));
        self.fields()
            .filter(|(name, _)| stays(name))
            .for_each(|(name, value)| push_header(out, name, value.as_bytes()));
        if let Some(edits) = self.edits {
            out.extend_from_slice(edits.lines());
        }
        push_framing(out, self.length().map_or(BodyLength::None, BodyLength::Length));
        // HTTP/1.0 clients need this header, and it does not harm others.
        push_header(out, "Connection", if self.keep_alive { b"keep-alive" } else { b"close" });
        out.extend_from_slice(b"\r\n");
    }

    fn content_type(&self) -> &'static str {
        match self.body {
            Some(body) if !body.trim_start().starts_with('<') => "text/plain; charset=utf-8",
            _ => "text/html; charset=utf-8",
        }
    }

    fn body_length(&self) -> usize {
        let mut bytes = 0;
        match self.body {
            Some(body) => bytes = body.len(),
            None => self.page(|text| bytes += text.len()),
        }
        bytes
    }

    /// Passes each part of the status page to `part`.
    fn page(&self, part: impl FnMut(&'static str)) {
        let reason = reason(self.status);
        let parts = [PAGE[0], reason, PAGE[1], reason, PAGE[2], explanation(self.status), PAGE[3]];
        parts.into_iter().for_each(part);
    }
}

/// The reason phrase of a status (RFC 9110 §15, RFC 6585, RFC 5842 §7.2); for an unlisted status, the phrase of its
/// class.
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        508 => "Loop Detected",
        // RFC 9110 §15: an unknown status means the same as the x00 of its class.
        _ => match status / 100 {
            1 => "Continue",
            2 => "OK",
            3 => "Multiple Choices",
            4 => "Bad Request",
            _ => "Internal Server Error",
        },
    }
}

fn explanation(status: u16) -> &'static str {
    match status {
        421 => "This connection was made for another name. Connect again to this one.",
        408 => "The request did not arrive in time.",
        502 => "The server behind this address gave no valid response.",
        503 => "No server is available to handle this request.",
        504 => "The server behind this address did not respond in time.",
        508 => "The request goes in circles: it has passed too many proxies.",
        300..=399 => "What was asked for is at another address.",
        400..=499 => "This request cannot be handled.",
        500..=599 => "The request could not be handled.",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HeadLimits, MAX_HEADERS, parse_response};
    use std::mem::MaybeUninit;

    const STATUSES: [u16; 19] =
        [200, 400, 403, 404, 405, 408, 413, 414, 417, 421, 429, 431, 500, 501, 502, 503, 504, 505, 508];

    #[test]
    fn the_time_to_try_again_is_in_whole_seconds() {
        let answer = |retry_after| Answer {
            more: &[],
            status: 503,
            body: None,
            location: None,
            retry_after,
            keep_alive: true,
            head_request: false,
            edits: None,
        };
        let mut out = Vec::new();
        answer(Some(120)).write(&mut out);
        assert!(String::from_utf8_lossy(&out).contains("\r\nRetry-After: 120\r\n"));
        assert!(answer(None).fields().all(|(name, _)| name != "Retry-After"));
    }

    fn check(answer: &Answer<'_>, content_type: &str) {
        let mut out = Vec::new();
        answer.write(&mut out);
        let mut space = [MaybeUninit::uninit(); MAX_HEADERS];
        let limits = HeadLimits { bytes: 4096, headers: 16 };
        let head = parse_response(&out, answer.head_request, limits, &mut space).unwrap().unwrap();
        let body = (out.len() - head.len) as u64;
        let expected = if answer.head_request { BodyLength::None } else { BodyLength::Length(body) };
        assert_eq!(head.body, expected, "{answer:?}");
        assert_eq!((head.status, head.keep_alive), (answer.status, answer.keep_alive));
        let sent = head.headers.iter().find(|header| header.name == "Content-Type").unwrap();
        assert!(sent.value.starts_with(content_type.as_bytes()), "{answer:?}");
        assert_eq!(head.headers.iter().any(|header| header.name == "Allow"), answer.status == 405);
        let has = |name: &str, value: &[u8]| head.headers.iter().any(|h| h.name == name && h.value == value);
        assert!(has("Retry-After", b"60") && has("X-More", b"yes"), "{answer:?}");
    }

    #[test]
    fn every_answer_parses_as_written() {
        for status in STATUSES {
            for (keep_alive, head_request) in [(false, false), (true, false), (false, true), (true, true)] {
                let more = [("X-More", "yes".into())];
                let answer = |body| Answer {
                    status,
                    body,
                    location: None,
                    retry_after: Some(60),
                    more: &more,
                    keep_alive,
                    head_request,
                    edits: None,
                };
                check(&answer(None), "text/html");
                check(&answer(Some("<p>moved</p>")), "text/html");
                check(&answer(Some("busy, try later\n")), "text/plain");
                check(&answer(Some("")), "text/plain");
            }
        }
    }
}
