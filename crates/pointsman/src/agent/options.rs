//! An instance's value: its address and the words behind it.

use std::net::SocketAddr;

use super::container::Container;

/// What labels ask of an instance. Each has been judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) weight: Option<u16>,
    pub(super) maxconn: Option<u32>,
    pub(super) backup: bool,
    pub(super) tls: bool,
}

/// The value. A container that is to get no new work has `weight=0`, whatever weight it was given. It is not `drain`,
/// though that does the same: `drain` is the operator's own word, which `pointsman drain` adds and takes away, and what
/// the agent writes must never be mistaken for it, or end it.
pub(super) fn value(container: &Container, address: SocketAddr, options: Options) -> String {
    let weight = if container.takes_work() { options.weight } else { Some(0) };
    let mut text = address.to_string();
    text.extend(weight.map(|weight| format!(" weight={weight}")));
    text.extend(options.maxconn.map(|most| format!(" maxconn={most}")));
    text.extend(options.backup.then_some(" backup"));
    text.extend(options.tls.then_some(" tls"));
    text
}

/// `true` or `false`; a label without a value is `true`, as in `docker run --label pointsman.backup`.
pub(super) fn boolean(text: &str) -> Result<bool, &'static str> {
    match text {
        "" | "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("expected true or false"),
    }
}

/// A weight from 0 to 256.
pub(super) fn weight(text: &str) -> Result<u16, &'static str> {
    let plain = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|weight| plain && *weight <= 256).ok_or("expected a weight from 0 to 256")
}

/// A number of requests or connections; 0 is no limit.
pub(super) fn most(text: &str) -> Result<u32, &'static str> {
    let plain = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| plain).ok_or("expected a number of connections")
}
