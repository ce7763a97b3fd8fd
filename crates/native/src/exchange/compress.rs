//! Compression of answers: which are compressed, what that changes in their heads, and their bodies on the way from the
//! framing of the instance into a coding and the framing of the client. Reads and sends nothing.

use std::io;
use std::rc::Rc;

use pointsman_engine::live::Compressed;
use pointsman_wire::{
    BadBody, BodyLength, BodyReader, HeaderEdits, RequestHead, ResponseHead, Step, Trailers, Version, quoted_list,
    tag_list,
};

use super::sides::{Sink, Source};
use crate::coding::Coding;
use crate::coding::accepted::Accepted;
use crate::coding::encoder::{Encoder, Follows};
use crate::http1::body::Moved;
use crate::http2::recv::Recv;
use crate::net::buffer::Input;
use crate::pool::view::ServiceLive;
use crate::worker::{Compressing, Worker};

/// Shorter bodies would hardly get shorter, bytes: they fit a packet as they are.
const LEAST: u64 = 1_024;
/// How many bytes of a body are compressed before others get their turn: a fraction of a millisecond.
const STEP: usize = 16 * 1024;
/// How many compressed bytes are collected before they are sent on.
const ENOUGH: usize = 16 * 1024;
/// What tells a digest of the bytes as the instance sent them (RFC 9530, RFC 3230, RFC 1864).
const DIGESTS: [&str; 4] = ["content-digest", "repr-digest", "digest", "content-md5"];

/// What is known of a request whose answer may be compressed.
#[derive(Debug)]
pub(super) struct Negotiated {
    /// The service that it reached.
    live: Rc<ServiceLive>,
    accepted: Accepted,
}

impl Negotiated {
    /// Reads a request's head. `None`: the service compresses nothing.
    pub(super) fn of(live: &Rc<ServiceLive>, head: &RequestHead<'_, '_>) -> Option<Box<Self>> {
        live.service.policy.as_ref()?.compress.as_ref()?;
        let all = |name: &'static str| {
            let named = head.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
            named.map(|header| header.value)
        };
        let mut accepted = Accepted::of(all("accept-encoding"));
        // A range is one of the bytes that the instance has. HTTP/1.0 has no chunks, which end a body visibly.
        let is_plain = head.version == Version::Http10
            || head.upgrade.is_some()
            || head.header("range").is_some()
            || has_item(all("cache-control"), "no-transform");
        if is_plain {
            accepted = Accepted::default();
        }
        Some(Box::new(Self { live: Rc::clone(live), accepted }))
    }

    /// The coding for an answer, and the changes to its head. `edits`: what is changed in it besides; `asked`: the values of
    /// the request's `If-None-Match`.
    pub(super) fn judge<'q>(
        &self,
        head: &ResponseHead<'_, '_>,
        edits: &mut HeaderEdits,
        asked: impl Iterator<Item = &'q [u8]>,
        worker: &Worker,
    ) -> Option<Coding> {
        let answer = AnswerHead { head, edits };
        let is_covered = |kind: &[u8]| str::from_utf8(kind).is_ok_and(|kind| self.covers(kind));
        let kind = answer.values("content-type").next().map(is_covered);
        if kind == Some(false) || matches!(head.status, 0..=199 | 204) || answer.is_final() {
            return None;
        }
        if head.status == 304 {
            answer.not_modified(asked).into_iter().for_each(|tag| edits.replace("ETag", &tag));
            vary(head, edits);
            return None;
        }
        let (length, accepted) = (head.length(head.body), self.accepted);
        if kind.is_none() || length == Some(0) {
            return None;
        }
        if length.is_some_and(|length| length < LEAST) && !accepted.refuses_plain {
            // A client that takes nothing else gets it compressed.
            vary(head, edits);
            return None;
        }
        let is_range = head.status == 206 || answer.values("content-range").next().is_some();
        let coding = accepted.coding.filter(|_| !is_range);
        let coding = coding.filter(|_| head.body == BodyLength::None || self.has_room(worker));
        if let Some(coding) = coding {
            coded(coding, head, edits);
        }
        vary(head, edits);
        coding
    }

    fn covers(&self, kind: &str) -> bool {
        let policy = self.live.service.policy.as_deref();
        policy.and_then(|policy| policy.compress.as_ref()).is_some_and(|compress| compress.covers(kind))
    }

    /// Whether one more body may be compressed. Counts those that may not.
    fn has_room(&self, worker: &Worker) -> bool {
        let has_room = worker.may_compress();
        if !has_room {
            self.live.compressed().passed.add(1);
        }
        has_room
    }
}

