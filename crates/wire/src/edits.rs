//! Changes to the heads of requests and responses that a service asks for, beyond those of any proxy. Made once, or once a
//! request; a head without any pays nothing. Decides nothing.

use std::borrow::Cow;

use crate::head::{Header, push_header};
use crate::target::Authority;

/// Stands for the name of the instance in values. No value holds a control character otherwise.
const INSTANCE: u8 = 0;

/// Bytes that most changes need.
const ROOM: usize = 128;

/// Headers that are left out, and lines that are added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// The names of headers, each behind its length in two bytes: one piece of memory for all.
    left_out: Vec<u8>,
    lines: Vec<u8>,
}

impl HeaderEdits {
    /// In a value: the name of the instance, which [`Self::for_instance`] fills in.
    pub const INSTANCE: u8 = INSTANCE;

    /// Replaces every header of this name. Both are written as they are: neither holds a control character.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.replace(name, value.as_bytes());
        self
    }

    /// Replaces every header of this name, also those added before.
    pub fn replace(&mut self, name: &str, value: &[u8]) {
        self.remove(name);
        self.add(name, value);
    }

    /// Leaves out every header of this name, also those added before.
    pub fn remove(&mut self, name: &str) {
        self.leave_out(name);
        if lines(&self.lines).any(|line| has_name(line, name)) {
            self.lines = lines(&self.lines).filter(|line| !has_name(line, name)).collect::<Vec<_>>().concat();
        }
    }

    /// Leaves out every header of this name.
    pub fn leave_out(&mut self, name: &str) {
        let Ok(length) = u16::try_from(name.len()) else { return };
        if self.left_out.capacity() == 0 {
            self.left_out.reserve(ROOM);
        }
        self.left_out.extend_from_slice(&length.to_ne_bytes());
        self.left_out.extend_from_slice(name.as_bytes());
    }

    /// Adds a header to those of the instance. Neither name nor value holds a control character.
    pub fn add(&mut self, name: &str, value: &[u8]) {
        if self.lines.capacity() == 0 {
            self.lines.reserve(ROOM);
        }
        push_header(&mut self.lines, name, value);
    }

    /// Takes out the headers of this name that are added; returns the value of the last.
    pub fn take(&mut self, name: &str) -> Option<Box<[u8]>> {
        let value = lines(&self.lines).filter_map(|line| value_of(line, name)).last()?.trim_ascii().into();
        self.remove(name);
        Some(value)
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.left_out.is_empty() && self.lines.is_empty()
    }

    /// Fills in the name of the instance; empty: there is none.
    pub fn fill_instance(&mut self, name: &str) {
        if let Cow::Owned(filled) = self.for_instance(name) {
            *self = filled;
        }
    }

    /// The same with the name of the instance filled in; empty: there is none.
    pub fn for_instance(&self, name: &str) -> Cow<'_, Self> {
        if !self.lines.contains(&INSTANCE) {
            return Cow::Borrowed(self);
        }
        let lines: Vec<&[u8]> = self.lines.split(|byte| *byte == INSTANCE).collect();
        Cow::Owned(Self { left_out: self.left_out.clone(), lines: lines.join(name.as_bytes()) })
    }

    /// Whether this header is left out.
    pub(crate) fn leaves_out(&self, header: &Header<'_>) -> bool {
        self.leaves_out_name(header.name.as_bytes())
    }

    /// Whether headers of this name are left out.
    pub(crate) fn leaves_out_name(&self, name: &[u8]) -> bool {
        self.left_out_names().any(|left_out| name.eq_ignore_ascii_case(left_out))
    }

    /// The names of headers that are left out.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.left_out_names().filter_map(|name| str::from_utf8(name).ok())
    }

    fn left_out_names(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.left_out;
        std::iter::from_fn(move || {
            let (length, from) = rest.split_first_chunk()?;
            let name;
            (name, rest) = from.split_at_checked(usize::from(u16::from_ne_bytes(*length)))?;
            Some(name)
        })
    }

    /// The headers to add.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.lines.split(|byte| *byte == b'\n').filter_map(|line| {
            let name = line_name(line)?;
            Some((str::from_utf8(name).ok()?, line[name.len() + 1..].trim_ascii()))
        })
    }

    /// The lines to add.
    pub(crate) fn lines(&self) -> &[u8] {
        &self.lines
    }
}

/// Changes to a request's head that was written for an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestEdits {
    /// Another target, which starts with `/` and holds no white space.
    pub target: Option<Box<str>>,
    /// Another host; one that is none is not taken.
    pub host: Option<Box<[u8]>>,
    /// Other headers. None of them frames a message or says what only we may.
    pub headers: HeaderEdits,
}

