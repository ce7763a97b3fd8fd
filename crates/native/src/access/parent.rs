//! `traceparent` and `tracestate` (W3C Trace Context, level 1): read from a head, and written. Pure; decides nothing.

use std::io::Write as _;

use pointsman_wire::RequestHead;

/// The header that names the trace, and the span above.
pub(crate) const TRACE_PARENT: &str = "traceparent";
/// The header that tracing systems keep their own notes in.
pub(crate) const TRACE_STATE: &str = "tracestate";

/// How long a value of version 00 is, bytes.
const LENGTH: usize = 55;
/// How long an id of a span is, hexadecimal digits.
const SPAN_DIGITS: usize = 16;
/// What is before the id of the span in a value of version 00: `00-`, the trace and `-`.
const BEFORE_SPAN: usize = 36;
/// The flag that the caller has recorded the trace.
const SAMPLED: u8 = 1;
/// The longest `tracestate` that is told to collectors, bytes (W3C Trace Context §3.3.1.5).
const LONGEST_STATE: usize = 512;

/// What `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceParent {
    /// The trace, never 0.
    pub(crate) trace: u128,
    /// The span, never 0.
    pub(crate) span: u64,
    /// Its caller has recorded it.
    pub(crate) sampled: bool,
}

impl TraceParent {
    /// What a request's head says. `None`: nothing, or nothing valid.
    pub(crate) fn of(head: &RequestHead<'_, '_>) -> Option<Self> {
        let mut lines = head.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(TRACE_PARENT));
        let (first, second) = (lines.next()?, lines.next());
        if second.is_some() { None } else { Self::parse(first.value) }
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_at_checked(LENGTH)?;
        let dashes = [2, 35, 52].iter().all(|place| known[*place] == b'-');
        let version = hex(&known[..2])?;
        // Later versions may say more behind another dash.
        let is_known = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.first().is_none_or(|byte| *byte == b'-'),
        };
        let (trace, span, flags) = (hex(&known[3..35])?, hex(&known[36..52])?, hex(&known[53..])?);
        let is_valid = dashes && is_known && trace > 0 && span > 0;
        is_valid.then_some(Self { trace, span: u64::try_from(span).ok()?, sampled: flags & u128::from(SAMPLED) > 0 })
    }

    /// As the value of a header.
    pub(crate) fn text(self) -> [u8; LENGTH] {
        let Self { trace, span, sampled } = self;
        let mut text = [0; LENGTH];
        // It is as long as that.
        let _ = write!(&mut text[..], "00-{trace:032x}-{span:016x}-{:02x}", if sampled { SAMPLED } else { 0 });
        text
    }
}

/// Writes the id of a span over the one that a head has in the `traceparent` of [`TraceParent::text`].
pub(crate) fn rename_span(head: &mut [u8], span: u64) {
    let start = [b"\n", TRACE_PARENT.as_bytes(), b": "].concat();
    let Some(at) = head.windows(start.len()).rposition(|own| own == start) else { return };
    let Some(value) = head.get_mut(at + start.len()..at + start.len() + LENGTH) else { return };
    // The server of `forward_auth` may have said another.
    if TraceParent::parse(value).is_some() {
        value[BEFORE_SPAN..BEFORE_SPAN + SPAN_DIGITS].copy_from_slice(format!("{span:016x}").as_bytes());
    }
}

/// What `tracestate` says: several lines are one list. Empty: nothing, or more than is to be told.
pub(super) fn trace_state(head: &RequestHead<'_, '_>) -> String {
    let lines = head.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(TRACE_STATE));
    let state = lines.map(|line| String::from_utf8_lossy(line.value)).collect::<Vec<_>>().join(",");
    if state.len() <= LONGEST_STATE { state } else { String::new() }
}

/// A number in lower case hexadecimal digits, at most 32.
fn hex(digits: &[u8]) -> Option<u128> {
    let value = |digit: &u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    digits.iter().try_fold(0, |number: u128, digit| Some(number << 4 | u128::from(value(digit)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent = TraceParent::parse(valid.as_bytes()).unwrap();
        assert_eq!(
            parent,
            TraceParent { trace: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, span: 0xf0_67aa_0ba9_02b7, sampled: true }
        );
        assert_eq!(parent.text(), valid.as_bytes());
        let check = |value: &str, sampled: Option<bool>| {
            assert_eq!(TraceParent::parse(value.as_bytes()).map(|parent| parent.sampled), sampled, "{value}");
        };
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", Some(false));
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03", Some(true));
        check("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Some(true));
        check("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", Some(true));
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn the_span_of_a_head_is_renamed() {
        let parent = TraceParent { trace: 1, span: 2, sampled: true };
        let head_with = |parent: TraceParent| {
            [b"GET / HTTP/1.1\r\ntraceparent: ", &parent.text()[..], b"\r\nX-Later: 1\r\n\r\n"].concat()
        };
        let mut head = head_with(parent);
        rename_span(&mut head, 0xabc);
        assert_eq!(head, head_with(TraceParent { span: 0xabc, ..parent }));
        // Whatever else is there stays.
        let other = b"GET / HTTP/1.1\r\ntraceparent: x\r\nX-Later: 1234567890123456789012345678901234567890\r\n\r\n";
        let mut head = other.to_vec();
        rename_span(&mut head, 0xabc);
        assert_eq!(head, other);
    }
}
