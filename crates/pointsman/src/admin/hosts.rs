//! The host names that requests for the admin pages may carry. A web page of another site can point its own name to our
//! address (DNS rebinding), and would read the pages as its own: the browser then sends that name as `Host`.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use pointsman_engine::seldom::Seldom;
use tracing::warn;

/// Minimum time between two log lines about refused names, in milliseconds.
const PACE: u64 = 60_000;

/// The accepted names, besides addresses and `localhost`.
#[derive(Clone, Debug)]
pub struct Hosts {
    names: Arc<[Box<str>]>,
    refused: Arc<Seldom>,
    start: Instant,
}

impl Hosts {
    /// These names, in lower case.
    pub fn new(names: &[Box<str>]) -> Self {
        Self { names: names.into(), refused: Arc::new(Seldom::new(PACE)), start: Instant::now() }
    }

    /// Whether a request for this authority may be answered: `[::1]:8404`, `localhost`.
    fn knows(&self, authority: &str) -> bool {
        let Ok(parsed) = authority.parse::<Authority>() else { return false };
        let host = parsed.host();
        // A `Host` has no user before the host, and nothing but a port after a bracket (RFC 9110 §7.2).
        let port = authority.strip_prefix(host).map(|rest| rest.strip_prefix(':').unwrap_or(rest));
        if port.is_none_or(|port| !port.bytes().all(|byte| byte.is_ascii_digit())) {
            return false;
        }
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        is_address(&host) || host == "localhost" || self.names.iter().any(|name| **name == *host)
    }

    fn tell(&self, authority: &str) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        if let Some(untold) = self.refused.happened(now) {
            warn!(
                "admin: refused a request for host {authority:?}, and {untold} others since the last such line; \
                 --admin-host allows a name"
            );
        }
    }
}

/// A name with a zone, such as `[fe80::1%25eth0]`, is an address too (RFC 6874).
fn is_address(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.split('%').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => host.parse::<IpAddr>().is_ok(),
    }
}

/// Answers requests for known names, and health requests under any name. A request without a name does not come from a
/// browser (RFC 9110 §7.2).
pub(super) async fn guard(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    let fields = request.headers().get_all(header::HOST).iter();
    let fields = fields.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let target = request.uri().authority().map(ToString::to_string);
    // Health must not depend on the name that a probe uses, and tells a stranger nothing about the keys.
    let is_health = ["/healthz", "/readyz"].contains(&request.uri().path());
    let unknown = fields.chain(target).filter(|_| !is_health).find(|authority| !hosts.knows(authority));
    if !is_health {
        // Pages cost work: many concurrent requests for one page take turns with other tasks, and health goes first.
        tokio::task::yield_now().await;
    }
    match unknown {
        None => next.run(request).await,
        Some(authority) => {
            hosts.tell(&authority);
            (StatusCode::MISDIRECTED_REQUEST, advice(&authority)).into_response()
        }
    }
}

fn advice(authority: &str) -> String {
    let name = authority.split(':').next().unwrap_or(authority);
    format!(
        "{authority:?} is not a name of these pages. Ask by IP address or as localhost, or start pointsman with \
         --admin-host {}\n",
        name.escape_debug()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_known_names() {
        let hosts = Hosts::new(&["lb.test".into()]);
        for (authority, expected) in [
            ("127.0.0.1", true),
            ("127.0.0.1:8404", true),
            ("10.0.0.7:80", true),
            ("[::1]:8404", true),
            ("[fe80::1%25eth0]:8404", true),
            ("localhost", true),
            ("LocalHost:8404", true),
            ("localhost.:8404", true),
            ("LB.test:8404", true),
            ("lb.test.", true),
            ("evil.test", false),
            ("x.lb.test", false),
            ("localhost.evil.test:8404", false),
            ("127.0.0.1.evil.test", false),
            ("user@127.0.0.1", false),
            ("[::1].evil.test", false),
            ("", false),
            ("a b", false),
        ] {
            assert_eq!(hosts.knows(authority), expected, "{authority}");
        }
    }
}
