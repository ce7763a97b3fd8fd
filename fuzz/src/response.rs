//! An accepted response keeps its meaning when rewritten.

use std::mem::MaybeUninit;

use pointsman_wire::{HeadLimits, MAX_HEADERS, Reply, Version, parse_response};

const LIMITS: HeadLimits = HeadLimits { bytes: 8 * 1024, headers: 128 };
const ROOMY: HeadLimits = HeadLimits { bytes: 64 * 1024, headers: MAX_HEADERS };

/// Any bytes as a response's head: two bits of the first byte say what was asked, the rest is the head.
pub(crate) fn run(input: &[u8]) {
    let Some((asked, input)) = input.split_first() else { return };
    let (head_request, old) = (asked & 1 == 1, asked & 2 == 2);
    let version = if old { Version::Http10 } else { Version::Http11 };
    let mut space = [MaybeUninit::uninit(); MAX_HEADERS];
    let Ok(Some(head)) = parse_response(input, head_request, LIMITS, &mut space) else {
        return;
    };
    let reply = Reply { version, keep_alive: true, body: head.body_for(version), edits: None };
    let mut out = Vec::new();
    head.write(&reply, &mut out);

    let mut space = [MaybeUninit::uninit(); MAX_HEADERS];
    let again =
        parse_response(&out, head_request, ROOMY, &mut space).expect("what is written is accepted").expect("and whole");
    assert_eq!((again.len, again.body), (out.len(), reply.body));
    assert_eq!((head.status, head.reason, head.upgrade), (again.status, again.reason, again.upgrade));
}
