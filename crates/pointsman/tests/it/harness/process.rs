//! A child process whose output is kept, and which never outlives its test.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{PATIENCE, wait_within};

/// A running child. Killed, by its id, on drop.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Process {
    /// Starts the command and keeps whatever it writes to stdout and stderr.
    pub(crate) fn start(command: &mut Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let log = Arc::new(Mutex::new(String::new()));
        keep(child.stdout.take().expect("piped"), &log);
        keep(child.stderr.take().expect("piped"), &log);
        Self { name, child, log }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything written so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("no panic while held").clone()
    }

    /// Waits for the text in what it writes. Fails at once if it exits first.
    #[track_caller]
    pub(crate) fn wait_log(&mut self, text: &str) {
        self.wait_line(text);
    }

    /// Waits for a line that contains the text, and returns it.
    #[track_caller]
    pub(crate) fn wait_line(&mut self, text: &str) -> String {
        let what = format!("`{text}` in the output of {}", self.name);
        wait_within(&what, PATIENCE, || {
            let ended = self.child.try_wait().expect("ours").is_some();
            let log = self.log();
            let line = log.lines().find(|line| line.contains(text)).map(str::to_owned);
            assert!(line.is_some() || !ended, "{} ended without {what}:\n{log}", self.name);
            line
        })
    }

    /// Sends a signal by name: `TERM`, `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.id().to_string()]).status();
        assert!(sent.expect("kill is there").success(), "cannot send {name} to {}", self.name);
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait_exit(&mut self, within: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        wait_within(&what, within, || self.child.try_wait().expect("ours"))
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("ours").is_none()
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a live process has it");
        let kilobytes: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
        kilobytes * 1024
    }

    /// Ends it at once, as a machine that loses power would.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- output of {} ({}) ----\n{}", self.name, self.id(), self.log());
        }
    }
}

fn keep(source: impl Read + Send + 'static, log: &Arc<Mutex<String>>) {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        let mut reader = BufReader::new(source);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            log.lock().expect("no panic while held").push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
}

/// A command that ran to its end.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The exit code, if it was not killed.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Finished {
    /// Its standard output, if it ended well; fails the test otherwise.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "failed:\n{}{}", self.stdout, self.stderr);
        self.stdout
    }
}

/// Runs a command to its end.
#[track_caller]
pub(crate) fn finish(command: &mut Command) -> Finished {
    let output =
        command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
