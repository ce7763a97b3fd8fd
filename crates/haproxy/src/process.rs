//! One running HAProxy: a master in the foreground as our child, with its workers. Starts, reloads and ends it, and
//! reports the outcome; never decides when.
//!
//! ```text
//! start ─> ready ─> reload ─> reload ─> ... ─> stop
//!            │         ├─ refused, intact: the old worker serves on, and the next reload may succeed
//!            │         └─ refused, not intact: the old worker serves on; the next load needs a new Process
//!            └─ died: exited() says how
//! ```

use std::fs;
use std::future::pending;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::answers::{Info, Processes, info};
use super::check::complaints;
use super::complaint::{self, Complaint};
use super::inherit;
use super::leftover::PidFile;
use super::master::{Master, Verdict};
use super::output::Output;
use super::program::{Program, kill_group};
use super::runtime::{Fault, Runtime};

/// How long a start or a reload may take unless the caller says otherwise.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// How often to try a runtime socket that is not there yet.
const TICK: Duration = Duration::from_millis(5);
/// How long idle clients may still send a request to a stopping HAProxy.
const IDLE_GRACE: Duration = Duration::from_secs(1);
/// How often to ask a stopping HAProxy whether anything still runs.
const IDLE_TICK: Duration = Duration::from_millis(100);
/// How long a HAProxy may take after SIGTERM before it is killed.
const LAST_GRACE: Duration = Duration::from_secs(2);
/// A master's words for a failed reload: 2.4, 2.5 to 3.0, 3.1 and later.
const FAILURES: [&str; 3] = ["in waitpid mode", "Loading failure", "Failed to load worker"];

/// The HAProxy of the program before, which serves until this program's does.
#[derive(Clone, Debug)]
pub struct Former {
    /// The runtime socket of its worker, which hands its listening sockets on.
    pub runtime: PathBuf,
    /// The addresses that it opened itself.
    pub open: Vec<SocketAddr>,
}

/// What to start.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// The HAProxy.
    pub program: &'a Program,
    /// Its configuration: the same path for every reload.
    pub config: &'a Path,
    /// The path of the master's command socket.
    pub master: &'a Path,
    /// The pid file, for [`super::leftover::end_leftovers`].
    pub pid_file: &'a Path,
    /// The sockets that the configuration names (`bind fd@N`), this time and at every reload.
    pub sockets: &'a [TcpListener],
    /// The runtime socket of another HAProxy, whose listening sockets are used for addresses that are in both
    /// configurations (`-x`): it may stop then, and no connection is lost.
    pub former: Option<&'a Path>,
}

/// Why HAProxy did not start or reload. The old worker serves on, unless HAProxy ended.
#[derive(Debug, thiserror::Error)]
pub enum ProcessFault {
    /// The program could not be started.
    #[error("cannot start HAProxy: {0}")]
    CannotStart(io::Error),
    /// HAProxy refuses the configuration.
    #[error("HAProxy refuses its configuration: {}", in_words(.0))]
    Refused(Vec<Complaint>),
    /// HAProxy ended.
    #[error("HAProxy ended ({status}): {}", in_words(complaints))]
    Died {
        /// How.
        status: ExitStatus,
        /// Its last complaints; at least one.
        complaints: Vec<Complaint>,
    },
    /// It neither accepted nor refused the configuration in time.
    #[error("HAProxy did not load its configuration within {0:?}")]
    Silent(Duration),
    /// Its master does not take commands.
    #[error("{0}")]
    Master(Fault),
}

fn in_words(complaints: &[Complaint]) -> String {
    complaints.iter().map(|complaint| complaint.words.as_str()).collect::<Vec<_>>().join("; ")
}

/// A running HAProxy. Killed when dropped; its workers end when their master does.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pid: Pid,
    config: PathBuf,
    master: Master,
    output: Output,
    sockets: Vec<(i32, PathBuf)>,
    _pid_file: PidFile,
}

