//! A folder as a store: a file is a key, its content without the final newline is the value. Reads and edits are here,
//! following is in `follow`.
//!
//! ```text
//! inotify -> changed paths, except files still being written -> read again -> differences -> Changes
//!   queue overflow, the audit, a folder that returned: read everything again -> differences -> Changes
//! ```

mod agenda;
mod files;
mod follow;
mod lease;
mod scan;
mod watches;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use self::files::Content;
pub(super) use self::lease::Lease;
use super::error::StoreError;
use super::{ASIDE, Amended, Condition, Listing, Location, StoreSettings, Update, check_key};

/// The folder for the keys below [`ASIDE`].
const HIDDEN: &str = ".pointsman";

/// A folder as a store.
#[derive(Clone, Debug)]
pub struct Directory {
    root: PathBuf,
    prefix: String,
    audit: Duration,
}

impl Directory {
    /// Takes the settings. Accesses no file.
    pub fn new(settings: &StoreSettings) -> Result<Self, StoreError> {
        let Location::Directory(root) = &settings.location else {
            return Err(StoreError::BadSettings { what: "a directory store needs the path of a folder".to_owned() });
        };
        let root = std::path::absolute(root).map_err(failed(root))?;
        Ok(Self { root, prefix: settings.prefix.clone(), audit: settings.audit })
    }

    /// Sends the prefix's keys and then every change, also while the folder is missing, until the receiver is dropped.
    /// Revisions are our own count, from 1.
    pub async fn follow(&self, updates: mpsc::Sender<Update>, condition: watch::Sender<Condition>) {
        follow::Follower::new(self, updates, condition).run().await;
    }

    /// Everything below a full key; nothing if the folder does not exist. Below [`ASIDE`], keys whose owner has ended
    /// are omitted.
    pub async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        let folder = self.path(prefix);
        let mut found = blocking(move || files::walk(&folder, "", &mut |_| {})).await;
        if prefix.starts_with(ASIDE) {
            let store = self.clone();
            let orphaned = blocking(move || lease::orphaned(&store)).await;
            found.files.retain(|(key, _)| !orphaned.contains(&format!("{prefix}/{key}")));
        }
        let mut listing = Listing { revision: 0, entries: Vec::new(), directories: found.folders };
        for (key, content) in found.files {
            match content {
                Content::Value(value) => listing.entries.push((key, value)),
                Content::Fresh => listing.entries.push((key, Box::default())),
                Content::Unreadable(why) => {
                    return Err(StoreError::Files { path: self.path(&format!("{prefix}/{key}")), why });
                }
            }
        }
        // The listed path may itself be a file; it is not below itself.
        listing.entries.retain(|(key, _)| !key.is_empty());
        listing.entries.sort_unstable();
        listing.directories.sort_unstable();
        Ok(listing)
    }

    /// The value of a full key, if it has one.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.file(key)?;
        let key = key.to_owned();
        blocking(move || match files::read(&path) {
            Ok(Content::Value(value)) => Ok(Some(value.into_vec())),
            Ok(Content::Fresh) => Ok(Some(Vec::new())),
            Ok(Content::Unreadable(why)) => Err(StoreError::Files { path, why }),
            Err(error) if files::is_missing(&error) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => Err(is_directory(&key)),
            Err(error) => Err(failed(&path)(error)),
        })
        .await
    }

    /// Sets a full key: readers see the old value or the new one, never a part of it. Returns 0.
    pub async fn put(&self, key: &str, value: &[u8]) -> Result<u64, StoreError> {
        let path = self.file(key)?;
        if path.is_dir() {
            return Err(is_directory(key));
        }
        let line = [value, b"\n"].concat();
        blocking(move || replace(&path, &line).map_err(failed(&path))).await?;
        Ok(0)
    }

    /// Deletes a full key, with everything below it if `recursive`.
    pub async fn delete(&self, key: &str, recursive: bool) -> Result<(), StoreError> {
        let path = self.file(key)?;
        let key = key.to_owned();
        blocking(move || remove(&path, &key, recursive)).await
    }

    /// Makes a folder, with its parents.
    pub async fn mkdir(&self, key: &str) -> Result<(), StoreError> {
        let path = self.file(key)?;
        blocking(move || fs::create_dir_all(&path).map_err(failed(&path))).await
    }

    /// Replaces a value with the result of `change`, under the lock for edits of leased keys.
    pub async fn amend(
        &self,
        key: &str,
        change: impl Fn(&[u8]) -> Option<Vec<u8>>,
    ) -> Result<Option<Amended>, StoreError> {
        let store = self.clone();
        let _alone = blocking(move || lease::alone(&store)).await?;
        let value = self.get(key).await?.ok_or_else(|| StoreError::NoSuchKey { key: key.to_owned() })?;
        match change(&value) {
            None => Ok(Some(Amended::Same)),
            Some(value) => self.put(key, &value).await.map(|revision| Some(Amended::At(revision))),
        }
    }

    /// Increments the number in a key and returns it.
    pub async fn count(&self, key: &str) -> Result<u64, StoreError> {
        let store = self.clone();
        let _alone = blocking(move || lease::alone(&store)).await?;
        let before = self.get(key).await?.and_then(|value| String::from_utf8(value).ok()?.trim().parse::<u64>().ok());
        let next = before.unwrap_or(0) + 1;
        self.put(key, next.to_string().as_bytes()).await?;
        Ok(next)
    }

    /// Keys below [`ASIDE`] are in a folder that followers of keys skip.
    fn path(&self, key: &str) -> PathBuf {
        match key.strip_prefix(ASIDE).filter(|rest| rest.is_empty() || rest.starts_with('/')) {
            Some(rest) => self.root.join(HIDDEN).join(rest.trim_matches('/')),
            None => self.root.join(key.trim_matches('/')),
        }
    }

    /// The path of an editable key: no segment is a name that readers skip.
    fn file(&self, key: &str) -> Result<PathBuf, StoreError> {
        check_key(key)?;
        match key.split('/').find(|part| files::is_passing(part)) {
            None => Ok(self.path(key)),
            Some(part) => Err(bad_key(
                key,
                &format!("a file named {part} looks like an editor's temporary file and is never read"),
            )),
        }
    }
}

/// Runs blocking file work on a thread that may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("file work does not panic")
}

/// Writes a file and creates its parent folders.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    replace_in_folder(path, content)
}

/// Writes a file in an existing folder.
fn replace_in_folder(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let passing = folder.join(format!(".{name}.tmp-{}", std::process::id()));
    let written = write(&passing, content).and_then(|()| fs::rename(&passing, path));
    if written.is_err() {
        // Readers skip the leftover in any case.
        let _ = fs::remove_file(&passing);
        return written;
    }
    File::open(folder)?.sync_all()
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn remove(path: &Path, key: &str, recursive: bool) -> Result<(), StoreError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(about) if about.is_dir() && !recursive => return Err(is_directory(key)),
        Ok(about) if about.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if files::is_missing(&error) => Err(StoreError::NoSuchKey { key: key.to_owned() }),
        other => other.map_err(failed(path)),
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> StoreError {
    move |error| StoreError::Files { path: path.to_owned(), why: error.to_string() }
}

fn is_directory(key: &str) -> StoreError {
    bad_key(key, "is a directory")
}

fn bad_key(key: &str, why: &str) -> StoreError {
    StoreError::BadKey { key: key.to_owned(), why: why.to_owned() }
}
