//! `pointsman logs`: prints the last requests of the running balancer. Changes nothing.

use std::fmt::Write as _;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::bail;
use serde::Deserialize;
use serde_json::Value;

use super::Outcome;
use super::ask::{Answer, ask};

/// How often new requests are asked for.
const AGAIN: Duration = Duration::from_millis(500);

/// The requests to print, and how.
#[derive(Clone, Debug, Default)]
pub struct RequestFilter {
    /// Only those of this service.
    pub service: Option<String>,
    /// Only with this status.
    pub status: Option<StatusFilter>,
    /// Only those that took longer.
    pub slower: Option<Duration>,
    /// As JSON.
    pub json: bool,
}

/// A status, or a class of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusFilter {
    /// This one.
    One(u64),
    /// Those that begin with this digit.
    Class(u64),
}

/// Parses `404` or `5xx`.
///
/// # Errors
/// It is neither.
pub fn status_filter(text: &str) -> Result<StatusFilter, String> {
    let class = text.strip_suffix("xx").and_then(|digit| digit.parse().ok()).filter(|class| (1..=5).contains(class));
    let one = || text.parse().ok().filter(|status| (100..=599).contains(status));
    let parsed = class.map(StatusFilter::Class).or_else(|| one().map(StatusFilter::One));
    parsed.ok_or_else(|| format!("{text:?} is not a status; write 404 or 5xx"))
}

/// What the balancer says.
#[derive(Deserialize)]
struct RequestsPage {
    next: u64,
    requests: Vec<Value>,
}

/// Prints the last requests on `out`, and new ones until interrupted with `follow`.
///
/// # Errors
/// No balancer answers, it keeps no requests, or `out` is closed.
pub async fn logs(
    admin: Option<SocketAddr>,
    wanted: &RequestFilter,
    follow: bool,
    out: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let mut from = 0;
    loop {
        let Answer::Running(page) = ask::<RequestsPage>(admin, &format!("/api/requests?from={from}")).await? else {
            bail!("no balancer answers on --admin");
        };
        // It was started again.
        from = if page.next < from { 0 } else { page.next };
        for request in page.requests.iter().filter(|request| wanted.takes(request)) {
            match wanted.json {
                true => writeln!(out, "{request}")?,
                false => writeln!(out, "{}", line(request))?,
            }
        }
        out.flush()?;
        if !follow {
            return Ok(Outcome::Yes);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

impl RequestFilter {
    fn takes(&self, request: &Value) -> bool {
        let status = request["status"].as_u64();
        let has_status = match self.status {
            None => true,
            Some(StatusFilter::One(wanted)) => status == Some(wanted),
            Some(StatusFilter::Class(wanted)) => status.map(|status| status / 100) == Some(wanted),
        };
        let is_slow = self
            .slower
            .is_none_or(|slower| request["total_ms"].as_u64().is_some_and(|took| Duration::from_millis(took) > slower));
        has_status && is_slow && self.service.as_ref().is_none_or(|service| request["service"] == service.as_str())
    }
}

/// `2026-11-28T23:23:42.537Z 10.0.0.9 200 6ms GET shop.test/cart shop/web-1`, and what went wrong.
fn line(request: &Value) -> String {
    let text = |name: &str| request[name].as_str().unwrap_or("-");
    let status = request["status"].as_u64().map_or("-".to_owned(), |status| status.to_string());
    let mut line = format!("{} {} {status} {}ms ", text("time"), text("client"), request["total_ms"]);
    let query = request["query"].as_str().map(|query| format!("?{query}")).unwrap_or_default();
    let asked = match (text("kind"), request["method"].as_str()) {
        ("tcp", _) => format!("tcp {}", text("listener")),
        (_, None) => "- -".to_owned(),
        (_, Some(method)) => {
            format!("{method} {}{}{query}", request["host"].as_str().unwrap_or_default(), text("path"))
        }
    };
    // A string takes all.
    let _ = write!(line, "{asked} {}/{}", text("service"), text("instance"));
    for value in ["fault", "termination"].into_iter().filter_map(|name| request[name].as_str()) {
        let _ = write!(line, " {value}");
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn statuses() {
        assert_eq!(status_filter("404"), Ok(StatusFilter::One(404)));
        assert_eq!(status_filter("5xx"), Ok(StatusFilter::Class(5)));
        for wrong in ["", "xx", "6xx", "12", "600", "5x"] {
            assert!(status_filter(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn requests_are_chosen_and_shown() {
        let request = json!({"time": "T", "kind": "http", "client": "192.0.2.1", "method": "GET", "host": "a.test",
            "path": "/x", "query": "q", "service": "a", "status": 504, "total_ms": 1500, "fault": "server_timeout",
            "termination": "sH"});
        assert_eq!(line(&request), "T 192.0.2.1 504 1500ms GET a.test/x?q a/- server_timeout sH");
        let wanted = |service: &str, status, slower| RequestFilter {
            service: Some(service.to_owned()),
            status: Some(status),
            slower: Some(Duration::from_millis(slower)),
            json: false,
        };
        assert!(wanted("a", StatusFilter::Class(5), 1000).takes(&request));
        assert!(!wanted("b", StatusFilter::Class(5), 1000).takes(&request));
        assert!(!wanted("a", StatusFilter::One(502), 1000).takes(&request));
        assert!(!wanted("a", StatusFilter::One(504), 1500).takes(&request));
        assert!(RequestFilter::default().takes(&request));
    }
}
