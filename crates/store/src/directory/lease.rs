//! A lease in a folder: a file that lists the owner's keys and that the owner keeps locked while it runs. The kernel
//! releases the lock however the owner ends, so nothing has to be renewed, and no clock is read.
//!
//! ```text
//! locked ─owner ends─> free ─for ttl, as seen by a follower of the folder─> keys and file removed
//!                        └─owner returns─> locked, with its keys
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::files;
use super::files::Content;
use super::store::{Directory, blocking, failed, replace_in_folder, replace_with};
use crate::error::StoreError;
use crate::model::{ASIDE, Claim, Edit, LeaseOutcome, Owner, is_same};

/// A removed file is not written again for this long: a new file would make a running `rm -r` of the store fail.
const REMOVED: Duration = Duration::from_millis(1500);
/// While keys are being removed, edits wait until nothing was removed for this long,
const HUSH: Duration = Duration::from_millis(100);
/// but not longer than this.
const LONGEST_HUSH: Duration = Duration::from_secs(1);
/// Parent folders of a deleted key that are removed if they are empty: `upstreams`, and the service's folder.
const EMPTIED: usize = 2;

/// The content of the file.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Holdings {
    /// How long the keys live after their owner ends, in milliseconds.
    ttl: u64,
    /// Full keys, and the owner's value for each: one, or two while it is being replaced. A file with any other content
    /// belongs to somebody else.
    keys: BTreeMap<String, Vec<String>>,
}

/// A lease and its owner.
pub(crate) struct DirectoryLease {
    store: Directory,
    file: Arc<File>,
    path: PathBuf,
    ttl: Duration,
    /// Keys that somebody else removed, and when that was noticed.
    removed: Arc<Mutex<BTreeMap<String, Instant>>>,
}

impl DirectoryLease {
    pub(crate) async fn grant(
        store: &Directory,
        owner: &Owner,
        ttl: Duration,
        claim: Claim,
    ) -> Result<Self, StoreError> {
        let path = store.path(&owner.place());
        // Nothing here touches a file on this thread: a file system that hangs must not keep it.
        let is_there = {
            let (store, path) = (store.clone(), path.clone());
            blocking(move || path.exists() && lock(&store).exists()).await
        };
        if claim == Claim::Again && !is_there {
            tokio::time::sleep(REMOVED).await;
        }
        let lease = {
            let (store, path) = (store.clone(), path.clone());
            blocking(move || open(&store, &path)).await
        };
        let file = lease.map_err(failed(&path))?.ok_or_else(|| StoreError::LeaseHeld { path: path.clone() })?;
        let lease = Self { store: store.clone(), file: Arc::new(file), path, ttl, removed: Arc::default() };
        let work = lease.work();
        // Creates the lock. Edits do not create it, because somebody may have removed it a moment ago.
        blocking(move || alone(&work.store).and_then(|_alone| work.update(|_| ()))).await?;
        Ok(lease)
    }

    pub(crate) fn ttl(&self) -> Duration {
        self.ttl
    }

    /// The lock keeps the lease alive, so this only checks that the files still exist.
    pub(crate) async fn renew(&self) -> Result<LeaseOutcome, StoreError> {
        let work = self.work();
        let is_there = blocking(move || is_at(&work.file, &work.path) && lock(&work.store).exists()).await;
        Ok(if is_there { LeaseOutcome::Done(0) } else { LeaseOutcome::Ended })
    }

    pub(crate) async fn apply(&self, edits: &[Edit]) -> Vec<Result<LeaseOutcome, StoreError>> {
        let (edits, work) = (edits.to_vec(), self.work());
        if edits.iter().any(|edit| edit.key().starts_with(ASIDE)) {
            self.hush().await;
        }
        blocking(move || {
            // The ownership check and the edit happen under one lock.
            let _alone = match work.alone() {
                Ok(Some(locked)) => locked,
                Ok(None) => return edits.iter().map(|_| Ok(LeaseOutcome::Ended)).collect(),
                Err(error) => return edits.iter().map(|_| Err(error.clone())).collect(),
            };
            edits.iter().map(|edit| work.edit(edit)).collect()
        })
        .await
    }

    /// Waits while keys are being removed: somebody may be removing the whole store, our keys included.
    async fn hush(&self) {
        let end = tokio::time::Instant::now() + LONGEST_HUSH;
        loop {
            let removal = *self.store.removal.lock().unwrap_or_else(PoisonError::into_inner);
            match removal.map(|at| at + HUSH).filter(|quiet| *quiet > tokio::time::Instant::now()) {
                Some(quiet) if quiet < end => tokio::time::sleep_until(quiet).await,
                Some(_) | None => return,
            }
        }
    }

