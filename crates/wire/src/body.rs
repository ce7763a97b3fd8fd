//! Message bodies: decoded from one framing, encoded into another (RFC 9112 §6, §7.1). Never buffers.
//!
//! ```text
//! Length(n) ─────────────────────────── n bytes ──────────────────────────────────────► Done
//! UntilClose ──► (the sender closes)
//! Size ─► [Extension ─►] SizeEnd ─┬─ n > 0 ─► Data(n) ─► DataEnd ─► DataLineFeed ─► Size
//!                                 └─ n = 0 ─► Trailers ───────────────────────────────► Done
//! ```

use crate::extension::Extension;
use crate::head::{BodyLength, HeadLimits, HeadProgress, push_digits};
use crate::refusal::BadBody;
use crate::trailers::Trailers;

/// Decodes a body as its bytes arrive. Each step classifies the first unread bytes.
#[derive(Debug)]
pub struct BodyReader {
    state: State,
    /// Chunk extension bytes in excess of what the data so far allows.
    overhead: usize,
    head_bytes: u32,
    /// Its trailers are discarded.
    drops_trailers: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Length(u64),
    UntilClose,
    Size { size: u64, digits: u8 },
    Extension { size: u64, part: Extension },
    SizeEnd(u64),
    Data(u64),
    DataEnd,
    DataLineFeed,
    Trailers(HeadProgress),
    Done,
}

/// The meaning of the next bytes. `used` counts the input bytes that the step consumed.
#[derive(Debug)]
pub enum Step<'b> {
    /// Body data.
    Data {
        /// The data, a part of the input; never empty.
        bytes: &'b [u8],
        /// Input bytes consumed, framing included.
        used: usize,
    },
    /// More input is needed; `used` bytes of framing are consumed.
    More {
        /// Input bytes consumed.
        used: usize,
    },
    /// The body is complete; the next message starts after `used`.
    End {
        /// Input bytes consumed.
        used: usize,
        /// The trailer section, usually empty.
        trailers: Trailers<'b>,
    },
}

/// 64 bits.
const MAX_SIZE_DIGITS: u8 = 16;

/// Extension bytes allowed per chunk, in addition to one per data byte.
const FREE_OVERHEAD: usize = 16;

impl BodyReader {
    /// A reader for a body of this length. `head_bytes` limits chunk extensions and trailers.
    pub fn new(length: BodyLength, head_bytes: usize) -> Self {
        let state = match length {
            BodyLength::None | BodyLength::Length(0) => State::Done,
            BodyLength::Length(bytes) => State::Length(bytes),
            BodyLength::Chunked => State::Size { size: 0, digits: 0 },
            BodyLength::UntilClose => State::UntilClose,
        };
        let head_bytes = u32::try_from(head_bytes).unwrap_or(u32::MAX);
        BodyReader { state, overhead: 0, head_bytes, drops_trailers: false }
    }