impl Process {
    /// Starts it. It does not serve yet: see [`Process::ready`].
    ///
    /// # Errors
    /// [`ProcessFault::CannotStart`].
    pub fn start(launch: &Launch<'_>) -> Result<Self, ProcessFault> {
        let mut child = inherit::spawn(&mut command(launch), launch.sockets).map_err(ProcessFault::CannotStart)?;
        let pid =
            child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?)).expect("a child that nobody waited for");
        let pid_file = PidFile::write(launch.pid_file, pid, launch.config);
        let output = Output::default();
        child.stdout.take().into_iter().for_each(|stream| output.follow(stream));
        child.stderr.take().into_iter().for_each(|stream| output.follow(stream));
        let sockets = launch.sockets.iter().filter_map(|socket| identity("self", socket.as_raw_fd())).collect();
        let (config, master) = (launch.config.to_owned(), Master::new(launch.master, pid));
        Ok(Self { child, pid, config, master, output, sockets, _pid_file: pid_file })
    }

    /// Waits until it serves: its worker answers on the configuration's runtime socket, and the master takes commands.
    ///
    /// # Errors
    /// [`ProcessFault::Died`], [`ProcessFault::Silent`], [`ProcessFault::Master`].
    pub async fn ready(&mut self, runtime: &Runtime, deadline: Duration) -> Result<Info, ProcessFault> {
        let Self { child, output, config, master, .. } = self;
        let outcome = async {
            tokio::select! {
                info = serves(runtime, master) => info,
                ended = child.wait() => Err(died(ended, output, 0, config).await),
            }
        };
        timeout(deadline, outcome).await.unwrap_or(Err(ProcessFault::Silent(deadline)))
    }

    /// Has the master load its configuration again, and waits for the verdict: either the new worker answers on its
    /// runtime socket, which must have a new path, or the master says that the reload failed. Then the old worker
    /// serves on.
    ///
    /// # Errors
    /// See [`ProcessFault`].
    pub async fn reload(&mut self, runtime: &Runtime, deadline: Duration) -> Result<Info, ProcessFault> {
        let mark = self.output.mark();
        let Self { child, output, config, master, .. } = self;
        let outcome = async {
            tokio::select! {
                info = loads(runtime, master, config, deadline) => info,
                () = failure(output, mark) => Err(ProcessFault::Refused(Vec::new())),
                ended = child.wait() => Err(died(ended, output, mark, config).await),
            }
        };
        let outcome = timeout(deadline, outcome).await.unwrap_or(Err(ProcessFault::Silent(deadline)));
        if let Err(ProcessFault::Refused(_)) = outcome {
            // The master re-executes itself. If it does not return from that, the next reload will find out.
            let _ = master.processes().await;
        }
        outcome.map_err(|fault| with_complaints(fault, || output.since(mark), config))
    }

    /// Whether the master still holds the inherited sockets. Up to 3.0 it closes them when a new worker cannot open an
    /// address: it serves on, but no later reload can succeed. Then start another process beside it, wait until that is
    /// ready, and [`Process::stop`] this one: both listen on the same sockets meanwhile, and no connection is lost.
    pub fn is_intact(&self) -> bool {
        let holder = self.pid.to_string();
        self.sockets.iter().all(|socket| identity(&holder, socket.0).as_ref() == Some(socket))
    }

    /// The master.
    pub fn master(&self) -> &Master {
        &self.master
    }

    /// Its workers, see [`Master::processes`].
    ///
    /// # Errors
    /// The master does not answer.
    pub async fn workers(&self) -> Result<Processes, Fault> {
        self.master.processes().await
    }

    /// The master's process.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits until it ends. May be dropped and called again.
    ///
    /// # Errors
    /// The system does not know the process: somebody else has waited for it.
    pub async fn exited(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Ends it: it stops accepting at once and may finish its work within `grace`. Idle clients have a second to send
    /// one more request.
    pub async fn stop(mut self, grace: Duration) {
        // It may have ended by itself.
        let _ = kill_process(self.pid, Signal::USR1);
        let Self { child, master, .. } = &mut self;
        let finished = async {
            tokio::select! {
                _ = child.wait() => {}
                () = idle(master) => {}
            }
        };
        let _ = timeout(grace, finished).await;
        if self.child.try_wait().is_ok_and(|status| status.is_some()) {
            return;
        }
        let _ = kill_process(self.pid, Signal::TERM);
        if timeout(LAST_GRACE, self.child.wait()).await.is_err() {
            self.kill().await;
        }
    }

    /// Kills it and its workers.
    pub async fn kill(mut self) {
        kill_group(&self.child);
        // A killed process ends at once, unless the system hangs; that is not waited for.
        let _ = timeout(LAST_GRACE, self.child.wait()).await;
    }
}