    fn work(&self) -> Errand {
        let (store, file, path) = (self.store.clone(), self.file.clone(), self.path.clone());
        Errand { store, file, path, ttl: self.ttl, removed: self.removed.clone() }
    }

    pub(crate) async fn held(&self) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
        let (mut held, work) = (BTreeMap::new(), self.work());
        for (key, written) in blocking(move || work.record()).await?.keys {
            if let Some(value) = self.store.get(&key).await?.filter(|value| is_written(value, &written)) {
                held.insert(key, value);
            }
        }
        Ok(held)
    }

    pub(crate) async fn release(&self) -> Result<(), StoreError> {
        let work = self.work();
        blocking(move || {
            // Waits for edits that still run although their futures were dropped.
            let Some(_alone) = work.alone()? else { return Ok(()) };
            end(&work.store, &work.path, &work.record()?).map_err(failed(&work.path))
        })
        .await
    }
}

/// Blocking work on a lease.
struct Errand {
    store: Directory,
    file: Arc<File>,
    path: PathBuf,
    ttl: Duration,
    removed: Arc<Mutex<BTreeMap<String, Instant>>>,
}

impl Errand {
    /// The lock for edits; `None` if it or the lease was removed: do not create another now.
    fn alone(&self) -> Result<Option<File>, StoreError> {
        let path = lock(&self.store);
        let locked = File::open(&path).and_then(|file| {
            flock(&file, FlockOperation::LockExclusive)?;
            Ok(file)
        });
        match locked {
            Ok(_) if !is_at(&self.file, &self.path) => Ok(None),
            Err(error) if files::is_missing(&error) => Ok(None),
            other => other.map(Some).map_err(failed(&path)),
        }
    }

    /// Whether a key of ours that somebody removed has been missing for long enough to be written again.
    fn may_return(&self, key: &str) -> bool {
        let mut removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
        let since = *removed.entry(key.to_owned()).or_insert_with(Instant::now);
        let is_over = since.elapsed() >= REMOVED;
        if is_over {
            removed.remove(key);
        }
        is_over
    }

    fn edit(&self, edit: &Edit) -> Result<LeaseOutcome, StoreError> {
        if !is_at(&self.file, &self.path) {
            return Ok(LeaseOutcome::Ended);
        }
        let (path, key) = (self.store.file(edit.key())?, edit.key().to_owned());
        let written = self.record()?.keys.remove(&key).unwrap_or_default();
        let (is_taken, is_missing) = match files::read(&path) {
            Ok(Content::Value(value)) => (!is_written(&value, &written), false),
            Ok(Content::Fresh | Content::Unreadable(_)) => (true, false),
            Err(error) => (!files::is_missing(&error), true),
        };
        let is_put = matches!(edit, Edit::Put { .. });
        if is_put && !is_taken && is_missing && !written.is_empty() && !self.may_return(&key) {
            return Err(StoreError::Files { path, why: "somebody removed it; it is written again soon".to_owned() });
        }
        if is_taken {
            self.update(|keys| drop(keys.remove(&key)))?;
            return Ok(LeaseOutcome::Taken);
        }
        match edit {
            Edit::Put { value, .. } => {
                let now = String::from_utf8_lossy(value).into_owned();
                let both = written.into_iter().chain([now.clone()]).collect();
                self.update(|keys| drop(keys.insert(key.clone(), both)))?;
                let line = files::content_of(value);
                let made = make_folder(&self.store, path.parent().unwrap_or(&path));
                made.and_then(|()| replace_in_folder(&path, &line)).map_err(failed(&path))?;
                self.update(|keys| drop(keys.insert(key, vec![now])))?;
            }
            Edit::Delete { .. } if written.is_empty() => return Ok(LeaseOutcome::Taken),
            Edit::Delete { .. } => {
                remove(&path).map_err(failed(&path))?;
                self.update(|keys| drop(keys.remove(&key)))?;
            }
        }
        Ok(LeaseOutcome::Done(0))
    }

    fn record(&self) -> Result<Holdings, StoreError> {
        read(&self.file).map_err(failed(&self.path))
    }

    fn update(&self, change: impl FnOnce(&mut BTreeMap<String, Vec<String>>)) -> Result<(), StoreError> {
        let mut record = self.record()?;
        change(&mut record.keys);
        record.ttl = u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX);
        write(&self.file, &record).map_err(failed(&self.path))
    }
}

