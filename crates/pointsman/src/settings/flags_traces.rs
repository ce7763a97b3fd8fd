//! The flags of traces, as [`FLAGS`](super::FLAGS) has them.

use super::flag::{Flag, Group, PLAIN};
use super::parse;
use crate::traces::{OtlpUrl, parse_header};

/// Where spans go.
pub(super) const OTLP: Flag = Flag {
    name: "otlp",
    value: "URL|off",
    group: Group::Native,
    help: "Trace requests: send spans to this collector by OTLP over HTTP, to URL/v1/traces",
    default: "off",
    read: |draft, choice| {
        draft.otlp.url = if choice.text() == "off" { None } else { Some(OtlpUrl::parse(choice.text())?) };
        Ok(())
    },
    ..PLAIN
};

/// How many requests are traced.
pub(super) const OTLP_SAMPLE: Flag = Flag {
    name: "otlp-sample",
    value: "SHARE",
    group: Group::Native,
    help: "The share of requests that are traced, such as 0.1; a trusted caller that has decided goes first",
    default: "0.01",
    read: |draft, choice| {
        draft.otlp.share = parse::share(choice.text())?;
        Ok(())
    },
    ..PLAIN
};

/// Whether metrics name traces.
pub(super) const METRICS_EXEMPLARS: Flag = Flag {
    name: "metrics-exemplars",
    value: "on|off",
    group: Group::Native,
    help: "Name traces in /metrics: with --otlp, one for each bucket of a service's latencies, if OpenMetrics is asked for",
    default: "off",
    read: |draft, choice| {
        draft.otlp.exemplars = match choice.text() {
            "on" => true,
            "off" => false,
            other => return Err(format!("{other:?} is not on or off")),
        };
        Ok(())
    },
    ..PLAIN
};

/// What the collector wants to be told.
pub(super) const OTLP_HEADER: Flag = Flag {
    name: "otlp-header",
    value: "NAME=VALUE",
    group: Group::Native,
    help: "A header for the collector, such as a token: other users of this machine can read a flag, so prefer the \
           environment variable or the file. May be given more than once",
    many: true,
    secret: true,
    read: |draft, choice| {
        draft.otlp.headers = choice.values.iter().map(|text| parse_header(text)).collect::<Result<_, _>>()?;
        Ok(())
    },
    ..PLAIN
};
