//! OpenMetrics 1.0, the format that has exemplars: who gets it, and where it differs. Labels and values are the same.

use std::fmt::Write as _;

use pointsman_engine::exemplars::Exemplar;
use pointsman_wire::quoted_list;

/// The type of its pages.
pub const OPEN_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The last line of a page.
pub(super) const END: &str = "# EOF\n";

/// Whether a reader that accepts this wants OpenMetrics at least as much as text.
pub fn wants_open(accept: &[u8]) -> bool {
    let weight = |kind: &str| quoted_list(accept).filter_map(|range| weight_of(range, kind)).reduce(f32::max);
    weight("application/openmetrics-text").is_some_and(|open| open > 0.0 && open >= weight("text/plain").unwrap_or(0.0))
}

/// The weight of this media type, if the range is of it (RFC 9110 §12.5.1).
fn weight_of(range: &[u8], kind: &str) -> Option<f32> {
    let mut words = str::from_utf8(range).ok()?.split(';').map(str::trim);
    words.next()?.eq_ignore_ascii_case(kind).then(|| {
        let weight = words.find_map(|word| word.strip_prefix("q=").or_else(|| word.strip_prefix("Q=")));
        weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0))
    })
}

/// What follows the value of a bucket.
pub(super) fn shown(exemplar: &Exemplar) -> String {
    let Exemplar { trace, span, took, at } = exemplar;
    let mut text = format!(" # {{trace_id=\"{trace:032x}\",span_id=\"{span:016x}\"}} {}", took.as_secs_f64());
    // A string takes everything.
    let _ = write!(text, " {}.{:03}", at / 1_000_000_000, at / 1_000_000 % 1_000);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gets_it() {
        for (accept, expected) in [
            ("", false),
            ("*/*", false),
            ("text/plain", false),
            ("application/openmetrics-text", true),
            ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2", true),
            ("application/openmetrics-text;q=0.5, text/plain", false),
            ("Application/OpenMetrics-Text; version=\"1.0.0,x\"; Q=0.5, text/plain; q=0.5", true),
            ("application/openmetrics-text;q=0", false),
            ("application/openmetrics-text;q=x", false),
        ] {
            assert_eq!(wants_open(accept.as_bytes()), expected, "{accept}");
        }
    }
}
