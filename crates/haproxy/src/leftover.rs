//! A HAProxy that outlived the Pointsman that started it: noted in a file while it runs, found by the next start and
//! ended, once it is sure that it is ours.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

/// How long it may take to end before it is killed, and once more before we give up.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often to look whether it has ended.
const TICK: Duration = Duration::from_millis(20);

/// Why a start would not be safe.
#[derive(Debug, thiserror::Error)]
pub enum LeftoverFault {
    /// Another Pointsman uses the folder.
    #[error("{folder} is in use by another pointsman (process {owner}): give each its own --state")]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// The other's process.
        owner: i32,
    },
    /// A HAProxy of an earlier run cannot be ended.
    #[error("a HAProxy of an earlier run (process {pid}) cannot be ended")]
    Undying {
        /// Its process.
        pid: i32,
    },
    /// The folder cannot be read.
    #[error("{folder}: {error}")]
    Unreadable {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// A running HAProxy and the Pointsman that started it. Process numbers are reused: start times tell them apart.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    pid: i32,
    started: u64,
    program: PathBuf,
    config: PathBuf,
    owner: i32,
    owner_started: u64,
}

/// The pid file of a HAProxy of ours, removed on drop.
#[derive(Debug)]
pub(super) struct PidFile(PathBuf);

impl PidFile {
    /// Writes it. A failure is only logged: HAProxy serves all the same.
    pub(super) fn write(path: &Path, pid: Pid, config: &Path) -> Self {
        let pid = pid.as_raw_nonzero().get();
        let owner = getpid().as_raw_nonzero().get();
        let started = |pid| stat(pid).map_or(0, |stat| stat.started);
        let program = program(pid).unwrap_or_default();
        let (started, owner_started) = (started(pid), started(owner));
        let note = Note { pid, started, program, config: config.into(), owner, owner_started };
        let written = serde_json::to_vec(&note).map_err(io::Error::from).and_then(|note| fs::write(path, note));
        if let Err(error) = written {
            let file = path.display();
            tracing::warn!(%file, %error, "cannot write the pid file: after a crash, HAProxy must be ended by hand");
        }
        Self(path.to_owned())
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // If it stays, the next start finds that the process is gone.
        let _ = fs::remove_file(&self.0);
    }
}

/// Ends every HAProxy that an earlier run left in this folder, by its `*.pid` files; returns their processes. Call it
/// before opening addresses: such a HAProxy still holds them.
///
/// # Errors
/// See [`LeftoverFault`].
pub async fn end_leftovers(folder: &Path) -> Result<Vec<u32>, LeftoverFault> {
    let unreadable = |error| LeftoverFault::Unreadable { folder: folder.to_owned(), error };
    let mut ended = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        if file.extension().is_some_and(|extension| extension == "pid") {
            ended.extend(end_noted(folder, &file).await?);
        }
    }
    Ok(ended)
}

/// Whether a HAProxy of a program that runs uses the folder.
pub fn is_in_use(folder: &Path) -> bool {
    let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let notes = files.filter(|file| file.extension().is_some_and(|extension| extension == "pid"));
    notes.filter_map(|file| serde_json::from_slice::<Note>(&fs::read(file).ok()?).ok()).any(|note| owner_lives(&note))
}

async fn end_noted(folder: &Path, file: &Path) -> Result<Vec<u32>, LeftoverFault> {
    let note = fs::read(file).ok().and_then(|bytes| serde_json::from_slice::<Note>(&bytes).ok());
    let Some(note) = note else {
        tracing::warn!(file = %file.display(), "removing an unreadable pid file");
        let _ = fs::remove_file(file);
        return Ok(Vec::new());
    };
    if owner_lives(&note) {
        return Err(LeftoverFault::InUse { folder: folder.to_owned(), owner: note.owner });
    }
    let ended = end(&note).await?;
    let _ = fs::remove_file(file);
    Ok(ended)
}

fn owner_lives(note: &Note) -> bool {
    let ours = note.owner == getpid().as_raw_nonzero().get();
    !ours && stat(note.owner).is_some_and(|stat| stat.started == note.owner_started && !stat.zombie)
}

async fn end(note: &Note) -> Result<Vec<u32>, LeftoverFault> {
    let found = living(note);
    if found.is_empty() {
        return Ok(Vec::new());
    }
    tracing::warn!(processes = ?found, "ending a HAProxy of an earlier run");
    for signal in [Signal::TERM, Signal::KILL] {
        for pid in living(note).into_iter().filter_map(Pid::from_raw) {
            // It may have ended by itself.
            let _ = kill_process(pid, signal);
        }
        if gone(note).await {
            return Ok(found.into_iter().map(i32::unsigned_abs).collect());
        }
    }
    Err(LeftoverFault::Undying { pid: note.pid })
}

async fn gone(note: &Note) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !living(note).is_empty() {
        if Instant::now() > deadline {
            return false;
        }
        sleep(TICK).await;
    }
    true
}

/// The master and its workers that still run. To be sure, each must have started no earlier than noted and run the same
/// program with the configuration in our folder. The process group does not tell: workers of 3.1 have their own.
fn living(note: &Note) -> Vec<i32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers.filter(|pid| is_noted(*pid, note)).collect()
}

fn is_noted(pid: i32, note: &Note) -> bool {
    let Some(stat) = stat(pid) else { return false };
    let same = if pid == note.pid { stat.started == note.started } else { stat.started >= note.started };
    same && !stat.zombie && program(pid).as_ref() == Some(&note.program) && runs(pid, &note.config)
}

/// The file that the process executes, even if a package upgrade has replaced it since.
fn program(pid: i32) -> Option<PathBuf> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let name = path.to_str().and_then(|path| path.strip_suffix(" (deleted)")).map(PathBuf::from);
    Some(name.unwrap_or(path))
}

/// Whether the process was started with that configuration.
fn runs(pid: i32, config: &Path) -> bool {
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    arguments.split(|byte| *byte == 0).any(|argument| argument == config.as_os_str().as_encoded_bytes())
}

/// Facts about a process from the kernel (proc_pid_stat(5)).
struct Stat {
    zombie: bool,
    /// In clock ticks since the system's start.
    started: u64,
}

fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in brackets and may hold spaces and brackets itself. Field 3 follows.
    let (_, fields) = text.rsplit_once(") ")?;
    let fields: Vec<_> = fields.split(' ').collect();
    Some(Stat { zombie: *fields.first()? == "Z", started: fields.get(19)?.parse().ok()? })
}
