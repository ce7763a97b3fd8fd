//! Asks HAProxy whether it accepts a configuration (`haproxy -c`). Starts nothing that serves, changes nothing.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::complaint::{self, Complaint, Report};
use super::program::{self, Program, RunFault, RunOutput};

/// How long a check may take unless the caller says otherwise: 10,000 services take well below a second.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum CheckFault {
    /// HAProxy did not end in time, and was killed.
    #[error("HAProxy did not finish checking its configuration within {0:?}")]
    Hung(Duration),
    /// HAProxy could not be started.
    #[error("cannot start HAProxy to check its configuration: {0}")]
    CannotStart(io::Error),
}

/// Checks the configuration at this path, with the sockets that it names (`bind fd@N`). No complaints: it is accepted.
///
/// # Errors
/// See [`CheckFault`].
pub async fn check(
    program: &Program,
    config: &Path,
    sockets: &[TcpListener],
    deadline: Duration,
) -> Result<Vec<Complaint>, CheckFault> {
    let arguments = ["-c".as_ref(), "-f".as_ref(), config.as_os_str()];
    match program::run(&program.path, arguments, sockets, deadline).await {
        Err(RunFault::CannotStart(error)) => Err(CheckFault::CannotStart(error)),
        Err(RunFault::Hung) => Err(CheckFault::Hung(deadline)),
        Ok(said) => Ok(judge(&said, config)),
    }
}

fn judge(said: &RunOutput, config: &Path) -> Vec<Complaint> {
    let report = complaint::read(&said.output, config);
    for warning in &report.warnings {
        tracing::debug!(line = warning.line, "HAProxy warns about its configuration: {}", warning.words);
    }
    if said.status.success() { Vec::new() } else { complaints(report, said.status, &said.output) }
}

/// The complaints of a HAProxy that ended: at least one, even if it printed nothing.
pub(super) fn complaints(report: Report, status: ExitStatus, output: &str) -> Vec<Complaint> {
    if !report.complaints.is_empty() {
        return report.complaints;
    }
    let last = output.lines().rev().map(str::trim).find(|line| !line.is_empty());
    let words = last.map_or_else(|| format!("{status}"), |last| format!("{last} ({status})"));
    vec![Complaint { words, ..Complaint::default() }]
}

/// Checks that a new HAProxy could listen on this address. Call it for every new address before a reload: HAProxy stops
/// accepting for two seconds while it retries an address in use, and up to 3.0 its master cannot reload after that (see
/// [`super::process::Process::is_intact`]).
///
/// # Errors
/// The complaint that HAProxy would print.
pub fn can_listen(address: SocketAddr) -> Result<(), Complaint> {
    try_listen(address).map_err(|error| {
        let bind: Box<str> = address.to_string().into();
        let words = format!("cannot bind socket ({error}) for [{bind}]");
        Complaint { bind: Some(bind), words, ..Complaint::default() }
    })
}

fn try_listen(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // Without SO_REUSEPORT: it would silently share the address with another program of the same user.
    socket.bind(&address.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_taken_is_complained_of() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let complaint = can_listen(address).unwrap_err();
        assert_eq!(complaint.bind.as_deref(), Some(&*address.to_string()));
        assert!(complaint.words.contains("in use"), "{}", complaint.words);
        drop(taken);
        assert_eq!(can_listen(address), Ok(()));
    }
}
