//! Starts the program that is at our path now, with our arguments, to take over. Never replaces this process: that one
//! serves until the new one does.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, getpid, kill_process};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long a successor that is ended may take, before it is killed.
const GRACE: Duration = Duration::from_secs(2);
/// The flag that makes a program take over.
const FLAG: &str = "--takeover";
/// Variables for the process that they were passed to.
const OWN: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// How this program was started.
#[derive(Clone, Debug)]
pub(super) struct Successor {
    /// As it was called, and the file that was executed.
    programs: Vec<PathBuf>,
    arguments: Vec<OsString>,
    /// In a container whose end is this process's end.
    in_container: bool,
}

impl Successor {
    pub(super) fn of_this_program() -> Self {
        let mut arguments = std::env::args_os();
        let called = arguments.next().map(PathBuf::from);
        let mut arguments: Vec<_> = arguments.collect();
        if !arguments.iter().any(|argument| argument == FLAG) {
            arguments.push(FLAG.into());
        }
        let executed = std::env::current_exe().ok();
        // Set by our images, podman and systemd's containers (systemd.io/CONTAINER_INTERFACE).
        let in_container = std::env::var_os("container").is_some_and(|kind| !kind.is_empty());
        let is_managed = std::env::var_os("NOTIFY_SOCKET").is_some();
        let in_container = getpid() == Pid::INIT || in_container && !is_managed;
        Self { programs: called.into_iter().chain(executed).collect(), arguments, in_container }
    }

    /// Starts it. The error says what to do.
    pub(super) fn start(&self) -> Result<Child, String> {
        if self.in_container {
            return Err("this balancer is the main process of a container, which ends with it. Start a container of the new image \
                        beside it, with the same volume at --state, the host's network, and `run --takeover`"
                .to_owned());
        }
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for program in &self.programs {
            let mut command = Command::new(program);
            command.args(&self.arguments).stdin(Stdio::null());
            for name in OWN {
                command.env_remove(name);
            }
            match command.spawn() {
                Ok(child) => return Ok(child),
                Err(error) => last = error,
            }
            // What is there and cannot be run is not replaced by what was there before.
            if last.kind() != io::ErrorKind::NotFound {
                break;
            }
        }
        let program = self.programs.first().map(|program| program.display().to_string()).unwrap_or_default();
        Err(format!("cannot start {program}: {last}"))
    }
}

/// Ends a successor that does not serve.
pub(super) async fn end(mut child: Child) {
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
    if let Some(pid) = pid {
        // It may have ended by itself.
        let _ = kill_process(pid, Signal::TERM);
    }
    if timeout(GRACE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}