    /// Reads the next part of the input. After `End`, further calls return `End` with 0 bytes used.
    ///
    /// # Errors
    /// [`BadBody`] when the framing is malformed.
    pub fn step<'b>(&mut self, input: &'b [u8]) -> Result<Step<'b>, BadBody> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            match self.state {
                State::Done => {
                    return Ok(Step::End { used, trailers: Trailers::default() });
                }
                State::Trailers(progress) => return self.trailers(progress, rest, used),
                _ if rest.is_empty() => return Ok(Step::More { used }),
                State::Length(left) | State::Data(left) => return Ok(self.data(left, rest, used)),
                State::UntilClose => {
                    return Ok(Step::Data { bytes: rest, used: rest.len() });
                }
                _ => used += self.framing(rest)?,
            }
        }
    }

    /// How much of a body of a declared length was not read, bytes.
    pub fn length(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            _ => None,
        }
    }

    /// Whether the body is complete if the sender closes now (true only for `UntilClose` and after the end).
    pub fn may_close(&self) -> bool {
        matches!(self.state, State::UntilClose | State::Done)
    }

    /// Whether the whole body was read.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    fn data<'b>(&mut self, left: u64, rest: &'b [u8], used: usize) -> Step<'b> {
        let len = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
        let left = left - len as u64;
        self.overhead = self.overhead.saturating_sub(len);
        self.state = match self.state {
            State::Data(_) if left > 0 => State::Data(left),
            State::Data(_) => State::DataEnd,
            _ if left > 0 => State::Length(left),
            _ => State::Done,
        };
        Step::Data { bytes: &rest[..len], used: used + len }
    }

    /// Consumes chunk framing, at least one byte. `rest` is not empty.
    fn framing(&mut self, rest: &[u8]) -> Result<usize, BadBody> {
        if let State::Extension { size, part } = self.state {
            return self.extension(size, part, rest);
        }
        self.state = match (self.state, rest[0]) {
            (State::Size { size, digits }, byte) => sized(size, digits, byte)?,
            (State::SizeEnd(0), b'\n') => State::Trailers(HeadProgress::default()),
            (State::SizeEnd(size), b'\n') => self.begin_chunk(size),
            (State::DataEnd, b'\r') => State::DataLineFeed,
            (State::DataLineFeed, b'\n') => State::Size { size: 0, digits: 0 },
            (State::SizeEnd(_), _) => return Err(BadBody::ChunkSize),
            _ => return Err(BadBody::ChunkEnd),
        };
        Ok(1)
    }

    fn begin_chunk(&mut self, size: u64) -> State {
        self.overhead = self.overhead.saturating_sub(FREE_OVERHEAD);
        State::Data(size)
    }

    /// Consumes the available part of a chunk extension, which is not forwarded (RFC 9112 §7.1.1).
    fn extension(&mut self, size: u64, part: Extension, rest: &[u8]) -> Result<usize, BadBody> {
        let text = rest.iter().position(|&byte| byte == b'\r').unwrap_or(rest.len());
        self.overhead += text;
        if self.overhead > self.head_bytes as usize {
            return Err(BadBody::ChunkOverhead);
        }
        let part = rest[..text].iter().try_fold(part, |part, &byte| part.step(byte)).ok_or(BadBody::ChunkExtension)?;
        let ends = text < rest.len();
        if ends && !part.may_end() {
            return Err(BadBody::ChunkExtension);
        }
        self.state = if ends { State::SizeEnd(size) } else { State::Extension { size, part } };
        Ok(text + usize::from(ends))
    }

    /// Discards the trailers, if any come.
    pub fn drop_trailers(&mut self) {
        self.drops_trailers = true;
    }

    fn trailers<'b>(&mut self, mut progress: HeadProgress, rest: &'b [u8], used: usize) -> Result<Step<'b>, BadBody> {
        let limits = HeadLimits { bytes: self.head_bytes as usize, headers: 0 };
        if let [b'\r', b'\n', ..] = rest {
            self.state = State::Done;
            return Ok(Step::End { used: used + 2, trailers: Trailers::default() });
        }
        let parsed = if progress.ready(rest, limits) { Trailers::parse(limits.window(rest))? } else { None };
        if let Some((trailers, len)) = parsed {
            self.state = State::Done;
            let trailers = if self.drops_trailers { Trailers::default() } else { trailers };
            return Ok(Step::End { used: used + len, trailers });
        }
        self.state = State::Trailers(progress);
        if limits.exhausted(rest) { Err(BadBody::TrailersTooLong) } else { Ok(Step::More { used }) }
    }
}

/// The state after one more byte of the chunk size line.
fn sized(size: u64, digits: u8, byte: u8) -> Result<State, BadBody> {
    let digit = char::from(byte).to_digit(16).map(u64::from);
    match (byte, digit) {
        (_, Some(_)) if digits == MAX_SIZE_DIGITS => Err(BadBody::ChunkSize),
        (_, Some(digit)) => Ok(State::Size { size: size << 4 | digit, digits: digits + 1 }),
        _ if digits == 0 => Err(BadBody::ChunkSize),
        (b'\r', _) => Ok(State::SizeEnd(size)),
        _ => Extension::begin(byte).map(|part| State::Extension { size, part }).ok_or(BadBody::ChunkSize),
    }
}

/// Encodes a body for the receiving side.
#[derive(Clone, Copy, Debug)]
pub struct BodyWriter {
    length: BodyLength,
}

impl BodyWriter {
    /// A writer for this framing.
    pub fn new(length: BodyLength) -> Self {
        BodyWriter { length }
    }

    /// Reads back what it writes. `head_bytes`: see [`BodyReader::new`].
    pub fn reader(&self, head_bytes: usize) -> BodyReader {
        BodyReader::new(self.length, head_bytes)
    }

