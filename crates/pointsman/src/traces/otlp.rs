//! The messages of OTLP that spans need, in protobuf (opentelemetry-proto 1.x, `trace/v1` and `collector/trace/v1`). Sends
//! nothing.

use pointsman_engine::spans::{Span, SpanKind, SpanValue};
use prost::Message;

/// What collectors call us.
const SCOPE: &str = "pointsman";
/// `SpanFlags`: that of `traceparent`, and whether the span above is another program's.
const SAMPLED: u32 = 1;
const KNOWS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

#[derive(Clone, PartialEq, Message)]
struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<SpanMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct SpanMessage {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    trace_state: String,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    /// 2 is a server's, 3 a client's.
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<SpanStatus>,
    /// `SpanFlags`.
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct SpanStatus {
    /// 2 is an error.
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

/// One of its members is there.
#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
    #[prost(int64, optional, tag = "3")]
    number: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct ExportAnswer {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_spans: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

fn text(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { text: Some(value.to_owned()), number: None }) }
}

/// The body of a request with these spans. `name`: this balancer's.
pub(super) fn encode(name: &str, spans: &[Span]) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let attributes =
        vec![text("service.name", SCOPE), text("service.instance.id", name), text("service.version", version)];
    let scope = Scope { name: SCOPE.to_owned(), version: version.to_owned() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans: spans.iter().map(message).collect() }];
    let resource = Some(Resource { attributes });
    ExportRequest { resource_spans: vec![ResourceSpans { resource, scope_spans }] }.encode_to_vec()
}

fn message(span: &Span) -> SpanMessage {
    let attribute = |(name, value): &(&'static str, SpanValue)| match value {
        SpanValue::Text(value) => text(name, value),
        SpanValue::Number(number) => {
            KeyValue { key: (*name).to_owned(), value: Some(AnyValue { text: None, number: Some(*number) }) }
        }
    };
    SpanMessage {
        trace_id: span.trace.to_be_bytes().to_vec(),
        span_id: span.id.to_be_bytes().to_vec(),
        trace_state: span.state.to_string(),
        parent_span_id: if span.parent == 0 { Vec::new() } else { span.parent.to_be_bytes().to_vec() },
        name: span.name.to_string(),
        kind: match span.kind {
            SpanKind::Server => 2,
            SpanKind::Client => 3,
        },
        start_time_unix_nano: span.begin,
        end_time_unix_nano: span.end,
        attributes: span.attributes.iter().map(attribute).collect(),
        status: span.failed.then_some(SpanStatus { code: 2 }),
        flags: match span.kind {
            SpanKind::Server if span.parent != 0 => SAMPLED | KNOWS_REMOTE | IS_REMOTE,
            SpanKind::Server | SpanKind::Client => SAMPLED | KNOWS_REMOTE,
        },
    }
}

/// How many spans a collector refused of those that it was sent, and why.
pub(super) fn rejected(answer: &[u8]) -> Option<(usize, String)> {
    let partial = ExportAnswer::decode(answer).ok()?.partial_success?;
    let count = usize::try_from(partial.rejected_spans).ok().filter(|count| *count > 0)?;
    Some((count, partial.error_message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        assert_eq!(rejected(b""), None);
        assert_eq!(rejected(b"{}"), None, "no protobuf");
        let partial = Some(PartialSuccess { rejected_spans: 2, error_message: "full".to_owned() });
        assert_eq!(rejected(&ExportAnswer { partial_success: partial }.encode_to_vec()), Some((2, "full".to_owned())));
        let warning = Some(PartialSuccess { rejected_spans: 0, error_message: "old".to_owned() });
        assert_eq!(rejected(&ExportAnswer { partial_success: warning }.encode_to_vec()), None);
    }
}