/// A head with the changes that the service asks for.
struct AnswerHead<'h> {
    head: &'h ResponseHead<'h, 'h>,
    edits: &'h HeaderEdits,
}

impl AnswerHead<'_> {
    /// The values of a header.
    fn values<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s [u8]> {
        let is = move |other: &str| other.eq_ignore_ascii_case(name);
        let stays = !self.edits.names().any(is);
        let own = self.head.fields().filter(move |header| stays && is(header.name)).map(|header| header.value);
        own.chain(self.edits.fields().filter(move |(other, _)| is(other)).map(|(_, value)| value))
    }

    /// Whether its body must stay as it is: it has a coding, somebody forbids changes, or a digest would be wrong.
    fn is_final(&self) -> bool {
        let has = |name: &str| self.values(name).next().is_some();
        has("content-encoding")
            || has_item(self.values("cache-control"), "no-transform")
            || DIGESTS.into_iter().any(has)
    }

    /// The weak form of the tag in an answer to a client that has it in that form only, which it got with a compressed
    /// answer: a strong one would not match what it keeps (RFC 9111 §4.3.4).
    fn not_modified<'q>(&self, asked: impl Iterator<Item = &'q [u8]>) -> Option<Vec<u8>> {
        let tag = self.values("etag").next()?.to_vec();
        let weak = weakened(&tag).filter(|weak| *weak != tag)?;
        let (mut has_weak, mut has_strong) = (false, false);
        for item in asked.flat_map(tag_list) {
            has_weak |= item == weak;
            has_strong |= item == tag;
        }
        (has_weak && !has_strong).then_some(weak)
    }
}

fn has_item<'v>(values: impl Iterator<Item = &'v [u8]>, name: &str) -> bool {
    values.flat_map(quoted_list).any(|item| item.eq_ignore_ascii_case(name.as_bytes()))
}

/// Changes the head of an answer that is compressed.
fn coded(coding: Coding, head: &ResponseHead<'_, '_>, edits: &mut HeaderEdits) {
    let answer = AnswerHead { head, edits };
    let tag = answer.values("etag").next().map(weakened);
    match tag {
        Some(Some(weak)) => edits.replace("ETag", &weak),
        Some(None) => edits.remove("ETag"),
        None => {}
    }
    edits.remove("Accept-Ranges");
    edits.replace("Content-Encoding", coding.name().as_bytes());
}

/// Tells caches that the answer depends on the codings that a client accepts.
fn vary(head: &ResponseHead<'_, '_>, edits: &mut HeaderEdits) {
    let answer = AnswerHead { head, edits };
    let is_told = ["*", "accept-encoding"].into_iter().any(|name| has_item(answer.values("vary"), name));
    if !is_told {
        edits.add("Vary", b"Accept-Encoding");
    }
}

/// The weak form of an entity tag (RFC 9110 §8.8.3). `None`: it is no tag.
fn weakened(tag: &[u8]) -> Option<Vec<u8>> {
    match tag {
        [b'W', b'/', b'"', .., b'"'] => Some(tag.to_vec()),
        [b'"', .., b'"'] => Some([b"W/", tag].concat()),
        _ => None,
    }
}

/// A body that is compressed. Holds one encoder, and few bytes besides.
#[derive(Debug)]
pub(super) struct Squeeze<'a> {
    encoder: Encoder,
    /// What came out of it and is not in the sink.
    made: Vec<u8>,
    /// Bytes may be in the encoder.
    holds: bool,
    counters: &'a Compressed,
    _place: Compressing,
}

/// Why a body cannot go on: its framing is malformed, or the encoder failed.
#[derive(Debug)]
pub(super) struct Stuck;

impl From<BadBody> for Stuck {
    fn from(_: BadBody) -> Self {
        Self
    }
}

