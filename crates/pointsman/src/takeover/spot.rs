//! The socket in `--state` on which the program that serves can be asked to hand over. A successor puts its own in the
//! place in one step, so that there is always one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use rustix::fs::OFlags;
use rustix::process::geteuid;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::frames::FrameStream;
use super::messages::{GiverWord, TakeoverAsk};
use crate::control::epoch_millis;

/// The socket's name in `--state`.
const NAME: &str = "takeover.sock";
/// How long a program that serves may take to accept a connection and to say its first word.
pub(super) const ANSWER: Duration = Duration::from_secs(10);
/// How long an answer may be late.
const LATE: Duration = Duration::from_secs(1);
/// Longest short message, bytes.
pub(super) const SHORT: usize = 64 * 1024;

/// Why a program cannot listen there.
#[derive(Debug, thiserror::Error)]
pub(super) enum SpotTaken {
    /// Another program has the folder.
    #[error("another pointsman{who} uses the folder; give each its own --state")]
    InUse {
        /// ` (process 7)`, if it is in this process's namespace.
        who: String,
    },
    /// The folder cannot be used.
    #[error("cannot listen on {path}: {error}")]
    Unusable {
        /// The socket's path.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// ` (process 7)`.
pub(super) fn of_process(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

/// The socket that this program listens on.
#[derive(Debug)]
pub(super) struct Spot {
    listener: UnixListener,
    path: PathBuf,
    /// Its number in the file system: by then another program's may have its name.
    inode: u64,
}

impl Spot {
    /// Listens in this folder, if nobody does.
    ///
    /// # Errors
    /// See [`SpotTaken`].
    pub(super) async fn open(state: &Path) -> Result<Self, SpotTaken> {
        match connect(state).await {
            Ok(Some(stream)) => Err(SpotTaken::InUse { who: of_process(pid_of(&stream)) }),
            Ok(None) => Self::replace(state),
            Err(error) => Err(SpotTaken::Unusable { path: state.join(NAME), error }),
        }
    }

    /// Listens in this folder from now on, in the place of who did.
    ///
    /// # Errors
    /// [`SpotTaken::Unusable`].
    pub(super) fn replace(state: &Path) -> Result<Self, SpotTaken> {
        let path = state.join(NAME);
        Self::bind(state, &path).map_err(|error| SpotTaken::Unusable { path, error })
    }

    fn bind(state: &Path, path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(state)?;
        let draft = format!("{NAME}.{:08x}", fastrand::u32(..));
        let folder = opened(state)?;
        let at = in_folder(&folder, &draft);
        let listener = UnixListener::bind(&at)?;
        let placed = fs::set_permissions(&at, fs::Permissions::from_mode(0o600))
            .and_then(|()| fs::metadata(&at))
            .and_then(|about| fs::rename(&at, in_folder(&folder, NAME)).map(|()| about.ino()));
        if placed.is_err() {
            let _ = fs::remove_file(&at);
        }
        Ok(Self { listener, path: path.to_owned(), inode: placed? })
    }

    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    /// Removes the socket, unless it is a successor's.
    pub(super) fn remove(self) {
        if fs::metadata(&self.path).is_ok_and(|about| about.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Connects to the program that serves; `None`: there is none.
///
/// # Errors
/// It is there, and cannot be reached.
pub(super) async fn connect(state: &Path) -> io::Result<Option<UnixStream>> {
    let folder = match opened(state) {
        Ok(folder) => folder,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match timeout(ANSWER, UnixStream::connect(in_folder(&folder, NAME))).await {
        Ok(Ok(stream)) => Ok(Some(stream)),
        // A socket whose program has ended refuses.
        Ok(Err(error)) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            Ok(None)
        }
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// The program that serves with this state folder, in words; `None`: there is none, or it cannot be told. It need not answer.
pub async fn listener_of(state: &Path) -> Option<String> {
    let stream = connect(state).await.ok().flatten()?;
    Some(format!("the balancer{}", of_process(pid_of(&stream))))
}

/// A socket's path may have 107 bytes only: this one is short however long the folder's is.
fn in_folder(folder: &File, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))
}

fn opened(folder: &Path) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(folder)
}

/// The process at the other end, if it is in this process's namespace.
pub(super) fn pid_of(stream: &UnixStream) -> Option<u32> {
    let pid = stream.peer_cred().ok()?.pid()?;
    u32::try_from(pid).ok().filter(|pid| *pid > 0)
}

/// Whether the other end runs as this user, or as root.
pub(super) fn is_of_us(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == geteuid().as_raw() || peer.uid() == 0)
}

/// Asks the program that serves to start its successor, and waits until that serves. Returns the successor's process. With a
/// `prefix`, only a program that serves its keys is upgraded.
///
/// # Errors
/// Nobody serves there, or the upgrade failed: the error says why. The old program serves on.
pub async fn ask_for_upgrade(state: &Path, prefix: Option<String>, within: Duration) -> anyhow::Result<u32> {
    let folder = state.display();
    let stream = connect(state).await.with_context(|| format!("--state {folder}: cannot ask the balancer there"))?;
    let Some(stream) = stream else {
        bail!(
            "no balancer runs on --state {folder}; name the folder of the one that runs, or start one: `pointsman run`"
        );
    };
    let pid = pid_of(&stream);
    let mut frames = FrameStream::new(stream);
    let millis = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
    let until = epoch_millis(SystemTime::now()).saturating_add(millis);
    frames.say(&TakeoverAsk::Upgrade { within: millis, until, prefix }).await.context("asking for the upgrade")?;
    match timeout(within.saturating_add(LATE), frames.hear(SHORT)).await {
        Ok(Ok(Some(GiverWord::Upgraded { pid }))) => Ok(pid),
        Ok(Ok(Some(GiverWord::Refused { why }))) => bail!("{why}"),
        Ok(Ok(Some(_))) => bail!("the balancer{} is of a version that cannot be asked", of_process(pid)),
        Ok(Ok(None)) => bail!("the balancer{} ended before it answered; its log says why", of_process(pid)),
        Ok(Err(error)) => bail!("asked the balancer{}: {error}", of_process(pid)),
        Err(_) => bail!(
            "the balancer{} does not answer: it hangs, and is not upgraded. End it, and start it again",
            of_process(pid)
        ),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[tokio::test]
    async fn one_listens_and_its_successor_replaces_it() {
        let state = TempDir::new().unwrap();
        let deep = state.path().join("d".repeat(200));
        assert!(connect(&deep).await.unwrap().is_none());
        let first = Spot::open(&deep).await.unwrap();
        assert_eq!(fs::metadata(deep.join(NAME)).unwrap().permissions().mode() & 0o777, 0o600);
        let said = Spot::open(&deep).await.unwrap_err().to_string();
        assert!(said.contains(&format!("(process {})", std::process::id())), "{said}");
        let second = Spot::replace(&deep).unwrap();
        first.remove();
        assert!(connect(&deep).await.unwrap().is_some(), "the successor's stays");
        drop(second);
        assert!(connect(&deep).await.unwrap().is_none(), "nobody listens");
        Spot::open(&deep).await.unwrap().remove();
        assert_eq!(fs::read_dir(&deep).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_used_is_named() {
        let state = TempDir::new().unwrap();
        let file = state.path().join("file");
        fs::write(&file, "").unwrap();
        let said = Spot::open(&file).await.unwrap_err().to_string();
        assert!(said.contains("cannot listen on") && said.contains("file/takeover.sock: Not a directory"), "{said}");
        let said = ask_for_upgrade(state.path(), None, Duration::ZERO).await.unwrap_err().to_string();
        assert!(said.starts_with("no balancer runs on --state "), "{said}");
    }
}
