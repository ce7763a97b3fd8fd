//! Logins that hold for a connection and not for a request: NTLM, and Negotiate (RFC 4559 §6). Judges no login.

use crate::head::Header;
use crate::request::RequestHead;
use crate::response::ResponseHead;

impl RequestHead<'_, '_> {
    /// Whether it logs in, or goes on with a login, that holds for its connection to the instance.
    pub fn logs_connection_in(&self) -> bool {
        self.headers.iter().any(|header| holds(header, "authorization", "proxy-authorization"))
    }
}

impl ResponseHead<'_, '_> {
    /// Whether it asks for a login, or goes on with one, that holds for the connection on which it came.
    pub fn asks_for_connection_login(&self) -> bool {
        self.headers.iter().any(|header| holds(header, "www-authenticate", "proxy-authenticate"))
    }
}

/// Whether this is one of the two headers, with a scheme that logs in a connection. A line may have several schemes; a
/// parameter that looks like one does no harm.
fn holds(header: &Header<'_>, name: &str, proxy_name: &str) -> bool {
    (header.name.eq_ignore_ascii_case(name) || header.name.eq_ignore_ascii_case(proxy_name))
        && header.value.split(|byte| *byte == b',').any(|part| is_for_connections(part.trim_ascii()))
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
        let check = |name, value: &str, expected| {
            let header = Header { name, value: value.as_bytes() };
            assert_eq!(holds(&header, "www-authenticate", "proxy-authenticate"), expected, "{name}: {value}");
        };
        check("WWW-Authenticate", "NTLM", true);
        check("www-authenticate", "negotiate oYG2MIGzoAMKAQA=", true);
        check("Proxy-Authenticate", "Ntlm TlRMTVNTUAAC", true);
        check("WWW-Authenticate", "Basic realm=\"a, b\", Negotiate", true);
        check("WWW-Authenticate", "Basic realm=\"ntlm\"", false);
        check("WWW-Authenticate", "NTLMv2", false);
        check("WWW-Authenticate", "", false);
        check("Authorization", "NTLM", false);
    }
}
