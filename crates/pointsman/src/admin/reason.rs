//! The state of an instance that gets no work, and the reason, in words for people: one word for both engines. Counts
//! nothing, decides nothing.

use pointsman_engine::live::SetApart;

/// The engine's word for an instance that the next request tries.
const HALF_OPEN: &str = "half-open";

/// `down`, or `maintenance` with HAProxy.
pub(super) fn state(apart: &SetApart) -> &'static str {
    match apart.state {
        "ejected" | HALF_OPEN => "down",
        other => other,
    }
}

/// `the instance did not answer in time (server_timeout); the next request tries it`. HAProxy has words of its own.
pub(super) fn words(apart: &SetApart) -> String {
    let why = match in_words(&apart.why) {
        Some(words) => format!("{words} ({})", apart.why),
        None => apart.why.clone(),
    };
    match apart.state {
        HALF_OPEN if why.is_empty() => "the next request tries it".to_owned(),
        HALF_OPEN => format!("{why}; the next request tries it"),
        _ => why,
    }
}

/// The faults of the native engine that an instance can be blamed for.
fn in_words(fault: &str) -> Option<&'static str> {
    Some(match fault {
        "connect_refused" => "it refused the connection or cannot be reached",
        "connect_timeout" => "it did not accept the connection in time",
        "no_answer" => "it closed the connection before it answered",
        "server_timeout" => "it did not answer in time",
        "bad_response" => "its response was malformed",
        "bad_response_body" => "its response was malformed or incomplete",
        "exhausted" => "this machine had no descriptors or ports left",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn reasons_are_told_in_words() {
        for (engine, why, expected) in [
            ("ejected", "server_timeout", "down: it did not answer in time (server_timeout)"),
            (
                "half-open",
                "no_answer",
                "down: it closed the connection before it answered (no_answer); the next request tries it",
            ),
            ("half-open", "", "down: the next request tries it"),
            (
                "down",
                "Layer4 connection problem: Connection refused",
                "down: Layer4 connection problem: Connection refused",
            ),
            ("maintenance", "", "maintenance: "),
        ] {
            let apart = SetApart { state: engine, age: Duration::ZERO, why: why.to_owned() };
            assert_eq!(format!("{}: {}", state(&apart), words(&apart)), expected);
        }
    }
}
