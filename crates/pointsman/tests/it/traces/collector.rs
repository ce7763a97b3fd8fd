//! A scripted collector of OTLP over HTTP: decodes what it is sent, and answers each request as a script says.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use prost::Message;

use crate::harness::{PATIENCE, listening, request_head, wait_within};

#[derive(Clone, PartialEq, Message)]
struct Export {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<OfResource>,
}

#[derive(Clone, PartialEq, Message)]
struct OfResource {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<OfScope>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
struct OfScope {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Raw>,
}

#[derive(Clone, PartialEq, Message)]
struct Raw {
    #[prost(bytes = "vec", tag = "1")]
    trace: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    id: Vec<u8>,
    #[prost(string, tag = "3")]
    state: String,
    #[prost(bytes = "vec", tag = "4")]
    parent: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(enumeration = "Kind", tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    begin: u64,
    #[prost(fixed64, tag = "8")]
    end: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<Pair>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
enum Kind {
    Unspecified = 0,
    Internal = 1,
    Server = 2,
    Client = 3,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(oneof = "One", tags = "1, 3")]
    one: Option<One>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum One {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Number(i64),
}

/// A span as it came.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) trace: String,
    pub(super) id: String,
    pub(super) parent: String,
    pub(super) state: String,
    pub(super) name: String,
    pub(super) is_server: bool,
    pub(super) begin: u64,
    pub(super) end: u64,
    pub(super) failed: bool,
    attributes: BTreeMap<String, String>,
}

impl Told {
    /// An attribute; empty: it has none.
    pub(super) fn get(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

fn pairs(pairs: Vec<Pair>) -> BTreeMap<String, String> {
    let text = |value: Option<Value>| match value.and_then(|value| value.one) {
        Some(One::Text(text)) => text,
        Some(One::Number(number)) => number.to_string(),
        None => "?".to_owned(),
    };
    pairs.into_iter().map(|pair| (pair.key, text(pair.value))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn told(raw: Raw) -> Told {
    assert!(matches!(raw.kind(), Kind::Server | Kind::Client), "{raw:?}");
    assert!((raw.trace.len(), raw.id.len()) == (16, 8) && matches!(raw.parent.len(), 0 | 8), "{raw:?}");
    let is_remote = raw.kind() == Kind::Server && !raw.parent.is_empty();
    assert_eq!(raw.flags, if is_remote { 0x301 } else { 0x101 }, "{raw:?}");
    Told {
        is_server: raw.kind() == Kind::Server,
        trace: hex(&raw.trace),
        id: hex(&raw.id),
        parent: hex(&raw.parent),
        state: raw.state,
        name: raw.name,
        begin: raw.begin,
        end: raw.end,
        failed: raw.status.is_some_and(|status| status.code == 2),
        attributes: pairs(raw.attributes),
    }
}

/// What is answered to the request of this number: status and header lines. Status 0: nothing, for ever.
type Script = dyn Fn(usize) -> (u16, &'static str) + Send + Sync;

#[derive(Default)]
struct Seen {
    heads: Vec<String>,
    resource: BTreeMap<String, String>,
    spans: Vec<Told>,
}

/// A running collector.
pub(super) struct Collector {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl Collector {
    pub(super) fn new() -> Self {
        Self::answering(|_| (200, ""))
    }

    pub(super) fn answering(script: impl Fn(usize) -> (u16, &'static str) + Send + Sync + 'static) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let known = Arc::clone(&seen);
        Self { address: listening(move |stream| drop(serve(stream, &known, &script))), seen }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The heads of the requests so far.
    pub(super) fn heads(&self) -> Vec<String> {
        self.seen.lock().expect("no panic while held").heads.clone()
    }

    /// What the spans are of.
    pub(super) fn resource(&self) -> BTreeMap<String, String> {
        self.seen.lock().expect("no panic while held").resource.clone()
    }

    /// All spans that it took.
    pub(super) fn spans(&self) -> Vec<Told> {
        self.seen.lock().expect("no panic while held").spans.clone()
    }

    /// The spans of a trace in the order in which they began, the request's first, once there are so many.
    #[track_caller]
    pub(super) fn trace(&self, trace: &str, count: usize) -> Vec<Told> {
        wait_within(&format!("{count} spans of {trace}"), PATIENCE, || {
            let mut spans: Vec<_> = self.spans().into_iter().filter(|span| span.trace == trace).collect();
            spans.sort_by_key(|span| (!span.is_server, span.begin));
            (spans.len() >= count).then_some(spans)
        })
    }

    /// The traces with a request to this path.
    pub(super) fn traces(&self, path: &str) -> Vec<String> {
        let spans = self.spans().into_iter().filter(|span| span.is_server && span.get("url.path") == path);
        spans.map(|span| span.trace).collect()
    }
}

fn serve(stream: TcpStream, seen: &Mutex<Seen>, script: &Script) -> io::Result<()> {
    let mut output = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    while let Some(head) = request_head(&mut input)? {
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.expect("a length")];
        input.read_exact(&mut body)?;
        let number = {
            let mut seen = seen.lock().expect("no panic while held");
            seen.heads.push(head);
            seen.heads.len() - 1
        };
        let (status, lines) = script(number);
        if status == 0 {
            loop {
                std::thread::park();
            }
        }
        if status == 200 {
            let export = Export::decode(&body[..]).expect("protobuf");
            let mut seen = seen.lock().expect("no panic while held");
            for of in export.resources {
                seen.resource = pairs(of.resource.unwrap_or_default().attributes);
                seen.spans.extend(of.scopes.into_iter().flat_map(|scope| scope.spans).map(told));
            }
        }
        write!(output, "HTTP/1.1 {status} Scripted\r\n{lines}Content-Length: 0\r\n\r\n")?;
    }
    Ok(())
}