    /// Appends data in its framing; nothing for empty data, because an empty chunk would end the body. The reader does
    /// the counting: a body of a declared length is copied from one of the same length.
    pub fn data(&self, bytes: &[u8], out: &mut Vec<u8>) {
        match self.length {
            BodyLength::None => {}
            BodyLength::Length(_) | BodyLength::UntilClose => out.extend_from_slice(bytes),
            BodyLength::Chunked if bytes.is_empty() => {}
            BodyLength::Chunked => push_chunk(bytes, out),
        }
    }

    /// How many bytes of data there are in what it wrote.
    pub fn count(&self, written: &[u8]) -> u64 {
        if self.length != BodyLength::Chunked {
            return written.len() as u64;
        }
        let (mut reader, mut rest, mut count) = (self.reader(written.len()), written, 0);
        while let Ok(Step::Data { bytes, used }) = reader.step(rest) {
            count += bytes.len() as u64;
            rest = &rest[used..];
        }
        count
    }

    /// Appends the end of the body. Trailers are written only if the framing allows them.
    pub fn end(&self, trailers: &Trailers<'_>, out: &mut Vec<u8>) {
        if self.length == BodyLength::Chunked {
            out.extend_from_slice(b"0\r\n");
            trailers.write(out);
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn push_chunk(bytes: &[u8], out: &mut Vec<u8>) {
    // A 64-bit size and two line ends.
    out.reserve(bytes.len() + 20);
    push_digits(out, bytes.len() as u64, 16);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD_BYTES: usize = 1024;

    /// The data, its trailers, and the length of the body; each call gets `step` more bytes.
    fn read(length: BodyLength, input: &[u8], step: usize) -> Result<(String, usize), BadBody> {
        let mut reader = BodyReader::new(length, HEAD_BYTES);
        let (mut text, mut taken, mut end) = (String::new(), 0, 0);
        loop {
            match reader.step(&input[taken..end])? {
                Step::Data { bytes, used } => {
                    text.push_str(str::from_utf8(bytes).unwrap());
                    taken += used;
                }
                Step::More { used } => {
                    taken += used;
                    if end == input.len() {
                        return Ok((text + "...", taken));
                    }
                    end = (end + step).min(input.len());
                }
                Step::End { used, trailers } => {
                    for (name, value) in trailers.iter() {
                        text.push_str(&format!("|{name}={}", str::from_utf8(value).unwrap()));
                    }
                    return Ok((text, taken + used));
                }
            }
        }
    }

    fn check(length: BodyLength, input: &str, expected: &str) {
        for step in [1, 2, 3, 7, usize::MAX / 2] {
            let result = match read(length, input.as_bytes(), step) {
                Ok((text, taken)) => format!("{text} {taken}"),
                Err(error) => format!("{error:?}"),
            };
            assert_eq!(result, expected, "{input:?} by {step}");
        }
    }

    #[test]
    fn bodies_of_known_length() {
        check(BodyLength::None, "GET", " 0");
        check(BodyLength::Length(0), "GET", " 0");
        check(BodyLength::Length(3), "abcGET", "abc 3");
        check(BodyLength::Length(5), "abc", "abc... 3");
        check(BodyLength::UntilClose, "abc", "abc... 3");
    }

    #[test]
    fn chunked_bodies() {
        let rows = [
            ("0\r\n\r\nGET", " 5"),
            ("3\r\nabc\r\n0\r\n\r\n", "abc 13"),
            ("A\r\n0123456789\r\n00\r\n\r\n", "0123456789 21"),
            ("1\r\na\r\n2\r\nbc\r\n0\r\n\r\nx", "abc 18"),
            ("0000000000000001\r\na\r\n0\r\n\r\n", "a 26"),
            ("1;x=y\r\na\r\n0;z\r\n\r\n", "a 17"),
            ("1 ;x=\"\\\"y\"\r\na\r\n0\r\n\r\n", "a 20"),
            ("3\r\nab", "ab... 5"),
            ("0\r\nA: b\r\n\r\n", "|A=b 11"),
            ("0\r\nA: b\r\nContent-Length: 5\r\nX_Forwarded_For: a\r\nC:d\r\n\r\n", "|A=b|C=d 55"),
            ("0\r\nA: b\r\n", "... 3"),
        ];
        for (input, expected) in rows {
            check(BodyLength::Chunked, input, expected);
        }
    }

    #[test]
    fn malformed_chunks() {
        let rows = [
            ("\r\n", "ChunkSize"),
            ("+1\r\na", "ChunkSize"),
            ("-1\r\na", "ChunkSize"),
            (" 1\r\na", "ChunkSize"),
            ("0x1\r\na", "ChunkSize"),
            ("1_0\r\na", "ChunkSize"),
            ("g\r\n", "ChunkSize"),
            ("1 \r\na", "ChunkExtension"),
            ("1 1\r\na", "ChunkExtension"),
            ("1;\r\na", "ChunkExtension"),
            ("1;x=\r\na", "ChunkExtension"),
            ("1\na\r\n", "ChunkSize"),
            ("1\r\r\na", "ChunkSize"),
            (";x\r\n", "ChunkSize"),
            ("00000000000000001\r\na", "ChunkSize"),
            ("10000000000000000\r\na", "ChunkSize"),
            ("1;x\nx\r\na", "ChunkExtension"),
            ("1;x\0\r\na", "ChunkExtension"),
            ("1;x\rx\r\na", "ChunkSize"),
            ("1\r\nab\r\n", "ChunkEnd"),
            ("1\r\na\n", "ChunkEnd"),
            ("1\r\na\rb", "ChunkEnd"),
            ("0\r\nA\r\n\r\n", "Trailers"),
            ("0\r\nA : b\r\n\r\n", "Trailers"),
            ("0\r\nA: b\n\r\n", "Trailers"),
            ("0\r\n A: b\r\n\r\n", "Trailers"),
            ("0\r\nA: b\r\n c\r\n\r\n", "Trailers"),
            ("0\r\n\n", "Trailers"),
            ("0\r\nA: \0\r\n\r\n", "Trailers"),
        ];
        for (input, expected) in rows {
            check(BodyLength::Chunked, input, expected);
        }
    }

    #[test]
    fn trailers_and_extensions_are_bounded() {
        check(BodyLength::Chunked, &format!("0\r\nA: {}\r\n\r\n", "b".repeat(HEAD_BYTES)), "TrailersTooLong");
        check(BodyLength::Chunked, &format!("0\r\n{}\r\n", "A: b\r\n".repeat(65)), "TooManyTrailers");
        check(BodyLength::Chunked, &format!("1;{}\r\na\r\n", "x".repeat(HEAD_BYTES + 1)), "ChunkOverhead");
        let chunk = format!("1;{}\r\na\r\n", "x".repeat(100));
        check(BodyLength::Chunked, &chunk.repeat(20), "ChunkOverhead");
        let modest = format!("20;{}\r\n{}\r\n", "x".repeat(40), "a".repeat(32)).repeat(1000) + "0\r\n\r\n";
        assert!(read(BodyLength::Chunked, modest.as_bytes(), 100).is_ok());
    }

    #[test]
    fn nothing_follows_the_end() {
        let mut reader = BodyReader::new(BodyLength::Chunked, HEAD_BYTES);
        assert!(!reader.may_close() && !reader.is_done() && reader.length().is_none());
        assert!(matches!(reader.step(b"0\r\n\r\nGET"), Ok(Step::End { used: 5, .. })));
        assert!(matches!(reader.step(b"GET"), Ok(Step::End { used: 0, .. })));
        assert!(reader.may_close() && reader.is_done());
        let until_close = BodyReader::new(BodyLength::UntilClose, HEAD_BYTES);
        assert!(until_close.may_close() && !until_close.is_done());
        let mut sized = BodyReader::new(BodyLength::Length(5), HEAD_BYTES);
        assert!(matches!(sized.step(b"abc"), Ok(Step::Data { used: 3, .. })) && sized.length() == Some(2));
    }

    #[test]
    fn bodies_are_written_in_their_framing() {
        let rows = [
            (BodyLength::None, ""),
            (BodyLength::Length(3), "abc"),
            (BodyLength::UntilClose, "abc"),
            (BodyLength::Chunked, "3\r\nabc\r\n0\r\nA: b\r\n\r\n"),
        ];
        for (length, expected) in rows {
            let (writer, mut out) = (BodyWriter::new(length), Vec::new());
            let (trailers, _) = Trailers::parse(b"A:b\r\nCookie: c\r\n\r\n").unwrap().unwrap();
            writer.data(b"abc", &mut out);
            writer.data(b"", &mut out);
            writer.end(&trailers, &mut out);
            assert_eq!(str::from_utf8(&out), Ok(expected), "{length:?}");
        }
    }
}
