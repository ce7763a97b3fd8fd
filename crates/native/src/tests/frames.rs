//! Frames of HTTP/2 as rows write them (RFC 9113 §6), between their text and their bytes. Both directions have one
//! language, so a row reads the same whoever sends.
//!
//! | frame | what it is |
//! |---|---|
//! | `preface`, `hello` | the client's preface; that, its settings and its acknowledgement of ours |
//! | `data 1 end pad:3 BYTES` | `end`: END_STREAM. Bytes may have spaces |
//! | `headers 1 end more dep:3 :path=/ a=b` | `more`: no END_HEADERS; `~` is a space |
//! | `continuation 1 more a=b` | the rest of a header block |
//! | `get 1 a=b`, `post 1 a=b` | headers with pseudo-header fields |
//! | `ok 1`, `page 1 503` | the response to either; our page |
//! | `socket 1` | asks for a WebSocket |
//! | `settings 4=0`, `settings ack` | |
//! | `ping 12345678`, `ping ack 12345678` | eight characters, or sixteen hexadecimal digits | |
//! | `window 1 70000`, `rst 1 CANCEL`, `goaway 1 NO_ERROR`, `priority 1 3` | |
//! | `frame TYPE FLAGS STREAM HEX`, `bytes HEX` | anything else; numbers are hexadecimal |

use pointsman_wire::Answer;

use super::hpack::{Decoder, encode};

/// Names of error codes, in their order (RFC 9113 §7).
const CODES: &str = "NO_ERROR PROTOCOL_ERROR INTERNAL_ERROR FLOW_CONTROL_ERROR SETTINGS_TIMEOUT STREAM_CLOSED \
    FRAME_SIZE_ERROR REFUSED_STREAM CANCEL COMPRESSION_ERROR CONNECT_ERROR ENHANCE_YOUR_CALM";
/// Names of frame types, in their order.
const TYPES: &str = "data headers priority rst settings push ping goaway window continuation";

/// Frames that a short text stands for.
const SHORT: &[(&str, &str)] = &[
    ("hello", "preface ; settings ; settings ack"),
    ("get", "headers ID end :method=GET :scheme=http :path=/ :authority=h"),
    ("post", "headers ID :method=POST :scheme=http :path=/ :authority=h"),
    ("ok", "headers ID :status=200 content-length=2 ; data ID end ok"),
    ("socket", "headers ID :method=CONNECT :protocol=websocket :scheme=http :path=/ :authority=h"),
];

/// A frame's header and payload.
#[derive(Debug, Default)]
pub(super) struct Frame {
    pub(super) kind: u8,
    flags: u8,
    stream: u32,
    pub(super) payload: Vec<u8>,
}

/// Frames, one a text, with short ones in full.
pub(super) fn split(text: &str) -> Vec<String> {
    text.split(" ; ").flat_map(|frame| in_full(frame.trim_matches(' '))).collect()
}

fn in_full(frame: &str) -> Vec<String> {
    let (name, rest) = frame.split_once(' ').unwrap_or((frame, ""));
    let (stream, more) = rest.split_once(' ').unwrap_or((rest, ""));
    if name == "page" {
        return page(stream, more);
    }
    let Some((_, meaning)) = SHORT.iter().find(|(short, _)| *short == name) else { return vec![frame.to_owned()] };
    let full = meaning.replace("ID", stream);
    split(&if more.is_empty() { full } else { format!("{full} {more}") })
}

/// Our page for a status.
fn page(stream: &str, status: &str) -> Vec<String> {
    let status = status.parse().expect("a status");
    let answer = Answer {
        status,
        body: None,
        location: None,
        retry_after: None,
        more: &[],
        keep_alive: true,
        head_request: false,
        edits: None,
    };
    let mut body = Vec::new();
    answer.write_body(&mut body);
    let fields = answer.fields().map(|(name, value)| (name.to_ascii_lowercase(), value));
    let fields: String = fields.map(|(name, value)| format!(" {name}={}", value.replace(' ', "~"))).collect();
    let head = format!("headers {stream} :status={status}{fields} content-length={}", body.len());
    vec![head, format!("data {stream} end {}", String::from_utf8_lossy(&body))]
}

/// The bytes of a frame.
pub(super) fn bytes(text: &str) -> Vec<u8> {
    let words: Vec<_> = text.split(' ').collect();
    match words[..] {
        ["preface"] => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        ["bytes", hex] => unhex(hex),
        _ => frame(&words).bytes(),
    }
}

fn frame(words: &[&str]) -> Frame {
    let stream = || words[1].parse().expect("a stream");
    let (kind, rest) = (place(TYPES, words[0]), &words[1..]);
    match (words[0], rest) {
        ("frame", [kind, flags, stream, hex @ ..]) => Frame {
            kind: u8::from_str_radix(kind, 16).expect("a type"),
            flags: u8::from_str_radix(flags, 16).expect("flags"),
            stream: u32::from_str_radix(stream, 16).expect("a stream"),
            payload: hex.first().map(|hex| unhex(hex)).unwrap_or_default(),
        },
        ("data", [_, rest @ ..]) => data(stream(), rest),
        ("headers" | "continuation", [_, rest @ ..]) => headers(kind, stream(), rest),
        ("settings", ["ack"]) => Frame { kind, flags: 1, ..Frame::default() },
        ("settings", settings) => {
            Frame { kind, payload: settings.iter().flat_map(|text| setting(text)).collect(), ..Frame::default() }
        }
        ("ping", ["ack", text]) => Frame { kind, flags: 1, payload: opaque(text), ..Frame::default() },
        ("ping", [text]) => Frame { kind, payload: opaque(text), ..Frame::default() },
        ("window", [_, count]) => Frame { kind, stream: stream(), payload: number(count), ..Frame::default() },
        ("rst", [_, code]) => Frame { kind, stream: stream(), payload: error(code), ..Frame::default() },
        ("goaway", [last, code]) => Frame { kind, payload: [number(last), error(code)].concat(), ..Frame::default() },
        ("priority", [_, on]) => Frame { kind, stream: stream(), payload: [number(on), vec![7]].concat(), flags: 0 },
        _ => panic!("{words:?} is no frame"),
    }
}

