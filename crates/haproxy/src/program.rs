//! The HAProxy to run: finds it and asks for its version. Also runs it for short tasks, each with a deadline and
//! bounded output; never the one that serves, which is `process`'s.

use std::ffi::OsStr;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::inherit;
use super::version::{Version, release};

/// How long `haproxy -vv` may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Most bytes that are kept of a short run's output.
const OUTPUT_LIMIT: u64 = 1 << 20;
/// Folders to search besides PATH: that of a service often lacks `sbin`.
const USUAL_FOLDERS: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/usr/local/bin"];

/// A HAProxy that this engine can drive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// What it can do.
    pub version: Version,
    /// Its full version: `2.6.12-1+deb12u4`.
    pub release: Box<str>,
}

/// Why there is no HAProxy to run: for the operator to repair.
#[derive(Debug, thiserror::Error)]
pub enum NoProgram {
    /// It is in none of the folders.
    #[error(
        "no {name} in PATH, /usr/sbin or /usr/local/sbin: install HAProxy (`apt install haproxy`) or say where it is with --haproxy"
    )]
    NotFound {
        /// What was looked for.
        name: String,
    },
    /// It cannot be started.
    #[error("cannot run {path}: {error}")]
    NotExecutable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It is too old.
    #[error("{path} is HAProxy {release}: the oldest that works is {}.{}", Version::OLDEST.0, Version::OLDEST.1)]
    TooOld {
        /// The file.
        path: PathBuf,
        /// Its version.
        release: Box<str>,
    },
    /// It does not end.
    #[error("{path} -vv did not end within {after:?}")]
    Hung {
        /// The file.
        path: PathBuf,
        /// How long was waited.
        after: Duration,
    },
    /// It is something else.
    #[error("{path} does not seem to be HAProxy: to -vv it says {said:?} ({status})")]
    NotHaproxy {
        /// The file.
        path: PathBuf,
        /// Its first line.
        said: Box<str>,
        /// How it ended.
        status: ExitStatus,
    },
}

/// Finds HAProxy: the file given, or by its name (usually `haproxy`) in PATH and the folders where it is usually
/// installed.
///
/// # Errors
/// See [`NoProgram`].
pub async fn find(given: Option<&Path>) -> Result<Program, NoProgram> {
    let name = given.unwrap_or(Path::new("haproxy"));
    let path = if name.components().count() > 1 { name.to_owned() } else { search(name)? };
    examine(path).await
}

fn search(name: &Path) -> Result<PathBuf, NoProgram> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(USUAL_FOLDERS.map(PathBuf::from));
    let mut files = folders.map(|folder| folder.join(name));
    files.find(|file| is_executable(file)).ok_or_else(|| NoProgram::NotFound { name: name.display().to_string() })
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

async fn examine(path: PathBuf) -> Result<Program, NoProgram> {
    let said = match run(&path, ["-vv"], &[], DEADLINE).await {
        Err(RunFault::CannotStart(error)) => return Err(NoProgram::NotExecutable { path, error }),
        Err(RunFault::Hung) => return Err(NoProgram::Hung { path, after: DEADLINE }),
        Ok(said) => said,
    };
    let (Some(version), Some(release)) = (Version::parse(&said.output), release(&said.output)) else {
        let first = said.output.lines().next().unwrap_or_default().chars().take(200).collect::<String>();
        return Err(NoProgram::NotHaproxy { path, said: first.into(), status: said.status });
    };
    let release = release.into();
    if !version.at_least(Version::OLDEST.0, Version::OLDEST.1) {
        return Err(NoProgram::TooOld { path, release });
    }
    Ok(Program { path, version, release })
}

/// The outcome of a short run.
pub(super) struct RunOutput {
    pub(super) status: ExitStatus,
    /// Both of its outputs, up to 1 MiB.
    pub(super) output: String,
}

/// Why a short run failed.
pub(super) enum RunFault {
    CannotStart(io::Error),
    /// It was killed at its deadline.
    Hung,
}

/// Runs the program to its end, with these sockets open in it under the same numbers.
pub(super) async fn run<A: AsRef<OsStr>>(
    program: &Path,
    arguments: impl IntoIterator<Item = A>,
    sockets: &[TcpListener],
    deadline: Duration,
) -> Result<RunOutput, RunFault> {
    let mut command = Command::new(program);
    // A group of its own, so that its children end with it.
    command.args(arguments).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = inherit::spawn(&mut command, sockets).map_err(RunFault::CannotStart)?;
    match timeout(deadline, finish(&mut child)).await {
        Ok(said) => said.map_err(RunFault::CannotStart),
        Err(_) => {
            kill_group(&child);
            // A killed process ends at once, unless the system hangs; that is not waited for.
            let _ = timeout(Duration::from_secs(1), child.wait()).await;
            Err(RunFault::Hung)
        }
    }
}

async fn finish(child: &mut Child) -> io::Result<RunOutput> {
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let (first, second) = tokio::join!(read(stdout.as_mut()), read(stderr.as_mut()));
    let output = String::from_utf8_lossy(&[first, second].concat()).into_owned();
    Ok(RunOutput { status: child.wait().await?, output })
}

/// Reads to the end, so that the writer never blocks, and keeps the beginning.
async fn read(stream: Option<&mut (impl AsyncRead + Unpin)>) -> Vec<u8> {
    let Some(stream) = stream else { return Vec::new() };
    let mut kept = Vec::new();
    // A pipe that cannot be read has nothing more to say.
    let _ = (&mut *stream).take(OUTPUT_LIMIT).read_to_end(&mut kept).await;
    let _ = tokio::io::copy(stream, &mut tokio::io::sink()).await;
    kept
}

/// Kills the process and all of its group, if they still run.
pub(super) fn kill_group(child: &Child) {
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
    let _ = pid.map(|group| kill_process_group(group, Signal::KILL));
}