impl RequestEdits {
    /// Changes a head as [`RequestHead::write`](crate::RequestHead::write) wrote it; nothing follows it.
    pub fn apply(&self, head: &mut Vec<u8>) {
        let old = std::mem::take(head);
        head.reserve(old.len() + self.headers.lines.len() + 64);
        let mut lines = lines(&old);
        self.write_request_line(lines.next().unwrap_or_default(), head);
        for line in lines.filter(|line| *line != b"\r\n") {
            match line_name(line) {
                Some(b"Host") => self.write_host(line, head),
                Some(name) if self.headers.leaves_out_name(name) => {}
                _ => head.extend_from_slice(line),
            }
        }
        head.extend_from_slice(self.headers.lines());
        head.extend_from_slice(b"\r\n");
    }

    fn write_request_line(&self, line: &[u8], head: &mut Vec<u8>) {
        let mut words = line.splitn(3, |byte| *byte == b' ');
        match (&self.target, words.next(), words.nth(1)) {
            (Some(target), Some(method), Some(version)) => {
                for part in [method, b" ", target.as_bytes(), b" ", version] {
                    head.extend_from_slice(part);
                }
            }
            _ => head.extend_from_slice(line),
        }
    }

    /// The one `Host` of the head comes first, in this case.
    fn write_host(&self, line: &[u8], head: &mut Vec<u8>) {
        match self.host.as_deref().filter(|host| Authority::parse(host).is_some()) {
            Some(host) => push_header(head, "Host", host),
            None => head.extend_from_slice(line),
        }
    }
}

/// Lines with their ends.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut from = 0;
    memchr::memchr_iter(b'\n', text).map(move |end| &text[std::mem::replace(&mut from, end + 1)..=end])
}

/// What follows the colon of a header line, if it has this name.
fn value_of<'l>(line: &'l [u8], name: &str) -> Option<&'l [u8]> {
    let (own, rest) = line.split_at_checked(name.len())?;
    rest.strip_prefix(b":").filter(|_| own.eq_ignore_ascii_case(name.as_bytes()))
}

/// Whether a header line has this name.
fn has_name(line: &[u8], name: &str) -> bool {
    value_of(line, name).is_some()
}

/// The name of a header line.
fn line_name(line: &[u8]) -> Option<&[u8]> {
    let colon = memchr::memchr(b':', line)?;
    Some(&line[..colon])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(edits: &HeaderEdits) -> String {
        String::from_utf8(edits.lines().to_vec()).unwrap()
    }

    #[test]
    fn later_changes_see_earlier_ones() {
        let mut edits = HeaderEdits::default();
        edits.add("X-A", b"1");
        edits.add("X-B", b"2");
        edits.replace("x-a", b"3");
        edits.add("X-A", b"4");
        edits.remove("X-B");
        assert_eq!(text(&edits), "x-a: 3\r\nX-A: 4\r\n");
        assert!(edits.leaves_out_name(b"X-b") && !edits.leaves_out_name(b"X-C"));
    }

    #[test]
    fn the_instance_is_filled_in() {
        let edits = HeaderEdits::default().set("X-By", "\0 of \0");
        assert_eq!(text(&edits.for_instance("web")), "X-By: web of web\r\n");
        assert_eq!(text(&edits.for_instance("")), "X-By:  of \r\n");
        let plain = HeaderEdits::default().set("X-By", "us");
        assert!(matches!(plain.for_instance("web"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_written_head_is_changed() {
        let written =
            "GET /a?b HTTP/1.1\r\nHost: a.test\r\nX-Old: 1\r\nx-old: 2\r\nX-Kept: a:b\r\nContent-Length: 3\r\n\r\n";
        let check = |edits: &RequestEdits, expected: &str| {
            let mut head = written.as_bytes().to_vec();
            edits.apply(&mut head);
            assert_eq!(String::from_utf8(head).unwrap(), expected);
        };
        check(&RequestEdits::default(), written);
        let headers = HeaderEdits::default().set("X-Old", "3");
        let edits = RequestEdits { target: Some("/n?b".into()), host: Some((*b"b.test:80").into()), headers };
        check(&edits, "GET /n?b HTTP/1.1\r\nHost: b.test:80\r\nX-Kept: a:b\r\nContent-Length: 3\r\nX-Old: 3\r\n\r\n");
        let bad = RequestEdits { host: Some((*b"b test").into()), ..RequestEdits::default() };
        check(&bad, written);
    }
}
