//! The spans of a request that ended, by OpenTelemetry's semantic conventions for HTTP: one of the request, and one of each
//! attempt at an instance. Sends nothing.

use std::sync::Arc;
use std::time::Duration;

use pointsman_engine::spans::{Span, SpanKind, SpanValue};
use pointsman_table::{Target, host_name};

use super::entry::LogEntry;
use super::trace::{Attempt, Trace, now};
use crate::pool::view::ServiceLive;

/// The longest text of an attribute, bytes.
const LONGEST: usize = 1024;
/// Methods that are told by their names (OpenTelemetry, `http.request.method`).
const METHODS: [&str; 10] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"];

/// What a method is told as, if it is no usual one.
const OTHER: &str = "_OTHER";

/// Names and values.
#[derive(Debug, Default)]
struct Attributes(Vec<(&'static str, SpanValue)>);

impl Attributes {
    fn text(&mut self, name: &'static str, value: &[u8]) {
        if !value.is_empty() {
            let value = String::from_utf8_lossy(&value[..value.len().min(LONGEST)]);
            self.0.push((name, SpanValue::Text(value.into())));
        }
    }

    fn number(&mut self, name: &'static str, value: Option<impl Into<i64>>) {
        self.0.extend(value.map(|value| (name, SpanValue::Number(value.into()))));
    }
}

/// The spans of a request. `took`: how long it took, if the latencies of its service count it; `live`: its service.
#[cold]
pub(super) fn of(
    entry: &LogEntry<'_>,
    trace: &Trace,
    (user_agent, took): (usize, Option<Duration>),
    live: Option<&ServiceLive>,
) -> Vec<Span> {
    trace.ended(entry.fault);
    let attempts = trace.attempts.take();
    let mut spans = Vec::with_capacity(1 + attempts.len());
    spans.push(Span { took, ..server(entry, trace, user_agent) });
    spans.extend(attempts.iter().enumerate().map(|(before, attempt)| client((entry, trace), live, before, attempt)));
    spans
}

/// The method as it is told, and the name of the span.
fn method<'e>(entry: &LogEntry<'e>, attributes: &mut Attributes) -> &'e str {
    let method = str::from_utf8(entry.method()).unwrap_or_default();
    if METHODS.contains(&method) {
        attributes.text("http.request.method", method.as_bytes());
        return method;
    }
    attributes.text("http.request.method", OTHER.as_bytes());
    attributes.text("http.request.method_original", method.as_bytes());
    "HTTP"
}

fn server(entry: &LogEntry<'_>, trace: &Trace, user_agent: usize) -> Span {
    let mut attributes = Attributes::default();
    let name = method(entry, &mut attributes).into();
    attributes.text("url.scheme", entry.scheme().as_bytes());
    attributes.text("url.path", entry.path());
    let host = String::from_utf8_lossy(entry.host());
    attributes.text("server.address", host_name(&host).to_ascii_lowercase().as_bytes());
    let port = host.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    attributes.number("server.port", port.or(entry.listener.map(|at| at.port())));
    attributes.number("http.response.status_code", entry.status);
    attributes.text("network.protocol.version", version(entry.protocol()).as_bytes());
    attributes.text("client.address", entry.client.to_string().as_bytes());
    attributes.text("network.peer.address", entry.peer.0.to_string().as_bytes());
    attributes.number("network.peer.port", Some(entry.peer.1));
    attributes.text("user_agent.original", entry.header(user_agent));
    attributes.text("pointsman.service", entry.service.unwrap_or_default().as_bytes());
    attributes.text("pointsman.instance", entry.instance.unwrap_or_default().as_bytes());
    attributes.text("pointsman.fault", entry.fault_name().unwrap_or_default().as_bytes());
    let failed = match entry.status {
        Some(500..) => true,
        // One that was refused is no failure of ours; one that was cut is.
        Some(400..) => false,
        _ => entry.fault.is_some(),
    };
    if failed {
        let status = entry.status.unwrap_or_default().to_string();
        attributes.text("error.type", entry.fault_name().unwrap_or(&status).as_bytes());
    }
    Span {
        trace: trace.own.trace,
        id: trace.own.span,
        parent: trace.above,
        state: Arc::clone(&trace.state),
        kind: SpanKind::Server,
        name,
        begin: trace.date(trace.began()),
        end: trace.date(now()),
        attributes: attributes.0,
        failed,
        took: None,
    }
}

/// The span of an attempt. `before`: how many there were before.
fn client(
    (entry, trace): (&LogEntry<'_>, &Trace),
    live: Option<&ServiceLive>,
    before: usize,
    attempt: &Attempt,
) -> Span {
    let mut attributes = Attributes::default();
    let name = method(entry, &mut attributes).into();
    if let Some((instance, target, is_secure)) = live.and_then(|live| live.located(&attempt.instance)) {
        let (address, port) = match &target {
            Target::Socket(at) => (at.ip().to_string(), Some(at.port())),
            Target::Name(name, port) => (name.to_string(), Some(*port)),
            Target::Unix(path) => (path.display().to_string(), None),
        };
        attributes.text("server.address", address.as_bytes());
        attributes.number("server.port", port);
        if let (Some(path), Some(_)) = (&trace.sent, port) {
            let scheme = if is_secure { "https" } else { "http" };
            attributes.text("url.full", format!("{scheme}://{target}{path}").as_bytes());
        }
        attributes.text("pointsman.instance", instance.as_bytes());
    }
    attributes.text("pointsman.service", entry.service.unwrap_or_default().as_bytes());
    attributes.number("http.response.status_code", attempt.status);
    let again = i64::try_from(before).unwrap_or(i64::MAX);
    attributes.number("http.request.resend_count", Some(again).filter(|again| *again > 0));
    let fault = attempt.fault.map(|fault| fault.facts().name);
    attributes.text("pointsman.fault", fault.unwrap_or_default().as_bytes());
    let failed = fault.is_some() || attempt.status.is_some_and(|status| status >= 400);
    if failed {
        let status = attempt.status.unwrap_or_default().to_string();
        attributes.text("error.type", fault.unwrap_or(&status).as_bytes());
    }
    Span {
        trace: trace.own.trace,
        id: attempt.span,
        parent: trace.own.span,
        state: Arc::clone(&trace.state),
        kind: SpanKind::Client,
        name,
        begin: trace.date(attempt.began),
        end: trace.date(attempt.ended.unwrap_or_else(now)),
        attributes: attributes.0,
        failed,
        took: None,
    }
}

/// `1.1` of `HTTP/1.1`, `2` of `HTTP/2.0`.
fn version(protocol: &str) -> &str {
    let version = protocol.strip_prefix("HTTP/").unwrap_or_default();
    version.strip_suffix(".0").filter(|version| *version == "2").unwrap_or(version)
}
