//! An instance's value: its address and its options.

use std::net::SocketAddr;

use super::container::Container;

/// The options from an instance's labels, already checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) weight: Option<u16>,
    pub(super) maxconn: Option<u32>,
    pub(super) backup: bool,
    pub(super) tls: bool,
}

/// The value. A container that must get no new work has `weight=0`, whatever its labels say. Not `drain`, although that
/// has the same effect: `drain` is reserved for the operator (`pointsman drain` and `undrain`), and the agent must
/// neither imitate it nor remove it.
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

/// A number of requests or connections; 0 means no limit.
pub(super) fn most(text: &str) -> Result<u32, &'static str> {
    let plain = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| plain).ok_or("expected a number of connections")
}
