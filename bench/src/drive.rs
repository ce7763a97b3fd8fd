//! Runs wrk, and measures what it cost a process.

use std::fs;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::peers::{HOST, OTHER_CORE, Peer};
use crate::sys;

/// A load for wrk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load<'l> {
    /// Concurrent connections.
    pub(crate) connections: usize,
    /// The requested path.
    pub(crate) path: &'l str,
    /// Opens a new connection for every request.
    pub(crate) close: bool,
    /// A script that generates the requests.
    pub(crate) script: Option<&'l Path>,
}

/// Runs wrk against a proxy, and returns the proxy's CPU time per request.
///
/// # Errors
/// If wrk cannot run, or any request failed: a proxy that refuses work is cheap.
pub(crate) fn turn(peer: &Peer, load: &Load<'_>, span: Duration) -> io::Result<Duration> {
    wrk(peer.address, load, Duration::from_secs(1).min(span))?;
    let before = cpu_time(peer)?;
    let requests = wrk(peer.address, load, span)?;
    let spent = cpu_time(peer)? - before;
    let requests = u32::try_from(requests).map_err(io::Error::other)?;
    spent.checked_div(requests).ok_or_else(|| io::Error::other("no requests"))
}

fn wrk(address: SocketAddr, load: &Load<'_>, span: Duration) -> io::Result<u64> {
    let output = command(address, load, span).output()?;
    let report = String::from_utf8_lossy(&output.stdout);
    let told = told(&report).filter(|told| output.status.success() && told.failed == 0);
    told.map(|told| told.requests).ok_or_else(|| io::Error::other(format!("wrk at {address}: {report}")))
}

fn command(address: SocketAddr, load: &Load<'_>, span: Duration) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", OTHER_CORE, "wrk", "-t1", &format!("-c{}", load.connections)]);
    command.args([format!("-d{}s", span.as_secs().max(1)), "-H".to_owned(), format!("Host: {HOST}")]);
    if load.close {
        command.args(["-H", "Connection: close"]);
    }
    if let Some(script) = load.script {
        command.arg("-s").arg(script);
    }
    command.arg(format!("http://{address}{}", load.path));
    command
}

/// wrk's counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Successful requests.
    pub(crate) requests: u64,
    /// Failed requests.
    pub(crate) failed: u64,
}

/// Reads wrk's report.
fn told(report: &str) -> Option<Told> {
    let requests = report.lines().find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok())?;
    let line = |begin: &str| report.lines().find_map(|line| line.trim().strip_prefix(begin)).unwrap_or_default();
    let sum = |line: &str| {
        let numbers = line.split(|char: char| !char.is_ascii_digit()).filter_map(|word| word.parse::<u64>().ok());
        numbers.sum::<u64>()
    };
    let failed = sum(line("Socket errors:")) + sum(line("Non-2xx or 3xx responses:"));
    Some(Told { requests, failed })
}

/// wrk in the background, until it is stopped.
pub(crate) struct Background(Child);

impl Background {
    /// Starts it, and lets it warm up.
    ///
    /// # Errors
    /// If it cannot run.
    pub(crate) fn start(address: SocketAddr, load: &Load<'_>) -> io::Result<Self> {
        let mut command = command(address, load, Duration::from_secs(3600));
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        std::thread::sleep(Duration::from_millis(500));
        Ok(Self(child))
    }

    /// Stops it.
    ///
    /// # Errors
    /// If its report is invalid.
    pub(crate) fn stop(mut self) -> io::Result<Told> {
        sys::interrupt(self.0.id());
        let mut report = String::new();
        self.0.stdout.take().ok_or_else(|| io::Error::other("wrk printed nothing"))?.read_to_string(&mut report)?;
        told(&report).ok_or_else(|| io::Error::other(format!("invalid report of wrk: {report}")))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// CPU time of all threads of a proxy's worker processes, in nanosecond resolution.
///
/// # Errors
/// If one of them has ended.
pub(crate) fn cpu_time(peer: &Peer) -> io::Result<Duration> {
    peer.workers()?.into_iter().map(cpu_time_of).sum()
}

/// CPU time of all threads of a process.
///
/// # Errors
/// If it has ended.
pub(crate) fn cpu_time_of(id: u32) -> io::Result<Duration> {
    schedule_of(id, 0)
}

/// The total time that threads of a process were runnable without a core.
///
/// # Errors
/// If it has ended.
pub(crate) fn wait_time_of(id: u32) -> io::Result<Duration> {
    schedule_of(id, 1)
}

fn schedule_of(id: u32, field: usize) -> io::Result<Duration> {
    let mut total = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{id}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        let nanos = text.split(' ').nth(field).and_then(|word| word.trim().parse().ok());
        total += Duration::from_nanos(nanos.ok_or_else(|| io::Error::other("no schedstat"))?);
    }
    Ok(total)
}

/// Resident memory of a process in bytes.
///
/// # Errors
/// If it has ended.
pub(crate) fn resident(id: u32) -> io::Result<u64> {
    bytes_of(id, "VmRSS:")
}

/// Resident memory of a process that is no part of a file, in bytes.
///
/// # Errors
/// If it has ended.
pub(crate) fn anonymous(id: u32) -> io::Result<u64> {
    bytes_of(id, "RssAnon:")
}

fn bytes_of(id: u32, field: &str) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()).and_then(|word| word.parse::<u64>().ok());
    kilobytes.map(|count| count * 1024).ok_or_else(|| io::Error::other(format!("no {field}")))
}
