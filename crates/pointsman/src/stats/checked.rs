//! What a check said, in the codes of HAProxy (Management Guide, `check_status`). Reads the words of the engine's prober.

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckCode {
    Unknown,
    Initializing,
    Layer4Passed,
    Layer4Timeout,
    Layer4Failed,
    Layer6Passed,
    Layer6Timeout,
    Layer7Passed,
    Layer7Timeout,
    Layer7Invalid,
    Layer7Status,
}

impl CheckCode {
    /// From what was said of a check that ended, such as `GET /health got 503`; `tls`: of an instance that speaks TLS.
    pub(super) fn of(said: &str, is_passed: bool, tls: bool) -> Self {
        let says = |words: &str| said.contains(words);
        match is_passed {
            true if says(" was accepted") => {
                if tls {
                    Self::Layer6Passed
                } else {
                    Self::Layer4Passed
                }
            }
            true => Self::Layer7Passed,
            false if says(" the TLS handshake was not done ") => Self::Layer6Timeout,
            false if says(" was not accepted within ") => Self::Layer4Timeout,
            false if says(" got no answer within ") || says(" got no whole answer within ") => Self::Layer7Timeout,
            false if says(" failed: ") => Self::Layer4Failed,
            false if says("before Pointsman was started") => Self::Unknown,
            false if says(" got no ") => Self::Layer7Invalid,
            false if says(" got ") => Self::Layer7Status,
            false => Self::Layer7Invalid,
        }
    }

    /// `check_status`, its description, and its number in `show servers state`.
    pub(super) fn facts(self) -> (&'static str, &'static str, u8) {
        match self {
            Self::Unknown => ("UNK", "Unknown", 0),
            Self::Initializing => ("INI", "Initializing", 1),
            Self::Layer4Passed => ("L4OK", "Layer4 check passed", 6),
            Self::Layer4Timeout => ("L4TOUT", "Layer4 timeout", 7),
            Self::Layer4Failed => ("L4CON", "Layer4 connection problem", 8),
            Self::Layer6Passed => ("L6OK", "Layer6 check passed", 9),
            Self::Layer6Timeout => ("L6TOUT", "Layer6 timeout", 10),
            Self::Layer7Timeout => ("L7TOUT", "Layer7 timeout", 12),
            Self::Layer7Invalid => ("L7RSP", "Layer7 invalid response", 13),
            Self::Layer7Passed => ("L7OK", "Layer7 check passed", 15),
            Self::Layer7Status => ("L7STS", "Layer7 wrong status", 17),
        }
    }

    /// Whether the check passed.
    pub(super) fn is_passed(self) -> bool {
        matches!(self, Self::Layer4Passed | Self::Layer6Passed | Self::Layer7Passed)
    }
}

/// The status that the instance answered with.
pub(super) fn status(said: &str) -> Option<u32> {
    let (_, rest) = said.rsplit_once(" got ")?;
    rest.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_prober_says() {
        for (said, is_passed, tls, code, answer) in [
            ("GET /health got 200", true, false, "L7OK", Some(200)),
            ("GET /health got 503", false, false, "L7STS", Some(503)),
            ("GET /a got 200 without ok in its body", false, false, "L7STS", Some(200)),
            ("GET / got no answer within 1s", false, false, "L7TOUT", None),
            ("GET / got no whole answer within 1s", false, false, "L7TOUT", None),
            ("GET / got no answer over HTTP/2: protocol error", false, false, "L7RSP", None),
            ("GET / was not accepted within 1s", false, false, "L4TOUT", None),
            ("connection was accepted", true, false, "L4OK", None),
            ("connection was accepted", true, true, "L6OK", None),
            ("connection was accepted, but the TLS handshake was not done within 1s", false, true, "L6TOUT", None),
            ("connection failed: Connection refused (os error 111)", false, false, "L4CON", None),
            ("grpc.health.v1.Health/Check got SERVING", true, false, "L7OK", None),
            ("grpc.health.v1.Health/Check got NOT_SERVING", false, false, "L7STS", None),
            ("found it down before Pointsman was started", false, false, "UNK", None),
        ] {
            assert_eq!((CheckCode::of(said, is_passed, tls).facts().0, status(said)), (code, answer), "{said}");
        }
    }
}
