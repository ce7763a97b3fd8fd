//! Starts the program that is at our path now, with our arguments, to take over. Never replaces this process: that one
//! serves until the new one does.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, getpid, kill_process, test_kill_process};
use tokio::process::Command;
use tokio::time::{sleep, timeout};

/// How long a successor that is ended may take, before it is killed.
const GRACE: Duration = Duration::from_secs(2);
/// How often to look whether it has ended.
const LOOK: Duration = Duration::from_millis(20);
/// The flag that makes a program take over.
const FLAG: &str = "--takeover";
/// The file that this process runs, even if another one is at its path now.
const THIS: &str = "/proc/self/exe";
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
    pub(super) async fn start(&self) -> Result<Launched, String> {
        if self.in_container {
            return Err("this balancer is the main process of a container, which ends with it. Start a container of the new image \
                        beside it, with the same volume at --state, the host's network, and `run --takeover`"
                .to_owned());
        }
        let told = self
            .launch()
            .await
            .map_err(|error| format!("cannot start {THIS}, which starts the new program: {error}"))?;
        let told = told.trim();
        if told.is_empty() {
            return Err(
                "what starts the new program ended without a word; its last lines in the log say why".to_owned()
            );
        }
        told.parse().map(|pid| Launched { pid }).map_err(|_| told.to_owned())
    }

    /// Has this program, as it runs now, start the other one and end: what it prints.
    async fn launch(&self) -> io::Result<String> {
        let mut command = Command::new(THIS);
        command.arg("launch");
        for program in &self.programs {
            command.arg("--program").arg(program);
        }
        command.arg("--").args(&self.arguments);
        for name in OWN {
            command.env_remove(name);
        }
        // Its standard output is for us: that of the program it starts comes to it by another way.
        command.stdin(io::stdout().as_fd().try_clone_to_owned()?).stdout(Stdio::piped());
        let told = command.spawn()?.wait_with_output().await?;
        Ok(String::from_utf8_lossy(&told.stdout).into_owned())
    }
}

/// Starts the first of these programs that is there, and prints its process, or what is wrong. The program is nobody's child
/// once this one has ended: a service manager adopts it, notices its end, and lets it drain. systemd kills a main process at
/// once that is the child of another (`unit_kill_context`).
pub fn launch(programs: &[PathBuf], arguments: &[OsString], out: &mut dyn Write) -> io::Result<()> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for program in programs {
        let stdout = io::stdin().as_fd().try_clone_to_owned()?;
        match std::process::Command::new(program).args(arguments).stdin(Stdio::null()).stdout(stdout).spawn() {
            Ok(child) => return writeln!(out, "{}", child.id()),
            Err(error) => last = error,
        }
        // What is there and cannot be run is not replaced by what was there before.
        if last.kind() != io::ErrorKind::NotFound {
            break;
        }
    }
    let program = programs.first().map(|program| program.display().to_string()).unwrap_or_default();
    writeln!(out, "cannot start {program}: {last}")
}

/// A program that was started.
pub(super) struct Launched {
    /// Its process.
    pub(super) pid: u32,
}

impl Launched {
    fn process(&self) -> Option<Pid> {
        Pid::from_raw(self.pid.try_into().ok()?)
    }

    /// Waits until it has ended, and whoever adopted it has noticed.
    pub(super) async fn ended(&self) {
        while self.process().is_some_and(|pid| test_kill_process(pid).is_ok()) {
            sleep(LOOK).await;
        }
    }

    /// Ends it, as it does not serve.
    pub(super) async fn end(self) {
        // It may have ended by itself.
        let send = |signal| self.process().map(|pid| kill_process(pid, signal));
        send(Signal::TERM);
        if timeout(GRACE, self.ended()).await.is_err() {
            send(Signal::KILL);
        }
    }
}
