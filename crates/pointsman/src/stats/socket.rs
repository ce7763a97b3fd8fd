//! The socket of `--stats-socket`: few clients, and one that needs a place gets that of the client that has been silent for
//! longest. Knows no command.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::UnixListener;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::edits::KeyEdits;
use super::inputs::Stats;
use super::session::Session;
use crate::admin::seats::Seats;
use crate::settings::{StatsLevel, StatsSocket};
use crate::tenure::Tenure;

/// Most clients at the same time.
const MOST: usize = 32;
/// The pause after a failed accept.
const PAUSE: Duration = Duration::from_millis(100);

/// The socket, ready for clients. Its file goes with it, unless another process has put its own there.
pub struct StatsListener {
    listener: UnixListener,
    level: StatsLevel,
    edits: KeyEdits,
    file: SocketFile,
}

#[derive(Debug)]
struct SocketFile {
    /// Where it is now.
    path: PathBuf,
    /// Where clients look for it.
    place: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    /// Moves it to its place: it takes that of an earlier one at once, with its rights.
    fn place(&mut self) -> io::Result<()> {
        std::fs::rename(&self.path, &self.place)?;
        self.path.clone_from(&self.place);
        Ok(())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // It may be gone: then there is nothing to remove.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let facts = std::fs::symlink_metadata(path)?;
    Ok((facts.dev(), facts.ino()))
}

impl StatsListener {
    /// Binds it beside its place.
    ///
    /// # Errors
    /// Something else has this name, or the system refuses. The error names the setting.
    pub fn bind(settings: &StatsSocket, edits: KeyEdits) -> anyhow::Result<Self> {
        let StatsSocket { path, mode, level } = settings;
        let what = || format!("--stats-socket {}", path.display());
        if std::fs::symlink_metadata(path).is_ok_and(|facts| !facts.file_type().is_socket()) {
            bail!("{}: a file that is not a socket is there; name another path", what());
        }
        let mut draft = path.clone().into_os_string();
        draft.push(format!(".{}.tmp", std::process::id()));
        let draft = PathBuf::from(draft);
        // Of an earlier process of this number.
        let _ = std::fs::remove_file(&draft);
        let listener = UnixListener::bind(&draft).with_context(what)?;
        let rights = std::fs::Permissions::from_mode(*mode);
        let identity = identity(&draft).with_context(what)?;
        let file = SocketFile { path: draft, place: path.clone(), identity };
        std::fs::set_permissions(&file.path, rights).with_context(what)?;
        Ok(Self { listener, level: *level, edits, file })
    }
}

/// Serves clients until dropped, if there is a socket, and from when this program is the balancer.
pub async fn serve(socket: Option<StatsListener>, stats: Stats, mut tenure: Tenure) {
    let Some(StatsListener { listener, level, edits, mut file }) = socket else { return };
    tenure.begins().await;
    let path = file.place.display().to_string();
    match file.place() {
        Ok(()) => info!("stats socket: {path}, level {}", level.word()),
        Err(error) => return warn!("--stats-socket {path}: {error}; nothing of ours answers there"),
    }
    let (seats, edits) = (Seats::new(MOST), Arc::new(edits));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let session = Session::new(stream, stats.clone(), Arc::clone(&edits), level);
                let seat = seats.take();
                tokio::spawn(async move {
                    tokio::select! {
                        ended = session.run(|| seat.renew()) => match ended {
                            Ok(()) => {}
                            Err(error) => debug!("stats socket: {error}"),
                        },
                        () = seat.dismissed() => debug!("stats socket: another client needs the place"),
                    }
                });
            }
            Err(error) => {
                debug!("stats socket: cannot accept: {error}");
                seats.dismiss();
                sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pointsman_store::{Api, Location, Store, StoreSettings};

    use super::*;

    fn edits(folder: &Path) -> KeyEdits {
        let settings = StoreSettings {
            location: Location::Directory(folder.to_owned()),
            prefix: String::new(),
            api: Api::Auto,
            user: None,
            ca: None,
            identity: None,
            audit: Duration::from_secs(180),
        };
        KeyEdits::new(Store::open(&settings).unwrap(), String::new())
    }

    #[tokio::test]
    async fn the_file_is_only_ever_a_socket_of_ours() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let settings = StatsSocket { path: path.clone(), mode: 0o640, level: StatsLevel::Operator };
        let bind = || StatsListener::bind(&settings, edits(folder.path()));
        let placed = || {
            let mut listener = bind().unwrap();
            listener.file.place().unwrap();
            listener
        };
        let first = placed();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        let unplaced = bind().unwrap();
        drop(unplaced);
        assert!(path.exists(), "one that never came to its place takes nothing away");
        let second = placed();
        drop(first);
        assert!(path.exists(), "it is the second's");
        drop(second);
        assert!(!path.exists());
        std::fs::write(&path, "keys").unwrap();
        let error = bind().err().unwrap().to_string();
        assert!(error.contains("not a socket"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "keys");
    }
}