fn data(stream: u32, mut words: &[&str]) -> Frame {
    let mut frame = Frame { stream, ..Frame::default() };
    let mut padding = None;
    while let Some((word, rest)) = words.split_first() {
        match (*word, word.strip_prefix("pad:")) {
            ("end", _) => frame.flags |= 1,
            (_, Some(count)) => padding = count.parse().ok(),
            _ => break,
        }
        words = rest;
    }
    frame.payload = words.join(" ").into_bytes();
    frame.pad(padding);
    frame
}

fn headers(kind: u8, stream: u32, words: &[&str]) -> Frame {
    let mut frame = Frame { kind, stream, flags: 4, ..Frame::default() };
    let (mut padding, mut fields) = (None, Vec::new());
    for word in words {
        match (*word, word.split_once(':')) {
            ("end", _) => frame.flags |= 1,
            ("more", _) => frame.flags &= !4,
            (_, Some(("pad", count))) => padding = count.parse().ok(),
            (_, Some(("dep", on))) => {
                frame.flags |= 0x20;
                frame.payload = [number(on), vec![7]].concat();
            }
            _ => {
                let (name, value) = word[1..].split_once('=').expect("a field has a value");
                fields.push((word[..1].to_owned() + name, value.replace('~', " ")));
            }
        }
    }
    let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    frame.payload.extend(encode(&fields));
    frame.pad(padding);
    frame
}

fn setting(text: &str) -> Vec<u8> {
    let (id, value) = text.split_once('=').expect("a setting has a value");
    [id.parse::<u16>().expect("a setting").to_be_bytes().to_vec(), number(value)].concat()
}

/// What a ping carries: eight characters, or sixteen digits.
fn opaque(text: &str) -> Vec<u8> {
    if text.len() == 16 { unhex(text) } else { text.into() }
}

fn number(text: &str) -> Vec<u8> {
    text.parse::<u32>().expect("a number").to_be_bytes().to_vec()
}

fn error(name: &str) -> Vec<u8> {
    u32::from(place(CODES, name)).to_be_bytes().to_vec()
}

fn place(names: &str, name: &str) -> u8 {
    names.split(' ').position(|known| known == name).unwrap_or(names.len()) as u8
}

fn unhex(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("digits"));
    digits.map(|pair| u8::from_str_radix(pair, 16).expect("digits")).collect()
}

/// The first bytes of a frame.
pub(super) const HEADER: usize = 9;

impl Frame {
    /// A frame from its first bytes, and how long its payload is.
    pub(super) fn begin(header: &[u8]) -> (Self, usize) {
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
        (Self { kind: header[3], flags: header[4], stream, payload: Vec::new() }, length as usize)
    }

    fn bytes(&self) -> Vec<u8> {
        let length = self.payload.len() as u32;
        let [_, length @ ..] = length.to_be_bytes();
        [&length[..], &[self.kind, self.flags], &self.stream.to_be_bytes(), &self.payload].concat()
    }

    /// Adds padding, and says so.
    fn pad(&mut self, padding: Option<u8>) {
        if let Some(count) = padding {
            self.flags |= 8;
            self.payload.insert(0, count);
            self.payload.extend(vec![0; count.into()]);
        }
    }

    /// The text of a frame that the engine sent: it never pads, and sends no priorities.
    pub(super) fn text(&self, decoder: &mut Decoder) -> String {
        let number = |at: usize| u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"));
        let code = |at: usize| CODES.split(' ').nth(number(at) as usize).unwrap_or("?");
        let name = TYPES.split(' ').nth(self.kind.into()).unwrap_or("?");
        let end = if self.flags & 1 == 1 { " end" } else { "" };
        let ack = if self.flags & 1 == 1 { " ack" } else { "" };
        let stream = self.stream;
        match name {
            "data" if self.payload.is_empty() => format!("data {stream}{end}"),
            "data" => format!("data {stream}{end} {}", String::from_utf8_lossy(&self.payload)),
            "headers" => {
                let fields = decoder.decode(&self.payload).into_iter();
                let fields: String =
                    fields.map(|(name, value)| format!(" {name}={}", value.replace(' ', "~"))).collect();
                format!("headers {stream}{end}{fields}")
            }
            "settings" => {
                let settings = self.payload.chunks(6);
                let id = |setting: &[u8]| u16::from_be_bytes([setting[0], setting[1]]);
                let value = |setting: &[u8]| u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
                let settings: String = settings.map(|setting| format!(" {}={}", id(setting), value(setting))).collect();
                format!("settings{ack}{settings}")
            }
            "ping" if self.payload.is_ascii() => format!("ping{ack} {}", String::from_utf8_lossy(&self.payload)),
            "ping" => format!("ping{ack} {:016x}", u64::from(number(0)) << 32 | u64::from(number(4))),
            "rst" => format!("rst {stream} {}", code(0)),
            "goaway" => format!("goaway {} {}", number(0), code(4)),
            "window" => format!("window {stream} {}", number(0)),
            _ => format!("{name} {} {stream}", self.flags),
        }
    }
}
