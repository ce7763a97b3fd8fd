//! An accepted request keeps its meaning when rewritten.

use std::mem::MaybeUninit;

use pointsman_wire::{Arrived, Forward, HeadLimits, MAX_HEADERS, Trust, Version, parse_request};

const LIMITS: HeadLimits = HeadLimits { bytes: 8 * 1024, headers: 128 };
const ROOMY: HeadLimits = HeadLimits { bytes: 64 * 1024, headers: MAX_HEADERS };

/// Any bytes as a request's head.
pub(crate) fn run(input: &[u8]) {
    let mut space = [MaybeUninit::uninit(); MAX_HEADERS];
    let Ok(Some(head)) = parse_request(input, LIMITS, &mut space) else {
        return;
    };
    let mut out = Vec::new();
    head.write(
        &Forward {
            strip: 0,
            client: "192.0.2.1",
            arrived: &Arrived::new("http", 80),
            trust: Trust::Nothing,
            websocket_key: String::new,
            cookie: None,
        },
        &mut out,
    );

    let mut space = [MaybeUninit::uninit(); MAX_HEADERS];
    let again = parse_request(&out, ROOMY, &mut space).expect("what is written is accepted").expect("and whole");
    assert_eq!((again.len, again.version), (out.len(), Version::Http11));
    assert_eq!((head.method, &head.target, head.host), (again.method, &again.target, again.host));
    assert_eq!((head.body, head.upgrade), (again.body, again.upgrade));
}