impl From<io::Error> for Stuck {
    fn from(_: io::Error) -> Self {
        Self
    }
}

impl<'a> Squeeze<'a> {
    /// For a body of this length, if it is known.
    pub(super) fn new(
        (coding, length): (Coding, Option<u64>),
        counters: &'a Compressed,
        place: Compressing,
    ) -> Result<Self, Stuck> {
        Ok(Self { encoder: Encoder::new(coding, length)?, made: Vec::new(), holds: false, counters, _place: place })
    }

    /// Takes a bounded part of what has come. At the end of the body, the end of the coded body is in the sink.
    pub(super) fn pump(&mut self, source: &mut Source<'_>, sink: &mut Sink<'_>) -> Result<Moved, Stuck> {
        match source {
            Source::Http1 { input, body, .. } => self.pump_input(body, input, sink),
            Source::Http2(recv) => self.pump_stream(recv, sink),
        }
    }

    fn pump_input(&mut self, reader: &mut BodyReader, input: &mut Input, sink: &mut Sink<'_>) -> Result<Moved, Stuck> {
        let mut room = STEP;
        // Framing may need to be seen whole.
        let mut is_cut = true;
        while room > 0 {
            let unread = input.unread();
            let window = if is_cut { &unread[..unread.len().min(room)] } else { unread };
            is_cut = window.len() < unread.len();
            let (used, moved) = match reader.step(window)? {
                Step::Data { bytes, used } => {
                    room = room.saturating_sub(bytes.len());
                    self.take(bytes)?;
                    is_cut = true;
                    (used, None)
                }
                Step::More { used } if is_cut => {
                    is_cut = false;
                    (used, None)
                }
                Step::More { used } => (used, Some(Moved::More)),
                Step::End { used, trailers } => {
                    self.end(sink, &trailers)?;
                    (used, Some(Moved::Done))
                }
            };
            input.consume(used);
            if let Some(moved) = moved {
                return Ok(moved);
            }
        }
        Ok(Moved::Full)
    }

    fn pump_stream(&mut self, recv: &mut Recv, sink: &mut Sink<'_>) -> Result<Moved, Stuck> {
        self.take(&recv.take(STEP))?;
        // They are held here, where there is a bound.
        recv.passed_on();
        match () {
            () if recv.is_done() => {
                self.end(sink, &recv.trailers())?;
                Ok(Moved::Done)
            }
            () if recv.has_unread() => Ok(Moved::Full),
            () => Ok(Moved::More),
        }
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.holds = true;
        self.counters.before.add(bytes.len() as u64);
        self.encoder.step(bytes, Follows::More, &mut self.made)
    }

    /// Whether so much has come out that it is worth to be sent.
    pub(super) fn has_enough(&self) -> bool {
        self.made.len() >= ENOUGH
    }

    /// The instance pauses: all that it sent goes into the sink.
    pub(super) fn pause(&mut self, sink: &mut Sink<'_>) -> Result<(), Stuck> {
        if std::mem::take(&mut self.holds) {
            self.encoder.step(&[], Follows::Pause, &mut self.made)?;
        }
        self.pass(sink);
        // A pause may be long.
        self.made = Vec::new();
        Ok(())
    }

    /// The body ends.
    pub(super) fn end(&mut self, sink: &mut Sink<'_>, trailers: &Trailers<'_>) -> Result<(), Stuck> {
        self.encoder.step(&[], Follows::End, &mut self.made)?;
        self.pass(sink);
        sink.end_body(trailers);
        Ok(())
    }

    /// Puts into the sink what has come out.
    pub(super) fn pass(&mut self, sink: &mut Sink<'_>) {
        self.counters.after.add(self.made.len() as u64);
        sink.append(&self.made);
        self.made.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_become_weak() {
        for (tag, weak) in
            [("\"a\"", "W/\"a\""), ("W/\"a\"", "W/\"a\""), ("a", ""), ("\"a", ""), ("", ""), ("w/\"a\"", "")]
        {
            assert_eq!(weakened(tag.as_bytes()).unwrap_or_default(), weak.as_bytes(), "{tag}");
        }
    }
}
