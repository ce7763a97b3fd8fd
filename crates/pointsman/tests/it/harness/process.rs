//! A child process whose output is kept. It and its descendants end with the test.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{PATIENCE, wait_within};

/// How long the output of a process that ended is waited for, if something holds its pipes.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A running child, killed by its id on drop.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: Arc<Mutex<String>>,
    /// Its descendants when it was killed.
    orphans: Vec<u32>,
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
        Self { name, child, log, orphans: Vec::new() }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything written so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("no panic while held").clone()
    }

    /// Waits for the text in its output. Fails at once if the process exits first.
    #[track_caller]
    pub(crate) fn wait_log(&mut self, text: &str) {
        self.wait_line(text);
    }

    /// Waits for a line that contains the text, and returns it.
    #[track_caller]
    pub(crate) fn wait_line(&mut self, text: &str) -> String {
        let what = format!("`{text}` in the output of {}", self.name);
        wait_within(&what, PATIENCE, || {
            let ended = self.ended().is_some();
            let log = self.log();
            let line = log.lines().find(|line| line.contains(text)).map(str::to_owned);
            assert!(line.is_some() || !ended, "{} ended without {what}:\n{log}", self.name);
            line
        })
    }

    /// Sends a signal by name: `TERM`, `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait_exit(&mut self, within: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        wait_within(&what, within, || self.ended())
    }

    /// How it ended, if it did, once its last words are in the log.
    fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().expect("ours")?;
        let start = Instant::now();
        // Each reader holds the log until its pipe ends. A descendant may hold the pipe for longer.
        while Arc::strong_count(&self.log) > 1 && start.elapsed() < LAST_WORDS {
            std::thread::sleep(Duration::from_millis(1));
        }
        Some(status)
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("ours").is_none()
    }

    /// Resident memory in bytes, with that of its descendants.
    pub(crate) fn resident(&self) -> u64 {
        let own = resident(self.id()).expect("it runs");
        own + self.descendants().into_iter().filter_map(resident).sum::<u64>()
    }

    /// Its children, their children and so on.
    pub(crate) fn descendants(&self) -> Vec<u32> {
        let mut found = vec![self.id()];
        let mut next = 0;
        while let Some(parent) = found.get(next) {
            let children = children(*parent);
            found.extend(children);
            next += 1;
        }
        found.split_off(1)
    }

    /// Kills it, like a machine that loses power.
    pub(crate) fn kill(&mut self) {
        self.orphans.extend(self.descendants());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        // Other processes may have these ids by now, but none named haproxy.
        self.orphans.iter().filter(|id| is_called(**id, "haproxy")).for_each(|id| signal(*id, "KILL"));
        if std::thread::panicking() {
            eprintln!("---- output of {} ({}) ----\n{}", self.name, self.id(), self.log());
        }
    }
}

/// Sends a signal by name to a process that may have ended.
pub(crate) fn signal(id: u32, name: &str) {
    let mut kill = Command::new("kill");
    let _ = kill.args(["-s", name, &id.to_string()]).stderr(Stdio::null()).status().expect("kill is there");
}

/// Whether the process runs a program of this name; ignores zombies.
pub(crate) fn is_called(id: u32, name: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.contains(&format!(" ({name}) ")) && !stat.contains(&format!(" ({name}) Z"))
}

/// For a process that may end at any moment.
fn resident(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

fn children(id: u32) -> Vec<u32> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{id}/task")) else { return Vec::new() };
    let of_task = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children")).ok();
    let texts: Vec<_> = tasks.flatten().filter_map(of_task).collect();
    texts.iter().flat_map(|text| text.split_whitespace()).filter_map(|id| id.parse().ok()).collect()
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

/// A completed command.
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
    /// Its standard output; fails the test if the command failed.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "failed:\n{}{}", self.stdout, self.stderr);
        self.stdout
    }
}

/// Runs a command to completion.
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
