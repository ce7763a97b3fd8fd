//! wrk, and what a process has cost while wrk ran.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::peers::{HOST, OTHER_CORE, Peer};

/// What wrk is asked to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load<'l> {
    /// Connections at once.
    pub(crate) connections: usize,
    /// The path asked for.
    pub(crate) path: &'l str,
    /// A new connection for every request.
    pub(crate) close: bool,
    /// A script that makes the requests.
    pub(crate) script: Option<&'l Path>,
}

/// Runs wrk against a proxy, and tells the CPU time that a request cost it.
///
/// # Errors
/// When wrk cannot run, or any request failed: a proxy that refuses work is cheap.
pub(crate) fn turn(peer: &Peer, load: &Load<'_>, span: Duration) -> io::Result<Duration> {
    wrk(peer.address, load, Duration::from_secs(1).min(span))?;
    let before = cpu_time(peer.id())?;
    let requests = wrk(peer.address, load, span)?;
    let spent = cpu_time(peer.id())? - before;
    let requests = u32::try_from(requests).map_err(io::Error::other)?;
    spent.checked_div(requests).ok_or_else(|| io::Error::other("not one request"))
}

fn wrk(address: SocketAddr, load: &Load<'_>, span: Duration) -> io::Result<u64> {
    let mut command = Command::new("taskset");
    command.args(["-c", OTHER_CORE, "wrk", "-t1", &format!("-c{}", load.connections)]);
    command.args([format!("-d{}s", span.as_secs().max(1)), "-H".to_owned(), format!("Host: {HOST}")]);
    if load.close {
        command.args(["-H", "Connection: close"]);
    }
    if let Some(script) = load.script {
        command.arg("-s").arg(script);
    }
    let output = command.arg(format!("http://{address}{}", load.path)).output()?;
    let report = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || report.contains("Socket errors") || report.contains("Non-2xx") {
        return Err(io::Error::other(format!("wrk at {address}: {report}")));
    }
    let mut lines = report.lines();
    let requests = lines.find_map(|line| Some(line.trim().split_once(" requests in ")?.0));
    requests.and_then(|text| text.parse().ok()).ok_or_else(|| io::Error::other(format!("wrk said {report}")))
}

/// CPU time of all threads of a process, to the nanosecond.
///
/// # Errors
/// When the process is gone.
pub(crate) fn cpu_time(id: u32) -> io::Result<Duration> {
    let mut total = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{id}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        let nanos = text.split(' ').next().and_then(|word| word.parse().ok());
        total += Duration::from_nanos(nanos.ok_or_else(|| io::Error::other("no schedstat"))?);
    }
    Ok(total)
}

/// Resident memory of a process in bytes.
///
/// # Errors
/// When the process is gone.
pub(crate) fn resident(id: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()).and_then(|word| word.parse::<u64>().ok());
    kilobytes.map(|count| count * 1024).ok_or_else(|| io::Error::other("no VmRSS"))
}

/// Waits until Pointsman's admin page says that a table is served.
///
/// # Errors
/// When it does not within a minute.
pub(crate) fn wait_ready(admin: SocketAddr) -> io::Result<()> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        if is_ready(admin).unwrap_or(false) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(io::Error::other("pointsman does not become ready"))
}

fn is_ready(admin: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect(admin)?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200 "))
}
