//! Questions about requests: the head that asks another server whether a request may go on. Judges no answer.

use std::borrow::Cow;

use crate::fields::{Positions, Told, look_alikes};
use crate::forwarded::Trust;
use crate::head::{BodyLength, add_header};
use crate::request::{Forward, RequestHead};

/// What the question says itself. Told by a client, it would let the request in as another.
const METHOD: &str = "X-Forwarded-Method";
const URI: &str = "X-Forwarded-Uri";
const HOST: &str = "X-Forwarded-Host";
/// Headers that would make the answer another one than about the request: none, a part, or an open WebSocket.
const MISLEADING: [&str; 7] =
    ["If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range", "Range", "Sec-WebSocket-Key"];

impl RequestHead<'_, '_> {
    /// Writes a GET without a body for this path and host, with the request's headers, and tells the request's method,
    /// scheme, host, target and client in `X-Forwarded-*`, as Traefik's `ForwardAuth` does. Of a client's own such headers only
    /// those of a trusted proxy count. `client` of `forward` is the only address that is told: many servers take the first of a
    /// list, which the client chooses.
    pub fn write_question(&self, forward: &Forward<'_>, path: &str, host: Option<&str>, out: &mut Vec<u8>) {
        let trust = if forward.trust == Trust::Full { Trust::Full } else { Trust::Nothing };
        let is_told = trust == Trust::Full && self.header(HOST).is_some();
        let question = RequestHead {
            len: self.len,
            method: "GET",
            target: Cow::Borrowed(path),
            host: host.unwrap_or(self.host),
            version: self.version,
            headers: self.headers,
            body: BodyLength::None,
            keep_alive: true,
            expect_continue: false,
            upgrade: None,
            hops: self.hops,
            logs_connection_in: false,
            lacks_websocket_key: false,
            has_crumbs: self.has_crumbs,
            left_out: self.left_out_of_question(is_told),
            forwarded_for: false,
            told: Told { forwarded: false, ..self.told },
        };
        question.write(&Forward { strip: 0, trust, cookie: None, ..*forward }, out);
        add_header(out, METHOD, self.method.as_bytes());
        add_header(out, URI, self.target.as_bytes());
        if !is_told {
            add_header(out, HOST, self.host.as_bytes());
        }
    }

    fn left_out_of_question(&self, keeps_host: bool) -> Positions {
        let mut left_out = self.left_out;
        for (position, header) in self.headers.iter().enumerate() {
            let named = |name: &&str| look_alikes(header.name, name);
            let is_ours = [METHOD, URI].iter().any(named) || (!keeps_host && named(&HOST));
            if is_ours || MISLEADING.iter().any(named) {
                left_out.insert(position);
            }
        }
        left_out
    }
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;

    use super::*;
    use crate::forwarded::Arrived;
    use crate::head::{HeadLimits, MAX_HEADERS};
    use crate::request::parse_request;

    #[track_caller]
    fn check(trust: Trust, request: &str, expected: &str) {
        let mut space = [MaybeUninit::uninit(); MAX_HEADERS];
        let limits = HeadLimits { bytes: 4096, headers: 32 };
        let head = parse_request(request.as_bytes(), limits, &mut space).unwrap().unwrap();
        let arrived = Arrived::new("https", 443);
        let forward = Forward {
            strip: 2,
            client: "192.0.2.1",
            arrived: &arrived,
            trust,
            websocket_key: String::new,
            cookie: Some(b"x=y"),
        };
        let mut out = Vec::new();
        head.write_question(&forward, "/verify?x", Some("auth.test"), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected.replace('\n', "\r\n"));
    }

    #[test]
    fn a_question_tells_of_the_request() {
        let request = "POST /a/b?c HTTP/1.1\r\nHost: a.test\r\nCookie: s=1\r\nX-Forwarded-Method: GET\r\nx_forwarded_uri: /open\r\n\
            X-Forwarded-Host: b.test\r\nX-Forwarded-Proto: http\r\nIf-None-Match: *\r\nExpect: 100-continue\r\n\
            If.Range: x\r\nX-Forwarded-For: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\n\
            Content-Length: 5\r\nConnection: X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\n\r\n";
        check(
            Trust::Passing,
            request,
            "GET /verify?x HTTP/1.1\nHost: auth.test\nCookie: s=1\nX-Forwarded-For: 192.0.2.1\nX-Forwarded-Proto: https\n\
             X-Forwarded-Port: 443\nCDN-Loop: pointsman\nX-Forwarded-Method: POST\nX-Forwarded-Uri: /a/b?c\nX-Forwarded-Host: a.test\n\n",
        );
        check(
            Trust::Full,
            request,
            "GET /verify?x HTTP/1.1\nHost: auth.test\nCookie: s=1\nX-Forwarded-Host: b.test\nX-Forwarded-Proto: http\n\
             X-Forwarded-For: 192.0.2.1\nCDN-Loop: pointsman\nX-Forwarded-Method: POST\nX-Forwarded-Uri: /a/b?c\n\n",
        );
    }

    #[test]
    fn a_websocket_is_asked_about_as_a_request() {
        check(
            Trust::Nothing,
            "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n",
            "GET /verify?x HTTP/1.1\nHost: auth.test\nX-Forwarded-For: 192.0.2.1\nX-Forwarded-Proto: https\n\
             X-Forwarded-Port: 443\nCDN-Loop: pointsman\nX-Forwarded-Method: GET\nX-Forwarded-Uri: /ws\nX-Forwarded-Host: a.test\n\n",
        );
    }
}
