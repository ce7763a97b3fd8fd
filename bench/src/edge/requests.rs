//! Runs h2load, over HTTP/1.1 and HTTP/2, in clear and over TLS. Counts; what it costs the proxy is measured elsewhere.

use std::io;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use super::terms::SUITE;
use crate::peers::{HOST, OTHER_CORE};

/// For h2load to end, at most, seconds.
const PATIENCE: &str = "60";

/// Requests one after the other by which a proxy opens its connections to the backend.
const WARMING: usize = 10;

/// A load for h2load.
#[derive(Clone, Copy)]
pub(crate) struct Streams {
    /// Connections.
    pub(crate) connections: usize,
    /// Requests at the same time on each. `None`: one after the other, over HTTP/1.1.
    pub(crate) streams: Option<usize>,
    /// Over TLS.
    pub(crate) secure: bool,
    /// The requested path.
    pub(crate) path: &'static str,
}

impl Streams {
    /// Runs it for that time: at least a second, as h2load never ends if it is over before all connections are there.
    ///
    /// # Errors
    /// If any request failed, or the connections were not of the kind that was asked for.
    pub(crate) fn run(self, address: SocketAddr, span: Duration) -> io::Result<Fetched> {
        self.ask(address, &format!("-D{}ms", span.as_millis()))
    }

    /// Runs it until the proxy has opened its connections to the backend.
    ///
    /// # Errors
    /// As for `run`.
    pub(crate) fn warm(self, address: SocketAddr) -> io::Result<()> {
        let count = WARMING * self.connections * self.streams.unwrap_or(1);
        self.ask(address, &format!("-n{count}")).map(drop)
    }

    fn ask(self, address: SocketAddr, amount: &str) -> io::Result<Fetched> {
        let output = self.command(address, amount).output()?;
        let report = String::from_utf8_lossy(&output.stdout);
        let is_it = output.status.success() && self.expected().iter().all(|line| report.lines().any(|is| is == *line));
        let fetched = fetched(&report).filter(|_| is_it);
        fetched.ok_or_else(|| {
            let why = String::from_utf8_lossy(&output.stderr);
            io::Error::other(format!("h2load at {address}: {report}{why}"))
        })
    }

    fn command(self, address: SocketAddr, amount: &str) -> Command {
        let mut command = Command::new("taskset");
        command.args(["-c", OTHER_CORE, "timeout", PATIENCE, "h2load", "-t1"]);
        command.args([&format!("-c{}", self.connections), amount]);
        match self.streams {
            Some(streams) => command.arg(format!("-m{streams}")),
            None => command.arg("--h1"),
        };
        command.args([&format!("--tls13-ciphers={SUITE}"), "--groups=X25519", &format!("--connect-to={address}")]);
        let scheme = if self.secure { "https" } else { "http" };
        command.arg(format!("{scheme}://{HOST}{}", self.path));
        command
    }

    /// What h2load says of such connections.
    fn expected(self) -> Vec<String> {
        let protocol = if self.streams.is_some() { "h2" } else { "http/1.1" };
        let clear = if self.streams.is_some() { "h2c" } else { "http/1.1" };
        match self.secure {
            true => vec![
                "TLS Protocol: TLSv1.3".to_owned(),
                format!("Cipher: {SUITE}"),
                format!("Application protocol: {protocol}"),
            ],
            false => vec![format!("Application protocol: {clear}")],
        }
    }
}

/// What was answered.
#[derive(Clone, Copy)]
pub(crate) struct Fetched {
    /// Requests that were answered whole.
    pub(crate) requests: u64,
    /// Bytes of bodies, also of answers that were not read to their end.
    pub(crate) bytes: u64,
}

/// Reads a report in which no request failed.
fn fetched(report: &str) -> Option<Fetched> {
    let line = |begin: &str| report.lines().find_map(|line| line.strip_prefix(begin));
    let count = |line: &str, word: &str| {
        let mut parts = line.split(',').filter_map(|part| part.trim().split_once(' '));
        parts.find(|(_, is)| *is == word).and_then(|(count, _)| count.parse::<u64>().ok())
    };
    let (requests, codes) = (line("requests: ")?, line("status codes: ")?);
    let all = count(requests, "succeeded")?;
    let bytes = line("traffic: ")?.rsplit_once('(')?.1.split_once(')')?.0.parse().ok()?;
    let bad = ["failed", "errored", "timeout"].iter().map(|word| count(requests, word)).sum::<Option<u64>>()?;
    (bad == 0 && count(codes, "2xx")? >= all).then_some(Fetched { requests: all, bytes })
}
