//! Logins that hold for a connection and not for a request: NTLM, and Negotiate (RFC 4559 §6). Judges no login.

/// Whether a header of a login names a scheme that logs in a connection. A line may have several schemes; a parameter
/// that looks like one does no harm.
pub(crate) fn logs_connection_in(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|part| is_for_connections(part.trim_ascii()))
}

fn is_for_connections(part: &[u8]) -> bool {
    let scheme = part.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    scheme.eq_ignore_ascii_case(b"ntlm") || scheme.eq_ignore_ascii_case(b"negotiate")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_that_log_a_connection_in() {
        let check = |value: &str, expected| assert_eq!(logs_connection_in(value.as_bytes()), expected, "{value}");
        check("NTLM", true);
        check("negotiate oYG2MIGzoAMKAQA=", true);
        check("Ntlm TlRMTVNTUAAC", true);
        check("Basic realm=\"a, b\", Negotiate", true);
        check("Basic realm=\"ntlm\"", false);
        check("NTLMv2", false);
        check("", false);
    }
}