/// Kills the group: stopped workers would not notice that their master is gone.
impl Drop for Process {
    fn drop(&mut self) {
        kill_group(&self.child);
    }
}

fn command(launch: &Launch<'_>) -> Command {
    let mut command = Command::new(&launch.program.path);
    let mut socket = launch.master.as_os_str().to_owned();
    socket.push(",mode,600,level,admin");
    command.args(["-W", "-db", "-S"]).arg(socket).arg("-f").arg(launch.config);
    if let Some(former) = launch.former {
        command.arg("-x").arg(former);
    }
    // A group of its own: a Ctrl-C at the terminal must reach only us, as we decide how HAProxy ends.
    command.process_group(0).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The kernel's name for the socket that a process holds under this number.
fn identity(process: &str, socket: i32) -> Option<(i32, PathBuf)> {
    Some((socket, fs::read_link(format!("/proc/{process}/fd/{socket}")).ok()?))
}

/// Returns once a worker answers there.
async fn answers(runtime: &Runtime) -> Info {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Some(info) = runtime.ask_one("show info").await.ok().as_deref().and_then(info) {
            return info;
        }
    }
}

/// Returns once a worker answers there and the master takes commands.
async fn serves(runtime: &Runtime, master: &Master) -> Result<Info, ProcessFault> {
    let info = answers(runtime).await;
    master.processes().await.map_err(ProcessFault::Master)?;
    Ok(info)
}

/// Tells the master to reload. Returns once the new worker serves, or the master answers that the reload failed.
async fn loads(runtime: &Runtime, master: &Master, config: &Path, deadline: Duration) -> Result<Info, ProcessFault> {
    let told = async {
        match master.reload(deadline).await {
            Ok(Verdict::Loaded) => pending().await,
            Ok(Verdict::Refused(words)) => ProcessFault::Refused(complaint::read(&words, config).complaints),
            Err(fault) => ProcessFault::Master(fault),
        }
    };
    tokio::select! {
        refused = told => Err(refused),
        // The master's socket may still be missing, but the new worker must catch up at once. The next reload waits for
        // it.
        info = answers(runtime) => Ok(info),
    }
}

/// Returns once no worker has a request or a TCP connection in progress.
async fn idle(master: &Master) {
    sleep(IDLE_GRACE).await;
    let mut ticks = interval(IDLE_TICK);
    loop {
        ticks.tick().await;
        let Ok(found) = master.processes().await else { continue };
        let mut busy = found.workers.is_empty();
        for worker in &found.workers {
            // An idle connection has no session, and this question's own session does not use TCP.
            let sessions = master.ask_worker(worker.pid, "show sess").await;
            busy |= sessions.is_ok_and(|sessions| sessions.contains(" proto=tcp"));
        }
        if !busy {
            return;
        }
    }
}

/// Returns once the master has printed that a reload failed.
async fn failure(output: &Output, mark: usize) {
    while !FAILURES.iter().any(|words| output.since(mark).contains(words)) {
        output.printed().await;
    }
}

async fn died(ended: io::Result<ExitStatus>, output: &Output, mark: usize, config: &Path) -> ProcessFault {
    let status = match ended {
        Ok(status) => status,
        Err(error) => return ProcessFault::CannotStart(error),
    };
    // Its last lines may still be in the pipe.
    output.ended().await;
    let words = output.since(mark);
    ProcessFault::Died { status, complaints: complaints(complaint::read(&words, config), status, &words) }
}

/// Adds the master's printed complaints to a refusal that has none.
fn with_complaints(fault: ProcessFault, words: impl FnOnce() -> String, config: &Path) -> ProcessFault {
    match fault {
        ProcessFault::Refused(told) if told.is_empty() => {
            let mut complaints = complaint::read(&words(), config).complaints;
            if complaints.is_empty() {
                complaints.push(Complaint { words: "it does not say why".into(), ..Complaint::default() });
            }
            ProcessFault::Refused(complaints)
        }
        fault => fault,
    }
}