/// Whether a file holds a value that its owner has written.
fn is_written(value: &[u8], written: &[String]) -> bool {
    let value = String::from_utf8_lossy(value);
    written.iter().any(|written| is_same(&value, written))
}

/// Locks edits of owned keys against other processes; holds the lock while the returned file is open.
pub(super) fn alone(store: &Directory) -> Result<File, StoreError> {
    let path = lock(store);
    let open = || {
        make_folder(store, path.parent().unwrap_or(&path))?;
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?
            }
            // Locking does not need write permission.
            other => other?,
        };
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    };
    open().map_err(failed(&path))
}

fn lock(store: &Directory) -> PathBuf {
    store.path(&format!("{ASIDE}/lock"))
}

/// Creates `.pointsman` and folders of keys with the owner of the store's folder, so that root starting first does not
/// lock the balancer's user out. Never creates the store's own folder: a missing (or unmounted) folder must not look
/// like an empty store.
fn make_folder(store: &Directory, folder: &Path) -> io::Result<()> {
    let about = fs::metadata(&store.root)?;
    let below = folder.strip_prefix(&store.root).unwrap_or(folder);
    let mut made = store.root.clone();
    for part in below {
        made.push(part);
        match fs::create_dir(&made) {
            // Only root can do this, and only root needs to.
            Ok(()) => drop(std::os::unix::fs::chown(&made, Some(about.uid()), Some(about.gid()))),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes a new file that nobody but its owner may read, the owner of the store's folder.
pub(super) fn make_private(store: &Directory, path: &Path, content: &[u8]) -> io::Result<()> {
    make_folder(store, path.parent().unwrap_or(path))?;
    let about = fs::metadata(&store.root)?;
    replace_with(path, content, |file| {
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        // As with folders.
        let _ = std::os::unix::fs::fchown(file, Some(about.uid()), Some(about.gid()));
        Ok(())
    })
}

/// Opens and locks a lease's file. `None` while its owner runs. Retries, because a process that checks for an owner
/// also holds the lock briefly.
fn open(store: &Directory, path: &Path) -> io::Result<Option<File>> {
    make_folder(store, path.parent().unwrap_or(path))?;
    for _ in 0..20 {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match try_lock(&file)? {
            // Deleted between open and lock, by a process that found it free for too long.
            true if !is_at(&file, path) => {}
            true => return Ok(Some(file)),
            false => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    Ok(None)
}

fn try_lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether this open file is still the one at this path.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |about: fs::Metadata| (about.dev(), about.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(there)) => identity(open) == identity(there),
        _ => false,
    }
}

fn read(file: &File) -> io::Result<Holdings> {
    let mut text = Vec::new();
    let mut at = 0;
    loop {
        let mut piece = [0; 8192];
        match file.read_at(&mut piece, at)? {
            0 => break,
            count => text.extend_from_slice(&piece[..count]),
        }
        at = text.len() as u64;
    }
    // An empty file is new; a file truncated by a power loss lists nothing that could be trusted.
    Ok(serde_json::from_slice(&text).unwrap_or_default())
}

/// Writes in place, because a renamed file would lose the lock. Cuts off the tail of a longer old text last.
fn write(file: &File, record: &Holdings) -> io::Result<()> {
    let mut text = serde_json::to_vec(record)?;
    text.push(b'\n');
    let before = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    let length = text.len() as u64;
    // Trailing white space is ignored, so the text is complete with or without the tail.
    text.resize(text.len().max(before), b' ');
    file.write_all_at(&text, 0)?;
    file.set_len(length)?;
    // Keys survive a power loss, so their owner must too.
    file.sync_data()
}

/// Removes the keys, then the file, while it is locked.
fn end(store: &Directory, path: &Path, record: &Holdings) -> io::Result<()> {
    for (key, written) in &record.keys {
        let file = store.path(key);
        let is_ours = matches!(files::read(&file), Ok(Content::Value(value)) if is_written(&value, written));
        if is_ours {
            remove(&file)?;
        }
    }
    fs::remove_file(path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if !files::is_missing(&error) => return Err(error),
        Ok(()) | Err(_) => {}
    }
    // Fails for folders that are not empty; then the folders above are not empty either.
    let above = path.ancestors().skip(1).take(EMPTIED);
    above.map(fs::remove_dir).take_while(Result::is_ok).for_each(drop);
    Ok(())
}

/// Full keys of leases whose owner has ended.
pub(super) fn orphaned(store: &Directory) -> BTreeSet<String> {
    free(store).into_iter().flat_map(|(_, _, record)| record.keys.into_keys()).collect()
}

/// Full keys of all leases.
pub(super) fn leased(store: &Directory) -> BTreeSet<String> {
    let records = paths(store).filter_map(|path| read(&File::open(path).ok()?).ok());
    records.flat_map(|record| record.keys.into_keys()).collect()
}

/// The files of all leases.
fn paths(store: &Directory) -> impl Iterator<Item = PathBuf> {
    let folder = store.path(&format!("{ASIDE}/leases"));
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Leases that nobody holds: path, locked file, content. Dropping the files releases the locks.
fn free(store: &Directory) -> Vec<(PathBuf, File, Holdings)> {
    let free = paths(store).filter_map(|path| {
        let file = OpenOptions::new().read(true).write(true).open(&path).ok()?;
        let record = (try_lock(&file).ok()? && is_at(&file, &path)).then(|| read(&file).ok())??;
        Some((path, file, record))
    });
    free.collect()
}

/// Ends leases without an owner when their time to live is over.
#[derive(Debug, Default)]
pub(super) struct Sweeper {
    /// The time at which each lease was first seen free.
    free: BTreeMap<PathBuf, Instant>,
}

impl Sweeper {
    /// Checks once. Blocks.
    pub(super) fn sweep(&mut self, store: &Directory, now: Instant) {
        let free = free(store);
        self.free.retain(|path, _| free.iter().any(|(known, ..)| known == path));
        for (path, _locked, record) in &free {
            let since = *self.free.entry(path.clone()).or_insert(now);
            if now.duration_since(since) < Duration::from_millis(record.ttl) {
                continue;
            }
            if let Err(error) = end(store, path, record) {
                tracing::debug!("cannot end the lease {}: {error}", path.display());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Api, Location, StoreSettings};

    fn store(root: &Path) -> Directory {
        let location = Location::Directory(root.to_owned());
        let (prefix, audit) = ("/p".to_owned(), Duration::from_secs(60));
        let settings = StoreSettings { location, api: Api::Auto, prefix, user: None, ca: None, identity: None, audit };
        Directory::new(&settings).unwrap()
    }

    fn put(key: &str, value: &str) -> Edit {
        Edit::Put { key: key.to_owned(), value: value.into() }
    }

    #[tokio::test]
    async fn keys_outlive_their_owner_by_their_time_to_live() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let owner = || Owner::new("agent", "one");
        let ttl = Duration::from_secs(10);
        let lease = DirectoryLease::grant(&store, &owner(), ttl, Claim::First).await.unwrap();
        store.put("/p/mine", b"x").await.unwrap();
        let edits = [put("/p/s/a/upstreams/1", "10.0.0.1"), put("/p/mine", "y")];
        let done: Vec<_> = lease.apply(&edits).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(done, [LeaseOutcome::Done(0), LeaseOutcome::Taken]);
        assert!(matches!(
            DirectoryLease::grant(&store, &owner(), ttl, Claim::First).await,
            Err(StoreError::LeaseHeld { .. })
        ));
        let (start, mut sweeper) = (Instant::now(), Sweeper::default());
        sweeper.sweep(&store, start + ttl * 2);
        drop(lease);
        assert_eq!(orphaned(&store).len(), 1);
        sweeper.sweep(&store, start + ttl * 3);
        // The owner returns in time: nothing is lost, and the time starts again.
        let lease = DirectoryLease::grant(&store, &owner(), ttl, Claim::First).await.unwrap();
        assert_eq!(lease.held().await.unwrap().len(), 1);
        sweeper.sweep(&store, start + ttl * 4);
        drop(lease);
        for (at, there) in [(5, true), (6, false)] {
            sweeper.sweep(&store, start + ttl * at);
            assert_eq!(folder.path().join("p/s/a/upstreams/1").exists(), there);
        }
        // The folders that it made are removed too; other keys stay.
        assert!(!folder.path().join("p/s/a").exists());
        assert_eq!(fs::read_to_string(folder.path().join("p/mine")).unwrap(), "x\n");
    }

    #[tokio::test]
    async fn a_released_lease_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let lease = DirectoryLease::grant(&store, &Owner::new("agent", "one"), Duration::from_secs(1), Claim::First)
            .await
            .unwrap();
        lease.apply(&[put("/p/a", "1"), put("/p/b", "2")]).await;
        lease.apply(&[Edit::Delete { key: "/p/a".to_owned() }]).await;
        assert_eq!(lease.held().await.unwrap().len(), 1);
        lease.release().await.unwrap();
        assert!(!folder.path().join("p/b").exists());
        assert_eq!(free(&store).len(), 0);
    }
}
