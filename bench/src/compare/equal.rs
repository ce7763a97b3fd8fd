//! Whether a proxy does the same work as the others: the same bytes reach the client, and the request reaches the backend
//! whole. Lists the fields that it adds.

use std::io;

use crate::peers::{HOST, Peer};
use crate::responder::SMALL;
use crate::talk::Talk;

/// The fields of a request, but for the host.
const SENT: &[&str] = &["User-Agent: bench", "Accept: */*", "X-Request: kept"];
/// The fields of the backend's response.
const ANSWERED: &[&str] = &["Content-Type: text/plain", "Content-Length: 12"];

/// The names of fields that a proxy adds, in lower case.
pub(super) struct Added {
    /// To a request.
    pub(super) request: Vec<String>,
    /// To a response.
    pub(super) response: Vec<String>,
}

/// Checks both ways.
pub(super) fn check(peer: &Peer) -> io::Result<Added> {
    let mut talk = Talk::to(peer.address)?;
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{}\r\n\r\n", SENT.join("\r\n"));
    let seen = talk.answer(&request("/head"))?.body;
    let seen = String::from_utf8_lossy(&seen).trim_end().to_owned();
    let host = format!("Host: {HOST}");
    let added = beyond(&seen, "GET /head HTTP/1.1", &[&[host.as_str()], SENT].concat())?;
    let answer = talk.answer(&request("/"))?;
    if answer.body != [b'x'; SMALL] {
        return Err(io::Error::other(format!("another body: {:?}", String::from_utf8_lossy(&answer.body))));
    }
    Ok(Added { request: added, response: beyond(&answer.head, "HTTP/1.1 200 OK", ANSWERED)? })
}

/// The fields of a head beyond those expected, which must be there.
fn beyond(head: &str, line: &str, expected: &[&str]) -> io::Result<Vec<String>> {
    let mut lines = head.lines();
    if lines.next() != Some(line) {
        return Err(io::Error::other(format!("another first line: {head:?}")));
    }
    let mut fields: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
        .collect();
    for wanted in expected.iter().filter_map(|line| line.split_once(": ")) {
        let place = fields
            .iter()
            .position(|(name, value)| (name.as_str(), *value) == (&wanted.0.to_ascii_lowercase(), wanted.1));
        let place = place.ok_or_else(|| io::Error::other(format!("no `{}: {}` in {head:?}", wanted.0, wanted.1)))?;
        fields.remove(place);
    }
    let mut names: Vec<_> = fields.into_iter().map(|(name, _)| name).collect();
    names.sort();
    Ok(names)
}
