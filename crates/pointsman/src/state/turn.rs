//! One program at a time keeps what is below `--state` for a store and prefix: it holds a lock. The next one waits until that
//! program has written its last lines, or has ended.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use tokio::time::sleep;

use super::StateFile;

/// The file's ending.
const ENDING: &str = "lock";
/// Pauses between two attempts: a program that hands over needs milliseconds.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Waits until no other program keeps the files beside this one; it keeps others waiting until all its copies are dropped.
/// Where files cannot be locked, nobody waits.
pub async fn turn(file: StateFile) -> StateFile {
    let (mut pause, longest) = PAUSES;
    loop {
        match locked(&file) {
            Ok(Some(lock)) => return StateFile { _lock: Some(Arc::new(lock)), ..file },
            Ok(None) => sleep(pause).await,
            // Whoever writes there says why it cannot.
            Err(_) => return file,
        }
        pause = (pause * 2).min(longest);
    }
}

fn locked(file: &StateFile) -> io::Result<Option<File>> {
    let path = file.path.with_extension(ENDING);
    DirBuilder::new().recursive(true).mode(0o700).create(path.parent().expect("a file is in a folder"))?;
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::state::tests::settings;

    #[tokio::test]
    async fn one_program_writes_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let file = |prefix| StateFile::new(folder.path(), &settings(&["http://a:1"], prefix));
        let first = turn(file("/x")).await;
        assert!(first._lock.is_some() && turn(file("/y")).await._lock.is_some(), "each prefix has its own");
        let second = turn(file("/x"));
        tokio::pin!(second);
        assert!(timeout(Duration::from_millis(50), &mut second).await.is_err());
        // A write goes on in the background.
        let beside = crate::state::journal::JournalFile::beside(&first);
        drop(first);
        assert!(timeout(Duration::from_millis(50), &mut second).await.is_err());
        drop(beside);
        assert!(second.await._lock.is_some());
        std::fs::write(folder.path().join("file"), "").unwrap();
        let nowhere = StateFile::new(&folder.path().join("file"), &settings(&["http://a:1"], "/x"));
        assert!(turn(nowhere).await._lock.is_none(), "it goes on without");
    }
}
